"""Weight layouts of other projects: gate orders, transpositions and biases, as data.

Glasscell's layout: one kernel, with the rows of the gates i f o g and the columns h, x, bias. Layers are created from
other layouts and converted to them; readers and writers of files are in :mod:`glasscell.convert`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.types import Array
from glasscell.validation import positive_integer, real_array


class Layout(NamedTuple):
    """Layout of the weights of an LSTM.

    Attributes
    ----------
    gates : tuple of str
        Order of the blocks of H rows.
    transposed : bool
        Whether weights are (I, 4H) instead of (4H, I).
    peepholes : tuple of str
        Order of the peepholes' blocks.
    """

    gates: tuple[str, ...]
    transposed: bool = False
    peepholes: tuple[str, ...] = ()


GLASSCELL = Layout(("i", "f", "o", "g"), peepholes=("i", "f", "o"))
TORCH = Layout(("i", "f", "g", "o"))  # two biases, which are added
ONNX = Layout(("i", "o", "f", "g"), peepholes=("i", "o", "f"))  # two biases, concatenated
KERAS = Layout(("i", "f", "g", "o"), transposed=True)
HASTE = Layout(("i", "g", "f", "o"), transposed=True)


class WeightMatrices(NamedTuple):
    """The weights of one layer in one direction, in some layout."""

    inputs: Array  # (R, I), or (I, R)
    recurrent: Array  # (R, P), or (P, R)
    bias: Array | None  # (R,)


def encode(kernel: Array, I: int, gates: Sequence[str], layout: Layout, *, bias: bool = True) -> WeightMatrices:
    """Convert a kernel, whose blocks of rows are `gates`, to another layout."""
    rows = reorder(kernel, gates, [gate for gate in layout.gates if gate in gates])
    P = kernel.shape[1] - I - bias
    inputs, recurrent = rows[:, P : P + I], rows[:, :P]
    if layout.transposed:
        inputs, recurrent = inputs.T, recurrent.T
    return WeightMatrices(inputs.copy(), recurrent.copy(), rows[:, -1].copy() if bias else None)


def decode(matrices: WeightMatrices, gates: Sequence[str], layout: Layout) -> Array:
    """Convert weights in another layout to a kernel."""
    inputs, recurrent, bias = matrices
    if layout.transposed:
        inputs, recurrent = inputs.T, recurrent.T
    columns = [recurrent, inputs] if bias is None else [recurrent, inputs, bias[:, None]]
    order = [gate for gate in layout.gates if gate in gates]
    H = len(recurrent) // len(order)
    kernel = np.empty((len(recurrent), sum(matrix.shape[1] for matrix in columns)), np.result_type(*columns))
    for k, gate in enumerate(gates):  # written in place: no second copy of large weights
        block = slice(order.index(gate) * H, (order.index(gate) + 1) * H)
        np.concatenate([matrix[block] for matrix in columns], axis=1, out=kernel[k * H : (k + 1) * H])
    return kernel


def reorder(rows: Array, source: Sequence[str], target: Sequence[str]) -> Array:
    """Return blocks of rows in another order; omit those not in `target`, fill those not in `source` with 0."""
    size = len(rows) // len(source)
    blocks = {gate: rows[k * size : (k + 1) * size] for k, gate in enumerate(source)}
    return np.concatenate([blocks.get(gate, np.zeros_like(rows[:size])) for gate in target])


def select_prefix(state_dict: Mapping[str, ArrayLike], prefix: str = "") -> dict[str, Array]:
    """Return the entries whose names begin with a prefix, with the prefix removed, as arrays of real numbers."""
    if callable(getattr(state_dict, "state_dict", None)):
        raise TypeError(
            f"state_dict must be a mapping, got a module: {type(state_dict).__name__}; pass module.state_dict()"
        )
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"state_dict must be a mapping of names to arrays, got {type(state_dict).__name__}")
    selected = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
    if not selected:
        raise ValueError(f"prefix must begin the name of a weight, one of {', '.join(state_dict)}, got {prefix!r}")
    return {name: check_weight(name, value) for name, value in selected.items()}


def common_dtype(weights: Mapping[str, Array]) -> np.dtype[np.floating]:
    """Return float64 if any array has that dtype, and otherwise float32."""
    return np.result_type(np.float32, *(array.dtype for array in weights.values() if array.dtype.kind == "f"))


def check_shapes(shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError unless names and shapes of weights are the expected ones."""
    for name, shape in expected.items():
        if name not in shapes:
            raise ValueError(f"the weight {name!r} {shape} is missing{prefix_hint(shapes, name)}")
        if shapes[name] != shape:
            raise ValueError(f"the weight {name!r} must have shape {shape}, got {shapes[name]}")
    for name, shape in shapes.items():
        if name not in expected:
            raise ValueError(f"the weight {name!r} {shape} does not belong to this model")


def check_lstm_sizes(config: Mapping[str, Any], weights: Mapping[str, Array], directions: int = 1) -> None:
    """Raise an error unless the sizes of a model's ``lstm`` are those of its weights: before memory is allocated."""
    H, L = (positive_integer(name, config.get(name, "missing")) for name in ("hidden_size", "num_layers"))
    first, shapes = "lstm.weight_hh_l0", {name: array.shape for name, array in weights.items()}
    layers = [name for name in shapes if name.startswith("lstm.weight_hh_l")]
    check_shapes({name: shapes[name] for name in layers if name == first}, {first: (4 * H, H)})
    if len(layers) != L * directions:
        raise ValueError(f"there are weights for {len(layers)} layers; the configuration says {L * directions}")


def prefix_hint(names: Iterable[str], name: str) -> str:
    """Return advice to pass a prefix if one of `names` is `name` with a prefix; otherwise ""."""
    prefixes = [other.removesuffix(name) for other in names if other.endswith(f".{name}")]
    return f"; pass prefix={prefixes[0]!r}" if prefixes else ""


def check_weight(name: str, value: Any) -> Array:
    """Return a weight as an array of float32 or float64; raise an error unless it is floating-point and finite."""
    if callable(getattr(value, "detach", None)):  # a PyTorch tensor; NumPy reads none that requires a gradient,
        value = value.detach().cpu()
        if str(value.dtype).endswith("bfloat16"):  # and has no bfloat16
            value = value.float()
    try:
        original = np.asarray(value)
    except (TypeError, RuntimeError) as error:  # a sparse or quantized tensor
        raise TypeError(f"the weight {name!r} must be an array: {error}") from None
    if original.dtype.kind in "biu":
        raise ValueError(
            f"the weight {name!r} must have a floating-point dtype, got {original.dtype}: "
            "quantized weights are not supported"
        )
    dtype = np.dtype(np.float64) if original.dtype.itemsize == 8 else np.dtype(np.float32)
    array, _ = real_array(f"the weight {name!r}", original, dtype)
    if not np.isfinite(array).all():
        raise ValueError(f"the weight {name!r} has NaN or infinite values")
    return array
