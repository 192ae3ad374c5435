"""Draw problems for the general layer: weights, inputs and noise of any options; and compare arrays by name."""

from typing import NamedTuple

import numpy as np

from glasscell.core import variants
from glasscell.core.activations import ACTIVATIONS, activation
from glasscell.core.time_order import scatter_add_final
from glasscell.core.variants import CellConfig, DropoutMasks

DTYPES = [np.float32, np.float64]

ALL = tuple(ACTIVATIONS)

SMOOTH = ("Sigmoid", "Tanh", "Affine", "ScaledTanh", "Softplus")

NORMS = (None, "haste", "tflite", "contrib")

GATES = ({}, {"coupled": "input"}, {"coupled": "forget"}, {"forget_gate": False})


class Problem(NamedTuple):
    variant: CellConfig
    weights: dict
    x: np.ndarray
    h0: np.ndarray
    c0: np.ndarray
    noise: DropoutMasks
    lengths: np.ndarray | None
    dh: np.ndarray
    dc: np.ndarray
    dh_end: np.ndarray
    dc_end: np.ndarray


class Random:
    """Draws problems. Whatever is not said to be something is drawn too; nothing is constant, and hardly anything 0."""

    def __init__(self, rng, dtype=np.float64):
        self.rng, self.dtype = rng, dtype

    def one_of(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def normal(self, *shape, scale=1.0):
        return (scale * self.rng.normal(size=shape)).astype(self.dtype)

    def uniform(self, low, high, *shape):
        return self.rng.uniform(low, high, size=shape).astype(self.dtype)

    def activation(self, name):
        """With its own defaults half of the time."""
        own = ACTIVATIONS[name]
        if self.one_of(True, False):
            return activation(name)
        alpha = None if own.alpha is None else self.rng.uniform(0.2, 0.9)
        beta = None if own.beta is None else self.rng.uniform(0.2, 0.9)
        return activation(name, alpha, beta)

    def variant(self, names, **given):
        drawn = {
            "gate": self.activation(self.one_of(*names)),
            "candidate": self.activation(self.one_of(*names)),
            "output": self.activation(self.one_of(*names)),
            "clip": self.one_of(None, None, self.rng.uniform(0.4, 1.5)),
            "layer_norm": self.one_of(*NORMS),
            "epsilon": self.rng.uniform(0.01, 0.3),
            **({} if {"coupled", "forget_gate"} & given.keys() else self.one_of(*GATES)),
        }
        return CellConfig(**drawn | given)

    def share(self, rows, T, B):
        """Of what is new: all, a part, nothing; one number for all, a mask, or numbers in between."""
        return self.one_of(
            1.0,
            float(self.rng.uniform(0.1, 0.9)),
            self.one_of(0.0, 0.5),
            self.rng.integers(0, 2, size=(T, rows, B)).astype(self.dtype),
            self.uniform(0, 1, T, rows, B),
        )

    def noise(self, T, P, H, B):
        recurrent = self.one_of(
            1.0, 0.7, (self.rng.random((P, B)) < 0.6).astype(self.dtype) / self.dtype(0.6), self.uniform(0.5, 1.5, P, B)
        )
        return DropoutMasks(recurrent, self.share(P, T, B), self.share(H, T, B))

    def problem(self, names=ALL, *, smallest=(1, 1, 2, 1, 1), spread=3, noise=True, ragged=None, **given):
        """`smallest`: T, I, H, P, B, or up to `spread` more of each; `given`: of the variant."""
        T, I, H, P, B = (int(self.rng.integers(low, low + spread + 1)) for low in smallest)
        variant = self.variant(names, **given)
        projection = self.one_of(True, False)
        options = {key: self.one_of(True, False) for key in ("peepholes", "projection_bias")}
        shapes = variant.shapes(I, H, P if projection else None, **options)
        P = P if projection else H
        weights = {name: self.normal(*shape, scale=0.6) for name, shape in shapes.items()}
        for name in weights.keys() & {"gain", "gain_x", "gain_h", "gain_c"}:
            weights[name] += self.dtype(1)
        ragged = self.one_of(True, False) if ragged is None else ragged
        lengths = self.rng.integers(0, T + 1, size=B) if ragged else None
        return Problem(
            variant,
            weights,
            self.normal(T, I, B),
            self.normal(P, B),
            self.normal(H, B),
            self.noise(T, P, H, B) if noise else DropoutMasks(),
            lengths,
            self.normal(T, P, B),
            self.normal(T, H, B),
            self.normal(P, B),
            self.normal(H, B),
        )


def forward(p):
    return variants.forward(p.variant, p.weights, p.x, p.h0, p.c0, p.noise, p.lengths)


def own_steps(p):
    """Which steps are a sequence's own: (T, 1, B)."""
    T, _, B = p.x.shape
    lengths = np.full(B, T) if p.lengths is None else p.lengths
    return np.arange(T)[:, None, None] < lengths


def backward(p, tape, buffers=None):
    """Of all outputs and of the final state, which for a sequence that ends early is the one at its end."""
    if p.lengths is None:
        return variants.backward(tape, p.dh, p.dh_end, p.dc_end, p.dc, buffers)
    dh, dc = (np.where(own_steps(p), d, d.dtype.type(0)) for d in (p.dh, p.dc))
    dh0, dc0 = scatter_add_final(dh, p.dh_end, p.lengths), scatter_add_final(dc, p.dc_end, p.lengths)
    gradient = variants.backward(tape, dh, dc=dc, buffers=buffers)
    return gradient._replace(dh0=gradient.dh0 + dh0, dc0=gradient.dc0 + dc0)


def loss(p, tape):
    """What :func:`backward` is the gradient of."""
    valid = own_steps(p)
    steps = np.sum(valid * p.dh * tape.h) + np.sum(valid * p.dc * tape.c)
    return steps + np.vdot(p.dh_end, tape.h_with_initial[-1]) + np.vdot(p.dc_end, tape.c_with_initial[-1])


def arguments(p):
    """All that can be differentiated, by name."""
    return {**p.weights, "x": p.x, "h0": p.h0, "c0": p.c0}


def with_arguments(p, changed):
    return p._replace(
        weights={name: changed.get(name, weight) for name, weight in p.weights.items()},
        **{name: changed[name] for name in ("x", "h0", "c0") if name in changed},
    )


def by_name(gradient):
    return {**gradient.dweights, "x": gradient.dx, "h0": gradient.dh0, "c0": gradient.dc0}


def arrays_of(tape):
    """All that a tape holds, by name."""
    values = {}
    for name, value in (item for item in vars(tape).items() if item[0] != "lengths"):
        if isinstance(value, np.ndarray):
            values[name] = value
        elif name == "weights":
            values |= value
        elif isinstance(value, tuple):
            values |= {f"{name}.{k}": array for k, array in enumerate(value) if isinstance(array, np.ndarray)}
    return values


def assert_near(result, expected, tolerance, floor=0.0):
    """Name by name and shape by shape; norm-wise: the largest difference against the largest value.

    `floor` is the share of the largest value of all names that every name has at least.
    """
    assert result.keys() == expected.keys()
    least = floor * max(np.abs(array).max(initial=0) for array in expected.values())
    for name in result:
        a, b = np.asarray(result[name]), np.asarray(expected[name])
        assert a.shape == b.shape, name
        difference = np.abs(a - b).max(initial=0)
        assert difference <= tolerance * np.abs(b).max(initial=least), f"{name} differs by {difference}"


def assert_equal(result, expected):
    assert result.keys() == expected.keys()
    for name in result:
        np.testing.assert_array_equal(result[name], expected[name], err_msg=name)


def some(rng, **arguments):
    """A problem of some size."""
    draw = Random(rng, arguments.pop("dtype", np.float64))
    p = draw.problem(**{"smallest": (4, 2, 3, 2, 3)} | arguments)
    for name in p.weights.keys() & {"kernel", "peepholes"}:
        p.weights[name] *= draw.dtype(0.4)  # or a cell that is squared at every step, as by Relu, becomes too large
    return p
