"""Activations of an LSTM, each with its derivative.

The derivatives of sigmoid and tanh are functions of the activation's *output*, which a backward pass has. The other
activations are those of the ONNX operator LSTM, and four more, by name. Underflow is ignored everywhere in ``core``: a
product of gates that decays to 0 is 0.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from glasscell.core.normal import gelu, gelu_derivative
from glasscell.core.types import Array


@np.errstate(over="ignore", under="ignore")
def sigmoid(z: Array) -> Array:
    """Compute the logistic function σ(z) = 1 / (1 + e^-z).

    Not ½ tanh(z/2) + ½, whose rounding errors are those of ½, with few correct digits where a gate is nearly closed.
    Where e^-z overflows to infinity, the result is the correct 0.

    Parameters
    ----------
    z : array, any shape
        Finite values of any size.

    Returns
    -------
    array
        Same shape and dtype, in [0, 1], within 4 units in the last place of the exact value.
    """
    s: Array = 1 / (1 + np.exp(-z))
    return s


@np.errstate(under="ignore")
def sigmoid_derivative(s: Array) -> Array:
    """Return the derivative, dσ/dz = s (1 - s), where s = σ(z)."""
    return s * (1 - s)


@np.errstate(under="ignore")
def tanh(z: Array) -> Array:
    """Compute the hyperbolic tangent.

    Parameters
    ----------
    z : array, any shape
        Finite values of any size.

    Returns
    -------
    array
        Same shape and dtype, in [-1, 1], within 4 units in the last place of the exact value.
    """
    t: Array = np.tanh(z)
    return t


@np.errstate(under="ignore")
def tanh_derivative(t: Array) -> Array:
    """Return the derivative, d tanh/dz = 1 - t², where t = tanh(z)."""
    return 1 - t * t


@np.errstate(over="ignore", under="ignore")
def softmax_terms(z: Array) -> tuple[Array, Array, Array]:
    """Compute the terms of a softmax, without overflow.

    Parameters
    ----------
    z : array (..., V)
        Finite values of any size, one for each class.

    Returns
    -------
    shifted : array (..., V)
        z - max z; -∞ where the difference overflows, whose exponential is the correct 0.
    exponentials : array (..., V)
        The exponentials of `shifted`; softmax(z) is ``exponentials / total``.
    total : array (..., 1)
        The sum of the exponentials; log softmax(z) is ``shifted - log(total)``.
    """
    shifted = z - z.max(axis=-1, keepdims=True, initial=np.finfo(z.dtype).min)
    exponentials = np.exp(shifted)
    return shifted, exponentials, exponentials.sum(axis=-1, keepdims=True)


Function = Callable[[Array], Array]
Derivative = Callable[[Array, Array], Array]


class Activation(NamedTuple):
    """Elementwise function with a name and its derivative.

    At a kink the derivative is that of the flat side: 0 for relu at 0.
    """

    name: str
    alpha: float | None  # None if the function has no such parameter
    beta: float | None
    function: Function
    derivative: Derivative  # of z and a = function(z)

    def complement(self, z: Array, a: Array) -> Array:
        """Compute 1 - a, where a = function(z): for a sigmoid with full precision, even where a is nearly 1."""
        return sigmoid(-z) if self.name == "Sigmoid" else 1 - a

    @property
    def spec(self) -> tuple[str, float | None, float | None]:
        """The arguments of :func:`activation` that return this activation."""
        return self.name, self.alpha, self.beta

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy as a call of :func:`activation`: the functions have no global names."""
        return activation, self.spec


class ActivationFactory(NamedTuple):
    """Constructor of an activation's function and derivative, with the defaults of its parameters."""

    make: Callable[[float, float], tuple[Function, Derivative]]
    alpha: float | None = None
    beta: float | None = None


ACTIVATIONS = {
    "Sigmoid": ActivationFactory(lambda _, __: (sigmoid, lambda _, a: sigmoid_derivative(a))),
    "Tanh": ActivationFactory(lambda _, __: (tanh, lambda _, a: tanh_derivative(a))),
    "Relu": ActivationFactory(lambda _, __: (lambda z: np.maximum(z, 0), lambda z, _: _as_float(z > 0, z))),
    "Affine": ActivationFactory(
        lambda alpha, beta: (lambda z: alpha * z + beta, lambda z, _: np.full_like(z, alpha)), 1.0, 0.0
    ),
    "LeakyRelu": ActivationFactory(
        lambda alpha, _: (lambda z: np.where(z > 0, z, alpha * z), lambda z, _: _piecewise_slope(z > 0, alpha, z)), 0.01
    ),
    "ThresholdedRelu": ActivationFactory(
        lambda alpha, _: (lambda z: np.where(z > alpha, z, 0), lambda z, _: _as_float(z > alpha, z)), 1.0
    ),
    "ScaledTanh": ActivationFactory(
        lambda alpha, beta: (
            lambda z: alpha * np.tanh(beta * z),
            lambda z, _: alpha * beta * tanh_derivative(np.tanh(beta * z)),
        ),
        1.0,
        1.0,
    ),
    "HardSigmoid": ActivationFactory(
        lambda alpha, beta: (
            lambda z: np.clip(alpha * z + beta, 0, 1),
            lambda _, a: alpha * _as_float((a > 0) & (a < 1), a),
        ),
        0.2,
        0.5,
    ),
    "Elu": ActivationFactory(
        lambda alpha, _: (
            lambda z: np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0))),
            lambda z, _: np.where(z > 0, 1, alpha * np.exp(np.minimum(z, 0))),
        ),
        1.0,
    ),
    "Softsign": ActivationFactory(
        lambda _, __: (lambda z: z / (1 + np.abs(z)), lambda z, _: (1 / (1 + np.abs(z))) ** 2)
    ),
    "Softplus": ActivationFactory(lambda _, __: (lambda z: np.logaddexp(z, z.dtype.type(0)), lambda z, _: sigmoid(z))),
}

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. (2017)
GELU_CUBIC, GELU_RATE = 0.044715, 2 * (2 / np.pi) ** 0.5
GELU_SATURATION = 40.0  # |z| above which tanh and its derivative equal their limits

