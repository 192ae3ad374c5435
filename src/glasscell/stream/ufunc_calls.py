"""Activations, softmax and layer normalisation as calls on allocated arrays: the functions of ``core``, in ufuncs."""

from collections.abc import Callable
from contextvars import copy_context
from functools import partial

import numpy as np

from glasscell.core.activations import (
    EXTRA_ACTIVATIONS,
    GELU_CUBIC,
    GELU_RATE,
    GELU_SATURATION,
    SELU_ALPHA,
    SELU_SCALE,
    Activation,
    activation,
)
from glasscell.core.buffers import aligned_empty
from glasscell.core.normal import Workspace, write_gelu
from glasscell.core.types import Array
from glasscell.stream.arena import Call


def as_matmul_operand(weight: Array, *, single: bool) -> Array:
    """Return an aligned, read-only copy of a matrix for :func:`matmul_call`, transposed for a single stream.

    BLAS multiplies a row by a matrix of many columns up to 1.5 times faster than a matrix of many rows by a column.
    """
    source = weight.T if single else weight
    operand = aligned_empty(source.shape, source.dtype, 0)
    operand[:] = source
    operand.flags.writeable = False
    return operand


def matmul_call(weight: Array, column: Array, out: Array) -> Call:
    """Return the call that writes the product of an operand from :func:`as_matmul_operand` and a column to `out`."""
    factors = (column, weight) if column.ndim == 1 else (weight, column)
    return partial(np.dot, *factors, out)


def without_overflow() -> Callable[..., object]:
    """Return a function that calls a ufunc and ignores overflow: e^-z may be infinite, where σ(z) is 0.

    It takes a tenth of the time of ``numpy.errstate``. Only one thread at a time may use it.
    """
    context = copy_context()
    context.run(np.seterr, over="ignore", under="ignore", invalid="ignore")
    return context.run


def activation_calls(function: Activation, z: Array) -> list[Call]:
    """Return the calls that replace z by function(z)."""
    name, alpha, beta = function.spec
    a, b, zero, one = (np.array(value or 0, z.dtype) for value in (alpha, beta, 0, 1))
    if name in EXTRA_ACTIVATIONS:
        return _composite_calls(name, z)
    if name in ("LeakyRelu", "ThresholdedRelu", "Elu"):
        return _piecewise_calls(name, z, a)
    if name == "Softsign":
        t = np.empty_like(z)
        return [partial(np.absolute, z, t), partial(np.add, one, t, t), partial(np.divide, z, t, z)]
    calls: dict[str, list[Call]] = {
        "Sigmoid": [
            partial(np.negative, z, z),
            partial(without_overflow(), np.exp, z, z),
            partial(np.add, z, one, z),
            partial(np.divide, one, z, z),
        ],
        "Tanh": [partial(np.tanh, z, z)],
        "Relu": [partial(np.maximum, z, zero, out=z)],
        "Affine": [partial(np.multiply, a, z, z), partial(np.add, z, b, z)],
        "ScaledTanh": [partial(np.multiply, b, z, z), partial(np.tanh, z, z), partial(np.multiply, a, z, z)],
        "HardSigmoid": [partial(np.multiply, a, z, z), partial(np.add, z, b, z), *clip_calls(z, 0, 1)],
        "Softplus": [partial(np.logaddexp, z, zero, z)],
    }
    return calls[name]


def _composite_calls(name: str, z: Array) -> list[Call]:
    """Return the calls of an activation that the ONNX operator LSTM does not define."""
    if name == "Gelu":
        return [partial(write_gelu, z, z, Workspace.like(z))]
    if name == "Selu":
        scale = np.array(SELU_SCALE, z.dtype)
        return [*activation_calls(activation("Elu", SELU_ALPHA), z), partial(np.multiply, z, scale, z)]
    s = np.empty_like(z)
    calls: list[Call] = [partial(np.copyto, s, z)]
    if name == "GeluTanh":
        cubic, rate, one, t = *(np.array(value, z.dtype) for value in (GELU_CUBIC, GELU_RATE, 1)), np.empty_like(z)
        calls += [
            *clip_calls(s, -GELU_SATURATION, GELU_SATURATION),
            partial(np.square, s, t),
            partial(np.multiply, t, cubic, t),
            partial(np.add, t, one, t),
            partial(np.multiply, s, t, s),
            partial(np.multiply, s, rate, s),
        ]
    return [*calls, *activation_calls(activation("Sigmoid"), s), partial(np.multiply, z, s, z)]


def _piecewise_calls(name: str, z: Array, a: Array) -> list[Call]:
    """Return the calls of an activation that is z above a bound, and another function up to it."""
    bound = a if name == "ThresholdedRelu" else np.array(0, z.dtype)
    low = np.empty(z.shape, np.bool_)
    calls: list[Call] = [partial(np.greater, z, bound, low), partial(np.logical_not, low, low)]
    if name == "LeakyRelu":
        calls.append(partial(np.multiply, a, z, z, where=low))
    elif name == "ThresholdedRelu":
        calls.append(partial(np.copyto, z, np.zeros_like(bound), where=low))
    else:
        calls += [partial(np.expm1, z, z, where=low), partial(np.multiply, a, z, z, where=low)]
    return calls


def clip_calls(z: Array, low: float, high: float) -> list[Call]:
    """Return the calls that clip z to [low, high]."""
    lowest, highest = np.array(low, z.dtype), np.array(high, z.dtype)
    return [partial(np.maximum, z, lowest, out=z), partial(np.minimum, z, highest, out=z)]


def layer_norm_calls(a: Array, epsilon: float) -> list[Call]:
    """Return the calls that replace a by :func:`glasscell.core.layer_norm.layer_norm` of its rows."""
    t, mean, scale = np.empty_like(a), np.empty_like(a[:1]), np.empty_like(a[:1])
    rows, one, small = (np.array(value, a.dtype) for value in (len(a), 1, epsilon))
    return [
        partial(np.add.reduce, a, axis=0, out=mean, keepdims=True),
        partial(np.divide, mean, rows, mean),
        partial(np.copyto, t, mean),  # a ufunc would allocate to broadcast it
        partial(np.subtract, a, t, a),
        partial(np.square, a, t),
        partial(np.add.reduce, t, axis=0, out=scale, keepdims=True),
        partial(np.divide, scale, rows, scale),
        partial(np.add, scale, small, scale),
        partial(np.sqrt, scale, scale),
        partial(np.divide, one, scale, scale),
        partial(np.copyto, t, scale),
        partial(np.multiply, a, t, a),
    ]


def softmax_calls(x: Array, y: Array, *, log: bool) -> list[Call]:
    """Return the calls that write the softmax over the rows of x, or its logarithm, to y."""
    t, total = np.empty_like(x), np.empty_like(x[:1])
    exponentials, log_total = (t, [partial(np.log, total, total)]) if log else (y, [])
    return [
        partial(np.maximum.reduce, x, axis=0, out=total, keepdims=True),
        partial(np.copyto, t, total),
        partial(np.subtract, x, t, y),
        partial(np.exp, y, exponentials),
        partial(np.add.reduce, exponentials, axis=0, out=total, keepdims=True),
        *log_total,
        partial(np.copyto, t, total),
        partial(np.subtract if log else np.divide, y, t, y),
    ]
