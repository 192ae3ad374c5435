"""Convert the layers of a Keras model.

A Keras layer may become several layers: an LSTM without return_sequences becomes an LSTM and a FinalState.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from glasscell.convert.keras import cell_stacks
from glasscell.convert.keras.architecture import KerasLayer, KerasSequential, layer_of
from glasscell.convert.keras.json_values import mapping, shorten
from glasscell.convert.keras.kinds import IGNORED, WRAPPED
from glasscell.convert.keras.stateless import (
    function_of,
    number,
    settings,
    stateless,
)
from glasscell.convert.keras.weighted import convolution, fixed_normalization, normalization, shapes
from glasscell.convert.keras.weights import Weights
from glasscell.core.types import Array
from glasscell.layers import (
    LSTM,
    Embedding,
    FinalState,
    Linear,
    Masking,
    Pool,
)
from glasscell.models.sequential import Layer, Sequential
from glasscell.validation import boolean
from glasscell.weight_layouts import check_shapes
from glasscell.weight_layouts import keras as keras_layout

POLICIES = {"float32", "float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16"}
ID_DTYPES = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}  # of the input of an Embedding
POOLS = {"GlobalAveragePooling1D": "mean", "GlobalMaxPooling1D": "max"}


def import_model(chain: KerasSequential, weights: list[Weights]) -> Sequential:
    """Return the model of a sequence of Keras layers, in float64 if any weight is float64."""
    arrays = [array for layer_weights in weights for by_name in layer_weights.values() for array in by_name.values()]
    importer = Importer(chain, np.result_type(np.float32, *(array.dtype for array in arrays)))
    for layer, layer_weights in zip(chain.layers, weights, strict=True):
        try:
            importer.read(layer, layer_weights)
        except (TypeError, ValueError) as error:
            raise ValueError(f"the layer {layer.name!r}: {error}") from None
    return Sequential([layer for _, layer in importer.layers], [name for name, _ in importer.layers], seed=None)


class Importer:
    """Converts Keras layers in order.

    Attributes
    ----------
    layers : list of (str, layer)
    masked : bool
        Whether steps may be masked before the next layer.
    timed : bool
        Whether there is an axis of steps. False: one vector per sequence.
    features : int, optional
        Number of features, if it is known.
    """

    def __init__(self, chain: KerasSequential, dtype: np.dtype[np.floating]) -> None:
        self.layers: list[tuple[str, Layer]] = []
        self.version, self.dtype = chain.version, dtype
        self.names = {layer.name for layer in chain.layers}
        shape = chain.input_shape
        has_ids = chain.layers[0].kind == "Embedding"
        self.masked, self.timed = False, has_ids or shape is None or len(shape) != 2
        self.features = None if has_ids or not shape else shape[-1]

    def read(self, layer: KerasLayer, weights: Weights) -> None:
        """Add the layers of a Keras layer."""
        _check_policy(layer)
        kind = layer.kind
        recurrent = layer_of(layer.config.get("layer")).kind if kind == "Bidirectional" else kind
        if recurrent in cell_stacks.CLASSES:
            self.cell_stack(layer, recurrent, weights)
        elif recurrent in ("LSTM", "CuDNNLSTM"):
            self.lstm(layer, weights)
        elif kind in ("Dense", "TimeDistributed"):
            self.dense(layer, weights)
        elif kind == "Embedding":
            self.embedding(layer, weights)
        elif kind in POOLS or kind == "Masking":
            self.masking_or_pooling(layer)
        elif kind == "Conv1D":
            self.convolution(layer, weights)
        elif kind in ("BatchNormalization", "LayerNormalization"):
            normalized = normalization(layer, weights, self.dtype, self.features, timed=self.timed)
            self.check_input_features(normalized.size)
            self.add(layer, normalized)
        elif kind == "Normalization":
            self.add(layer, fixed_normalization(layer, weights))
        elif kind not in IGNORED:
            self.stateless_layer(layer)

    def stateless_layer(self, layer: KerasLayer) -> None:
        """Add a layer without weights."""
        if layer.kind == "Flatten" and not self.timed:
            settings(layer, data_format="channels_last")
            return  # one vector is already flat
        converted = stateless(layer, self.version, masked=self.masked)
        if converted.takes == "sequence":
            self.check_timed()
        if converted.takes == "vector" and self.timed:
            raise ValueError("its input must be one vector per sequence, got one per step")
        if layer.kind in ("MaxPooling1D", "AveragePooling1D", "Flatten"):
            self.masked = False  # these process all steps, and Keras drops the mask
        self.timed = {"sequence": True, "vector": False, "same": self.timed}[converted.gives]
        self.add(layer, converted)

    def check_timed(self) -> None:
        """Raise ValueError if there is no axis of steps."""
        if not self.timed:
            raise ValueError("its input must be a sequence, got one vector per sequence")

    def add(self, layer: KerasLayer, converted: Layer, suffix: str = "") -> None:
        """Add a layer, under the name of the Keras layer, with `suffix` if it is not its first one."""
        name = f"{layer.name}_{suffix}" if suffix else layer.name
        while suffix and name in self.names:
            name += "_"
        self.names.add(name)
        self.layers.append((name, converted))
        if isinstance(converted, Embedding):
            self.features = converted.embedding_size
        elif isinstance(converted, LSTM | Linear):
            self.features = converted.output_size
        else:
            self.features = converted.output_features(self.features)

    def check_input_features(self, features: int) -> None:
        """Raise ValueError if the weights are for another number of features."""
        if self.features not in (None, features):
            raise ValueError(f"its weights must be for {self.features} features, got {features}")

    def lstm(self, layer: KerasLayer, weights: Weights) -> None:
        """Add an LSTM or a Bidirectional."""
        self.check_timed()
        bidirectional = layer.kind == "Bidirectional"
        config, merge = _bidirectional(layer) if bidirectional else (dict(layer.config), "")
        if layer.kind == "CuDNNLSTM" or (bidirectional and layer_of(layer.config["layer"]).kind == "CuDNNLSTM"):
            weights = {part: keras_layout.from_cudnn(by_name) for part, by_name in weights.items()}
        config.pop("dtype", None)
        sequences = boolean("return_sequences", config.pop("return_sequences", False))
        config.pop("return_state", None)
        layer_config = {**config, "keras_version": self.version}
        if bidirectional:
            arrays: Any = [array for part in ("forward", "backward") for array in _ordered(weights[part])]
            layer_config["bidirectional"] = merge if sequences else "concat"
        else:
            arrays = _ordered(weights[""])
            zero = boolean("zero_output_for_mask", config.get("zero_output_for_mask", False))
            if self.masked and zero and not sequences:
                raise ValueError(
                    "with zero_output_for_mask and without return_sequences Keras gives 0 for a sequence that ends "
                    "masked, which cannot be represented"
                )
        options, _ = keras_layout.config_from_keras(arrays, layer_config)
        self.check_input_features(options["input_size"])
        reverse = not bidirectional and options.get("reverse", False)
        if not sequences:
            options["outputs_in"] = "time"
        converted = LSTM(**options, dtype=self.dtype, seed=None)
        keras_layout.from_keras(arrays, converted.parameters, converted.options)
        self.add(layer, converted)
        if not sequences:
            final: dict[str, Any] = {"directions": "reverse" if reverse else "forward"}
            if bidirectional:
                final = {"directions": "both", "merge": keras_layout.KERAS_MERGES[merge]}
            self.add(layer, FinalState(**final), "final")
            self.masked = self.timed = False

    def cell_stack(self, layer: KerasLayer, kind: str, weights: Weights) -> None:
        """Add a SimpleRNN or a GRU, or a Bidirectional of one."""
        self.check_timed()
        config, merge = _bidirectional(layer) if layer.kind == "Bidirectional" else (layer.config, "")
        stack, sequences = cell_stacks.from_keras(kind, config, merge, weights, self.version, masked=self.masked)
        self.check_input_features(stack.input_size)
        converted = type(stack)(**stack.config, dtype=self.dtype, seed=None)
        converted.parameters.vector[:] = stack.parameters.vector
        self.add(layer, converted)
        if not sequences:
            merged_state = (
                {"directions": "both", "merge": keras_layout.KERAS_MERGES[merge]}
                if merge
                else {"directions": "forward"}
            )
            self.add(layer, FinalState(**merged_state), "final")  # type: ignore[arg-type] # one of the literals
            self.masked = self.timed = False

    def dense(self, layer: KerasLayer, weights: Weights) -> None:
        """Add a Dense, or a TimeDistributed of one, and its activation."""
        config = settings(layer, "layer") if layer.kind == "TimeDistributed" else layer.config
        if layer.kind == "TimeDistributed":
            self.check_timed()
            wrapped = layer_of(config.get("layer"))
            _check_policy(wrapped)
            config = wrapped.config
        config = settings(KerasLayer("Dense", layer.name, config), "units", "activation", "use_bias")
        kernel, bias = weights[""].get("kernel"), weights[""].get("bias")
        if kernel is None or kernel.ndim != 2:
            raise ValueError(f"it has no kernel of bidirectional axes, but {shapes(weights)}")
        I, O = kernel.shape
        config = {"units": O, "use_bias": True, **config}
        expected: dict[str, tuple[int, ...]] = {"kernel": (I, config["units"])}
        if boolean("use_bias", config["use_bias"]):
            expected["bias"] = (config["units"],)
        check_shapes(shapes(weights), expected)
        self.check_input_features(I)
        converted = Linear(I, O, bias=bias is not None, dtype=self.dtype, seed=None)
        converted.parameters["weight"][:] = kernel.T
        if bias is not None:
            converted.parameters["bias"][:] = bias
        self.add(layer, converted)
        function = function_of(config.get("activation"), self.version)
        if function is not None:
            self.add(layer, function, "activation")

    def embedding(self, layer: KerasLayer, weights: Weights) -> None:
        """Add an Embedding."""
        table = weights[""].get("embeddings")
        if table is None or table.ndim != 2:
            raise ValueError(f"it has no embeddings of bidirectional axes, but {shapes(weights)}")
        V, E = table.shape
        explicit = settings(layer, "input_dim", "output_dim", "mask_zero")
        config = {"input_dim": V, "output_dim": E, "mask_zero": False, **explicit}
        check_shapes(shapes(weights), {"embeddings": (config["input_dim"], config["output_dim"])})
        self.masked = boolean("mask_zero", config["mask_zero"])
        converted = Embedding(V, E, mask_zero=self.masked, dtype=self.dtype, seed=None)
        converted.parameters["weight"][:] = table
        self.add(layer, converted)

    def convolution(self, layer: KerasLayer, weights: Weights) -> None:
        """Add a Conv1D and its activation."""
        self.check_timed()
        converted = convolution(layer, weights, self.dtype, masked=self.masked)
        self.check_input_features(converted.input_size)
        self.masked = False  # it processes all steps, and Keras drops the mask
        self.add(layer, converted)
        function = function_of(layer.config.get("activation"), self.version)
        if function is not None:
            self.add(layer, function, "activation")

    def masking_or_pooling(self, layer: KerasLayer) -> None:
        """Add a Masking or a global pooling."""
        self.check_timed()
        if layer.kind == "Masking":
            value = number("mask_value", settings(layer, "mask_value"), 0.0)
            if self.masked:
                raise ValueError("a second Masking is unsupported: Keras drops the first mask")
            self.masked = True
            self.add(layer, Masking(value))
            return
        config = settings(layer, "data_format", "keepdims")
        if config.get("keepdims") or config.get("data_format") not in (None, "channels_last"):
            raise ValueError("data_format must be channels_last and keepdims False")
        if self.masked and layer.kind == "GlobalMaxPooling1D":
            raise ValueError("a GlobalMaxPooling1D of masked steps is unsupported: Keras includes them in the maximum")
        self.masked = self.timed = False
        self.add(layer, Pool("max" if layer.kind == "GlobalMaxPooling1D" else "mean"))


def _bidirectional(layer: KerasLayer) -> tuple[dict[str, Any], str]:
    """Return the settings of the LSTM in a Bidirectional, and the merge mode."""
    config = settings(layer, "merge_mode", "layer", "backward_layer")
    merge = config.get("merge_mode", "concat")
    if not isinstance(merge, str) or merge not in keras_layout.KERAS_MERGES:
        raise ValueError(f"merge_mode must be concat, sum, ave or mul, got {shorten(merge)}")
    directions = [layer_of(entry) for entry in (config.get("layer"), config.get("backward_layer")) if entry is not None]
    for direction in directions:
        if direction.kind not in WRAPPED["Bidirectional"] or direction.kind != directions[0].kind:
            raise ValueError(f"its layer {direction.name!r} is a {direction.kind}; expected an LSTM")
        _check_policy(direction)
    return keras_layout.shared_settings([direction.config for direction in directions]), merge


def _ordered(weights: Mapping[str, Array]) -> list[Array]:
    """Return the weights of one direction in Keras' order."""
    for name in ("kernel", "recurrent_kernel"):
        if name not in weights:
            raise ValueError(f"it has no {name}")
    return [weights[name] for name in ("kernel", "recurrent_kernel", "bias") if name in weights]


def _check_policy(layer: KerasLayer) -> None:
    """Raise ValueError for dtypes that are not floating-point: a quantized layer computes other outputs."""
    name = dtype = layer.config.get("dtype")
    if isinstance(dtype, Mapping):
        name = mapping(dtype.get("config"), "a dtype policy").get("name")
    supported = POLICIES | (ID_DTYPES if layer.kind == "Embedding" else set())  # Keras 2.0 wrote that of its input
    if name is not None and not (isinstance(name, str) and name in supported):
        what = "quantized: its " if isinstance(name, str) and "int" in name else "the "
        raise ValueError(
            f"{what}dtype {shorten(dtype)} cannot be represented; supported are {', '.join(sorted(POLICIES))}"
        )
