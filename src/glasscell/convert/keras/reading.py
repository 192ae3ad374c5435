"""From the layers of a Keras model to ours.

A layer of Keras may become several: an LSTM that returns no sequences is one that does, and a FinalState behind it.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from glasscell.convert.codec import check_shapes
from glasscell.convert.codec import keras as codec
from glasscell.convert.keras.chain import Chain, KerasLayer, layer_of, mapping, shortened
from glasscell.convert.keras.weights import Weights
from glasscell.core.typing import Array
from glasscell.layers import LSTM, Dropout, Embedding, FinalState, Function, Linear, Masking, Pool
from glasscell.models.sequential import Layer, Sequential
from glasscell.validation import truth

# Functions that need not be elementwise, beside those of an LSTM.
FUNCTIONS: dict[str, tuple[Any, ...]] = {"softmax": ("Softmax",), "log_softmax": ("LogSoftmax",)}

# The settings of a layer that say nothing about what it computes.
PASSED_OVER = re.compile(
    r"name|trainable|dtype|seed|autocast|batch_shape|batch_input_shape|input_length|sparse|"
    r"(kernel|recurrent|bias|embeddings|activity)_(initializer|regularizer|constraint)"
)
POLICIES = {"float32", "float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16"}
POOLS = {"GlobalAveragePooling1D": "mean", "GlobalMaxPooling1D": "max"}


def model_of(chain: Chain, weights: list[Weights]) -> Sequential:
    """The model of a chain of Keras' layers, of float64 if any weight is."""
    arrays = [array for of_layer in weights for of_part in of_layer.values() for array in of_part.values()]
    reader = Reader(chain, np.result_type(np.float32, *(array.dtype for array in arrays)))
    for layer, of_layer in zip(chain.layers, weights, strict=True):
        try:
            reader.read(layer, of_layer)
        except (TypeError, ValueError) as error:
            raise ValueError(f"the layer {layer.name!r}: {error}") from None
    return Sequential([layer for _, layer in reader.layers], [name for name, _ in reader.layers])


