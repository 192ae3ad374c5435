"""The LSTM operator of ONNX, with its names, shapes and defaults, computed by the general LSTM.

Letters in shapes: T steps, N sequences (B is the operator's bias), I inputs, H hidden units, D directions.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

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
REQUIRED_INPUTS = INPUTS[:3]
OUTPUTS = ("Y", "Y_h", "Y_c")
ATTRIBUTES = (
    *("activation_alpha", "activation_beta", "activations", "clip"),
    *("direction", "hidden_size", "input_forget", "layout"),
)
DEFAULT_ACTIVATIONS = ("Sigmoid", "Tanh", "Tanh")
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}  # whether each is reverse

Number = int | float | np.integer | np.floating


class LSTMAttributes(NamedTuple):
    """Parsed attributes of an LSTM node."""

    reverse: tuple[bool, ...]  # of each direction
    variants: tuple[CellConfig, ...]  # of each direction
    hidden_size: int | None
    batch_first: bool


@np.errstate(over="ignore", invalid="ignore")  # NaN and infinite values propagate, as in all ONNX operators
def run_lstm(attributes: Mapping[str, Any], inputs: Mapping[str, ArrayLike | None]) -> dict[str, NDArray[np.floating]]:
    """Run the LSTM operator of ONNX, version 22, of which versions 7 and 14 are subsets.

    Parameters
    ----------
    attributes : mapping of name to value
        activation_alpha, activation_beta, activations, clip, direction, hidden_size, input_forget, layout. Strings may
        be bytes, in any case. As in onnxruntime, each activation with an α takes the next number of
        `activation_alpha`, or its default when none is left; further numbers are ignored. The same holds for β. The
        defaults are those of the ONNX operators, also where onnxruntime has 0: Affine (1 and 0), ScaledTanh (1 and 1),
        ThresholdedRelu (1).
    inputs : mapping of name to array
        X (T, N, I), W (D, 4H, I), R (D, 4H, H), and optionally B (D, 8H), sequence_lens (N,), initial_h and initial_c
        (D, N, H), P (D, 3H). With layout 1, X is (N, T, I) and the states are (N, D, H). Optional inputs may be None,
        or arrays of shape (0,). All have one dtype: float32, float64, or float16, which is computed in float32.
        NaN and infinite values are accepted.

    Returns
    -------
    dict of name to array
        Y (T, D, N, H), Y_h and Y_c (D, N, H), of the dtype of X; with layout 1, (N, T, D, H) and (N, D, H).
        Y is 0 after a sequence's end. A sequence of length 0 keeps its initial state; in onnxruntime it is 0.

    Raises
    ------
    TypeError, ValueError
        If an attribute or input is unknown or invalid, or the shapes or dtypes of inputs do not match.
    """
    config = parse_attributes(attributes)
    arrays = _arrays(inputs)
    _check_dtypes(arrays)
    T, N, _, H = _check_shapes(arrays, config)
    dtype = arrays["X"].dtype
    lengths = _lengths(arrays.pop("sequence_lens", None), T, N)
    operands = {name: array.astype(np.result_type(dtype, np.float32)) for name, array in arrays.items()}
    if config.batch_first:
        batch_first = [name for name in ("X", "initial_h", "initial_c") if name in operands]
        operands |= {name: operands[name].swapaxes(0, 1) for name in batch_first}
    x = operands.pop("X").transpose(0, 2, 1)  # (T, I, N)
    directions = [
        _run_direction(variant, x, {name: array[d] for name, array in operands.items()}, lengths, reverse=reverse, H=H)
        for d, (variant, reverse) in enumerate(zip(config.variants, config.reverse, strict=True))
    ]
    y, *states = (np.stack(outputs) for outputs in zip(*directions, strict=True))  # (D, T, H, N) and (D, H, N)
    y, states = y.transpose(1, 0, 3, 2), [state.transpose(0, 2, 1) for state in states]
    if config.batch_first:
        y, states = y.transpose(2, 0, 1, 3), [state.swapaxes(0, 1) for state in states]
    return {name: array.astype(dtype, order="C") for name, array in zip(OUTPUTS, [y, *states], strict=True)}


def _run_direction(
    variant: CellConfig, x: Array, operands: Mapping[str, Array], lengths: Index, *, reverse: bool, H: int
) -> tuple[Array, Array, Array]:
    """Return the outputs (T, H, N) and final states (H, N) of one direction on x (T, I, N)."""
    weights = _weights(variant, operands, H)
    h0, c0 = (operands[name].T if name in operands else 0.0 for name in ("initial_h", "initial_c"))
    order = time_order(mask_from_lengths(lengths, len(x)), reverse=reverse)
    tape = variants.forward(variant, weights, order.to_processing_order(x), h0, c0, lengths=order.lengths)
    return order.to_time_order(tape.h), tape.h_with_initial[-1], tape.c_with_initial[-1]


def _weights(variant: CellConfig, operands: Mapping[str, Array], H: int) -> dict[str, Array]:
    """Return one direction's weights in the layout of the general LSTM, without rows of a coupled gate."""
    W, R = operands["W"], operands["R"]
    b = operands["B"].reshape(2, 4 * H).sum(axis=0) if "B" in operands else np.zeros(4 * H, W.dtype)
    kernel = decode(WeightMatrices(W, R, b), GLASSCELL.gates, ONNX)
    weights = {"kernel": reorder(kernel, GLASSCELL.gates, variant.gates)}
    if "P" in operands:
        weights["peepholes"] = reorder(operands["P"], ONNX.peepholes, variant.peepholes)
    return weights


