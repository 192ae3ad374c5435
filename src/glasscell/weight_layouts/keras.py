"""Keras' layers: their weights, and the settings that say what is computed.

A ``keras.layers.LSTM`` keeps a kernel (I, 4H), a recurrent kernel (H, 4H) and perhaps one bias (4H,).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from glasscell.core.parameters import Parameters
from glasscell.core.types import Array
from glasscell.weight_layouts import KERAS, WeightMatrices, check_shapes, check_weight, common_dtype, decode, encode

if TYPE_CHECKING:
    from glasscell.recurrent.config import LSTMConfig

KERAS_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "sigmoid": ("Sigmoid",),
    "tanh": ("Tanh",),
    "relu": ("Relu",),
    "linear": ("Affine", 1.0, 0.0),
    "hard_sigmoid": ("HardSigmoid", 1 / 6, 0.5),
    "elu": ("Elu", 1.0),
    "softsign": ("Softsign",),
    "softplus": ("Softplus",),
    "leaky_relu": ("LeakyRelu", 0.2),
    "silu": ("Silu",),
    "gelu": ("Gelu",),
    "selu": ("Selu",),
}
KERAS_2_FUNCTIONS = KERAS_FUNCTIONS | {"hard_sigmoid": ("HardSigmoid", 0.2, 0.5), "swish": ("Silu",)}

# Settings of a Keras layer that say nothing about what it computes, or only how it is trained there.
KERAS_IGNORED = re.compile(
    r"name|trainable|return_sequences|return_state|unroll|implementation|seed|unit_forget_bias|use_cudnn|stateful|"
    r"(kernel|recurrent|bias)_(initializer|regularizer|constraint)|activity_regularizer|batch_input_shape"
)
KERAS_OPTIONS = {  # theirs: ours, where the value is the same
    "go_backwards": "reverse",
    "dropout": "input_dropout",
    "recurrent_dropout": "recurrent_dropout",
    "use_bias": "bias",
}
KERAS_MERGES = {"concat": "concat", "sum": "sum", "ave": "average", "mul": "multiply"}


def activation_from_keras(given: Any, keras_version: str = "3") -> tuple[Any, ...]:
    """Convert an activation of Keras, by name or serialised, to one of Glasscell."""
    name = "linear" if given is None else given
    if isinstance(given, Mapping):  # a function by name; or a layer, or code
        kind = given.get("class_name", "lambda")
        name = given.get("config") if kind == "function" else f"{kind}()"
    known = KERAS_2_FUNCTIONS if str(keras_version).startswith(("1", "2")) else KERAS_FUNCTIONS
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"the activation {name!r} of Keras cannot be represented; {', '.join(known)} can")
    return known[name]


def config_from_keras(weights: Any, config: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return the options of an LSTM, and its dtype, from the weights and configuration of a Keras layer."""
    given = _of_bidirectional(config) if "layer" in config else dict(config)
    merge = given.pop("bidirectional", None) or given.pop("merge_mode", None)
    merge = "concat" if merge is True else merge
    ways = _split_directions(weights, two=merge is not None)
    version = given.pop("keras_version", "3")
    options: dict[str, Any] = {
        "input_size": ways[0].inputs.shape[0],
        "hidden_size": ways[0].recurrent.shape[0],
        "bias": ways[0].bias is not None,
        "candidate_activation": activation_from_keras(given.get("activation", "tanh"), version),
        "gate_activation": activation_from_keras(given.pop("recurrent_activation", "sigmoid"), version),
    }
    options["output_activation"] = activation_from_keras(given.pop("activation", "tanh"), version)
    units = given.pop("units", options["hidden_size"])
    if units != options["hidden_size"]:
        raise ValueError(f"units is {units!r}; the recurrent kernel has {options['hidden_size']} rows")
    zero = given.pop("zero_output_for_mask", False)
    if merge is None:
        options["masked_outputs"] = "zero" if zero else "repeat"
        options["outputs_in"] = "processing" if given.get("go_backwards") else "time"
    else:
        if given.pop("go_backwards", False):
            raise ValueError(
                "go_backwards=True of the first of two directions cannot be represented: it is the forward one"
            )
        if merge not in tuple(KERAS_MERGES):
            raise ValueError(f"merge_mode is {merge!r}; known are {', '.join(KERAS_MERGES)}")
        options |= {"bidirectional": True, "merge": KERAS_MERGES[merge]}
    if given.pop("time_major", False):
        raise ValueError("time_major=True cannot be represented: here batches come first")
    dtype = _keras_dtype(given.pop("dtype", None), ways)
    for name, value in given.items():
        if name in KERAS_OPTIONS:
            if name == "use_bias" and value != options["bias"]:
                raise ValueError(f"use_bias is {value!r}; the weights have {'a' if options['bias'] else 'no'} bias")
            options[KERAS_OPTIONS[name]] = value
        elif not KERAS_IGNORED.fullmatch(name):
            raise ValueError(f"the setting {name}={value!r} of Keras cannot be represented")
    return options, dtype


