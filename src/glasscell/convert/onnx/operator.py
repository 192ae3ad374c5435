"""The LSTM operator of ONNX: its names, shapes and defaults, run by the general layer.

Letters in shapes: T steps, N sequences (B is the operator's bias), I inputs, H hidden units, D directions.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core import variants
from glasscell.core.activations import ACTIVATIONS, EXTRA_ACTIVATIONS, Activation, activation
from glasscell.core.time_order import Index, mask_from_lengths, time_order
from glasscell.core.types import Array
from glasscell.core.variants import CellConfig
from glasscell.validation import choice, positive_integer, positive_number
from glasscell.weight_layouts import GLASSCELL, ONNX, WeightMatrices, decode, reorder

INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
OUTPUTS = ("Y", "Y_h", "Y_c")
ATTRIBUTES = (
    *("activation_alpha", "activation_beta", "activations", "clip"),
    *("direction", "hidden_size", "input_forget", "layout"),
)
DEFAULT_ACTIVATIONS = ("Sigmoid", "Tanh", "Tanh")
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}  # reverse or not, way by way

Number = int | float | np.integer | np.floating


class LSTMAttributes(NamedTuple):
    """What the attributes say."""

    reverse: tuple[bool, ...]  # of each direction
    variants: tuple[CellConfig, ...]  # likewise
    hidden_size: int | None
    batch_first: bool


@np.errstate(over="ignore", invalid="ignore")  # NaN and infinite values run through, as everywhere in ONNX
def run_lstm(attributes: Mapping[str, Any], inputs: Mapping[str, ArrayLike | None]) -> dict[str, NDArray[np.floating]]:
    """The LSTM operator of ONNX, as of its version 22; versions 7 and 14 are parts of that.

    Parameters
    ----------
    attributes : mapping of name to value
        activation_alpha, activation_beta, activations, clip, direction, hidden_size, input_forget, layout. Strings may
        be bytes, and capitals do not matter. As in onnxruntime, each activation that has an α takes the next of
        `activation_alpha`, and its default where none is left; values that no activation takes are passed over.
        Likewise β. The defaults are those of the ONNX operators, also where onnxruntime has 0: Affine (1 and 0),
        ScaledTanh (1 and 1), ThresholdedRelu (1).
    inputs : mapping of name to array
        X (T, N, I), W (D, 4H, I), R (D, 4H, H), and perhaps B (D, 8H), sequence_lens (N,), initial_h and initial_c
        (D, N, H), P (D, 3H). With layout 1, X is (N, T, I) and the states are (N, D, H). An optional input may also be
        None, or an array of shape (0,). All have one type: float32, float64, or float16, which is computed in float32.
        NaN and infinite values are let through.

    Returns
    -------
    dict of name to array
        Y (T, D, N, H), Y_h and Y_c (D, N, H), of the type of X; with layout 1, (N, T, D, H) and (N, D, H).
        Y is 0 where a sequence has no step. A sequence without any step keeps its initial state; onnxruntime's is 0.

    Raises
    ------
    TypeError, ValueError
        What is no attribute or input of the operator, or does not fit the others.
    """
    settings = parse_attributes(attributes)
    arrays = _arrays(inputs)
    _check_types(arrays)
    T, N, _, H = _check_shapes(arrays, settings)
    dtype = arrays["X"].dtype
    lengths = _lengths(arrays.pop("sequence_lens", None), T, N)
    exact = {name: array.astype(np.result_type(dtype, np.float32)) for name, array in arrays.items()}
    if settings.batch_first:
        exact |= {name: exact[name].swapaxes(0, 1) for name in ("X", "initial_h", "initial_c") if name in exact}
    x = exact.pop("X").transpose(0, 2, 1)  # (T, I, N)
    ways = [
        _run_direction(variant, x, {name: array[d] for name, array in exact.items()}, lengths, reverse=reverse, H=H)
        for d, (variant, reverse) in enumerate(zip(settings.variants, settings.reverse, strict=True))
    ]
    y, *states = (np.stack(outputs) for outputs in zip(*ways, strict=True))  # (D, T, H, N) and (D, H, N)
    y, states = y.transpose(1, 0, 3, 2), [state.transpose(0, 2, 1) for state in states]
    if settings.batch_first:
        y, states = y.transpose(2, 0, 1, 3), [state.swapaxes(0, 1) for state in states]
    return {name: array.astype(dtype, order="C") for name, array in zip(OUTPUTS, [y, *states], strict=True)}


def _run_direction(
    variant: CellConfig, x: Array, operands: Mapping[str, Array], lengths: Index, *, reverse: bool, H: int
) -> tuple[Array, Array, Array]:
    """One direction, over sequences x (T, I, N) in time: its outputs (T, H, N), and the final states (H, N)."""
    weights = _weights(variant, operands, H)
    h0, c0 = (operands[name].T if name in operands else 0.0 for name in ("initial_h", "initial_c"))
    of = time_order(mask_from_lengths(lengths, len(x)), reverse=reverse)
    tape = variants.forward(variant, weights, of.to_processing_order(x), h0, c0, lengths=of.lengths)
    return of.to_time_order(tape.h), tape.h_with_initial[-1], tape.c_with_initial[-1]


def _weights(variant: CellConfig, operands: Mapping[str, Array], H: int) -> dict[str, Array]:
    """One direction's weights, as the general layer has them: without the rows of a gate that is 1 minus another."""
    W, R = operands["W"], operands["R"]
    b = operands["B"].reshape(2, 4 * H).sum(axis=0) if "B" in operands else np.zeros(4 * H, W.dtype)
    weights = {
        "kernel": reorder(decode(WeightMatrices(W, R, b), GLASSCELL.gates, ONNX), GLASSCELL.gates, variant.gates)
    }
    if "P" in operands:
        weights["peepholes"] = reorder(operands["P"], ONNX.peepholes, variant.peepholes)
    return weights


