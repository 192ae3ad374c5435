"""Derivatives of each unit's state with respect to the weights of that unit, carried forward from step to step.

A weight of row k of a gate acts first on unit k. Here only the derivatives of that unit's own state with respect to it
are kept: one number for each weight and each of h and c. Through W_h a unit then acts on itself by the diagonal alone.

Traces are arrays (G, H, K, B): of a weight matrix with G blocks of H rows and K columns, for B sequences.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from glasscell.core import gru, rnn, variants
from glasscell.core.activations import sigmoid_derivative, tanh_derivative
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array
from glasscell.online.lstm_step import unit_derivatives, weights_of

SUFFIX = "_l0"  # of the names of the weights: these rules are for one layer


class Group(NamedTuple):
    """One parameter, as G blocks of H rows and K columns, and its traces."""

    gates: tuple[str, ...]  # those that its blocks belong to; () for an initial state
    traces: dict[str, Array]  # "h", and "c" of an LSTM: (G, H, K, B)


class UnitTraces(ABC):
    """A layer with its state and the traces of its weights.

    Parameters
    ----------
    layer : RecurrentLayer
        Of one layer.
    B : int
    recurrent : bool
        Whether a unit acts on itself through the net inputs, by W_h and its peepholes; False: through its cell alone.
    """

    def __init__(self, layer: Any, B: int, *, recurrent: bool) -> None:
        self.layer, self.B, self.recurrent = layer, B, recurrent
        self.state: dict[str, Array] = {}
        self.groups: dict[str, Group] = {}

    def begin(self, initial: Mapping[str, Array] | None) -> None:
        """Set the state from arrays (rows, B). Default: the learned initial state, or 0."""
        H, parameters = self.layer.hidden_size, self.layer.parameters
        sizes = {name: rows for name, (_, rows) in self.layer.state_sizes.items()}
        self.groups = {}
        for name, gates in self._gates().items():
            shape = (len(gates), H, parameters[name + SUFFIX].size // (len(gates) * H), self.B)
            self.groups[name] = Group(gates, {field: np.zeros(shape, self.layer.dtype) for field in sizes})
        if initial is not None:
            self.state = {name: np.array(initial[name]) for name in sizes}
            return
        self.state = {name: np.zeros((rows, self.B), self.layer.dtype) for name, rows in sizes.items()}
        for name in sizes:
            if f"initial_{name}{SUFFIX}" in parameters:
                self.state[name] += parameters[f"initial_{name}{SUFFIX}"][:, None]
                traces = {field: np.full((1, H, 1, self.B), field == name, self.layer.dtype) for field in sizes}
                self.groups[f"initial_{name}"] = Group((), traces)

    @abstractmethod
    def step(self, x: Array) -> Array:
        """Take a step with x (I, B): return y (P, B)."""

    def learn(self, dy: Array, gradients: Parameters) -> None:
        """Add the gradient for dy (P, B)."""
        for name, group in self.groups.items():
            gradient = gradients[name + SUFFIX]
            gradient += np.einsum("ghkb,hb->ghk", group.traces["h"], dy).reshape(gradient.shape)

    @abstractmethod
    def _gates(self) -> dict[str, tuple[str, ...]]:
        """Return the gates of the blocks of each parameter of the layer."""

    def _own(self, W: Array, gate: int) -> Array | float:
        """Return the weights by which each unit acts on itself through a gate, (H, 1)."""
        if not self.recurrent:
            return 0.0
        H = self.layer.hidden_size
        return np.diagonal(W[gate * H : (gate + 1) * H, :H])[:, None]

    def _inputs(self, *rows: Array) -> Array:
        """Return the inputs of a kernel, (K, B): these rows and, with a bias, 1."""
        bias: list[Array] = [np.ones((1, self.B), self.layer.dtype)]
        return np.concatenate([*rows, *(bias if getattr(self.layer, "options", self.layer).bias else [])])


class LSTMTraces(UnitTraces):
    """Traces of an LSTM."""

    def _gates(self) -> dict[str, tuple[str, ...]]:
        config = self.layer.options.cell_config
        gates = {"kernel": config.gates, "recurrent_bias": config.gates, "peepholes": config.peepholes}
        return {name: value for name, value in gates.items() if name + SUFFIX in self.layer.parameters}

    # equation: lstm-step-tangent
    def step(self, x: Array) -> Array:
        """Take a step of :mod:`glasscell.core.variants`; :mod:`glasscell.online.lstm_step` has its derivatives."""
        options = self.layer.options
        weights = weights_of(options, self.layer.parameters, SUFFIX)
        h_prev, c_prev = self.state.values()
        self.tape = tape = variants.forward(options.cell_config, weights, x[None], h_prev, c_prev)
        by, gates, W = unit_derivatives(tape), options.gates, weights["kernel"]

        def peephole(gate: str) -> Array | float:
            p = tape.peephole(gate)
            return 0.0 if p is None or not self.recurrent else p

        c_by_h = sum(d * self._own(W, gates.index(gate)) for gate, d in by.c_by_z.items())
        c_by_c = by.c_by_c + sum(d * peephole(gate) for gate, d in by.c_by_z.items())
        h_by_h = by.m_by_z * self._own(W, gates.index("o"))
        h_by_c = by.m_by_c + by.m_by_z * peephole("o")

        c = tape.new_c[0]
        inputs: dict[str, Array] = {"kernel": self._inputs(h_prev, x), "recurrent_bias": np.ones_like(x[:1])}
        for name, (gates_of_group, traces) in self.groups.items():
            t_h, t_c = traces["h"], traces["c"]
            traces["c"] = _by_unit(c_by_c) * t_c + _by_unit(c_by_h) * t_h
            for k, gate in enumerate(gates_of_group):
                if gate in by.c_by_z:
                    read = c_prev[:, None] if name == "peepholes" else inputs[name]
                    traces["c"][k] += _by_unit(by.c_by_z[gate]) * read
            traces["h"] = _by_unit(h_by_c) * traces["c"] + _by_unit(h_by_h) * t_h
            if "o" in gates_of_group:
                read = c[:, None] if name == "peepholes" else inputs[name]
                traces["h"][gates_of_group.index("o")] += _by_unit(by.m_by_z) * read
        self.state = {"h": tape.h[0], "c": c}
        return self.state["h"]

    def learn(self, dy: Array, gradients: Parameters) -> None:
        """Add the gradient for dy (P, B): through the projection, if there is one, in this step alone."""
        projection = self.tape.weights.get("projection")
        if projection is None:
            super().learn(dy, gradients)
            return
        gradients[f"projection{SUFFIX}"][:] += dy @ (self.tape.o[0] * self.tape.output[0]).T
        if "projection_bias" in self.tape.weights:
            gradients[f"projection_bias{SUFFIX}"][:] += dy.sum(axis=1)
        super().learn(projection.T @ dy, gradients)


class RNNTraces(UnitTraces):
    """Traces of a simple recurrent layer."""

    def _gates(self) -> dict[str, tuple[str, ...]]:
        return {"kernel": ("h",)}

    # equation: rnn-step-tangent
    def step(self, x: Array) -> Array:
        """Take a step of :mod:`glasscell.core.rnn`."""
        h_prev, weights = self.state["h"], self.layer.cell_weights(SUFFIX)
        h = rnn.forward(weights, x[None], h_prev, **self.layer.cell_options).h[0]
        slope = tanh_derivative(h) if self.layer.nonlinearity == "tanh" else (h > 0).astype(h.dtype)
        traces = self.groups["kernel"].traces
        traces["h"] = _by_unit(slope) * (_by_unit(self._own(weights["kernel"], 0)) * traces["h"])
        traces["h"] += _by_unit(slope) * self._inputs(h_prev, x)
        self.state = {"h": h}
        return self.state["h"]


class GRUTraces(UnitTraces):
    """Traces of a gated recurrent unit whose reset gate acts after the product with U_n."""

    def _gates(self) -> dict[str, tuple[str, ...]]:
        return {"kernel": gru.GATES} | ({"recurrent_bias": ("n",)} if self.layer.bias else {})

    # equation: gru-step-tangent
    def step(self, x: Array) -> Array:
        """Take a step of :mod:`glasscell.core.gru`."""
        h_prev, weights = self.state["h"], self.layer.cell_weights(SUFFIX)
        tape = gru.forward(weights, x[None], h_prev, **self.layer.cell_options)
        H, W, r, z, n, q = len(h_prev), weights["kernel"], tape.r[0], tape.z[0], tape.n[0], tape.q[0]
        by_z = (h_prev - n) * sigmoid_derivative(z)
        by_n = (1 - z) * tanh_derivative(n)
        by_r = by_n * q * sigmoid_derivative(r)
        by_q = by_n * r
        h_by_h = z + sum(by * self._own(W, k) for k, by in enumerate((by_r, by_z, by_q)))
        for group in self.groups.values():
            group.traces["h"] = _by_unit(h_by_h) * group.traces["h"]
        inputs, kernel = self._inputs(h_prev, x), self.groups["kernel"].traces["h"]
        kernel[0] += _by_unit(by_r) * inputs
        kernel[1] += _by_unit(by_z) * inputs
        kernel[2, :, :H] += _by_unit(by_q) * h_prev
        kernel[2, :, H:] += _by_unit(by_n) * inputs[H:]
        if self.layer.bias:
            self.groups["recurrent_bias"].traces["h"][0] += _by_unit(by_q)
        self.state = {"h": tape.h[0].copy()}
        return self.state["h"]


def _by_unit(values: Array | float) -> Array:
    """Return values (H, B) of each unit with an axis for the columns of its weights."""
    return np.asarray(values)[..., None, :] if np.ndim(values) else np.asarray(values)


UNIT_TRACES: dict[str, type[UnitTraces]] = {"lstm": LSTMTraces, "rnn": RNNTraces, "gru": GRUTraces}
