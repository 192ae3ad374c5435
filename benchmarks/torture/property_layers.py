"""Examples of the properties of ``properties.py`` for layers: how each is made, and illegal values of its arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import glasscell as gc
from glasscell import layers
from glasscell.core import activations
from torture.property_values import Generator, check, check_finite, check_refused, dtype_of, pick, values

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
