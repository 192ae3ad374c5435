"""The architecture of a Keras model, as Keras writes it in JSON: the layers of a chain, in order."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from glasscell.convert.keras.kinds import KNOWN, NESTED, WRAPPED
from glasscell.limits import BudgetError, MemoryBudget, parse_json

MAX_LAYERS = 1024  # that a model lists
MASK_OPERATIONS = ("NotEqual", "Any")  # what Keras 3 writes into a graph for masks that layers hand on by themselves
KERAS_1 = {"init", "inner_init", "inner_activation", "W_regularizer", "nb_filter"}  # settings that Keras 2 renamed
RECURRENT = ("CuDNNGRU", "RNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "ConvLSTM2DCell")
OF_KERAS_1 = (
    "Keras 1 wrote it, whose layers have other settings and weights: load it in Keras 2, which converts it, and save it"
)


class KerasLayer(NamedTuple):
    """A layer of Keras.

    Attributes
    ----------
    kind : str
        The name of its class.
    name : str
    config : dict
        As its ``get_config()``.
    calls : list, optional
        In a graph, how it is called.
    layers : tuple of KerasLayer
        Of a model in a model, its layers in order, without the input.
    """

    kind: str
    name: str
    config: dict[str, Any]
    calls: Any = None
    layers: tuple["KerasLayer", ...] = ()


class KerasSequential(NamedTuple):
    """A model of Keras.

    Attributes
    ----------
    layers : tuple of KerasLayer
        In order, without the input; a model in a model is one of them.
    version : str
        Of the Keras that wrote it: it decides what a hard sigmoid is.
    input_shape : tuple of int or None, optional
        Batch, steps, features, as far as they are known.
    """

    layers: tuple[KerasLayer, ...]
    version: str = "3"
    input_shape: tuple[int | None, ...] | None = None


class Call(NamedTuple):
    """How a layer of a graph is called: by name, the layers whose outputs it takes, and whose it takes as a mask."""

    inputs: tuple[str, ...]
    constants: tuple[Any, ...]
    mask: str | None
    options: dict[str, Any]


def parse_config(text: bytes, what: str, budget: MemoryBudget) -> dict[str, Any]:
    """What JSON says."""
    try:
        found = parse_json(text, budget, constants=True)
    except BudgetError:
        raise
    except ValueError:
        raise ValueError(f"{what} is not JSON that can be read") from None
    return mapping(found, what)


def mapping(value: Any, what: str) -> dict[str, Any]:
    """The value, if it is a dict."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} should be a dict, and is {shortened(value)}")  # noqa: TRY004 - of a file, not of a call
    return dict(value)


