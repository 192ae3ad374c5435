"""PyTorch's names and layout for the weights of an LSTM, which Glasscell's files use, too.

``nn.LSTM`` has, for each layer and direction, ``weight_ih`` (4H, I), ``weight_hh`` (4H, P), optionally two biases (4H,)
that are added, and ``weight_hr`` (P, H) with a projection. Other parameters keep their names.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from glasscell.core.parameters import Parameters
from glasscell.core.types import Array
from glasscell.weight_layouts import TORCH, WeightMatrices, check_shapes, decode, encode, prefix_hint, reorder

if TYPE_CHECKING:
    from glasscell.recurrent.config import LSTMConfig

T = TypeVar("T")

# Names in nn.LSTM and of the initial state that to_torch adds; names in nn.LSTMCell.
_NAME = re.compile(r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh|initial_h|initial_c)_l\d{1,6}(_reverse)?")
_CELL_NAMES = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}

# Recurrent layers of PyTorch by their number of gate matrices.
_GATES = {4: "LSTM", 3: "GRU", 1: "RNN"}

Biases = Literal["one", "two"]


def standard_names(weights: Mapping[str, T]) -> dict[str, T]:
    """Return the weights of a recurrent layer under the names of ``nn.LSTM``.

    ``nn.LSTMCell`` has the same names without ``_l0``. WeightDrop (Merity et al. 2017) wraps a layer as ``module`` and
    keeps ``weight_hh_l0_raw``, from which the recurrent weights are drawn in training and copied at inference.
    """
    result = {name.removeprefix("module."): value for name, value in weights.items()}
    if len(result) != len(weights):
        result = dict(weights)
    raw = {name: value for name, value in result.items() if name.endswith("_raw") and _NAME.fullmatch(name[:-4])}
    result = {name: value for name, value in result.items() if name not in raw}
    result |= {name[:-4]: value for name, value in raw.items()}
    if "weight_ih" in result and set(result) <= _CELL_NAMES:
        result = {f"{name}_l0": value for name, value in result.items()}
    return result


def recurrent_kind(weights: Mapping[str, Any]) -> str | None:
    """Return "LSTM", "GRU" or "RNN" for arrays with the names of such a PyTorch layer, or None.

    The number of gates is the ratio of rows to columns of ``weight_hh_l0``; only an LSTM can have a projection.
    """
    if not {"weight_ih_l0", "weight_hh_l0"} <= set(weights) or not all(map(_NAME.fullmatch, weights)):
        return None
    if "weight_hr_l0" in weights:
        return "LSTM"
    shape = np.shape(weights["weight_hh_l0"])
    return _GATES.get(shape[0] // shape[1]) if len(shape) == 2 and shape[1] and not shape[0] % shape[1] else None


def to_torch(parameters: Parameters, options: "LSTMConfig") -> dict[str, Array]:
    """Return the weights of an LSTM under PyTorch's names.

    The bias becomes ``bias_ih``; ``bias_hh`` is the recurrent bias, or 0. Other parameters keep their names.
    """
    weights: dict[str, Array] = {}
    inputs = {suffix: I for suffix, I, _ in options.directions}
    for name, array in parameters.items():
        kind, suffix = _split(name)
        if kind == "projection":
            weights[f"weight_hr{suffix}"] = array.copy()
        elif kind == "recurrent_bias":
            weights[f"bias_hh{suffix}"] = reorder(array, options.cell_config.gates, _torch_gates(options))
        elif kind != "kernel":
            weights[name] = array.copy()
        else:
            matrices = encode(array, inputs[suffix], options.cell_config.gates, TORCH, bias=options.bias)
            weights[f"weight_ih{suffix}"], weights[f"weight_hh{suffix}"], bias = matrices
            if bias is not None:
                weights[f"bias_ih{suffix}"] = bias
                weights[f"bias_hh{suffix}"] = np.zeros_like(bias)  # a recurrent bias, which follows, replaces it
    return weights


def torch_shapes(parameters: Parameters, options: "LSTMConfig") -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the weights from :func:`to_torch`."""
    shapes: dict[str, tuple[int, ...]] = {}
    inputs = {suffix: I for suffix, I, _ in options.directions}
    for name, array in parameters.items():
        kind, suffix = _split(name)
        if kind != "kernel":
            torch_names = {"projection": f"weight_hr{suffix}", "recurrent_bias": f"bias_hh{suffix}"}
            shapes[torch_names.get(kind, name)] = array.shape
            continue
        R, columns = array.shape
        I = inputs[suffix]
        shapes |= {f"weight_ih{suffix}": (R, I), f"weight_hh{suffix}": (R, columns - I - options.bias)}
        if options.bias:
            shapes |= {f"bias_ih{suffix}": (R,), f"bias_hh{suffix}": (R,)}
    return shapes