# The attributes


def parse_attributes(attributes: Mapping[str, Any]) -> LSTMAttributes:
    """The attributes, if they are those of an LSTM; one that is None is as good as none."""
    if not isinstance(attributes, Mapping):
        raise TypeError(f"attributes must be a mapping of names to values, and is {attributes!r}")
    for name in attributes:
        if name not in ATTRIBUTES:
            raise ValueError(f"the LSTM operator has no attribute {name!r}; it has {', '.join(ATTRIBUTES)}")
    given = {name: value for name, value in attributes.items() if value is not None}
    direction = _text("direction", given.get("direction", "forward")).lower()
    choice("direction", direction, tuple(DIRECTIONS))
    for name in ("input_forget", "layout"):
        choice(name, given.get(name, 0), (0, 1))
    clip = positive_number("clip", given["clip"]) if "clip" in given else None
    functions = _activations(given, len(DIRECTIONS[direction]))
    return LSTMAttributes(
        DIRECTIONS[direction],
        tuple(CellConfig(f, g, h, "input" if given.get("input_forget") else None, clip) for f, g, h in functions),
        positive_integer("hidden_size", given["hidden_size"]) if "hidden_size" in given else None,
        bool(given.get("layout", 0)),
    )


def _activations(given: Mapping[str, Any], D: int) -> list[list[Activation]]:
    """f, g and h of each direction; both directions take their parameters from the same two lists."""
    names = [_text("activations", name) for name in _list("activations", given.get("activations", ()), "strings")]
    names = names or [*DEFAULT_ACTIVATIONS] * D
    if len(names) != 3 * D:
        raise ValueError(f"activations has {len(names)} names; expected 3D = {3 * D}: f, g, h of each direction")
    alphas, betas = (iter(_numbers(name, given.get(name, ()))) for name in ("activation_alpha", "activation_beta"))
    functions = [_activation(name, alphas, betas) for name in names]
    return [functions[k : k + 3] for k in range(0, 3 * D, 3)]


def _activation(name: str, alphas: Iterator[float], betas: Iterator[float]) -> Activation:
    """The activation of this name, with the next parameters if it has any."""
    if name.lower() in map(str.lower, EXTRA_ACTIVATIONS):
        raise ValueError(f"activations must be among {', '.join(ACTIVATIONS)}, got {name!r}")
    try:
        default = activation(name)
        alpha = None if default.alpha is None else next(alphas, default.alpha)
        beta = None if default.beta is None else next(betas, default.beta)
        return activation(name, alpha, beta)
    except ValueError as error:
        raise ValueError(f"activations: {error}") from None


def _list(name: str, value: Any, of: str) -> list[Any]:
    if not isinstance(value, list | tuple | np.ndarray):
        raise TypeError(f"{name} must be a list of {of}, and is {value!r}")
    return list(value)


