"""Model files of Keras, read and written without Keras: ``.keras``, ``.weights.h5`` and the older ``.h5``.

A Sequential of Keras, or a functional model that is one chain of layers, becomes a :class:`glasscell.Sequential`, and
the other way. What cannot be represented is refused by the name of the layer. What only matters to training in Keras
(initializers, regularizers, constraints, the optimizer, whether a layer is trainable) is passed over.
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
from glasscell.convert.keras.architecture import OF_KERAS_1, KerasSequential, chain_of, flat, parse_config
from glasscell.convert.keras.exporter import chain_of_described, described
from glasscell.convert.keras.file_writer import Described, keras_file, legacy_h5, weights_h5
from glasscell.convert.keras.importer import model_of
from glasscell.convert.keras.layer_set import layer_set
from glasscell.convert.keras.lstms import lstms as lstms_of
from glasscell.convert.keras.older import LegacyWeights
from glasscell.convert.keras.weights import Keras3Weights, Source, check_all_taken, group_at, read
from glasscell.convert.layer_set import LayerSet
from glasscell.convert.weights_only import check_finite_weights, check_weights_only, not_held
from glasscell.escaping import one_line
from glasscell.layers import LSTM
from glasscell.limits import MemoryBudget
from glasscell.models import Sequential
from glasscell.models.sequential import Layer

T = TypeVar("T")

ZIP = b"PK\x03\x04"
INFO_BYTES = 1024  # memory for an entry of the directory, at most
ENTRIES = ("metadata.json", "config.json", "model.weights.h5")

# Errors that a damaged or forged file may cause, other than ValueErrors raised here: in the standard library's reader
# of archives, and where something in it is of another type than Keras writes.
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
        A ``.keras`` file, the weights alone (``.weights.h5``), or a whole model or weights in the older format
        (``.h5``), of Keras 2 or 3. What it is, is read off the file, not off its name.
    config : optional
        For weights alone, what the model is: the path of a ``.keras``, ``.h5`` or JSON file, JSON as text or dict, or
        a model of the same layers.
    architecture, ignore : optional
        For weights alone without `config`, the computation, and layers that are no part of it: see
        :func:`glasscell.convert.architecture.build`. Settings that weights do not show are then Keras' own defaults: a
        Dense has no activation, a Bidirectional puts its directions side by side, an Embedding masks nothing.

    Returns
    -------
    Sequential; of weights alone without `config` an LSTM, if there is nothing else
        Its layers have the names of Keras' layers. Where one of Keras is several here, those behind the first are
        called after it: ``lstm_final``, ``dense_activation``. Its dtype is float64 if any weight is, and otherwise
        float32, also for a model that computes in less.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If the file is damaged, weights are missing or do not fit, or a layer or setting cannot be represented, by name.
        If it holds weights alone of several layers, without `config` and `architecture`.
    """
    content = _read(path)
    given = None if config is None else _given(config)
    stated = architecture is not None or len(ignore) > 0
    if given is not None and stated:
        raise ValueError("architecture and ignore are for weights without config, which states the computation")
    try:
        chain, source = _opened(content)
        if chain is not None and (given is not None or stated):
            raise ValueError("it states the model itself: config, architecture and ignore are for weights alone")
        if chain is None and given is None:
            layers = layer_set(source)
            return only(layers, ignore) if architecture is None else build(layers, architecture, ignore)
        chain = chain or given
        assert chain is not None  # one of the two  # noqa: S101
        found = source.of(chain.layers)
        check_all_taken(source, found)
        return model_of(chain._replace(layers=tuple(flat(chain.layers))), [read(of_layer) for of_layer in found])
    except _DAMAGE as error:
        raise ValueError(f"{path}: {_words(error)}") from None


def save(model: Sequential | LSTM, path: StrPath, *, weights_only: bool = False) -> None:
    """Write a model that Keras 3 loads and computes the same with.

    A file that is there is replaced, once the new one is complete. The same model is the same bytes.

    Parameters
    ----------
    model : Sequential or LSTM
        A stack of LSTMs becomes as many layers, with Dropout between them.
    path : path
        ``….keras``: a model; ``….weights.h5``: its weights alone; ``….h5`` or ``….hdf5``: a model in the older format.
    weights_only : bool
        For ``….weights.h5``: leave out layers and settings that weights alone do not show.

    Raises
    ------
    ValueError
        If Keras has no layer that computes the same, naming ours and what Keras lacks.
    ImportError
        If h5py is not installed.
    """
    if not isinstance(model, Sequential | LSTM):
        raise TypeError(f"model must be a Sequential or an LSTM, got {type(model).__name__}")
    check_finite_weights(model)
    file, name = OutputFile(path, (".keras", ".h5", ".hdf5")), Path(path).name.lower()
    found, chain = _described(model)
    dtype = model.dtype.name
    if name.endswith(".keras"):
        content = keras_file(found, chain, dtype)
    elif name.endswith(".weights.h5"):
        check_weights_only(path, not_held(model, keras=True), weights_only=weights_only)
        content = weights_h5(found)
    else:
        content = legacy_h5(found, chain, dtype)
    file.write(content)


def layers_of(path: StrPath) -> LayerSet:
    """Read the layers of a file of weights alone, with Keras' default settings.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If the file is damaged, holds a whole model, or weights do not fit together.
    """
    content = _read(path)
    try:
        chain, source = _opened(content)
        if chain is not None:
            raise ValueError("it states the model itself: load gives it")
        return layer_set(source)
    except _DAMAGE as error:
        raise ValueError(f"{path}: {_words(error)}") from None


