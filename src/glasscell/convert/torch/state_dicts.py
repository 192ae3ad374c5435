"""Find state dicts in the content of a PyTorch file."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from glasscell.convert.torch.pickle_reader import Unread
from glasscell.convert.torch.pickling import AnyArray
from glasscell.convert.torch.restricted_unpickler import MAX_DEPTH

Tensor: TypeAlias = AnyArray | Unread
StateDict: TypeAlias = dict[str, Tensor]

# Unsupported tensors, by the function or class that a pickle names for them.
UNREAD_TENSORS = {
    "torch.ScriptObject": "packed weights of a quantized model",
    "torch._utils._rebuild_qtensor": "a quantized tensor",
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_sparse_csr_tensor": "a sparse tensor",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor without values, on the meta device",
    "torch.ComplexFloatStorage": "a complex tensor",
    "torch.ComplexDoubleStorage": "a complex tensor",
    "a part of a complex tensor": "a part of a complex tensor",
} | {
    f"torch.float8_{kind}": "a tensor of dtype float8" for kind in ("e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0fnu")
}


def describe_unread(value: Unread) -> str:
    """Describe an object that was not read."""
    return UNREAD_TENSORS.get(value.name) or f"an object of {value.name}"


def state_dict(content: object, key: str | None = None) -> StateDict:
    """Return the state dict in the content of a file: the content itself, or a value such as "model_state_dict".

    Parameters
    ----------
    content : object
        Result of :func:`glasscell.convert.torch.read`: a dict from names to arrays, or nested dicts that contain one.
        Values other than tensors, such as "_metadata" or an epoch, are ignored.
    key : str, optional
        Key of the state dict, or "outer.inner". Default: the only dict with the weights of a module (a matrix
        ``….weight``, or the weights of a recurrent layer), or else the only dict of arrays.

    Returns
    -------
    dict of str to array
        Unsupported tensors (complex, sparse, quantized) are :class:`~glasscell.convert.torch.pickle_reader.Unread`.

    Raises
    ------
    ValueError
        If the content has no weights, or several state dicts and no `key`, or no state dict with this key.
    """
    by_key = state_dicts(content)
    if key is not None:
        if key in by_key:
            return by_key[key]
        keys = ", ".join(repr(name) for name in by_key if name)
        if keys:
            raise ValueError(f"key must be a key of the weights, one of {keys}, got {key!r}")
        if by_key:
            raise ValueError(f"key must be left out, got {key!r}: the file is one state dict")
        raise ValueError(f"key must be a key of weights, got {key!r}: the file contains no weights")
    candidates = {name: weights for name, weights in by_key.items() if has_module(weights)} or by_key
    if not candidates:
        raise ValueError(f"the content must be a dict of arrays, or contain one{_describe_unread_value(content)}")
    if len(candidates) > 1:
        raise ValueError(f"key must be one of the keys of weights, {', '.join(map(repr, candidates))}, got None")
    return next(iter(candidates.values()))


def state_dicts(content: object) -> dict[str, StateDict]:
    """Return every dict of tensors in the content of a file, by its path of keys joined with dots."""
    return dict(_state_dicts(content, (), set()))


def has_module(weights: Mapping[str, Tensor]) -> bool:
    """Return whether names and shapes are those of a module's weights, instead of, for example, metrics."""
    for name, value in weights.items():
        last = name.rpartition(".")[2]
        if last.startswith("weight_ih") or (last == "weight" and (isinstance(value, Unread) or value.ndim > 1)):
            return True
    return False


def _state_dicts(content: object, path: tuple[str, ...], visited: set[int]) -> Iterator[tuple[str, StateDict]]:
    if not isinstance(content, Mapping) or id(content) in visited or len(path) > MAX_DEPTH:
        return
    visited.add(id(content))
    named = {name: value for name, value in content.items() if isinstance(name, str) and name != "_metadata"}
    weights = {name: tensor for name, value in named.items() if (tensor := _tensor(value)) is not None}
    if any(isinstance(tensor, np.ndarray) for tensor in weights.values()):
        yield ".".join(path), weights
    for name, value in named.items():
        yield from _state_dicts(value, (*path, name), visited)


def _tensor(value: object) -> Tensor | None:
    """Return a tensor, read or not; packed weights are a tuple that contains one."""
    if isinstance(value, np.ndarray):
        return value
    items: tuple[Any, ...] = value if isinstance(value, tuple) else (value,)
    return next((item for item in items if isinstance(item, Unread) and item.name in UNREAD_TENSORS), None)


def _describe_unread_value(content: object) -> str:
    """Describe an unread value of the content, for a message."""
    if not isinstance(content, Mapping):
        return ""
    unread = [(name, value) for name, value in content.items() if isinstance(value, Unread)]
    if not unread:
        return ""
    name, value = unread[0]
    advice = "" if value.name in UNREAD_TENSORS else ": save model.state_dict() instead of the model"
    return f"; {str(name)[:100]!r} is {describe_unread(value)}{advice}"
