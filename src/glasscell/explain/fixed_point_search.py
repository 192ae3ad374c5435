"""Fixed points and slow points of a recurrent layer or model under a constant input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core.types import Array
from glasscell.explain.newton import Search, minimize_speed
from glasscell.explain.step_inputs import repeat_columns
from glasscell.explain.step_maps import StepMap
from glasscell.trace.trace import Trace
from glasscell.validation import (
    as_generator,
    finite_array,
    non_negative_integer,
    non_negative_number,
    positive_integer,
    positive_number,
)

MARGIN = 1e-12  # by which rounding may move an eigenvalue
TRAJECTORY_STEPS, TRAJECTORY_STARTS = 512, 32
SLOW_DISTANCE = 100.0  # of slow points, relative to that of fixed points: a minimum of q is located less precisely


@dataclass(frozen=True, repr=False, eq=False)
class SlowPoints:
    """Points of the state space at which the speed ½ ‖F(s) - s‖² has a small local minimum.

    Attributes
    ----------
    states : array (N, n)
        s: the states of all recurrent layers as one vector, in float64.
    residuals : array (N,)
        ‖F(s) - s‖.
    jacobians : array (N, n, n)
        ∂F/∂s at each point.
    eigenvalues : array (N, n) of complex
        Those of each Jacobian, the largest modulus first.
    num_starts : array (N,) of int
        Number of starts from which the search ended at the point.
    parts : dict of str to slice
        The columns of `states` of each array of the state, such as ``l0.h`` and ``l0.c``.
    """

    states: Array
    residuals: Array
    jacobians: Array
    eigenvalues: NDArray[np.complexfloating]
    num_starts: NDArray[np.intp]
    parts: Mapping[str, slice]
    _map: StepMap = field(repr=False)

    @property
    def speeds(self) -> Array:
        """Half the squared residual of each point, q, (N,)."""
        return 0.5 * self.residuals**2

    @property
    def spectral_radii(self) -> Array:
        """The largest modulus of the eigenvalues at each point, (N,)."""
        return np.asarray(np.abs(self.eigenvalues[:, 0]))

    @property
    def num_unstable(self) -> NDArray[np.intp]:
        """The number of eigenvalues outside the unit circle at each point, (N,): the directions that lead away."""
        return np.asarray(np.count_nonzero(np.abs(self.eigenvalues) > 1 + MARGIN, axis=1))

    def state(self, k: int) -> Any:
        """Return the state of point k as the model's ``forward``, ``trace`` and streams take it."""
        return self._map.to_user(self.states[k])

    def __len__(self) -> int:
        return len(self.states)

    def __repr__(self) -> str:
        radii = ", ".join(f"{radius:.3g}" for radius in self.spectral_radii[:5]) + ", …" * (len(self) > 5)
        return f"{type(self).__name__}({len(self)} of {self.states.shape[1]} components; spectral radii {radii})"


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class FixedPoints(SlowPoints):
    """Fixed points of a recurrent layer or model under a constant input: the result of :func:`fixed_points`.

    The attributes of :class:`SlowPoints`, and:

    Attributes
    ----------
    slow : SlowPoints
        Points that are no fixed points, but almost.
    num_failed : int
        Number of starts that led to neither.
    """

    slow: SlowPoints
    num_failed: int

    @property
    def is_stable(self) -> NDArray[np.bool_]:
        """Whether all eigenvalues are inside the unit circle, by more than rounding, (N,): they attract."""
        return np.asarray(self.spectral_radii < 1 - MARGIN)

    def __repr__(self) -> str:
        stable = int(self.is_stable.sum())
        found = f"{stable} stable, {len(self) - stable} not stable; {len(self.slow)} slow points"
        return f"FixedPoints({found}; {self.num_failed} starts failed; {self.states.shape[1]} components)"