def entries(value: Any, what: str) -> list[Any]:
    """The value, if it is a list."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"{what} should be a list, and is {shortened(value)}")  # noqa: TRY004 - of a file, not of a call
    return list(value)


def shortened(value: Any) -> str:
    """What a message shows of a value."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"a deep {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def chain_of(model: Any, version: str = "3") -> KerasSequential:
    """The chain that the configuration of a model describes: ``to_json()``, or ``get_config()``."""
    model = mapping(model, "the configuration of the model")
    if "class_name" not in model and "layers" in model:
        model = {"class_name": "Functional" if "input_layers" in model else "Sequential", "config": model}
    layers, input_shape = _layers(model.get("class_name"), model.get("config"))
    given = model.get("keras_version")
    return KerasSequential(layers, given if isinstance(given, str) else version, input_shape)


def _layers(kind: Any, config: Any) -> tuple[tuple[KerasLayer, ...], tuple[int | None, ...] | None]:
    """The layers of a model, which may be a layer of another, in order and without the input; and its input's shape."""
    if kind == "Sequential":
        listed = config.get("layers") if isinstance(config, Mapping) else config  # a list in the first versions
        ordered = _listed_layers(listed)
        for layer in ordered:
            if unwrapped_config(layer).get("return_state"):
                raise ValueError(
                    f"the layer {layer.name!r} returns its state in addition to its outputs, and no layer uses it"
                )
    elif kind in NESTED:
        ordered = _in_order(mapping(config, "the configuration of the model"))
    else:
        raise ValueError(
            f"the model is a {shortened(kind)}; a Sequential and a Functional that is one chain can be read"
        )
    layers = [layer for layer in ordered if layer.kind != "InputLayer"]
    if not layers:
        raise ValueError("the model has no layers")
    for name, count in Counter(layer.name for layer in layers).items():
        if count > 1:
            raise ValueError(f"{count} layers have the name {name!r}")
    for layer in layers:
        if layer.kind in MASK_OPERATIONS:
            raise ValueError(f"the layer {layer.name!r} is a {layer.kind}, which cannot be represented")
    return tuple(layers), _input_shape(ordered[0])


def _listed(layers: Any) -> list[Any]:
    """What a model lists as its layers."""
    found = entries(layers, "what the model lists as its layers")
    if len(found) > MAX_LAYERS:
        raise ValueError(f"the model lists {len(found)} layers; at most {MAX_LAYERS} are read")
    return found


def _listed_layers(listed: Any) -> list[KerasLayer]:
    """The layers that a model lists; it is refused first for those that no chain of LSTMs can have."""
    found = _listed(listed)
    for entry in found:
        kind = entry.get("class_name") if isinstance(entry, Mapping) else None
        if kind in RECURRENT:
            name = mapping(entry.get("config"), "the configuration of a layer").get("name", entry.get("name"))
            raise ValueError(
                f"the layer {shortened(name)} is a {kind}, another recurrent layer than LSTM, GRU and "
                "SimpleRNN, which cannot be represented"
            )
    return [layer_of(entry) for entry in found]


def flat(layers: Sequence[KerasLayer], prefix: str = "") -> Iterator[KerasLayer]:
    """Yield the layers, and those of models among them in their place, called ``outer.inner``."""
    for layer in layers:
        if layer.layers:
            yield from flat(layer.layers, f"{prefix}{layer.name}.")
        else:
            yield layer._replace(name=prefix + layer.name)


def unwrapped_config(layer: KerasLayer) -> dict[str, Any]:
    """The configuration of a layer, or of the one that it wraps."""
    wrapped = layer.config.get("layer")
    if not isinstance(wrapped, Mapping):
        return layer.config
    return mapping(wrapped.get("config"), f"the configuration of what {layer.name!r} wraps")


def layer_of(entry: Any) -> KerasLayer:
    """The layer that an entry of a list of layers describes, if it is one of Keras' own that can be represented."""
    entry = mapping(entry, "a layer")
    kind, config = entry.get("class_name"), mapping(entry.get("config"), "the configuration of a layer")
    name = config.get("name", entry.get("name"))
    if not isinstance(kind, str) or not isinstance(name, str) or not name:
        raise ValueError(f"a layer needs a class and a name, and one has {shortened(kind)} and {shortened(name)}")
    module, registered = str(entry.get("module") or "keras"), entry.get("registered_name")
    if module.split(".", maxsplit=1)[0] not in ("keras", "tf_keras") or registered not in (None, kind):
        kind = f"{registered or kind} of {module}"
    if KERAS_1 & config.keys():
        raise ValueError(OF_KERAS_1)
    if kind not in (*KNOWN, "InputLayer", *MASK_OPERATIONS):
        raise ValueError(
            f"the layer {name!r} is a {kind[:80]}, which cannot be represented; Keras' own {', '.join(KNOWN)} can"
        )
    if kind in WRAPPED:
        wrapped = mapping(config.get("layer"), f"what {name!r} wraps").get("class_name")
        if wrapped not in WRAPPED[kind]:
            what = f"a {kind} of a {shortened(wrapped)}"
            can = " or ".join(WRAPPED[kind])
            raise ValueError(f"the layer {name!r} is {what}, which cannot be represented; of a {can} it can")
    layers = _layers(kind, entry.get("config"))[0] if kind in NESTED else ()
    return KerasLayer(kind, name, config, entry.get("inbound_nodes"), layers)


def _input_shape(layer: KerasLayer) -> tuple[int | None, ...] | None:
    config = layer.config
    if layer.layers and "batch_shape" not in config:
        listed = config.get("layers")
        return _input_shape(layer_of(listed[0])) if isinstance(listed, list) and listed else None
    for option in ("sparse", "ragged"):
        if layer.kind == "InputLayer" and config.get(option):
            raise ValueError(f"the input {layer.name!r} is {option}, which cannot be represented")
    shape = config.get("batch_shape", config.get("batch_input_shape"))
    if shape is None:
        return None
    sizes = entries(shape, f"the shape of the input {layer.name!r}")
    if not all(size is None or type(size) is int for size in sizes):
        raise ValueError(f"the shape of the input {layer.name!r} is {shortened(shape)}")
    return tuple(sizes)


def _in_order(config: Mapping[str, Any]) -> list[KerasLayer]:
    """The layers of a graph, if it is a chain from its input to its output."""
    listed = _listed_layers(config.get("layers"))
    found = {layer.name: layer for layer in listed}
    if len(found) != len(listed):
        raise ValueError("several layers have the same name")
    first, name = _end(config.get("input_layers"), "input"), _end(config.get("output_layers"), "output")
    ordered: list[str] = []
    calls: dict[str, Call] = {}
    while name != first:
        if name not in found or name in calls:
            raise ValueError(f"the layers are no chain from the input {first!r} to the output: see {name!r}")
        calls[name] = call = _call(found[name])
        if len(call.inputs) != 1 or call.constants:
            raise ValueError(f"the layer {name!r} takes other inputs than one layer's outputs")
        ordered.append(name)
        name = call.inputs[0]
    ordered.reverse()
    if first not in found or found[first].kind != "InputLayer":
        raise ValueError(f"the input {first!r} is no InputLayer")
    of_masks = _check_masks([found[name] for name in ordered], calls, found)
    for name in found:
        if name not in calls and name not in of_masks and name != first:
            raise ValueError(f"the layer {name!r} is not part of the chain, which cannot be represented")
    return [found[name] for name in (first, *ordered)]


def _end(ends: Any, what: str) -> str:
    """The one input, or output, of a graph."""
    ends = list(ends.values()) if isinstance(ends, Mapping) else entries(ends, f"the {what}s of the model")
    if ends and isinstance(ends[0], str):
        ends = [ends]
    match ends:
        case [[str(name), 0, 0]]:
            return name
        case [[str(name), int(), 0]]:
            raise ValueError(_shared(name))
        case [[str(name), _, _]]:
            raise ValueError(f"the {what} of the model is something else than the outputs of {name!r}")
    raise ValueError(f"the model has {len(ends)} {what}s; one can be represented")


def _shared(name: str) -> str:
    return f"the layer {name!r} is called more than once; a shared layer cannot be represented"


def _call(layer: KerasLayer) -> Call:
    nodes = entries(layer.calls, f"the calls of the layer {layer.name!r}")
    if len(nodes) != 1:
        raise ValueError(_shared(layer.name))
    node = nodes[0]
    if isinstance(node, Mapping):  # Keras 3
        arguments = entries(node.get("args"), f"the arguments of {layer.name!r}")
        options = mapping(node.get("kwargs"), f"the options of {layer.name!r}")
    else:  # Keras 2: [[name, 0, 0, options]]
        places = [entries(place, f"an input of {layer.name!r}") for place in entries(node, "a call")]
        arguments = [{"class_name": "__keras_tensor__", "config": {"keras_history": place[:3]}} for place in places]
        options = {name: value for place in places for more in place[3:] for name, value in mapping(more, "it").items()}
    inputs = [_source(argument, layer) for argument in arguments]
    mask = options.pop("mask", None)
    options.pop("training", None)
    for name, value in options.items():
        if value is not None and layer.kind not in MASK_OPERATIONS:
            raise ValueError(f"the layer {layer.name!r} has the argument {name}, which cannot be represented")
    constants = tuple(value for value, source in zip(arguments, inputs, strict=True) if source is None)
    of_mask = None if mask is None else _source(mask, layer)
    if mask is not None and of_mask is None:
        raise ValueError(f"the layer {layer.name!r} has an explicit mask, which cannot be represented")
    return Call(tuple(source for source in inputs if source is not None), constants, of_mask, options)


def _source(argument: Any, layer: KerasLayer) -> str | None:
    """The layer whose outputs an argument is; None if it is no such thing."""
    match argument:
        case {"class_name": "__keras_tensor__", "config": {"keras_history": [str(name), 0, 0]}}:
            return name
        case {"class_name": "__keras_tensor__", "config": {"keras_history": [str(name), int(), 0]}}:
            raise ValueError(_shared(name))
        case {"class_name": "__keras_tensor__"}:
            raise ValueError(f"the layer {layer.name!r} takes something else than the outputs of a layer")
    return None


def _check_masks(layers: Sequence[KerasLayer], calls: Mapping[str, Call], found: Mapping[str, KerasLayer]) -> set[str]:
    """Check that each mask in the graph is the one that Keras propagates; return the layers that make them."""
    operations = {name: _call(layer) for name, layer in found.items() if layer.kind in MASK_OPERATIONS}
    used: set[str] = set()
    own: set[str] = set()  # what makes the mask that belongs here
    for layer in layers:
        source, mask = calls[layer.name].inputs[0], calls[layer.name].mask
        if mask is not None and mask not in own:
            raise ValueError(f"the layer {layer.name!r} has an explicit mask, which cannot be represented")
        if layer.kind == "Embedding" and layer.config.get("mask_zero"):
            own = _matching_operations("NotEqual", (source,), (0,), operations, found)
        elif layer.kind == "Masking":
            differing = _matching_operations(
                "NotEqual", (source,), (layer.config.get("mask_value", 0.0),), operations, found
            )
            own = {name for one in differing for name in _matching_operations("Any", (one,), (), operations, found)}
            used |= differing
        used |= own
    return used


def _matching_operations(
    kind: str,
    inputs: tuple[str, ...],
    constants: tuple[Any, ...],
    calls: Mapping[str, Call],
    found: Mapping[str, KerasLayer],
) -> set[str]:
    """The names of the operations of this kind that take these inputs."""
    as_keras_makes_it = {"NotEqual": {}, "Any": {"axis": -1, "keepdims": False}}[kind]
    return {
        name
        for name, call in calls.items()
        if found[name].kind == kind
        and (call.inputs, call.constants, call.options) == (inputs, constants, {})
        and found[name].config | as_keras_makes_it == found[name].config
    }
