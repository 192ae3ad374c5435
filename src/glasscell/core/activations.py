"""The two nonlinearities of the LSTM, each beside its derivative.

A derivative is written as a function of the activation's *output*: that is what a backward pass has at hand.
Underflow is let through everywhere in ``core``: a product of gates that fades to 0 *is* 0.
"""

import numpy as np

from glasscell.core.typing import Array


@np.errstate(under="ignore")
def sigmoid(z: Array) -> Array:
    """Logistic function σ(z) = 1 / (1 + e^-z), as ½ tanh(z/2) + ½: no exponential, so nothing can overflow.

    Parameters
    ----------
    z : array, any shape
        Finite values of any size.

    Returns
    -------
    array
        Same shape and dtype, in [0, 1], within one rounding error of 1 of the exact value.
    """
    s: Array = 0.5 * np.tanh(0.5 * z) + 0.5
    return s


@np.errstate(under="ignore")
def sigmoid_derivative(s: Array) -> Array:
    """The derivative, dσ/dz = s (1 - s), where s = σ(z)."""
    return s * (1 - s)


@np.errstate(under="ignore")
def tanh(z: Array) -> Array:
    """Hyperbolic tangent.

    Parameters
    ----------
    z : array, any shape
        Finite values of any size.

    Returns
    -------
    array
        Same shape and dtype, in [-1, 1].
    """
    t: Array = np.tanh(z)
    return t


@np.errstate(under="ignore")
def tanh_derivative(t: Array) -> Array:
    """The derivative, d tanh/dz = 1 - t², where t = tanh(z)."""
    return 1 - t * t
