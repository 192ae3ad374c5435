"""Whole graphs of ONNX: one that is a chain of layers becomes a :class:`glasscell.Sequential`.

The graph is walked once, node by node. What depends on constants alone is computed, by the reference implementation that
comes with ``onnx``; what an LSTM or a linear map does becomes a layer; what moves axes about is kept account of in
:mod:`~glasscell.convert.onnx.views`; anything else is refused by the name of its node.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from glasscell.checkpoint import StrPath
from glasscell.convert.onnx.lstm_nodes import bidirectional, float_type_of, known, lstm_layer, stacked, with_start
from glasscell.convert.onnx.views import (
    Atom,
    Link,
    Refusal,
    States,
    Value,
    View,
    as_features,
    real,
    reshaped,
    sliced,
    squeezed,
    taken,
    transposed,
    unsqueezed,
)
from glasscell.layers import LSTM, Dropout, Embedding, Function, Linear, Pool
from glasscell.layers.stateless import SwapHalves
from glasscell.models.sequential import Layer, Sequential

Constant = NDArray[Any]

# Sizes of axes that a file leaves open: unlikely ones, so that what is computed from them is told from what is not.
OPEN_SIZES = (1009, 1013, 1019, 1021)
MOST = 1 << 24  # values of a constant that a node makes: what a reshape or an initial state needs is far below

FOLDED = frozenset(
    {
        *("Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Concat", "Constant", "ConstantOfShape", "Div", "Equal"),
        *("Expand", "Flatten", "Floor", "Gather", "GatherND", "Greater", "GreaterOrEqual", "Identity", "Less"),
        *("LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Range", "ReduceProd", "ReduceSum", "Reshape"),
        *("Shape", "Size", "Slice", "Split", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where"),
    }
)
MOVES = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast", "Slice", "Gather", "Concat")
LAYERS = ("LSTM", "Gemm", "MatMul", "Add", "Dropout", "ReduceMean", "ReduceMax")
FUNCTIONS = (
    *("Relu", "Sigmoid", "Tanh", "LeakyRelu", "ThresholdedRelu", "HardSigmoid", "Elu", "Softsign", "Softplus"),
    *("Softmax", "LogSoftmax"),
)


def load(path: StrPath) -> Sequential:
    """Read a model from an ``.onnx`` file.

    Read are graphs that are one chain: perhaps an embedding, LSTMs, then linear maps, activations, and what makes one
    vector of a sequence, with any transposing and reshaping in between, as PyTorch's exporters and others write them.

    Parameters
    ----------
    path : path

    Returns
    -------
    Sequential
        Arrays are (B, T, I), whatever their order in the graph. Initial states and numbers of steps that are inputs of
        the graph are arguments here.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If the file is damaged, or a node cannot be represented, by name.
    """
    from pathlib import Path  # noqa: PLC0415

    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no model at {file}")
    try:
        model = onnx.ModelProto.FromString(file.read_bytes())
    except Exception as error:  # noqa: BLE001 - protobuf's own kinds of error
        raise ValueError(f"{file} is not a complete ONNX file: {error}") from None
    try:
        return from_model(model)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def from_model(model: onnx.ModelProto) -> Sequential:
    """The chain of layers that a model is; see :func:`load`."""
    reader = _Reader(model)
    for node in model.graph.node:
        _run(reader, node)
    return _assembled(reader.result())


def _run(reader: _Reader, node: onnx.NodeProto) -> None:
    """Enter what a node gives; what is wrong with it is said with its name."""
    try:
        reader.run(node)
    except Refusal as refusal:
        raise ValueError(f"the node {_name(node)} {refusal}") from None
    except MemoryError:
        raise ValueError(f"the node {_name(node)} needs more memory than there is") from None
    except Exception as error:  # noqa: BLE001 - of the reference implementation: any
        raise ValueError(f"the node {_name(node)} does not fit together: {error}") from None


def _name(node: onnx.NodeProto) -> str:
    return f"{node.name or ', '.join(node.output)!r} ({node.op_type})"


@dataclass
class _Reader:
    """What is known of each value of the graph so far."""

    model: onnx.ModelProto
    values: dict[str, Constant | Value | None] = field(default_factory=lambda: {"": None})
    constant_names: dict[str, str] = field(default_factory=dict)
    lengths_from: str | None = None

    def __post_init__(self) -> None:
        graph = self.model.graph
        if graph.sparse_initializer or self.model.functions:
            raise ValueError("sparse initializers and functions of a model's own cannot be represented")
        self.opset = next((entry.version for entry in self.model.opset_import if entry.domain in ("", "ai.onnx")), 1)
        for tensor in graph.initializer:
            self.values[tensor.name] = _array(tensor)
        open_sizes = iter(OPEN_SIZES * 100)
        named: dict[str, int] = {}
        for value in graph.input:
            if value.name in self.values:
                continue  # old files list initializers as inputs too
            axes = tuple((Atom(_size(dim, named, open_sizes)),) for dim in value.type.tensor_type.shape.dim)
            self.values[value.name] = View(None, axes, (), value.name)

    def run(self, node: onnx.NodeProto) -> None:
        """Enter what a node gives."""
        if node.domain not in ("", "ai.onnx"):
            raise Refusal(f"is of the domain {node.domain!r}, which cannot be represented")
        for name in node.input:
            if name not in self.values:
                raise Refusal(f"needs a value {name!r} that nothing gives")
        inputs = [self.values[name] for name in node.input]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type in FOLDED and not any(isinstance(value, View | States) for value in inputs):
            outputs: list[Any] = self._computed(node, attributes, inputs)
        elif node.op_type == "Shape":
            outputs = [
                np.array(_data(inputs[0]).shape, np.int64)[slice(attributes.get("start"), attributes.get("end"))]
            ]
        elif node.op_type in FUNCTIONS:
            outputs = [self._function(node, inputs[0], attributes)]
        else:
            method = getattr(self, f"_{node.op_type.lower()}", None)
            if method is None or node.op_type not in (*MOVES, *LAYERS):
                raise Refusal("is an operator that cannot be represented in a chain of layers")
            outputs = method(node, inputs, attributes)
        self.values |= dict(zip(node.output, outputs, strict=False))

    def _computed(self, node: onnx.NodeProto, attributes: dict[str, Any], inputs: list[Any]) -> list[Any]:
        if node.op_type == "Constant":
            if isinstance(attributes.get("value"), onnx.TensorProto):
                return [_array(attributes["value"])]
            of = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
            found = [np.array(attributes[name], dtype) for name, dtype in of.items() if name in attributes]
            if not found:
                raise Refusal("holds no numbers")
            return found
        if node.op_type in ("ConstantOfShape", "Expand", "Tile", "Range"):
            _check_size(node.op_type, inputs)
        feeds = {name: value for name, value in zip(node.input, inputs, strict=True) if name}
        evaluator = ReferenceEvaluator(node, opsets={"": self.opset})
        return [np.asarray(output) for output in evaluator.run(None, feeds)]

    # Axes moved about

    def _transpose(self, _: onnx.NodeProto, inputs: list[Any], attributes: dict[str, Any]) -> list[Value]:
        value = _data(inputs[0])
        return [transposed(value, attributes.get("perm", range(len(value.axes))[::-1]))]

    def _reshape(self, _: onnx.NodeProto, inputs: list[Any], attributes: dict[str, Any]) -> list[Value]:
        target = known(inputs[1]).tolist()
        return [reshaped(_data(inputs[0]), target, allow_zero=bool(attributes.get("allowzero", 0)))]

    def _flatten(self, _: onnx.NodeProto, inputs: list[Any], attributes: dict[str, Any]) -> list[Value]:
        value, axis = _data(inputs[0]), attributes.get("axis", 1)
        return [reshaped(value, [prod(value.shape[:axis]), prod(value.shape[axis:])], allow_zero=True)]

    def _squeeze(self, _: onnx.NodeProto, inputs: list[Any], attributes: dict[str, Any]) -> list[Value]:
        return [squeezed(_data(inputs[0]), _axes(inputs, attributes))]

    def _unsqueeze(self, _: onnx.NodeProto, inputs: list[Any], attributes: dict[str, Any]) -> list[Value]:
        return [unsqueezed(_data(inputs[0]), _axes(inputs, attributes) or [])]

    def _identity(self, _: onnx.NodeProto, inputs: list[Any], __: dict[str, Any]) -> list[Value]:
        return [_data(inputs[0])]

    def _cast(self, _: onnx.NodeProto, inputs: list[Any], attributes: dict[str, Any]) -> list[Value]:
        value = _data(inputs[0])
        if isinstance(value, View) and value.link is None:
            return [value]
        raise Refusal(f"casts to another type ({attributes.get('to')}) between layers")

    def _slice(self, _: onnx.NodeProto, inputs: list[Any], attributes: dict[str, Any]) -> list[Value]:
        value = _data(inputs[0])
        names = ("starts", "ends", "axes", "steps")  # attributes in old files, inputs in new ones
        given = {name: known(v).tolist() for name, v in zip(names, inputs[1:], strict=False) if v is not None}
        given |= {name: attributes[name] for name in names if name in attributes}
        starts, ends = given["starts"], given["ends"]
        axes, strides = given.get("axes", range(len(starts))), given.get("steps", [1] * len(starts))
        for axis, start, stop, stride in zip(axes, starts, ends, strides, strict=True):
            value = sliced(value, axis % len(value.axes), start, stop, stride)
        return [value]

    def _gather(self, _: onnx.NodeProto, inputs: list[Any], attributes: dict[str, Any]) -> list[Value]:
        table, places = inputs[0], inputs[1]
        axis = attributes.get("axis", 0)
        if isinstance(places, View) and not isinstance(table, View | States):
            return [self._embedding(known(table), places, axis)]
        value, index = _data(table), known(places)
        if index.size != 1:
            raise Refusal(f"takes {index.size} places along an axis")
        one = taken(value, axis % len(value.axes), int(index.reshape(-1)[0]))
        return [one if index.ndim == 0 else unsqueezed(one, [axis % len(value.axes)])]

    def _concat(self, _: onnx.NodeProto, inputs: list[Any], attributes: dict[str, Any]) -> list[Value]:
        values = [_data(value) for value in inputs]
        axis = attributes["axis"] % len(values[0].axes)
        if len(values) == 1:
            return values
        if all(isinstance(value, States) for value in values):
            return [_joined_states([value for value in values if isinstance(value, States)], axis)]
        if all(isinstance(value, View) for value in values):
            return [_both_directions([value for value in values if isinstance(value, View)], axis)]
        raise Refusal("joins outputs with final states")

    # Layers

    def _embedding(self, table: Constant, symbols: View, axis: int) -> View:
        if axis != 0 or table.ndim != 2 or symbols.link is not None:
            raise Refusal("looks up something else than the inputs' symbols in a table")
        layer = Embedding(*table.shape, dtype=float_type_of(table))
        layer.parameters["weight"][:] = table
        features = (Atom(table.shape[1]),)
        return replace(symbols, link=Link(None, layer, "embedding"), axes=(*symbols.axes, features), features=features)

    def _lstm(self, node: onnx.NodeProto, inputs: list[Any], attributes: dict[str, Any]) -> list[Value]:
        x, W, R, B, lengths, h0, c0, P = (*inputs, *[None] * 8)[:8]
        view = as_features(_data(x))
        steps, batch = (1, 0) if attributes.get("layout", 0) else (0, 1)
        if len(view.axes) != 3:
            raise Refusal(f"has an input of {len(view.axes)} axes")
        view = _in_time(view, steps, batch)
        self._note_lengths(lengths, view)
        weights = {"W": W, "R": R, "B": B, "P": P}
        inputs_of = prod(atom.size for atom in view.features)
        layer = lstm_layer(attributes, {k: known(v) for k, v in weights.items() if v is not None}, inputs_of)
        layer = with_start(layer, h0, c0, batch_first=bool(attributes.get("layout", 0)))
        link = Link(view.link, layer, _layer_name(node))
        D, H = layer.options.directions, layer.hidden_size
        ways, units = Atom(D), Atom(H)
        of_time, of_batch = view.axes[steps], view.axes[batch]
        y_axes = (of_batch, of_time, (ways,), (units,)) if steps else (of_time, (ways,), of_batch, (units,))
        state_axes = (of_batch, (ways,), (units,)) if steps else ((ways,), of_batch, (units,))
        y = replace(view, link=link, axes=y_axes, features=(ways, units))
        entries = tuple((y, way) for way in range(D))
        return [y, States("h", entries, ways, state_axes), States("c", entries, ways, state_axes)]

    def _note_lengths(self, lengths: Any, view: View) -> None:
        if lengths is None:
            return
        if isinstance(lengths, View) and lengths.link is None and self.lengths_from in (None, lengths.source):
            self.lengths_from = lengths.source
        elif isinstance(lengths, View | States) or (np.asarray(lengths) != view.shape[0]).any():
            raise Refusal("has sequence_lens that are no input of the graph")

    def _gemm(self, node: onnx.NodeProto, inputs: list[Any], attributes: dict[str, Any]) -> list[Value]:
        view, weight = as_features(_data(inputs[0])), known(inputs[1])
        if attributes.get("transA", 0):
            raise Refusal("transposes its input")
        weight = (weight if attributes.get("transB", 0) else weight.T) * weight.dtype.type(attributes.get("alpha", 1.0))
        bias = None
        if len(inputs) > 2 and inputs[2] is not None:
            bias = known(inputs[2]) * weight.dtype.type(attributes.get("beta", 1.0))
        return [self._linear(node, view, weight, bias)]

    def _matmul(self, node: onnx.NodeProto, inputs: list[Any], _: dict[str, Any]) -> list[Value]:
        weight = known(inputs[1])
        if weight.ndim != 2:
            raise Refusal(f"multiplies with an array of shape {weight.shape}")
        return [self._linear(node, as_features(_data(inputs[0])), weight.T, None)]

    def _linear(self, node: onnx.NodeProto, view: View, weight: Constant, bias: Constant | None) -> View:
        _check_last_is_features(view)
        O, I = weight.shape
        if view.shape[-1] != I:
            raise Refusal(f"has weights for {I} features, and is given {view.shape[-1]}")
        layer = Linear(I, O, bias=bias is not None, dtype=float_type_of(weight))
        layer.parameters["weight"][:] = weight
        if bias is not None:
            layer.parameters["bias"][:] = _per_feature(bias, O)
        features = (Atom(O),)
        name = next((n.rpartition(".")[0] for n in node.input[1:] if n.endswith((".weight", ".bias"))), "")
        link = Link(view.link, layer, name or _layer_name(node))
        return replace(view, link=link, axes=(*view.axes[:-1], features), features=features)

    def _add(self, node: onnx.NodeProto, inputs: list[Any], _: dict[str, Any]) -> list[Value]:
        a, b = inputs if isinstance(inputs[0], View | States) else inputs[::-1]
        if isinstance(b, View | States):
            raise Refusal("adds the outputs of two layers, and only chains can be represented")
        view, link = as_features(_data(a)), as_features(_data(a)).link
        if link is None or not isinstance(link.layer, Linear):
            raise Refusal("adds constants to something else than a product with weights")
        _check_last_is_features(view)
        old = link.layer
        layer = Linear(old.input_size, old.output_size, dtype=old.dtype)
        layer.parameters["weight"][:] = old.parameters["weight"]
        layer.parameters["bias"][:] = _per_feature(known(b), old.output_size)
        if old.bias:
            layer.parameters["bias"][:] += old.parameters["bias"]
        name = next((n.rpartition(".")[0] for n in node.input if n.endswith(".bias")), "")
        return [replace(view, link=Link(link.before, layer, name or link.name))]

    def _function(self, node: onnx.NodeProto, value: Any, attributes: dict[str, Any]) -> View:
        view = as_features(_data(value))
        if node.op_type in ("Softmax", "LogSoftmax"):
            last = attributes.get("axis", -1 if self.opset >= 13 else 1)
            if last % len(view.axes) != len(view.axes) - 1:
                raise Refusal(f"is over the axis {last} of {len(view.axes)}")
            _check_last_is_features(view)
            layer = Function(node.op_type)
        else:
            layer = Function(node.op_type, attributes.get("alpha"), attributes.get("beta"))
        return replace(view, link=Link(view.link, layer, node.op_type.lower()))

    def _dropout(self, _: onnx.NodeProto, inputs: list[Any], attributes: dict[str, Any]) -> list[Value]:
        view = as_features(_data(inputs[0]))
        ratio = attributes.get("ratio", 0.5)
        if len(inputs) > 1 and inputs[1] is not None:
            ratio = float(known(inputs[1]))
        return [replace(view, link=Link(view.link, Dropout(round(ratio, 6)), "dropout"))]

    def _reducemean(self, node: onnx.NodeProto, inputs: list[Any], attributes: dict[str, Any]) -> list[Value]:
        view = as_features(_data(inputs[0]))
        axes = _axes(inputs, attributes)
        if axes is None or len(axes) != 1:
            raise Refusal("reduces other axes than time")
        axis = axes[0] % len(view.axes)
        if view.time is None or view.time not in view.axes[axis] or len(real(view.axes[axis])) > 1:
            raise Refusal("reduces another axis than time")
        pool = Pool("mean") if node.op_type == "ReduceMean" else Pool("max")
        rest = [*view.axes[:axis], *([()] if attributes.get("keepdims", 1) else []), *view.axes[axis + 1 :]]
        return [replace(view, link=Link(view.link, pool, "pool"), axes=tuple(rest), time=None)]

    _reducemax = _reducemean

    # The end

    def result(self) -> Link:
        """The last layer of the chain that the graph's outputs come from."""
        outputs = {value.name: self.values.get(value.name) for value in self.model.graph.output}
        data = {name: value for name, value in outputs.items() if isinstance(value, View)}
        for name, value in outputs.items():
            if not isinstance(value, View | States):
                raise ValueError(f"the output {name!r} is not computed from the inputs")  # noqa: TRY004 - of a file
        if not data and len(outputs) == 1:
            [(name, value)] = outputs.items()
            assert isinstance(value, States)  # or it would be among data  # noqa: S101
            data = {name: _in_words_of_output(name, value)}
        if len(data) != 1:
            raise ValueError(f"the graph has the outputs {', '.join(outputs)}; expected one, and perhaps final states")
        [(name, view)] = data.items()
        if view.link is None:
            raise ValueError(f"the output {name!r} is an input")
        chain = list(_chain(view.link))
        for other, value in outputs.items():
            if isinstance(value, States):
                _check_all_states(other, value, chain)
        return view.link


