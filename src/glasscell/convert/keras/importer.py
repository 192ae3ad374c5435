"""From the layers of a Keras model to ours.

A layer of Keras may become several: an LSTM that returns no sequences is one that does, and a FinalState behind it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from glasscell.convert.keras import cell_stacks
from glasscell.convert.keras.architecture import KerasLayer, KerasSequential, layer_of, mapping, shortened
from glasscell.convert.keras.kinds import PASSED_OVER, WRAPPED
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
from glasscell.weight_layouts import keras as codec

POLICIES = {"float32", "float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16"}
SYMBOLS = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}  # of the input of an Embedding
POOLS = {"GlobalAveragePooling1D": "mean", "GlobalMaxPooling1D": "max"}


def model_of(chain: KerasSequential, weights: list[Weights]) -> Sequential:
    """The model of a chain of Keras' layers, of float64 if any weight is."""
    arrays = [array for of_layer in weights for of_part in of_layer.values() for array in of_part.values()]
    reader = Importer(chain, np.result_type(np.float32, *(array.dtype for array in arrays)))
    for layer, of_layer in zip(chain.layers, weights, strict=True):
        try:
            reader.read(layer, of_layer)
        except (TypeError, ValueError) as error:
            raise ValueError(f"the layer {layer.name!r}: {error}") from None
    return Sequential([layer for _, layer in reader.layers], [name for name, _ in reader.layers], seed=None)


class Importer:
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

    def __init__(self, chain: KerasSequential, dtype: np.dtype[np.floating]) -> None:
        self.layers: list[tuple[str, Layer]] = []
        self.version, self.dtype = chain.version, dtype
        self.names = {layer.name for layer in chain.layers}
        shape = chain.input_shape
        symbols = chain.layers[0].kind == "Embedding"
        self.masked, self.timed = False, symbols or shape is None or len(shape) != 2
        self.features = None if symbols or not shape else shape[-1]

    def read(self, layer: KerasLayer, weights: Weights) -> None:
        """Add what a layer of Keras is."""
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
            self.over_steps(layer)
        elif kind == "Conv1D":
            self.convolution(layer, weights)
        elif kind in ("BatchNormalization", "LayerNormalization"):
            normalized = normalization(layer, weights, self.dtype, self.features, timed=self.timed)
            self.takes(normalized.size)
            self.add(layer, normalized)
        elif kind == "Normalization":
            self.add(layer, fixed_normalization(layer, weights))
        elif kind not in PASSED_OVER:
            self.others(layer)

    def others(self, layer: KerasLayer) -> None:
        """A layer without weights."""
        if layer.kind == "Flatten" and not self.timed:
            settings(layer, data_format="channels_last")
            return  # of one vector there is nothing to flatten
        ours = stateless(layer, self.version, masked=self.masked)
        if ours.takes == "sequence":
            self.check_timed()
        if ours.takes == "vector" and self.timed:
            raise ValueError("its input must be one vector per sequence, got one per step")
        if layer.kind in ("MaxPooling1D", "AveragePooling1D", "Flatten"):
            self.masked = False  # these take all steps, and Keras loses the mask there
        self.timed = {"sequence": True, "vector": False, "same": self.timed}[ours.gives]
        self.add(layer, ours)

    def check_timed(self) -> None:
        """Refuse a layer that takes sequences where there are none."""
        if not self.timed:
            raise ValueError("its input must be a sequence, got one vector per sequence")

    def add(self, layer: KerasLayer, ours: Layer, what: str = "") -> None:
        """Add a layer of ours: the one of Keras, or `what` of it is besides."""
        name = f"{layer.name}_{what}" if what else layer.name
        while what and name in self.names:
            name += "_"
        self.names.add(name)
        self.layers.append((name, ours))
        if isinstance(ours, Embedding):
            self.features = ours.embedding_size
        elif isinstance(ours, LSTM | Linear):
            self.features = ours.output_size
        else:
            self.features = ours.output_features(self.features)

    def takes(self, features: int) -> None:
        """Refuse weights for another number of features than there are."""
        if self.features not in (None, features):
            raise ValueError(f"its weights are for {features} features, and its input has {self.features}")

    def lstm(self, layer: KerasLayer, weights: Weights) -> None:
        """An LSTM, in one direction or both."""
        self.check_timed()
        two = layer.kind == "Bidirectional"
        config, merge = _bidirectional(layer) if two else (dict(layer.config), "")
        if layer.kind == "CuDNNLSTM" or (two and layer_of(layer.config["layer"]).kind == "CuDNNLSTM"):
            weights = {part: codec.from_cudnn(of_part) for part, of_part in weights.items()}
        config.pop("dtype", None)
        sequences = boolean("return_sequences", config.pop("return_sequences", False))
        config.pop("return_state", None)
        given = {**config, "keras_version": self.version}
        if two:
            arrays: Any = [array for part in ("forward", "backward") for array in _ordered(weights[part])]
            given["bidirectional"] = merge if sequences else "concat"
        else:
            arrays = _ordered(weights[""])
            zero = boolean("zero_output_for_mask", config.get("zero_output_for_mask", False))
            if self.masked and zero and not sequences:
                raise ValueError(
                    "with zero_output_for_mask and without return_sequences Keras gives 0 for a sequence that ends "
                    "masked, which cannot be represented"
                )
        options, _ = codec.config_from_keras(arrays, given)
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

    def cell_stack(self, layer: KerasLayer, kind: str, weights: Weights) -> None:
        """A SimpleRNN or a GRU, in one direction or both."""
        self.check_timed()
        config, merge = _bidirectional(layer) if layer.kind == "Bidirectional" else (layer.config, "")
        found, sequences = cell_stacks.from_keras(kind, config, merge, weights, self.version, masked=self.masked)
        self.takes(found.input_size)
        ours = type(found)(**found.config, dtype=self.dtype, seed=None)
        ours.parameters.vector[:] = found.parameters.vector
        self.add(layer, ours)
        if not sequences:
            both = {"directions": "both", "merge": codec.KERAS_MERGES[merge]} if merge else {"directions": "forward"}
            self.add(layer, FinalState(**both), "final")  # type: ignore[arg-type] # one of the literals
            self.masked = self.timed = False

    def dense(self, layer: KerasLayer, weights: Weights) -> None:
        """A Dense, also of every step, and its activation."""
        config = settings(layer, "layer") if layer.kind == "TimeDistributed" else layer.config
        if layer.kind == "TimeDistributed":
            self.check_timed()
            wrapped = layer_of(config.get("layer"))
            _check_policy(wrapped)
            config = wrapped.config
        config = settings(KerasLayer("Dense", layer.name, config), "units", "activation", "use_bias")
        kernel, bias = weights[""].get("kernel"), weights[""].get("bias")
        if kernel is None or kernel.ndim != 2:
            raise ValueError(f"it has no kernel of two axes, but {shapes(weights)}")
        I, O = kernel.shape
        config = {"units": O, "use_bias": True, **config}
        expected: dict[str, tuple[int, ...]] = {"kernel": (I, config["units"])}
        if boolean("use_bias", config["use_bias"]):
            expected["bias"] = (config["units"],)
        check_shapes(shapes(weights), expected)
        self.takes(I)
        ours = Linear(I, O, bias=bias is not None, dtype=self.dtype, seed=None)
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
            raise ValueError(f"it has no embeddings of two axes, but {shapes(weights)}")
        V, E = table.shape
        found = settings(layer, "input_dim", "output_dim", "mask_zero")
        config = {"input_dim": V, "output_dim": E, "mask_zero": False, **found}
        check_shapes(shapes(weights), {"embeddings": (config["input_dim"], config["output_dim"])})
        self.masked = boolean("mask_zero", config["mask_zero"])
        ours = Embedding(V, E, mask_zero=self.masked, dtype=self.dtype, seed=None)
        ours.parameters["weight"][:] = table
        self.add(layer, ours)

    def convolution(self, layer: KerasLayer, weights: Weights) -> None:
        """A Conv1D, and its activation."""
        self.check_timed()
        ours = convolution(layer, weights, self.dtype, masked=self.masked)
        self.takes(ours.input_size)
        self.masked = False  # it takes all steps, and Keras loses the mask there
        self.add(layer, ours)
        function = function_of(layer.config.get("activation"), self.version)
        if function is not None:
            self.add(layer, function, "activation")

    def over_steps(self, layer: KerasLayer) -> None:
        """A Masking or a pooling."""
        self.check_timed()
        if layer.kind == "Masking":
            value = number("mask_value", settings(layer, "mask_value"), 0.0)
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


