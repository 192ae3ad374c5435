"""Read and write Keras files without Keras: ``.keras``, ``.weights.h5`` and the legacy ``.h5``.

A Sequential of Keras, or a functional model that is one sequence of layers, becomes a
:class:`glasscell.Sequential`, and vice versa. Errors name the unsupported layer. Settings that only
affect training in Keras (initializers, regularizers, constraints, the optimizer, trainable) are ignored.
"""

import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

from glasscell.atomic_files import OutputFile, StrPath
from glasscell.convert.architecture import Architecture, build, only
from glasscell.convert.keras import hdf5
from glasscell.convert.keras.architecture import KERAS_1_ADVICE, KerasSequential, flat, parse_model
from glasscell.convert.keras.exporter import export_layers, exported_model
from glasscell.convert.keras.file_writer import ExportedLayers, keras_file, legacy_h5, weights_h5
from glasscell.convert.keras.importer import import_model
from glasscell.convert.keras.json_values import parse_config
from glasscell.convert.keras.layer_set import layer_set
from glasscell.convert.keras.lstms import lstms as lstms_of
from glasscell.convert.keras.older import LegacyWeights
from glasscell.convert.keras.weights import Keras3Weights, Source, check_all_used, group_at, read
from glasscell.convert.layer_set import LayerSet
from glasscell.convert.weights_only import check_finite_weights, check_weights_only, not_held
from glasscell.escaping import one_line
from glasscell.layers import LSTM
from glasscell.limits import MemoryBudget
from glasscell.models import Sequential
from glasscell.models.sequential import Layer

T = TypeVar("T")

ZIP = b"PK\x03\x04"
INFO_BYTES = 1024  # upper bound on the memory of an entry of the directory
ENTRIES = ("metadata.json", "config.json", "model.weights.h5")

# Errors that a damaged or forged file may cause, in addition to ValueErrors raised here: from the standard library's
# reader of archives, and from values of unexpected types.
_DAMAGED_ARCHIVE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError, Warning)
_DAMAGE = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError, MemoryError)


def load(
    path: StrPath,
    *,
    config: StrPath | Mapping[str, Any] | Sequential | None = None,
    architecture: Architecture | None = None,
    ignore: Sequence[str] = (),
) -> LSTM | Sequential:
    """Read a model.

    Parameters
    ----------
    path : path
        A ``.keras`` file, weights alone (``.weights.h5``), or a whole model or weights in the legacy format (``.h5``),
        of Keras 2 or 3. The content determines the format, not the name.
    config : optional
        For weights alone, the model: the path of a ``.keras``, ``.h5`` or JSON file, JSON as text or dict, or a model
        with the same layers.
    architecture, ignore : optional
        For weights alone without `config`, the computation, and layers to ignore: see
        :func:`glasscell.convert.architecture.build`. Settings that weights do not determine are then Keras' defaults: a
        Dense has no activation, a Bidirectional concatenates its directions, an Embedding has no mask.

    Returns
    -------
    Sequential; for weights alone of a single LSTM without `config` an LSTM
        The layers have the names of Keras' layers. If a Keras layer becomes several layers, the later ones are named
        after it: ``lstm_final``, ``dense_activation``. The dtype is float64 if any weight is float64, and otherwise
        float32.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged, weights are missing or do not fit, or a layer or setting is unsupported, by name; or the
        file contains only weights, of several layers, and `config` and `architecture` are None.
    """
    content = _read(path)
    configured = None if config is None else _model_from_config(config)
    stated = architecture is not None or len(ignore) > 0
    if configured is not None and stated:
        raise ValueError("architecture and ignore must be left out with config, which states the computation")
    try:
        chain, source = _model_and_weights(content)
        if chain is not None and (configured is not None or stated):
            raise ValueError("it contains the model: config, architecture and ignore must be left out")
        if chain is None and configured is None:
            layers = layer_set(source)
            return only(layers, ignore) if architecture is None else build(layers, architecture, ignore)
        chain = chain or configured
        assert chain is not None  # either from the file or from config  # noqa: S101
        datasets = source.weights_of(chain.layers)
        check_all_used(source, datasets)
        return import_model(
            chain._replace(layers=tuple(flat(chain.layers))), [read(by_direction) for by_direction in datasets]
        )
    except _DAMAGE as error:
        raise ValueError(f"{path}: {_format_error(error)}") from None


