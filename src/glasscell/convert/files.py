"""Read and write model files of all formats, by their extensions."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

from glasscell import checkpoint
from glasscell.atomic_files import StrPath
from glasscell.convert import architecture as architectures
from glasscell.convert import torch
from glasscell.convert.architecture import Architecture
from glasscell.convert.layer_set import LayerSet
from glasscell.convert.torch import modules
from glasscell.convert.weights_only import architecture_of, check_finite_weights, check_weights_only, not_held
from glasscell.core.types import Array
from glasscell.escaping import one_line
from glasscell.layers import LSTM
from glasscell.layers.cell_stack import CellStack
from glasscell.layers.registry import layer_class
from glasscell.models import Sequential
from glasscell.models.files import MODELS, model_class
from glasscell.weight_layouts.pytorch import Biases, check_supported

Model = LSTM | Sequential
M = TypeVar("M")

TORCH_SUFFIXES, ONNX_SUFFIXES, KERAS_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt"), (".onnx",), (".keras", ".h5", ".hdf5")
GLASSCELL_SUFFIXES = (".safetensors",)
WRITTEN_SUFFIXES = (*GLASSCELL_SUFFIXES, ".pt", ".pth", ".bin", *ONNX_SUFFIXES, *KERAS_SUFFIXES)
SUFFIXES = (*GLASSCELL_SUFFIXES, *TORCH_SUFFIXES, *ONNX_SUFFIXES, *KERAS_SUFFIXES)
OPTION_SUFFIXES = {
    "key": TORCH_SUFFIXES,
    "prefix": (*TORCH_SUFFIXES, *GLASSCELL_SUFFIXES),
    "architecture": (*TORCH_SUFFIXES, *GLASSCELL_SUFFIXES, *KERAS_SUFFIXES),
    "ignore": (*TORCH_SUFFIXES, *GLASSCELL_SUFFIXES, *KERAS_SUFFIXES),
    "biases": (*TORCH_SUFFIXES, *GLASSCELL_SUFFIXES),
    "config": KERAS_SUFFIXES,
}


def load(
    path: StrPath,
    *,
    key: str | None = None,
    prefix: str | None = None,
    architecture: Architecture | None = None,
    ignore: Sequence[str] | None = None,
    biases: Biases | None = None,
    config: Any = None,
) -> Model:
    """Read a model from a file of any known format.

    A file of weights alone (a PyTorch state dict, a Keras ``.weights.h5``) does not contain the computation: if it has
    the weights of one layer, that layer is returned; if it has several, `architecture` must state the computation.

    Parameters
    ----------
    path : path
        ``.safetensors`` (a Glasscell model, or PyTorch weights), or a folder with a ``model.safetensors``; ``.pt``,
        ``.pth``, ``.bin``, ``.ckpt`` (a PyTorch state dict, or a checkpoint that contains one); ``.onnx``; ``.keras``,
        ``.weights.h5``, ``.h5``, ``.hdf5``.
    key : str, optional
        For files of PyTorch, the key of the state dict: "model_state_dict". Default: the only one.
    prefix : str, optional
        For weights of PyTorch, only those below this name are read: "model.encoder".
    architecture : str, or sequence of str or layer, optional
        For weights alone, the computation: "lstm,last,fc1,relu,fc2,sigmoid", names of modules and operations. See
        :func:`glasscell.convert.architecture.build`.
    ignore : sequence of str, optional
        For weights alone, modules that do not belong to the computation, such as the weights of a loss.
    biases : {"one", "two"}, optional
        For PyTorch weights, whether the two biases become one, their sum, or both are parameters, as for training in
        PyTorch: see :meth:`glasscell.LSTM.from_torch`. Default: "one".
    config : optional
        For Keras weights alone, the model: see :func:`glasscell.convert.keras.load`.

    Returns
    -------
    LSTM, Sequential or another model
        Of weights alone or an ONNX graph an LSTM, if there is nothing else; of an RNN or a GRU a Sequential.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged, has an unknown format, or contains unsupported layers or settings, by name; or it has
        the weights of several layers and `architecture` is None: the message has their names and sizes.
    ImportError
        If the package that its format needs is not installed.
    """
    values = {"key": key, "prefix": prefix, "architecture": architecture, "ignore": ignore, "biases": biases}
    check_options(path, values | {"config": config})
    kind = format_of_existing(path)
    if kind in ONNX_SUFFIXES:
        from glasscell.convert.onnx import load as load_onnx  # noqa: PLC0415 - optional

        sequential = load_onnx(path)
        [first, *rest] = sequential.layers
        model: Model = (
            deepcopy(first) if isinstance(first, LSTM) and not rest else sequential
        )  # a copy, independent of the Sequential
    elif kind in KERAS_SUFFIXES:
        from glasscell.convert import keras  # noqa: PLC0415 - optional

        model = keras.load(path, config=config, architecture=architecture, ignore=ignore or ())
    elif kind in TORCH_SUFFIXES:
        content = torch.read(path)
        model = _weights_model(
            path,
            lambda: modules.layer_set(torch.state_dict(content, key), prefix, biases or "one"),
            architecture,
            ignore,
        )
    else:
        model = _from_safetensors(path, prefix, architecture, ignore, biases)
    return model


def check_options(path: StrPath, values: Mapping[str, Any]) -> None:
    """Raise ValueError for an option that the format, by the extension, does not have."""
    kind = GLASSCELL_SUFFIXES[0] if Path(path).is_dir() else Path(path).suffix.lower()
    for name, value in values.items():
        if value is not None and kind in SUFFIXES and kind not in OPTION_SUFFIXES[name]:
            raise ValueError(f"{name} is for {', '.join(OPTION_SUFFIXES[name])} files, got {path}")


def _weights_model(
    path: StrPath, read: Callable[[], LayerSet], architecture: Architecture | None, ignore: Sequence[str] | None
) -> LSTM | Sequential:
    """Return the model of weights alone: of the architecture, or of the only layer."""

    def build_model() -> LSTM | Sequential:
        layers = read()
        if architecture is None:
            return architectures.only(layers, ignore or ())
        return architectures.build(layers, architecture, ignore or ())

    return naming_file(path, build_model)


def save(model: Model | CellStack, path: StrPath, *, states: bool = False, weights_only: bool = False) -> None:
    """Write a model to a file, in the format of its extension.

    Parameters
    ----------
    model : LSTM, RNN, GRU, Sequential or another model
        An RNN or a GRU is saved as a Sequential of one layer.
    path : path
        ``.safetensors``; ``.pt``, ``.pth`` (a state dict); ``.onnx``; ``.keras``, ``.weights.h5``, ``.h5``. A file that
        exists is replaced when the new one is complete.
    states : bool
        For ``.onnx``: whether initial states are inputs, ``h_0`` and ``c_0`` (L·D, batch, H), and final states outputs,
        ``h_n`` and ``c_n``; in a Sequential those of each LSTM, called after it: ``encoder.h_0``. Default: only the
        final states of a single LSTM are outputs.
    weights_only : bool
        For ``.pt``, ``.pth``, ``.bin`` and ``.weights.h5``, which hold weights alone: leave out layers and settings
        that such a file cannot contain, such as activations and the selection of a step. :func:`load` requires them as
        `architecture`.

    Raises
    ------
    ValueError
        If the format does not support a layer, by its name.
    ImportError
        If the package that the format needs is not installed.
    """
    if isinstance(model, CellStack):
        model = _sequential_of(model)
    if not isinstance(model, Model):
        raise TypeError(f"model must be an LSTM, RNN, GRU, Sequential or another model, got {type(model).__name__}")
    kind = format_of(path)
    check_target(path, states=states, weights_only=weights_only)
    if kind in GLASSCELL_SUFFIXES:
        model.save(path)
    elif kind in TORCH_SUFFIXES:
        check_finite_weights(_convertible(model))
        state_dict = _state_dict(model)
        check_weights_only(path, not_held(_convertible(model)), weights_only=weights_only)
        torch.write(state_dict, path)
    else:
        convertible = _convertible(model)
        if kind in ONNX_SUFFIXES:
            from glasscell.convert.onnx import save as save_onnx  # noqa: PLC0415 - optional

            save_onnx(convertible, path, states=states)
        else:
            from glasscell.convert import keras  # noqa: PLC0415 - optional

            keras.save(convertible, path, weights_only=weights_only)


def holds_weights_alone(path: StrPath) -> bool:
    """Return whether files with this extension contain weights without the computation."""
    name = Path(path).name.lower()
    return name.endswith((*TORCH_SUFFIXES, ".weights.h5"))


def is_weights_alone(path: StrPath) -> bool:
    """Return whether an existing file contains weights without the computation."""
    if Path(path).is_dir() or format_of(path) in GLASSCELL_SUFFIXES:
        return checkpoint.read(path)[0] is None
    if format_of(path) in KERAS_SUFFIXES:
        from glasscell.convert import keras  # noqa: PLC0415 - optional

        return keras.is_weights_alone(path)
    return format_of(path) in TORCH_SUFFIXES


def not_in_file(model: Model, path: StrPath) -> str:
    """Describe what a file of weights does not contain, and how to read it; "" for other files."""
    if not holds_weights_alone(path):
        return ""
    convertible = _convertible(model)
    missing = not_held(convertible, keras=format_of(path) in KERAS_SUFFIXES)
    if not missing and (isinstance(convertible, LSTM) or len(convertible.layers) == 1):
        return ""
    stated = architecture_of(convertible)
    hint = f"; read it with architecture={stated!r}" if stated else ""
    return f"{path} contains only weights, without {', '.join([*missing, 'the order of the layers'])}{hint}"


def check_target(path: StrPath, *, states: bool = False, weights_only: bool = False) -> None:
    """Raise ValueError if :func:`save` does not use one of these options for a file of this format."""
    if states and format_of(path) not in ONNX_SUFFIXES:
        raise ValueError(f"states are for {', '.join(ONNX_SUFFIXES)} files, got {path}")
    if weights_only and not holds_weights_alone(path):
        raise ValueError(f"weights_only is for {', '.join(TORCH_SUFFIXES)} and .weights.h5 files, got {path}")


def dropped_ports(model: Model, source: StrPath, target: StrPath, *, states: bool = False) -> list[str]:
    """Return the state and length inputs and outputs of a source graph that the target does not have.

    A Keras model has none. Files of other formats do not declare inputs and outputs.
    """
    if Path(source).suffix.lower() not in ONNX_SUFFIXES or format_of(target) not in (*ONNX_SUFFIXES, *KERAS_SUFFIXES):
        return []
    from glasscell.convert.onnx.importer import interface_of  # noqa: PLC0415 - optional

    ports = interface_of(source)
    if format_of(target) in KERAS_SUFFIXES:
        return [*ports.initial_states, *ports.other_inputs, *ports.final_states]
    if states:
        return ports.other_inputs
    return [*ports.initial_states, *ports.other_inputs, *([] if isinstance(model, LSTM) else ports.final_states)]


def _convertible(model: Model) -> LSTM | Sequential:
    return model if isinstance(model, LSTM) else model.as_sequential()


def _sequential_of(layer: CellStack) -> Sequential:
    """Return a model with a copy of one layer, whose name is that of its class."""
    return Sequential([deepcopy(layer)], [type(layer).__name__.lower()], seed=None)


def format_of_existing(path: StrPath) -> str:
    """Return the format of a file to be read, by its extension; of a folder, that of the model in it.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If it is neither a regular file nor a folder, or has an unknown extension.
    """
    file = Path(path)
    if file.is_dir():
        return GLASSCELL_SUFFIXES[0]
    if not file.exists():
        raise FileNotFoundError(f"there is no model at {path}")
    if not file.is_file():
        raise ValueError(f"{path} must be a regular file, got a device, FIFO or socket")
    return format_of(path)


def format_of(path: StrPath) -> str:
    """Return the format of a file, by its extension."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path} has no known format; known are {', '.join(SUFFIXES)}")
    return suffix


