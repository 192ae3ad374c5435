"""Model files of every format that is known here: read and written by the ends of their names."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from glasscell import checkpoint
from glasscell.atomic_files import StrPath
from glasscell.checkpoint import Checkpoint
from glasscell.convert import torch
from glasscell.convert.codec import check_shapes
from glasscell.convert.codec.torch import check_torch_has, from_torch, to_torch
from glasscell.core.typing import Array
from glasscell.layers import LSTM, Embedding, Masking
from glasscell.models import CopyLSTM, Sequential
from glasscell.models.sequential import layer_from_config
from glasscell.validation import one_of

Model = LSTM | Sequential | CopyLSTM
M = TypeVar("M")

TORCH, ONNX, KERAS, OURS = (".pt", ".pth", ".bin"), (".onnx",), (".keras", ".h5", ".hdf5"), (".safetensors",)
WRITTEN = (*OURS, *TORCH, *ONNX, *KERAS)
OPTIONS = {"key": TORCH, "take": (*TORCH, *OURS), "config": KERAS, "order": KERAS}


def load(
    path: StrPath,
    *,
    key: str | None = None,
    take: torch.Take | None = None,
    config: Any = None,
    order: Sequence[str] | None = None,
) -> Model:
    """Read a model from a file of any known format.

    Parameters
    ----------
    path : path
        ``.safetensors`` (ours, or PyTorch's weights), or a folder with a ``model.safetensors``; ``.pt``, ``.pth``,
        ``.bin`` (PyTorch: a state dict, or a checkpoint with one in it); ``.onnx``; ``.keras``, ``.weights.h5``,
        ``.h5``, ``.hdf5``.
    key : str, optional
        Where in a ``.pt`` file the weights are, if there are several: "model_state_dict".
    take : {"every step", "last step", "final state"}, optional
        For weights of PyTorch, which do not say: what the layers behind the LSTM see; without it every step.
    config, order : optional
        For weights of Keras alone: see :func:`glasscell.convert.keras.load`.

    Returns
    -------
    LSTM, Sequential or CopyLSTM
        Of a state dict or an ONNX graph an LSTM, if there is nothing else.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        A file that is damaged or of no known format, or something in it that cannot be represented, by name.
    ImportError
        If the package that its format needs is not installed.
    """
    kind = ".safetensors" if Path(path).is_dir() else _format(path)
    given = {"key": key, "take": take, "config": config, "order": order}
    for name, value in given.items():
        if value is not None and kind not in OPTIONS[name]:
            raise ValueError(f"{name} is for {', '.join(OPTIONS[name])} files, and {path} is none")
    if take is not None:
        one_of("take", take, get_args(torch.Take))
    if kind in ONNX:
        from glasscell.convert.onnx import load as load_onnx  # noqa: PLC0415 - optional

        chain = load_onnx(path)
        [first, *rest] = chain.layers
        model: Model = first if isinstance(first, LSTM) and not rest else chain
    elif kind in KERAS:
        from glasscell.convert import keras  # noqa: PLC0415 - optional

        model = keras.load(path, config=config, order=order)
    elif kind in TORCH:
        content = torch.read(path)
        model = _in_words(path, lambda: torch.model_of(torch.state_dict(content, key), take=take or "every step"))
    else:
        model = _from_safetensors(path, take)
    return model


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
        if isinstance(model, LSTM):
            weights = to_torch(model.parameters, model.options)
            checkpoint.save(Checkpoint("LSTM", model.options.changed(), weights), path)
        else:
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


def _from_safetensors(path: StrPath, take: torch.Take | None) -> Model:
    entry, weights = checkpoint.read(path)
    if entry is None:
        return _in_words(path, lambda: torch.model_of(weights, take=take or "every step"))
    if take is not None:
        raise ValueError(f"take is for weights of PyTorch, and {path} says itself what it is")
    kind, config, weights = checkpoint.load(path)
    if kind == "LSTM":
        return _in_words(path, lambda: _lstm(config, weights))
    makers: dict[str, type[CopyLSTM | Sequential]] = {"CopyLSTM": CopyLSTM, "Sequential": Sequential}
    if kind not in makers:
        raise ValueError(f"{path} holds a {kind!r}; known are LSTM, {', '.join(makers)}")
    return makers[kind].load(path)


def _lstm(config: Mapping[str, Any], weights: Mapping[str, Array]) -> LSTM:
    held = sum(array.size for array in weights.values())
    dtype = next(iter(weights.values())).dtype
    lstm = layer_from_config({"kind": "LSTM", **config}, dtype, held)
    assert isinstance(lstm, LSTM)  # by its kind  # noqa: S101
    expected = {name: array.shape for name, array in to_torch(lstm.parameters, lstm.options).items()}
    check_shapes({name: array.shape for name, array in weights.items()}, expected)
    from_torch(weights, lstm.parameters, lstm.options)
    return lstm


def _in_words(path: StrPath, make: Callable[[], M]) -> M:
    try:
        return make()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} does not fit together: {error}") from None
