"""Derivatives of a stacked layer's state with respect to all weights, carried forward from step to step.

The derivative of an array (rows, B) is an array (rows, B, N): with respect to N weights, those of this layer and of
the layers below it, in the order of the flat vector of parameters. A derivative such as ∂h/∂w is called ``dh`` here.

A step of a layer computes pre-activations z = W [h_prev; x; 1]. Their derivative with respect to all weights is::

    dz = W_h dh_prev + W_x dx + [h_prev; x; 1] at the weights of the same row

of which the first product has the cost of real-time recurrent learning: rows · H · B · N.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from glasscell.core import gru, rnn, variants
from glasscell.core.activations import sigmoid_derivative, tanh_derivative
from glasscell.core.types import Array
from glasscell.online.lstm_step import unit_derivatives, weights_of


class TangentLayer(ABC):
    """One stacked layer with its state and the derivatives of that state.

    Parameters
    ----------
    layer : RecurrentLayer
    suffix : str
        Of the names of its weights, such as ``_l0``.
    I : int
        Number of its inputs.
    B : int

    Attributes
    ----------
    state, tangents : dict of str to array
        h, and c of an LSTM, (rows, B), and their derivatives (rows, B, N).
    """

    def __init__(self, layer: Any, suffix: str, I: int, B: int) -> None:
        self.layer, self.suffix, self.I, self.B = layer, suffix, I, B
        self.starts: dict[str, int] = {}  # where a weight begins in the vector of parameters
        self.N = stop = 0
        for name, shape in layer.parameters.shapes.items():
            self.starts[name] = stop
            stop += prod(shape)
            if name.endswith(suffix):
                self.N = stop
        self.state: dict[str, Array] = {}
        self.tangents: dict[str, Array] = {}

    def begin(self, initial: Mapping[str, Array] | None) -> None:
        """Set the state from arrays (rows, B). Default: the learned initial state, or 0."""
        sizes = {name: rows for name, (_, rows) in self.layer.state_sizes.items()}
        self.tangents = {name: self.zeros(rows) for name, rows in sizes.items()}
        if initial is not None:
            self.state = {name: np.array(initial[name]) for name in sizes}
            return
        self.state = {name: np.zeros((rows, self.B), self.layer.dtype) for name, rows in sizes.items()}
        for name in sizes:
            start = self.starts.get(f"initial_{name}{self.suffix}")
            if start is not None:
                self.state[name] += self.parameter(f"initial_{name}")[:, None]
                add_to_diagonal(self.tangents[name], start, 1)

    @abstractmethod
    def step(self, x: Array, dx: Array | None) -> None:
        """Take a step: x (I, B) with its derivatives (I, B, M) by the M weights of the layers below; None: 0."""

    def zeros(self, rows: int) -> Array:
        """Return the derivative of a constant."""
        return np.zeros((rows, self.B, self.N), self.layer.dtype)

    def parameter(self, name: str) -> Array:
        """Return a weight of this layer."""
        weight: Array = self.layer.parameters[name + self.suffix]
        return weight

    def start(self, name: str) -> int | None:
        """Return where a weight of this layer begins in the vector; None: the layer does not have it."""
        return self.starts.get(name + self.suffix)


def product(W: Array, d: Array, out: Array | None = None) -> Array:
    """Return the derivative of W v, for dv (columns, B, M): added to the first M weights of `out`, if present."""
    _, B, M = d.shape
    result: Array = (W @ d.reshape(len(d), B * M)).reshape(len(W), B, M)
    if out is None:
        return result
    out[..., :M] += result
    return out


def add_outer(d: Array, start: int, u: Array, row_length: int | None = None, first: int = 0) -> None:
    """Add the direct derivative of W u, where W is a weight of the rows of d: ``d[r, b, W[r, k]] += u[k, b]``.

    Parameters
    ----------
    d : array (R, B, N)
    start : int
        Where W begins in the vector.
    u : array (K, B)
    row_length, first : int, optional
        W is the columns first … first + K of a matrix with rows of this length. Default: all, K.
    """
    R, B, _ = d.shape
    length = len(u) if row_length is None else row_length
    rows = d[..., start : start + R * length].reshape(R, B, R, length)  # a view: the last axis is split
    diagonal = np.einsum("rbrk->rbk", rows)
    diagonal[..., first : first + len(u)] += u.T


def add_to_diagonal(d: Array, start: int, values: Array | float) -> None:
    """Add the direct derivative of a product with a vector of weights: ``d[r, b, v[r]] += values[r, b]``."""
    diagonal = np.einsum("rbr->rb", d[..., start : start + len(d)])
    diagonal += values


class LSTMTangents(TangentLayer):
    """Derivatives of h and c of an LSTM layer."""

    # equation: lstm-step-tangent
    def step(self, x: Array, dx: Array | None) -> None:
        """Take a step of :mod:`glasscell.core.variants`; :mod:`glasscell.online.lstm_step` has its derivatives."""
        options = self.layer.options
        weights = weights_of(options, self.layer.parameters, self.suffix)
        h_prev, c_prev, dh, dc = *self.state.values(), *self.tangents.values()
        tape = variants.forward(options.cell_config, weights, x[None], h_prev, c_prev)
        by = unit_derivatives(tape)
        c, m = tape.new_c[0], tape.o[0] * tape.output[0]

        dz = product(weights["kernel"][:, : len(h_prev)], dh)
        if dx is not None:
            product(weights["kernel"][:, len(h_prev) : -1], dx, out=dz)
        one = np.ones((1, self.B), self.layer.dtype)
        add_outer(dz, self.starts[f"kernel{self.suffix}"], np.concatenate([h_prev, x, one][: 2 + options.bias]))
        start = self.start("recurrent_bias")
        if start is not None:
            add_to_diagonal(dz, start, 1)

        self.tangents["c"] = by.c_by_c[..., None] * dc
        for gate, c_by_z in by.c_by_z.items():
            dz_gate = dz[tape.gate_rows(gate)]
            self._add_peephole(dz_gate, tape, gate, c_prev, dc)
            self.tangents["c"] += c_by_z[..., None] * dz_gate
        dc = self.tangents["c"]

        dz_o = dz[tape.gate_rows("o")]
        self._add_peephole(dz_o, tape, "o", c, dc)
        dm = by.m_by_z[..., None] * dz_o + by.m_by_c[..., None] * dc
        self.tangents["h"] = self._project(weights, m, dm) if options.proj_size is not None else dm
        self.state = {"h": tape.h[0], "c": c}

    def _add_peephole(self, dz: Array, tape: variants.Tape, gate: str, c: Array, dc: Array) -> None:
        """Add the derivative of p ∘ c to that of a gate's z."""
        peephole, start = tape.peephole(gate), self.start("peepholes")
        if peephole is None or start is None:
            return
        dz += peephole[..., None] * dc
        add_to_diagonal(dz, start + tape.config.peepholes.index(gate) * len(c), c)

    def _project(self, weights: Mapping[str, Array], m: Array, dm: Array) -> Array:
        """Return the derivative of h = P m + b."""
        dh = product(weights["projection"], dm)
        add_outer(dh, self.starts[f"projection{self.suffix}"], m)
        start = self.start("projection_bias")
        if start is not None:
            add_to_diagonal(dh, start, 1)
        return dh