def lstms(path: StrPath) -> dict[str, LSTM]:
    """Read every LSTM of a model of any layers, by name; of weights alone with Keras' default settings.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If the file is damaged, or an LSTM has settings that cannot be represented, by name.
    """
    content = _read(path)
    try:
        model, version, source = _parts(content)
        if model is None:
            return {name: layer for name, layer in layer_set(source).items() if isinstance(layer, LSTM)}
        return dict(lstms_of(model, version, source))
    except _DAMAGE as error:
        raise ValueError(f"{path}: {_words(error)}") from None


def is_weights_alone(path: StrPath) -> bool:
    """Return whether a file holds weights and not the configuration of a model."""
    content = _read(path)
    try:
        return _opened(content)[0] is None
    except _DAMAGE as error:
        raise ValueError(f"{path}: {_words(error)}") from None


def _described(model: Sequential | LSTM) -> tuple[Described, KerasSequential]:
    """The layers of Keras that compute the same."""
    names: Sequence[str] = ("lstm",) if isinstance(model, LSTM) else model.names
    layers: Sequence[Layer] = (model,) if isinstance(model, LSTM) else model.layers
    found = described(names, layers)
    return found, chain_of_described(found, layers)


def _opened(content: bytes) -> tuple[KerasSequential | None, Source]:
    """What a file says of the model, if it says it, and its weights."""
    model, version, source = _parts(content)
    return None if model is None else chain_of(model, version), source


def _parts(content: bytes) -> tuple[dict[str, Any] | None, str, Keras3Weights | LegacyWeights]:
    """Return the configuration of the model, if the file has one, the version of Keras, and the weights."""
    budget = MemoryBudget(len(content))
    if content.startswith(ZIP):
        metadata, config, weights = _entries(content, budget)
        version = str(parse_config(metadata, "metadata.json", budget).get("keras_version"))
        return parse_config(config, "config.json", budget), version, Keras3Weights(hdf5.File(weights, budget).root)
    if not content.startswith(hdf5.SIGNATURE):
        raise ValueError("it is no file of Keras, neither a zip archive nor HDF5")
    root = hdf5.File(content, budget).root
    version = root.text("keras_version") or "1"  # as Keras takes it
    if version.startswith("1."):
        raise ValueError(OF_KERAS_1)
    said = root.text("model_config")
    if said is not None:
        model = parse_config(said.encode(), "model_config", budget)
        return model, version, LegacyWeights(group_at(root, "model_weights"), version)
    if root.has("layer_names") or root.has("layer_names0"):
        return None, version, LegacyWeights(root, version)
    return None, version, Keras3Weights(root)


def _entries(content: bytes, budget: MemoryBudget) -> list[bytes]:
    """The parts of a ``.keras`` file."""
    budget.reserve(INFO_BYTES * content.count(b"PK\x01\x02"))
    infos = _of_archive(content, zipfile.ZipFile.infolist)
    for name in ENTRIES:
        sizes = [info.file_size for info in infos if info.filename == name]
        if len(sizes) != 1:
            raise ValueError(f"it has {len(sizes)} entries {name}; expected one")
        budget.reserve(sizes[0])
    return _of_archive(content, lambda archived: [_entry(archived, name) for name in ENTRIES])


def _entry(archived: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of an entry, no more than the directory says: what is compressed may be far longer."""
    size = archived.getinfo(name).file_size
    with archived.open(name) as entry:
        content = entry.read(size)
        if len(content) != size or entry.read(1):
            raise ValueError(f"the entry {name} is not as long as its directory says")
    return content


def _of_archive(content: bytes, take: Callable[[zipfile.ZipFile], T]) -> T:
    """What is taken of an archive."""
    try:
        with zipfile.ZipFile(BytesIO(content)) as archived:
            return take(archived)
    except _DAMAGED_ARCHIVE as error:
        raise ValueError(f"it is not a complete zip archive: {error}") from None


def _given(config: StrPath | Mapping[str, Any] | Sequential) -> KerasSequential:
    """The chain that `config` says."""
    if isinstance(config, Sequential):
        return _described(config)[1]
    if not isinstance(config, str | os.PathLike | Mapping):
        raise TypeError(f"config must be a path, JSON, a dict or a Sequential, got {type(config).__name__}")
    said: Mapping[str, Any] | bytes
    if isinstance(config, Mapping):
        what, said = "config", config
    elif isinstance(config, str) and config.lstrip().startswith("{"):
        what, said = "config", config.encode()
    else:
        what, said = str(config), _read(config)
    try:
        if isinstance(said, bytes) and said.startswith((ZIP, hdf5.SIGNATURE)):
            chain, _ = _opened(said)
        else:
            chain = chain_of(parse_config(said, "it", MemoryBudget(len(said))) if isinstance(said, bytes) else said)
    except _DAMAGE as error:
        raise ValueError(f"{what}: {_words(error)}") from None
    if chain is None:
        raise ValueError(f"{what}: it holds weights alone, and does not say what the model is")
    return chain


def _read(path: StrPath) -> bytes:
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    return file.read_bytes()


def _words(error: Exception) -> str:
    """What went wrong, in one line."""
    text = one_line(error) or type(error).__name__
    known = isinstance(error, ValueError) and not isinstance(error, UnicodeError)
    return text if known else f"it is damaged: {text}"
