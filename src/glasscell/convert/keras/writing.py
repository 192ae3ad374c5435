"""From our layers to those of a Keras model: the way back of :mod:`glasscell.convert.keras.reading`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from glasscell.convert.codec import KERAS, encode
from glasscell.convert.codec import keras as codec
from glasscell.convert.keras.chain import Chain, KerasLayer
from glasscell.convert.keras.packing import Described
from glasscell.convert.keras.reading import FUNCTIONS, POOLS
from glasscell.convert.keras.weights import LSTM_WEIGHTS, Weights
from glasscell.core.typing import Array
from glasscell.layers import LSTM, Dropout, Embedding, FinalState, Function, Linear, Masking, Pool, Step
from glasscell.layers.options import LSTMOptions
from glasscell.models.sequential import Layer

VERSION = "3.15.1"  # the Keras whose files these are like


def described(names: Sequence[str], layers: Sequence[Layer]) -> Described:
    """The layers of Keras that compute the same, each with its weights.

    Raises
    ------
    ValueError
        If there are none, naming the layer and what Keras lacks.
    """
    writer = Writer(names, layers)
    while writer.at < len(layers):
        name = names[writer.at]
        try:
            writer.write()
        except ValueError as error:
            raise ValueError(f"the layer {name!r}: {error}") from None
    return writer.described


def chain_of_described(found: Described, layers: Sequence[Layer]) -> Chain:
    """The chain of Keras' layers, with the shape of its input: batch, steps and, unless they are symbols, features."""
    first = next((layer for layer in layers if isinstance(layer, LSTM | Linear | Embedding)), None)
    if first is None:
        raise ValueError("a model without weights does not say how many features it takes; Keras has to know")
    shape = (None, None) if isinstance(first, Embedding) else (None, None, first.input_size)
    return Chain(tuple(layer for layer, _ in found), VERSION, shape)


class Writer:
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
        elif isinstance(layer, Linear):
            self.dense(name, layer)
        elif isinstance(layer, Embedding):
            sizes = {"input_dim": layer.vocabulary_size, "output_dim": layer.embedding_size}
            table = {"embeddings": layer.parameters["weight"].copy()}
            self.add("Embedding", name, {**sizes, "mask_zero": layer.mask_zero}, {"": table})
            self.masked = layer.mask_zero
        elif isinstance(layer, Function):
            self.add(*_function(name, layer))
        elif isinstance(layer, Dropout):
            self.add("Dropout", name, {"rate": layer.rate})
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
        else:
            raise ValueError(f"Keras has no {layer!r}, but the final state of an LSTM right before it")  # noqa: TRY004

    def add(self, kind: str, name: str, config: dict[str, Any], weights: Weights | None = None) -> None:
        """Add a layer of Keras; its name without the characters that Keras takes in none, and unlike all others."""
        allowed = name.replace("/", "_").replace(".", "_")
        while allowed in self.called:
            allowed += "_"
        self.called.add(allowed)
        self.described.append((KerasLayer(kind, allowed, {"name": allowed, **config}), weights or {}))

    def dense(self, name: str, layer: Linear) -> None:
        """A Dense, with the function behind it that is called its activation."""
        weights = {"kernel": layer.parameters["weight"].T.copy()}
        if layer.bias:
            weights["bias"] = layer.parameters["bias"].copy()
        activation = "linear"
        following = self._following()
        if isinstance(following, Function) and self.names[self.at] == f"{name}_activation":
            kind, _, config = _function(name, following)
            if kind == "Activation":
                activation = config["activation"]
                self.at += 1
        self.add(
            "Dense", name, {"units": layer.output_size, "activation": activation, "use_bias": layer.bias}, {"": weights}
        )

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
            ways = options.ways[k * options.directions :][: options.directions]
            self._one(own, layer, [suffix for suffix, _, _ in ways], ways[0][1], final if last else None)
            if not last and options.dropout:
                self.add("Dropout", f"{own}_dropout", {"rate": options.dropout})
        if final is not None:
            self.masked = False

    def _one(self, name: str, layer: LSTM, suffixes: list[str], I: int, final: FinalState | Step | None) -> None:
        """One LSTM of a stack."""
        options = layer.options.replaced(num_layers=1, dropout=0.0, input_size=I)
        config: dict[str, Any] = codec.keras_config(options) | {
            "return_sequences": final is None,
            "go_backwards": options.reverse,
        }
        if final is not None:
            config["zero_output_for_mask"] = False  # Keras would take it for a state
        weights = [_way(layer.parameters[f"kernel{suffix}"], options) for suffix in suffixes]
        if not options.bidirectional:
            self.add("LSTM", name, config, {"": weights[0]})
            return
        ours = {ours: theirs for theirs, ours in codec.KERAS_MERGES.items()}
        merge = ours[final.merge if isinstance(final, FinalState) else options.merge]
        both = [_wrapped("LSTM", f"{way}_{name}", {**config, "go_backwards": way == "backward"}) for way in WAYS]
        wraps = {"merge_mode": merge, "layer": both[0], "backward_layer": both[1]}
        self.add("Bidirectional", name, wraps, dict(zip(WAYS, weights, strict=True)))

    def _following(self) -> Layer | None:
        return self.layers[self.at] if self.at < len(self.layers) else None


WAYS = ("forward", "backward")


def _way(kernel: Array, options: LSTMOptions) -> dict[str, Array]:
    """The weights of one direction under Keras' names."""
    parts = encode(kernel, options.input_size, options.variant.gates, KERAS, bias=options.bias)
    return {name: part for name, part in zip(LSTM_WEIGHTS, parts, strict=True) if part is not None}


def _wrapped(kind: str, name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "config": {"name": name, **config}, "registered_name": None}


def _function(name: str, layer: Function) -> tuple[str, str, dict[str, Any]]:
    """The kind, name and settings of the layer of Keras that is this function."""
    if layer.name == "LeakyRelu":
        return "LeakyReLU", name, {"negative_slope": layer.alpha}
    if layer.name == "Elu" and layer.alpha != 1:
        return "ELU", name, {"alpha": layer.alpha}
    for theirs, ours in FUNCTIONS.items():
        if ours == (layer.name,):
            return "Activation", name, {"activation": theirs}
    return "Activation", name, {"activation": codec.keras_name((layer.name, layer.alpha, layer.beta))}


def _check_final(options: LSTMOptions, final: FinalState | Step) -> None:
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


def _check_order(options: LSTMOptions, final: FinalState | Step | None) -> None:
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
