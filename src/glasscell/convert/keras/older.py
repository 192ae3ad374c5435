"""Weights in the legacy Keras format: an ordered list for each layer, by its name."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from glasscell.convert.keras.architecture import KERAS_1_ADVICE, KerasLayer, unwrapped_config
from glasscell.convert.keras.hdf5 import Dataset, Group
from glasscell.convert.keras.kinds import WEIGHTED, weight_names
from glasscell.convert.keras.weights import NORMS, Datasets, InferredLayer, dataset_at, group_at


class Listed(NamedTuple):
    """A weight of the older format.

    Attributes
    ----------
    folders : tuple of str
        The groups that it is in, below that of its layer.
    name : str
        Its name in the layer.
    dataset : Dataset
    """

    folders: tuple[str, ...]
    name: str
    dataset: Dataset


class LegacyWeights:
    """The weights of the older format, ``.h5``.

    Parameters
    ----------
    group : Group
        With the list of layers.
    version : str
        Of the Keras that wrote it.
    """

    def __init__(self, group: Group, version: str) -> None:
        self.root, self.version = group, version
        self.listed = {name: _listed_weights(group_at(group, name)) for name in _listed(group, "layer_names")}

    def weights_of(self, layers: Sequence[KerasLayer]) -> list[Datasets]:
        """Return the weights of each layer, in the order of Keras."""
        stored = {name: weights for name, weights in self.listed.items() if weights}
        weighted = [layer for layer in layers if _has_weights(layer)]
        if len(weighted) != len(stored):
            raise ValueError(
                f"the model has {len(weighted)} layers with weights, and the file weights of {len(stored)}"
            )
        rest = iter(stored.items())
        datasets: list[Datasets] = []
        for layer in layers:
            name, weights = next(rest) if _has_weights(layer) else ("", [])
            datasets += self._layer_weights(layer, name, weights)
        return datasets

    def _layer_weights(self, layer: KerasLayer, name: str, weights: Sequence[Listed]) -> list[Datasets]:
        """Return the weights of a layer, or of each layer of a nested model."""
        if layer.layers:
            return self._nested_weights(layer, name, weights)
        if not weights:
            return [{}]
        parts, expected = named_weights(name, weights), WEIGHTED[layer.kind].parts
        if len(parts) == 2 and "" in parts:  # the layer of one direction may be called anything
            parts = {direction: parts.get(direction, parts[""]) for direction in ("forward", "backward")}
        if "" in expected:
            parts = {"": {key: one for by_name in parts.values() for key, one in by_name.items()}}
        if set(parts) != set(expected):
            raise ValueError(f"the weights of {name!r} are not those of the {layer.kind} {layer.name!r}")
        return [parts]

    def _nested_weights(self, model: KerasLayer, name: str, weights: Sequence[Listed]) -> list[Datasets]:
        """Return the weights of each layer of a nested model, whose name is in their path."""
        by_layer: dict[str, list[Listed]] = {layer.name: [] for layer in model.layers}
        for weight in weights:
            owner = next((folder for folder in weight.folders if folder in by_layer), None)
            if owner is None:
                raise ValueError(f"the weight {weight.dataset.path} must belong to a layer of {model.name!r}")
            by_layer[owner].append(weight)
        for layer in model.layers:
            if bool(by_layer[layer.name]) != _has_weights(layer):
                raise ValueError(f"the weights of {name!r} are not those of its layer {layer.name!r}")
        return [
            datasets
            for layer in model.layers
            for datasets in self._layer_weights(layer, layer.name, by_layer[layer.name])
        ]

    def layers(self) -> Iterator[InferredLayer]:
        """Yield each layer in the order of the file."""
        for k, (name, weights) in enumerate(self.listed.items()):
            if not weights:
                if k or not name.startswith("input"):
                    yield InferredLayer(name, "", {})
                continue
            kind, datasets = _inferred_kind(named_weights(name, weights))
            if kind in ("LSTM", "Bidirectional") and _before_2_3(self.version):
                raise ValueError(
                    f"Keras {self.version} wrote it, where an LSTM has one of two recurrent activations: give config"
                )
            yield InferredLayer(name, kind, datasets)


def _inferred_kind(datasets: Datasets) -> tuple[str, Datasets]:
    """Infer the kind of a layer from the names of its weights; return it with the weights by direction, or by path."""
    names = {key for by_name in datasets.values() for key in by_name}
    if set(datasets) == set(WEIGHTED["Bidirectional"].parts) and {"kernel", "recurrent_kernel"} <= names:
        return "Bidirectional", datasets
    merged = {key: dataset for by_name in datasets.values() for key, dataset in by_name.items()}
    if len(merged) == sum(map(len, datasets.values())):
        for kind in ("LSTM", "Dense", "Embedding", *NORMS):
            expected = WEIGHTED[kind].weights
            required = (
                {expected[0], "recurrent_kernel"} if kind == "LSTM" else {*expected} if kind in NORMS else {expected[0]}
            )
            if required <= names <= set(expected):
                return kind, {"": merged}
    return "", {"": {dataset.path: dataset for by_name in datasets.values() for dataset in by_name.values()}}


def _listed(group: Group, attribute: str) -> list[str]:
    """Return a list of names, which Keras splits into several attributes if it is long."""
    names = group.texts(attribute)
    if names is None:
        names, parts = [], 0
        while (part := group.texts(f"{attribute}{parts}")) is not None:
            names += part
            parts += 1
        if not parts:
            raise ValueError(f"{group.path} has no list {attribute}")
    if len(set(names)) != len(names):
        raise ValueError(f"{attribute} of {group.path} has a name twice")
    return names


def _listed_weights(group: Group) -> list[Listed]:
    """Return the weights of a layer, from names such as ``bidirectional/forward_lstm/lstm_cell/kernel:0``."""
    listed = []
    for path in _listed(group, "weight_names"):
        *folders, last = [name for name in path.split("/") if name]
        below = group
        for name in folders:
            below = group_at(below, name)
        if re.search(r"_[WUb](_[ifco])?(:0)?$", last):  # lstm_1_W_i
            raise ValueError(KERAS_1_ADVICE)
        listed.append(Listed(tuple(folders), re.sub(r"(_\d+)?(:0)?$", "", last), dataset_at(below, last)))
    return listed


def named_weights(layer: str, weights: Sequence[Listed]) -> Datasets:
    """Return the weights of a layer by direction and name."""
    datasets: Datasets = {}
    for weight in weights:
        matches = (re.match("(forward|backward)_", name) for name in reversed(weight.folders) if name != layer)
        part = next((match[1] for match in matches if match), "")
        by_name = datasets.setdefault(part, {})
        if weight.name in by_name:
            raise ValueError(f"the layer {layer!r} has the weight {weight.name!r} twice")
        by_name[weight.name] = weight.dataset
    return datasets


def _has_weights(layer: KerasLayer) -> bool:
    if layer.layers:
        return any(map(_has_weights, layer.layers))
    return bool(weight_names(layer.kind, unwrapped_config(layer)))


def _before_2_3(version: str) -> bool:
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is None or (int(numbers[1]), int(numbers[2])) < (2, 3)
