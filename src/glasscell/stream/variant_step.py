"""One step of an LSTM with options, as in :func:`glasscell.core.variants.forward`, which has the equations."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from glasscell.core.types import Array
from glasscell.core.variants import CellConfig
from glasscell.stream.arena import Arena, Call
from glasscell.stream.ufunc_calls import activation_calls, as_matmul_operand, clip_calls, layer_norm_calls, matmul_call


class VariantStep:
    """The calls of one step. The last ones write the state.

    Parameters
    ----------
    config : CellConfig
    weights : mapping of name to array
        With the names and shapes of :meth:`CellConfig.shapes`.
    update_rates : tuple of float
        Weight of the new value in h and in c: 1 - zoneout. 1: no zoneout.
    column : array
        [x; 1; h].
    h : array
        The last rows of `column`, where the calls write the new hidden state.
    memory : Arena

    Attributes
    ----------
    calls : list of callable
    c : array
        The cell state.
    """

    def __init__(
        self,
        config: CellConfig,
        weights: Mapping[str, Array],
        update_rates: tuple[float, float],
        column: Array,
        h: Array,
        memory: Arena,
    ) -> None:
        self.config, self.weights, self.memory = config, weights, memory
        R = len(weights["kernel"])
        self.H = R // len(config.gates)
        self.z, self.c, self.new_c = memory.allocate(R), memory.allocate(self.H), memory.allocate(self.H)
        self.t, self.output, self.complement = memory.allocate(self.H), memory.allocate(self.H), memory.allocate(self.H)
        self.calls: list[Call] = []
        self._is_fused = not {"peepholes", "gain"} & weights.keys()
        self._pre_activations(column, h)
        if self._is_fused:
            self._gates_fused()
        self._cell()
        new_h = self._output(len(h))
        self._zoneout(self.c, self.new_c, update_rates[1])
        self._zoneout(h, new_h, update_rates[0])

    def _append(self, *calls: Call) -> None:
        self.calls += calls

    def _append_matmul(self, weight: Array, column: Array, out: Array) -> None:
        self._append(matmul_call(as_matmul_operand(weight, single=self.memory.batch is None), column, out))

    def _rows(self, gate: str) -> slice:
        k = self.config.gates.index(gate)
        return slice(k * self.H, (k + 1) * self.H)

    def _scale_and_shift(self, a: Array, gain: Array, shift: Array) -> None:
        self._append(partial(np.multiply, gain, a, a), partial(np.add, a, shift, a))

    def _pre_activations(self, column: Array, h: Array) -> None:
        kernel, layer_norm, P = self.weights["kernel"], self.config.layer_norm, len(h)
        W_h, W_x, b = kernel[:, :P], kernel[:, P:-1], kernel[:, -1:]
        if layer_norm != "haste":  # a bias is added after the normalisation of the gates
            bias = np.zeros_like(b) if layer_norm else b
            self._append_matmul(np.concatenate([W_x, bias, W_h], axis=1), column, self.z)
            return
        hidden_products, weight = self.memory.allocate(len(kernel)), self.memory.broadcast_weight
        self._append_matmul(W_x, column[: W_x.shape[1]], self.z)
        self._append(*layer_norm_calls(self.z, self.config.epsilon))
        self._scale_and_shift(self.z, weight(self.weights["gain_x"]), weight(b[:, 0]))
        self._append_matmul(W_h, h, hidden_products)
        self._append(*layer_norm_calls(hidden_products, self.config.epsilon))
        self._append(
            partial(np.multiply, weight(self.weights["gain_h"]), hidden_products, hidden_products),
            partial(np.add, self.z, hidden_products, self.z),
        )

    def _gates_fused(self) -> None:
        """Append the calls of all gates, without peepholes and normalisation: one call for several gates."""
        config, candidate = self.config, self._rows("g")
        if config.clip is not None:
            self._append(*clip_calls(self.z, -config.clip, config.clip))
        for source in config.derived_gates.values():
            self._prepare_complement(source)
        self._append(
            *activation_calls(config.gate, self.z[: candidate.start]),
            *activation_calls(config.candidate, self.z[candidate]),
        )

    def _gate(self, gate: str, peephole_input: Array) -> Array:
        """Append the calls that replace the rows of a gate or the candidate in z by its value; return these rows."""
        config, rows, weight = self.config, self._rows(gate), self.memory.broadcast_weight
        z = self.z[rows]
        if self._is_fused:
            return z
        if gate != "g" and "peepholes" in self.weights:
            k = config.peepholes.index(gate)
            peephole = weight(self.weights["peepholes"][k * self.H : (k + 1) * self.H])
            self._append(partial(np.multiply, peephole, peephole_input, self.t), partial(np.add, z, self.t, z))
        if "gain" in self.weights:
            self._append(*layer_norm_calls(z, config.epsilon))
            self._scale_and_shift(z, weight(self.weights["gain"][rows]), weight(self.weights["kernel"][rows, -1]))
        if config.clip is not None:
            self._append(*clip_calls(z, -config.clip, config.clip))
        if gate in config.derived_gates.values():
            self._prepare_complement(gate)
        self._append(*activation_calls(config.activation_for(gate), z))
        return z

    def _prepare_complement(self, source: str | None) -> None:
        """Append the calls that write 1 - σ(z) = σ(-z), which keeps its digits where σ(z) is nearly 1."""
        if source is not None and self.config.gate.name == "Sigmoid":
            negated = partial(np.negative, self.z[self._rows(source)], self.complement)
            self._append(negated, *activation_calls(self.config.gate, self.complement))

    # equation: lstm-step
    def _cell(self) -> None:
        """Append the calls of the new cell state."""
        config, c, one = self.config, self.c, np.array(1, self.memory.dtype)
        gates = {gate: self._gate(gate, c) for gate in config.gates if gate != "o"}
        for gate, source in config.derived_gates.items():
            if source is not None and config.gate.name != "Sigmoid":
                self._append(partial(np.subtract, one, gates[source], self.complement))
            gates[gate] = one if source is None else self.complement
        self._append(
            partial(np.multiply, gates["f"], c, self.new_c),
            partial(np.multiply, gates["i"], gates["g"], self.t),
            partial(np.add, self.new_c, self.t, self.new_c),
        )

    # equation: lstm-step
    def _output(self, P: int) -> Array:
        """Append the calls of the new hidden state, and return it."""
        weights, out, weight = self.weights, self.output, self.memory.broadcast_weight
        activation_input = self.new_c
        if "gain_c" in weights:
            if self.config.layer_norm == "haste":
                activation_input = self.memory.allocate(self.H)
                self._append(partial(np.copyto, activation_input, self.new_c))
            self._append(*layer_norm_calls(activation_input, self.config.epsilon))
            self._scale_and_shift(activation_input, weight(weights["gain_c"]), weight(weights["shift_c"]))
        o = self._gate("o", self.new_c)
        self._append(
            partial(np.copyto, out, activation_input),
            *activation_calls(self.config.output, out),
            partial(np.multiply, o, out, out),
        )
        if "projection" not in weights:
            return out
        new_h = self.memory.allocate(P)
        self._append_matmul(weights["projection"], out, new_h)
        if "projection_bias" in weights:
            self._append(partial(np.add, new_h, weight(weights["projection_bias"]), new_h))
        return new_h

    def _zoneout(self, old: Array, new: Array, update_rate: float) -> None:
        """Append the calls that replace the old value by the new one, or by their mixture if there is zoneout."""
        if update_rate == 1:
            self._append(partial(np.copyto, old, new))
        else:
            k = np.array(update_rate, self.memory.dtype)
            self._append(
                partial(np.subtract, new, old, new), partial(np.multiply, k, new, new), partial(np.add, old, new, old)
            )
