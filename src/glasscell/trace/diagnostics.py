"""What can be said of a layer in a few numbers: how open its gates are, how long it remembers, where gradients go.

Each takes what a :class:`~glasscell.trace.data.LayerTrace` has, of one sequence. Steps of a layer that runs back are
taken in its own order: "the step before" is the one that it processed before.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasscell.core import lstm, variants
from glasscell.core.blocking import norms
from glasscell.core.initializers import glorot_uniform, orthogonal
from glasscell.core.step_gradients import StepGradients, compute_step_gradients
from glasscell.core.types import Array
from glasscell.core.variants import DropoutMasks
from glasscell.trace.data import LayerTrace

CHUNK = 1 << 24  # numbers in the tape of columns that go back together


class Saturation(NamedTuple):
    """Of each unit, the share of steps at which a gate is nearly shut and nearly open: (H,) and (H,)."""

    left: Array
    right: Array


def saturation(gate: Array, low: float = 0.1, high: float = 0.9) -> Saturation:
    """How often a gate is left-saturated, below .1, and right-saturated, above .9.

    Karpathy, Johnson & Li (2015), Visualizing and understanding recurrent networks, section 4.2. A forget gate that is
    right-saturated at every step is an integrator; one that is neither is a leaky one.

    Parameters
    ----------
    gate : array (T, H), or (B, T, H), where NaN does not count
    low, high : float
    """
    axes = tuple(range(gate.ndim - 1))
    steps = np.maximum(1, np.isfinite(gate).sum(axis=axes))
    return Saturation((gate < low).sum(axis=axes) / steps, (gate > high).sum(axis=axes) / steps)


def half_life(f: Array) -> Array:
    """The number of steps after which half of what a cell holds is forgotten, (H,).

    What is left of c after T steps, if nothing is written, is the running product f_1 f_2 … f_T of its forget gates; a
    gate that stands at 2^(-1/n) forgets half in n steps. This is the n of the whole product: T ln ½ / Σ ln f. It is 0
    where a gate was shut, and infinite where it never closed at all.

    Parameters
    ----------
    f : array (T, H), or (B, T, H), where NaN does not count
    """
    axes = tuple(range(f.ndim - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithms = np.log(f.astype(np.float64))
        n = np.log(0.5) * np.isfinite(f).sum(axis=axes) / np.nansum(logarithms, axis=axes)
    return np.where(np.isnan(n) | (n < 0), np.inf, np.abs(n))


class Events(NamedTuple):
    """Steps and units at which something was written and erased: (T, H) and (T, H) of bool."""

    write: NDArray[np.bool_]
    erase: NDArray[np.bool_]


def events(layer: LayerTrace, threshold: float = 0.5) -> Events:
    """When a cell was written to, i ∘ abs(g) ≥ ½, and when its content was erased, (1 - f) ∘ abs(c_{t-1}) ≥ ½.

    Both are amounts by which c changes; the threshold is half of the most that can be written in a step. Neither is a
    term of the literature: they put "what to write" and "what to keep" of Hochreiter & Schmidhuber (1997) and Gers et
    al. (2000) into numbers.
    """
    _check_one_sequence(layer)
    return Events(
        np.asarray(layer.i * np.abs(layer.g) >= threshold),
        np.asarray((1 - layer.f) * np.abs(layer.c_prev) >= threshold),
    )


class GradientPaths(NamedTuple):
    """Parts of dL/dc by where they come from, (T, H) each. They add up to dL/dc; their norms do not.

    Attributes
    ----------
    output : array
        From this step's own output: dL/dy_t through o_t and tanh. It has not come through time.
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

    The split is local. What arrives along the cell is the *whole* gradient on the next cell times its forget gate, also
    what entered that cell through recurrent weights at a later step: the carousel of Hochreiter & Schmidhuber (1997)
    with the forget gates of Gers et al. (2000) carries both. Parts may have opposite signs.

    Parameters
    ----------
    layer : LayerTrace
        With gradients. With peepholes, ``recurrent`` includes the gates that read the cell, and a trace of some steps
        of a sequence has no ``cell`` at the last of them. With zoneout, ``recurrent`` includes the h that is kept.

    Raises
    ------
    ValueError
        If the cell is normalised: that mixes the units, so a cell has no separate path.
    """
    _check_one_sequence(layer)
    options, variant = layer.options, layer.options.cell_config
    if variant.normalises_cell:
        raise ValueError(f"layer_norm={options.layer_norm!r} normalises the cell: its units have no paths of their own")
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
    """What each cell's gradient gets from the next cell: f_{t+1} ∘ dL/dc_{t+1}, or its share under zoneout."""
    kept = layer.options.zoneout_cell
    cell, later = np.zeros_like(layer.d_c), np.zeros(layer.H, layer.d_c.dtype)
    for t in range(layer.T) if layer.reverse else reversed(range(layer.T)):
        cell[t] = (1 - kept) * later
        later = kept * later + layer.f[t] * layer.d_c[t]
    return cell