def _in_words_of_output(name: str, value: States) -> View:
    try:
        return as_features(value)
    except Refusal as refusal:
        raise ValueError(f"the output {name!r} {refusal}") from None


def _check_all_states(name: str, value: States, chain: list[Link]) -> None:
    """Refuse an output of states that are not those of all LSTMs in order, as a forward pass gives them here."""
    lstms = [link for link in chain if isinstance(link.layer, LSTM)]
    expected = [(link, way) for link in lstms for way in range(_directions(link))]
    by_layer = [[(link, way) for way in range(_directions(link))] for link in lstms]
    given = [(view.link, way) for view, way in value.entries]
    if given != expected and given not in by_layer:
        raise ValueError(f"the output {name!r} has final states in an order that cannot be represented")


def _directions(link: Link) -> int:
    assert isinstance(link.layer, LSTM)  # the caller has looked  # noqa: S101
    return link.layer.options.directions


def _chain(link: Link | None) -> Iterator[Link]:
    """From the first layer to this one."""
    if link is not None:
        yield from _chain(link.before)
        yield link


def _assembled(last: Link) -> Sequential:
    """The chain as a model; LSTMs that a stack of layers can be become one."""
    layers: list[Layer] = []
    names: list[str] = []
    for link in _chain(last):
        one = stacked(layers[-1], link.layer) if layers else None
        if one is None:
            layers.append(link.layer)
            names.append(link.name)
        else:
            layers[-1] = one
    return Sequential(layers, _distinct(names))


