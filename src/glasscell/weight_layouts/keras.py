"""Weights and settings of Keras layers.

A ``keras.layers.LSTM`` has a kernel (I, 4H), a recurrent kernel (H, 4H) and, with ``use_bias``, one bias (4H,).
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

# Settings of a Keras layer that do not change its outputs, or only its training in Keras.
KERAS_IGNORED = re.compile(
    r"name|trainable|return_sequences|return_state|unroll|implementation|seed|unit_forget_bias|use_cudnn|stateful|"
    r"(kernel|recurrent|bias)_(initializer|regularizer|constraint)|activity_regularizer|batch_input_shape"
)
KERAS_OPTIONS = {  # from the names of Keras to those of Glasscell; the values are the same
    "go_backwards": "reverse",
    "dropout": "input_dropout",
    "recurrent_dropout": "recurrent_dropout",
    "use_bias": "bias",
}
NAMES = ("kernel", "recurrent_kernel", "bias")  # of the weights, in Keras' order
KERAS_MERGES = {"concat": "concat", "sum": "sum", "ave": "average", "mul": "multiply"}


def activation_from_keras(activation: Any, keras_version: str = "3") -> tuple[Any, ...]:
    """Convert an activation of Keras, by name or serialised, to one of Glasscell."""
    name = "linear" if activation is None else activation
    if isinstance(activation, Mapping):  # a function by name; or a layer, or code
        class_name = activation.get("class_name", "lambda")
        name = activation.get("config") if class_name == "function" else f"{class_name}()"
    functions = KERAS_2_FUNCTIONS if str(keras_version).startswith(("1", "2")) else KERAS_FUNCTIONS
    if not isinstance(name, str) or name not in functions:
        raise ValueError(f"the activation of a Keras layer must be one of {', '.join(functions)}, got {name!r}")
    return functions[name]


def config_from_keras(weights: Any, config: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return the options of an LSTM, and its dtype, from the weights and configuration of a Keras layer."""
    settings = _bidirectional_settings(config) if "layer" in config else dict(config)
    merge = settings.pop("bidirectional", None) or settings.pop("merge_mode", None)
    merge = "concat" if merge is True else merge
    forward, *_ = _split_directions(weights, bidirectional=merge is not None)
    version = settings.pop("keras_version", "3")
    options: dict[str, Any] = {
        "input_size": forward.inputs.shape[0],
        "hidden_size": forward.recurrent.shape[0],
        "bias": forward.bias is not None,
        "candidate_activation": activation_from_keras(settings.get("activation", "tanh"), version),
        "gate_activation": activation_from_keras(settings.pop("recurrent_activation", "sigmoid"), version),
    }
    options["output_activation"] = activation_from_keras(settings.pop("activation", "tanh"), version)
    units = settings.pop("units", options["hidden_size"])
    if units != options["hidden_size"]:
        raise ValueError(
            f"units must be the number of rows of the recurrent kernel, {options['hidden_size']}, got {units!r}"
        )
    zero_output_for_mask = settings.pop("zero_output_for_mask", False)
    if merge is None:
        options["masked_outputs"] = "zero" if zero_output_for_mask else "repeat"
        options["outputs_in"] = "processing" if settings.get("go_backwards") else "time"
    else:
        if settings.pop("go_backwards", False):
            raise ValueError("go_backwards of the forward layer of a Bidirectional must be False, got True")
        if merge not in tuple(KERAS_MERGES):
            raise ValueError(f"merge_mode must be one of {', '.join(KERAS_MERGES)}, got {merge!r}")
        options |= {"bidirectional": True, "merge": KERAS_MERGES[merge]}
    if settings.pop("time_major", False):
        raise ValueError("time_major must be False, got True: arrays are batch first")
    dtype = _keras_dtype(settings.pop("dtype", None), forward)
    for name, value in settings.items():
        if name in KERAS_OPTIONS:
            if name == "use_bias" and value != options["bias"]:
                contents = "contain a bias" if options["bias"] else "contain no bias"
                raise ValueError(f"use_bias must be {options['bias']}, since the weights {contents}, got {value!r}")
            options[KERAS_OPTIONS[name]] = value
        elif not KERAS_IGNORED.fullmatch(name):
            raise ValueError(f"the Keras setting {name}={value!r} is not supported")
    return options, dtype


