"""From our layers to those of a Keras model: the way back of :mod:`glasscell.convert.keras.importer`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from glasscell.convert.keras import cell_stacks
from glasscell.convert.keras.architecture import KerasLayer, KerasSequential
from glasscell.convert.keras.file_writer import Described
from glasscell.convert.keras.importer import POOLS
from glasscell.convert.keras.kinds import LSTM_WEIGHTS
from glasscell.convert.keras.weights import Weights
from glasscell.convert.keras.writing_layers import OVER_ALL_STEPS, function, input_features, input_steps, one_layer
from glasscell.core.types import Array
from glasscell.layers import LSTM, Embedding, FinalState, Function, Linear, Masking, Pool, Step
from glasscell.layers.cell_stack import CellStack
from glasscell.models.sequential import Layer
from glasscell.recurrent.config import LSTMConfig
from glasscell.weight_layouts import KERAS, encode
from glasscell.weight_layouts import keras as codec

VERSION = "3.15.1"  # the Keras whose files these are like


def described(names: Sequence[str], layers: Sequence[Layer]) -> Described:
    """The layers of Keras that compute the same, each with its weights.

    Raises
    ------
    ValueError
        If there are none, naming the layer and what Keras lacks.
    """
    writer = Exporter(names, layers)
    while writer.at < len(layers):
        name = names[writer.at]
        try:
            writer.write()
        except ValueError as error:
            raise ValueError(f"the layer {name!r}: {error}") from None
    return writer.described


def chain_of_described(found: Described, layers: Sequence[Layer]) -> KerasSequential:
    """The chain of Keras' layers, with the shape of its input: batch, steps and, unless they are symbols, features."""
    features, steps = input_features(layers), input_steps(layers)
    shape = (None, steps) if isinstance(layers[0], Embedding) else (None, steps, features)
    return KerasSequential(tuple(layer for layer, _ in found), VERSION, shape)