def _distinct(names: list[str]) -> list[str]:
    """Names that no other is, or is the beginning of."""
    found: list[str] = []
    for name in names:
        clash = name in names[: len(found)] or any(other.startswith(f"{name}.") for other in names)
        found.append(f"{name}_{len(found)}".replace(".", "_") if clash else name)
    return found


def _in_time(view: View, steps: int, batch: int) -> View:
    """The input of an LSTM: which axes are time and batch, if they are what they were before."""
    of_time, of_batch, of_features = (real(view.axes[k]) for k in (steps, batch, 2))
    if view.features and of_features != real(view.features):
        raise Refusal("has an input whose last axis is not the features in their order")
    if len(of_time) > 1 or len(of_batch) > 1:
        raise Refusal("has an input whose axes are mixed")
    for before, now in ((view.time, of_time), (view.batch, of_batch)):
        if before is not None and real((before,)) != now:
            raise Refusal("has time and batch in another place than the LSTM before it")
    time = view.time or (of_time[0] if of_time else next(iter(view.axes[steps]), Atom(1)))
    return replace(
        view, time=time, batch=of_batch[0] if of_batch else None, features=view.features or tuple(view.axes[2])
    )


def _joined_states(values: list[States], axis: int) -> Value:
    """States of several LSTMs, or directions, side by side."""
    kind = values[0].kind
    if any(value.kind != kind for value in values):
        raise Refusal("joins hidden with cell states")
    if all(value.along in value.axes[axis] and len(real(value.axes[axis])) <= 1 for value in values):
        entries = tuple(entry for value in values for entry in value.entries)
        along = Atom(len(entries))
        axes = tuple((along,) if k == axis else group for k, group in enumerate(values[0].axes))
        return States(kind, entries, along, axes)
    if axis == len(values[0].axes) - 1 and all(len(value.entries) == 1 for value in values):
        entries = tuple(value.entries[0] for value in values)  # (B, H) and (B, H) to (B, 2H)
        along = Atom(len(entries))
        units = tuple(atom for atom in values[0].axes[axis] if atom is not values[0].along)
        return States(kind, entries, along, (*values[0].axes[:-1], (along, *units)))
    raise Refusal("joins final states along another axis than their own")


