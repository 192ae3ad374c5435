"""Files of Keras, put together from layers of Keras and their weights."""

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from typing import Any

import numpy as np

from glasscell.convert.keras.architecture import KerasLayer, KerasSequential
from glasscell.convert.keras.kinds import WEIGHTED
from glasscell.convert.keras.weights import Weights, numbered
from glasscell.core.types import Array

CELLS = {"LSTM": "lstm_cell", "SimpleRNN": "simple_rnn_cell", "GRU": "gru_cell"}
NEVER_TRAINABLE = ("SpatialDropout1D",)  # layers that Keras does not let be called that

Described = list[tuple[KerasLayer, Weights]]


def architecture(chain: KerasSequential, dtype: str) -> dict[str, Any]:
    """What Keras calls the configuration of a model."""
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
            _entry(layer.kind, _of_dtype(layer.config, dtype) if trainable else layer.config | {"dtype": dtype})
        )
    config = {"name": "sequential", "trainable": True, "dtype": dtype, "layers": entries}
    return {"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None}


def keras_file(layers: Described, chain: KerasSequential, dtype: str) -> bytes:
    """A ``.keras`` file."""
    contents = {
        "metadata.json": json.dumps({"keras_version": chain.version}).encode(),
        "config.json": json.dumps(architecture(chain, dtype)).encode(),
        "model.weights.h5": weights_h5(layers),
    }
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archived:
        for name, content in contents.items():
            archived.writestr(zipfile.ZipInfo(name), content)  # of 1980: the same contents are the same bytes
    return file.getvalue()


def weights_h5(layers: Described) -> bytes:
    """A ``.weights.h5`` file."""

    def fill(root: Any) -> None:
        root.create_group("vars").attrs["name"] = "sequential"
        for group, (layer, weights) in zip(numbered([layer for layer, _ in layers]), layers, strict=True):
            if not weights:
                continue
            root.create_group(f"layers/{group}/vars").attrs["name"] = layer.name
            for part, of_part in weights.items():
                place = "/".join(filter(None, ("layers", group, WEIGHTED[layer.kind].parts[part], "vars")))
                variables = root.require_group(place)
                for k, array in enumerate(of_part.values()):  # in Keras' order
                    variables[str(k)] = array

    return _hdf5(fill)


def legacy_h5(layers: Described, chain: KerasSequential, dtype: str) -> bytes:
    """A whole model as an ``.h5`` file."""

    def fill(root: Any) -> None:
        said = {"keras_version": chain.version, "backend": "numpy"}
        root.attrs.update({**said, "model_config": json.dumps(architecture(chain, dtype))})
        group = root.create_group("model_weights")
        group.attrs.update({**said, "layer_names": _names([layer.name for layer, _ in layers])})
        for layer, weights in layers:
            of_layer = group.create_group(layer.name)
            paths = dict(_paths(layer, weights))
            of_layer.attrs["weight_names"] = _names(list(paths))
            for path, array in paths.items():
                of_layer[path] = array
        group.create_group("top_level_model_weights").attrs["weight_names"] = _names([])

    return _hdf5(fill)


def _entry(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "config": config, "registered_name": None}


def _of_dtype(config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """A configuration, and those of the layers that it wraps, with the dtype."""
    wrapped = {
        name: {**config[name], "config": _of_dtype(config[name]["config"], dtype)}
        for name in ("layer", "backward_layer")
        if name in config
    }
    return {**config, "trainable": True, "dtype": dtype, **wrapped}


def _paths(layer: KerasLayer, weights: Weights) -> Iterator[tuple[str, Array]]:
    """The names of weights in the older format."""
    for part, of_part in weights.items():
        way = [layer.config[{"forward": "layer", "backward": "backward_layer"}[part]]["config"]["name"]] if part else []
        kind = layer.config["layer"]["class_name"] if layer.kind == "Bidirectional" else layer.kind
        cell = [CELLS[kind]] if kind in CELLS else []
        for name, array in of_part.items():
            yield "/".join([layer.name, *way, *cell, name]), array


def _names(names: list[str]) -> Any:
    """A list of names as an attribute: as text of any length, of which there may be none."""
    import h5py  # noqa: PLC0415 - optional

    return np.array(names, h5py.string_dtype())


def _hdf5(fill: Callable[[Any], None]) -> bytes:
    """An HDF5 file of what is put into it."""
    try:
        import h5py  # noqa: PLC0415 - optional
    except ImportError:
        raise ImportError("files of Keras are written with h5py: pip install -e '.[keras]'") from None
    file = BytesIO()
    with h5py.File(file, "w", libver="earliest") as root:
        fill(root)
    return file.getvalue()