def fixed_points(
    model: Any,
    x: ArrayLike,
    *,
    starts: Any = None,
    num_random: int = 64,
    radius: float = 1.0,
    tolerance: float = 1e-10,
    slow_tolerance: float = 0.1,
    merge_distance: float = 1e-4,
    max_iterations: int = 200,
    seed: int = 0,
) -> FixedPoints:
    """Find the states that a step with a constant input maps to themselves, and those that it almost does.

    With F(s) the state after a step from the state s = (h, c), a fixed point has F(s*) = s*. The search minimises the
    speed q(s) = ½ ‖F(s) - s‖² from many starts: Sussillo & Barak (2013), Opening the black box: low-dimensional
    dynamics in high-dimensional recurrent neural networks, Neural Computation 25, section 2. Near s* a deviation grows
    by the Jacobian, δ_{t+1} = ∂F/∂s δ_t, so that s* is stable if all eigenvalues are inside the unit circle. An
    eigenvalue λ inside it decays to half in ln ½ / ln abs(λ) steps; one at 1 preserves a value, as a line of fixed
    points does.

    A local minimum of q with q > 0 is no fixed point. If q is small it is a slow point, which a trajectory takes many
    steps to pass. At a kink of relu or `clip` the Jacobian is that of one side, and does not decide stability.

    Parameters
    ----------
    model : LSTM, GRU, RNN, or a model of layers
        Of a model the layers up to the last recurrent one, each of which must compute a step from that step alone. All
        options of an LSTM whose steps can be traced; zoneout uses its mean, dropout is not applied.
    x : array (I,); one id for a model that begins with an Embedding
        The constant input.
    starts : Trace, state, or array (N, n), optional
        More states to start from: those of a trace of the model, a state as ``forward`` returns it, also of a batch, or
        vectors s. All of them are used, and each iteration computes and solves n² numbers for each. In any case
        the search starts from 0, the initial state, 32 states of the trajectory to which x leads from there, and their
        mean, which is close to a fixed point that the trajectory circles.
    num_random : int
        Number of random starts: uniform for each component in the smallest interval that contains ±`radius` and the
        states of `starts`.
    radius : float
    tolerance : float
        Largest ‖F(s) - s‖ of a fixed point.
    slow_tolerance : float
        Largest ‖F(s) - s‖ of a slow point.
    merge_distance : float
        Fixed points at most this far apart, relative to 1 + ‖s‖, are one; of these the one of the smallest residual
        stays. For slow points, which are located less precisely, 100 times as far.
    max_iterations : int
        Of each search, see :mod:`glasscell.explain.newton`.
    seed : int
        Of the random starts.

    Returns
    -------
    FixedPoints
        Those that most starts led to come first. No search finds all fixed points for certain.

    Raises
    ------
    TypeError, ValueError
        If the model is not recurrent, runs backward, or has a layer that reads several steps; if x or the starts have
        another shape or are not finite, or x is masked.

    Examples
    --------
    >>> import numpy as np, glasscell as gc
    >>> rnn = gc.RNN(1, 1, dtype=np.float64)
    >>> rnn.parameters["kernel_l0"][:] = [2.0, 0.0, 0.0]  # h_t = tanh(2 h_{t-1})
    >>> points = gc.explain.fixed_points(rnn, [0.0])
    >>> sorted(points.states[:, 0].round(4).tolist()), points.is_stable.sum().item()
    ([-0.9575, 0.0, 0.9575], 2)
    """
    tolerance, slow_tolerance = (
        positive_number("tolerance", tolerance),
        positive_number("slow_tolerance", slow_tolerance),
    )
    if slow_tolerance < tolerance:
        raise ValueError(f"slow_tolerance must be at least tolerance = {tolerance}, got {slow_tolerance}")
    distance = non_negative_number("merge_distance", merge_distance)
    count, radius = non_negative_integer("num_random", num_random), positive_number("radius", radius)
    max_iterations, rng = positive_integer("max_iterations", max_iterations), as_generator(seed)
    step_map = StepMap(model)
    constant = step_map.inputs.constant("x", x)
    passed = starting_states(step_map, starts)
    low, high = passed.min(axis=0, initial=-radius), passed.max(axis=0, initial=radius)
    s = np.concatenate([_usual_starts(step_map, constant), passed, rng.uniform(low, high, (count, step_map.size))])
    search = minimize_speed(
        lambda states: step_map.step(states, repeat_columns(constant, len(states))),
        lambda states: step_map.jacobians(states, repeat_columns(constant, len(states))),
        s,
        max_iterations,
    )
    order = np.argsort(search.residuals, kind="stable")
    is_fixed = search.residuals <= tolerance
    is_slow = ~is_fixed & (search.residuals <= slow_tolerance)
    merged = [_merge(search.states, order[is_fixed[order]], distance)]
    merged.append(_merge(search.states, order[is_slow[order]], SLOW_DISTANCE * distance))
    points = [_points(step_map, constant, search, groups) for groups in merged]
    failed = int(np.count_nonzero(~(is_fixed | is_slow)))
    return FixedPoints(**vars(points[0]), slow=points[1], num_failed=failed)