class GradientNorms(NamedTuple):
    """Euclidean norms over the units, step by step, (T,) in float64: of dL/dh, dL/dc, its three parts, and dL/dx."""

    h: Array
    c: Array
    output: Array
    cell: Array
    recurrent: Array
    x: Array


def gradient_norms(layer: LayerTrace) -> GradientNorms:
    """Return the norm of the gradient at each step, by path.

    The norms of the three parts of dL/dc do not add up to the norm of dL/dc: parts may cancel. ‖dL/dx_t‖ is how fast
    the loss changes with the input of step t. It does not say which inputs an answer depends on: where the answer is
    right, the loss, and with it this gradient, is close to 0 even for the one input that decides it.
    """
    parts = layer.d_h, layer.d_c, *gradient_paths(layer), layer.d_x
    return GradientNorms(*map(norms, parts))


def jacobian(layer: LayerTrace, t: int) -> Array:
    """∂(h_t, c_t) / ∂(h_{t-1}, c_{t-1}), (P + H, P + H), in float64."""
    _check_one_sequence(layer)
    P, H = layer.h.shape[-1], layer.H
    states = np.eye(P + H)
    every = _replay(layer, layer.x[t][None], (layer.h_prev[t], layer.c_prev[t]), states[:P], states[P:])
    return np.concatenate([every.dh0, every.dc0]).T


def spectral_radii(layer: LayerTrace) -> Array:
    """The largest size of an eigenvalue of each step's Jacobian, (T,).

    Below 1 a step shrinks gradients in the long run, above 1 it can let them grow: Bengio, Simard & Frasconi (1994);
    Pascanu, Mikolov & Bengio (2013), section 2.
    """
    _check_one_sequence(layer)
    return np.array([np.abs(np.linalg.eigvals(jacobian(layer, t))).max() for t in range(layer.T)])


class GradientDecay(NamedTuple):
    """Norm of the gradient n steps before the end, n = 0 … T - 1, relative to n = 0, (T,) each.

    The RNN is *not trained*: it is a reference for the size of the effect, not a competitor.
    """

    lstm: Array
    tanh_rnn: Array


