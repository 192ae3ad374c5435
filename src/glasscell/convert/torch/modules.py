"""Convert PyTorch modules, identified by the names and shapes of their weights.

A state dict has names such as "encoder.rnn.weight_ih_l0": all names with one prefix belong to one module, whose class
is not in the file. Modules whose names and shapes determine the class become layers.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from glasscell.convert.layer_set import LayerSet, Matrix, Other, WeightedLayer, printable, shapes_of
from glasscell.convert.torch.pickle_reader import Unread
from glasscell.convert.torch.state_dicts import StateDict, describe_unread, state_dicts
from glasscell.layers import GRU, LSTM, Linear
from glasscell.weight_layouts import check_weight
from glasscell.weight_layouts.pytorch import Biases, recurrent_kind, standard_names

_RAW = re.compile(r"(?:(.*)\.)?(weight_hh_l\d{1,6}(?:_reverse)?)_raw")
_COMPILED = "_orig_mod."  # torch.compile adds it to the names of the module that it wraps, at any depth
_WRAPPERS = ("module.", "model.")  # prefix of all names: DataParallel, or an attribute that contains the whole model

MAX_WRAPPERS = 8  # nested


class Module(NamedTuple):
    """The weights of one module.

    Attributes
    ----------
    kind : {"LSTM", "GRU", "RNN", "linear", "matrix", ""}
        Type of the module; "": none of these.
    weights : dict of str to array
        By their names in the module. Recurrent layers have the names of ``nn.LSTM``.
    """

    kind: str
    weights: StateDict


def layer_set(state_dict: StateDict, prefix: str | None = None, biases: Biases = "one") -> LayerSet:
    """Return the layers in a state dict.

    Parameters
    ----------
    state_dict : dict of str to array
    prefix : str, optional
        Read only names below it: "encoder" or "encoder." for "encoder.rnn.weight_ih_l0". Default: all.
    biases : {"one", "two"}
        See :meth:`glasscell.LSTM.from_torch`.

    Raises
    ------
    ValueError
        If the weights of a layer are inconsistent or not finite, by name, or no name begins with `prefix`.
    """
    layers: dict[str, WeightedLayer] = {}
    other: dict[str, Other] = {}
    for name, module in modules(below(state_dict, prefix)).items():
        layer = _layer(name, module, biases)
        if layer is None:
            other[name] = Other(_describe(module, name), module.weights)
        else:
            layers[name] = layer
    return LayerSet(layers, other)


def all_lstms(content: object) -> Iterator[tuple[str, LSTM]]:
    """Yield the name of every LSTM in the content of a file, and the LSTM.

    The names begin with the key of the state dict if several state dicts contain an LSTM.
    """
    by_key = {key: modules(below(weights, None)) for key, weights in state_dicts(content).items()}
    by_key = {key: group for key, group in by_key.items() if any(module.kind == "LSTM" for module in group.values())}
    for key, group in by_key.items():
        for name, module in group.items():
            if module.kind == "LSTM":
                full_name = f"{key}.{name}" if key and len(by_key) > 1 else name
                yield full_name, _lstm(full_name, module.weights)


def below(state_dict: StateDict, prefix: str | None) -> StateDict:
    """Return the entries below a prefix, with the prefix and the names of wrappers removed."""
    entries = state_dict
    if prefix is not None:
        full_prefix = prefix if prefix.endswith(".") or not prefix else f"{prefix}."
        entries = {name.removeprefix(full_prefix): v for name, v in entries.items() if name.startswith(full_prefix)}
        if not entries:
            names = ", ".join(map(repr, dict.fromkeys(name.rpartition(".")[0] for name in state_dict)))
            raise ValueError(f"prefix must be the name of a module, one of {names[:400]}, got {prefix!r}")
    unwrapped = {name.replace(_COMPILED, ""): value for name, value in entries.items()}
    if len(unwrapped) == len(entries):
        entries = unwrapped
    for _ in range(MAX_WRAPPERS):
        wrapper = next((w for w in _WRAPPERS if all(name.startswith(w) for name in entries)), "")
        entries = {name.removeprefix(wrapper): value for name, value in entries.items()}
    return entries


def modules(state_dict: StateDict) -> dict[str, Module]:
    """Return the modules of a state dict in its order; the name of an unnamed one is its type."""
    groups: dict[str, StateDict] = {}
    for name, value in _with_weight_drop(state_dict).items():
        prefix, _, key = name.rpartition(".")
        groups.setdefault(prefix, {})[key] = value
    result: dict[str, Module] = {}
    for name, group in groups.items():
        module = _module(group)
        result[name or next(k for k in (module.kind.lower() or "weights", "weights", "") if k not in groups)] = module
    return result


def _with_weight_drop(state_dict: StateDict) -> StateDict:
    """Replace the copies of recurrent weights in a module by the raw ones that WeightDrop stores outside it."""
    raw = {name: match for name in state_dict if (match := _RAW.fullmatch(name))}
    if not raw:
        return state_dict
    new_names: dict[str, str] = {}
    for name, match in raw.items():
        outer = f"{match[1]}." if match[1] else ""
        inner = f"{outer}module." if f"{outer}module.weight_ih_l0" in state_dict else outer
        new_names[name] = f"{inner}{match[2]}"
    replaced = set(new_names.values())
    return {new_names.get(name, name): value for name, value in state_dict.items() if name not in replaced}


def _module(group: StateDict) -> Module:
    """Identify the type of a module by its weights."""
    named = standard_names(group)
    read = {name: value for name, value in named.items() if not isinstance(value, Unread)}
    if len(read) < len(named):
        return Module("", group)
    if any(name.startswith("weight_ih_l") for name in named):
        return Module(recurrent_kind(named) or "LSTM", named)
    weight, bias = group.get("weight"), group.get("bias")
    if weight is None or isinstance(weight, Unread) or weight.ndim != 2 or group.keys() - {"weight", "bias"}:
        return Module("", group)
    if bias is None:
        return Module("matrix", group)
    return Module("linear" if _shape(bias) == weight.shape[:1] else "", group)


def _layer(name: str, module: Module, biases: Biases) -> WeightedLayer | None:
    if module.kind == "LSTM":
        return _lstm(name, module.weights, biases)
    if module.kind == "GRU":
        return _gru(name, module.weights)
    if module.kind not in ("linear", "matrix"):
        return None
    arrays = {key: check_weight(f"{name}.{key}", value) for key, value in module.weights.items()}
    if module.kind == "matrix":
        return Matrix(arrays["weight"])
    O, I = arrays["weight"].shape
    layer = Linear(I, O, dtype=np.result_type(*arrays.values()), seed=None)
    for key, view in layer.parameters.items():
        view[:] = arrays[key]
    return layer


def _lstm(name: str, weights: Mapping[str, Any], biases: Biases = "one") -> LSTM:
    try:
        return LSTM.from_torch(weights, biases=biases)
    except (ValueError, TypeError) as error:
        raise ValueError(f"in {name!r}: {error}") from None


def _gru(name: str, weights: Mapping[str, Any]) -> GRU:
    try:
        return GRU.from_torch(weights)
    except (ValueError, TypeError) as error:
        raise ValueError(f"in {name!r}: {error}") from None


def _describe(module: Module, name: str) -> str:
    """Describe a module of this name that does not become a layer."""
    unread = [value for value in module.weights.values() if isinstance(value, Unread)]
    if unread:
        return describe_unread(unread[0])
    if module.kind:
        item = printable(name)
        return f"an RNN, whose nonlinearity weights do not hold: state it, architecture='{item}:tanh' or '{item}:relu'"
    weight, bias = (_shape(module.weights.get(key)) for key in ("weight", "bias"))
    shapes = shapes_of(module.weights)
    if module.weights.keys() == {"weight", "bias"} and len(weight) == 2 and weight != bias:
        return f"{shapes}, where a Linear has a bias of {weight[:1]}"
    return shapes


def _shape(value: object) -> tuple[int, ...]:
    return value.shape if isinstance(value, np.ndarray) else ()
