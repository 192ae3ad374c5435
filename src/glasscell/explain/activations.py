"""The values of one symbol over many sequences: forward passes in blocks, of any layer or model that can be traced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasscell.core.types import Array
from glasscell.explain.samples import Samples
from glasscell.trace.display import get_values
from glasscell.trace.layer_trace import LayerTrace
from glasscell.validation import positive_integer, type_name

BATCH_SIZE = 256  # sequences of a forward pass


class ForwardPass(NamedTuple):
    """One forward pass.

    Attributes
    ----------
    outputs : array
        Of the model.
    states : object
        Final states, as the next call takes them.
    layers : tuple of LayerTrace
        Of every traceable layer and direction.
    tape : object
        For the backward pass.
    """

    outputs: Array
    states: Any
    layers: tuple[LayerTrace, ...]
    tape: Any

    def layer(self, layer: int) -> LayerTrace:
        """Return a layer by number; negative numbers count from the last layer."""
        if isinstance(layer, bool) or not isinstance(layer, int | np.integer):
            raise TypeError(f"layer must be an integer, got {layer!r:.100}")
        if not -len(self.layers) <= layer < len(self.layers):
            names = ", ".join(trace.name for trace in self.layers)
            last = len(self.layers) - 1
            raise ValueError(f"layer must be from {-last - 1} to {last}, the number of one of {names}, got {layer}")
        return self.layers[layer]


def run_forward(model: Any, x: Any, states: Any = None, lengths: NDArray[np.intp] | None = None) -> ForwardPass:
    """Run a batch of sequences through a layer or model with a tape, and return the traces of its layers.

    Raises
    ------
    TypeError
        If the model has no ``forward``.
    ValueError
        If no layer can be traced, or a layer takes another number of steps.
    """
    if not callable(getattr(model, "forward", None)):
        raise TypeError(f"model must be a layer or model with a forward pass, got {type_name(model)}")
    outputs, final, tape = model.forward(x, states, lengths=lengths)
    if getattr(model, "layers", None) is None:
        entries: list[tuple[str, Any, Any]] = [("", model, tape)]
    else:
        entries = list(zip(model.names, model.layers, tape.layers, strict=True))
    traceable = [entry for entry in entries if getattr(entry[1], "traceable", False)]
    if not traceable:
        raise ValueError("model must have a layer that can be traced, such as an LSTM")
    traces: list[LayerTrace] = []
    for name, layer, layer_tape in traceable:
        if layer.tape_shape(layer_tape)[0] != np.shape(x)[1]:
            raise ValueError(
                f"layers must take one step for each of the {np.shape(x)[1]} steps of x, and {name!r} takes "
                f"{layer.tape_shape(layer_tape)[0]}: explain a model of the layers behind the one that changes them"
            )
        traces += layer.layer_traces(layer_tape, None, f"{name} " if len(traceable) > 1 else "")
    return ForwardPass(outputs, final, tuple(traces), tape)


def with_features(model: Any, outputs: Array) -> Array:
    """Return outputs (N, T, O) or (N, O), also of a model whose outputs are numbers (N, T) or (N,)."""
    last = (getattr(model, "layers", None) or (model,))[-1]
    return outputs[..., None] if getattr(last, "outputs", "features") == "numbers" else outputs


class Activations(NamedTuple):
    """A symbol of one layer for all sequences.

    Attributes
    ----------
    values : array (N, T, H)
        NaN at steps that a sequence does not have, and that the layer skips.
    symbol, layer : str
        Names of the symbol and the layer.
    reverse : bool
        Whether the layer processes the steps from the last to the first.
    """

    values: Array
    symbol: str
    layer: str
    reverse: bool


def collect(model: Any, samples: Samples, symbol: str | None, layer: int, batch_size: int) -> Activations:
    """Return the values of a symbol of a layer. Default of the symbol: the state, c of an LSTM."""
    size, parts = positive_integer("batch_size", batch_size), list[Array]()
    for rows in blocks(len(samples), size):
        batch = samples.rows(rows)
        trace = run_forward(model, batch.inputs, None, batch.lengths).layer(layer)
        parts.append(symbol_values(trace, symbol).copy())
    return Activations(np.concatenate(parts), symbol or trace.state, trace.name, trace.reverse)


def symbol_values(trace: LayerTrace, symbol: str | None) -> Array:
    """Return the values of a symbol; ``z_f`` is the part of z of the forget gate."""
    if symbol is None:
        return trace.value(trace.state)
    if not isinstance(symbol, str):
        raise TypeError(f"symbol must be a str, got {symbol!r:.100}")
    return get_values(trace, symbol)


def blocks(N: int, size: int) -> Sequence[slice]:
    """Return slices of `size` that cover N sequences."""
    return [slice(start, min(start + size, N)) for start in range(0, N, size)]
