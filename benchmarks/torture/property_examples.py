"""Examples of the properties of ``properties.py``: one function per public function or class, which checks one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import glasscell as gc
from glasscell import layers
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

Generator = np.random.Generator
Example = Callable[[Generator], None]


def pick(rng: Generator, values: Sequence[Any]) -> Any:
    """Return one of the values."""
    return values[int(rng.integers(len(values)))]


def values(rng: Generator, shape: tuple[int, ...], dtype: Any, limit: float = 1e38) -> Any:
    """Return finite numbers: of all sizes up to a limit, subnormal ones, zeros of both signs, and borders."""
    exponents = rng.uniform(-44, np.log10(limit), shape) if rng.random() < 0.5 else rng.uniform(-3, 1, shape)
    array = np.minimum(10.0**exponents, limit) * rng.choice([-1, 1], shape)
    borders = np.array([0.0, -0.0, limit, -limit, 1e-45, -1e-40, 1.0, -1.0, 88.7, -88.8, 709.8, -745.2, 17.0, -37.0])
    special = rng.random(shape) < rng.choice([0.0, 0.2, 1.0])
    return np.where(special, np.clip(rng.choice(borders, shape), -limit, limit), array).astype(dtype)


def dtype_of(rng: Generator) -> Any:
    """Return float32 or float64."""
    return pick(rng, (np.float32, np.float64))


def shape_of(rng: Generator, axes: int | None = None) -> tuple[int, ...]:
    """Return a small shape; axes may be empty."""
    return tuple(int(n) for n in rng.choice([0, 1, 1, 2, 3, 5, 17], axes if axes is not None else rng.integers(0, 4)))


def check(condition: Any, law: str) -> None:
    """Raise an error unless the condition is true."""
    if not condition:
        raise AssertionError(law)


def check_finite(*results: Any) -> None:
    """Raise an error unless all numbers are finite."""
    for result in results:
        if isinstance(result, tuple | list):
            check_finite(*result)
        elif result is not None and not np.isfinite(result).all():
            raise AssertionError(f"must be finite, got {np.asarray(result)[~np.isfinite(result)][:3]}")


def check_refused(call: Callable[[], object], what: object = "") -> None:
    """Raise an error unless the call raises a ValueError or a TypeError of one line."""
    try:
        call()
    except (ValueError, TypeError) as error:
        if "\n" in str(error) or not str(error):
            raise AssertionError(f"message must be one line, got {str(error)!r}") from error
        return
    raise AssertionError(f"must be refused: {what}")


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


# Layers

COUNTS: tuple[Any, ...] = (0, -1, 1.5, "3", None, np.nan, [2])
INTEGERS = (*COUNTS, 2**80)  # of sizes, for which memory is allocated
RATES: tuple[Any, ...] = (-0.1, 1.5, np.nan, "x", [0.5])
FLAGS: tuple[Any, ...] = ("yes", 2, None, [])
NUMBERS: tuple[Any, ...] = (np.nan, np.inf, "x", None)
ANY_TEXT: tuple[Any, ...] = ("", "x", 3.5, ["concat"])
SCALES: tuple[Any, ...] = (np.nan, "x", None, ())


class LayerCase:
    """How a layer is made, which arguments are illegal, and what it is applied to.

    Parameters
    ----------
    make : callable
        The class.
    legal : callable
        Draws legal arguments; I is 4 unless they say otherwise.
    illegal : dict
        Illegal values of arguments.
    limit : float
        Largest input.
    before : callable, optional
        Layers before it.
    """

    def __init__(
        self,
        make: Any,
        legal: Callable[[Generator], dict[str, Any]],
        illegal: dict[str, tuple[Any, ...]],
        limit: float = 1e10,
        before: Callable[[], list[Any]] = list,
        ids: int = 0,
    ) -> None:
        self.make, self.legal, self.illegal, self.limit, self.before, self.ids = (
            make,
            legal,
            illegal,
            limit,
            before,
            ids,
        )

    def __call__(self, rng: Generator) -> None:
        """Check one example."""
        arguments = self.legal(rng)
        try:
            layer = self.make(**arguments)
        except ValueError as error:  # options that exclude each other
            check("\n" not in str(error), "a message must be one line")
            return
        model = gc.Sequential([*self.before(), layer])
        vector = model.parameters.vector
        vector[:] = rng.normal(size=vector.size) * pick(rng, (0.0, 0.3, 3.0))
        B, T = int(rng.integers(1, 4)), int(rng.integers(1, 7))
        if self.ids:
            x: Any = rng.integers(0, self.ids, (B, T))
        else:
            x = values(rng, (B, T, 4), model.dtype, self.limit)
        self._pass(model, x, rng)
        self._refuse(model, x, rng)
        name = pick(rng, list(self.illegal))
        bad = pick(rng, self.illegal[name])
        check_refused(lambda: self.make(**(arguments | {name: bad})), f"{name}={bad!r}")

    def _pass(self, model: Any, x: Any, rng: Generator) -> None:
        """Check a pass forward and backward."""
        lengths = rng.integers(1, x.shape[1] + 1, len(x)) if rng.random() < 0.3 else None
        try:
            outputs, states, tape = model.forward(x, lengths=lengths, rng=rng)
        except ValueError as error:  # sequences too short for a window, or lengths for a layer without a mask
            check("\n" not in str(error), "a message must be one line")
            return
        check_finite(outputs, [] if states is None else _arrays(states))
        d_x, _, gradients = model.backward(tape, values(rng, outputs.shape, model.dtype, 1e3))
        check_finite(d_x, gradients.vector)

    def _refuse(self, model: Any, x: Any, rng: Generator) -> None:
        """Check inputs of other shapes and values."""
        bad = [x[..., None, None], "text", None, [[1.0], [2.0, 3.0]], x.astype(complex), x.astype("S1")]
        if self.ids:
            bad += [x + self.ids, x - self.ids, x.astype(float) + 0.5]
        else:
            bad += [np.where(np.arange(x.size).reshape(x.shape) == 0, pick(rng, (np.nan, np.inf)), x)]
        chosen = pick(rng, bad)
        check_refused(lambda: model(chosen), f"inputs {type(chosen).__name__} {getattr(chosen, 'shape', chosen)}")


def _arrays(states: Any) -> list[Any]:
    if isinstance(states, np.ndarray):
        return [states]
    if isinstance(states, dict):
        states = states.values()
    return [array for entry in states or () for array in _arrays(entry)] if states is not None else []


def size(rng: Generator) -> int:
    """Return a number of units."""
    return int(rng.integers(1, 5))


def flag(rng: Generator) -> bool:
    """Return True or False."""
    return bool(rng.integers(2))


def _lstm(rng: Generator) -> dict[str, Any]:
    options: dict[str, Any] = {"input_size": 4, "hidden_size": size(rng), "dtype": dtype_of(rng)}
    choices: dict[str, Sequence[Any]] = {
        "num_layers": (1, 2, 3),
        "bidirectional": (True, False),
        "reverse": (True, False),
        "proj_size": (0, 1, 2),
        "bias": (True, False),
        "peepholes": (True, False),
        "coupled": (None, "input", "forget"),
        "layer_norm": (None, "contrib"),
        "learn_initial_state": (True, False),
        "clip": (None, 3.0),
        "zoneout": (0.0, 0.3),
        "dropout": (0.0, 0.3),
        "engine": ("numpy", None),
        "seed": (None, 1),
    }
    for name, of_it in choices.items():
        if rng.random() < 0.35:
            options[name] = pick(rng, of_it)
    return options


WINDOW: dict[str, tuple[Any, ...]] = {"pool_size": COUNTS, "stride": (0, -1, 1.5, "2", np.nan), "padding": ANY_TEXT}
SIZES: dict[str, tuple[Any, ...]] = {"input_size": INTEGERS, "hidden_size": INTEGERS}
CELL: dict[str, tuple[Any, ...]] = SIZES | {"num_layers": INTEGERS, "bidirectional": FLAGS, "dtype": ("f2", "i4", "x")}

LAYERS: dict[str, LayerCase] = {
    "LSTM": LayerCase(layers.LSTM, _lstm, CELL | {"proj_size": (-1, 1.5, "x"), "dropout": RATES, "coupled": ANY_TEXT}),
    "GRU": LayerCase(
        layers.GRU,
        lambda r: {"input_size": 4, "hidden_size": size(r), "num_layers": size(r), "reset_after": flag(r)},
        CELL | {"reset_after": FLAGS},
    ),
    "RNN": LayerCase(
        layers.RNN,
        lambda r: {"input_size": 4, "hidden_size": size(r), "bidirectional": flag(r), "seed": None},
        CELL | {"nonlinearity": ("", "x", None, 3)},
    ),
    "Linear": LayerCase(
        layers.Linear,
        lambda r: {"input_size": 4, "output_size": size(r), "bias": flag(r), "dtype": dtype_of(r), "seed": None},
        {"input_size": INTEGERS, "output_size": INTEGERS, "bias": FLAGS, "dtype": ("f2", "i4", "x")},
    ),
    "Embedding": LayerCase(
        layers.Embedding,
        lambda r: {"vocabulary_size": 5, "embedding_size": size(r), "mask_zero": flag(r), "seed": None},
        {"vocabulary_size": INTEGERS, "embedding_size": INTEGERS, "mask_zero": FLAGS},
        ids=5,
    ),
    "Conv1D": LayerCase(
        layers.Conv1D,
        lambda r: {"input_size": 4, "output_size": 2 * size(r), "kernel_size": size(r), "stride": size(r), "seed": None}
        | {"padding": pick(r, ("valid", "same", "causal")), "groups": pick(r, (1, 2)), "bias": flag(r)},
        {"input_size": INTEGERS, "output_size": INTEGERS, "kernel_size": INTEGERS, "stride": COUNTS, "groups": COUNTS}
        | {"dilation": COUNTS, "padding": ANY_TEXT, "bias": FLAGS},
    ),
    "LayerNorm": LayerCase(
        layers.LayerNorm,
        lambda r: {"size": 4, "gain": flag(r), "shift": flag(r), "dtype": dtype_of(r)},
        {"size": COUNTS, "epsilon": (-1, np.nan, "x", None, np.inf), "gain": FLAGS, "shift": FLAGS},
    ),
    "BatchNorm": LayerCase(
        layers.BatchNorm,
        lambda r: {"size": 4, "gain": flag(r), "shift": flag(r), "dtype": dtype_of(r)},
        {"size": COUNTS, "epsilon": (-1, np.nan, "x", None, np.inf), "gain": FLAGS, "shift": FLAGS},
    ),
    "Dropout": LayerCase(layers.Dropout, lambda r: {"rate": pick(r, (0.0, 0.3, 0.99))}, {"rate": RATES}, 1e35),
    "SpatialDropout1D": LayerCase(
        layers.SpatialDropout1D, lambda r: {"rate": pick(r, (0.0, 0.3, 0.99))}, {"rate": RATES}, 1e35
    ),
    "GaussianDropout": LayerCase(
        layers.GaussianDropout, lambda r: {"rate": pick(r, (0.0, 0.3, 0.9))}, {"rate": RATES}, 1e35
    ),
    "GaussianNoise": LayerCase(
        layers.GaussianNoise, lambda r: {"deviation": pick(r, (0.0, 0.3, 5.0))}, {"deviation": (-0.1, np.nan, "x")}
    ),
    "Masking": LayerCase(layers.Masking, lambda r: {"value": pick(r, (0.0, -1.0))}, {"value": NUMBERS}, 1e38),
    "Rescaling": LayerCase(
        layers.Rescaling,
        lambda r: {"scale": pick(r, (2.0, -0.5, (1.0, 2.0, 3.0, 4.0))), "offset": pick(r, (0.0, 1.0))},
        {"scale": SCALES, "offset": SCALES},
    ),
    "Normalization": LayerCase(
        layers.Normalization,
        lambda r: {"mean": pick(r, (0.0, 3.0)), "variance": pick(r, (1.0, 1e-6, (1.0, 2.0, 3.0, 4.0)))},
        {"mean": SCALES, "variance": (*SCALES, -1.0), "invert": FLAGS},
    ),
    "Pool": LayerCase(layers.Pool, lambda r: {"how": pick(r, ("mean", "max"))}, {"how": (*ANY_TEXT, None)}, 1e35),
    "MaxPooling1D": LayerCase(
        layers.MaxPooling1D,
        lambda r: {"pool_size": size(r), "stride": pick(r, (None, 1, 2)), "padding": pick(r, ("valid", "same"))},
        WINDOW | {"ignore_mask": FLAGS},
        1e35,
    ),
    "AveragePooling1D": LayerCase(
        layers.AveragePooling1D,
        lambda r: {"pool_size": size(r), "stride": pick(r, (None, 1, 2)), "padding": pick(r, ("valid", "same"))},
        WINDOW | {"ignore_mask": FLAGS},
        1e35,
    ),
    "Step": LayerCase(layers.Step, lambda r: {"index": pick(r, (-1, 0))}, {"index": (1.5, "x", None, np.nan)}, 1e38),
    "FinalState": LayerCase(
        layers.FinalState,
        lambda _: {},
        {"directions": ("x", 3), "keep": (*ANY_TEXT, None), "merge": (*ANY_TEXT, None)},
        before=lambda: [gc.LSTM(4, 3, seed=None)],
    ),
    "Function": LayerCase(
        layers.Function,
        lambda r: {"name": pick(r, (*activations.ACTIVATIONS, *activations.EXTRA_ACTIVATIONS, "Softmax"))},
        {"name": ("", "x", None, 3), "alpha": ("x", np.nan, np.inf)},
        1e35,
    ),
    "RepeatVector": LayerCase(
        layers.RepeatVector, lambda r: {"times": size(r)}, {"times": COUNTS}, 1e35, lambda: [layers.Pool("max")]
    ),
    "SwapHalves": LayerCase(layers.SwapHalves, lambda _: {}, {"x": (1,)}, 1e38),
    "Flatten": LayerCase(layers.Flatten, lambda _: {}, {"ignore_mask": FLAGS}, 1e38),
}  # fmt: skip

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