class Reader:
    """Makes layers of ours, one after the other.

    Attributes
    ----------
    layers : list of (str, layer)
    masked : bool
        Whether steps may be masked here.
    timed : bool
        Whether there are steps here, or one vector a sequence.
    features : int, optional
        How many there are here, if that is known.
    """

    def __init__(self, chain: Chain, dtype: np.dtype[np.floating]) -> None:
        self.layers: list[tuple[str, Layer]] = []
        self.version, self.dtype = chain.version, dtype
        self.names = {layer.name for layer in chain.layers}
        shape = chain.input_shape
        symbols = chain.layers[0].kind == "Embedding"
        self.masked, self.timed = False, symbols or shape is None or len(shape) != 2
        self.features = None if symbols or not shape else shape[-1]

    def read(self, layer: KerasLayer, weights: Weights) -> None:
        """Add what a layer of Keras is."""
        _check_policy(layer.config.get("dtype"))
        kind = layer.kind
        if kind in ("LSTM", "Bidirectional"):
            self.lstm(layer, weights)
        elif kind in ("Dense", "TimeDistributed"):
            self.dense(layer, weights)
        elif kind == "Embedding":
            self.embedding(layer, weights)
        elif kind in POOLS or kind == "Masking":
            self.over_steps(layer)
        else:
            self.add(layer, pointwise(layer, self.version, masked=self.masked))

    def add(self, layer: KerasLayer, ours: Layer, what: str = "") -> None:
        """Add a layer of ours: the one of Keras, or `what` of it is besides."""
        name = f"{layer.name}_{what}" if what else layer.name
        while what and name in self.names:
            name += "_"
        self.names.add(name)
        self.layers.append((name, ours))

    def takes(self, features: int) -> None:
        """That the input gives so many features; between layers Sequential sees to it."""
        if self.features not in (None, features):
            raise ValueError(f"its weights are for {features} features, and it is given {self.features}")
        self.features = None

    def lstm(self, layer: KerasLayer, weights: Weights) -> None:
        """An LSTM, in one direction or both."""
        if not self.timed:
            raise ValueError("it takes sequences, and what stands before it gives none")
        two = layer.kind == "Bidirectional"
        config, merge = _bidirectional(layer) if two else (dict(layer.config), "")
        config.pop("dtype", None)
        sequences = truth("return_sequences", config.pop("return_sequences", False))
        config.pop("return_state", None)
        given = {**config, "keras_version": self.version}
        if two:
            arrays: Any = [array for part in ("forward", "backward") for array in _ordered(weights[part])]
            given["bidirectional"] = merge if sequences else "concat"
        else:
            arrays = _ordered(weights[""])
            zero = truth("zero_output_for_mask", config.get("zero_output_for_mask", False))
            if self.masked and zero and not sequences:
                raise ValueError(
                    "with zero_output_for_mask and without return_sequences Keras gives 0 for a sequence that ends "
                    "masked, which cannot be represented"
                )
        options, _ = codec.keras_options(arrays, given)
        self.takes(options["input_size"])
        back = not two and options.get("reverse", False)
        if not sequences:
            options["outputs_in"] = "time"
        ours = LSTM(**options, dtype=self.dtype, seed=None)
        codec.from_keras(arrays, ours.parameters, ours.options)
        self.add(layer, ours)
        if not sequences:
            final: dict[str, Any] = {"directions": "reverse" if back else "forward"}
            if two:
                final = {"directions": "both", "merge": codec.KERAS_MERGES[merge]}
            self.add(layer, FinalState(**final), "final")
            self.masked = self.timed = False

    def dense(self, layer: KerasLayer, weights: Weights) -> None:
        """A Dense, also of every step, and its activation."""
        config = settings(layer, "layer") if layer.kind == "TimeDistributed" else layer.config
        if layer.kind == "TimeDistributed":
            if not self.timed:
                raise ValueError("it takes sequences, and what stands before it gives none")
            wrapped = layer_of(config.get("layer"))
            _check_policy(wrapped.config.get("dtype"))
            config = wrapped.config
        config = settings(KerasLayer("Dense", layer.name, config), "units", "activation", "use_bias")
        kernel, bias = weights[""].get("kernel"), weights[""].get("bias")
        if kernel is None or kernel.ndim != 2:
            raise ValueError(f"it has no kernel of two axes, but {_shapes(weights)}")
        I, O = kernel.shape
        config = {"units": O, "use_bias": True, **config}
        shapes: dict[str, tuple[int, ...]] = {"kernel": (I, config["units"])}
        if truth("use_bias", config["use_bias"]):
            shapes["bias"] = (config["units"],)
        check_shapes(_shapes(weights), shapes)
        self.takes(I)
        ours = Linear(I, O, bias=bias is not None, dtype=self.dtype)
        ours.parameters["weight"][:] = kernel.T
        if bias is not None:
            ours.parameters["bias"][:] = bias
        self.add(layer, ours)
        function = function_of(config.get("activation"), self.version)
        if function is not None:
            self.add(layer, function, "activation")

    def embedding(self, layer: KerasLayer, weights: Weights) -> None:
        """An Embedding."""
        table = weights[""].get("embeddings")
        if table is None or table.ndim != 2:
            raise ValueError(f"it has no embeddings of two axes, but {_shapes(weights)}")
        V, E = table.shape
        found = settings(layer, "input_dim", "output_dim", "mask_zero")
        config = {"input_dim": V, "output_dim": E, "mask_zero": False, **found}
        check_shapes(_shapes(weights), {"embeddings": (config["input_dim"], config["output_dim"])})
        self.masked = truth("mask_zero", config["mask_zero"])
        ours = Embedding(V, E, mask_zero=self.masked, dtype=self.dtype)
        ours.parameters["weight"][:] = table
        self.add(layer, ours)

    def over_steps(self, layer: KerasLayer) -> None:
        """A Masking or a pooling."""
        if not self.timed:
            raise ValueError("it takes sequences, and what stands before it gives none")
        if layer.kind == "Masking":
            value = _number("mask_value", settings(layer, "mask_value"), 0.0)
            if self.masked:
                raise ValueError("steps are masked already, and Keras would forget which: this cannot be represented")
            self.masked = True
            self.add(layer, Masking(value))
            return
        config = settings(layer, "data_format", "keepdims")
        if config.get("keepdims") or config.get("data_format") not in (None, "channels_last"):
            raise ValueError("only features as the last axis can be pooled over time, and keepdims=False")
        if self.masked and layer.kind == "GlobalMaxPooling1D":
            raise ValueError("Keras' maximum is over masked steps, too, which cannot be represented")
        self.masked = self.timed = False
        self.add(layer, Pool("max" if layer.kind == "GlobalMaxPooling1D" else "mean"))