def _bidirectional_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that both directions of a Bidirectional share, and its merge mode."""
    settings = dict(config)
    entries = [settings.pop("layer"), settings.pop("backward_layer", None)]
    directions: list[Mapping[str, Any]] = []
    for entry in filter(None, entries):
        class_name, layer = (
            (entry.get("class_name"), entry.get("config")) if isinstance(entry, Mapping) else (None,) * 2
        )
        if class_name not in ("LSTM", "CuDNNLSTM") or not isinstance(layer, Mapping):
            raise ValueError(f"the layer of a Bidirectional must be an 'LSTM', got {class_name!r}")
        directions.append(layer)
    return {**settings, **shared_settings(directions), "merge_mode": settings.get("merge_mode", "concat")}


def shared_settings(configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings that the forward and, if present, the backward LSTM share and that change their outputs.

    Raises
    ------
    ValueError
        If the forward LSTM has ``go_backwards``, or the backward one does not, or they differ in another setting.
    """
    for config, reverse in zip(configs, (False, True), strict=False):
        if config.get("go_backwards", reverse) != reverse:
            raise ValueError(f"go_backwards of {config.get('name', 'a layer')!r} must be {reverse}, got {not reverse}")
    ignored = {"go_backwards", "zero_output_for_mask", "dtype"}  # outputs of masked steps are 0 in both directions
    first, *_, last = [
        {
            name: value
            for name, value in config.items()
            if name in ("return_sequences", "return_state") or not (name in ignored or KERAS_IGNORED.fullmatch(name))
        }
        for config in (configs[0], *configs)
    ]
    if last != first:
        different = sorted(name for name in first.keys() | last.keys() if first.get(name) != last.get(name))
        raise ValueError(f"its directions must have the same settings, and differ in {', '.join(different)}")
    return first


def from_keras(weights: Any, parameters: Parameters, options: "LSTMConfig") -> None:
    """Copy the weights of a Keras layer into the parameters of an LSTM."""
    directions = _split_directions(weights, bidirectional=options.bidirectional)
    for (suffix, I, _), matrices in zip(options.directions, directions, strict=True):
        H = options.hidden_size
        expected = {"kernel": (I, 4 * H), "recurrent_kernel": (H, 4 * H)} | ({"bias": (4 * H,)} if options.bias else {})
        shapes = {name: array.shape for name, array in zip(NAMES, matrices, strict=True) if array is not None}
        check_shapes(shapes, expected)
        parameters[f"kernel{suffix}"][:] = decode(matrices, options.cell_config.gates, KERAS)


def from_cudnn(weights: Mapping[str, Array]) -> dict[str, Array]:
    """Convert the weights of a CuDNNLSTM to those of an LSTM, as Keras 2 does.

    cuDNN stores one matrix per gate in row-major order, (H, I) and (H, H), in arrays of the shapes (I, 4H) and (H, 4H),
    and two biases (4H,), whose sum counts, as one array (8H,).
    """
    kernel, recurrent, bias = (weights.get(name) for name in NAMES)
    if kernel is None or recurrent is None or bias is None or kernel.ndim != 2 or recurrent.ndim != 2:
        raise ValueError(f"a CuDNNLSTM must have the weights {', '.join(NAMES)}, got {', '.join(weights)}")
    (I, columns), H = kernel.shape, len(recurrent)
    if columns != 4 * H or recurrent.shape != (H, 4 * H) or bias.shape != (8 * H,):
        shapes = ", ".join(str(array.shape) for array in (kernel, recurrent, bias))
        raise ValueError(f"the weights of a CuDNNLSTM must have the shapes (I, 4H), (H, 4H) and (8H,), got {shapes}")
    return {
        "kernel": np.concatenate([gate.reshape(H, I).T for gate in np.split(kernel, 4, axis=1)], axis=1),
        "recurrent_kernel": np.concatenate([gate.T for gate in np.split(recurrent, 4, axis=1)], axis=1),
        "bias": bias[: 4 * H] + bias[4 * H :],
    }


