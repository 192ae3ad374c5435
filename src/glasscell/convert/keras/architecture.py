"""Read the architecture of a Keras model from JSON: its layers in the order of computation."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from glasscell.convert.keras.json_values import entries, mapping, shorten
from glasscell.convert.keras.kinds import NESTED, SUPPORTED, WRAPPED

MAX_LAYERS = 1024  # of a model
MASK_OPERATIONS = ("NotEqual", "Any")  # which Keras 3 adds to a graph for the masks that layers propagate
KERAS_1 = {"init", "inner_init", "inner_activation", "W_regularizer", "nb_filter"}  # settings that Keras 2 renamed
RECURRENT = ("CuDNNGRU", "RNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "ConvLSTM2DCell")
KERAS_1_ADVICE = (
    "Keras 1 wrote it, whose layers have other settings and weights: load it in Keras 2, which converts it, and save it"
)


class KerasLayer(NamedTuple):
    """A layer of Keras.

    Attributes
    ----------
    kind : str
        Name of the class.
    name : str
    config : dict
        Result of ``get_config()``.
    calls : list, optional
        Calls of the layer in a graph.
    layers : tuple of KerasLayer
        Layers of a nested model in order, without the input.
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
        In order, without the input. A nested model is one layer.
    version : str
        Version of Keras that wrote the model: it determines the hard sigmoid.
    input_shape : tuple of int or None, optional
        Batch, steps, features; None for unknown sizes.
    """

    layers: tuple[KerasLayer, ...]
    version: str = "3"
    input_shape: tuple[int | None, ...] | None = None


class Call(NamedTuple):
    """Call of a layer in a graph: the layers whose outputs are its inputs and its mask, by name."""

    inputs: tuple[str, ...]
    constants: tuple[Any, ...]
    mask: str | None
    options: dict[str, Any]


def parse_model(model: Any, version: str = "3") -> KerasSequential:
    """Return the model that a configuration describes: ``to_json()``, or ``get_config()``."""
    model = mapping(model, "the configuration of the model")
    if "class_name" not in model and "layers" in model:
        model = {"class_name": "Functional" if "input_layers" in model else "Sequential", "config": model}
    layers, input_shape = _layers(model.get("class_name"), model.get("config"))
    written_version = model.get("keras_version")
    return KerasSequential(layers, written_version if isinstance(written_version, str) else version, input_shape)


def _layers(kind: Any, config: Any) -> tuple[tuple[KerasLayer, ...], tuple[int | None, ...] | None]:
    """Return the layers of a model or nested model in order, without the input, and the shape of the input."""
    if kind == "Sequential":
        listed = config.get("layers") if isinstance(config, Mapping) else config  # a list in the first versions
        ordered = _listed_layers(listed)
        for layer in ordered:
            if unwrapped_config(layer).get("return_state"):
                raise ValueError(
                    f"the layer {layer.name!r} returns its state in addition to its outputs, and no layer uses it"
                )
    elif kind in NESTED:
        ordered = _sequence(mapping(config, "the configuration of the model"))
    else:
        raise ValueError(
            f"the model must be a Sequential, or a Functional with one sequence of layers, got a {shorten(kind)}"
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
    """Return the list of layers of a model."""
    listed = entries(layers, "the layers of the model")
    if len(listed) > MAX_LAYERS:
        raise ValueError(f"the model must have at most {MAX_LAYERS} layers, got {len(listed)}")
    return listed


def _listed_layers(listed: Any) -> list[KerasLayer]:
    """Return the layers of a model; unsupported recurrent layers are the first error."""
    layers = _listed(listed)
    for entry in layers:
        kind = entry.get("class_name") if isinstance(entry, Mapping) else None
        if kind in RECURRENT:
            name = mapping(entry.get("config"), "the configuration of a layer").get("name", entry.get("name"))
            raise ValueError(
                f"the layer {shorten(name)} is a {kind}, another recurrent layer than LSTM, GRU and "
                "SimpleRNN, which cannot be represented"
            )
    return [layer_of(entry) for entry in layers]


def flat(layers: Sequence[KerasLayer], prefix: str = "") -> Iterator[KerasLayer]:
    """Yield the layers, with those of nested models in place, as ``outer.inner``."""
    for layer in layers:
        if layer.layers:
            yield from flat(layer.layers, f"{prefix}{layer.name}.")
        else:
            yield layer._replace(name=prefix + layer.name)


def unwrapped_config(layer: KerasLayer) -> dict[str, Any]:
    """Return the configuration of a layer, or of the layer that it wraps."""
    wrapped = layer.config.get("layer")
    if not isinstance(wrapped, Mapping):
        return layer.config
    return mapping(wrapped.get("config"), f"the configuration of the layer in {layer.name!r}")


def layer_of(entry: Any) -> KerasLayer:
    """Return the supported Keras layer that an entry of a list of layers describes."""
    entry = mapping(entry, "a layer")
    kind, config = entry.get("class_name"), mapping(entry.get("config"), "the configuration of a layer")
    name = config.get("name", entry.get("name"))
    if not isinstance(kind, str) or not isinstance(name, str) or not name:
        raise ValueError(f"a layer must have a class and a name, got {shorten(kind)} and {shorten(name)}")
    module, registered = str(entry.get("module") or "keras"), entry.get("registered_name")
    if module.split(".", maxsplit=1)[0] not in ("keras", "tf_keras") or registered not in (None, kind):
        kind = f"{registered or kind} of {module}"
    if KERAS_1 & config.keys():
        raise ValueError(KERAS_1_ADVICE)
    if kind not in (*SUPPORTED, "InputLayer", *MASK_OPERATIONS):
        raise ValueError(
            f"the layer {name!r} is a {kind[:80]}, which cannot be represented; Keras' own {', '.join(SUPPORTED)} can"
        )
    if kind in WRAPPED:
        wrapped = mapping(config.get("layer"), f"the layer in {name!r}").get("class_name")
        if wrapped not in WRAPPED[kind]:
            supported = " or ".join(WRAPPED[kind])
            raise ValueError(f"the {kind} {name!r} must wrap a layer {supported}, got {shorten(wrapped)}")
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
        raise ValueError(f"the shape of the input {layer.name!r} is {shorten(shape)}")
    return tuple(sizes)


def _sequence(config: Mapping[str, Any]) -> list[KerasLayer]:
    """Return the layers of a graph that is one sequence from its input to its output."""
    listed = _listed_layers(config.get("layers"))
    by_name = {layer.name: layer for layer in listed}
    if len(by_name) != len(listed):
        raise ValueError("several layers have the same name")
    first, name = _endpoint(config.get("input_layers"), "input"), _endpoint(config.get("output_layers"), "output")
    ordered: list[str] = []
    calls: dict[str, Call] = {}
    while name != first:
        if name not in by_name or name in calls:
            raise ValueError(
                f"the layers must be one sequence from the input {first!r} to the output, and {name!r} is not"
            )
        calls[name] = call = _call(by_name[name])
        if len(call.inputs) != 1 or call.constants:
            raise ValueError(f"the inputs of the layer {name!r} must be the outputs of one layer")
        ordered.append(name)
        name = call.inputs[0]
    ordered.reverse()
    if first not in by_name or by_name[first].kind != "InputLayer":
        raise ValueError(f"the input {first!r} must be an InputLayer")
    mask_layers = _check_masks([by_name[name] for name in ordered], calls, by_name)
    for name in by_name:
        if name not in calls and name not in mask_layers and name != first:
            raise ValueError(f"the layer {name!r} must be between the input and the output, in one sequence")
    return [by_name[name] for name in (first, *ordered)]


def _endpoint(ends: Any, what: str) -> str:
    """Return the single input or output of a graph."""
    ends = list(ends.values()) if isinstance(ends, Mapping) else entries(ends, f"the {what}s of the model")
    if ends and isinstance(ends[0], str):
        ends = [ends]
    match ends:
        case [[str(name), 0, 0]]:
            return name
        case [[str(name), int(), 0]]:
            raise ValueError(_shared(name))
        case [[str(name), _, _]]:
            raise ValueError(f"the {what} of the model must be the outputs of {name!r}")
    raise ValueError(f"the model must have one {what}, got {len(ends)}")


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
        references = [entries(reference, f"an input of {layer.name!r}") for reference in entries(node, "a call")]
        arguments = [
            {"class_name": "__keras_tensor__", "config": {"keras_history": reference[:3]}} for reference in references
        ]
        options = {
            name: value
            for reference in references
            for extra in reference[3:]
            for name, value in mapping(extra, "options").items()
        }
    inputs = [_source(argument, layer) for argument in arguments]
    mask = options.pop("mask", None)
    options.pop("training", None)
    for name, value in options.items():
        if value is not None and layer.kind not in MASK_OPERATIONS:
            raise ValueError(f"the layer {layer.name!r} has the argument {name}, which cannot be represented")
    constants = tuple(value for value, source in zip(arguments, inputs, strict=True) if source is None)
    mask_source = None if mask is None else _source(mask, layer)
    if mask is not None and mask_source is None:
        raise ValueError(f"the layer {layer.name!r} has an explicit mask, which cannot be represented")
    return Call(tuple(source for source in inputs if source is not None), constants, mask_source, options)


def _source(argument: Any, layer: KerasLayer) -> str | None:
    """Return the name of the layer whose outputs an argument is; None for other arguments."""
    match argument:
        case {"class_name": "__keras_tensor__", "config": {"keras_history": [str(name), 0, 0]}}:
            return name
        case {"class_name": "__keras_tensor__", "config": {"keras_history": [str(name), int(), 0]}}:
            raise ValueError(_shared(name))
        case {"class_name": "__keras_tensor__"}:
            raise ValueError(f"the inputs of the layer {layer.name!r} must be the outputs of a layer")
    return None


def _check_masks(
    layers: Sequence[KerasLayer], calls: Mapping[str, Call], by_name: Mapping[str, KerasLayer]
) -> set[str]:
    """Check that each mask in the graph is the one that Keras propagates; return the layers that compute masks."""
    operations = {name: _call(layer) for name, layer in by_name.items() if layer.kind in MASK_OPERATIONS}
    used: set[str] = set()
    expected: set[str] = set()  # layers that compute the propagated mask
    for layer in layers:
        source, mask = calls[layer.name].inputs[0], calls[layer.name].mask
        if mask is not None and mask not in expected:
            raise ValueError(f"the layer {layer.name!r} has an explicit mask, which cannot be represented")
        if layer.kind == "Embedding" and layer.config.get("mask_zero"):
            expected = _matching_operations("NotEqual", (source,), (0,), operations, by_name)
        elif layer.kind == "Masking":
            differing = _matching_operations(
                "NotEqual", (source,), (layer.config.get("mask_value", 0.0),), operations, by_name
            )
            expected = set()
            for name in differing:
                expected |= _matching_operations("Any", (name,), (), operations, by_name)
            used |= differing
        used |= expected
    return used


def _matching_operations(
    kind: str,
    inputs: tuple[str, ...],
    constants: tuple[Any, ...],
    calls: Mapping[str, Call],
    by_name: Mapping[str, KerasLayer],
) -> set[str]:
    """Return the names of the operations of this kind with these inputs."""
    keras_config = {"NotEqual": {}, "Any": {"axis": -1, "keepdims": False}}[kind]
    return {
        name
        for name, call in calls.items()
        if by_name[name].kind == kind
        and (call.inputs, call.constants, call.options) == (inputs, constants, {})
        and by_name[name].config | keras_config == by_name[name].config
    }
