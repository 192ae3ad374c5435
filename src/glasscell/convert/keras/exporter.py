"""From our layers to those of a Keras model: the way back of :mod:`glasscell.convert.keras.importer`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from glasscell.convert.keras import cell_stacks
from glasscell.convert.keras.architecture import KerasLayer, KerasSequential
from glasscell.convert.keras.file_writer import ExportedLayers
from glasscell.convert.keras.importer import POOLS
from glasscell.convert.keras.kinds import LSTM_WEIGHTS
from glasscell.convert.keras.weights import Weights
from glasscell.convert.keras.writing_layers import OVER_ALL_STEPS, export_layer, function, input_features, input_steps
from glasscell.core.types import Array
from glasscell.layers import LSTM, Embedding, FinalState, Function, Linear, Masking, Pool, Step
from glasscell.layers.cell_stack import CellStack
from glasscell.models.sequential import Layer
from glasscell.recurrent.config import LSTMConfig
from glasscell.weight_layouts import KERAS, encode
from glasscell.weight_layouts import keras as keras_layout

VERSION = "3.15.1"  # the Keras whose files these are like


def export_layers(names: Sequence[str], layers: Sequence[Layer]) -> ExportedLayers:
    """Return equivalent Keras layers, each with its weights.

    Raises
    ------
    ValueError
        If Keras does not support a layer or option, by its name.
    """
    exporter = Exporter(names, layers)
    while exporter.index < len(layers):
        name = names[exporter.index]
        try:
            exporter.write()
        except ValueError as error:
            raise ValueError(f"the layer {name!r}: {error}") from None
    return exporter.exported


def exported_model(exported: ExportedLayers, layers: Sequence[Layer]) -> KerasSequential:
    """Return the model of Keras layers with its input shape: batch, steps, and features unless inputs are ids."""
    features, steps = input_features(layers), input_steps(layers)
    shape = (None, steps) if isinstance(layers[0], Embedding) else (None, steps, features)
    return KerasSequential(tuple(layer for layer, _ in exported), VERSION, shape)


class Exporter:
    """Creates Keras layers in order.

    Attributes
    ----------
    described : list of (KerasLayer, weights)
    index : int
        Index of the next layer to export.
    masked : bool
        Whether steps may be masked here.
    """

    def __init__(self, names: Sequence[str], layers: Sequence[Layer]) -> None:
        self.names, self.layers = names, layers
        self.exported: ExportedLayers = []
        self.index, self.masked = 0, False
        self.used_names: set[str] = set()

    def write(self) -> None:
        """Add the Keras layer of the next layer, together with later ones that Keras combines with it."""
        name, layer = self.names[self.index], self.layers[self.index]
        self.index += 1
        if isinstance(layer, LSTM):
            self.lstm(name, layer)
        elif isinstance(layer, CellStack):
            self.cell_stack(name, layer)
        elif isinstance(layer, Linear):
            self.dense(name, layer)
        elif isinstance(layer, Masking):
            if self.masked:
                raise ValueError("steps are masked already, and Keras would forget which")
            self.add("Masking", name, {"mask_value": layer.value})
            self.masked = True
        elif isinstance(layer, Pool):
            if layer.how == "max" and self.masked:
                raise ValueError("Keras' maximum is over masked steps, too")
            self.add({how: kind for kind, how in POOLS.items()}[layer.how], name, {})
            self.masked = False
        elif (exported := export_layer(layer)) is not None:
            kind, config, weights = exported
            if isinstance(layer, OVER_ALL_STEPS):
                if self.masked and not layer.ignore_mask:
                    raise ValueError("Keras takes masked steps like others there, as with ignore_mask=True")
                self.masked = False
            self.masked |= isinstance(layer, Embedding) and layer.mask_zero
            if "activation" in config and not isinstance(layer, Function):
                config["activation"] = self._pop_activation(name)
            self.add(kind, name, config, {"": weights} if weights else None)
        else:
            only = ", but the final state of an LSTM right before it" if isinstance(layer, FinalState | Step) else ""
            raise ValueError(f"Keras has no {layer!r}{only}")

    def add(self, kind: str, name: str, config: dict[str, Any], weights: Weights | None = None) -> None:
        """Add a Keras layer with a valid, unique name."""
        valid_name = _valid_name(name)
        while valid_name in self.used_names:
            valid_name += "_"
        self.used_names.add(valid_name)
        self.exported.append((KerasLayer(kind, valid_name, {"name": valid_name, **config}), weights or {}))

    def dense(self, name: str, layer: Linear) -> None:
        """Add a Dense, with the next layer as its activation if it has that name."""
        weights = {"kernel": layer.parameters["weight"].T.copy()}
        if layer.bias:
            weights["bias"] = layer.parameters["bias"].copy()
        config = {"units": layer.output_size, "activation": self._pop_activation(name), "use_bias": layer.bias}
        self.add("Dense", name, config, {"": weights})

    def _pop_activation(self, name: str) -> str:
        """Return the activation that follows the layer `name`, and skip its layer; "linear" if none follows."""
        next_layer = self._next_layer()
        if isinstance(next_layer, Function) and self.names[self.index] == f"{name}_activation":
            kind, config, _ = function(next_layer)
            if kind == "Activation":
                self.index += 1
                return str(config["activation"])
        return "linear"

    def lstm(self, name: str, layer: LSTM) -> None:
        """Add an LSTM or a stack of LSTMs, with the layer that selects its final state."""
        options = layer.options
        next_layer = self._next_layer()
        final = next_layer if isinstance(next_layer, FinalState | Step) else None
        if final is not None:
            _check_final(options, final)
            self.index += 1
        _check_order(options, final)
        for k in range(options.num_layers):
            last = k == options.num_layers - 1
            layer_name = f"{name}_l{k}" if options.num_layers > 1 else name
            directions = options.directions[k * options.num_directions :][: options.num_directions]
            self._single_layer(
                layer_name, layer, [suffix for suffix, _, _ in directions], directions[0][1], final if last else None
            )
            if not last and options.dropout:
                self.add("Dropout", f"{layer_name}_dropout", {"rate": options.dropout})
        if final is not None:
            self.masked = False

    def cell_stack(self, name: str, layer: CellStack) -> None:
        """Add an RNN or a GRU, or a stack of them, with the layer that selects its final state."""
        next_layer = self._next_layer()
        final = next_layer if isinstance(next_layer, FinalState | Step) else None
        merge = "concat" if final is None else cell_stacks.check_final(layer, final)
        self.index += final is not None
        for k in range(layer.num_layers):
            last = k == layer.num_layers - 1
            layer_name = f"{name}_l{k}" if layer.num_layers > 1 else name
            kind, config, weights = cell_stacks.to_keras(layer, k, final if last else None)
            self._add_recurrent(kind, layer_name, config, weights, merge if last else "concat")
            if not last and layer.dropout:
                self.add("Dropout", f"{layer_name}_dropout", {"rate": layer.dropout})
        if final is not None:
            self.masked = False

    def _single_layer(
        self, name: str, layer: LSTM, suffixes: list[str], I: int, final: FinalState | Step | None
    ) -> None:
        """Add one LSTM of a stack."""
        options = layer.options.replace(num_layers=1, dropout=0.0, input_size=I)
        config: dict[str, Any] = keras_layout.keras_config(options) | {
            "return_sequences": final is None,
            "go_backwards": options.reverse,
        }
        if final is not None:
            config["zero_output_for_mask"] = False  # Keras would take it for a state
        weights = [_direction_weights(layer.options.kernel(layer.parameters, suffix), options) for suffix in suffixes]
        keras_merges = {merge: keras_merge for keras_merge, merge in keras_layout.KERAS_MERGES.items()}
        merge = keras_merges[final.merge if isinstance(final, FinalState) else options.merge]
        self._add_recurrent("LSTM", name, config, weights, merge)

    def _add_recurrent(
        self, kind: str, name: str, config: dict[str, Any], weights: list[dict[str, Array]], merge: str
    ) -> None:
        """Add a layer of Keras, or a Bidirectional of two with the weights of each."""
        if len(weights) == 1:
            self.add(kind, name, config, {"": weights[0]})
            return
        wrapped = [
            _wrapped(kind, f"{direction}_{_valid_name(name)}", {**config, "go_backwards": direction == "backward"})
            for direction in DIRECTION_NAMES
        ]
        wraps = {"merge_mode": merge, "layer": wrapped[0], "backward_layer": wrapped[1]}
        self.add("Bidirectional", name, wraps, dict(zip(DIRECTION_NAMES, weights, strict=True)))

    def _next_layer(self) -> Layer | None:
        return self.layers[self.index] if self.index < len(self.layers) else None


DIRECTION_NAMES = ("forward", "backward")


def _direction_weights(kernel: Array, options: LSTMConfig) -> dict[str, Array]:
    """Return the weights of one direction by Keras' names."""
    parts = encode(kernel, options.input_size, options.cell_config.gates, KERAS, bias=options.bias)
    return {name: part for name, part in zip(LSTM_WEIGHTS, parts, strict=True) if part is not None}


