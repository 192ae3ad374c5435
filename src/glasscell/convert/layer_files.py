"""Read layers from a file by name: all layers of a file of weights, or every LSTM of a model."""

from copy import deepcopy

from glasscell import checkpoint
from glasscell.atomic_files import StrPath
from glasscell.convert import files, torch
from glasscell.convert.layer_set import LayerSet
from glasscell.convert.torch import modules
from glasscell.layers import LSTM
from glasscell.layers.kinds import has_parameters
from glasscell.models.sequential import Layer


def weights(path: StrPath, *, key: str | None = None, prefix: str | None = None) -> LayerSet:
    """Read the layers of a file of weights, by name, without their computation.

    Parameters
    ----------
    path : path
        ``.pt``, ``.pth``, ``.bin``, ``.ckpt``, ``.safetensors``, ``.weights.h5``.
    key, prefix : str, optional
        As in :func:`load`.

    Returns
    -------
    LayerSet
        LSTM, Linear and Embedding by the names of their modules, in the order of the file: {"lstm": LSTM(3, 5), "fc":
        Linear(5, 2)}. A matrix without a bias is a :class:`~glasscell.convert.layer_set.Matrix`. ``other`` has the
        other modules.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged, has a format that contains the computation, or weights are inconsistent.
    """
    kind = files.format_of_existing(path)
    if kind in files.KERAS_SUFFIXES:
        files.check_options(path, {"key": key, "prefix": prefix})
        from glasscell.convert import keras  # noqa: PLC0415 - optional

        return keras.layers_of(path)
    if kind not in (*files.TORCH_SUFFIXES, *files.GLASSCELL_SUFFIXES):
        raise ValueError(f"{path} must be a file of weights; load reads models")
    files.check_options(path, {"key": key, "prefix": prefix})
    if kind in files.TORCH_SUFFIXES:
        content = torch.read(path)
        return files.naming_file(path, lambda: modules.layer_set(torch.state_dict(content, key), prefix))
    entry, arrays = checkpoint.read(path)
    if entry is None:
        return files.naming_file(path, lambda: modules.layer_set(dict(arrays), prefix))
    return LayerSet({name: layer for name, layer in _named(files.load(path, prefix=prefix)) if has_parameters(layer)})


def lstms(path: StrPath) -> dict[str, LSTM]:
    """Read every LSTM in a file of any known format. The model may contain any other layers.

    Parameters
    ----------
    path : path
        As in :func:`load`. In a PyTorch checkpoint, all state dicts are searched.

    Returns
    -------
    dict of str to LSTM
        By the names of their modules, in the order of the file; not empty.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged or contains no LSTM, or an LSTM has unsupported weights or settings, by name.
    ImportError
        If the package that the format needs is not installed.
    """
    kind = files.format_of_existing(path)
    if kind in files.TORCH_SUFFIXES:
        content = torch.read(path)
        result = files.naming_file(path, lambda: dict(modules.all_lstms(content)))
    elif kind in files.ONNX_SUFFIXES:
        from glasscell.convert.onnx import lstms as onnx_lstms  # noqa: PLC0415 - optional

        result = onnx_lstms(path)
    elif kind in files.KERAS_SUFFIXES:
        from glasscell.convert import keras  # noqa: PLC0415 - optional

        result = keras.lstms(path)
    elif (arrays := checkpoint.read(path))[0] is None:
        result = files.naming_file(path, lambda: dict(modules.all_lstms(arrays[1])))
    else:
        result = {name: layer for name, layer in _named(files.load(path)) if isinstance(layer, LSTM)}
    if not result:
        raise ValueError(f"{path} must contain an LSTM")
    return result


def _named(model: files.Model) -> list[tuple[str, Layer]]:
    """Return the layers of a model, copied so that they can be used in other models, and their names."""
    if isinstance(model, LSTM):
        return [("lstm", model)]
    return list(zip(model.names, deepcopy(model.layers), strict=True))
