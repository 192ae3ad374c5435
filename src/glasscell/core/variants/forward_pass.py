"""Forward pass of the general layer, and its tape. :mod:`glasscell.core.variants` has the equations."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from glasscell.core import linear
from glasscell.core.layer_norm import NormalizedActivations, layer_norm
from glasscell.core.step_hook import StepHook
from glasscell.core.time_order import Index
from glasscell.core.types import Array
from glasscell.core.variants.config import CellConfig, DropoutMasks


class Tape:
    """Record of a forward pass, which the backward pass reads. Arrays are (T, H, B) unless stated otherwise.

    Attributes
    ----------
    i, f, o, g, c, h : array
        Gates, candidate, cell state, and hidden state (T, P, B).
    z : array (T, R, B)
        Pre-activations of the gates and the candidate, after clipping. Owned by the tape; `_finish_gate` adds
        peepholes, normalises and clips it in place.
    new_c : array
        ĉ, the cell before zoneout.
    output_activation_input, output : array
        Argument and value of the output activation: c and tanh c in the standard LSTM.
    c_with_initial, h_with_initial : array (T + 1, …)
        Cell and hidden states, the initial ones first.
    lengths : array (B,)
        Number of steps of each sequence. After them its states are constant, and all other values are arbitrary.
    x_norm, h_norm, gates_norm, c_norm : NormalizedActivations, optional
        Normalised W_x x_t, W_h h_{t-1}, pre-activations of the gates, and ĉ. None without that normalisation.
    hook : StepHook, optional
        Changed values of the pass; the arrays have the values that acted.
    h_read : array (T, P, B), optional
        With a hook, the h_{t-1} that W_h read, after recurrent dropout.
    within_clip : array (T, R, B) of bool, optional
        With a hook, where pre-activations were not clipped.
    """

    def __init__(
        self,
        config: CellConfig,
        weights: Mapping[str, Array],
        x: Array,
        masks: DropoutMasks,
        lengths: Index | None,
        hook: StepHook | None = None,
    ) -> None:
        kernel = weights["kernel"]
        T, I, B = x.shape
        R, H, P = len(kernel), len(kernel) // len(config.gates), kernel.shape[1] - I - 1
        self.T, self.I, self.H, self.P, self.B, self.dtype = T, I, H, P, B, kernel.dtype
        self.config, self.x = config, x.copy()
        self.masks = DropoutMasks(*(np.array(mask, self.dtype) if np.ndim(mask) else float(mask) for mask in masks))
        self.lengths = np.full(B, T) if lengths is None else lengths.copy()
        self.weights = {name: weight.copy() for name, weight in weights.items()}
        self.z = np.empty((T, R, B), self.dtype)
        self.i, self.f, self.o, self.g, self.new_c, self.output_activation_input, self.output = np.empty(
            (7, T, H, B), self.dtype
        )
        self.c_with_initial, self.h_with_initial = (
            np.empty((T + 1, H, B), self.dtype),
            np.empty((T + 1, P, B), self.dtype),
        )
        norm = config.layer_norm
        self.x_norm: NormalizedActivations | None = None
        self.h_norm = _empty_like((T, R, B), (T, 1, B), self.dtype) if norm == "haste" else None
        self.gates_norm = _empty_like((T, R, B), (T, R // H, B), self.dtype) if norm in ("tflite", "contrib") else None
        self.c_norm = _empty_like((T, H, B), (T, 1, B), self.dtype) if config.normalises_cell else None
        self.hook = hook
        self.h_read = None if hook is None else np.empty((T, P, B), self.dtype)
        self.within_clip = None if hook is None else np.ones((T, R, B), np.bool_)

    @property
    def kernel(self) -> Array:
        """The weights W (R, P + I + 1) of this pass."""
        return self.weights["kernel"]

    @property
    def c(self) -> Array:
        """The cell state."""
        return self.c_with_initial[1:]

    @property
    def h(self) -> Array:
        """The hidden state, which is the layer's output: (T, P, B)."""
        return self.h_with_initial[1:]

    @property
    def tanh_c(self) -> Array:
        """The value φ(c) of the output activation, which need not be tanh."""
        return self.output

    def finished(self, t: int) -> NDArray[np.bool_] | None:
        """Return which sequences have ended before step t, (B,); None if none has."""
        finished = t >= self.lengths
        return finished if finished.any() else None

    def gate_rows(self, gate: str) -> slice:
        """Return the rows of a gate in the kernel and in z."""
        k = self.config.gates.index(gate)
        return slice(k * self.H, (k + 1) * self.H)

    def peephole(self, gate: str) -> Array | None:
        """Return the peephole weights of a gate, (H, 1); None if it has no peephole."""
        if gate == "g" or "peepholes" not in self.weights:
            return None
        k = self.config.peepholes.index(gate)
        return self.weights["peepholes"][k * self.H : (k + 1) * self.H, None]

    def column(self, name: str) -> Array:
        """Return a weight vector as a column (rows, 1), which broadcasts over the batch."""
        return self.weights[name][:, None]


