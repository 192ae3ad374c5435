"""Backpropagation through time for the general layer: the steps of ``forward_pass.py`` in reverse order."""

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
    """Gradient of the loss with respect to all arguments of a forward pass."""

    dweights: dict[str, Array]  # names and shapes as in the weights
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
    step_gradients: StepGradients | None = None,
) -> Gradient:
    """Backpropagate through time.

    Parameters
    ----------
    tape : Tape
        From :func:`forward`; it is not modified.
    dh : array (T, P, B)
        Gradient on the outputs h_1 … h_T.
    dh_T, dc_T : array (P, B) and (H, B), or anything that broadcasts to it
        Gradient on the final state, from its use elsewhere.
    dc : array (T, H, B), optional
        Gradient on the cell states c_1 … c_T. Default: 0.
    buffers : BufferPool, optional
    step_gradients : StepGradients, optional
        Receives the gradients at every step, except dx and dy; dz is the one on the argument of the activations, dc the
        one on f ∘ c_prev + i ∘ g. Default: not recorded.
    """
    gradients = _GradientAccumulator(tape, step_gradients)
    running_dh, running_dc = np.empty((tape.P, tape.B), tape.dtype), np.empty((tape.H, tape.B), tape.dtype)
    running_dh[:], running_dc[:] = dh_T, dc_T
    W_h = np.ascontiguousarray(tape.kernel[:, : tape.P].T)
    for t in reversed(range(tape.T)):
        running_dh += dh[t]
        if dc is not None:
            running_dc += dc[t]
        finished = tape.finished(t)
        if finished is None:
            running_dh, running_dc = _step_backward(tape, gradients, t, W_h, running_dh, running_dc)
            continue
        d_unfinished = [np.where(finished, d.dtype.type(0), d) for d in (running_dh, running_dc)]
        steps = _step_backward(tape, gradients, t, W_h, *d_unfinished)
        running_dh, running_dc = (
            np.where(finished, d, step) for d, step in zip((running_dh, running_dc), steps, strict=True)
        )
    dweights, dx = _weights_backward(tape, gradients, buffers or BufferPool())
    if tape.hook is not None:
        for t, dx_t in reversed(list(enumerate(dx))):
            tape.hook.backward("x", t, dx_t)
    return Gradient(dweights, dx, running_dh, running_dc)


class _GradientAccumulator:
    """Gradients at every step that the gradients of the weights are computed from."""

    def __init__(self, tape: Tape, step_gradients: StepGradients | None) -> None:
        T, B, dtype, norm = tape.T, tape.B, tape.dtype, tape.config.layer_norm
        self.step_gradients = step_gradients
        # Gradients on the argument of the activations, before clipping; on z before the gates' normalisation; on W_h h;
        # on γ_c N(ĉ) + β_c; on ĥ.
        self.dz = np.empty_like(tape.z) if step_gradients is None else step_gradients.dz
        self.dsum = np.empty_like(tape.z) if tape.gates_norm else self.dz
        self.da_h = np.empty_like(tape.z) if norm == "haste" else self.dsum
        self.d_activation_input = np.empty((T, tape.H, B), dtype)
        self.dh_new = np.empty((T, tape.P, B), dtype)


# equation: lstm-step-backward
def _step_backward(
    tape: Tape, gradients: _GradientAccumulator, t: int, W_h: Array, dh: Array, dc: Array
) -> tuple[Array, Array]:
    """Return the gradients on h_{t-1} and c_{t-1}, given those on h_t and c_t, by the chain rule."""
    config, masks, c_prev, hook = tape.config, tape.masks, tape.c_with_initial[t], tape.hook
    i, f, o, g = tape.i[t], tape.f[t], tape.o[t], tape.g[t]

    dh_new, dh_prev = _zoneout_backward(dh, masks.new_h, t)
    dc_new, dc_prev = _zoneout_backward(dc, masks.new_c, t)
    if hook is not None:
        dh_new = dh_new.copy()
        dh_prev = dh_prev + hook.backward("h", t, dh_new)
    gradients.dh_new[t] = dh_new
    d_unprojected = tape.weights["projection"].T @ dh_new if "projection" in tape.weights else dh_new  # on o ∘ φ(ĉ)

    d_activation_input = gradients.d_activation_input[t] = config.output.derivative(
        tape.output_activation_input[t], tape.output[t]
    ) * (d_unprojected * o)
    if tape.c_norm is not None and config.layer_norm == "haste":
        d_activation_input = layer_norm_backward(_at_step(tape.c_norm, t), tape.column("gain_c") * d_activation_input)
    dc_new = dc_new + d_activation_input + _gate_backward(tape, gradients, t, "o", o, d_unprojected * tape.output[t])
    if tape.c_norm is not None and config.layer_norm == "contrib":
        gradients.d_activation_input[t] = dc_new
        dc_new = layer_norm_backward(_at_step(tape.c_norm, t), tape.column("gain_c") * dc_new)

    if gradients.step_gradients is not None:
        gradients.step_gradients.dh[t], gradients.step_gradients.dc[t] = dh, dc_new
    if hook is not None:
        dc_prev = dc_prev + hook.backward("c", t, dc_new)
    da = {"i": dc_new * g, "f": dc_new * c_prev}
    for gate, source in config.derived_gates.items():
        if source is not None:
            da[source] = da[source] - da[gate]
    dc_prev = dc_prev + dc_new * f
    _gate_backward(tape, gradients, t, "g", g, dc_new * i)  # no peephole
    for gate, a in (("i", i), ("f", f)):
        if gate in config.gates:
            dc_prev += _gate_backward(tape, gradients, t, gate, a, da[gate])

    if tape.h_norm is not None:
        gradients.da_h[t] = layer_norm_backward(_at_step(tape.h_norm, t), tape.column("gain_h") * gradients.dz[t])
    dh_read = W_h @ gradients.da_h[t]
    if hook is not None:
        hook.backward("W_h", t, dh_read)
    return dh_prev + masks.drop(dh_read), dc_prev