# Attributes


def parse_attributes(attributes: Mapping[str, Any]) -> LSTMAttributes:
    """Return the parsed attributes of an LSTM. An attribute that is None is ignored."""
    if not isinstance(attributes, Mapping):
        raise TypeError(f"attributes must be a mapping of names to values, got {attributes!r}")
    for name in attributes:
        if name not in ATTRIBUTES:
            raise ValueError(f"attributes must be among {', '.join(ATTRIBUTES)}, got {name!r}")
    values = {name: value for name, value in attributes.items() if value is not None}
    direction = _text("direction", values.get("direction", "forward")).lower()
    choice("direction", direction, tuple(DIRECTIONS))
    for name in ("input_forget", "layout"):
        choice(name, values.get(name, 0), (0, 1))
    clip = positive_number("clip", values["clip"]) if "clip" in values else None
    coupled: Literal["input"] | None = "input" if values.get("input_forget") else None
    functions = _activations(values, len(DIRECTIONS[direction]))
    return LSTMAttributes(
        DIRECTIONS[direction],
        tuple(CellConfig(f, g, h, coupled, clip) for f, g, h in functions),
        positive_integer("hidden_size", values["hidden_size"]) if "hidden_size" in values else None,
        bool(values.get("layout", 0)),
    )


def _activations(values: Mapping[str, Any], D: int) -> list[list[Activation]]:
    """Return f, g and h of each direction; both directions take their parameters from the same two lists."""
    names = [_text("activations", name) for name in _list("activations", values.get("activations", ()), "strings")]
    names = names or [*DEFAULT_ACTIVATIONS] * D
    if len(names) != 3 * D:
        raise ValueError(f"activations must be 3D = {3 * D} names, f, g and h of each direction, got {len(names)}")
    alphas, betas = (iter(_numbers(name, values.get(name, ()))) for name in ("activation_alpha", "activation_beta"))
    functions = [_activation(name, alphas, betas) for name in names]
    return [functions[k : k + 3] for k in range(0, 3 * D, 3)]


def _activation(name: str, alphas: Iterator[float], betas: Iterator[float]) -> Activation:
    """Return the activation of this name, with the next parameters if it has any."""
    if name.lower() in map(str.lower, EXTRA_ACTIVATIONS):
        raise ValueError(f"activations must be among {', '.join(ACTIVATIONS)}, got {name!r}")
    try:
        default = activation(name)
        alpha = None if default.alpha is None else next(alphas, default.alpha)
        beta = None if default.beta is None else next(betas, default.beta)
        return activation(name, alpha, beta)
    except ValueError as error:
        raise ValueError(f"activations: {error}") from None


