"""Layer normalisation: Ba, Kiros & Hinton (2016), over the rows of each column."""

from typing import NamedTuple

import numpy as np

from glasscell.core.types import Array


class NormalizedActivations(NamedTuple):
    """The rows of a column, shifted and scaled to mean 0 and variance 1."""

    values: Array  # (..., rows, B)
    scale: Array  # (..., 1, B)   what they were multiplied with


@np.errstate(under="ignore")
def layer_norm(a: Array, epsilon: float) -> NormalizedActivations:
    """Compute (a - mean) / √(variance + ε), both over the rows: equation 3 of the paper, without gain and bias.

    Parameters
    ----------
    a : array (..., rows, B)
    epsilon : float
        Keeps a column of equal rows from a division by 0.
    """
    centred = a - a.mean(axis=-2, keepdims=True)
    variance = np.square(centred).mean(axis=-2, keepdims=True)
    scale = 1 / np.sqrt(variance + a.dtype.type(epsilon))
    return NormalizedActivations(centred * scale, scale)


@np.errstate(under="ignore")
def layer_norm_backward(normalized: NormalizedActivations, d_values: Array) -> Array:
    """Compute the gradient on `a`, from the one on the normalised values.

    With n the values and s the scale: da = s (dn - mean(dn) - n mean(n dn)), means over the rows.
    """
    n, s = normalized
    mean = d_values.mean(axis=-2, keepdims=True)
    along = (n * d_values).mean(axis=-2, keepdims=True)
    da: Array = s * (d_values - mean - n * along)
    return da
