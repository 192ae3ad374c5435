"""Optimisers, with PyTorch's definitions, on one flat vector.

An optimiser is a frozen record of its hyperparameters. Its state is a dictionary of arrays that the caller owns::

    state = optimizer.init_state(vector)
    optimizer.update(vector, gradient, state)      # vector and state change in place, the gradient does not

``update(..., learning_rate=)`` overrides the learning rate for one call; schedules use this.

To add an optimiser: a frozen dataclass with the three members of :class:`Optimizer`; :func:`check_hyperparameters` in
``__post_init__``; its name in ``glasscell/__init__.py`` (three lists); a case in ``CASES`` of
tests/core/test_optimizers.py or test_adaptive_optimizers.py. An optimiser of your own needs no registration: pass an
instance to ``fit(optimizer=...)``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import inf, sqrt
from typing import Any, Protocol, TypeAlias

import numpy as np

from glasscell.core import blocking, engines
from glasscell.core.blocking import ELEMENTWISE_BLOCK_SIZE, parts
from glasscell.core.engines import EngineName
from glasscell.core.products import for_each
from glasscell.core.types import Array

State: TypeAlias = dict[str, Array]
"""Arrays by name. The number of updates is a float64 of shape ()."""


class Optimizer(Protocol):
    """Optimiser, as training uses it."""

    @property
    def learning_rate(self) -> float:
        """The learning rate η."""

    def init_state(self, vector: Array) -> State:
        """Return the state before the first update."""

    def update(self, vector: Array, gradient: Array, state: State, learning_rate: float | None = None) -> None:
        """Update the vector and the state in place."""


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent, optionally with momentum or Nesterov's momentum.

    v ← μ v + d;  θ ← θ - η v, or with Nesterov θ ← θ - η (d + μ v), where d = dθ + λ θ.

    Parameters
    ----------
    learning_rate : float
        η.
    momentum : float
        μ, in [0, 1).
    nesterov : bool
        Requires momentum. Sutskever et al. (2013).
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
            raise ValueError("momentum must be above 0 for nesterov=True, got 0")

    def init_state(self, vector: Array) -> State:
        """Return the initial velocity v, with momentum."""
        return {"velocity": np.zeros_like(vector)} if self.momentum else {}

    @np.errstate(under="ignore")
    def update(self, vector: Array, gradient: Array, state: State, learning_rate: float | None = None) -> None:
        """Update the vector and the state in place."""
        numbers = self.learning_rate if learning_rate is None else learning_rate, self.momentum, self.weight_decay
        rate, momentum, weight_decay = (np.array(number, vector.dtype) for number in numbers)
        velocity = state.get("velocity", vector)  # not used without momentum

        def update_part(part: slice) -> None:
            scratch, sums = np.empty((2, min(len(vector), ELEMENTWISE_BLOCK_SIZE)), vector.dtype)
            arrays = vector[part], gradient[part], velocity[part]
            for start in range(0, len(arrays[0]), ELEMENTWISE_BLOCK_SIZE):
                block = slice(start, start + ELEMENTWISE_BLOCK_SIZE)
                theta, d, v = (array[block] for array in arrays)
                step = scratch[: len(theta)]
                if self.weight_decay:
                    d = np.add(d, np.multiply(weight_decay, theta, out=step), out=sums[: len(theta)])
                if self.momentum:
                    np.multiply(v, momentum, out=v)
                    np.add(v, d, out=v)
                    d = np.add(d, np.multiply(momentum, v, out=step), out=step) if self.nesterov else v
                np.subtract(theta, np.multiply(rate, d, out=step), out=theta)

        for_each(update_part, parts(len(vector)))


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
        """Return the initial s, and the mean and velocity if used."""
        names = ["square", *["mean"] * self.centered, *["velocity"] * bool(self.momentum)]
        return {name: np.zeros_like(vector) for name in names}

    @np.errstate(under="ignore")
    def update(self, vector: Array, gradient: Array, state: State, learning_rate: float | None = None) -> None:
        """Update the vector and the state in place."""
        numbers = (
            *(self.learning_rate if learning_rate is None else learning_rate, self.decay, 1 - self.decay),
            *(self.epsilon, self.momentum, self.weight_decay),
        )
        rate, decay, rest, epsilon, momentum, weight_decay = (np.array(number, vector.dtype) for number in numbers)
        mean, velocity = (state.get(name, vector) for name in ("mean", "velocity"))  # the vector is a stand-in
        scratches = [np.empty_like(vector[:ELEMENTWISE_BLOCK_SIZE]) for _ in range(3)]
        for start in range(0, len(vector), ELEMENTWISE_BLOCK_SIZE):
            block = slice(start, start + ELEMENTWISE_BLOCK_SIZE)
            theta, d, s, m, v = (array[block] for array in (vector, gradient, state["square"], mean, velocity))
            sums, term, root = (scratch[: len(theta)] for scratch in scratches)
            if self.weight_decay:
                d = np.add(d, np.multiply(weight_decay, theta, out=term), out=sums)
            np.multiply(s, decay, out=s)
            np.multiply(np.multiply(rest, d, out=term), d, out=term)
            np.add(s, term, out=s)
            variance: Array = s
            if self.centered:
                np.multiply(m, decay, out=m)
                np.add(m, np.multiply(rest, d, out=term), out=m)
                variance = np.maximum(np.subtract(s, np.multiply(m, m, out=term), out=root), 0, out=root)
            np.add(np.sqrt(variance, out=root), epsilon, out=root)
            direction = np.divide(d, root, out=root)
            if self.momentum:
                np.multiply(v, momentum, out=v)
                direction = np.add(v, direction, out=v)
            np.subtract(theta, np.multiply(rate, direction, out=term), out=theta)


@cache
def compiled_adam(char: str) -> Callable[..., None]:
    """Return :func:`_adam` compiled for a dtype character."""
    from glasscell.core.numba_engine.jit_cache import compile_update  # noqa: PLC0415 - requires Numba

    return compile_update(_adam, char, "wrww", 4)


def _adam(  # pragma: no cover - compiled by Numba
    theta: Any, gradient: Any, first_moment: Any, second_moment: Any, beta1: Any, beta2: Any, epsilon: Any, step: Any
) -> None:
    """Update as :meth:`Adam.update` with NumPy does, with the same bits, in one pass over memory.

    NumPy makes ten passes over each cached block, which costs a third of the speed at a million weights, and nine
    tenths at a few thousand. Every operation is rounded as in NumPy, without fused instructions: results do not depend
    on whether Numba is installed.
    """
    for k in range(len(theta)):
        first_moment[k] = first_moment[k] * beta1 + gradient[k]
        second_moment[k] = second_moment[k] * beta2 + gradient[k] * gradient[k]
        theta[k] -= first_moment[k] / (np.sqrt(second_moment[k]) + epsilon) * step


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
        λ, added to the gradient: d = dθ + λ θ. :class:`AdamW` subtracts it from the weights instead.
    engine : "numpy" or "numba", optional
        Engine of the update; the results have the same bits. Default: Numba if it is installed.
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
        """Return the initial Σ β₁ᵏ d and Σ β₂ᵏ d², d the gradient k updates ago, and the number of updates."""
        return {"sum": np.zeros_like(vector), "squares": np.zeros_like(vector), "updates": np.zeros((), np.float64)}

    @np.errstate(under="ignore")
    def update(self, vector: Array, gradient: Array, state: State, learning_rate: float | None = None) -> None:
        """Update the vector and the state in place."""
        rate = self.learning_rate if learning_rate is None else learning_rate
        self._apply_update(vector, with_weight_decay(gradient, vector, self.weight_decay), state, rate)

    def _apply_update(self, vector: Array, gradient: Array, state: State, rate: float) -> None:
        """Update with the sums m / (1-β₁) and s / (1-β₂) instead of the means; η and ε absorb the factors."""
        state["updates"] += 1
        t = float(state["updates"])
        mean_correction, root_correction = (
            (1 - self.beta1) / (1 - self.beta1**t),
            sqrt((1 - self.beta2) / (1 - self.beta2**t)),
        )
        numbers = self.beta1, self.beta2, self.epsilon / root_correction, rate * mean_correction / root_correction
        arrays = vector, gradient, state["sum"], state["squares"]
        if engines.compiles_updates(self.engine) and all(array.flags.c_contiguous for array in arrays):
            update = compiled_adam(vector.dtype.char)
            if len(vector) < blocking.SHORT_VECTOR:
                update(*arrays, *numbers)
            else:
                for_each(lambda part: update(*(array[part] for array in arrays), *numbers), parts(len(vector)))
            return
        beta1, beta2, epsilon, step_size = (
            np.array(number, vector.dtype) for number in numbers
        )  # converted once, not at each use
        add, multiply = np.add, np.multiply
        scratch = np.empty_like(vector[:ELEMENTWISE_BLOCK_SIZE])
        for start in range(0, len(vector), ELEMENTWISE_BLOCK_SIZE):
            block = slice(start, start + ELEMENTWISE_BLOCK_SIZE)
            theta, d, first_moment, second_moment = (array[block] for array in arrays)
            step = scratch[: len(theta)]
            multiply(first_moment, beta1, first_moment)
            add(first_moment, d, first_moment)
            multiply(second_moment, beta2, second_moment)
            multiply(d, d, step)
            add(second_moment, step, second_moment)
            np.sqrt(second_moment, step)
            add(step, epsilon, step)
            np.divide(first_moment, step, step)
            multiply(step, step_size, step)
            np.subtract(theta, step, theta)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay: Loshchilov & Hutter (2019), algorithm 2. First θ ← θ - η λ θ, then Adam."""

    weight_decay: float = 1e-2

    @np.errstate(under="ignore")
    def update(self, vector: Array, gradient: Array, state: State, learning_rate: float | None = None) -> None:
        """Update the vector and the state in place."""
        rate = self.learning_rate if learning_rate is None else learning_rate
        vector *= 1 - rate * self.weight_decay
        self._apply_update(vector, gradient, state, rate)


def with_weight_decay(gradient: Array, vector: Array, weight_decay: float) -> Array:
    """Return dθ + λ θ."""
    return gradient + weight_decay * vector if weight_decay else gradient


def _check_boolean(optimizer: Optimizer, name: str) -> None:
    value = getattr(optimizer, name)
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{type(optimizer).__name__}: {name} must be True or False, got {value!r}")


def check_hyperparameters(optimizer: Optimizer, **bounds: float) -> None:
    """Raise an error unless each of these hyperparameters is a number in [0, bound)."""
    for name, bound in bounds.items():
        value = getattr(optimizer, name)
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            raise TypeError(f"{type(optimizer).__name__}: {name} must be a number, got {value!r}")
        if not 0 <= value < bound:
            raise ValueError(f"{type(optimizer).__name__}: {name} must be in [0, {bound:g}), got {value!r}")