def gradient_decay(layer: LayerTrace, seed: int = 0) -> GradientDecay:
    """Compare how gradients vanish in this layer and in an untrained tanh RNN of the same size.

    For the LSTM the Frobenius norm of ∂h_T/∂c_{T-n}, for the RNN that of ∂h_T/∂h_{T-n}, both over the one at n = 0. The
    RNN h_t = tanh(W_h h_{t-1} + W_x x_t) sees the same inputs; it is not trained, and its W_h is orthogonal: gradients
    would keep their size but for the slope of tanh (Saxe et al. 2014). Hochreiter (1991); Bengio et al. (1994).
    """
    _check_one_sequence(layer)
    if not layer.T:
        raise ValueError("this measure needs a sequence with at least one step, got none")
    x = layer.x[::-1] if layer.reverse else layer.x
    P, H, first = layer.h.shape[-1], layer.H, -1 if layer.reverse else 0
    total = np.zeros(layer.T)
    chunk = max(1, CHUNK // max(1, layer.T * 12 * H))
    for start in range(0, P, chunk):
        some = np.eye(P)[:, start : start + chunk]
        every = _replay(layer, x, (layer.h_prev[first], layer.c_prev[first]), some, np.zeros((H, some.shape[1])))
        total = np.hypot(total, norms(every.steps.dc.reshape(layer.T, -1)))
    return GradientDecay(_relative(total[::-1]), _relative(_of_tanh_rnn(x.astype(np.float64), H, seed)))


def _of_tanh_rnn(x: Array, H: int, seed: int) -> Array:
    """‖∂h_T/∂h_{T-n}‖ for n = 0 … T - 1."""
    rng = np.random.default_rng(seed)
    W_h, W_x = orthogonal(rng, H), glorot_uniform(rng, (H, x.shape[1]))
    h, hs = np.zeros(H), []
    for x_t in x:
        h = np.tanh(W_h @ h + W_x @ x_t)
        hs.append(h)
    found, J = [], np.eye(H)
    for h in reversed(hs):
        found.append(norms(J.ravel()))
        J = J @ ((1 - h**2)[:, None] * W_h)
    return np.array(found)


def _relative(sizes: Array) -> Array:
    return sizes / sizes[0] if len(sizes) and sizes[0] else sizes


class _Replay(NamedTuple):
    steps: StepGradients
    dh0: Array
    dc0: Array


def _replay(layer: LayerTrace, x: Array, start: tuple[Array, Array], dh_T: Array, dc_T: Array) -> _Replay:
    """Once more through these steps x (T, I) from a state, and back from B gradients on the last state, in float64."""
    for name, value in layer.options.unsupported("trace").items():
        raise ValueError(f"an LSTM with {name}={value!r} cannot be run again from its trace")
    B, H, variant = dh_T.shape[1], layer.H, layer.options.cell_config
    weights = {name: weight.astype(np.float64) for name, weight in layer.weights.items()}
    columns = np.broadcast_to(x[:, :, None], (*x.shape, B)).astype(np.float64)
    h0, c0 = (np.broadcast_to(part[:, None], (len(part), B)) for part in start)
    T, zero = len(x), np.zeros((len(x), len(dh_T), B))
    dz = np.empty((T, len(weights["kernel"]), B))
    if layer.options.is_standard:
        tape = lstm.forward(weights["kernel"], columns, h0, c0)
        d = lstm.backward(tape, zero, dh_T, dc_T, dz_steps=dz)
        return _Replay(compute_step_gradients(tape, dz, d.dx, zero, dh_T, dc_T), d.dh0, d.dc0)
    noise = DropoutMasks(1.0, 1.0 - layer.options.zoneout, 1.0 - layer.options.zoneout_cell)
    general = variants.forward(variant, weights, columns, h0, c0, noise)
    step_gradients = StepGradients(dz, np.empty_like(dz), np.empty((T, H, B)), np.empty_like(zero), columns, zero)
    of_general = variants.backward(general, zero, dh_T, dc_T, step_gradients=step_gradients)
    return _Replay(step_gradients, of_general.dh0, of_general.dc0)


def _check_one_sequence(layer: LayerTrace) -> None:
    """Raise ValueError unless the layer has all units and steps of one sequence: arrays (T, H)."""
    if layer.axes != "TR":
        expected = "this measure needs all steps and units of one sequence"
        if "B" in layer.axes:
            raise ValueError(f"{expected}, got a batch: choose one with trace.sequence(b)")
        raise ValueError(f"{expected}, got one step or unit: give the layer of the whole trace")