def to_keras(parameters: Parameters, options: "LSTMConfig") -> list[Array]:
    """Return the weights of an LSTM of one layer in Keras' layout."""
    keras_config(options)
    weights: list[Array] = []
    for suffix, I, _ in options.directions:
        matrices = encode(options.kernel(parameters, suffix), I, options.cell_config.gates, KERAS, bias=options.bias)
        weights += [matrix for matrix in matrices if matrix is not None]
    return weights


def keras_config(options: "LSTMConfig") -> dict[str, Any]:
    """Return the settings of a ``keras.layers.LSTM`` that computes the same as one layer, except for its directions.

    Raises
    ------
    ValueError
        If Keras does not support an option, by its name.
    """
    for name, value in options.unsupported("keras").items():
        raise ValueError(f"a Keras LSTM does not support {name}={value!r}")
    if options.candidate_activation != options.output_activation:
        raise ValueError(
            "candidate_activation and output_activation must be the same for a Keras LSTM, got "
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
    spec = tuple(value for value in function if value is not None)
    for name, keras_spec in KERAS_FUNCTIONS.items():
        if keras_spec == spec:
            return name
    raise ValueError(f"Keras does not support the activation {spec}")


def _split_directions(weights: Any, *, bidirectional: bool) -> list[WeightMatrices]:
    """Return the matrices of each direction, from a list or from mappings by name."""
    num_directions = 2 if bidirectional else 1
    if isinstance(weights, Mapping):
        mappings = _direction_mappings(weights, bidirectional=bidirectional)
        weights = [array for mapping in mappings for array in _weight_list(mapping)]
    arrays = [check_weight(f"weight {k}", array) for k, array in enumerate(weights)]
    count = len(arrays) // num_directions
    if count not in (2, 3) or len(arrays) != count * num_directions:
        expected = "kernel, recurrent_kernel and optionally bias" + (", for each direction" if bidirectional else "")
        raise ValueError(f"weights must be {expected}, got {len(arrays)} weights")
    directions = []
    for k in range(num_directions):
        kernel, recurrent, *biases = arrays[k * count : (k + 1) * count]
        if kernel.ndim != 2 or recurrent.ndim != 2 or recurrent.shape[1] != 4 * recurrent.shape[0]:
            raise ValueError(
                f"kernel must have shape (I, 4H) and recurrent_kernel (H, 4H), got {kernel.shape} and {recurrent.shape}"
            )
        directions.append(WeightMatrices(kernel, recurrent, biases[0] if biases else None))
    return directions


def _direction_mappings(weights: Mapping[str, Any], *, bidirectional: bool) -> list[Mapping[str, Any]]:
    """Return the weights of each direction, by name."""
    if not bidirectional:
        return [weights]
    if set(weights) != {"forward", "backward"}:
        raise ValueError(f"the names of weights must be forward and backward, got {', '.join(map(str, weights))}")
    return [weights["forward"], weights["backward"]]


def _weight_list(weights: Mapping[str, Any]) -> list[Any]:
    if not {*NAMES[:2]} <= set(weights) <= {*NAMES}:
        raise ValueError(f"the names of weights must be {', '.join(NAMES)}, got {', '.join(map(str, weights))}")
    return [weights[name] for name in NAMES if name in weights]


def _keras_dtype(setting: Any, matrices: WeightMatrices) -> Any:
    if isinstance(setting, Mapping):  # a serialised policy
        setting = setting.get("config", {}).get("name", "float32")
    return common_dtype({"kernel": matrices.inputs}) if setting is None else setting
