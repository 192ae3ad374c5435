"""Gradients at every step, computed from the dz of a backward pass.

The backward pass only has to keep dz. All other gradients follow from dz: one line loops over the steps, the others
compute all steps at once. They are computed on request.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from glasscell.core.linear import batched_matmul
from glasscell.core.lstm_tape import Tape
from glasscell.core.types import Array


class StepGradients(NamedTuple):
    """Gradients of the loss, in processing order; the R rows are those of the gates that have weights."""

    dz: Array  # (T, R, B)
    da: Array  # (T, R, B)   on the gates and the candidate
    dc: Array  # (T, H, B)   total: from later steps, and through h
    dh: Array  # (T, P, B)   total
    dx: Array  # (T, I, B)
    dy: Array  # (T, P, B)   the part of dh from outside the layer


StepGradientsByLayer: TypeAlias = list[Callable[[], StepGradients]]
"""List that a backward pass fills: for each layer and direction, a function that returns its gradients."""


@np.errstate(under="ignore")
def compute_step_gradients(
    tape: Tape,
    dz: Array,
    dx: Array,
    dh: Array,
    dh_T: Array | float = 0.0,
    dc_T: Array | float = 0.0,
    dc: Array | None = None,
) -> StepGradients:
    """Compute the gradients at every step.

    The parameters are arguments and results of :func:`glasscell.core.lstm.backward`: `dz` is its ``dz_steps``.
    The equations are those of :func:`glasscell.core.cell.step_backward`.
    """
    H, dy = tape.H, dh
    dh, dc = dh.copy(), np.zeros_like(dh) if dc is None else dc.copy()
    if not tape.T:
        return StepGradients(dz, dz.copy(), dc, dh, dx, dy)
    # equation: lstm-step-backward
    dh[:-1] += batched_matmul(tape.kernel[:, :H].T, dz[1:])  # through the next step
    dh[-1] += dh_T
    dc += dh * (tape.o - tape.h * tape.tanh_c)  # o (1 - tanh² c)
    dc[-1] += dc_T
    for t in reversed(range(tape.T - 1)):
        dc[t] += dc[t + 1] * tape.f[t + 1]
    da = np.concatenate([dc * tape.g, dc * tape.c_with_initial[:-1], dh * tape.tanh_c, dc * tape.i], axis=1)
    return StepGradients(dz, da, dc, dh, dx, dy)
