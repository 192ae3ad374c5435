"""Measures of a layer: saturation of gates, half-lives, events, and the gradient's paths and decay.

Their arguments are arrays or a :class:`~glasscell.trace.layer_trace.LayerTrace` of one sequence. For the
reverse direction the previous step is the one processed before.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasscell.core import lstm, variants
from glasscell.core.initializers import glorot_uniform, orthogonal
from glasscell.core.norms import vector_norms
from glasscell.core.step_gradients import StepGradients, compute_step_gradients
from glasscell.core.types import Array
from glasscell.core.variants import DropoutMasks
from glasscell.trace.layer_trace import LayerTrace

MAX_TAPE_VALUES = 1 << 24  # of the gradients that one backward pass computes together


class Saturation(NamedTuple):
    """Share of steps at which a gate is nearly closed and nearly open, for each unit: (H,) and (H,)."""

    left: Array
    right: Array


def saturation(gate: Array, low: float = 0.1, high: float = 0.9) -> Saturation:
    """Return how often a gate is left-saturated, below 0.1, and right-saturated, above 0.9.

    Karpathy, Johnson & Li (2015), Visualizing and understanding recurrent networks, section 4.2. A forget gate that is
    right-saturated at every step is an integrator; one that is never saturated is a leaky integrator.

    Parameters
    ----------
    gate : array (T, H), or (B, T, H); NaN values are ignored
    low, high : float
    """
    axes = tuple(range(gate.ndim - 1))
    steps = np.maximum(1, np.isfinite(gate).sum(axis=axes))
    return Saturation((gate < low).sum(axis=axes) / steps, (gate > high).sum(axis=axes) / steps)


def half_life(f: Array) -> Array:
    """Return the number of steps after which half of a cell state is forgotten, (H,).

    If nothing is written, T steps multiply c by f_1 f_2 … f_T, and a constant gate 2^(-1/n) halves it in n steps. The
    half-life is the n of the same product: T ln ½ / Σ ln f. It is 0 if a gate is 0, and infinite if all gates are 1.

    Parameters
    ----------
    f : array (T, H), or (B, T, H); NaN values are ignored
    """
    axes = tuple(range(f.ndim - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithms = np.log(f.astype(np.float64))
        n = np.log(0.5) * np.isfinite(f).sum(axis=axes) / np.nansum(logarithms, axis=axes)
    return np.where(np.isnan(n) | (n < 0), np.inf, np.abs(n))


class Events(NamedTuple):
    """Steps and units of write and erase events: (T, H) and (T, H) of bool."""

    write: NDArray[np.bool_]
    erase: NDArray[np.bool_]


def events(layer: LayerTrace, threshold: float = 0.5) -> Events:
    """Return the write events, i ∘ abs(g) ≥ ½, and the erase events, (1 - f) ∘ abs(c_{t-1}) ≥ ½.

    Both are amounts by which c changes; the default threshold is half of the maximum of i ∘ abs(g). These measures are
    defined here: they quantify the roles of the input gate, Hochreiter & Schmidhuber (1997), and of the forget gate,
    Gers et al. (2000).
    """
    _check_one_sequence(layer)
    return Events(
        np.asarray(layer.i * np.abs(layer.g) >= threshold),
        np.asarray((1 - layer.f) * np.abs(layer.c_prev) >= threshold),
    )


def has_gradient_paths(layer: LayerTrace) -> bool:
    """Return whether :func:`gradient_paths` are defined for a layer of an LSTM."""
    return not (layer.options.cell_config.normalises_cell or layer.intervened & {"c", "h"})


class GradientPaths(NamedTuple):
    """Parts of dL/dc by their origin, (T, H) each. They add up to dL/dc; their norms do not.

    Attributes
    ----------
    output : array
        From the output of the same step: dL/dy_t through o_t and tanh.
    cell : array
        Along the cell: f_{t+1} ∘ dL/dc_{t+1}.
    recurrent : array
        Through h_t into the gates and the candidate of the next step, by W_h.
    """

    output: Array
    cell: Array
    recurrent: Array


def gradient_paths(layer: LayerTrace) -> GradientPaths:
    """Split the gradient on each cell by its last edge: this step's output, the next cell, or h and the next gates.

    The split is local: ``cell`` is the *whole* gradient on the next cell state times its forget gate, including
    gradients that entered that cell through recurrent weights at a later step. Source: the error carousel of Hochreiter
    & Schmidhuber (1997) with the forget gates of Gers et al. (2000). Parts can have opposite signs.

    Parameters
    ----------
    layer : LayerTrace
        With gradients. With peepholes, ``recurrent`` includes the gates that read the cell, and ``cell`` is 0 at the
        last step of a slice. With zoneout, ``recurrent`` includes the preserved part of h.

    Raises
    ------
    ValueError
        If layer normalization is applied to the cell: it mixes the units, so that the parts are not defined. If an
        intervention acted on c or h: then the gradients on the values before and after it differ.
    """
    _check_one_sequence(layer)
    if layer.intervened & {"c", "h"}:
        raise ValueError(f"gradient paths must be of a layer without interventions on c or h, got {layer!r}")
    options, variant = layer.options, layer.options.cell_config
    if variant.normalises_cell:
        raise ValueError(
            f"layer_norm={options.layer_norm!r} normalizes the cell: gradient paths of a unit are not defined"
        )
    new_c = layer.f * layer.c_prev + layer.i * layer.g
    slope = layer.o * variant.output.derivative(new_c, layer.tanh_c) * (1 - options.zoneout)

    def through_h(d_h: Array) -> Array:
        return slope * (d_h @ layer.weights["projection"] if "projection" in layer.weights else d_h)

    output, recurrent = through_h(layer.d_y), through_h(layer.d_h - layer.d_y)
    if options.peepholes:
        cell = _along_cell(layer)
        return GradientPaths(output, cell, layer.d_c - output - cell)
    cell = layer.d_c - output - recurrent
    rounding = 8 * np.finfo(cell.dtype).eps * (np.abs(layer.d_c) + np.abs(output) + np.abs(recurrent))
    return GradientPaths(output, np.where(np.abs(cell) <= rounding, 0, cell), recurrent)


def _along_cell(layer: LayerTrace) -> Array:
    """Return the gradient from the next cell state: f_{t+1} ∘ dL/dc_{t+1}, scaled with zoneout."""
    zoneout = layer.options.zoneout_cell
    cell, later = np.zeros_like(layer.d_c), np.zeros(layer.H, layer.d_c.dtype)
    for t in range(layer.T) if layer.reverse else reversed(range(layer.T)):
        cell[t] = (1 - zoneout) * later
        later = zoneout * later + layer.f[t] * layer.d_c[t]
    return cell


class GradientNorms(NamedTuple):
    """Euclidean norms over the units at each step, (T,) in float64: of dL/dh, dL/dc, its three parts, and dL/dx."""

    h: Array
    c: Array
    output: Array
    cell: Array
    recurrent: Array
    x: Array


def gradient_norms(layer: LayerTrace) -> GradientNorms:
    """Return the norm of the gradient at each step, by path.

    The norms of the three parts of dL/dc do not add up to the norm of dL/dc, because parts can cancel. ‖dL/dx_t‖ is the
    rate at which the loss changes with the input of step t. It does not measure which inputs a prediction depends on:
    where a prediction is correct, the loss and its gradient are close to 0, even for the input that decides it.
    """
    parts = layer.d_h, layer.d_c, *gradient_paths(layer), layer.d_x
    return GradientNorms(*map(vector_norms, parts))


def jacobian(layer: LayerTrace, t: int) -> Array:
    """Return ∂(h_t, c_t) / ∂(h_{t-1}, c_{t-1}), (P + H, P + H), in float64."""
    _check_one_sequence(layer)
    P, H = layer.h.shape[-1], layer.H
    states = np.eye(P + H)
    gradients = _replay(layer, layer.x[t][None], (layer.h_prev[t], layer.c_prev[t]), states[:P], states[P:])
    return np.concatenate([gradients.dh0, gradients.dc0]).T


def spectral_radii(layer: LayerTrace) -> Array:
    """Return the spectral radius of the Jacobian of each step, (T,).

    Below 1 gradients shrink in the long run, above 1 they can grow: Bengio, Simard & Frasconi (1994);
    Pascanu, Mikolov & Bengio (2013), section 2.
    """
    _check_one_sequence(layer)
    return np.array([np.abs(np.linalg.eigvals(jacobian(layer, t))).max() for t in range(layer.T)])


class GradientDecay(NamedTuple):
    """Norm of the gradient n steps before the end, n = 0 … T - 1, relative to n = 0, (T,) each.

    The RNN is *not trained*: it is a reference for the size of the effect.
    """

    lstm: Array
    tanh_rnn: Array


def gradient_decay(layer: LayerTrace, seed: int = 0) -> GradientDecay:
    """Compute how gradients decay in this layer and in an untrained tanh RNN of the same size.

    The values are the Frobenius norm of ∂h_T/∂c_{T-n} for the LSTM and that of ∂h_T/∂h_{T-n} for the RNN, relative to
    n = 0. The RNN h_t = tanh(W_h h_{t-1} + W_x x_t) has the same inputs and an orthogonal W_h, so that only the
    derivative of tanh changes the norm of its gradients (Saxe et al. 2014). Hochreiter (1991); Bengio et al. (1994).

    Parameters
    ----------
    layer : LayerTrace
    seed : int
        Of the weights of the RNN.
    """
    _check_one_sequence(layer)
    if not layer.T:
        raise ValueError("layer must have at least one step, got none")
    x = layer.x[::-1] if layer.reverse else layer.x
    P, H, first = layer.h.shape[-1], layer.H, -1 if layer.reverse else 0
    total = np.zeros(layer.T)
    chunk = max(1, MAX_TAPE_VALUES // max(1, layer.T * 12 * H))
    for start in range(0, P, chunk):
        d_final = np.eye(P)[:, start : start + chunk]
        initial = layer.h_prev[first], layer.c_prev[first]
        gradients = _replay(layer, x, initial, d_final, np.zeros((H, d_final.shape[1])))
        total = np.hypot(total, vector_norms(gradients.steps.dc.reshape(layer.T, -1)))
    return GradientDecay(_relative(total[::-1]), _relative(_tanh_rnn_decay(x.astype(np.float64), H, seed)))


def _tanh_rnn_decay(x: Array, H: int, seed: int) -> Array:
    """Return ‖∂h_T/∂h_{T-n}‖ for n = 0 … T - 1."""
    rng = np.random.default_rng(seed)
    W_h, W_x = orthogonal(rng, H), glorot_uniform(rng, (H, x.shape[1]))
    h, hs = np.zeros(H), []
    for x_t in x:
        h = np.tanh(W_h @ h + W_x @ x_t)
        hs.append(h)
    sizes, J = [], np.eye(H)
    for h in reversed(hs):
        sizes.append(vector_norms(J.ravel()))
        J = J @ ((1 - h**2)[:, None] * W_h)
    return np.array(sizes)


def _relative(sizes: Array) -> Array:
    return sizes / sizes[0] if len(sizes) and sizes[0] else sizes


class _Replay(NamedTuple):
    steps: StepGradients
    dh0: Array
    dc0: Array


def _replay(layer: LayerTrace, x: Array, initial_state: tuple[Array, Array], dh_T: Array, dc_T: Array) -> _Replay:
    """Run steps x (T, I) from an initial state, and backward from B gradients on the final state, in float64."""
    if layer.interventions:
        raise ValueError(f"this measure must be of a layer without interventions, got {layer!r}")
    for name, value in layer.options.unsupported("trace").items():
        raise ValueError(f"this measure does not support an LSTM with {name}={value!r}")
    B, H = dh_T.shape[1], layer.H
    weights = {name: weight.astype(np.float64) for name, weight in layer.weights.items()}
    inputs = np.broadcast_to(x[:, :, None], (*x.shape, B)).astype(np.float64)
    h0, c0 = (np.broadcast_to(state[:, None], (len(state), B)) for state in initial_state)
    T, zero = len(x), np.zeros((len(x), len(dh_T), B))
    dz = np.empty((T, len(weights["kernel"]), B))
    if layer.options.is_standard:
        tape = lstm.forward(weights["kernel"], inputs, h0, c0)
        d = lstm.backward(tape, zero, dh_T, dc_T, dz_steps=dz)
        return _Replay(compute_step_gradients(tape, dz, d.dx, zero, dh_T, dc_T), d.dh0, d.dc0)
    noise = DropoutMasks(1.0, 1.0 - layer.options.zoneout, 1.0 - layer.options.zoneout_cell)
    variant_tape = variants.forward(layer.options.cell_config, weights, inputs, h0, c0, noise)
    step_gradients = StepGradients(dz, np.empty_like(dz), np.empty((T, H, B)), np.empty_like(zero), inputs, zero)
    d_variant = variants.backward(variant_tape, zero, dh_T, dc_T, step_gradients=step_gradients)
    return _Replay(step_gradients, d_variant.dh0, d_variant.dc0)


def _check_one_sequence(layer: LayerTrace) -> None:
    """Raise ValueError unless the layer has all units and steps of one sequence: arrays (T, H)."""
    if layer.axes != "TR":
        expected = "layer must have all steps and units of one sequence"
        if "B" in layer.axes:
            raise ValueError(f"{expected}, got a batch: choose trace.sequence(b)")
        raise ValueError(f"{expected}, got one step or one unit")