def pointwise(layer: KerasLayer, version: str, *, masked: bool) -> Function | Dropout:
    """A layer that looks at one place at a time."""
    if layer.kind == "Dropout":
        config = settings(layer, "rate", "noise_shape")
        if config.get("noise_shape") is not None:
            raise ValueError(f"noise_shape {shortened(config['noise_shape'])} cannot be represented")
        return Dropout(config.get("rate", 0.0))
    if layer.kind == "Activation":
        return function_of(settings(layer, "activation").get("activation"), version) or Function("Affine", 1.0, 0.0)
    if layer.kind == "Softmax":
        axis = settings(layer, "axis").get("axis", -1)
        if axis not in (-1, [-1]) or masked:
            raise ValueError("only a Softmax over features (axis=-1), of steps that are not masked, can be represented")
        return Function("Softmax")
    if layer.kind == "ReLU":
        config = settings(layer, "max_value", "negative_slope", "threshold")
        if config.get("max_value") is not None or config.get("threshold"):
            raise ValueError("max_value and threshold of a ReLU cannot be represented")
        slope = _number("negative_slope", config, 0.0)
        return Function("LeakyRelu", slope) if slope else Function("Relu")
    if layer.kind == "LeakyReLU":
        config = settings(layer, "negative_slope", "alpha")  # the second in Keras 2
        return Function("LeakyRelu", _number("alpha" if "alpha" in config else "negative_slope", config, 0.3))
    return Function("Elu", _number("alpha", settings(layer, "alpha"), 1.0))


def function_of(activation: Any, version: str) -> Function | None:
    """The function that an activation is; None for the one that changes nothing."""
    if isinstance(activation, str) and activation in FUNCTIONS:
        return Function(*FUNCTIONS[activation])
    parts = codec.keras_function(activation, version)
    return None if parts == ("Affine", 1.0, 0.0) else Function(*parts)


def settings(layer: KerasLayer, *known: str) -> dict[str, Any]:
    """The settings of a layer, if these are all that say what it computes."""
    for name, value in layer.config.items():
        if name not in known and value is not None and not PASSED_OVER.fullmatch(name):
            raise ValueError(f"the setting {name}={shortened(value)} of Keras cannot be represented")
    return layer.config


def _bidirectional(layer: KerasLayer) -> tuple[dict[str, Any], str]:
    """The settings of the LSTM that runs both ways, and the way in which its outputs become one."""
    config = settings(layer, "merge_mode", "layer", "backward_layer")
    merge = config.get("merge_mode", "concat")
    if not isinstance(merge, str) or merge not in codec.KERAS_MERGES:
        raise ValueError(f"merge_mode {shortened(merge)} cannot be represented; known are concat, sum, ave and mul")
    ways = [layer_of(entry) for entry in (config.get("layer"), config.get("backward_layer")) if entry is not None]
    for way in ways:
        if way.kind != "LSTM":
            raise ValueError(f"its layer {way.name!r} is a {way.kind}; expected an LSTM")
        _check_policy(way.config.get("dtype"))
    return codec.shared_settings([way.config for way in ways]), merge


def _ordered(weights: Mapping[str, Array]) -> list[Array]:
    """The weights of one direction in Keras' order."""
    for name in ("kernel", "recurrent_kernel"):
        if name not in weights:
            raise ValueError(f"it has no {name}")
    return [weights[name] for name in ("kernel", "recurrent_kernel", "bias") if name in weights]


def _number(name: str, config: Mapping[str, Any], default: float) -> float:
    """A setting that is a number."""
    value = default if config.get(name) is None else config[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ValueError(f"{name} should be a finite number, and is {shortened(value)}")
    return float(value)


def _shapes(weights: Weights) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in weights[""].items()}


def _check_policy(dtype: Any) -> None:
    """Refuse numbers that are no floats: a quantized layer computes something else."""
    name = dtype
    if isinstance(dtype, Mapping):
        name = mapping(dtype.get("config"), "a dtype policy").get("name")
    if name is not None and not (isinstance(name, str) and name in POLICIES):
        raise ValueError(f"the dtype {shortened(dtype)} cannot be represented; known are {', '.join(sorted(POLICIES))}")
