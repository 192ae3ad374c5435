"""Write Keras files from Keras layers and their weights."""

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from typing import Any

import numpy as np

from glasscell.convert.keras.architecture import KerasLayer, KerasSequential
from glasscell.convert.keras.kinds import WEIGHTED
from glasscell.convert.keras.weights import Weights, group_names
from glasscell.core.types import Array

CELLS = {"LSTM": "lstm_cell", "SimpleRNN": "simple_rnn_cell", "GRU": "gru_cell"}
NEVER_TRAINABLE = ("SpatialDropout1D",)  # layers that have no `trainable` setting

ExportedLayers = list[tuple[KerasLayer, Weights]]


def architecture(chain: KerasSequential, dtype: str) -> dict[str, Any]:
    """Return Keras' configuration of a model."""
    names = {layer.name for layer in chain.layers}
    name = "input_layer"
    while name in names:
        name += "_"
    shape = list(chain.input_shape or ())
    symbols = chain.layers[0].kind == "Embedding"
    entries = [_entry("InputLayer", {"name": name, "batch_shape": shape, "dtype": "int32" if symbols else dtype})]
    for layer in chain.layers:
        trainable = layer.kind not in NEVER_TRAINABLE
        entries.append(
            _entry(layer.kind, _with_dtype(layer.config, dtype) if trainable else layer.config | {"dtype": dtype})
        )
    config = {"name": "sequential", "trainable": True, "dtype": dtype, "layers": entries}
    return {"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None}


def keras_file(layers: ExportedLayers, chain: KerasSequential, dtype: str) -> bytes:
    """Return the bytes of a ``.keras`` file."""
    contents = {
        "metadata.json": json.dumps({"keras_version": chain.version}).encode(),
        "config.json": json.dumps(architecture(chain, dtype)).encode(),
        "model.weights.h5": weights_h5(layers),
    }
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archived:
        for name, content in contents.items():
            archived.writestr(zipfile.ZipInfo(name), content)  # a fixed date, 1980: equal contents give equal bytes
    return file.getvalue()


def weights_h5(layers: ExportedLayers) -> bytes:
    """Return the bytes of a ``.weights.h5`` file."""

    def fill(root: Any) -> None:
        root.create_group("vars").attrs["name"] = "sequential"
        for group, (layer, weights) in zip(group_names([layer for layer, _ in layers]), layers, strict=True):
            if not weights:
                continue
            root.create_group(f"layers/{group}/vars").attrs["name"] = layer.name
            for part, by_name in weights.items():
                place = "/".join(filter(None, ("layers", group, WEIGHTED[layer.kind].parts[part], "vars")))
                variables = root.require_group(place)
                for k, array in enumerate(by_name.values()):  # in Keras' order
                    variables[str(k)] = array

    return _hdf5(fill)


def legacy_h5(layers: ExportedLayers, chain: KerasSequential, dtype: str) -> bytes:
    """Return the bytes of an ``.h5`` file with a whole model."""

    def fill(root: Any) -> None:
        versions = {"keras_version": chain.version, "backend": "numpy"}
        root.attrs.update({**versions, "model_config": json.dumps(architecture(chain, dtype))})
        group = root.create_group("model_weights")
        group.attrs.update({**versions, "layer_names": _names([layer.name for layer, _ in layers])})
        for layer, weights in layers:
            layer_group = group.create_group(layer.name)
            paths = dict(_paths(layer, weights))
            layer_group.attrs["weight_names"] = _names(list(paths))
            for path, array in paths.items():
                layer_group[path] = array
        group.create_group("top_level_model_weights").attrs["weight_names"] = _names([])

    return _hdf5(fill)


def _entry(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "config": config, "registered_name": None}


def _with_dtype(config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Return a configuration, and those of the layers that it wraps, with the dtype."""
    wrapped = {
        name: {**config[name], "config": _with_dtype(config[name]["config"], dtype)}
        for name in ("layer", "backward_layer")
        if name in config
    }
    return {**config, "trainable": True, "dtype": dtype, **wrapped}


def _paths(layer: KerasLayer, weights: Weights) -> Iterator[tuple[str, Array]]:
    """Yield the names of weights in the legacy format, and the weights."""
    for part, by_name in weights.items():
        wrapped = (
            [layer.config[{"forward": "layer", "backward": "backward_layer"}[part]]["config"]["name"]] if part else []
        )
        kind = layer.config["layer"]["class_name"] if layer.kind == "Bidirectional" else layer.kind
        cell = [CELLS[kind]] if kind in CELLS else []
        for name, array in by_name.items():
            yield "/".join([layer.name, *wrapped, *cell, name]), array


def _names(names: list[str]) -> Any:
    """Return names as an attribute: an array of variable-length text, which may be empty."""
    import h5py  # noqa: PLC0415 - optional

    return np.array(names, h5py.string_dtype())


def _hdf5(fill: Callable[[Any], None]) -> bytes:
    """Return the bytes of an HDF5 file with the content that `fill` writes."""
    try:
        import h5py  # noqa: PLC0415 - optional
    except ImportError:
        raise ImportError("writing Keras files requires h5py: pip install 'glasscell[keras]'") from None
    file = BytesIO()
    with h5py.File(file, "w", libver="earliest") as root:
        fill(root)
    return file.getvalue()