class Exporter:
    """Makes layers of Keras, one after the other.

    Attributes
    ----------
    described : list of (KerasLayer, weights)
    at : int
        The layer of ours that is next.
    masked : bool
        Whether steps may be masked here.
    """

    def __init__(self, names: Sequence[str], layers: Sequence[Layer]) -> None:
        self.names, self.layers = names, layers
        self.described: Described = []
        self.at, self.masked = 0, False
        self.called: set[str] = set()

    def write(self) -> None:
        """Add what the next layer of ours is, and those behind it that Keras makes one with it."""
        name, layer = self.names[self.at], self.layers[self.at]
        self.at += 1
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
        elif (one := one_layer(layer)) is not None:
            kind, config, weights = one
            if isinstance(layer, OVER_ALL_STEPS):
                if self.masked and not layer.ignore_mask:
                    raise ValueError("Keras takes masked steps like others there, as with ignore_mask=True")
                self.masked = False
            self.masked |= isinstance(layer, Embedding) and layer.mask_zero
            if "activation" in config and not isinstance(layer, Function):
                config["activation"] = self._activation(name)
            self.add(kind, name, config, {"": weights} if weights else None)
        else:
            only = ", but the final state of an LSTM right before it" if isinstance(layer, FinalState | Step) else ""
            raise ValueError(f"Keras has no {layer!r}{only}")

    def add(self, kind: str, name: str, config: dict[str, Any], weights: Weights | None = None) -> None:
        """Add a layer of Keras; its name without the characters that Keras takes in none, and unlike all others."""
        allowed = _allowed(name)
        while allowed in self.called:
            allowed += "_"
        self.called.add(allowed)
        self.described.append((KerasLayer(kind, allowed, {"name": allowed, **config}), weights or {}))

    def dense(self, name: str, layer: Linear) -> None:
        """A Dense, with the function behind it that is called its activation."""
        weights = {"kernel": layer.parameters["weight"].T.copy()}
        if layer.bias:
            weights["bias"] = layer.parameters["bias"].copy()
        config = {"units": layer.output_size, "activation": self._activation(name), "use_bias": layer.bias}
        self.add("Dense", name, config, {"": weights})

    def _activation(self, name: str) -> str:
        """The function behind the layer `name` that is called its activation; it is then written."""
        following = self._following()
        if isinstance(following, Function) and self.names[self.at] == f"{name}_activation":
            kind, config, _ = function(following)
            if kind == "Activation":
                self.at += 1
                return str(config["activation"])
        return "linear"

    def lstm(self, name: str, layer: LSTM) -> None:
        """An LSTM, or a stack of them, with the final state that is taken of it."""
        options = layer.options
        following = self._following()
        final = following if isinstance(following, FinalState | Step) else None
        if final is not None:
            _check_final(options, final)
            self.at += 1
        _check_order(options, final)
        for k in range(options.num_layers):
            last = k == options.num_layers - 1
            own = f"{name}_l{k}" if options.num_layers > 1 else name
            ways = options.directions[k * options.num_directions :][: options.num_directions]
            self._one(own, layer, [suffix for suffix, _, _ in ways], ways[0][1], final if last else None)
            if not last and options.dropout:
                self.add("Dropout", f"{own}_dropout", {"rate": options.dropout})
        if final is not None:
            self.masked = False

    def cell_stack(self, name: str, layer: CellStack) -> None:
        """An RNN or a GRU, or a stack of them, with the final state that is taken of it."""
        following = self._following()
        final = following if isinstance(following, FinalState | Step) else None
        merge = "concat" if final is None else cell_stacks.check_final(layer, final)
        self.at += final is not None
        for k in range(layer.num_layers):
            last = k == layer.num_layers - 1
            own = f"{name}_l{k}" if layer.num_layers > 1 else name
            kind, config, weights = cell_stacks.to_keras(layer, k, final if last else None)
            self._add_recurrent(kind, own, config, weights, merge if last else "concat")
            if not last and layer.dropout:
                self.add("Dropout", f"{own}_dropout", {"rate": layer.dropout})
        if final is not None:
            self.masked = False

    def _one(self, name: str, layer: LSTM, suffixes: list[str], I: int, final: FinalState | Step | None) -> None:
        """One LSTM of a stack."""
        options = layer.options.replace(num_layers=1, dropout=0.0, input_size=I)
        config: dict[str, Any] = codec.keras_config(options) | {
            "return_sequences": final is None,
            "go_backwards": options.reverse,
        }
        if final is not None:
            config["zero_output_for_mask"] = False  # Keras would take it for a state
        weights = [_direction_weights(layer.options.kernel(layer.parameters, suffix), options) for suffix in suffixes]
        ours = {ours: theirs for theirs, ours in codec.KERAS_MERGES.items()}
        merge = ours[final.merge if isinstance(final, FinalState) else options.merge]
        self._add_recurrent("LSTM", name, config, weights, merge)

    def _add_recurrent(
        self, kind: str, name: str, config: dict[str, Any], weights: list[dict[str, Array]], merge: str
    ) -> None:
        """Add a layer of Keras, or a Bidirectional of two with the weights of each."""
        if len(weights) == 1:
            self.add(kind, name, config, {"": weights[0]})
            return
        both = [
            _wrapped(kind, f"{way}_{_allowed(name)}", {**config, "go_backwards": way == "backward"})
            for way in DIRECTION_NAMES
        ]
        wraps = {"merge_mode": merge, "layer": both[0], "backward_layer": both[1]}
        self.add("Bidirectional", name, wraps, dict(zip(DIRECTION_NAMES, weights, strict=True)))

    def _following(self) -> Layer | None:
        return self.layers[self.at] if self.at < len(self.layers) else None


DIRECTION_NAMES = ("forward", "backward")


def _direction_weights(kernel: Array, options: LSTMConfig) -> dict[str, Array]:
    """The weights of one direction under Keras' names."""
    parts = encode(kernel, options.input_size, options.cell_config.gates, KERAS, bias=options.bias)
    return {name: part for name, part in zip(LSTM_WEIGHTS, parts, strict=True) if part is not None}


def _allowed(name: str) -> str:
    """A name without the characters that Keras takes in none."""
    return name.replace("/", "_").replace(".", "_")


def _wrapped(kind: str, name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "config": {"name": name, **config}, "registered_name": None}


def _check_final(options: LSTMConfig, final: FinalState | Step) -> None:
    """That what is taken of an LSTM is what Keras gives without return_sequences."""
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
    """That Keras gives outputs in this order, and where steps are masked these."""
    if options.reverse and options.outputs_in == "time" and (final is None or options.num_layers > 1):
        raise ValueError(
            "Keras gives the outputs of a reverse LSTM in the order of processing, last step first, and here they are "
            "in the order of time: it has this only for one layer whose final state is taken"
        )
    if options.bidirectional and options.masked_outputs == "repeat":
        raise ValueError(
            "Keras gives 0 where steps are masked if there are two directions, and no masked_outputs='repeat'"
        )
