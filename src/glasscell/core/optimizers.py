"""Optimisers, with PyTorch's definitions, on one flat vector.

An optimiser is a frozen record of its hyperparameters. What it remembers between updates is a dictionary of arrays that
the caller owns::

    state = optimizer.init_state(vector)
    optimizer.update(vector, gradient, state)      # vector and state change in place, the gradient does not

Every ``update`` takes another learning rate for this once: that is how schedules work.
"""

from dataclasses import dataclass
from math import inf, sqrt
from typing import Protocol, TypeAlias

import numpy as np

from glasscell.core import engines
from glasscell.core.blocking import BLOCK_SIZE, blocks
from glasscell.core.engines import EngineName
from glasscell.core.types import Array

State: TypeAlias = dict[str, Array]
"""By name; what counts updates is a float64 of no dimensions."""


class Optimizer(Protocol):
    """What training needs of an optimiser."""

    @property
    def learning_rate(self) -> float:
        """The size of a step."""

    def init_state(self, vector: Array) -> State:
        """Return what is remembered before the first update."""

    def update(self, vector: Array, gradient: Array, state: State, learning_rate: float | None = None) -> None:
        """Make one step against the gradient, in place."""


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent, with momentum and Nesterov's momentum if asked for.

    v ← μ v + d;  θ ← θ - η v, or with Nesterov θ ← θ - η (d + μ v), where d = dθ + λ θ.

    Parameters
    ----------
    learning_rate : float
        η.
    momentum : float
        μ, in [0, 1).
    nesterov : bool
        Needs momentum. Sutskever et al. (2013).
    weight_decay : float
        λ.
    """

    learning_rate: float = 0.1
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_hyperparameters(self, learning_rate=inf, momentum=1.0, weight_decay=inf)
        _check_boolean(self, "nesterov")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=True needs momentum > 0: SGD(momentum=0.9, nesterov=True)")

    def init_state(self, vector: Array) -> State:
        """Return what is remembered: the velocity v."""
        return {"velocity": np.zeros_like(vector)} if self.momentum else {}

    @np.errstate(under="ignore")
    def update(self, vector: Array, gradient: Array, state: State, learning_rate: float | None = None) -> None:
        """Make one step against the gradient, in place."""
        rate = self.learning_rate if learning_rate is None else learning_rate
        direction = with_weight_decay(gradient, vector, self.weight_decay)
        if self.momentum:
            velocity = state["velocity"]
            velocity *= self.momentum
            velocity += direction
            direction = direction + self.momentum * velocity if self.nesterov else velocity
        vector -= rate * direction


@dataclass(frozen=True)
class RMSProp:
    """Steps divided by a running root mean square of the gradient: Tieleman & Hinton (2012).

    The centred form, which divides by a standard deviation, is that of Graves (2013), equations 38 to 45.

    s ← α s + (1-α) d²;  θ ← θ - η d / (√s + ε); centred: √(s - m²) for √s, with m the running mean of d.

    Parameters
    ----------
    learning_rate : float
        η.
    decay : float
        α, in [0, 1). PyTorch's default is .99.
    epsilon : float
    momentum : float
        In [0, 1).
    centered : bool
    weight_decay : float
    """

    learning_rate: float = 0.01
    decay: float = 0.99
    epsilon: float = 1e-8
    momentum: float = 0.0
    centered: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_hyperparameters(self, learning_rate=inf, decay=1.0, epsilon=inf, momentum=1.0, weight_decay=inf)
        _check_boolean(self, "centered")

    def init_state(self, vector: Array) -> State:
        """Return what is remembered: s, and the mean and velocity if they are used."""
        names = ["square", *["mean"] * self.centered, *["velocity"] * bool(self.momentum)]
        return {name: np.zeros_like(vector) for name in names}

    @np.errstate(under="ignore")
    def update(self, vector: Array, gradient: Array, state: State, learning_rate: float | None = None) -> None:
        """Make one step against the gradient, in place."""
        rate = self.learning_rate if learning_rate is None else learning_rate
        d = with_weight_decay(gradient, vector, self.weight_decay)
        square = state["square"]
        square *= self.decay
        square += (1 - self.decay) * d * d
        variance: Array = square
        if self.centered:
            mean = state["mean"]
            mean *= self.decay
            mean += (1 - self.decay) * d
            variance = np.maximum(square - mean * mean, 0)
        direction: Array = d / (np.sqrt(variance) + self.epsilon)
        if self.momentum:
            velocity = state["velocity"]
            velocity *= self.momentum
            velocity += direction
            direction = velocity
        vector -= rate * direction


@dataclass(frozen=True)
class Adam:
    """Adaptive moments: Kingma & Ba (2015), algorithm 1.

    m ← β₁ m + (1-β₁) d;  s ← β₂ s + (1-β₂) d²;  θ ← θ - η m̂ / (√ŝ + ε), hats dividing by 1 - βᵗ.

    Parameters
    ----------
    learning_rate : float
        η.
    beta1, beta2 : float
        In [0, 1).
    epsilon : float
    weight_decay : float
        Added to the gradient, d = dθ + λ θ. :class:`AdamW` takes it off the weights instead.
    engine : "numpy" or "numba", optional
        What runs an update, with the same bits as result. Default: Numba where it is installed, as in the training of
        layers.
    """

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    engine: EngineName | None = None

    def __post_init__(self) -> None:
        check_hyperparameters(self, learning_rate=inf, beta1=1.0, beta2=1.0, epsilon=inf, weight_decay=inf)
        engines.validate_name(self.engine)

    def init_state(self, vector: Array) -> State:
        """Return what is remembered: Σ β₁ᵏ d and Σ β₂ᵏ d², k updates ago, and the number of updates."""
        return {"sum": np.zeros_like(vector), "squares": np.zeros_like(vector), "updates": np.zeros((), np.float64)}

    @np.errstate(under="ignore")
    def update(self, vector: Array, gradient: Array, state: State, learning_rate: float | None = None) -> None:
        """Make one step against the gradient, in place."""
        rate = self.learning_rate if learning_rate is None else learning_rate
        self._move(vector, with_weight_decay(gradient, vector, self.weight_decay), state, rate)

    def _move(self, vector: Array, d: Array, state: State, rate: float) -> None:
        """Update with the sums M = m / (1-β₁) and S = s / (1-β₂) for the means: what they differ by is in η and ε."""
        state["updates"] += 1
        t = float(state["updates"])
        of_mean, of_root = (1 - self.beta1) / (1 - self.beta1**t), sqrt((1 - self.beta2) / (1 - self.beta2**t))
        numbers = self.beta1, self.beta2, self.epsilon / of_root, rate * of_mean / of_root
        arrays = vector, d, state["sum"], state["squares"]
        if engines.compiles_updates(self.engine) and all(array.flags.c_contiguous for array in arrays):
            from glasscell.core.numba_engine import optimizer_kernels  # noqa: PLC0415 - where Numba is

            optimizer_kernels.adam(vector.dtype.char)(*arrays, *numbers)
            return
        beta1, beta2, epsilon, step = (np.array(number, vector.dtype) for number in numbers)  # once, not at every use
        add, multiply = np.add, np.multiply
        scratch = np.empty_like(vector[:BLOCK_SIZE])
        for piece in blocks(len(vector)):
            theta, d_, M, S = (array[piece] for array in arrays)
            moved = scratch[: len(theta)]
            multiply(M, beta1, M)
            add(M, d_, M)
            multiply(S, beta2, S)
            multiply(d_, d_, moved)
            add(S, moved, S)
            np.sqrt(S, moved)
            add(moved, epsilon, moved)
            np.divide(M, moved, moved)
            multiply(moved, step, moved)
            np.subtract(theta, moved, theta)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay: Loshchilov & Hutter (2019), algorithm 2. First θ ← θ - η λ θ, then Adam."""

    weight_decay: float = 1e-2

    @np.errstate(under="ignore")
    def update(self, vector: Array, gradient: Array, state: State, learning_rate: float | None = None) -> None:
        """Make one step against the gradient, in place."""
        rate = self.learning_rate if learning_rate is None else learning_rate
        vector *= 1 - rate * self.weight_decay
        self._move(vector, gradient, state, rate)


def with_weight_decay(gradient: Array, vector: Array, weight_decay: float) -> Array:
    return gradient + weight_decay * vector if weight_decay else gradient


def _check_boolean(optimizer: Optimizer, name: str) -> None:
    value = getattr(optimizer, name)
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{type(optimizer).__name__}: {name} must be True or False, got {value!r}")


def check_hyperparameters(optimizer: Optimizer, **bounds: float) -> None:
    for name, bound in bounds.items():
        value = getattr(optimizer, name)
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            raise TypeError(f"{type(optimizer).__name__}: {name} must be a number, got {value!r}")
        if not 0 <= value < bound:
            raise ValueError(f"{type(optimizer).__name__}: {name} must be in [0, {bound:g}), and is {value!r}")