def _usual_starts(step_map: StepMap, x: NDArray[Any]) -> Array:
    """Return 0, the initial state, states of the trajectory from it, and their mean."""
    trajectory = step_map.trajectory(step_map.initial, np.repeat(x, TRAJECTORY_STEPS, axis=0))
    states = trajectory[:: TRAJECTORY_STEPS // TRAJECTORY_STARTS]
    with np.errstate(over="ignore", invalid="ignore"):
        states = states[np.isfinite(states**2).all(axis=1)]  # not those of a trajectory that diverges
    return np.concatenate([np.zeros((1, step_map.size)), states, states.mean(axis=0)[None]])


def starting_states(step_map: StepMap, starts: Any) -> Array:
    """Return the states (N, n) of a trace, a state of the model, or vectors."""
    n = step_map.size
    if starts is None:
        return np.zeros((0, n))
    if isinstance(starts, Trace):
        return step_map.from_trace("starts", starts)
    if _is_state(starts):
        first = starts if hasattr(starts, "_fields") else next(state for state in starts if state is not None)
        shape = np.shape(first[0])
        return np.atleast_2d(step_map.from_user("starts", starts, shape[1] if len(shape) == 3 else None))
    states = finite_array("starts", starts, np.dtype(np.float64))
    if states.ndim != 2 or states.shape[1] != n:
        raise ValueError(f"starts must have shape (N, n) with n = {n}, got {states.shape}")
    return states


def _is_state(value: Any) -> bool:
    return hasattr(value, "_fields") or (
        isinstance(value, list | tuple) and any(hasattr(entry, "_fields") for entry in value)
    )


def _merge(states: Array, order: NDArray[np.intp], distance: float) -> list[list[int]]:
    """Return groups of states by distance from the first of each, the largest group first."""
    groups: list[list[int]] = []
    for k in order:
        for group in groups:
            first = states[group[0]]
            if np.linalg.norm(states[k] - first) <= distance * (1 + np.linalg.norm(first)):
                group.append(int(k))
                break
        else:
            groups.append([int(k)])
    return sorted(groups, key=lambda group: (-len(group), min(group)))


def _points(step_map: StepMap, x: NDArray[Any], search: Search, groups: list[list[int]]) -> SlowPoints:
    """Return the first state of each group, with its Jacobian and eigenvalues."""
    first = [group[0] for group in groups]
    jacobians = step_map.jacobians(search.states[first], repeat_columns(x, len(first)))
    eigenvalues = np.linalg.eigvals(jacobians).astype(np.complex128)
    by_modulus = np.argsort(-np.abs(eigenvalues), axis=1, kind="stable")
    return SlowPoints(
        search.states[first],
        search.residuals[first],
        jacobians,
        np.take_along_axis(eigenvalues, by_modulus, axis=1),
        np.array([len(group) for group in groups], np.intp),
        dict(step_map.parts),
        step_map,
    )