def from_torch(weights: Mapping[str, Array], parameters: Parameters, options: "LSTMConfig") -> None:
    """Copy weights under PyTorch's names into the parameters of an LSTM.

    Raises
    ------
    ValueError
        If a weight is missing, has another shape, or is not one of these parameters. They are then unchanged.
    """
    check_shapes({name: array.shape for name, array in weights.items()}, torch_shapes(parameters, options))
    for name, view in parameters.items():
        kind, suffix = _split(name)
        if kind == "projection":
            view[:] = weights[f"weight_hr{suffix}"]
        elif kind == "recurrent_bias":
            view[:] = reorder(weights[f"bias_hh{suffix}"], _torch_gates(options), options.cell_config.gates)
        elif kind != "kernel":
            view[:] = weights[name]
        else:
            bias = weights[f"bias_ih{suffix}"] if options.bias else None
            if bias is not None and not options.recurrent_bias:
                bias = bias + weights[f"bias_hh{suffix}"]
            matrices = WeightMatrices(weights[f"weight_ih{suffix}"], weights[f"weight_hh{suffix}"], bias)
            view[:] = decode(matrices, options.cell_config.gates, TORCH)


def infer_config(weights: Mapping[str, Array]) -> dict[str, Any]:
    """Infer the options of an LSTM from the names and shapes of an nn.LSTM's weights."""
    first, recurrent = (_matrix(weights, name) for name in ("weight_ih_l0", "weight_hh_l0"))
    if (kind := recurrent_kind(weights)) in ("GRU", "RNN"):
        raise ValueError(f"weights must be those of an LSTM, got a {kind}")
    if first.shape[0] % 4 or not first.size:
        raise ValueError(f"the weight 'weight_ih_l0' must have shape (4H, I), got {first.shape}")
    layers = {int(match[1]) for name in weights if (match := re.fullmatch(r"weight_ih_l(\d{1,6})(_reverse)?", name))}
    if layers != set(range(len(layers))):
        raise ValueError(f"weights must be those of the layers 0 to {max(layers)}, got {sorted(layers)}")
    projected = "weight_hr_l0" in weights
    sizes = {
        "input_size": first.shape[1],
        "hidden_size": first.shape[0] // 4,
        "num_layers": len(layers),
        "bidirectional": "weight_ih_l0_reverse" in weights,
        "bias": "bias_ih_l0" in weights,
        "proj_size": recurrent.shape[1] if projected else None,
    }
    return sizes | ({"learn_initial_state": True} if "initial_h_l0" in weights else {})  # the name in :func:`to_torch`


def check_supported(options: "LSTMConfig") -> None:
    """Raise ValueError for options that nn.LSTM does not support."""
    for name, value in options.unsupported("torch").items():
        raise ValueError(f"PyTorch's nn.LSTM does not support {name}={value!r}")
    P, H = options.proj_size, options.hidden_size
    if P is not None and P >= H:
        raise ValueError(f"proj_size must be below hidden_size = {H} for PyTorch's nn.LSTM, got {P}")


def _torch_gates(options: "LSTMConfig") -> list[str]:
    """Return PyTorch's order of the gates that have weights."""
    return [gate for gate in TORCH.gates if gate in options.cell_config.gates]


def _matrix(weights: Mapping[str, Array], name: str) -> Array:
    if name not in weights:
        hint = prefix_hint(weights, name)
        raise ValueError(f"the weight {name!r} is missing; the weights are {', '.join(weights)[:400] or 'none'}{hint}")
    if weights[name].ndim != 2:
        raise ValueError(f"the weight {name!r} must be a matrix, got shape {weights[name].shape}")
    return weights[name]


def _split(name: str) -> tuple[str, str]:
    """Split a name into its kind and the suffix of its layer and direction: kernel and _l0_reverse."""
    k = name.rindex("_l")
    return name[:k], name[k:]
