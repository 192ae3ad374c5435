"""Find the weights in what a file of PyTorch holds."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from glasscell.convert.torch.pickling import AnyArray
from glasscell.convert.torch.restricted_unpickler import DEPTH, Unread

Tensor: TypeAlias = AnyArray | Unread
StateDict: TypeAlias = dict[str, Tensor]

# Tensors of PyTorch that are not read, by the function or class that a pickle names for them.
UNREAD_TENSORS = {
    "torch.ScriptObject": "packed weights of a quantized model",
    "torch._utils._rebuild_qtensor": "a quantized tensor",
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_sparse_csr_tensor": "a sparse tensor",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor without numbers, of the device meta",
    "torch.ComplexFloatStorage": "a complex tensor",
    "torch.ComplexDoubleStorage": "a complex tensor",
    "a part of a complex tensor": "a part of a complex tensor",
} | {
    f"torch.float8_{kind}": "a tensor of dtype float8" for kind in ("e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0fnu")
}


def describe_unread(value: Unread) -> str:
    """Return what an unread object is, in words."""
    words = UNREAD_TENSORS.get(value.name)
    return words or f"an object of {value.name}"


def state_dict(content: object, key: str | None = None) -> StateDict:
    """Return the weights in the content of a file: the dict itself, or one in it such as "model_state_dict".

    Parameters
    ----------
    content : object
        Result of :func:`glasscell.convert.torch.read`: a dict from names to arrays, or dicts that have one in them.
        Values that are no tensors, such as "_metadata" or an epoch, are passed over.
    key : str, optional
        Key of the dict, or "outer.inner". Default: the only dict that holds the weights of a module (a matrix called
        ``….weight``, or those of a recurrent layer); if there is none, the only dict of arrays.

    Returns
    -------
    dict of str to array
        Tensors that cannot be read (complex, sparse, quantized) are
        :class:`~glasscell.convert.torch.restricted_unpickler.Unread`.

    Raises
    ------
    ValueError
        If there are no weights, or several dicts of them and no `key`, or `key` names none of them.
    """
    found = state_dicts(content)
    if key is not None:
        if key not in found:
            names = ", ".join(repr(name) for name in found if name)
            if names:
                raise ValueError(f"key must be a key of the weights, one of {names}, got {key!r}")
            if "" in found:
                raise ValueError(
                    f"key must be left out, got {key!r}: the file is one state dict, with no key before it"
                )
            raise ValueError(f"there are no weights under {key!r}, and none elsewhere in the file")
        return found[key]
    candidates = {name: weights for name, weights in found.items() if holds_module(weights)} or found
    if not candidates:
        raise ValueError(f"there are no weights: neither a dict of arrays, nor one in it{_instead(content)}")
    if len(candidates) > 1:
        names = ", ".join(map(repr, candidates))
        raise ValueError(f"there are several dicts of weights, {names}: choose one with key=")
    return next(iter(candidates.values()))


def state_dicts(content: object) -> dict[str, StateDict]:
    """Return every dict of tensors in the content of a file, by its keys joined with dots."""
    return dict(_state_dicts(content, (), set()))


def holds_module(weights: Mapping[str, Tensor]) -> bool:
    """Return whether the names and shapes are those of a module's weights, and not of a table of numbers."""
    for name, value in weights.items():
        last = name.rpartition(".")[2]
        if last.startswith("weight_ih") or (last == "weight" and (isinstance(value, Unread) or value.ndim > 1)):
            return True
    return False


def _state_dicts(content: object, at: tuple[str, ...], seen: set[int]) -> Iterator[tuple[str, StateDict]]:
    if not isinstance(content, Mapping) or id(content) in seen or len(at) > DEPTH:
        return
    seen.add(id(content))
    named = {name: value for name, value in content.items() if isinstance(name, str) and name != "_metadata"}
    weights = {name: tensor for name, value in named.items() if (tensor := _tensor(value)) is not None}
    if any(isinstance(tensor, np.ndarray) for tensor in weights.values()):
        yield ".".join(at), weights
    for name, value in named.items():
        yield from _state_dicts(value, (*at, name), seen)


def _tensor(value: object) -> Tensor | None:
    """Return a tensor, read or not; packed weights are a tuple with one in it."""
    if isinstance(value, np.ndarray):
        return value
    parts: tuple[Any, ...] = value if isinstance(value, tuple) else (value,)
    return next((part for part in parts if isinstance(part, Unread) and part.name in UNREAD_TENSORS), None)


def _instead(content: object) -> str:
    """Return what the file holds where weights could be, for a message."""
    if not isinstance(content, Mapping):
        return ""
    unread = [(name, value) for name, value in content.items() if isinstance(value, Unread)]
    if not unread:
        return ""
    name, value = unread[0]
    advice = "" if value.name in UNREAD_TENSORS else ": of a whole model, save model.state_dict()"
    return f"; {str(name)[:100]!r} is {describe_unread(value)}{advice}"
