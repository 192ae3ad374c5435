"""Model files of every format that is known here: read and written by the ends of their names."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

from glasscell import checkpoint
from glasscell.atomic_files import StrPath
from glasscell.convert import architecture as architectures
from glasscell.convert import torch
from glasscell.convert.architecture import Architecture
from glasscell.convert.codec.torch import check_torch_has
from glasscell.convert.layer_set import LayerSet
from glasscell.convert.torch import modules
from glasscell.core.typing import Array
from glasscell.layers import LSTM, Embedding, Masking
from glasscell.models import CopyLSTM, Sequential
from glasscell.models.sequential import owns

Model = LSTM | Sequential | CopyLSTM
M = TypeVar("M")

TORCH, ONNX, KERAS = (".pt", ".pth", ".bin", ".ckpt"), (".onnx",), (".keras", ".h5", ".hdf5")
OURS = (".safetensors",)
WRITTEN = (*OURS, ".pt", ".pth", ".bin", *ONNX, *KERAS)
OPTIONS = {
    "key": TORCH,
    "prefix": (*TORCH, *OURS),
    "architecture": (*TORCH, *OURS, *KERAS),
    "ignore": (*TORCH, *OURS, *KERAS),
    "config": KERAS,
    "order": KERAS,
}


def load(
    path: StrPath,
    *,
    key: str | None = None,
    prefix: str | None = None,
    architecture: Architecture | None = None,
    ignore: Sequence[str] | None = None,
    config: Any = None,
    order: Sequence[str] | None = None,
) -> Model:
    """Read a model from a file of any known format.

    Weights alone (a state dict of PyTorch, a ``.weights.h5`` of Keras) are not a model: a file of the weights of one
    layer becomes that layer; of several, the computation must be stated by `architecture`.

    Parameters
    ----------
    path : path
        ``.safetensors`` (ours, or PyTorch's weights), or a folder with a ``model.safetensors``; ``.pt``, ``.pth``,
        ``.bin``, ``.ckpt`` (PyTorch: a state dict, or a checkpoint with one in it); ``.onnx``; ``.keras``,
        ``.weights.h5``, ``.h5``, ``.hdf5``.
    key : str, optional
        For files of PyTorch, the key of the state dict: "model_state_dict". Default: the only one.
    prefix : str, optional
        For weights of PyTorch, only those below this name are read: "model.encoder".
    architecture : str, or sequence of str or layer, optional
        For weights alone, the computation: "lstm,last,fc1,relu,fc2,sigmoid", names of modules and operations. See
        :func:`glasscell.convert.architecture.build`.
    ignore : sequence of str, optional
        For weights alone, modules that are no part of the computation, such as the weights of a loss.
    config, order : optional
        For weights of Keras alone: see :func:`glasscell.convert.keras.load`.

    Returns
    -------
    LSTM, Sequential or CopyLSTM
        Of weights alone or an ONNX graph an LSTM, if there is nothing else.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        A file that is damaged or of no known format, or something in it that cannot be represented, by name. Weights of
        several layers without `architecture`: with their names and sizes.
    ImportError
        If the package that its format needs is not installed.
    """
    kind = ".safetensors" if Path(path).is_dir() else _format(path)
    values = {"key": key, "prefix": prefix, "architecture": architecture, "ignore": ignore}
    _check_options(path, kind, values | {"config": config, "order": order})
    if kind in ONNX:
        from glasscell.convert.onnx import load as load_onnx  # noqa: PLC0415 - optional

        chain = load_onnx(path)
        [first, *rest] = chain.layers
        model: Model = deepcopy(first) if isinstance(first, LSTM) and not rest else chain  # a layer of its own
    elif kind in KERAS:
        from glasscell.convert import keras  # noqa: PLC0415 - optional

        model = keras.load(path, config=config, order=order)
    elif kind in TORCH:
        content = torch.read(path)
        model = _stated(path, lambda: modules.layer_set(torch.state_dict(content, key), prefix), architecture, ignore)
    else:
        model = _from_safetensors(path, prefix, architecture, ignore)
    return model


def weights(path: StrPath, *, key: str | None = None, prefix: str | None = None) -> LayerSet:
    """Read the layers that a file of weights holds, by name, without the computation that joins them.

    Parameters
    ----------
    path : path
        ``.pt``, ``.pth``, ``.bin``, ``.ckpt``, ``.safetensors``.
    key, prefix : str, optional
        As in :func:`load`.

    Returns
    -------
    LayerSet
        LSTM, Linear and Embedding by the names of their modules, in the order of the file: {"lstm": LSTM(3, 5), "fc":
        Linear(5, 2)}. A matrix without a bias is a :class:`~glasscell.convert.layer_set.Matrix`. ``other`` has what
        else the file holds.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, is of a format that states the computation itself, or has weights that do not fit.
    """
    kind = ".safetensors" if Path(path).is_dir() else _format(path)
    if kind not in (*TORCH, *OURS):
        raise ValueError(f"{path} is no file of weights alone: load gives its model")
    _check_options(path, kind, {"key": key, "prefix": prefix})
    if kind in TORCH:
        content = torch.read(path)
        return _of_weights(path, lambda: modules.layer_set(torch.state_dict(content, key), prefix))
    entry, arrays = checkpoint.read(path)
    if entry is None:
        return _of_weights(path, lambda: modules.layer_set(dict(arrays), prefix))
    model = _from_safetensors(path, prefix, None, None)
    if isinstance(model, LSTM):
        return LayerSet({"lstm": model})
    chain = model.as_sequential() if isinstance(model, CopyLSTM) else model
    owned = {name: layer for name, layer in zip(chain.names, chain.layers, strict=True) if owns(layer)}
    return LayerSet(deepcopy(owned))  # which can be put into other models


def lstms(path: StrPath) -> dict[str, LSTM]:
    """Read every LSTM in a file of any known format, whatever else the file holds.

    Parameters
    ----------
    path : path
        As in :func:`load`; of a checkpoint of PyTorch, all of its state dicts are searched.

    Returns
    -------
    dict of str to LSTM
        By the names of their modules, in the order of the file; not empty.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged or holds no LSTM, or the weights or settings of one cannot be represented, by name.
    ImportError
        If the package that the format needs is not installed.
    """
    kind = ".safetensors" if Path(path).is_dir() else _format(path)
    if kind in TORCH:
        content = torch.read(path)
        found = _of_weights(path, lambda: dict(modules.all_lstms(content)))
    elif kind in OURS and (arrays := checkpoint.read(path))[0] is None:
        found = _of_weights(path, lambda: dict(modules.all_lstms(arrays[1])))
    else:
        found = _of_model(load(path))
    if not found:
        raise ValueError(f"{path} holds no LSTM")
    return found


def _of_model(model: Model) -> dict[str, LSTM]:
    if isinstance(model, LSTM):
        return {"lstm": model}
    chain = model.as_sequential() if isinstance(model, CopyLSTM) else model
    found = {name: layer for name, layer in zip(chain.names, chain.layers, strict=True) if isinstance(layer, LSTM)}
    return deepcopy(found)  # which can be put into other models


def _check_options(path: StrPath, kind: str, values: Mapping[str, Any]) -> None:
    """Raise an error for an option that the format does not have."""
    for name, value in values.items():
        if value is not None and kind not in OPTIONS[name]:
            raise ValueError(f"{name} is for {', '.join(OPTIONS[name])} files, and {path} is none")


def _stated(
    path: StrPath, read: Callable[[], LayerSet], architecture: Architecture | None, ignore: Sequence[str] | None
) -> LSTM | Sequential:
    """Return the model of weights alone: of the stated computation, or of the only layer."""

    def made() -> LSTM | Sequential:
        layers = read()
        if architecture is None:
            return architectures.only(layers, ignore or ())
        return architectures.build(layers, architecture, ignore or ())

    return _of_weights(path, made)


def save(model: Model, path: StrPath, *, states: bool = False) -> None:
    """Write a model to a file, in the format that its name ends in.

    Parameters
    ----------
    model : LSTM, Sequential or CopyLSTM
    path : path
        ``.safetensors``; ``.pt``, ``.pth`` (a state dict); ``.onnx``; ``.keras``, ``.weights.h5``, ``.h5``. A file that
        is there is replaced, once the new one is complete.
    states : bool
        For ``.onnx``: whether initial states are inputs, ``h_0`` and ``c_0`` (L·D, batch, H), and final states outputs,
        ``h_n`` and ``c_n``; in a Sequential those of each LSTM, called after it: ``encoder.h_0``. Without it the final
        states of an LSTM are outputs.

    Raises
    ------
    ValueError
        If the format has no way to say what a layer computes, by the layer's name.
    ImportError
        If the package that the format needs is not installed.
    """
    if not isinstance(model, Model):
        raise TypeError(f"an LSTM, Sequential or CopyLSTM can be saved, and this is a {type(model).__name__}")
    kind = _format(path)
    if states and kind not in ONNX:
        raise ValueError(f"states are for {', '.join(ONNX)} files, and {path} is none")
    if kind in OURS:
        model.save(path)
    elif kind in TORCH:
        torch.write(_state_dict(model), path)
    else:
        chain = model.as_sequential() if isinstance(model, CopyLSTM) else model
        if kind in ONNX:
            from glasscell.convert.onnx import save as save_onnx  # noqa: PLC0415 - optional

            save_onnx(chain, path, states=states)
        else:
            from glasscell.convert import keras  # noqa: PLC0415 - optional

            keras.save(chain, path)


def left_out(model: Model, source: StrPath, target: StrPath, *, states: bool = False) -> list[str]:
    """The states and numbers of steps, by name, that the graph of a model takes or gives, and the target does not.

    A model of Keras has neither. Files of layers alone say nothing of inputs and outputs, and lack none.
    """
    if Path(source).suffix.lower() not in ONNX or _format(target) not in (*ONNX, *KERAS):
        return []
    from glasscell.convert.onnx.reading import others_of  # noqa: PLC0415 - optional

    others = others_of(source)
    if _format(target) in KERAS:
        return [*others.starts, *others.inputs, *others.finals]
    if states:
        return others.inputs
    return [*others.starts, *others.inputs, *([] if isinstance(model, LSTM) else others.finals)]


def _format(path: StrPath) -> str:
    suffix = Path(path).suffix.lower()
    known = (*OURS, *TORCH, *ONNX, *KERAS)
    if suffix not in known:
        raise ValueError(f"{path} has no known format; known are {', '.join(known)}")
    return suffix


def _state_dict(model: Model) -> dict[str, Array]:
    """The weights under PyTorch's names, if PyTorch's layers compute the same."""
    if isinstance(model, LSTM):
        return model.to_torch()
    chain = model.as_sequential() if isinstance(model, CopyLSTM) else model
    for name, layer in zip(chain.names, chain.layers, strict=True):
        if isinstance(layer, Masking) or (isinstance(layer, Embedding) and layer.mask_zero):
            raise ValueError(f"the layer {name!r} takes steps out of sequences, and PyTorch has no layer that does")
        if isinstance(layer, LSTM):
            try:
                check_torch_has(layer.options)
            except ValueError as error:
                raise ValueError(f"the layer {name!r}: {error}") from None
    return model.to_torch()


def _from_safetensors(
    path: StrPath, prefix: str | None, architecture: Architecture | None, ignore: Sequence[str] | None
) -> Model:
    entry, weights = checkpoint.read(path)
    if entry is None:
        return _stated(path, lambda: modules.layer_set(dict(weights), prefix), architecture, ignore)
    for name, value in {"prefix": prefix, "architecture": architecture, "ignore": ignore}.items():
        if value is not None:
            raise ValueError(f"{name} is for weights alone, and {path} states the model itself")
    kind = checkpoint.kind(path)
    makers: dict[str, type[Model]] = {"LSTM": LSTM, "CopyLSTM": CopyLSTM, "Sequential": Sequential}
    if kind not in makers:
        raise ValueError(f"{path} holds a {kind!r}; known are {', '.join(makers)}")
    return makers[kind].load(path)


def _in_words(path: StrPath, make: Callable[[], M]) -> M:
    try:
        return make()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} does not fit together: {error}") from None


def _of_weights(path: StrPath, make: Callable[[], M]) -> M:
    """Return a result, or raise an error that names the file."""
    try:
        return make()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
