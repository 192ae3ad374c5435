"""Every LSTM of a Keras model, which may be any graph of any layers."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from glasscell.convert.keras.hdf5 import Group
from glasscell.convert.keras.json_values import entries, mapping
from glasscell.convert.keras.kinds import LSTM_WEIGHTS, NESTED, WEIGHTED
from glasscell.convert.keras.older import LegacyWeights, named_weights
from glasscell.convert.keras.weights import MAX_NESTED, Datasets, Keras3Weights, dataset_at, group_at, read
from glasscell.layers import LSTM

IGNORED_SETTINGS = ("dtype", "return_sequences", "return_state")  # and of how results are handed on
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class ConfiguredLayer(NamedTuple):
    """A layer in a configuration.

    Attributes
    ----------
    path : tuple of str
        The names of the models that it is in, and its own.
    groups : tuple of str
        The groups of the same in files of Keras 3.
    config : dict
    """

    path: tuple[str, ...]
    groups: tuple[str, ...]
    config: dict[str, Any]


def lstms(model: Mapping[str, Any], version: str, source: Keras3Weights | LegacyWeights) -> Iterator[tuple[str, LSTM]]:
    """Yield every LSTM and its name, "encoder.lstm" in a model in the model.

    Raises
    ------
    ValueError
        If one has settings that cannot be represented, or weights that do not fit, by name; or a file of Keras 3 has
        weights of an LSTM in a layer whose configuration does not show it.
    """
    used: set[str] = set()
    for layer in _configured_lstms(model.get("config"), (), ()):
        name = ".".join(layer.path)
        try:
            datasets = _by_class(source.groups, layer) if isinstance(source, Keras3Weights) else _by_name(source, layer)
            used |= {dataset.path for by_name in datasets.values() for dataset in by_name.values()}
            weights = read(datasets)
            arrays = [by_name[key] for by_name in weights.values() for key in LSTM_WEIGHTS if key in by_name]
            config = {key: value for key, value in layer.config.items() if key not in IGNORED_SETTINGS}
            yield name, LSTM.from_keras(arrays, **config, keras_version=version)
        except (ValueError, TypeError) as error:
            raise ValueError(f"the layer {name!r}: {error}") from None
    if isinstance(source, Keras3Weights):
        _check_rest(source.root, used)


def _configured_lstms(config: Any, path: tuple[str, ...], groups: tuple[str, ...]) -> Iterator[ConfiguredLayer]:
    """Yield the LSTMs below a model's configuration."""
    if len(path) > MAX_NESTED:
        raise ValueError(f"{'.'.join(path)} is a model in more than {MAX_NESTED} models")
    listed = entries(config.get("layers") if isinstance(config, Mapping) else config, "the layers of the model")
    count: Counter[str] = Counter()
    for entry in listed:
        layer = mapping(entry, "a layer")
        kind, layer_config = str(layer.get("class_name")), layer.get("config")
        settings = dict(layer_config) if isinstance(layer_config, Mapping) else {}
        group = NESTED.get(kind) or _WORD.sub("_", kind).lower()
        group_name = f"{group}_{count[group]}" if count[group] else group
        count[group] += 1
        below = (*path, str(settings.get("name", layer.get("name")))), (*groups, group_name)
        if kind in NESTED:
            yield from _configured_lstms(layer_config, *below)
        elif kind == "LSTM" or (kind == "Bidirectional" and _wrapped(settings) == "LSTM"):
            yield ConfiguredLayer(*below, settings)


def _wrapped(config: Mapping[str, Any]) -> Any:
    layer = config.get("layer")
    return layer.get("class_name") if isinstance(layer, Mapping) else None


def _by_class(groups: Group, layer: ConfiguredLayer) -> Datasets:
    *models, last = layer.groups
    for model in models:
        groups = group_at(group_at(groups, model), "layers")
    datasets: Datasets = {}
    for part, place in WEIGHTED["Bidirectional" if "layer" in layer.config else "LSTM"].parts.items():
        group = groups
        for name in (last, *place.split("/"), "vars"):
            group = group_at(group, name)
        datasets[part] = {key: dataset_at(group, str(k)) for k, key in enumerate(LSTM_WEIGHTS) if str(k) in group}
    return datasets


def _by_name(source: LegacyWeights, layer: ConfiguredLayer) -> Datasets:
    listed = source.listed.get(layer.path[0])
    if listed is None:
        raise ValueError("the file holds no weights of it")
    weights = [weight for weight in listed if len(layer.path) == 1 or layer.path[-1] in weight.folders]
    datasets = named_weights(layer.path[-1], weights)
    if "layer" in layer.config:
        return {part: datasets.get(part, datasets.get("", {})) for part in WEIGHTED["Bidirectional"].parts}
    return {"": {key: dataset for by_name in datasets.values() for key, dataset in by_name.items()}}


def _check_rest(root: Group, used: set[str]) -> None:
    """Raise an error for weights of an LSTM whose layer was not found."""
    for dataset in root.datasets():
        if dataset.path.endswith("cell/vars/1") and dataset.path not in used:
            rows, columns = (*dataset.shape, 0, 0)[:2]
            if columns == 4 * rows:
                raise ValueError(f"{dataset.path} is a weight of an LSTM in a layer whose settings are not in the file")