def _valid_name(name: str) -> str:
    """Replace the characters that Keras does not allow in names."""
    return name.replace("/", "_").replace(".", "_")


def _wrapped(kind: str, name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "config": {"name": name, **config}, "registered_name": None}


def _check_final(options: LSTMConfig, final: FinalState | Step) -> None:
    """Raise ValueError unless the selected state is the output of Keras without return_sequences."""
    if options.bidirectional:
        expected = FinalState("both")
        fits = isinstance(final, FinalState) and replace(final, merge="concat") == expected
        fits = fits and options.merge == "concat"
    else:
        expected = FinalState("reverse" if options.reverse else "forward")
        fits = final in (expected, Step(0 if options.reverse else -1))
    if not fits or options.outputs_in == "processing":
        raise ValueError(f"of this LSTM Keras gives all outputs, or {expected}, but no {final}")


def _check_order(options: LSTMConfig, final: FinalState | Step | None) -> None:
    """Raise ValueError unless Keras has this order of outputs, and these outputs of masked steps."""
    if options.reverse and options.outputs_in == "time" and (final is None or options.num_layers > 1):
        raise ValueError(
            "Keras gives the outputs of a reverse LSTM in the order of processing, last step first, and here they are "
            "in the order of time: it has this only for one layer whose final state is taken"
        )
    if options.bidirectional and options.masked_outputs == "repeat":
        raise ValueError(
            "Keras gives 0 where steps are masked if there are two directions, and no masked_outputs='repeat'"
        )
