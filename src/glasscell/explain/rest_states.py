"""The state to which a constant input leads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core.types import Array
from glasscell.explain.newton import minimize_speed
from glasscell.explain.step_inputs import repeat_columns
from glasscell.explain.step_maps import BLOCK_STEPS, StepMap
from glasscell.validation import positive_integer

NEAR = 1e-3  # relative to 1 + ‖s‖: change per step below which Newton's method is tried
CAPTURED = 1e-2  # relative to 1 + ‖s‖: distance from a stable fixed point at which a trajectory leads to it
ROUNDING = 1e-14  # relative to 1 + ‖s‖: change per step of a state that has stopped
MARGIN = 1e-9  # by which rounding may move an eigenvalue of modulus 1
MAX_PERIOD = 256
SAME_PHASE = 1e-4  # change over one period, relative to that over one step


def rest_state(model: Any, x0: ArrayLike, *, state: Any = None, max_steps: int = 10_000) -> Any:
    """Return the state to which a constant input leads, so that a stream starts without a transient.

    From the zero state the first outputs of a stream are a transient, in audio a click, even if the input is constant.
    From the rest state s* = F(s*) all outputs are the same. The step is iterated until the state stops, or until it is
    close to a stable fixed point, which Newton's method then computes to rounding, in float64.

    Parameters
    ----------
    model : LSTM, GRU, RNN, or a model of layers
        As for :func:`fixed_points`.
    x0 : array (I,) or (B, I); an id, or (B,), for a model that begins with an Embedding
        The constant input; with a batch axis that of each sequence.
    state : state, optional
        State from which the input leads, as ``forward`` takes it. Default: the learned initial state, or 0.
    max_steps : int
        Number of steps to iterate.

    Returns
    -------
    state
        In the form and dtype of the model's ``forward``: an initial state of ``forward`` and ``trace``, of
        ``model.stream(state=…)``, ``stream.reset(state=…)`` and ``stream.state = …``. With a batch of x0 it has B
        entries, for ``model.stream(B)``.

    Raises
    ------
    RuntimeError
        If the state does not come to rest: it diverges; it repeats with a period, which the message has; or neither
        within `max_steps`, as with chaos, a quasi-periodic orbit or a slow drift.
    TypeError, ValueError
        As :func:`fixed_points`.

    Notes
    -----
    Outputs are constant to the rounding of the model's dtype: about 1e-16 in float64, 1e-7 in float32. Other layers
    that keep arrays in a stream, such as a convolution behind the last recurrent layer, start at 0.

    Examples
    --------
    >>> import numpy as np, glasscell as gc
    >>> lstm = gc.LSTM(1, 8, dtype=np.float64)
    >>> stream = lstm.stream(state=gc.explain.rest_state(lstm, [0.5]))
    >>> y = np.stack([stream.push([0.5]).copy() for _ in range(100)])
    >>> bool(np.ptp(y, axis=0).max() < 1e-12)
    True
    """
    max_steps = positive_integer("max_steps", max_steps)
    step_map = StepMap(model)
    inputs, B = step_map.inputs.constants("x0", x0)
    starts = step_map.from_user("state", state, B)
    if B is None:
        return step_map.to_user(_rest(step_map, inputs[0], starts, max_steps))
    rows = [_rest(step_map, x, start, max_steps) for x, start in zip(inputs, starts, strict=True)]
    return step_map.to_user(np.stack(rows) if rows else np.zeros((0, step_map.size)))


def _rest(step_map: StepMap, x: NDArray[Any], s: Array, max_steps: int) -> Array:
    """Return the state (n,) to which the constant input x, (1, I, 1) or (1, 1), leads."""
    steps = 0
    states = s[None]
    while steps < max_steps:
        length = min(BLOCK_STEPS, max_steps - steps)
        states = step_map.trajectory(states[-1], np.repeat(x, length, axis=0))
        finite = np.isfinite(states).all(axis=1)
        if not finite.all():
            raise RuntimeError(f"x0 leads to no rest state: the state diverges after {steps + finite.argmin()} steps")
        steps += length
        with np.errstate(over="ignore", invalid="ignore"):
            rest = _fixed_point_ahead(step_map, x, states)
        if rest is not None:
            return rest
    with np.errstate(over="ignore", invalid="ignore"):
        motion = _motion(step_map, x, states[-1])
    raise RuntimeError(f"x0 leads to no rest state within {steps} steps: {motion}")


def _fixed_point_ahead(step_map: StepMap, x: NDArray[Any], states: Array) -> Array | None:
    """Return the fixed point at which a trajectory has stopped, or the stable one that it approaches; None: neither."""
    last: Array = states[-1]
    size = 1 + np.linalg.norm(last)
    change = np.linalg.norm(last - states[-2])
    if not change:
        return last
    if change > NEAR * size:
        return None
    search = minimize_speed(
        lambda s: step_map.step(s, repeat_columns(x, len(s))),
        lambda s: step_map.jacobians(s, repeat_columns(x, len(s))),
        last[None],
        max_iterations=50,
    )
    if search.residuals[0] > 10 * ROUNDING * size:
        return None
    rest: Array = search.states[0]
    radius = np.abs(np.linalg.eigvals(step_map.jacobians(rest[None], x)[0])).max()
    distances = np.linalg.norm(states[[0, -1]] - rest, axis=1)
    if change <= ROUNDING * size and radius <= 1 + MARGIN:
        return rest if distances[1] <= CAPTURED * size else last
    approaches = distances[1] < distances[0] or distances[1] <= ROUNDING * size
    return rest if radius < 1 and approaches and distances[1] <= CAPTURED * size else None


def _motion(step_map: StepMap, x: NDArray[Any], s: Array) -> str:
    """Describe a trajectory that does not stop."""
    states = step_map.trajectory(s, np.repeat(x, 2 * MAX_PERIOD, axis=0))
    change = np.linalg.norm(np.diff(states, axis=0), axis=1).max()
    for period in range(2, MAX_PERIOD + 1):
        over_period = states[MAX_PERIOD:] - states[MAX_PERIOD - period : -period]
        if np.linalg.norm(over_period, axis=1).max() <= SAME_PHASE * change:
            return f"the state repeats with a period of {period} steps, a limit cycle"
    return (
        f"the state moves by up to {change:.2g} per step and does not repeat within {MAX_PERIOD} steps: "
        "chaos, a quasi-periodic orbit or a slow drift"
    )
