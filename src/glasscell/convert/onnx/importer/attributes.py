"""Supported attributes of operators. Others, which a later version may define, are unsupported."""

from __future__ import annotations

from collections.abc import Iterable

from glasscell.convert.onnx.importer.constants import UnsupportedNode

WINDOW_ATTRIBUTES = {"auto_pad", "dilations", "kernel_shape", "pads", "strides"}
REDUCTION_ATTRIBUTES = {"axes", "keepdims", "noop_with_empty_axes"}
CONSTANT_ATTRIBUTES = {"value", "value_float", "value_floats", "value_int", "value_ints"}

ATTRIBUTES: dict[str, set[str]] = {
    "AveragePool": {*WINDOW_ATTRIBUTES, "ceil_mode", "count_include_pad"},
    "BatchNormalization": {"epsilon", "momentum", "spatial", "training_mode"},  # momentum is for training
    "Cast": {"to", "saturate", "round_mode"},  # the last two are for types of 8 bits, which are not supported
    "CastLike": {"saturate", "round_mode"},
    "Concat": {"axis"},
    "Constant": CONSTANT_ATTRIBUTES,
    "ConstantOfShape": {"value"},
    "Conv": {*WINDOW_ATTRIBUTES, "group"},
    "Dropout": {"ratio", "seed"},
    "Elu": {"alpha"},
    "Flatten": {"axis"},
    "Gather": {"axis"},
    "Gelu": {"approximate"},
    "Gemm": {"alpha", "beta", "transA", "transB"},
    "HardSigmoid": {"alpha", "beta"},
    "If": {"then_branch", "else_branch"},
    "LayerNormalization": {"axis", "epsilon", "stash_type"},  # the precision of its statistics
    "LeakyRelu": {"alpha"},
    "LogSoftmax": {"axis"},
    "MaxPool": {*WINDOW_ATTRIBUTES, "ceil_mode", "storage_order"},  # the order of indices, which are not read
    "Mod": {"fmod"},
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceSum", "ReduceProd", "ReduceMin"), REDUCTION_ATTRIBUTES),
    "Range": {"stash_type"},
    "Reshape": {"allowzero"},
    "Selu": {"alpha", "gamma"},
    "Shape": {"start", "end"},
    "Slice": {"starts", "ends", "axes", "steps"},
    "Softmax": {"axis"},
    "Split": {"axis", "split", "num_outputs"},
    "Squeeze": {"axes"},
    "Swish": {"alpha"},
    "ThresholdedRelu": {"alpha"},
    "Transpose": {"perm"},
    "Unsqueeze": {"axes"},
}


def check_attributes(op: str, names: Iterable[str]) -> None:
    """Raise an error for attributes that are not supported; those of an LSTM are checked by its operator."""
    unknown = sorted(set(names) - ATTRIBUTES.get(op, set())) if op != "LSTM" else []
    if unknown:
        raise UnsupportedNode(f"has the attribute {unknown[0]!r}, which is not supported")