@np.errstate(under="ignore")
def forward(
    config: CellConfig,
    weights: Mapping[str, Array],
    x: Array,
    h0: Array | float = 0.0,
    c0: Array | float = 0.0,
    masks: DropoutMasks | None = None,
    lengths: Index | None = None,
    hook: StepHook | None = None,
) -> Tape:
    """Run the layer over sequences.

    Parameters
    ----------
    config : CellConfig
    weights : mapping of name to array
        Of the names and shapes of :meth:`CellConfig.shapes`. Columns of the kernel: h_prev, x, bias.
    x : array (T, I, B)
    h0 : array (P, B), or anything that broadcasts to it
    c0 : array (H, B), likewise
    masks : DropoutMasks, optional
    lengths : array (B,), optional
        Number of steps of each sequence. After them its state is constant, since unbounded activations could overflow.
        x must be finite there, too.
    hook : StepHook, optional
        Changes values of the steps.

    Returns
    -------
    Tape
        The outputs are ``tape.h``, the final state ``tape.h_with_initial[-1]`` and ``tape.c_with_initial[-1]``.
    """
    tape = Tape(config, weights, x, masks or DropoutMasks(), lengths, hook)
    tape.h_with_initial[0], tape.c_with_initial[0] = h0, c0
    if hook is not None:
        for t, x_t in enumerate(tape.x):
            hook.apply("x", t, x_t)
    from_x = _from_inputs(tape)  # (T, R, B)
    W_h = np.ascontiguousarray(tape.kernel[:, : tape.P])
    for t in range(tape.T):
        h, c, finished = tape.h_with_initial[t], tape.c_with_initial[t], tape.finished(t)
        if finished is not None:  # the result is discarded; starting from 0, it cannot overflow
            h, c = (np.where(finished, state.dtype.type(0), state) for state in (h, c))
        np.add(from_x[t], _from_hidden(tape, t, W_h, h), out=tape.z[t])
        _cell(tape, t, c)
        _output(tape, t, h, c)
        if finished is not None:
            tape.c_with_initial[t + 1][:, finished] = tape.c_with_initial[t][:, finished]
            tape.h_with_initial[t + 1][:, finished] = tape.h_with_initial[t][:, finished]
    return tape


def _from_inputs(tape: Tape) -> Array:
    """Return the terms of z that depend on the inputs only, for all steps at once."""
    W_x, b = tape.kernel[:, tape.P : -1], tape.kernel[:, -1]
    if tape.config.layer_norm is None:
        return linear.forward(W_x, b, tape.x)
    a: Array = np.matmul(W_x, tape.x)
    if tape.config.layer_norm != "haste":
        return a
    tape.x_norm = layer_norm(a, tape.config.epsilon)
    return tape.column("gain_x") * tape.x_norm.values + b[:, None]


def _from_hidden(tape: Tape, t: int, W_h: Array, h: Array) -> Array:
    h = tape.masks.drop(h)
    if tape.hook is not None and tape.h_read is not None:
        tape.h_read[t] = h
        h = tape.h_read[t]
        tape.hook.apply("W_h", t, h)
    a: Array = W_h @ h
    if tape.h_norm is None:
        return a
    return tape.column("gain_h") * _store(tape.h_norm, t, layer_norm(a, tape.config.epsilon))