def save(model: Sequential | LSTM, path: StrPath, *, weights_only: bool = False) -> None:
    """Write a model that Keras 3 loads and that computes the same there.

    An existing file is replaced when the new one is complete. Equal models give equal bytes.

    Parameters
    ----------
    model : Sequential or LSTM
        A stack of L LSTM layers becomes L Keras layers, with Dropout between them.
    path : path
        ``….keras``: a model; ``….weights.h5``: only weights; ``….h5`` or ``….hdf5``: a model in the legacy format.
    weights_only : bool
        For ``….weights.h5``: leave out layers and settings that weights do not determine.

    Raises
    ------
    ValueError
        If Keras does not support a layer or option, by its name.
    ImportError
        If h5py is not installed.
    """
    if not isinstance(model, Sequential | LSTM):
        raise TypeError(f"model must be a Sequential or an LSTM, got {type(model).__name__}")
    check_finite_weights(model)
    file, name = OutputFile(path, (".keras", ".h5", ".hdf5")), Path(path).name.lower()
    exported, chain = _export(model)
    dtype = model.dtype.name
    if name.endswith(".keras"):
        content = keras_file(exported, chain, dtype)
    elif name.endswith(".weights.h5"):
        check_weights_only(path, not_held(model, keras=True), weights_only=weights_only)
        content = weights_h5(exported)
    else:
        content = legacy_h5(exported, chain, dtype)
    file.write(content)


def layers_of(path: StrPath) -> LayerSet:
    """Read the layers of a file of weights alone, with Keras' default settings.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged, contains a whole model, or weights are inconsistent.
    """
    content = _read(path)
    try:
        chain, source = _model_and_weights(content)
        if chain is not None:
            raise ValueError("it contains a whole model: use load")
        return layer_set(source)
    except _DAMAGE as error:
        raise ValueError(f"{path}: {_format_error(error)}") from None


def lstms(path: StrPath) -> dict[str, LSTM]:
    """Read every LSTM of a model, by name; for weights alone with Keras' default settings.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged, or an LSTM has unsupported settings, by name.
    """
    content = _read(path)
    try:
        model, version, source = _config_and_weights(content)
        if model is None:
            return {name: layer for name, layer in layer_set(source).items() if isinstance(layer, LSTM)}
        return dict(lstms_of(model, version, source))
    except _DAMAGE as error:
        raise ValueError(f"{path}: {_format_error(error)}") from None


def is_weights_alone(path: StrPath) -> bool:
    """Return whether a file contains weights without the configuration of a model."""
    content = _read(path)
    try:
        return _model_and_weights(content)[0] is None
    except _DAMAGE as error:
        raise ValueError(f"{path}: {_format_error(error)}") from None


def _export(model: Sequential | LSTM) -> tuple[ExportedLayers, KerasSequential]:
    """Return equivalent Keras layers, and their model."""
    names: Sequence[str] = ("lstm",) if isinstance(model, LSTM) else model.names
    layers: Sequence[Layer] = (model,) if isinstance(model, LSTM) else model.layers
    exported = export_layers(names, layers)
    return exported, exported_model(exported, layers)


def _model_and_weights(content: bytes) -> tuple[KerasSequential | None, Source]:
    """Return the model in a file, if it contains one, and its weights."""
    model, version, source = _config_and_weights(content)
    return None if model is None else parse_model(model, version), source