def _gate_backward(
    tape: Tape, gradients: _GradientAccumulator, t: int, gate: str, a: Array, da: Array
) -> Array | float:
    """Store the gradients on a gate's rows of z; return the one on the cell state that its peephole reads."""
    rows, clip = tape.gate_rows(gate), tape.config.clip
    z, activation = tape.z[t, rows], tape.config.activation_for(gate)
    if tape.hook is not None:
        tape.hook.add_carried(gate, da)
    if gradients.step_gradients is not None:
        gradients.step_gradients.da[t, rows] = da
    if tape.hook is not None:
        tape.hook.backward(gate, t, da)
        a = activation.function(z)
    dz: Array = activation.derivative(z, a) * da
    if tape.hook is not None:
        tape.hook.backward(f"z_{gate}", t, dz)
    if clip is not None:
        dz *= np.abs(z) < clip if tape.within_clip is None else tape.within_clip[t, rows]
    gradients.dz[t, rows] = dz
    if tape.gates_norm is not None:
        k = tape.config.gates.index(gate)
        normalized = NormalizedActivations(tape.gates_norm.values[t, rows], tape.gates_norm.scale[t, k])
        dz = gradients.dsum[t, rows] = layer_norm_backward(normalized, tape.column("gain")[rows] * dz)
    peephole = tape.peephole(gate)
    return 0.0 if peephole is None else peephole * dz


def _weights_backward(
    tape: Tape, gradients: _GradientAccumulator, buffers: BufferPool
) -> tuple[dict[str, Array], Array]:
    """Compute the gradients on all weights, and on the inputs, for all steps at once."""
    weights, P = tape.weights, tape.P
    da_x = gradients.dsum
    if tape.x_norm is not None:
        da_x = layer_norm_backward(tape.x_norm, tape.column("gain_x") * gradients.dz)
    dkernel = np.empty_like(tape.kernel)
    dx, dkernel[:, P:-1], _ = linear.backward(tape.kernel[:, P:-1], tape.x, da_x, buffers.scope("x"))
    h_read = tape.masks.drop(tape.h_with_initial[:-1]) if tape.h_read is None else tape.h_read
    dkernel[:, :P] = sum_of_outer_products(gradients.da_h, h_read, buffers.scope("h"))
    dkernel[:, -1] = _merge_steps(gradients.dz)
    d: dict[str, Array] = {"kernel": dkernel}
    if "peepholes" in weights:
        peephole_inputs = {"o": tape.new_c}
        d["peepholes"] = np.concatenate(
            [
                _merge_steps(
                    gradients.dsum[:, tape.gate_rows(gate)] * peephole_inputs.get(gate, tape.c_with_initial[:-1])
                )
                for gate in tape.config.peepholes
            ]
        )
    if "projection" in weights:
        d["projection"] = sum_of_outer_products(gradients.dh_new, tape.o * tape.output, buffers.scope("projection"))
        if "projection_bias" in weights:
            d["projection_bias"] = _merge_steps(gradients.dh_new)
    if tape.x_norm is not None and tape.h_norm is not None:
        d["gain_x"] = _merge_steps(gradients.dz * tape.x_norm.values)
        d["gain_h"] = _merge_steps(gradients.dz * tape.h_norm.values)
    if tape.gates_norm is not None:
        d["gain"] = _merge_steps(gradients.dz * tape.gates_norm.values)
    if tape.c_norm is not None:
        d["gain_c"] = _merge_steps(gradients.d_activation_input * tape.c_norm.values)
        d["shift_c"] = _merge_steps(gradients.d_activation_input)
    return d, dx


def _zoneout_backward(d: Array, share: Array | float, t: int) -> tuple[Array, Array | float]:
    """Return the gradients on the new and on the old value."""
    if isinstance(share, float):
        return (d, 0.0) if share == 1 else (share * d, (1 - share) * d)
    return share[t] * d, (1 - share[t]) * d


def _merge_steps(values: Array) -> Array:
    total: Array = values.sum(axis=(0, 2))  # (T, rows, B) -> (rows,)
    return total


def _at_step(normalized: NormalizedActivations, t: int) -> NormalizedActivations:
    return NormalizedActivations(normalized.values[t], normalized.scale[t])
