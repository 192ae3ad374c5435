"""Backpropagation through time for the general layer: the steps of ``forward_pass.py``, last line first."""

from typing import NamedTuple

import numpy as np

from glasscell.core import linear
from glasscell.core.buffers import BufferPool
from glasscell.core.layer_norm import NormalizedActivations, layer_norm_backward
from glasscell.core.linear import sum_of_outer_products
from glasscell.core.step_gradients import StepGradients
from glasscell.core.types import Array
from glasscell.core.variants.forward_pass import Tape


class Gradient(NamedTuple):
    """The gradient of the loss with respect to all that a forward pass was given."""

    dweights: dict[str, Array]  # of the names and shapes of the weights
    dx: Array  # (T, I, B)
    dh0: Array  # (P, B)
    dc0: Array  # (H, B)


@np.errstate(under="ignore")
def backward(
    tape: Tape,
    dh: Array,
    dh_T: Array | float = 0.0,
    dc_T: Array | float = 0.0,
    dc: Array | None = None,
    buffers: BufferPool | None = None,
    every: StepGradients | None = None,
) -> Gradient:
    """Backpropagate through time.

    Parameters
    ----------
    tape : Tape
        From :func:`forward`; it is read only.
    dh : array (T, P, B)
        Gradient on the outputs h_1 … h_T.
    dh_T, dc_T : array (P, B) and (H, B), or anything that broadcasts to it
        Gradient on the final state, from its use elsewhere.
    dc : array (T, H, B), optional
        Gradient on the cells c_1 … c_T, likewise.
    buffers : BufferPool, optional
    every : StepGradients, optional
        Written, but for dx and dy: those at every step; dz on z as the activations see it, dc on f ∘ c_prev + i ∘ g.
    """
    slopes = _GradientAccumulator(tape, every)
    running_dh, running_dc = np.empty((tape.P, tape.B), tape.dtype), np.empty((tape.H, tape.B), tape.dtype)
    running_dh[:], running_dc[:] = dh_T, dc_T
    W_h = np.ascontiguousarray(tape.kernel[:, : tape.P].T)
    for t in reversed(range(tape.T)):
        running_dh += dh[t]
        if dc is not None:
            running_dc += dc[t]
        ended = tape.ended(t)
        if ended is None:
            running_dh, running_dc = _step_backward(tape, slopes, t, W_h, running_dh, running_dc)
            continue
        own = [np.where(ended, d.dtype.type(0), d) for d in (running_dh, running_dc)]
        steps = _step_backward(tape, slopes, t, W_h, *own)
        running_dh, running_dc = (
            np.where(ended, d, step) for d, step in zip((running_dh, running_dc), steps, strict=True)
        )
    dweights, dx = _weights_backward(tape, slopes, buffers or BufferPool())
    return Gradient(dweights, dx, running_dh, running_dc)


class _GradientAccumulator:
    """What the steps backward leave behind for the gradients of the weights."""

    def __init__(self, tape: Tape, every: StepGradients | None) -> None:
        T, B, dtype, norm = tape.T, tape.B, tape.dtype, tape.variant.layer_norm
        self.every = every
        # Gradients on: z as the activations see it, but for the clip; z before the gates' normalisation; W_h h;
        # γ_c N(ĉ) + β_c; ĥ.
        self.dz = np.empty_like(tape.z) if every is None else every.dz
        self.dsum = np.empty_like(tape.z) if tape.of_gates else self.dz
        self.da_h = np.empty_like(tape.z) if norm == "haste" else self.dsum
        self.dread = np.empty((T, tape.H, B), dtype)
        self.dh_new = np.empty((T, tape.P, B), dtype)


# equation: lstm-step-backward
def _step_backward(
    tape: Tape, slopes: _GradientAccumulator, t: int, W_h: Array, dh: Array, dc: Array
) -> tuple[Array, Array]:
    """Return the gradients on h_{t-1} and c_{t-1} from those on h_t and c_t: the chain rule, last line first."""
    variant, noise, c_prev = tape.variant, tape.noise, tape.c_with_initial[t]
    i, f, o, g = tape.i[t], tape.f[t], tape.o[t], tape.g[t]

    dh_new, dh_prev = _zoneout_backward(dh, noise.new_h, t)
    dc_new, dc_prev = _zoneout_backward(dc, noise.new_c, t)
    slopes.dh_new[t] = dh_new
    dshown = tape.weights["projection"].T @ dh_new if "projection" in tape.weights else dh_new  # on o ∘ φ(ĉ)

    dread = slopes.dread[t] = variant.output.derivative(tape.read[t], tape.output[t]) * (dshown * o)
    if tape.of_c is not None and variant.layer_norm == "haste":
        dread = layer_norm_backward(_at_step(tape.of_c, t), tape.column("gain_c") * dread)
    dc_new = dc_new + dread + _gate_backward(tape, slopes, t, "o", o, dshown * tape.output[t])
    if tape.of_c is not None and variant.layer_norm == "contrib":
        slopes.dread[t] = dc_new
        dc_new = layer_norm_backward(_at_step(tape.of_c, t), tape.column("gain_c") * dc_new)

    if slopes.every is not None:
        slopes.every.dh[t], slopes.every.dc[t] = dh, dc_new
    da = {"i": dc_new * g, "f": dc_new * c_prev}
    for gate, source in variant.derived_gates.items():
        if source is not None:
            da[source] = da[source] - da[gate]
    dc_prev = dc_prev + dc_new * f
    _gate_backward(tape, slopes, t, "g", g, dc_new * i)  # no peephole
    for gate, a in (("i", i), ("f", f)):
        if gate in variant.gates:
            dc_prev += _gate_backward(tape, slopes, t, gate, a, da[gate])

    if tape.of_h is not None:
        slopes.da_h[t] = layer_norm_backward(_at_step(tape.of_h, t), tape.column("gain_h") * slopes.dz[t])
    return dh_prev + noise.recurrent * (W_h @ slopes.da_h[t]), dc_prev