def _config_and_weights(content: bytes) -> tuple[dict[str, Any] | None, str, Keras3Weights | LegacyWeights]:
    """Return the configuration of the model, if the file has one, the version of Keras, and the weights."""
    budget = MemoryBudget(len(content))
    if content.startswith(ZIP):
        metadata, config, weights = _entries(content, budget)
        version = str(parse_config(metadata, "metadata.json", budget).get("keras_version"))
        return parse_config(config, "config.json", budget), version, Keras3Weights(hdf5.File(weights, budget).root)
    if not content.startswith(hdf5.SIGNATURE):
        raise ValueError("it is not a Keras file, neither a zip archive nor HDF5")
    root = hdf5.File(content, budget).root
    version = root.text("keras_version") or "1"  # as in Keras
    if version.startswith("1."):
        raise ValueError(KERAS_1_ADVICE)
    config_text = root.text("model_config")
    if config_text is not None:
        model = parse_config(config_text.encode(), "model_config", budget)
        return model, version, LegacyWeights(group_at(root, "model_weights"), version)
    if root.has("layer_names") or root.has("layer_names0"):
        return None, version, LegacyWeights(root, version)
    return None, version, Keras3Weights(root)


def _entries(content: bytes, budget: MemoryBudget) -> list[bytes]:
    """Return the contents of the entries of a ``.keras`` file."""
    budget.reserve(INFO_BYTES * content.count(b"PK\x01\x02"))
    infos = _from_archive(content, zipfile.ZipFile.infolist)
    for name in ENTRIES:
        sizes = [info.file_size for info in infos if info.filename == name]
        if len(sizes) != 1:
            raise ValueError(f"it must have one entry {name}, got {len(sizes)}")
        budget.reserve(sizes[0])
    return _from_archive(content, lambda archive: [_entry(archive, name) for name in ENTRIES])


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return the bytes of an entry, at most as many as in the directory: compressed data may be far longer."""
    size = archive.getinfo(name).file_size
    with archive.open(name) as entry:
        content = entry.read(size)
        if len(content) != size or entry.read(1):
            raise ValueError(f"the entry {name} must have {size} bytes, as in the directory")
    return content


def _from_archive(content: bytes, read_archive: Callable[[zipfile.ZipFile], T]) -> T:
    """Return the result of a function of an archive."""
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            return read_archive(archive)
    except _DAMAGED_ARCHIVE as error:
        raise ValueError(f"it is not a complete zip archive: {error}") from None


def _model_from_config(config: StrPath | Mapping[str, Any] | Sequential) -> KerasSequential:
    """Return the model that `config` describes."""
    if isinstance(config, Sequential):
        return _export(config)[1]
    if not isinstance(config, str | os.PathLike | Mapping):
        raise TypeError(f"config must be a path, JSON, a dict or a Sequential, got {type(config).__name__}")
    content: Mapping[str, Any] | bytes
    if isinstance(config, Mapping):
        what, content = "config", config
    elif isinstance(config, str) and config.lstrip().startswith("{"):
        what, content = "config", config.encode()
    else:
        what, content = str(config), _read(config)
    try:
        if isinstance(content, bytes) and content.startswith((ZIP, hdf5.SIGNATURE)):
            chain, _ = _model_and_weights(content)
        else:
            chain = parse_model(
                parse_config(content, "it", MemoryBudget(len(content))) if isinstance(content, bytes) else content
            )
    except _DAMAGE as error:
        raise ValueError(f"{what}: {_format_error(error)}") from None
    if chain is None:
        raise ValueError(f"{what}: it must contain a model, got only weights")
    return chain


def _read(path: StrPath) -> bytes:
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"the file {file} does not exist")
    return file.read_bytes()


def _format_error(error: Exception) -> str:
    """Format an error in one line."""
    text = one_line(error) or type(error).__name__
    raised_here = isinstance(error, ValueError) and not isinstance(error, UnicodeError)
    return text if raised_here else f"it is damaged: {text}"
