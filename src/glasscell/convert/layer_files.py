"""Read layers from a file by name: all that weights alone determine, or every LSTM of a model."""

from copy import deepcopy

from glasscell import checkpoint
from glasscell.atomic_files import StrPath
from glasscell.convert import files, torch
from glasscell.convert.layer_set import LayerSet
from glasscell.convert.torch import modules
from glasscell.layers import LSTM
from glasscell.layers.kinds import has_parameters
from glasscell.models import CopyLSTM
from glasscell.models.sequential import Layer


def weights(path: StrPath, *, key: str | None = None, prefix: str | None = None) -> LayerSet:
    """Read the layers that a file of weights holds, by name, without the computation that joins them.

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
        Linear(5, 2)}. A matrix without a bias is a :class:`~glasscell.convert.layer_set.Matrix`. ``other`` has what
        else the file holds.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, is of a format that states the computation itself, or has weights that do not fit.
    """
    kind = files.format_of_existing(path)
    if kind in files.KERAS:
        files.check_options(path, {"key": key, "prefix": prefix})
        from glasscell.convert import keras  # noqa: PLC0415 - optional

        return keras.layers_of(path)
    if kind not in (*files.TORCH, *files.OURS):
        raise ValueError(f"{path} is no file of weights alone: load gives its model")
    files.check_options(path, {"key": key, "prefix": prefix})
    if kind in files.TORCH:
        content = torch.read(path)
        return files.of_weights(path, lambda: modules.layer_set(torch.state_dict(content, key), prefix))
    entry, arrays = checkpoint.read(path)
    if entry is None:
        return files.of_weights(path, lambda: modules.layer_set(dict(arrays), prefix))
    return LayerSet({name: layer for name, layer in _named(files.load(path, prefix=prefix)) if has_parameters(layer)})


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
    kind = files.format_of_existing(path)
    if kind in files.TORCH:
        content = torch.read(path)
        found = files.of_weights(path, lambda: dict(modules.all_lstms(content)))
    elif kind in files.ONNX:
        from glasscell.convert.onnx import lstms as of_onnx  # noqa: PLC0415 - optional

        found = of_onnx(path)
    elif kind in files.KERAS:
        from glasscell.convert import keras  # noqa: PLC0415 - optional

        found = keras.lstms(path)
    elif (arrays := checkpoint.read(path))[0] is None:
        found = files.of_weights(path, lambda: dict(modules.all_lstms(arrays[1])))
    else:
        found = {name: layer for name, layer in _named(files.load(path)) if isinstance(layer, LSTM)}
    if not found:
        raise ValueError(f"{path} holds no LSTM")
    return found


def _named(model: files.Model) -> list[tuple[str, Layer]]:
    """Return the layers of a model and their names."""
    if isinstance(model, LSTM):
        return [("lstm", model)]
    chain = model.as_sequential() if isinstance(model, CopyLSTM) else model
    return list(zip(chain.names, deepcopy(chain.layers), strict=True))  # which can be put into other models
