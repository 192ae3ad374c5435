"""Further optimisers with a step size per weight, with PyTorch's definitions."""

from dataclasses import dataclass
from math import inf, sqrt

import numpy as np

from glasscell.core.optimizers import State, check_hyperparameters, with_weight_decay
from glasscell.core.types import Array


@dataclass(frozen=True)
class Adagrad:
    """Steps divided by the root of the sum of all squared gradients: Duchi, Hazan & Singer (2011).

    S ← S + d²;  θ ← θ - η / (1 + (t-1) λ_η) · d / (√S + ε).

    Parameters
    ----------
    learning_rate : float
        η.
    learning_rate_decay : float
        λ_η.
    epsilon : float
    initial_square : float
        S before the first update.
    weight_decay : float
    """

    learning_rate: float = 0.01
    learning_rate_decay: float = 0.0
    epsilon: float = 1e-10
    initial_square: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_hyperparameters(
            self, learning_rate=inf, learning_rate_decay=inf, epsilon=inf, initial_square=inf, weight_decay=inf
        )

    def init_state(self, vector: Array) -> State:
        """Return the initial S and the number of updates."""
        return {"squares": np.full_like(vector, self.initial_square), "updates": np.zeros((), np.float64)}

    @np.errstate(under="ignore")
    def update(self, vector: Array, gradient: Array, state: State, learning_rate: float | None = None) -> None:
        """Update the vector and the state in place."""
        rate = self.learning_rate if learning_rate is None else learning_rate
        d = with_weight_decay(gradient, vector, self.weight_decay)
        rate /= 1 + float(state["updates"]) * self.learning_rate_decay
        state["updates"] += 1
        state["squares"] += d * d
        vector -= rate * d / (np.sqrt(state["squares"]) + self.epsilon)


@dataclass(frozen=True)
class Adadelta:
    """Steps as large as the running root mean square of earlier steps: Zeiler (2012), algorithm 1.

    s ← ρ s + (1-ρ) d²;  δ = d √(u + ε) / √(s + ε);  u ← ρ u + (1-ρ) δ²;  θ ← θ - η δ.

    Parameters
    ----------
    learning_rate : float
        η.
    decay : float
        ρ, in [0, 1).
    epsilon : float
    weight_decay : float
    """

    learning_rate: float = 1.0
    decay: float = 0.9
    epsilon: float = 1e-6
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_hyperparameters(self, learning_rate=inf, decay=1.0, epsilon=inf, weight_decay=inf)

    def init_state(self, vector: Array) -> State:
        """Return the initial running means s and u."""
        return {"square": np.zeros_like(vector), "squared_step": np.zeros_like(vector)}

    @np.errstate(under="ignore")
    def update(self, vector: Array, gradient: Array, state: State, learning_rate: float | None = None) -> None:
        """Update the vector and the state in place."""
        rate = self.learning_rate if learning_rate is None else learning_rate
        d = with_weight_decay(gradient, vector, self.weight_decay)
        square, squared_step = state["square"], state["squared_step"]
        square *= self.decay
        square += (1 - self.decay) * d * d
        step = np.sqrt(squared_step + self.epsilon) / np.sqrt(square + self.epsilon) * d
        squared_step *= self.decay
        squared_step += (1 - self.decay) * step * step
        vector -= rate * step


@dataclass(frozen=True)
class NAdam:
    """Adam with Nesterov's momentum: Dozat (2016).

    Parameters
    ----------
    learning_rate : float
    beta1, beta2 : float
        In [0, 1).
    epsilon : float
    momentum_decay : float
        ψ in μ_t = β₁ (1 - ½ · 0.96^(t ψ)).
    weight_decay : float
    """

    learning_rate: float = 2e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    momentum_decay: float = 4e-3
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_hyperparameters(
            self, learning_rate=inf, beta1=1.0, beta2=1.0, epsilon=inf, momentum_decay=inf, weight_decay=inf
        )

    def init_state(self, vector: Array) -> State:
        """Return the initial running means, the product of all μ, and the number of updates."""
        means = {name: np.zeros_like(vector) for name in ("mean", "square")}
        return means | {"mu_product": np.ones((), np.float64), "updates": np.zeros((), np.float64)}

    @np.errstate(under="ignore")
    def update(self, vector: Array, gradient: Array, state: State, learning_rate: float | None = None) -> None:
        """Update the vector and the state in place."""
        rate = self.learning_rate if learning_rate is None else learning_rate
        d = with_weight_decay(gradient, vector, self.weight_decay)
        state["updates"] += 1
        t = float(state["updates"])
        mu, mu_next = (self.beta1 * (1 - 0.5 * 0.96 ** (n * self.momentum_decay)) for n in (t, t + 1))
        state["mu_product"] *= mu
        product = float(state["mu_product"])
        mean, square = state["mean"], state["square"]
        mean *= self.beta1
        mean += (1 - self.beta1) * d
        square *= self.beta2
        square += (1 - self.beta2) * d * d
        root = np.sqrt(square / (1 - self.beta2**t)) + self.epsilon
        vector -= (rate * (1 - mu) / (1 - product)) * d / root
        vector -= (rate * mu_next / (1 - product * mu_next)) * mean / root


@dataclass(frozen=True)
class AMSGrad:
    """Adam with step sizes that never grow: Reddi, Kale & Kumar (2018), algorithm 2, with Adam's bias corrections.

    Parameters
    ----------
    learning_rate : float
    beta1, beta2 : float
        In [0, 1).
    epsilon : float
    weight_decay : float
    """

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_hyperparameters(self, learning_rate=inf, beta1=1.0, beta2=1.0, epsilon=inf, weight_decay=inf)

    def init_state(self, vector: Array) -> State:
        """Return the initial running means, the maximum of the second, and the number of updates."""
        means = {name: np.zeros_like(vector) for name in ("mean", "square", "largest_square")}
        return means | {"updates": np.zeros((), np.float64)}

    @np.errstate(under="ignore")
    def update(self, vector: Array, gradient: Array, state: State, learning_rate: float | None = None) -> None:
        """Update the vector and the state in place."""
        rate = self.learning_rate if learning_rate is None else learning_rate
        d = with_weight_decay(gradient, vector, self.weight_decay)
        state["updates"] += 1
        t = float(state["updates"])
        mean, square = state["mean"], state["square"]
        mean *= self.beta1
        mean += (1 - self.beta1) * d
        square *= self.beta2
        square += (1 - self.beta2) * d * d
        np.maximum(state["largest_square"], square, out=state["largest_square"])
        root = np.sqrt(state["largest_square"]) / sqrt(1 - self.beta2**t) + self.epsilon
        vector -= (rate / (1 - self.beta1**t)) * mean / root