def _finish_gate(tape: Tape, t: int, gate: str, peephole_input: Array) -> Array:
    """Complete the rows of z of a gate or the candidate, in place, and return its value."""
    z = tape.z[t, tape.gate_rows(gate)]
    peephole = tape.peephole(gate)
    if peephole is not None:
        z += peephole * peephole_input
    if tape.gates_norm is not None:
        normalized = layer_norm(z, tape.config.epsilon)
        k = tape.config.gates.index(gate)
        tape.gates_norm.scale[t, k] = normalized.scale
        tape.gates_norm.values[t, tape.gate_rows(gate)] = normalized.values
        gain, b = tape.column("gain")[tape.gate_rows(gate)], tape.kernel[tape.gate_rows(gate), -1:]
        z[:] = gain * normalized.values + b
    if tape.config.clip is not None:
        if tape.within_clip is not None:
            tape.within_clip[t, tape.gate_rows(gate)] = np.abs(z) < tape.config.clip
        np.clip(z, -tape.config.clip, tape.config.clip, out=z)
    if tape.hook is None:
        return tape.config.activation_for(gate).function(z)
    tape.hook.apply(f"z_{gate}", t, z)
    a = tape.config.activation_for(gate).function(z)
    tape.hook.apply(gate, t, a)
    return a


# equation: lstm-step
def _cell(tape: Tape, t: int, c_prev: Array) -> None:
    """Compute the equations up to ĉ."""
    config, i, f = tape.config, tape.i[t], tape.f[t]
    gates = {"i": i, "f": f, "g": tape.g[t]}
    for gate, a in gates.items():
        if gate in config.gates:
            a[:] = _finish_gate(tape, t, gate, c_prev)
    for gate, source in config.derived_gates.items():
        gates[gate][:] = (
            1 if source is None else config.gate.complement(tape.z[t, tape.gate_rows(source)], gates[source])
        )
        if source is not None and tape.hook is not None:
            gates[gate][:] = 1 - gates[source]  # also of a gate that the hook changed
    tape.new_c[t] = f * c_prev + i * gates["g"]
    if tape.hook is not None:
        tape.hook.apply("c", t, tape.new_c[t], c_prev)


# equation: lstm-step
def _output(tape: Tape, t: int, h_prev: Array, c_prev: Array) -> None:
    """Compute the equations from ĉ on."""
    config, masks, c, activation_input = tape.config, tape.masks, tape.new_c[t], tape.new_c[t]
    if tape.c_norm is not None:
        values = _store(tape.c_norm, t, layer_norm(c, config.epsilon))
        activation_input = tape.column("gain_c") * values + tape.column("shift_c")
        if config.layer_norm == "contrib":
            c = tape.new_c[t] = activation_input
    tape.o[t] = _finish_gate(tape, t, "o", c)
    tape.output_activation_input[t] = activation_input
    tape.output[t] = config.output.function(activation_input)
    h = tape.o[t] * tape.output[t]
    if "projection" in tape.weights:
        h = tape.weights["projection"] @ h
        if "projection_bias" in tape.weights:
            h += tape.column("projection_bias")
    if tape.hook is not None:
        tape.hook.apply("h", t, h, h_prev)
    tape.c_with_initial[t + 1] = _zoneout(c_prev, c, masks.new_c, t)
    tape.h_with_initial[t + 1] = _zoneout(h_prev, h, masks.new_h, t)


def _zoneout(old: Array, new: Array, update_share: Array | float, t: int) -> Array:
    """Return the new value; with zoneout, old + update_share (new - old)."""
    if isinstance(update_share, float):
        return new if update_share == 1 else old + update_share * (new - old)
    mixed: Array = old + update_share[t] * (new - old)
    return mixed


def _empty_like(values: tuple[int, ...], scale: tuple[int, ...], dtype: np.dtype[np.floating]) -> NormalizedActivations:
    return NormalizedActivations(np.empty(values, dtype), np.empty(scale, dtype))


def _store(target: NormalizedActivations, t: int, normalized: NormalizedActivations) -> Array:
    target.values[t] = normalized.values
    target.scale[t] = normalized.scale
    return normalized.values