def _gate_backward(tape: Tape, slopes: _GradientAccumulator, t: int, gate: str, a: Array, da: Array) -> Array | float:
    """Write the gradients on a gate's rows of z; return the one on the cell that its peephole sees."""
    rows, clip = tape.rows(gate), tape.variant.clip
    z = tape.z[t, rows]
    dz: Array = tape.variant.of(gate).derivative(z, a) * da
    if clip is not None:
        dz *= np.abs(z) < clip
    slopes.dz[t, rows] = dz
    if slopes.every is not None:
        slopes.every.da[t, rows] = da
    if tape.of_gates is not None:
        k = tape.variant.gates.index(gate)
        normalized = NormalizedActivations(tape.of_gates.values[t, rows], tape.of_gates.scale[t, k])
        dz = slopes.dsum[t, rows] = layer_norm_backward(normalized, tape.column("gain")[rows] * dz)
    peephole = tape.peephole(gate)
    return 0.0 if peephole is None else peephole * dz


def _weights_backward(tape: Tape, slopes: _GradientAccumulator, buffers: BufferPool) -> tuple[dict[str, Array], Array]:
    """Compute the gradients on all weights, and on the inputs, for all steps at once."""
    weights, P = tape.weights, tape.P
    da_x = slopes.dsum
    if tape.of_x is not None:
        da_x = layer_norm_backward(tape.of_x, tape.column("gain_x") * slopes.dz)
    dkernel = np.empty_like(tape.kernel)
    dx, dkernel[:, P:-1], _ = linear.backward(tape.kernel[:, P:-1], tape.x, da_x, buffers.scope("x"))
    dkernel[:, :P] = sum_of_outer_products(
        slopes.da_h, tape.h_with_initial[:-1] * tape.noise.recurrent, buffers.scope("h")
    )
    dkernel[:, -1] = _merge_steps(slopes.dz)
    d: dict[str, Array] = {"kernel": dkernel}
    if "peepholes" in weights:
        seen = {"o": tape.new_c}
        d["peepholes"] = np.concatenate(
            [
                _merge_steps(slopes.dsum[:, tape.rows(gate)] * seen.get(gate, tape.c_with_initial[:-1]))
                for gate in tape.variant.peepholes
            ]
        )
    if "projection" in weights:
        d["projection"] = sum_of_outer_products(slopes.dh_new, tape.o * tape.output, buffers.scope("projection"))
        if "projection_bias" in weights:
            d["projection_bias"] = _merge_steps(slopes.dh_new)
    if tape.of_x is not None and tape.of_h is not None:
        d["gain_x"] = _merge_steps(slopes.dz * tape.of_x.values)
        d["gain_h"] = _merge_steps(slopes.dz * tape.of_h.values)
    if tape.of_gates is not None:
        d["gain"] = _merge_steps(slopes.dz * tape.of_gates.values)
    if tape.of_c is not None:
        d["gain_c"] = _merge_steps(slopes.dread * tape.of_c.values)
        d["shift_c"] = _merge_steps(slopes.dread)
    return d, dx


def _zoneout_backward(d: Array, share: Array | float, t: int) -> tuple[Array, Array | float]:
    """Compute the gradients on the new and on the old value."""
    if isinstance(share, float):
        return (d, 0.0) if share == 1 else (share * d, (1 - share) * d)
    return share[t] * d, (1 - share[t]) * d


def _merge_steps(slopes: Array) -> Array:
    total: Array = slopes.sum(axis=(0, 2))
    return total


def _at_step(normalized: NormalizedActivations, t: int) -> NormalizedActivations:
    return NormalizedActivations(normalized.values[t], normalized.scale[t])
