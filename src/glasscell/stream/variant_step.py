"""One step of any other LSTM, as :func:`glasscell.core.variants.forward` makes it. Its docstring has the equations."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from glasscell.core.types import Array
from glasscell.core.variants import CellConfig
from glasscell.stream.arena import Arena, Call
from glasscell.stream.ufunc_calls import activation_calls, as_matmul_operand, clip_calls, layer_norm_calls, matmul_call


class VariantStep:
    """The calls of one step; they write the state last.

    Parameters
    ----------
    variant : Variant
    weights : mapping of name to array
        Of the names and shapes of :meth:`Variant.shapes`.
    shares : tuple of float
        Share of the new h and of the new c that zoneout keeps. 1: no zoneout.
    column : array
        [x; 1; h].
    h : array
        Its last rows, where the new hidden state goes.
    memory : Memory

    Attributes
    ----------
    calls : list of callable
    c : array
        The cell state.
    """

    def __init__(
        self,
        variant: CellConfig,
        weights: Mapping[str, Array],
        shares: tuple[float, float],
        column: Array,
        h: Array,
        memory: Arena,
    ) -> None:
        self.variant, self.weights, self.memory = variant, weights, memory
        R = len(weights["kernel"])
        self.H = R // len(variant.gates)
        self.z, self.c, self.new_c = memory.allocate(R), memory.allocate(self.H), memory.allocate(self.H)
        self.t, self.output, self.complement = memory.allocate(self.H), memory.allocate(self.H), memory.allocate(self.H)
        self.calls: list[Call] = []
        self._together = not {"peepholes", "gain"} & weights.keys()
        self._pre_activations(column, h)
        if self._together:
            self._gates_fused()
        self._cell()
        new_h = self._output(len(h))
        self._mix(self.c, self.new_c, shares[1])
        self._mix(h, new_h, shares[0])

    def _add(self, *calls: Call) -> None:
        self.calls += calls

    def _product(self, weight: Array, column: Array, out: Array) -> None:
        self._add(matmul_call(as_matmul_operand(weight, single=self.memory.batch is None), column, out))

    def _rows(self, gate: str) -> slice:
        k = self.variant.gates.index(gate)
        return slice(k * self.H, (k + 1) * self.H)

    def _scale_and_shift(self, a: Array, gain: Array, shift: Array) -> None:
        self._add(partial(np.multiply, gain, a, a), partial(np.add, a, shift, a))

    def _pre_activations(self, column: Array, h: Array) -> None:
        kernel, norm, P = self.weights["kernel"], self.variant.layer_norm, len(h)
        W_h, W_x, b = kernel[:, :P], kernel[:, P:-1], kernel[:, -1:]
        if norm != "haste":  # where the gates are normalised, their bias comes after that
            bias = np.zeros_like(b) if norm else b
            self._product(np.concatenate([W_x, bias, W_h], axis=1), column, self.z)
            return
        of_h, weight = self.memory.allocate(len(kernel)), self.memory.broadcast_weight
        self._product(W_x, column[: W_x.shape[1]], self.z)
        self._add(*layer_norm_calls(self.z, self.variant.epsilon))
        self._scale_and_shift(self.z, weight(self.weights["gain_x"]), weight(b[:, 0]))
        self._product(W_h, h, of_h)
        self._add(*layer_norm_calls(of_h, self.variant.epsilon))
        self._add(
            partial(np.multiply, weight(self.weights["gain_h"]), of_h, of_h), partial(np.add, self.z, of_h, self.z)
        )

    def _gates_fused(self) -> None:
        """Where no gate waits for another, few calls do for all of them."""
        variant, candidate = self.variant, self._rows("g")
        if variant.clip is not None:
            self._add(*clip_calls(self.z, -variant.clip, variant.clip))
        for source in variant.derived_gates.values():
            self._prepare_complement(source)
        self._add(
            *activation_calls(variant.gate, self.z[: candidate.start]),
            *activation_calls(variant.candidate, self.z[candidate]),
        )

    def _gate(self, gate: str, seen: Array) -> Array:
        """The calls that put a gate or the candidate in the place of its rows of z."""
        variant, rows, weight = self.variant, self._rows(gate), self.memory.broadcast_weight
        z = self.z[rows]
        if self._together:
            return z
        if gate != "g" and "peepholes" in self.weights:
            k = variant.peepholes.index(gate)
            peephole = weight(self.weights["peepholes"][k * self.H : (k + 1) * self.H])
            self._add(partial(np.multiply, peephole, seen, self.t), partial(np.add, z, self.t, z))
        if "gain" in self.weights:
            self._add(*layer_norm_calls(z, variant.epsilon))
            self._scale_and_shift(z, weight(self.weights["gain"][rows]), weight(self.weights["kernel"][rows, -1]))
        if variant.clip is not None:
            self._add(*clip_calls(z, -variant.clip, variant.clip))
        if gate in variant.derived_gates.values():
            self._prepare_complement(gate)
        self._add(*activation_calls(variant.of(gate), z))
        return z

    def _prepare_complement(self, source: str | None) -> None:
        """Add the calls, before those of the gate, for 1 - σ(z) = σ(-z): full precision even where σ(z) is nearly 1."""
        if source is not None and self.variant.gate.name == "Sigmoid":
            negated = partial(np.negative, self.z[self._rows(source)], self.complement)
            self._add(negated, *activation_calls(self.variant.gate, self.complement))

    # equation: lstm-step
    def _cell(self) -> None:
        """The calls up to ĉ."""
        variant, c, one = self.variant, self.c, np.array(1, self.memory.dtype)
        gates = {gate: self._gate(gate, c) for gate in variant.gates if gate != "o"}
        for gate, source in variant.derived_gates.items():
            if source is not None and variant.gate.name != "Sigmoid":
                self._add(partial(np.subtract, one, gates[source], self.complement))
            gates[gate] = one if source is None else self.complement
        self._add(
            partial(np.multiply, gates["f"], c, self.new_c),
            partial(np.multiply, gates["i"], gates["g"], self.t),
            partial(np.add, self.new_c, self.t, self.new_c),
        )

    # equation: lstm-step
    def _output(self, P: int) -> Array:
        """The calls from ĉ to the new h."""
        weights, out, weight = self.weights, self.output, self.memory.broadcast_weight
        read = self.new_c
        if "gain_c" in weights:
            if self.variant.layer_norm == "haste":
                read = self.memory.allocate(self.H)
                self._add(partial(np.copyto, read, self.new_c))
            self._add(*layer_norm_calls(read, self.variant.epsilon))
            self._scale_and_shift(read, weight(weights["gain_c"]), weight(weights["shift_c"]))
        o = self._gate("o", self.new_c)
        self._add(
            partial(np.copyto, out, read),
            *activation_calls(self.variant.output, out),
            partial(np.multiply, o, out, out),
        )
        if "projection" not in weights:
            return out
        new_h = self.memory.allocate(P)
        self._product(weights["projection"], out, new_h)
        if "projection_bias" in weights:
            self._add(partial(np.add, new_h, weight(weights["projection_bias"]), new_h))
        return new_h

    def _mix(self, old: Array, new: Array, share: float) -> None:
        """The new value in the place of the old, or what zoneout leaves of both."""
        if share == 1:
            self._add(partial(np.copyto, old, new))
        else:
            k = np.array(share, self.memory.dtype)
            self._add(
                partial(np.subtract, new, old, new), partial(np.multiply, k, new, new), partial(np.add, old, new, old)
            )
