"""A sequence through the general layer, and the record of it. The equations stand in :mod:`glasscell.core.variants`."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from glasscell.core import linear
from glasscell.core.layer_norm import NormalizedActivations, layer_norm
from glasscell.core.time_order import Index
from glasscell.core.types import Array
from glasscell.core.variants.config import CellConfig, DropoutMasks


class Tape:
    """All that a forward pass computed, by name; what a backward pass reads. (T, H, B) unless said otherwise.

    Attributes
    ----------
    i, f, o, g, c, h : array
        Gates, candidate, cell state, and hidden state (T, P, B).
    z : array (T, R, B)
        What gates and candidate are a function of, after the clip.
    new_c : array
        ĉ, the cell before zoneout.
    read : array
        What the output activation was applied to; ``output`` is what it gave: tanh c in the plain case.
    cells, h_with_initial : array (T + 1, …)
        Cell and hidden states, the initial ones first.
    lengths : array (B,)
        Number of steps of each sequence; behind them its states stay as they are, and all else is arbitrary.
    """

    def __init__(
        self, variant: CellConfig, weights: Mapping[str, Array], x: Array, noise: DropoutMasks, lengths: Index | None
    ) -> None:
        kernel = weights["kernel"]
        T, I, B = x.shape
        R, H, P = len(kernel), len(kernel) // len(variant.gates), kernel.shape[1] - I - 1
        self.T, self.I, self.H, self.P, self.B, self.dtype = T, I, H, P, B, kernel.dtype
        self.variant, self.x = variant, x.copy()
        self.noise = DropoutMasks(*(np.array(part, self.dtype) if np.ndim(part) else float(part) for part in noise))
        self.lengths = np.full(B, T) if lengths is None else lengths.copy()
        self.weights = {name: weight.copy() for name, weight in weights.items()}
        self.z = np.empty((T, R, B), self.dtype)
        self.i, self.f, self.o, self.g, self.new_c, self.read, self.output = np.empty((7, T, H, B), self.dtype)
        self.c_with_initial, self.h_with_initial = (
            np.empty((T + 1, H, B), self.dtype),
            np.empty((T + 1, P, B), self.dtype),
        )
        norm = variant.layer_norm
        self.of_x: NormalizedActivations | None = None
        self.of_h = _empty_like((T, R, B), (T, 1, B), self.dtype) if norm == "haste" else None
        self.of_gates = _empty_like((T, R, B), (T, R // H, B), self.dtype) if norm in ("tflite", "contrib") else None
        self.of_c = _empty_like((T, H, B), (T, 1, B), self.dtype) if variant.normalises_cell else None

    @property
    def kernel(self) -> Array:
        """The weights W (R, P + I + 1) that the pass was made with."""
        return self.weights["kernel"]

    @property
    def c(self) -> Array:
        """Cell state."""
        return self.c_with_initial[1:]

    @property
    def h(self) -> Array:
        """Hidden state, the layer's output: (T, P, B)."""
        return self.h_with_initial[1:]

    @property
    def tanh_c(self) -> Array:
        """The cell as it is shown: φ of it, which need not be a tanh."""
        return self.output

    def ended(self, t: int) -> NDArray[np.bool_] | None:
        """Return which sequences have no step t, (B,); None if all have."""
        ended = t >= self.lengths
        return ended if ended.any() else None

    def rows(self, gate: str) -> slice:
        """Return the rows of a gate in the kernel and in z."""
        k = self.variant.gates.index(gate)
        return slice(k * self.H, (k + 1) * self.H)

    def peephole(self, gate: str) -> Array | None:
        """Return the weights with which a gate sees the cell, (H, 1)."""
        if gate == "g" or "peepholes" not in self.weights:
            return None
        k = self.variant.peepholes.index(gate)
        return self.weights["peepholes"][k * self.H : (k + 1) * self.H, None]

    def column(self, name: str) -> Array:
        """Return a weight with one number a row, to be broadcast over the batch."""
        return self.weights[name][:, None]


@np.errstate(under="ignore")
def forward(
    variant: CellConfig,
    weights: Mapping[str, Array],
    x: Array,
    h0: Array | float = 0.0,
    c0: Array | float = 0.0,
    noise: DropoutMasks | None = None,
    lengths: Index | None = None,
) -> Tape:
    """Run a layer over sequences.

    Parameters
    ----------
    variant : CellConfig
    weights : mapping of name to array
        Of the names and shapes of :meth:`Variant.shapes`. Columns of the kernel: h_prev, x, bias.
    x : array (T, I, B)
    h0 : array (P, B), or anything that broadcasts to it
    c0 : array (H, B), likewise
    noise : DropoutMasks, optional
    lengths : array (B,), optional
        From there on a sequence's state stays as it is: activations without bound would take it anywhere. x must be
        finite there, too.

    Returns
    -------
    Tape
        The outputs are ``tape.h``, the final state ``tape.h_with_initial[-1]`` and ``tape.c_with_initial[-1]``.
    """
    tape = Tape(variant, weights, x, noise or DropoutMasks(), lengths)
    tape.h_with_initial[0], tape.c_with_initial[0] = h0, c0
    from_x = _from_inputs(tape)  # (T, R, B)
    W_h = np.ascontiguousarray(tape.kernel[:, : tape.P])
    for t in range(tape.T):
        h, c, ended = tape.h_with_initial[t], tape.c_with_initial[t], tape.ended(t)
        if ended is not None:  # a step whose result is not kept begins with 0: nothing can overflow in it
            h, c = (np.where(ended, state.dtype.type(0), state) for state in (h, c))
        np.add(from_x[t], _from_hidden(tape, t, W_h, h), out=tape.z[t])
        _cell(tape, t, c)
        _output(tape, t, h, c)
        if ended is not None:
            tape.c_with_initial[t + 1][:, ended] = tape.c_with_initial[t][:, ended]
            tape.h_with_initial[t + 1][:, ended] = tape.h_with_initial[t][:, ended]
    return tape


