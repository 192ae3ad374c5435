"""Examples of the properties of ``properties.py`` for core: one function per public function or class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from glasscell.core import (
    activations,
    adaptive_optimizers,
    initializers,
    layer_norm,
    linear,
    losses,
    normal,
    norms,
    optimizers,
    quantile_loss,
    time_order,
    windows,
)
from glasscell.core import cell as reference
from torture.property_layers import LAYERS
from torture.property_values import Generator, check, check_finite, check_refused, dtype_of, pick, shape_of, values

Example = Callable[[Generator], None]


# Activations


def elementwise(function: Any, derivative: Any, limit: float = 1e38) -> Example:
    """Return the property of a function of numbers, and of its derivative as a function of z and a."""

    def example(rng: Generator) -> None:
        z = values(rng, shape_of(rng), dtype_of(rng), limit)
        before = z.copy()
        a = function(z)
        slope = derivative(z, a)
        check_finite(a, slope)
        check(a.shape == slope.shape == z.shape, "results must have the shape of the argument")
        check(a.dtype == slope.dtype == z.dtype, "results must have the dtype of the argument")
        np.testing.assert_array_equal(z, before)

    return example


def named_activation(name: str) -> Example:
    """Return the property of an activation with random parameters."""
    definition = (activations.ACTIVATIONS | activations.EXTRA_ACTIVATIONS)[name]

    def example(rng: Generator) -> None:
        parameters = [rng.uniform(-1, 1) if d is not None and rng.random() < 0.5 else None for d in definition[1:]]
        made = activations.activation(pick(rng, (name, name.lower())), *parameters)
        elementwise(made.function, made.derivative, 1e37)(rng)
        z = values(rng, shape_of(rng), dtype_of(rng), 1e37)
        check_finite(made.complement(z, made.function(z)))
        for k, default in enumerate(definition[1:]):
            bad: list[Any] = [None, None]
            bad[k] = 1.0 if default is None else pick(rng, (np.nan, np.inf, "x"))
            check_refused(lambda bad=bad: activations.activation(name, *bad), (name, bad))

    return example


def softmax_terms(rng: Generator) -> None:
    z = values(rng, (int(rng.integers(1, 9)), *shape_of(rng, 1)), dtype_of(rng), 1e37)
    check_finite(activations.softmax_terms(z))


def unknown_activation(rng: Generator) -> None:
    check_refused(lambda: activations.activation(pick(rng, ("", "x", "tanhh", "re lu", None, 3))))


# Losses


def weights_of(rng: Generator, shape: tuple[int, ...], dtype: Any) -> Any:
    """Return weights that broadcast to the shape, or none."""
    if rng.random() < 0.4 or not shape:
        return None
    part = tuple(1 if rng.random() < 0.3 else n for n in shape[int(rng.integers(len(shape))) :])
    return rng.choice([0.0, 1.0, 0.3, 1e-3, 50.0], part).astype(dtype)


def squared_error(rng: Generator) -> None:
    dtype, shape = dtype_of(rng), shape_of(rng)
    y, t = values(rng, shape, dtype, 1e36), values(rng, shape, dtype, 1e36)
    check_finite(losses.squared_error(y, t, weights_of(rng, shape, dtype)))
    check_refused(lambda: losses.squared_error(y, t[None]))
    if t.size:
        t.flat[int(rng.integers(t.size))] = pick(rng, (np.nan, np.inf, -np.inf))
        check_refused(lambda: _ignoring(lambda: losses.squared_error(y, t)), "a target that is not finite")


def _ignoring(call: Callable[[], object]) -> object:
    with np.errstate(all="ignore"):
        return call()


def binary_cross_entropy(rng: Generator) -> None:
    dtype, shape = dtype_of(rng), shape_of(rng)
    z, y = values(rng, shape, dtype, 1e34), rng.choice([0.0, 1.0, 0.5, 1e-30, 0.999], shape).astype(dtype)
    weights = weights_of(rng, shape, dtype)
    check_finite(losses.binary_cross_entropy(z, y, weights))
    check_refused(lambda: losses.binary_cross_entropy(z, y[None]))
    if y.size:
        y.flat[int(rng.integers(y.size))] = pick(rng, (-1e-3, 1.001, 1e30, np.nan, np.inf))
        check_refused(lambda: losses.binary_cross_entropy(z, y), "a target outside [0, 1]")


def categorical_cross_entropy(rng: Generator) -> None:
    dtype, V, shape = dtype_of(rng), int(rng.integers(1, 9)), shape_of(rng)
    z, y = values(rng, (*shape, V), dtype, 1e34), rng.integers(0, V, shape)
    check_finite(losses.categorical_cross_entropy(z, y, weights_of(rng, shape, dtype)))
    check_refused(lambda: losses.categorical_cross_entropy(z, y[None]))
    if y.size:
        y.flat[int(rng.integers(y.size))] = pick(rng, (-1, V, V + 100, -(2**40)))
        check_refused(lambda: losses.categorical_cross_entropy(z, y), "a class number outside")


def quantiles(rng: Generator) -> None:
    Q, shape, dtype = int(rng.integers(1, 5)), (*shape_of(rng), int(rng.integers(1, 4))), dtype_of(rng)
    loss = quantile_loss.QuantileLoss(np.sort(rng.uniform(0.01, 0.99, Q)).tolist())
    outputs = values(rng, (*shape[:-1], shape[-1] * Q), dtype, 1e36)
    check_finite(loss(outputs, values(rng, shape, dtype, 1e36), weights_of(rng, shape, dtype)))
    check_refused(lambda: loss(outputs, values(rng, (*shape, 2), dtype)))
    bad = pick(rng, ((), (0.0, 0.5), (0.5, 0.5), (0.9, 0.1), (np.nan,), (1.0,), ("a",), 3, None))
    check_refused(lambda: quantile_loss.QuantileLoss(bad), bad)


# Parts of layers


def normalized(rng: Generator) -> None:
    a = values(rng, (int(rng.integers(1, 9)), *shape_of(rng, 1)), dtype_of(rng), 1e15)
    result = layer_norm.layer_norm(a, float(pick(rng, (1e-5, 1e-3, 1e-12))))
    check_finite(result, layer_norm.layer_norm_backward(result, values(rng, a.shape, a.dtype, 1e10)))


def affine(rng: Generator) -> None:
    O, I, dtype = int(rng.integers(1, 6)), int(rng.integers(1, 6)), dtype_of(rng)
    T, B = (int(rng.integers(1, 6)) for _ in range(2))
    weight, bias = values(rng, (O, I), dtype, 1e10), values(rng, (O,), dtype, 1e10)
    x = values(rng, (T, I, B), dtype, 1e10)
    check_finite(linear.forward(weight, bias, x))


def one_step(rng: Generator) -> None:
    H, I, B, dtype = *(int(n) for n in rng.integers(1, 5, 3)), dtype_of(rng)
    W, x = values(rng, (4 * H, H + I + 1), dtype, 1e10), values(rng, (I, B), dtype, 1e10)
    h, c = values(rng, (H, B), dtype, 1e10), values(rng, (H, B), dtype, 1e10)
    step = reference.step(W, x, h, c)
    check_finite(tuple(step))
    check_finite(
        tuple(reference.step_backward(W, step, values(rng, (H, B), dtype, 1e5), values(rng, (H, B), dtype, 1e5)))
    )


# Training


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.9},
    "RMSProp": {},
    "Adam": {"beta1": 0.9, "beta2": 0.999},
    "AdamW": {"weight_decay": 0.01},
    "Adagrad": {},
    "Adadelta": {},
    "NAdam": {},
    "AMSGrad": {},
}


def optimizer(name: str) -> Example:
    """Return the property of an optimiser: some updates, and illegal hyperparameters."""
    made_by = getattr(optimizers, name, None) or getattr(adaptive_optimizers, name)

    def example(rng: Generator) -> None:
        dtype, size = dtype_of(rng), int(rng.integers(0, 9))
        made = made_by(learning_rate=float(pick(rng, (0.0, 1e-8, 1e-3, 1.0))), **OPTIMIZERS[name])
        vector = values(rng, (size,), dtype, 1e10)
        state = made.init_state(vector)
        for _ in range(3):
            made.update(vector, values(rng, (size,), dtype, 1e15), state)
        check_finite(vector, [array for array in state.values() if isinstance(array, np.ndarray)])
        bad = pick(rng, (-1e-9, -1.0, np.nan, np.inf, "0.1", None, True, [0.1]))
        parameter = pick(rng, ("learning_rate", *OPTIMIZERS[name]))
        check_refused(lambda: made_by(**{"learning_rate": 0.1, **OPTIMIZERS[name], parameter: bad}), (parameter, bad))

    return example


def vector_norms(rng: Generator) -> None:
    vector = values(rng, shape_of(rng, 1), dtype_of(rng), 1e38)
    check_finite(norms.global_norm(vector), norms.vector_norms(vector[None]))
    with np.errstate(all="ignore"):
        check(norms.all_finite(vector), "all_finite must find no NaN")
    limit = float(pick(rng, (1e-6, 1.0, 1e30)))
    clipped, cut = vector.copy(), vector.copy()
    norms.clip_by_global_norm(clipped, limit)
    norms.clip_by_value(cut, limit)
    check_finite(clipped, cut)
    check(norms.global_norm(clipped) <= limit * 1.001, "a clipped norm must be within its limit")
    check(np.abs(cut).max(initial=0) <= limit * 1.001, "clipped values must be within their limit")
    if vector.size:
        vector[int(rng.integers(vector.size))] = pick(rng, (np.nan, np.inf, -np.inf))
        with np.errstate(all="ignore"):
            check(not norms.all_finite(vector), "all_finite must find NaN and infinity")


def first_weights(rng: Generator) -> None:
    rows, columns = (int(n) for n in rng.integers(1, 12, 2))
    check_finite(initializers.uniform(rng, (rows, columns), float(pick(rng, (0.0, 1e-30, 1.0, 1e30)))))
    check_finite(initializers.glorot_uniform(rng, (rows, columns)), initializers.orthogonal(rng, rows, columns))


def orders(rng: Generator) -> None:
    T, H, B = int(rng.integers(1, 7)), int(rng.integers(1, 4)), int(rng.integers(1, 5))
    lengths = rng.integers(0, T + 1, B)
    mask = time_order.mask_from_lengths(lengths, T) if rng.random() < 0.5 else rng.random((T, B)) < 0.6
    order = time_order.time_order(mask, reverse=bool(rng.integers(2)))
    sequences = values(rng, (T, H, B), dtype_of(rng))
    check_finite(order.to_time_order(order.to_processing_order(sequences)), order.to_time_order_backward(sequences))


def paddings(rng: Generator) -> None:
    bad = pick(rng, ("", "Valid", -1, (-1, 2), (1,), (1, 2, 3), 1.5, None, "sames", True))
    check_refused(lambda: windows.check_padding(bad, ("valid", "same", "causal")), bad)


ACTIVATIONS = activations.ACTIVATIONS | activations.EXTRA_ACTIVATIONS

PROPERTIES: dict[str, Example] = {
    "sigmoid": elementwise(activations.sigmoid, lambda _, a: activations.sigmoid_derivative(a)),
    "tanh": elementwise(activations.tanh, lambda _, a: activations.tanh_derivative(a)),
    "gelu": elementwise(normal.gelu, lambda z, _: normal.gelu_derivative(z)),
    **{f"activation {name}": named_activation(name) for name in ACTIVATIONS},
    "unknown activation": unknown_activation,
    "softmax": softmax_terms,
    "squared_error": squared_error,
    "binary_cross_entropy": binary_cross_entropy,
    "categorical_cross_entropy": categorical_cross_entropy,
    "QuantileLoss": quantiles,
    "layer_norm": normalized,
    "linear": affine,
    "cell step": one_step,
    **{f"optimizer {name}": optimizer(name) for name in OPTIMIZERS},
    "norms": vector_norms,
    "initializers": first_weights,
    "time order": orders,
    "padding": paddings,
    **{f"layer {name}": case for name, case in LAYERS.items()},
}  # fmt: skip