def _bidirectional(layer: KerasLayer) -> tuple[dict[str, Any], str]:
    """The settings of the LSTM that runs both ways, and the way in which its outputs become one."""
    config = settings(layer, "merge_mode", "layer", "backward_layer")
    merge = config.get("merge_mode", "concat")
    if not isinstance(merge, str) or merge not in codec.KERAS_MERGES:
        raise ValueError(f"merge_mode {shortened(merge)} cannot be represented; known are concat, sum, ave and mul")
    ways = [layer_of(entry) for entry in (config.get("layer"), config.get("backward_layer")) if entry is not None]
    for way in ways:
        if way.kind not in WRAPPED["Bidirectional"] or way.kind != ways[0].kind:
            raise ValueError(f"its layer {way.name!r} is a {way.kind}; expected an LSTM")
        _check_policy(way)
    return codec.shared_settings([way.config for way in ways]), merge


def _ordered(weights: Mapping[str, Array]) -> list[Array]:
    """The weights of one direction in Keras' order."""
    for name in ("kernel", "recurrent_kernel"):
        if name not in weights:
            raise ValueError(f"it has no {name}")
    return [weights[name] for name in ("kernel", "recurrent_kernel", "bias") if name in weights]


def _check_policy(layer: KerasLayer) -> None:
    """Refuse numbers that are no floats: a quantized layer computes something else."""
    name = dtype = layer.config.get("dtype")
    if isinstance(dtype, Mapping):
        name = mapping(dtype.get("config"), "a dtype policy").get("name")
    known = POLICIES | (SYMBOLS if layer.kind == "Embedding" else set())  # Keras 2.0 wrote that of its input
    if name is not None and not (isinstance(name, str) and name in known):
        what = "quantized: its " if isinstance(name, str) and "int" in name else "the "
        raise ValueError(
            f"{what}dtype {shortened(dtype)} cannot be represented; known are {', '.join(sorted(POLICIES))}"
        )
