"""Lyapunov exponents of a recurrent layer or model along a trajectory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core.types import Array
from glasscell.explain.step_inputs import at_each_step
from glasscell.explain.step_maps import StepMap
from glasscell.validation import non_negative_integer, positive_integer

MAX_BLOCKS = 10  # whose means are compared for the standard error
BLOCK_STEPS = 64  # whose Jacobians are kept at a time


@dataclass(frozen=True, repr=False, eq=False)
class LyapunovSpectrum:
    """Lyapunov exponents along a trajectory: the result of :func:`lyapunov_spectrum`.

    Attributes
    ----------
    exponents : array (m,)
        λ_1 ≥ λ_2 ≥ …, per step, in natural logarithms. -inf for a direction that a step maps to 0.
    standard_errors : array (m,)
        Standard error of each exponent as a mean over the trajectory: from the means of up to ten blocks of steps. NaN
        for a single step.
    local_exponents : array (T, m)
        ln of the growth at each counted step. Their means over the steps are the exponents.
    num_components : int
        n, the components of the state.
    """

    exponents: Array
    standard_errors: Array
    local_exponents: Array
    num_components: int

    @property
    def running_means(self) -> Array:
        """The exponents computed from the first t + 1 counted steps, (T, m): they converge to the last row."""
        steps = np.arange(1, len(self.local_exponents) + 1)[:, None]
        return np.asarray(np.cumsum(self.local_exponents, axis=0) / steps)

    @property
    def kaplan_yorke_dimension(self) -> float:
        """Dimension of the attractor by Kaplan & Yorke (1979): k + (λ_1 + … + λ_k) / abs(λ_{k+1}).

        k is the largest number for which the sum is not negative; 0 if λ_1 < 0. NaN if the sum of the m exponents that
        were computed is not negative and there are more.
        """
        sums = np.cumsum(self.exponents)
        k = int(np.count_nonzero(sums >= 0))
        if k == 0:
            return 0.0
        if k == len(sums):
            return float(k) if k == self.num_components else float("nan")
        return float(k + sums[k - 1] / abs(self.exponents[k]))

    def __repr__(self) -> str:
        values = zip(self.exponents[:4], self.standard_errors[:4], strict=True)
        shown = ", ".join(f"{value:.4g} ± {error:.1g}" for value, error in values)
        return f"LyapunovSpectrum({shown}{', …' * (len(self.exponents) > 4)}; {len(self.local_exponents)} steps)"


def lyapunov_spectrum(
    model: Any,
    x: ArrayLike,
    *,
    steps: int | None = None,
    transient: int | None = None,
    num_exponents: int | None = None,
    state: Any = None,
    lengths: ArrayLike | None = None,
) -> Any:
    """Compute the Lyapunov exponents: the mean rates at which nearby states separate or approach each other.

    Along a trajectory a deviation grows by the step Jacobians, δ_t = J_t … J_1 δ_0, and the exponents are the limits of
    1/t ln of the singular values of that product. They are computed as Benettin, Galgani, Giorgilli & Strelcyn (1980),
    Meccanica 15, parts 1 and 2, propose: an orthonormal basis Q is carried along, J_t Q_{t-1} = Q_t R_t, and the
    logarithms of the diagonal of R_t are averaged.

    λ_1 > 0 is chaos, or under a changing input a state that depends on its beginning for ever. λ_1 < 0: the beginning
    is forgotten, a deviation halves in ln ½ / λ_1 steps, and backpropagated gradients vanish at that rate. 0 is the
    border, such as a quasi-periodic orbit or a preserved value.

    Parameters
    ----------
    model : LSTM, GRU, RNN, or a model of layers
        As for :func:`fixed_points`.
    x : array (T, I), (B, T, I) or (I,), a constant; ids (T,), (B, T) or one, for a model that begins with an Embedding
        The inputs of the trajectory, or of one for each of B sequences.
    steps : int, optional
        Number of steps with a constant x.
    transient : int, optional
        Number of first steps that are run but not counted: the state and the basis settle. Default: a tenth of those of
        each sequence.
    num_exponents : int, optional
        m, the number of the largest exponents. Default: all n.
    state : state, optional
        Initial state of the trajectory, as ``forward`` takes it; of B sequences with B. Default: the learned one, or 0.
    lengths : array (B,) of int, optional
        Number of steps of each sequence, 1 to T. Default: T.

    Returns
    -------
    LyapunovSpectrum, or a tuple of them
        One for each of B sequences: their trajectories differ, and exponents of several are no mean of one.

    Raises
    ------
    RuntimeError
        If the trajectory diverges.
    TypeError, ValueError
        As :func:`fixed_points`; or `steps` or `transient` is out of range.
    """
    step_map = StepMap(model)
    sequences, B = step_map.inputs.sequences(x, steps, lengths)
    states = np.atleast_2d(step_map.from_user("state", state, B))
    spectra = tuple(
        _spectrum(step_map, inputs, start, transient, num_exponents)
        for inputs, start in zip(sequences, states, strict=True)
    )
    return spectra[0] if B is None else spectra


def _spectrum(
    step_map: StepMap, inputs: NDArray[Any], state: Array, transient: int | None, num_exponents: int | None
) -> LyapunovSpectrum:
    """Return the exponents of one sequence."""
    T, n = len(inputs), step_map.size
    skipped = T // 10 if transient is None else non_negative_integer("transient", transient)
    if skipped >= T:
        raise ValueError(f"transient must be below the number of steps, {T}, got {skipped}")
    m = n if num_exponents is None else positive_integer("num_exponents", num_exponents)
    if m > n:
        raise ValueError(f"num_exponents must be at most n = {n}, got {m}")
    states = finite_trajectory(step_map, state, inputs)
    growth = np.empty((T, m))
    Q = np.eye(n)[:, :m]
    for start in range(0, T, BLOCK_STEPS):
        block = slice(start, min(T, start + BLOCK_STEPS))
        jacobians = step_map.jacobians(states[block], at_each_step(inputs[block]))
        for t, J in enumerate(jacobians, start=start):
            Q, R = np.linalg.qr(J @ Q)
            growth[t] = np.abs(np.diagonal(R))
    with np.errstate(divide="ignore"):
        local = np.log(growth[skipped:])
    exponents = local.mean(axis=0)
    order = np.argsort(-exponents, kind="stable")
    return LyapunovSpectrum(exponents[order], _standard_errors(local)[order], local[:, order], n)


def finite_trajectory(step_map: StepMap, state: Array, inputs: Any) -> Array:
    """Return the states (T + 1, n) of a trajectory.

    Raises
    ------
    RuntimeError
        If they do not stay finite.
    """
    states = step_map.trajectory(state, inputs)
    finite = np.isfinite(states).all(axis=1)
    if not finite.all():
        raise RuntimeError(f"the trajectory must stay finite, but diverges at step {finite.argmin() - 1}")
    return states


def _standard_errors(local: Array) -> Array:
    """Return the standard errors of means over steps, from the means of blocks of steps."""
    count = min(MAX_BLOCKS, len(local))
    if count < 2:
        return np.full(local.shape[1], np.nan)
    with np.errstate(invalid="ignore"):
        means = np.stack([block.mean(axis=0) for block in np.array_split(local, count)])
        return np.asarray(means.std(axis=0, ddof=1) / np.sqrt(count))
