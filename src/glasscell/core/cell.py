"""One step of a long short-term memory, as the textbook writes it, and its derivative.

Read this module first. It is the definition: the fast code in :mod:`~glasscell.core.lstm` is tested against it,
gate by gate. Equations: Gers, Schmidhuber & Cummins (2000), "Learning to Forget", which is Hochreiter &
Schmidhuber (1997) with a forget gate; the form is the one of Greff et al. (2015), without peepholes.

Dimensions: ``H`` hidden units, ``I`` input features, ``B`` sequences side by side, ``K = H + I + 1``.
``dz`` stands for dL/dz, the gradient of the loss; likewise every other name that begins with ``d``.
"""

from typing import NamedTuple

import numpy as np

from glasscell.core.activations import sigmoid, sigmoid_derivative, tanh, tanh_derivative
from glasscell.core.types import Array

GATES = ("i", "f", "o", "g")  # the order of the blocks of H rows in W and z


class Step(NamedTuple):
    """Every quantity of one step, under the name that it has in the equations."""

    u: Array  # (K, B)   the column [h_prev; x; 1]
    c_prev: Array  # (H, B)
    i: Array  # (H, B)   input gate
    f: Array  # (H, B)   forget gate
    o: Array  # (H, B)   output gate
    g: Array  # (H, B)   candidate
    c: Array  # (H, B)   cell state
    tanh_c: Array  # (H, B)
    h: Array  # (H, B)   hidden state


class StepGradient(NamedTuple):
    """The gradient of the loss with respect to every quantity of one step."""

    dc: Array  # (H, B)   total: dc_next, plus the part through h
    di: Array  # (H, B)
    df: Array  # (H, B)
    do: Array  # (H, B)
    dg: Array  # (H, B)
    dz: Array  # (4H, B)
    dW: Array  # (4H, K)  # noqa: N815
    dh_prev: Array  # (H, B)
    dx: Array  # (I, B)
    dc_prev: Array  # (H, B)


# equation: lstm-step
@np.errstate(under="ignore")
def step(W: Array, x: Array, h_prev: Array, c_prev: Array) -> Step:
    """Compute one step forward.

    Parameters
    ----------
    W : array (4H, K)
        Rows in the order of :data:`GATES`; columns for h_prev, x, and the bias.
    x : array (I, B)
    h_prev, c_prev : array (H, B)

    Returns
    -------
    Step
    """
    one = np.ones_like(x, shape=(1, x.shape[1]))
    u = np.concatenate([h_prev, x, one])

    z_i, z_f, z_o, z_g = np.split(W @ u, 4)

    i = sigmoid(z_i)  # scales g
    f = sigmoid(z_f)  # scales c_prev
    o = sigmoid(z_o)  # scales tanh c
    g = tanh(z_g)  # the new value

    c = f * c_prev + i * g
    tanh_c = tanh(c)
    h = o * tanh_c
    return Step(u, c_prev, i, f, o, g, c, tanh_c, h)


# equation: lstm-step-backward
@np.errstate(under="ignore")
def step_backward(W: Array, step: Step, dh: Array, dc_next: Array) -> StepGradient:
    """Compute one step backward: the chain rule, line by line from the last equation to the first.

    Parameters
    ----------
    W : array (4H, K)
    step : Step
        From :func:`step`.
    dh : array (H, B)
        Gradient on this step's h, from everything that used it.
    dc_next : array (H, B)
        Gradient on this step's c, from the next step alone.

    Returns
    -------
    StepGradient
    """
    u, c_prev, i, f, o, g, _, tanh_c, _ = step

    do = dh * tanh_c
    dc = dh * o * tanh_derivative(tanh_c) + dc_next

    di = dc * g
    df = dc * c_prev
    dg = dc * i
    dc_prev = dc * f

    dz_i = di * sigmoid_derivative(i)
    dz_f = df * sigmoid_derivative(f)
    dz_o = do * sigmoid_derivative(o)
    dz_g = dg * tanh_derivative(g)

    dz = np.concatenate([dz_i, dz_f, dz_o, dz_g])
    dW = dz @ u.T
    du = W.T @ dz

    H = len(dh)
    dh_prev, dx = du[:H], du[H:-1]
    return StepGradient(dc, di, df, do, dg, dz, dW, dh_prev, dx, dc_prev)
