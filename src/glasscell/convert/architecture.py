"""Build a model from the layers of a file of weights and an architecture: "lstm,last,fc1,relu,fc2,sigmoid"."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import TypeAlias

import numpy as np

from glasscell.convert.layer_set import MAX_LISTED, LayerSet, Matrix, WeightedLayer, describe, dtype_of, printable
from glasscell.convert.operations import FINALS, OPERATIONS, is_operation, operation_name
from glasscell.layers import (
    LSTM,
    RNN,
    BatchNorm,
    Dropout,
    Embedding,
    FinalState,
    LayerNorm,
    Linear,
)
from glasscell.layers.batch_first import ParameterLayer
from glasscell.layers.cell_stack import CellStack
from glasscell.models import Sequential
from glasscell.models.sequential import Layer

Architecture: TypeAlias = str | Sequence[str | Layer]


NORMS = {"layernorm": LayerNorm, "batchnorm": BatchNorm}
NONLINEARITIES = ("tanh", "relu")  # of an RNN
KINDS = ("embedding", "linear", *NORMS, *NONLINEARITIES)  # "name:kind": types that weights do not determine


def build(layers: LayerSet, architecture: Architecture, ignore: Sequence[str] = ()) -> LSTM | Sequential:
    """Return the model of an architecture.

    Parameters
    ----------
    layers : LayerSet
    architecture : str, or sequence of str or layer
        In the order of computation, separated by commas or as a sequence:

        - the name of a module, "fc1"; with a kind if its weights do not determine it: "table:embedding",
          "table:linear", "norm:layernorm:1e-5", "norm:batchnorm:1e-5" (with its epsilon), "rnn:tanh", "rnn:relu" (an
          nn.RNN);
        - an operation: an activation ("relu", "elu:1.0", "leakyrelu:0.01", "hardsigmoid:0.2:0.5" with all of its
          parameters), "last", "first" or "step:-2" (one step), "final" (the final state of the preceding layer; if it
          is bidirectional, both, concatenated, or "final:forward", "final:reverse", "final:sum", "final:average",
          "final:multiply"), "mean" or "max" over time, "flatten", "repeat:5", "dropout:0.5";
        - in a sequence, any layer of :mod:`glasscell.layers`.

        If a module has the name of an operation, "module:last" and "operation:last" distinguish them.
    ignore : sequence of str
        Modules that do not belong to the computation.

    Returns
    -------
    LSTM or Sequential
        An LSTM if it is the only layer.

    Raises
    ------
    ValueError
        If an item is unknown or ambiguous, a module is used twice or not at all, or layers do not fit.
    """
    items = [item.strip() for item in architecture.split(",")] if isinstance(architecture, str) else list(architecture)
    if not items:
        raise ValueError("architecture must have at least one item")
    if "" in items:
        raise ValueError(f"architecture must have an item before and after each comma, got {architecture!r}")
    used = []
    for item in items:
        name = _module(item, layers) if isinstance(item, str) else None
        if name is not None:
            used.append(name)
        elif isinstance(item, str) and not is_operation(item):
            raise ValueError(_unknown(item, layers))
    for k, name in enumerate(used):
        if name in used[:k]:
            raise ValueError(f"architecture must use each module once, got {printable(name)!r} twice")
    _check_all_used(layers, used, ignore)
    dtype = dtype_of({name: layers[name] for name in used if name in layers})
    model_layers: list[Layer] = []
    names: list[str] = []
    for k, item in enumerate(items):
        model_layers.append(_layer(item, layers, model_layers, items[k + 1 :], dtype))
        names.append(_label(item, layers, model_layers[-1], {*names, *used}))
    if len(model_layers) == 1 and isinstance(model_layers[0], LSTM):
        return model_layers[0]
    return Sequential(model_layers, names)


def only(layers: LayerSet, ignore: Sequence[str] = ()) -> LSTM | Sequential:
    """Return the model of a single module.

    Raises
    ------
    ValueError
        If there is not exactly one. The message has the names and sizes, and how to state the architecture.
    """
    _check_ignored(layers, ignore)
    remaining = [name for name in (*layers, *layers.other) if not _ignored(name, ignore)]
    is_single = len(remaining) == 1 and not set(layers.without_weights) - set(ignore)
    if is_single and remaining[0] in layers and not isinstance(layers[remaining[0]], Matrix):
        return build(layers, [f"module:{remaining[0]}"], ignore)
    supported = [name for name in remaining if name in layers]
    if not supported:
        raise ValueError(f"it contains weights, but none of an LSTM, GRU, Linear or Embedding: {describe(layers)}")
    rest = [name for name in remaining if name not in layers]
    architecture = ",".join(f"{name}:linear" if isinstance(layers[name], Matrix) else name for name in supported)
    if isinstance(layers[supported[0]], Matrix):
        architecture = f"{supported[0]}:embedding{architecture.removeprefix(f'{supported[0]}:linear')}"
    words = [
        f"it contains only weights, not the computation: {describe(layers)}",
        f"State the computation: architecture='{printable(architecture)}' if each module takes the previous output, "
        "or another order, with all operations: last, final, mean, max, relu, sigmoid, …",
    ]
    if rest:
        few = ", ".join(map(printable, rest[:MAX_LISTED]))
        words.append(f"A model with {few} is unsupported, unless they do not belong to the computation: ignore=")
    raise ValueError(". ".join([*words, "convert.weights and convert.lstms return single layers"]))


def _check_all_used(layers: LayerSet, used: Sequence[str], ignore: Sequence[str]) -> None:
    _check_ignored(layers, ignore)
    for name in used:
        if _ignored(name, ignore):
            raise ValueError(f"ignore must name no module of the architecture, got {printable(name)!r}")
    used_names = set(used)
    unused = [name for name in (*layers, *layers.other) if name not in used_names and not _ignored(name, ignore)]
    if unused:
        unused_names = set(unused)
        few = LayerSet(
            {name: layer for name, layer in layers.items() if name in unused_names},
            {name: other for name, other in layers.other.items() if name in unused_names},
        )
        raise ValueError(
            f"architecture must use every module, and does not use {describe(few)}: add them, or ignore them with "
            f"ignore={[printable(name) for name in unused[:MAX_LISTED]]}"
        )


def _check_ignored(layers: LayerSet, ignore: Sequence[str]) -> None:
    if isinstance(ignore, str):
        raise TypeError(f"ignore must be a sequence of names, got {ignore!r}")
    for name in ignore:
        if not any(_ignored(module, [name]) for module in (*layers, *layers.other, *layers.without_weights)):
            raise ValueError(f"ignore must name modules of the file, {describe(layers)}, got {name!r}")


def _ignored(name: str, ignore: Sequence[str]) -> bool:
    return any(name == start or name.startswith(f"{start}.") for start in ignore)


def _module(item: str, layers: LayerSet) -> str | None:
    """Return the name of the module in an item; None for an operation."""
    modules = {*layers, *layers.other}
    name, _, rest = item.partition(":")
    if name == "operation":
        return None
    if name == "module" and item not in modules:
        if rest not in modules:
            raise ValueError(_unknown(rest, layers))
        return rest
    if item in modules:
        if is_operation(item):
            raise ValueError(
                f"{item!r} is a module of the file and an operation: write module:{item} or operation:{item}"
            )
        return item
    return name if name in modules and rest.partition(":")[0] in KINDS else None


def _layer(
    item: str | Layer,
    layers: LayerSet,
    before: Sequence[Layer],
    after: Sequence[str | Layer],
    dtype: np.dtype[np.floating],
) -> Layer:
    """Return the layer of one item."""
    if not isinstance(item, str):
        if not isinstance(item, Layer):
            raise TypeError(f"architecture must consist of names and layers, got {type(item).__name__}")
        return item
    name = _module(item, layers)
    if name is None:
        return _operation(item.removeprefix("operation:"), before)
    kind = "" if item in (name, f"module:{name}") else item[len(name) + 1 :]
    if name in layers.other and kind in NONLINEARITIES:
        return _rnn(name, kind, layers, dtype)
    if name in layers.other:
        return _norm(name, kind, layers, dtype)
    layer = layers[name]
    if isinstance(layer, Matrix):
        layer = _matrix_layer(name, layer, kind, layers, before, after)
    elif kind not in ("", type(layer).__name__.lower()):
        raise ValueError(f"the kind of {printable(name)!r} must be {type(layer).__name__}, got {item!r}")
    return _in_dtype(layer, dtype)


def _operation(item: str, before: Sequence[Layer]) -> Layer:
    name, arguments = operation_name(item), item.split(":")[1:]
    if name == "final":
        return _final(item, arguments, before)
    operation = OPERATIONS[name]
    try:
        numbers = [float(argument) for argument in arguments]
    except ValueError:
        numbers = []
    if len(numbers) != len(operation.arguments) or len(numbers) != len(arguments):
        form = ":".join([name, *(argument.upper() for argument in operation.arguments)])
        raise ValueError(f"the operation {name!r} must be written {form}, got {item!r}")
    return operation.make(*numbers)


def _final(item: str, arguments: Sequence[str], before: Sequence[Layer]) -> Layer:
    merge = ":".join(arguments)
    if merge not in FINALS:
        forms = ", ".join(f"final:{name}" for name in FINALS if name)
        raise ValueError(f"the final state must be final, {forms}, got {item!r}")
    previous = [layer for layer in before if not isinstance(layer, Dropout)]
    last = previous[-1] if previous else None
    if not isinstance(last, LSTM | CellStack):
        raise ValueError(  # noqa: TRY004 - the order of items is wrong, not the type of one
            f"{item!r} must follow a recurrent layer, got {last or 'the input'!r} before it"
        )
    if last.options.bidirectional if isinstance(last, LSTM) else last.bidirectional:
        return FinalState("both", **FINALS[merge])
    if merge:
        raise ValueError(f"{item!r} must follow a bidirectional layer, got one with one direction")
    return FinalState("forward")


def _rnn(name: str, nonlinearity: str, layers: LayerSet, dtype: np.dtype[np.floating]) -> RNN:
    """Return an RNN, whose nonlinearity is not in the weights."""
    other = layers.other[name]
    try:
        return RNN.from_torch(other.weights, nonlinearity=nonlinearity, dtype=dtype)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"'{printable(name)}:{nonlinearity}' must be an RNN, and is not: {other.description}: {error}"
        ) from None


def _norm(name: str, kind: str, layers: LayerSet, dtype: np.dtype[np.floating]) -> Layer:
    """Return a normalisation, whose epsilon is not in the weights."""
    other = layers.other[name]
    norm, _, epsilon = kind.partition(":")
    if norm not in NORMS:
        raise ValueError(f"the module {printable(name)!r} is unsupported: {other.description}")
    try:
        layer = NORMS[norm](
            len(next(iter(other.weights.values()))),
            epsilon=float(epsilon),
            gain="weight" in other.weights,
            shift="bias" in other.weights,
            dtype=dtype,
        )
        layer.load_torch({key: value for key, value in other.weights.items() if key != "num_batches_tracked"})
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"'{printable(name)}:{kind}' must be {name}:{norm}:EPSILON and fit {other.description}: {error}"
        ) from None
    return layer


def _matrix_layer(
    name: str, matrix: Matrix, kind: str, layers: LayerSet, before: Sequence[Layer], after: Sequence[str | Layer]
) -> Linear | Embedding:
    """Return the layer of a matrix without a bias: of the stated kind, or of the only one that fits the next module."""
    if kind not in ("", "embedding", "linear"):
        raise ValueError(f"'{printable(name)}:{kind}' must be {name}:embedding or {name}:linear")
    rows, columns = matrix.array.shape
    if not kind and before:
        kind = "linear"  # only the first layer can be an Embedding
    if not kind:
        input_size = next(_input_sizes(after, layers), None)
        fits = [name for name, size in (("embedding", columns), ("linear", rows)) if input_size == size]
        if len(fits) != 1:
            raise ValueError(f"the kind of {name!r} must be stated: {name}:embedding or {name}:linear")
        [kind] = fits
    return matrix.embedding() if kind == "embedding" else matrix.linear()


def _input_sizes(items: Sequence[str | Layer], layers: LayerSet) -> Iterator[int]:
    """Yield the number of input features of each layer that has one."""
    for item in items:
        name = _module(item, layers) if isinstance(item, str) else None
        layer: object = layers.get(name) if name is not None else item
        if isinstance(layer, Matrix):
            yield layer.array.shape[1]
        elif isinstance(layer, LSTM | CellStack | Linear):
            yield layer.input_size


def _in_dtype(layer: WeightedLayer, dtype: np.dtype[np.floating]) -> Layer:
    assert not isinstance(layer, Matrix)  # the caller has converted it to a layer  # noqa: S101
    if layer.parameters.vector.dtype == dtype or isinstance(layer, ParameterLayer):
        return layer
    copy: LSTM | CellStack | Linear | Embedding
    if isinstance(layer, LSTM):
        copy = LSTM(**layer.options.non_default(), dtype=dtype, seed=None)
    elif isinstance(layer, CellStack):
        copy = type(layer)(**layer.config, dtype=dtype, seed=None)
    elif isinstance(layer, Linear):
        copy = Linear(layer.input_size, layer.output_size, bias=layer.bias, dtype=dtype, seed=None)
    else:
        copy = Embedding(layer.vocabulary_size, layer.embedding_size, mask_zero=layer.mask_zero, dtype=dtype, seed=None)
    copy.parameters.vector[:] = layer.parameters.vector
    return copy


def _label(item: str | Layer, layers: LayerSet, layer: Layer, used_names: set[str]) -> str:
    """Return the name of a layer in the model: that of its module or operation."""
    if isinstance(item, str) and (name := _module(item, layers)) is not None:
        return name
    base = operation_name(item) if isinstance(item, str) else type(layer).__name__.lower()
    beginnings = {name.partition(".")[0] for name in used_names}
    return next(name for k in range(len(used_names) + 1) if (name := f"{base}_{k}" if k else base) not in beginnings)


def _unknown(item: str, layers: Mapping[str, WeightedLayer]) -> str:
    names = [*layers, *getattr(layers, "other", {})]
    operations = [*OPERATIONS, "final"]
    matches = [name for name, layer in layers.items() if type(layer).__name__.lower() == item.lower()]
    near = matches or get_close_matches(item, names, 1)
    if not near and item.lower() not in ("lstm", "linear", "embedding"):
        near = get_close_matches(item, operations, 1)
    hint = f" (did you mean {' or '.join(repr(printable(name)) for name in near[:4])}?)" if near else ""
    return (
        f"architecture must consist of modules and operations, got {item!r}{hint}; modules are "
        f"{', '.join(map(printable, names))[:400]}; operations are {', '.join(sorted(operations))}; "
        "a module may have a kind: NAME:embedding, NAME:linear, NAME:layernorm:EPSILON, NAME:batchnorm:EPSILON, "
        "NAME:tanh, NAME:relu"
    )
