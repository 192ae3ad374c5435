"""The equations of a step and their derivative on SIMD vectors of :mod:`~glasscell.core.numba_engine.vector`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from glasscell.core.numba_engine.vector import Vector

Function = Callable[[Vector], Vector]
Vectors = tuple[Vector, ...]


class Exponential(NamedTuple):
    """Constants of e^x for a dtype: e^x = 2^n e^r, with n the integer nearest to x / ln 2 and |r| <= ln 2 / 2.

    Attributes
    ----------
    shift : float
        1.5 · 2^digits + bias of the exponent. Adding a number of moderate size rounds it to an integer, and the last
        bits of the sum are the exponent of 2^n.
    ln2 : tuple of float
        Leading digits of ln 2, few enough that their product with any n is exact, and the remainder.
    polynomial : tuple of float
        Coefficients of the polynomial for (e^r - 1) / r, highest power first. It interpolates at as many Chebyshev
        points of the interval as it has coefficients; its relative error is 2.4e-8 in float32 and 2.5e-17 in float64.
    high : float
        x above which 1 + e^x is infinite.
    low : float
        x below which 1 + e^x is 1.
    edge : float
        x above which tanh x is 1.
    """

    shift: float
    ln2: tuple[float, float]
    polynomial: tuple[float, ...]
    high: float
    low: float
    edge: float


LOG2_E = 1.4426950408889634
EXPONENTIAL = {
    "float32": Exponential(
        1.5 * 2**23 + 127,
        (0.693145751953125, 1.4286068203094173e-06),
        (0.0013933731, 0.00836922, 0.041666463, 0.16666505, 0.5, 1.0),
        89.0,
        -20.0,
        9.02,
    ),
    "float64": Exponential(
        1.5 * 2**52 + 1023,
        (0.693147180559663, 2.8235290563031577e-13),
        (
            2.5105312729622103e-08,
            2.7626495546432196e-07,
            2.755725517000089e-06,
            2.4801504014426906e-05,
            0.0001984126987500228,
            0.0013888888932751,
            0.008333333333326084,
            0.04166666666657239,
            0.1666666666666667,
            0.5000000000000006,
            1.0,
        ),
        710.0,
        -40.0,
        19.07,
    ),
}


class Activations(NamedTuple):
    """Functions σ and tanh on vectors of a dtype, accurate to 4 units in the last place."""

    sigmoid: Function
    tanh: Function


def activations_for(dtype: np.dtype[np.floating]) -> Activations:
    """Return σ and tanh for a dtype."""
    constants = EXPONENTIAL[dtype.name]

    def exponential(x: Vector, factor: int) -> Vectors:
        """Return e^r - 1 and 2^n of e^(factor · x); multiplying the constants by ±1 or ±2 is exact."""
        shifted = x * (LOG2_E * factor) + constants.shift
        n = shifted - constants.shift
        r = x - n * (constants.ln2[0] / factor) - n * (constants.ln2[1] / factor)
        first, second, *rest = (
            a * factor ** (len(constants.polynomial) - k) for k, a in enumerate(constants.polynomial)
        )
        p = r * first + second
        for a in rest:
            p = p * r + a
        return r * p, shifted.power_of_two()

    def sigmoid(z: Vector) -> Vector:
        e_r_minus_1, power = exponential(z.clip_below(-constants.high).clip_above(-constants.low), -1)
        return 1 / ((e_r_minus_1 + 1) * power + 1)

    def tanh(x: Vector) -> Vector:
        """Return (1 - e) / (1 + e), e = e^(-2|x|), from 1 - e, which is small for small |x|."""
        e_r_minus_1, power = exponential(x.abs().clip_above(constants.edge), -2)
        one_minus_e = (1 - power) - e_r_minus_1 * power
        return (one_minus_e / (2 - one_minus_e)).copysign(x)

    return Activations(sigmoid, tanh)


# equation: lstm-step
def cell_forward(
    activations: Activations, z_i: Vector, z_f: Vector, z_o: Vector, z_g: Vector, c_prev: Vector
) -> Vectors:
    """Compute i, f, o, g, i∘g, f∘c_prev, c, tanh c, h from z, as in :func:`glasscell.core.cell.step`."""
    sigmoid, tanh = activations
    i, f, o, g = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o), tanh(z_g)
    ig, fc = i.multiply_rounded(g), f.multiply_rounded(c_prev)  # rounded, so that c is the same with and without a tape
    c = ig + fc
    tanh_c = tanh(c)
    return i, f, o, g, ig, fc, c, tanh_c, o * tanh_c


def cell_forward_inference(
    activations: Activations, z_i: Vector, z_f: Vector, z_o: Vector, z_g: Vector, c_prev: Vector
) -> Vectors:
    """Compute c and h of :func:`cell_forward`."""
    *_, c, _, h = cell_forward(activations, z_i, z_f, z_o, z_g, c_prev)
    return c, h


# equation: lstm-step-backward
def cell_backward(
    dh_t: Vector,
    dh_next: Vector,
    dc_next: Vector,
    i: Vector,
    f: Vector,
    o: Vector,
    g: Vector,
    ig: Vector,
    fc: Vector,
    tanh_c: Vector,
    h: Vector,
) -> Vectors:
    """Compute dz_i … dz_g, dc_prev by the chain rule, as :func:`glasscell.core.lstm._write_local_derivatives`."""
    dh = dh_t + dh_next
    dc = dc_next + dh * (o - h * tanh_c)
    return dc * (1 - i) * ig, dc * (1 - f) * fc, dh * (1 - o) * h, dc * (i - ig * g), dc * f


def add(a: Vector, b: Vector) -> Vectors:
    """Compute the sum."""
    return (a + b,)


def identity(a: Vector) -> Vectors:
    """Return the vector: a copy."""
    return (a,)