def _text(name: str, value: Any) -> str:
    """A string, from bytes too."""
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if not isinstance(value, str):
        raise TypeError(f"{name} must be of strings, and has {value!r}")
    return value


def _numbers(name: str, value: Any) -> list[float]:
    numbers = _list(name, value, "numbers")
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, Number):
            raise TypeError(f"{name} must be of numbers, and has {number!r}")
    return [float(number) for number in numbers]


# The inputs


def _arrays(inputs: Mapping[str, ArrayLike | None]) -> dict[str, NDArray[Any]]:
    """The inputs that are there, as arrays."""
    if not isinstance(inputs, Mapping):
        raise TypeError(f"inputs must be a mapping of names to arrays, and is {inputs!r}")
    for name in inputs:
        if name not in INPUTS:
            raise ValueError(f"the LSTM operator has no input {name!r}; it has {', '.join(INPUTS)}")
    arrays = {name: _array(name, value) for name, value in inputs.items() if value is not None}
    arrays = {name: array for name, array in arrays.items() if name in INPUTS[:3] or array.shape != (0,)}
    for name in INPUTS[:3]:
        if name not in arrays:
            raise ValueError(f"the input {name!r} is missing; an LSTM needs {', '.join(INPUTS[:3])}")
    return arrays


def _array(name: str, value: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors that NumPy cannot look into
        raise TypeError(f"the input {name!r} is not an array: {error}") from None


def _check_types(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raise an error for dtypes that the operator does not support, alone or together."""
    for name, array in arrays.items():
        if name == "sequence_lens":
            if array.dtype.kind not in "iu":
                raise TypeError(f"sequence_lens must be integers, and has dtype {array.dtype}")
        elif array.dtype not in (np.float16, np.float32, np.float64):
            raise TypeError(f"{name} must be float16, float32 or float64, and has dtype {array.dtype}")
        elif array.dtype != arrays["X"].dtype:
            raise TypeError(f"{name} has dtype {array.dtype}; expected that of X, {arrays['X'].dtype}")


def _check_shapes(arrays: Mapping[str, NDArray[Any]], settings: LSTMAttributes) -> tuple[int, int, int, int]:
    """T, N, I and H, if all shapes agree on them."""
    letters = _letters(batch_first=settings.batch_first)
    for name in INPUTS[:3]:
        if arrays[name].ndim != 3:
            raise ValueError(f"{name} has shape {arrays[name].shape}; expected {_tuple(letters[name])}")
    sizes = dict(zip(letters["X"], arrays["X"].shape, strict=True))
    H = positive_integer("H, the last axis of R,", arrays["R"].shape[2])
    if settings.hidden_size not in (None, H):
        raise ValueError(
            f"hidden_size is {settings.hidden_size}, and R has shape {arrays['R'].shape}; expected (D, 4H, H)"
        )
    sizes |= {"D": len(settings.reverse), "H": H, "3H": 3 * H, "4H": 4 * H, "8H": 8 * H}
    for name in ("R", *arrays):  # H is R's
        expected = tuple(sizes[letter] for letter in letters[name])
        if arrays[name].shape != expected:
            raise ValueError(f"{name} has shape {arrays[name].shape}; expected {_tuple(letters[name])} = {expected}")
    return sizes["T"], sizes["N"], sizes["I"], H


def _letters(*, batch_first: bool) -> dict[str, tuple[str, ...]]:
    """The shapes of the inputs."""
    state = ("N", "D", "H") if batch_first else ("D", "N", "H")
    return {
        "X": ("N", "T", "I") if batch_first else ("T", "N", "I"),
        "W": ("D", "4H", "I"),
        "R": ("D", "4H", "H"),
        "B": ("D", "8H"),
        "sequence_lens": ("N",),
        "initial_h": state,
        "initial_c": state,
        "P": ("D", "3H"),
    }


def _tuple(letters: tuple[str, ...]) -> str:
    """As Python writes it, without quotes."""
    return f"({', '.join(letters)}{',' * (len(letters) == 1)})"


def _lengths(given: NDArray[Any] | None, T: int, N: int) -> Index:
    """The number of steps of each sequence: (N,)."""
    if given is None:
        return np.full(N, T)
    if ((given < 0) | (given > T)).any():
        raise ValueError(f"sequence_lens must be from 0 to T = {T}, and is {given.tolist()}")
    return given.astype(np.intp)