# Activations that the ONNX operator LSTM does not have.
EXTRA_ACTIVATIONS = {
    "Selu": ActivationFactory(
        lambda _, __: (
            lambda z: np.where(z > 0, SELU_SCALE * z, SELU_SCALE * SELU_ALPHA * np.expm1(np.minimum(z, 0))),
            lambda z, _: np.where(z > 0, SELU_SCALE, SELU_SCALE * SELU_ALPHA * np.exp(np.minimum(z, 0))).astype(
                z.dtype
            ),
        )
    ),
    "Silu": ActivationFactory(lambda _, __: (lambda z: z * sigmoid(z), lambda z, _: _silu_derivative(z))),
    "Gelu": ActivationFactory(lambda _, __: (gelu, lambda z, _: gelu_derivative(z))),
    "GeluTanh": ActivationFactory(lambda _, __: (_gelu_tanh, lambda z, _: _gelu_tanh_derivative(z))),
}


def _silu_derivative(z: Array) -> Array:
    s = sigmoid(z)
    return s * (1 + z * (1 - s))


def _gelu_tanh(z: Array) -> Array:
    """Compute z (1 + tanh(u/2)) / 2 as z σ(u), which keeps its precision below 0."""
    cut = np.clip(z, -GELU_SATURATION, GELU_SATURATION)
    return z * sigmoid(GELU_RATE * (cut + GELU_CUBIC * cut**3))


def _gelu_tanh_derivative(z: Array) -> Array:
    """Compute the derivative in float64: its terms grow to 10 and cancel."""
    cut = np.clip(z.astype(np.float64), -GELU_SATURATION, GELU_SATURATION)
    s = sigmoid(GELU_RATE * (cut + GELU_CUBIC * cut**3))
    slope: Array = s + cut * s * (1 - s) * GELU_RATE * (1 + 3 * GELU_CUBIC * cut**2)
    return slope.astype(z.dtype)


def activation(name: str, alpha: float | None = None, beta: float | None = None) -> Activation:
    """Return the activation of a name, case-insensitive: one of the ONNX operator LSTM's, or one of four others.

    Parameters
    ----------
    name : str
        Sigmoid, Tanh, Relu, Affine (αz + β), LeakyRelu (αz below 0), ThresholdedRelu (0 up to α),
        ScaledTanh (α tanh βz), HardSigmoid (αz + β, cut to [0, 1]), Elu (α(e^z - 1) below 0),
        Softsign (z / (1 + |z|)), Softplus (log(1 + e^z)); Selu, Silu (z σ(z)), Gelu (z Φ(z)), GeluTanh (its
        approximation z (1 + tanh(√(2/π) (z + 0.044715 z³))) / 2).
    alpha, beta : float, optional
        Default: those of the ONNX operator of that name.

    Raises
    ------
    ValueError
        Unknown name, or a parameter that the function does not have.
    """
    definitions = ACTIVATIONS | EXTRA_ACTIVATIONS
    names = {key.lower(): key for key in definitions}
    if str(name).lower() not in names:
        raise ValueError(f"there is no activation {name!r}; known are {', '.join(definitions)}")
    key = names[str(name).lower()]
    make, alpha_default, beta_default = definitions[key]
    alpha, beta = (
        _check_parameter(key, "alpha", alpha, alpha_default),
        _check_parameter(key, "beta", beta, beta_default),
    )
    function, derivative = make(alpha or 0.0, beta or 0.0)
    quiet = np.errstate(under="ignore")
    return Activation(key, alpha, beta, quiet(function), quiet(derivative))


def _check_parameter(name: str, parameter: str, value: float | None, default: float | None) -> float | None:
    if value is None:
        return default
    if default is None:
        raise ValueError(f"the activation {name} has no {parameter}, and {value!r} was given for it")
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{parameter} of the activation {name} must be a number, got {value!r}")
    if not np.isfinite(value):
        raise ValueError(f"{parameter} of the activation {name} must be finite, and is {value!r}")
    return float(value)


def _as_float(condition: Array, like: Array) -> Array:
    return condition.astype(like.dtype)


def _piecewise_slope(above: Array, below: float, like: Array) -> Array:
    return np.where(above, like.dtype.type(1), like.dtype.type(below))