def _of_bidirectional(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that both directions of a Bidirectional share, and its merge mode."""
    given = dict(config)
    entries = [given.pop("layer"), given.pop("backward_layer", None)]
    ways: list[Mapping[str, Any]] = []
    for entry in filter(None, entries):
        kind, own = (entry.get("class_name"), entry.get("config")) if isinstance(entry, Mapping) else (None, None)
        if kind not in ("LSTM", "CuDNNLSTM") or not isinstance(own, Mapping):
            raise ValueError(f"a Bidirectional of a {kind!r} cannot be represented; of an 'LSTM' it can")
        ways.append(own)
    return {**given, **shared_settings(ways), "merge_mode": given.get("merge_mode", "concat")}


def shared_settings(ways: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the configurations of the forward and, if it has one, the backward LSTM say of what is computed.

    Raises
    ------
    ValueError
        If the one runs back, or the other does not, or they differ in anything else.
    """
    for way, back in zip(ways, (False, True), strict=False):
        if way.get("go_backwards", back) != back:
            raise ValueError(f"go_backwards of {way.get('name', 'a layer')!r} is {not back}; expected {back}")
    own = {"go_backwards", "zero_output_for_mask", "dtype"}  # in both directions outputs of masked steps are 0
    said = [
        {
            name: value
            for name, value in way.items()
            if name in ("return_sequences", "return_state") or not (name in own or KERAS_IGNORED.fullmatch(name))
        }
        for way in ways
    ]
    if any(one != said[0] for one in said):
        differing = sorted(name for name in said[0].keys() | said[-1].keys() if said[0].get(name) != said[-1].get(name))
        raise ValueError(f"its directions differ in {', '.join(differing)}, which cannot be represented")
    return said[0]


def from_keras(weights: Any, parameters: Parameters, options: "LSTMConfig") -> None:
    """Copy the weights of a Keras layer into the parameters of an LSTM."""
    for (suffix, I, _), parts in zip(
        options.directions, _split_directions(weights, two=options.bidirectional), strict=True
    ):
        H = options.hidden_size
        expected = {"kernel": (I, 4 * H), "recurrent_kernel": (H, 4 * H)} | ({"bias": (4 * H,)} if options.bias else {})
        given = dict(zip(("kernel", "recurrent_kernel", "bias"), parts, strict=True))
        check_shapes({name: array.shape for name, array in given.items() if array is not None}, expected)
        parameters[f"kernel{suffix}"][:] = decode(parts, options.cell_config.gates, KERAS)


def from_cudnn(weights: Mapping[str, Array]) -> dict[str, Array]:
    """Convert the weights of a CuDNNLSTM to those of an LSTM, as Keras 2 does.

    cuDNN keeps a matrix of each gate by rows, (H, I) and (H, H), in arrays of the shapes (I, 4H) and (H, 4H), and two
    biases (4H,), which add up, as one (8H,).
    """
    kernel, recurrent, bias = (weights.get(name) for name in ("kernel", "recurrent_kernel", "bias"))
    if kernel is None or recurrent is None or bias is None or kernel.ndim != 2 or recurrent.ndim != 2:
        raise ValueError("a CuDNNLSTM has a kernel, a recurrent_kernel and a bias")
    (I, columns), H = kernel.shape, len(recurrent)
    if columns != 4 * H or recurrent.shape != (H, 4 * H) or bias.shape != (8 * H,):
        shapes = ", ".join(str(array.shape) for array in (kernel, recurrent, bias))
        raise ValueError(f"a CuDNNLSTM has weights (I, 4H), (H, 4H) and (8H,), and these are {shapes}")
    by_gate = [gate.reshape(H, I).T for gate in np.split(kernel, 4, axis=1)]
    return {
        "kernel": np.concatenate(by_gate, axis=1),
        "recurrent_kernel": np.concatenate([gate.T for gate in np.split(recurrent, 4, axis=1)], axis=1),
        "bias": bias[: 4 * H] + bias[4 * H :],
    }


def to_keras(parameters: Parameters, options: "LSTMConfig") -> list[Array]:
    """Return the weights of an LSTM of one layer in Keras' layout."""
    keras_config(options)
    weights: list[Array] = []
    for suffix, I, _ in options.directions:
        parts = encode(options.kernel(parameters, suffix), I, options.cell_config.gates, KERAS, bias=options.bias)
        weights += [part for part in parts if part is not None]
    return weights


def keras_config(options: "LSTMConfig") -> dict[str, Any]:
    """Return the settings of a ``keras.layers.LSTM`` that computes the same as one layer, except for its directions.

    Raises
    ------
    ValueError
        If there is none, naming what Keras lacks.
    """
    for name, value in options.unsupported("keras").items():
        raise ValueError(f"a Keras LSTM has no {name}, and here it is {value!r}")
    if options.candidate_activation != options.output_activation:
        raise ValueError(
            "a Keras LSTM has one activation for candidate and output; here they are "
            f"{options.candidate_activation} and {options.output_activation}"
        )
    return {
        "units": options.hidden_size,
        "activation": activation_to_keras(options.candidate_activation),
        "recurrent_activation": activation_to_keras(options.gate_activation),
        "use_bias": options.bias,
        "dropout": options.input_dropout,
        "recurrent_dropout": options.recurrent_dropout,
        "zero_output_for_mask": options.masked_outputs == "zero",
    }


def activation_to_keras(function: Iterable[Any]) -> str:
    """Return Keras' name of an activation."""
    wanted = tuple(part for part in function if part is not None)
    for name, ours in KERAS_FUNCTIONS.items():
        if ours == wanted:
            return name
    raise ValueError(f"Keras has no activation {wanted}")


def _split_directions(weights: Any, *, two: bool) -> list[WeightMatrices]:
    if isinstance(weights, Mapping):
        weights = [array for way in _mappings(weights, two=two) for array in _in_order(way)]
    arrays = [check_weight(f"weight {k}", array) for k, array in enumerate(weights)]
    count = len(arrays) // (2 if two else 1)
    if count not in (2, 3) or len(arrays) != count * (2 if two else 1):
        expected = "kernel, recurrent_kernel and perhaps bias" + (", for each direction" if two else "")
        raise ValueError(f"there are {len(arrays)} weights; expected {expected}")
    ways = []
    for way in (arrays[:count], arrays[count:])[: 2 if two else 1]:
        kernel, recurrent, bias = way[0], way[1], way[2] if count == 3 else None
        if kernel.ndim != 2 or recurrent.ndim != 2 or recurrent.shape[1] != 4 * recurrent.shape[0]:
            raise ValueError(
                f"the weights have the shapes {kernel.shape} and {recurrent.shape}; expected kernel (I, 4H) and "
                "recurrent_kernel (H, 4H)"
            )
        ways.append(WeightMatrices(kernel, recurrent, bias))
    return ways


def _mappings(weights: Mapping[str, Any], *, two: bool) -> list[Mapping[str, Any]]:
    """Return the weights of each direction, by name."""
    if not two:
        return [weights]
    if set(weights) != {"forward", "backward"}:
        raise ValueError(f"the weights are called {', '.join(map(str, weights))}; expected forward and backward")
    return [weights["forward"], weights["backward"]]


def _in_order(weights: Mapping[str, Any]) -> list[Any]:
    names = ("kernel", "recurrent_kernel", "bias")
    if not {*names[:2]} <= set(weights) <= {*names}:
        raise ValueError(f"the weights are called {', '.join(map(str, weights))}; expected {', '.join(names)}")
    return [weights[name] for name in names if name in weights]


def _keras_dtype(given: Any, ways: Sequence[WeightMatrices]) -> Any:
    if isinstance(given, Mapping):  # a serialised policy
        given = given.get("config", {}).get("name", "float32")
    return common_dtype({"kernel": ways[0].inputs}) if given is None else given