class RNNTangents(TangentLayer):
    """Derivatives of h of a simple recurrent layer."""

    # equation: rnn-step-tangent
    def step(self, x: Array, dx: Array | None) -> None:
        """Take a step of :mod:`glasscell.core.rnn`: h = φ(z), so that dh = φ'(z) dz."""
        layer, h_prev = self.layer, self.state["h"]
        weights = layer.cell_weights(self.suffix)
        h = rnn.forward(weights, x[None], h_prev, **layer.cell_options).h[0]

        W, H = weights["kernel"], len(h)
        dz = product(W[:, :H], self.tangents["h"])
        if dx is not None:
            product(W[:, H:-1], dx, out=dz)
        one = np.ones((1, self.B), layer.dtype)
        add_outer(dz, self.starts[f"kernel{self.suffix}"], np.concatenate([h_prev, x, one][: 2 + layer.bias]))

        slope = tanh_derivative(h) if layer.nonlinearity == "tanh" else (h > 0).astype(h.dtype)
        self.tangents["h"] = slope[..., None] * dz
        self.state = {"h": h}


class GRUTangents(TangentLayer):
    """Derivatives of h of a gated recurrent unit."""

    # equation: gru-step-tangent
    def step(self, x: Array, dx: Array | None) -> None:
        """Take a step of :mod:`glasscell.core.gru`.

        With a the pre-activations, a_n = W_n [x; 1] + r ∘ q and q = U_n [h_prev; 1], or, with ``reset_after=False``,
        a_n = W_n [x; 1] + U_n (r ∘ h_prev)::

            dh = z dh_prev + (h_prev - n) dz + (1 - z) dn
        """
        layer, h_prev, dh = self.layer, self.state["h"], self.tangents["h"]
        weights = layer.cell_weights(self.suffix)
        tape = gru.forward(weights, x[None], h_prev, **layer.cell_options)
        H, r, z, n, q = len(h_prev), tape.r[0], tape.z[0], tape.n[0], tape.q[0]
        W, start = weights["kernel"], self.starts[f"kernel{self.suffix}"]
        length, ends = W.shape[1] - (not layer.bias), 2 * H
        one = np.ones((1, self.B), layer.dtype)
        inputs = np.concatenate([x, one][: 1 + layer.bias])

        da = np.zeros((3 * H, self.B, self.N), layer.dtype)
        product(W[:ends, :H], dh, out=da[:ends])
        if dx is not None:
            product(W[:, H:-1], dx, out=da)
        add_outer(da[:ends], start, np.concatenate([h_prev, inputs]))
        candidate = start + ends * length
        add_outer(da[ends:], candidate, inputs, length, H)
        dr = sigmoid_derivative(r)[..., None] * da[:H]
        dz = sigmoid_derivative(z)[..., None] * da[H:ends]

        if layer.reset_after:
            dq = product(W[ends:, :H], dh)
            add_outer(dq, candidate, h_prev, length)
            if layer.bias:
                add_to_diagonal(dq, self.starts[f"recurrent_bias{self.suffix}"], 1)
            da[ends:] += q[..., None] * dr + r[..., None] * dq
        else:
            product(W[ends:, :H], h_prev[..., None] * dr + r[..., None] * dh, out=da[ends:])
            add_outer(da[ends:], candidate, q, length)
        dn = tanh_derivative(n)[..., None] * da[ends:]

        self.tangents["h"] = z[..., None] * dh + (h_prev - n)[..., None] * dz + (1 - z)[..., None] * dn
        self.state = {"h": tape.h[0].copy()}


TANGENT_LAYERS: dict[str, type[TangentLayer]] = {"lstm": LSTMTangents, "rnn": RNNTangents, "gru": GRUTangents}
