"""Cases of checks: an LSTM, sequences and output gradients, all from one generator."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasscell.core.cached import cached_property
from glasscell.core.types import Array
from glasscell.layers import LSTM, LSTMState
from glasscell.verify.conditioning import Perturb, Response, response


@dataclass(frozen=True)
class Case:
    """An LSTM in float64, its inputs, and the gradients of its outputs.

    Attributes
    ----------
    x : array (B, T, I)
    state : LSTMState
        Initial state.
    lengths : array (B,), optional
    dy : array (B, T, D·P)
        Gradient of the outputs.
    d_state : LSTMState
        Gradient of the final state.
    noise_seed : int, optional
        Seed of dropout and zoneout. Default: no noise.
    """

    lstm: LSTM
    x: Array
    state: LSTMState
    lengths: NDArray[np.int64] | None
    dy: Array
    d_state: LSTMState
    noise_seed: int | None = None

    @property
    def rng(self) -> np.random.Generator | None:
        """A new generator, which draws the same noise every time."""
        return None if self.noise_seed is None else np.random.default_rng(self.noise_seed)

    @cached_property
    def response(self) -> Response:
        """Return the changes of outputs, final states and gradients by rounding."""
        exact = run(self.lstm, self)

        def distance(perturb: Perturb) -> tuple[float, float]:
            lstm = with_dtype(self.lstm, np.float64)
            lstm.parameters.vector[:] = perturb(lstm.parameters.vector)
            state, d_state = (LSTMState(*map(perturb, state)) for state in (self.state, self.d_state))
            changed = replace(self, x=perturb(self.x), dy=perturb(self.dy), state=state, d_state=d_state)
            values, gradients = run(lstm, changed)
            return (
                max(max_error(b - a, a) for a, b in zip(exact[0], values, strict=True)),
                max(norm_relative_error(b, a) for a, b in zip(exact[1], gradients, strict=True)),
            )

        return response(distance)

    @property
    def options(self) -> dict[str, Any]:
        """Options of the LSTM that are not the defaults."""
        return self.lstm.options.non_default()


def draw_case(
    lstm: LSTM,
    rng: np.random.Generator,
    shape: tuple[int, int] = (3, 6),
    *,
    variable_lengths: bool = False,
    noise: bool = False,
) -> Case:
    """Draw sequences, states and gradients for an LSTM of float64; B and T are `shape`."""
    B, T = shape
    options, directions = lstm.options, len(lstm.options.directions)
    state, d_state = (
        LSTMState(*(rng.normal(size=(directions, B, rows)) for rows in (options.state_size, options.hidden_size)))
        for _ in range(2)
    )
    lengths = rng.integers(0, T + 1, B) if variable_lengths else None
    x, dy = rng.normal(size=(B, T, lstm.input_size)), rng.normal(size=(B, T, lstm.output_size))
    return Case(lstm, x, state, lengths, dy, d_state, int(rng.integers(1 << 30)) if noise else None)


def random_lstm(rng: np.random.Generator, scale: float = 0.5, **options: Any) -> LSTM:
    """Return an LSTM in float64 with random parameters: no bias, peephole or shift is 0, no gain is 1."""
    sizes = {"input_size": int(rng.integers(1, 6)), "hidden_size": int(rng.integers(2, 7))}
    lstm = LSTM(**{**sizes, **options}, dtype=np.float64)
    lstm.parameters.vector[:] = rng.normal(scale=scale, size=lstm.parameters.vector.size)
    for name, view in lstm.parameters.items():
        if name.startswith("gain"):
            np.add(view, 1, out=view)
    return lstm


def with_dtype(lstm: LSTM, dtype: Any, **changes: Any) -> LSTM:
    """Return a copy of an LSTM in float32 or float64, optionally with changed options."""
    copy = LSTM(**{**lstm.options.non_default(), **changes}, dtype=dtype)
    copy.parameters.vector[:] = lstm.parameters.vector
    return copy


def run(lstm: LSTM, case: Case) -> tuple[list[Array], list[Array]]:
    """Return outputs and final states, and the gradients of inputs, initial states and weights."""
    y, final, tape = lstm.forward(case.x, case.state, lengths=case.lengths)
    dx, d_initial, gradients = lstm.backward(tape, case.dy, case.d_state)
    return [y, *final], [dx, *d_initial, *gradients.values()]


def ids_or_float32(x: Any) -> NDArray[Any]:
    """Return integers as they are, and other inputs in float32."""
    array = np.asarray(x)
    return array if array.dtype.kind in "iu" else array.astype(np.float32, copy=False)


def max_error(differences: Any, reference: Any = 1.0) -> float:
    """Return the largest difference, relative to the largest value of the reference, or to 1 if that is smaller."""
    size = np.abs(np.asarray(reference)).max(initial=1.0)
    return float(np.abs(np.asarray(differences)).max(initial=0.0) / size)


def norm_relative_error(value: Array, reference: Array) -> float:
    """Return the largest difference between gradients, relative to the largest value of the reference."""
    size = np.abs(reference).max(initial=0.0)
    difference = np.abs(value - reference).max(initial=0.0)
    return float(difference / size) if size else float(difference)