def _both_directions(values: list[View], axis: int) -> View:
    """The outputs of a forward and a reverse LSTM on the same input, side by side."""
    links = [value.link for value in values if value.link is not None]
    lstms = [link.layer for link in links if isinstance(link.layer, LSTM)]
    if len(values) != 2 or len(lstms) != 2:
        raise Refusal("joins what a chain of layers has not side by side")
    if (
        any(real(value.axes[axis]) != real(value.features) for value in values)
        or links[0].before is not links[1].before
    ):  # both are links
        raise Refusal("joins the outputs of LSTMs that do not have the same input")
    swapped = lstms[0].options.reverse
    lstm = bidirectional(*(lstms[::-1] if swapped else lstms))
    ways, units = Atom(2), Atom(lstm.hidden_size)
    link = Link(links[0].before, lstm, links[0].name)
    if swapped:
        link = Link(link, SwapHalves(), "order")
    axes = [*values[0].axes]
    axes[axis] = (ways, units)
    return replace(values[0], link=link, axes=tuple(axes), features=(ways, units))


def _check_last_is_features(view: View) -> None:
    if view.features and real(view.axes[-1]) != real(view.features):
        raise Refusal("acts on an axis that is not the features in their order")


def _per_feature(bias: Constant, O: int) -> Constant:
    if bias.size not in (1, O) or (bias.ndim and bias.shape[-1] not in (1, O)):
        raise Refusal(f"adds an array of shape {bias.shape} to {O} features")
    return np.broadcast_to(bias.reshape(-1), (O,))


