"""JAX's contenders: an LSTM by lax.scan, jitted, because JAX itself has no layers and no optimisers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from glasscell.core.types import Array
from glasscell.verify.checks import missing_dependency
from speed.contenders import Contender, training_results
from speed.workload import CLIP_NORM, LEARNING_RATE, Workload

NAME = "JAX"
UNROLLED = (1, 4)  # steps in one turn of the compiled loop
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


def _jax() -> Any:
    import jax

    return jax


def unavailable_reason() -> str:
    """Return why JAX cannot be used, or ""."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    return missing_dependency(["jax.numpy"], "jax")


def arrays_of(workload: Workload) -> dict[str, Any]:
    """Return the weights with one bias per layer: the second is 0, and would have to be updated."""
    jnp = _jax().numpy
    return {name: jnp.array(array) for name, array in workload.weights.items() if "bias_hh" not in name}


def time_first(array: Array) -> Any:
    """Return the array as (T, B, features), the layout of the loop."""
    jnp = _jax().numpy
    return jnp.array(array.swapaxes(0, 1))


def lstm(weights: dict[str, Any], x: Any, layers: int, unroll: int) -> Any:
    """Compute h (T, B, H) from x (T, B, I); the inputs are multiplied in one product before the loop."""
    jax = _jax()
    jnp = jax.numpy
    for layer in range(layers):
        recurrent = weights[f"lstm.weight_hh_l{layer}"]
        zeros = jnp.zeros((x.shape[1], recurrent.shape[1]), x.dtype)

        def step(state: Any, z: Any, recurrent: Any = recurrent) -> Any:
            h, c = state
            i, f, g, o = jnp.split(z + h @ recurrent.T, 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        z = x @ weights[f"lstm.weight_ih_l{layer}"].T + weights[f"lstm.bias_ih_l{layer}"]
        _, x = jax.lax.scan(step, (zeros, zeros), z, unroll=unroll)
    return x


def clipped_gradients(weights: dict[str, Any], x: Any, targets: Any, layers: int, unroll: int) -> Any:
    """Return the loss, and its gradients clipped to the norm `CLIP_NORM`."""
    jax = _jax()
    jnp = jax.numpy

    def loss_of(weights: dict[str, Any]) -> Any:
        h = lstm(weights, x, layers, unroll)
        return jnp.mean((h @ weights["readout.weight"].T + weights["readout.bias"] - targets) ** 2)

    loss, gradients = jax.value_and_grad(loss_of)(weights)
    norm = jnp.sqrt(sum(jnp.sum(gradient**2) for gradient in gradients.values()))
    scale = jnp.minimum(1.0, CLIP_NORM / (norm + 1e-6))
    return loss, {name: gradient * scale for name, gradient in gradients.items()}


def update(weights: dict[str, Any], state: Any, x: Any, targets: Any, layers: int, unroll: int) -> Any:
    """Make one update by Adam of each array."""
    jnp = _jax().numpy
    loss, gradients = clipped_gradients(weights, x, targets, layers, unroll)
    t, means, squares = state[0] + 1, {}, {}
    moved = {}
    for name, gradient in gradients.items():
        means[name] = BETA1 * state[1][name] + (1 - BETA1) * gradient
        squares[name] = BETA2 * state[2][name] + (1 - BETA2) * gradient**2
        mean, square = means[name] / (1 - BETA1**t), squares[name] / (1 - BETA2**t)
        moved[name] = weights[name] - LEARNING_RATE * mean / (jnp.sqrt(square) + EPSILON)
    return moved, (t, means, squares), loss


class TrainingStep:
    """One update as one compiled function."""

    def __init__(self, workload: Workload, *, unroll: int) -> None:
        jax = _jax()
        jnp = jax.numpy
        self.ready: Any = jax.block_until_ready
        self.weights = arrays_of(workload)
        first, second = ({name: jnp.zeros_like(a) for name, a in self.weights.items()} for _ in range(2))
        self.state = (jnp.zeros(()), first, second)
        self.x, self.targets = time_first(workload.x), time_first(workload.targets)
        self.options = (workload.shape.L, unroll)
        self.update = jax.jit(update, donate_argnums=(0, 1), static_argnums=(4, 5))

    def __call__(self) -> Any:
        """Update once, and return the loss before the update."""
        self.weights, self.state, loss = self.update(self.weights, self.state, self.x, self.targets, *self.options)
        self.ready((self.weights, loss))
        return loss

    def answer(self, updates: int) -> Any:
        """Return the results of the first updates."""
        before = {name: np.array(array) for name, array in self.weights.items()}
        loss = float(self())
        gradients = {name: np.array(mean) / (1 - BETA1) for name, mean in self.state[1].items()}  # Adam's first means
        for _ in range(updates - 1):
            self()
        after = {name: np.array(array) for name, array in self.weights.items()}
        return training_results(loss, gradients, before, after)


def training(workload: Workload, updates: int) -> Iterator[Contender]:
    """Yield one update, with and without the loop unrolled."""
    for unroll in UNROLLED:
        step = TrainingStep(workload, unroll=unroll)
        yield Contender(NAME, _words(unroll), step, step.answer(updates))


def forward(workload: Workload) -> Iterator[Contender]:
    """Yield inference of whole sequences, with and without the loop unrolled."""
    jax = _jax()

    weights, x = arrays_of(workload), time_first(workload.x)
    for unroll in UNROLLED:
        run = partial(_ready, jax.jit(partial(lstm, layers=workload.shape.L, unroll=unroll)), weights, x)
        yield Contender(NAME, _words(unroll), run, {"outputs": np.asarray(run()).swapaxes(0, 1)})


def _ready(compiled: Any, *arguments: Any) -> Any:
    return compiled(*arguments).block_until_ready()


def _words(unroll: int) -> str:
    return f"its own threads, {f'unrolled by {unroll}' if unroll > 1 else 'not unrolled'}"