def _list(name: str, value: Any, item_type: str) -> list[Any]:
    if not isinstance(value, list | tuple | np.ndarray):
        raise TypeError(f"{name} must be a list of {item_type}, got {value!r}")
    return list(value)


def _text(name: str, value: Any) -> str:
    """Return a string, decoded from bytes if necessary."""
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if not isinstance(value, str):
        raise TypeError(f"{name} must be strings, got {value!r}")
    return value


def _numbers(name: str, value: Any) -> list[float]:
    numbers = _list(name, value, "numbers")
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, Number):
            raise TypeError(f"{name} must be numbers, got {number!r}")
    return [float(number) for number in numbers]


# Inputs


def _arrays(inputs: Mapping[str, ArrayLike | None]) -> dict[str, NDArray[Any]]:
    """Return the present inputs as arrays."""
    if not isinstance(inputs, Mapping):
        raise TypeError(f"inputs must be a mapping of names to arrays, got {inputs!r}")
    for name in inputs:
        if name not in INPUTS:
            raise ValueError(f"inputs must be among {', '.join(INPUTS)}, got {name!r}")
    arrays = {name: _array(name, value) for name, value in inputs.items() if value is not None}
    arrays = {name: array for name, array in arrays.items() if name in REQUIRED_INPUTS or array.shape != (0,)}
    for name in REQUIRED_INPUTS:
        if name not in arrays:
            raise ValueError(f"inputs must have {', '.join(REQUIRED_INPUTS)}, got none named {name!r}")
    return arrays


def _array(name: str, value: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors that NumPy cannot convert
        raise TypeError(f"{name} must be an array: {error}") from None


def _check_dtypes(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raise an error for dtypes that the operator does not support, or that differ."""
    for name, array in arrays.items():
        if name == "sequence_lens":
            if array.dtype.kind not in "iu":
                raise TypeError(f"sequence_lens must be integers, got dtype {array.dtype}")
        elif array.dtype not in (np.float16, np.float32, np.float64):
            raise TypeError(f"{name} must be float16, float32 or float64, got dtype {array.dtype}")
        elif array.dtype != arrays["X"].dtype:
            raise TypeError(f"{name} must have the dtype of X, {arrays['X'].dtype}, got {array.dtype}")


def _check_shapes(arrays: Mapping[str, NDArray[Any]], config: LSTMAttributes) -> tuple[int, int, int, int]:
    """Return T, N, I and H, on which all shapes must agree."""
    letters = _shape_letters(batch_first=config.batch_first)
    for name in REQUIRED_INPUTS:
        if arrays[name].ndim != 3:
            raise ValueError(f"{name} must have shape {_format_shape(letters[name])}, got {arrays[name].shape}")
    sizes = dict(zip(letters["X"], arrays["X"].shape, strict=True))
    H = positive_integer("H, the last axis of R,", arrays["R"].shape[2])
    if config.hidden_size not in (None, H):
        raise ValueError(f"R must have shape (D, 4H, H) with H = hidden_size = {config.hidden_size}, got H = {H}")
    sizes |= {"D": len(config.reverse), "H": H, "3H": 3 * H, "4H": 4 * H, "8H": 8 * H}
    for name in ("R", *arrays):  # H is R's
        shape = tuple(sizes[letter] for letter in letters[name])
        if arrays[name].shape != shape:
            expected = f"{_format_shape(letters[name])} = {shape}"
            raise ValueError(f"{name} must have shape {expected}, got {arrays[name].shape}")
    return sizes["T"], sizes["N"], sizes["I"], H


def _shape_letters(*, batch_first: bool) -> dict[str, tuple[str, ...]]:
    """Return the shapes of the inputs as letters."""
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


def _format_shape(letters: tuple[str, ...]) -> str:
    """Return letters as a tuple without quotes."""
    return f"({', '.join(letters)}{',' * (len(letters) == 1)})"


def _lengths(lengths: NDArray[Any] | None, T: int, N: int) -> Index:
    """Return the length (N,) of each sequence. Default: T."""
    if lengths is None:
        return np.full(N, T)
    if ((lengths < 0) | (lengths > T)).any():
        raise ValueError(f"sequence_lens must be from 0 to T = {T}, got {lengths.tolist()}")
    return lengths.astype(np.intp)