def _data(value: Any) -> Value:
    if not isinstance(value, View | States):
        raise Refusal("acts on a constant where the graph's inputs are expected")
    return value


def _axes(inputs: list[Any], attributes: dict[str, Any]) -> list[int] | None:
    """An attribute in old files, an input in new ones."""
    if len(inputs) > 1 and inputs[1] is not None:
        return [int(axis) for axis in known(inputs[1]).reshape(-1)]
    return attributes.get("axes")


def _array(tensor: onnx.TensorProto) -> Constant:
    """The numbers of a tensor, if they are all in the file."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise ValueError(f"the tensor {tensor.name!r} keeps its numbers in another file; save the model as one file")
    if any(size < 0 for size in tensor.dims):
        raise ValueError(f"the tensor {tensor.name!r} has the shape {tuple(tensor.dims)}")
    held = max(
        len(tensor.raw_data),
        *(len(getattr(tensor, f"{kind}_data")) * 8 for kind in ("float", "double", "int32", "int64")),
    )
    if prod(tensor.dims) > max(held, 1) and prod(tensor.dims):
        raise ValueError(
            f"the tensor {tensor.name!r} says it has the shape {tuple(tensor.dims)}, and holds {held} bytes"
        )
    try:
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"the tensor {tensor.name!r} cannot be read: {error}") from None
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"the tensor {tensor.name!r} has NaN or infinite values")
    return array


def _size(dim: Any, named: dict[str, int], open_sizes: Iterator[int]) -> int:
    """The size of an axis of an input; where it is open, an unlikely one."""
    if dim.HasField("dim_value") and dim.dim_value > 0:
        return int(dim.dim_value)
    if dim.dim_param:
        return named.setdefault(dim.dim_param, next(open_sizes) if dim.dim_param not in named else 0)
    return next(open_sizes)


def _check_size(op: str, inputs: list[Any]) -> None:
    """Refuse a constant that a few bytes of file would make huge."""
    if op == "Range":
        start, stop, stride = (float(np.asarray(value)) for value in inputs)
        size = (stop - start) / stride if stride else 0.0
    elif op == "Tile":
        size = np.asarray(inputs[0]).size * float(np.prod(np.asarray(inputs[1], np.float64)))
    elif op == "Expand":
        size = float(np.prod(np.broadcast_shapes(np.asarray(inputs[0]).shape, tuple(np.asarray(inputs[1]).tolist()))))
    else:
        size = float(np.prod(np.asarray(inputs[0], np.float64)))
    if size > MOST:
        raise Refusal(f"makes a constant of {size:.3g} values")


def _layer_name(node: onnx.NodeProto) -> str:
    """The module that a node comes from, if its name says so: encoder of /encoder/LSTM."""
    parts = [part for part in node.name.split("/") if part]
    return ".".join(parts[:-1]) or (parts[0].lower() if parts else "") or node.op_type.lower()
