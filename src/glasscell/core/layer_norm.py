"""Layer normalisation: Ba, Kiros & Hinton (2016), over the rows of each column."""

from typing import NamedTuple

import numpy as np

from glasscell.core.types import Array


class NormalizedActivations(NamedTuple):
    """Columns normalised to mean 0 and variance 1 over their rows."""

    values: Array  # (..., rows, B)
    scale: Array  # (..., 1, B)   1 / √(variance + ε)


@np.errstate(under="ignore")
def layer_norm(a: Array, epsilon: float) -> NormalizedActivations:
    """Compute (a - mean) / √(variance + ε), both over the rows: equation 3 of the paper, without gain and bias.

    Parameters
    ----------
    a : array (..., rows, B)
    epsilon : float
        Avoids a division by 0 for a column of equal values.
    """
    centred = a - a.mean(axis=-2, keepdims=True)
    variance = np.square(centred).mean(axis=-2, keepdims=True)
    scale = 1 / np.sqrt(variance + a.dtype.type(epsilon))
    return NormalizedActivations(centred * scale, scale)


@np.errstate(under="ignore")
def layer_norm_backward(normalized: NormalizedActivations, d_values: Array) -> Array:
    """Compute the gradient on `a` from that on the normalised values.

    With n the values and s the scale: da = s (dn - mean(dn) - n mean(n dn)), means over the rows.
    """
    n, s = normalized
    mean = d_values.mean(axis=-2, keepdims=True)
    along = (n * d_values).mean(axis=-2, keepdims=True)
    da: Array = s * (d_values - mean - n * along)
    return da
