"""The equations of a step, and their derivative, on vectors: what :mod:`~glasscell.core.compiled.vectors` compiles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from glasscell.core.compiled.vectors import Vector

Function = Callable[[Vector], Vector]
Vectors = tuple[Vector, ...]

# tanh x ≈ x P(x²) / Q(x²) up to EDGE, and ±1 beyond. Of each dtype: EDGE, P, Q, the highest power first. It is the
# rational function that equals tanh x at the positive ones of 2n Chebyshev points of [-EDGE, EDGE], n its coefficients.
# Wrong by 2.2e-8 and 9.3e-17 of the value, and with rounding by 2.7e-7 and 7e-16.
TANH = {
    "float32": (
        9.02,
        (2.9426571e-11, 9.81171442e-08, 3.98225669e-05, 0.00432702856, 0.140240585, 0.999999978),
        (2.49085713e-09, 2.38347531e-06, 0.000482098329, 0.0288517098, 0.473573844, 1),
    ),
    "float64": (
        19.07,
        (
            -3.5966996280864654e-34,
            2.7480292719935511e-29,
            9.2582822997800795e-25,
            6.0615090106489394e-21,
            1.5428376319560514e-17,
            1.9052397888673342e-14,
            1.2632426724702462e-11,
            4.6996170764721596e-09,
            9.8558388545130659e-07,
            0.00011269392941213617,
            0.0064571457693859855,
            0.15497734748443778,
            0.99999999999999989,
        ),
        (
            6.8349465250374277e-27,
            8.6243524878821093e-23,
            3.3799767747701508e-19,
            5.8870785964717333e-16,
            5.2824757675948759e-13,
            2.6160820022385786e-10,
            7.319554317729228e-08,
            1.1412273384503312e-05,
            0.00093753691373312366,
            0.035894039375309897,
            0.48831068081777079,
            1,
        ),
    ),
}


def tanh_of(dtype: np.dtype[np.floating]) -> Function:
    """The hyperbolic tangent of a dtype's vectors."""
    edge, numerator, denominator = TANH[dtype.name]

    def tanh(x: Vector) -> Vector:
        x = x.within(edge)
        square = x * x
        p, q = square * numerator[0] + numerator[1], square * denominator[0] + denominator[1]
        for a in numerator[2:]:
            p = p * square + a
        for a in denominator[2:]:
            q = q * square + a
        return (x * p / q).within(1)

    return tanh


def _sigmoid(tanh: Function, z: Vector) -> Vector:
    return tanh(z * 0.5) * 0.5 + 0.5


def gates(tanh: Function, z_i: Vector, z_f: Vector, z_o: Vector, z_g: Vector, c_prev: Vector) -> Vectors:
    """The step of :func:`glasscell.core.cell.step` but its product: i, f, o, g, i∘g, f∘c_prev, c, tanh c, h."""
    i, f, o, g = _sigmoid(tanh, z_i), _sigmoid(tanh, z_f), _sigmoid(tanh, z_o), tanh(z_g)
    ig, fc = i.times(g), f.times(c_prev)  # so that c is the same, whether they are kept or not
    c = ig + fc
    tanh_c = tanh(c)
    return i, f, o, g, ig, fc, c, tanh_c, o * tanh_c


def outputs(tanh: Function, z_i: Vector, z_f: Vector, z_o: Vector, z_g: Vector, c_prev: Vector) -> Vectors:
    """Of the same only c and h."""
    *_, c, _, h = gates(tanh, z_i, z_f, z_o, z_g, c_prev)
    return c, h


def gates_backward(
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
    """The chain rule as :func:`glasscell.core.lstm._write_factors` has it: dz_i, dz_f, dz_o, dz_g, dc_prev."""
    dh = dh_t + dh_next
    dc = dc_next + dh * (o - h * tanh_c)
    return dc * (1 - i) * ig, dc * (1 - f) * fc, dh * (1 - o) * h, dc * (i - ig * g), dc * f


def total(a: Vector, b: Vector) -> Vectors:
    """Their sum."""
    return (a + b,)
