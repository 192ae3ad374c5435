"""The gradient of a single output on the gates and states of every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.norms import vector_norms
from glasscell.core.types import Array
from glasscell.explain.model_inputs import ModelInputs
from glasscell.explain.quantities import Output, Quantity
from glasscell.trace.capture import Passes, TraceTargets, trace_sequential
from glasscell.trace.trace import Trace
from glasscell.validation import choice, integer


@dataclass(frozen=True, repr=False)
class OutputGradients:
    """The gradient of a quantity on one layer. Without the axis B for a single sequence; 0 at invalid steps.

    Attributes
    ----------
    output : array (B,) of float64
        The quantity.
    arrays : dict of str to array
        The gradient on each symbol of the layer: ``arrays["c"]`` (B, T, H), ``["h"]``, ``["z"]``, ``["x"]``, and the
        gates that have weights.
    trace : Trace
        The trace of the pass, whose ``d_…`` are these gradients: for the other layers, and for views.
    layer : str
        Name of the layer.
    """

    output: Array
    arrays: dict[str, Array]
    trace: Trace
    layer: str

    @property
    def c(self) -> Array:
        """The gradient on the cell states, (B, T, H)."""
        if "c" not in self.arrays:
            raise ValueError(f"c must be a symbol of the layer; it has {', '.join(self.arrays)}")
        return self.arrays["c"]

    @property
    def h(self) -> Array:
        """The gradient on the hidden states, (B, T, P)."""
        return self.arrays["h"]

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.h.shape))
        return f"OutputGradients({self.layer}, {shape}: on {', '.join(self.arrays)})"


@dataclass(frozen=True, repr=False)
class GradientMatrix:
    """Norms of the gradients of the outputs of step s on a symbol of step t. Without the axis B for one sequence.

    Attributes
    ----------
    norms : array (B, S, T) of float64
        ``norms[s, t]``, over the units and, if no output was chosen, over the outputs; 0 at invalid steps. S is 1 for a
        model with one output per sequence.
    symbol : str
    layer : str
        Name of the layer.
    """

    norms: Array
    symbol: str
    layer: str

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.norms.shape))
        return f"GradientMatrix(‖∂y(s)/∂{self.symbol}(t)‖, {self.layer}, {shape}: at most {self.norms.max():.4g})"


def output_gradients(
    model: Any,
    x: Any,
    *,
    output: Output,
    step: ArrayLike | None = None,
    layer: int = -1,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> OutputGradients:
    """Compute the gradient of an output on the states and gates of every step: ∂y_j(s)/∂c_t, and not ∂L/∂c_t.

    The gradient of a loss is close to 0 where a prediction is right, also on what decides it; that of an output is not.

    Parameters
    ----------
    model, x, output, step, lengths, mask
        As of :func:`glasscell.explain.integrated_gradients`. The model must have a recurrent layer that can be traced.
    layer : int
        Index in ``trace.layer``: with two directions, forward and reverse of each layer in turn.

    Returns
    -------
    OutputGradients

    Raises
    ------
    TypeError, ValueError, IndexError
        If an argument does not fit the model, is out of range or not finite.
    """
    inputs = ModelInputs(model, x, lengths, mask)
    quantity = Quantity(inputs, output, step)
    trace = _trace(inputs, quantity.gradient(inputs.outputs), 1)
    traced = trace.get_layer(layer)
    names = [name.removeprefix("d_") for name in traced.names if name.startswith("d_")]
    arrays = {name: np.nan_to_num(traced.value(f"d_{name}"), nan=0.0) for name in names}
    if inputs.single:
        arrays = {name: array[0] for name, array in arrays.items()}
        trace = trace.sequence(0)
    value = quantity.value(inputs.outputs)[0]
    return OutputGradients(np.asarray(value[0] if inputs.single else value), arrays, trace, traced.name)


def output_gradient_matrix(
    model: Any,
    x: Any,
    *,
    output: int | None = None,
    symbol: str | None = None,
    layer: int = -1,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> GradientMatrix:
    """Compute the norms of ∂y(s)/∂c_t for all steps s of the outputs and all steps t.

    Parameters
    ----------
    model, x, lengths, mask, layer
        As of :func:`output_gradients`.
    output : int, optional
        Index of the output. Default: all; the norm is that of the whole Jacobian (Frobenius).
    symbol : str, optional
        A symbol of the layer, such as "f". Default: the state, "c" of an LSTM and "h" of an RNN or a GRU.

    Returns
    -------
    GradientMatrix
        One backward pass per step and output, many of them together.

    Raises
    ------
    TypeError, ValueError, IndexError
        As of :func:`output_gradients`.
    """
    inputs = ModelInputs(model, x, lengths, mask)
    y = Quantity(inputs, "sum" if output is None else integer("output", output))  # checks the index
    S, O, B = y.S, y.O, inputs.B
    pairs = [(s, j) for s in range(S) for j in (range(O) if output is None else (int(output),))]
    valid = np.ones((B, S), np.bool_)
    if inputs.outputs_valid is not None and inputs.num_steps is not None:
        valid = inputs.outputs_valid.T
    norms, name = np.zeros((B, S, inputs.T)), ""
    for part in inputs.split(len(pairs)):
        chosen = pairs[part]
        d = np.zeros((len(chosen), B, S, O))
        for k, (s, j) in enumerate(chosen):
            d[k, :, s, j] = valid[:, s]
        trace = _trace(inputs, d.reshape(-1, *inputs.outputs.shape[1:]), len(chosen))
        traced = trace.get_layer(layer)
        name, symbol = traced.name, traced.state if symbol is None else symbol
        choice("symbol", symbol, [entry.removeprefix("d_") for entry in traced.names if entry.startswith("d_")])
        sizes = vector_norms(np.nan_to_num(traced.value(f"d_{symbol}"), nan=0.0)).reshape(len(chosen), B, -1)
        for k, (s, _) in enumerate(chosen):
            norms[:, s] = np.hypot(norms[:, s], sizes[k])
    return GradientMatrix(norms[0] if inputs.single else norms, str(symbol), name)


def _trace(inputs: ModelInputs, d_outputs: Array, repeats: int) -> Trace:
    """Trace copies of the batch with a gradient on the outputs (repeats·B, …)."""
    x = np.asarray(inputs.x)[None] if inputs.single else np.asarray(inputs.x)
    x = np.concatenate([x] * repeats)
    mask, model = inputs.user_mask(repeats), inputs.model
    if not hasattr(model, "layers"):
        result: Trace = model.trace(x, d_outputs=d_outputs, mask=mask)
        return result
    # A model's `trace` may make targets of its inputs: here the gradient on the outputs is all that is asked for.
    passes = Passes(model._forward, model._backward)  # noqa: SLF001 - the passes that a model offers to traces
    layers = dict(zip(inputs.names, inputs.layers, strict=True))
    return trace_sequential(layers, passes, x, TraceTargets(d_outputs=d_outputs), {}, mask=mask)
