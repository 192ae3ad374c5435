"""Determine the parts of a model that a file of weights does not contain.

A PyTorch state dict and a Keras ``.weights.h5`` contain tensors by name, but neither the order of layers nor layers
without weights. The lists here are allow-lists: a layer or option that is not in them is reported.
"""

from collections.abc import Sequence

import numpy as np

from glasscell.atomic_files import StrPath
from glasscell.convert.operations import FINALS, is_operation
from glasscell.layers import LSTM, RNN, Dropout, Embedding, FinalState, Function, Linear, Pool, RepeatVector, Step
from glasscell.layers.cell_stack import CellStack
from glasscell.layers.kinds import has_parameters
from glasscell.layers.noise import GaussianDropout, GaussianNoise, SpatialDropout1D
from glasscell.models import Sequential
from glasscell.models.sequential import Layer

# Layers that change nothing outside training.
TRAINING_ONLY = (Dropout, SpatialDropout1D, GaussianNoise, GaussianDropout)

# Options of an LSTM that the shapes of its weights determine, and the outputs of masked steps, which later layers
# ignore. PyTorch's nn.LSTM supports no other options that change its outputs.
IN_KERAS_WEIGHTS = {"input_size", "hidden_size", "num_layers", "bidirectional", "bias", "masked_outputs"}


def not_held(chain: LSTM | Sequential, *, keras: bool = False) -> list[str]:
    """Return the layers and settings that a file of weights does not contain.

    Parameters
    ----------
    chain : LSTM or Sequential
    keras : bool
        Whether it is a Keras ``.weights.h5``. Default: a PyTorch state dict, which is only written for LSTMs that
        nn.LSTM supports.

    Returns
    -------
    list of str
        "layer 'last' (Step)", "layer 'norm' (LayerNorm: epsilon)".
    """
    if isinstance(chain, LSTM):
        return [f"layer 'lstm' (LSTM: {', '.join(names)})"] if (names := _settings(chain, keras=keras)) else []
    result = []
    for name, layer in zip(chain.names, chain.layers, strict=True):
        if not has_parameters(layer):
            result += [] if isinstance(layer, TRAINING_ONLY) else [f"layer {name!r} ({kind_of(layer)})"]
        elif names := _settings(layer, keras=keras):
            result.append(f"layer {name!r} ({kind_of(layer)}: {', '.join(names)})")
    return result


def check_weights_only(path: StrPath, lost: Sequence[str], *, weights_only: bool) -> None:
    """Raise ValueError if a file cannot contain the model, unless `weights_only` is True."""
    if lost and not weights_only:
        raise ValueError(
            f"{path} can only contain weights, without {', '.join(lost)}; weights_only=True writes the weights"
        )


def kind_of(layer: Layer) -> str:
    """Return the kind of a layer: the name of its class, or of its activation."""
    return layer.name if isinstance(layer, Function) else type(layer).__name__


def check_finite_weights(model: LSTM | Sequential) -> None:
    """Raise ValueError if a weight or a statistic of a model is NaN or infinite, by its name."""
    arrays = dict(model.parameters.items())
    if isinstance(model, Sequential):
        for name, layer in zip(model.names, model.layers, strict=True):
            arrays |= {f"{name}.{key}": array for key, array in getattr(layer, "statistics", {}).items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"weights must be finite, got NaN or infinite values in {name!r}")


def architecture_of(chain: LSTM | Sequential) -> str | None:
    """Return the architecture of a model as text; None if a layer has no name in architectures."""
    if isinstance(chain, LSTM):
        return "lstm"
    items = [_item(name, layer) for name, layer in zip(chain.names, chain.layers, strict=True)]
    modules = {name for name, layer in zip(chain.names, chain.layers, strict=True) if has_parameters(layer)}
    items = [f"operation:{item}" if item in modules and is_operation(item) else item for item in items]
    return ",".join(item for item in items if item) if None not in items else None


def _settings(layer: Layer, *, keras: bool) -> list[str]:
    """Return the settings of a layer that its weights do not determine."""
    if isinstance(layer, LSTM):
        if not keras:
            return []
        declared, changed = layer.options.declared, layer.options.non_default()
        return [name for name in changed if name not in IN_KERAS_WEIGHTS and not declared[name].training_only]
    if isinstance(layer, Embedding):
        return ["mask_zero"] if layer.mask_zero else []
    if isinstance(layer, RNN):
        return [] if keras and layer.nonlinearity == "tanh" else ["nonlinearity"]
    if isinstance(layer, Linear | CellStack):  # of a GRU with biases, their number shows reset_after
        return ["reset_after"] if keras and not layer.bias and "reset_after" in layer.config else []
    shapes = {"input_size", "output_size", "kernel_size", "size", "bias", "gain", "shift"}
    return [name for name in getattr(layer, "config", {}) if name not in shapes]


def _item(name: str, layer: Layer) -> str | None:
    """Return a layer as an item of an architecture; "" if it changes nothing outside training."""
    item: str | None = None
    if isinstance(layer, TRAINING_ONLY):
        item = ""
    elif isinstance(layer, Embedding):
        item = None if layer.mask_zero else f"{name}:embedding"
    elif isinstance(layer, Linear) and not layer.bias:
        item = f"{name}:linear"
    elif isinstance(layer, RNN):
        item = f"{name}:{layer.nonlinearity}"
    elif isinstance(layer, LSTM | CellStack | Linear):
        item = f"module:{name}" if is_operation(name) else name
    elif isinstance(layer, Step):
        item = {-1: "last", 0: "first"}.get(layer.index, f"step:{layer.index}")
    elif isinstance(layer, Pool):
        item = layer.how
    elif isinstance(layer, RepeatVector):
        item = f"repeat:{layer.times}"
    elif isinstance(layer, Function):
        parameters = [value for value in (layer.alpha, layer.beta) if value is not None]
        item = ":".join([layer.name.lower(), *map(repr, parameters)])
    elif isinstance(layer, FinalState):
        merges = (name for name, fields in FINALS.items() if layer == FinalState("both", **fields))
        merge = "" if layer == FinalState("forward") else next(merges, None)
        item = None if merge is None else f"final:{merge}".removesuffix(":")
    return item