def _state_dict(model: Model) -> dict[str, Array]:
    """Return the weights by PyTorch's names; raise ValueError if PyTorch does not support a layer."""
    if isinstance(model, LSTM):
        return model.to_torch()
    for name, layer in zip(model.names, model.layers, strict=True):
        try:
            if isinstance(layer, LSTM):
                check_supported(layer.options)
            elif isinstance(layer, CellStack):
                layer.to_torch()
        except ValueError as error:
            raise ValueError(f"the layer {name!r}: {error}") from None
    return model.to_torch()


def _from_safetensors(
    path: StrPath,
    prefix: str | None = None,
    architecture: Architecture | None = None,
    ignore: Sequence[str] | None = None,
    biases: Biases | None = None,
) -> Model:
    entry, weights = checkpoint.read(path)
    if entry is None:
        return _weights_model(
            path, lambda: modules.layer_set(dict(weights), prefix, biases or "one"), architecture, ignore
        )
    for name, value in {"prefix": prefix, "architecture": architecture, "ignore": ignore, "biases": biases}.items():
        if value is not None:
            raise ValueError(f"{name} is for weights alone, and {path} states the model")
    kind = checkpoint.kind(path)
    if kind in ("RNN", "GRU"):
        layer: Any = layer_class(kind)
        return _sequential_of(layer.load(path))
    checkpoint.check_single(path, kind)
    if kind != "LSTM" and kind not in MODELS:
        raise ValueError(f"{path} holds a {kind!r}; known are {', '.join(['LSTM', *MODELS, 'RNN', 'GRU'])}")
    return LSTM.load(path) if kind == "LSTM" else model_class(kind).load(path)


def naming_file(path: StrPath, make: Callable[[], M]) -> M:
    """Return a result, or raise an error that names the file."""
    try:
        return make()
    except ValueError as error:
        raise ValueError(f"{path}: {one_line(error)}") from None