def _from_inputs(tape: Tape) -> Array:
    """Return the part of z that depends on the inputs alone, for all steps at once."""
    W_x, b = tape.kernel[:, tape.P : -1], tape.kernel[:, -1]
    if tape.variant.layer_norm is None:
        return linear.forward(W_x, b, tape.x)
    a: Array = np.matmul(W_x, tape.x)
    if tape.variant.layer_norm != "haste":
        return a
    tape.of_x = layer_norm(a, tape.variant.epsilon)
    return tape.column("gain_x") * tape.of_x.values + b[:, None]


def _from_hidden(tape: Tape, t: int, W_h: Array, h: Array) -> Array:
    a: Array = W_h @ (tape.noise.recurrent * h)
    if tape.of_h is None:
        return a
    return tape.column("gain_h") * _store(tape.of_h, t, layer_norm(a, tape.variant.epsilon))


def _gate(tape: Tape, t: int, gate: str, seen: Array) -> Array:
    """Return a gate or the candidate, from its rows of z and the cell that its peephole sees."""
    z = tape.z[t, tape.rows(gate)]
    peephole = tape.peephole(gate)
    if peephole is not None:
        z += peephole * seen
    if tape.of_gates is not None:
        normalized = layer_norm(z, tape.variant.epsilon)
        k = tape.variant.gates.index(gate)
        tape.of_gates.scale[t, k] = normalized.scale
        tape.of_gates.values[t, tape.rows(gate)] = normalized.values
        gain, b = tape.column("gain")[tape.rows(gate)], tape.kernel[tape.rows(gate), -1:]
        z[:] = gain * normalized.values + b
    if tape.variant.clip is not None:
        np.clip(z, -tape.variant.clip, tape.variant.clip, out=z)
    return tape.variant.of(gate).function(z)


# equation: lstm-step
def _cell(tape: Tape, t: int, c_prev: Array) -> None:
    """Compute the equations up to ĉ."""
    variant, i, f = tape.variant, tape.i[t], tape.f[t]
    gates = {"i": i, "f": f, "g": tape.g[t]}
    for gate, a in gates.items():
        if gate in variant.gates:
            a[:] = _gate(tape, t, gate, c_prev)
    for gate, source in variant.derived_gates.items():
        gates[gate][:] = 1 if source is None else variant.gate.complement(tape.z[t, tape.rows(source)], gates[source])
    tape.new_c[t] = f * c_prev + i * gates["g"]


# equation: lstm-step
def _output(tape: Tape, t: int, h_prev: Array, c_prev: Array) -> None:
    """Compute the equations from ĉ on."""
    variant, noise, c, read = tape.variant, tape.noise, tape.new_c[t], tape.new_c[t]
    if tape.of_c is not None:
        values = _store(tape.of_c, t, layer_norm(c, variant.epsilon))
        read = tape.column("gain_c") * values + tape.column("shift_c")
        if variant.layer_norm == "contrib":
            c = tape.new_c[t] = read
    tape.o[t] = _gate(tape, t, "o", c)
    tape.read[t] = read
    tape.output[t] = variant.output.function(read)
    h = tape.o[t] * tape.output[t]
    if "projection" in tape.weights:
        h = tape.weights["projection"] @ h
        if "projection_bias" in tape.weights:
            h += tape.column("projection_bias")
    tape.c_with_initial[t + 1] = _zoneout(c_prev, c, noise.new_c, t)
    tape.h_with_initial[t + 1] = _zoneout(h_prev, h, noise.new_h, t)


def _zoneout(old: Array, new: Array, share: Array | float, t: int) -> Array:
    """Return the new value, or what zoneout leaves of it."""
    if isinstance(share, float):
        return new if share == 1 else old + share * (new - old)
    mixed: Array = old + share[t] * (new - old)
    return mixed


def _empty_like(values: tuple[int, ...], scale: tuple[int, ...], dtype: np.dtype[np.floating]) -> NormalizedActivations:
    return NormalizedActivations(np.empty(values, dtype), np.empty(scale, dtype))


def _store(kept: NormalizedActivations, t: int, normalized: NormalizedActivations) -> Array:
    kept.values[t] = normalized.values
    kept.scale[t] = normalized.scale
    return normalized.values
