"""Locate the weights of layers in Keras files, and infer layers from weights alone.

Keras 3 has groups that are named after the class of a layer, ``layers/lstm_1/cell/vars/0``; earlier versions have an
ordered list for each layer, by its name.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from glasscell.convert.keras.architecture import KerasLayer, unwrapped_config
from glasscell.convert.keras.hdf5 import Dataset, Group
from glasscell.convert.keras.kinds import NESTED, WEIGHTED, weight_names
from glasscell.core.types import Array
from glasscell.weight_layouts import check_weight

TRAINING = ("optimizer", "metrics", "seed_generator")  # entries for training only
INFERABLE = (
    "LSTM",
    "Bidirectional",
    "SimpleRNN",
    "GRU",
    "Dense",
    "TimeDistributed",
    "Embedding",
)  # kinds that weights determine
IDENTITY_AT_INFERENCE = (  # groups of layers that change nothing outside training
    *("input_layer", "dropout", "spatial_dropout1d", "gaussian_noise", "gaussian_dropout", "alpha_dropout"),
    "activity_regularization",
)
NORMS = ("BatchNormalization", "LayerNormalization")
MAX_NESTED = 8  # depth of nested models

Weights = dict[str, dict[str, Array]]  # of a layer: by direction, "" or "forward" and "backward", and by name
Datasets = dict[str, dict[str, Dataset]]  # the datasets of the same weights


class Source(Protocol):
    """Weights in a file.

    Attributes
    ----------
    root : Group
        The group that contains all of them.
    """

    root: Group

    def weights_of(self, layers: Sequence[KerasLayer]) -> list[Datasets]:
        """Return the weights of each layer."""

    def layers(self) -> "Iterator[InferredLayer]":
        """Yield each layer that the file names, without a configuration."""


class InferredLayer(NamedTuple):
    """A layer that is inferred from its weights.

    Attributes
    ----------
    name : str
    kind : str
        One of `INFERABLE`, "BatchNormalization" or "LayerNormalization"; "" for any other.
    weights : dict
        By direction and name; of a layer of another kind by their paths in its group. Empty if it has none.
    """

    name: str
    kind: str
    weights: Datasets


def read(datasets: Datasets) -> Weights:
    """Read the weights, except the count of a Normalization."""
    return {
        direction: {
            name: check_weight(dataset.path, dataset.read()) for name, dataset in weights.items() if name != "count"
        }
        for direction, weights in datasets.items()
    }


def check_all_used(source: Source, layers: Sequence[Datasets]) -> None:
    """Raise ValueError for weights that no layer uses, by name."""
    used = {dataset.path for weights in layers for by_name in weights.values() for dataset in by_name.values()}
    for dataset in source.root.datasets(exclude=TRAINING):
        if dataset.path not in used:
            raise ValueError(f"the weight {dataset.path} must belong to a layer of the model")


def group_names(layers: Sequence[KerasLayer]) -> list[str]:
    """Return the group of each layer with weights, "lstm", "lstm_1", …, or nested model; "" for others."""
    count: Counter[str] = Counter()
    groups = []
    for layer in layers:
        group = NESTED[layer.kind] if layer.layers else WEIGHTED[layer.kind].group if layer.kind in WEIGHTED else ""
        groups.append(f"{group}_{count[group]}" if group and count[group] else group)
        count[group] += 1
    return groups


class Keras3Weights:
    """Weights in the format of Keras 3, ``.keras`` and ``.weights.h5``.

    Parameters
    ----------
    root : Group
    """

    def __init__(self, root: Group) -> None:
        names = [name for name in ("layers", "_layer_checkpoint_dependencies") if name in root]  # second: Keras 2.13
        if not names:
            raise ValueError("it contains no Keras layers")
        self.root, self.groups = root, group_at(root, names[0])

    def weights_of(self, layers: Sequence[KerasLayer]) -> list[Datasets]:
        """Return the weights of each layer, also in nested models; {} for layers without weights."""
        return self._below(self.groups, layers)

    def _below(self, groups: Group, layers: Sequence[KerasLayer]) -> list[Datasets]:
        datasets: list[Datasets] = []
        for layer, group in zip(layers, group_names(layers), strict=True):
            if layer.layers:
                datasets += self._below(group_at(group_at(groups, group), "layers"), layer.layers)
                continue
            names = weight_names(layer.kind, unwrapped_config(layer))
            if names and group not in groups:
                raise ValueError(f"the layer {layer.name!r} has no weights: there is no {groups.path}/{group}")
            datasets.append(self._in(groups, group, layer.kind, names) if names else {})
        return datasets

    def _in(self, groups: Group, group: str, kind: str, names: Sequence[str] | None = None) -> Datasets:
        """Return the weights in the group of a layer, with these names. Default: all, in the order of the kind."""
        datasets: Datasets = {}
        for part, place in WEIGHTED[kind].parts.items():
            below = groups
            for name in (group, *filter(None, place.split("/")), "vars"):
                below = group_at(below, name)
            expected = WEIGHTED[kind].weights[: len(below)] if names is None else names
            if set(below) != {str(k) for k in range(len(expected))}:
                actual, required = ", ".join(below) or "nothing", ", ".join(names or WEIGHTED[kind].weights)
                raise ValueError(f"{below.path} must contain {required} for a {kind}, got {actual}")
            datasets[part] = {name: dataset_at(below, str(k)) for k, name in enumerate(expected)}
        return datasets

    def layers(self) -> Iterator[InferredLayer]:
        """Yield each layer, in order within a class; those of a nested model as "functional.lstm"."""
        yield from self._layers(self.groups, "", 0)

    def _layers(self, groups: Group, prefix: str, depth: int) -> Iterator[InferredLayer]:
        if depth > MAX_NESTED:
            raise ValueError(f"{groups.path} is a model in more than {MAX_NESTED} models")
        classes = {entry.group: kind for kind, entry in WEIGHTED.items()}
        ordered = [name for _, name in sorted((_numbered(name), name) for name in groups)]
        labels = {name: _label(group_at(groups, name), name) for name in ordered}
        if len(set(labels.values())) != len(labels):
            labels = {name: name for name in labels}
        for name in ordered:
            group, (base, _), label = group_at(groups, name), _numbered(name), f"{prefix}{labels[name]}"
            if base in NESTED.values() and "layers" in group:
                yield from self._layers(group_at(group, "layers"), f"{label}.", depth + 1)
                continue
            datasets = {dataset.path.removeprefix(f"{group.path}/"): dataset for dataset in group.datasets()}
            kind = classes.get(base, "")
            if (datasets and kind in INFERABLE) or (kind in NORMS and len(datasets) == len(WEIGHTED[kind].weights)):
                yield InferredLayer(label, kind, self._in(groups, name, kind))
            elif datasets or base not in IDENTITY_AT_INFERENCE:
                yield InferredLayer(label, "", {"": datasets} if datasets else {})


def _label(group: Group, name: str) -> str:
    """Return the name of a layer in Keras, if the file contains it."""
    return (group_at(group, "vars").text("name") if "vars" in group else None) or name


def group_at(group: Group, name: str) -> Group:
    """Return a subgroup of a group."""
    if name not in group:
        raise ValueError(f"{group.path.rstrip('/')}/{name} is missing")
    entry = group[name]
    if not isinstance(entry, Group):
        raise ValueError(f"{entry.path} must be a group")  # noqa: TRY004 - of a file, not of a call
    return entry


def dataset_at(group: Group, name: str) -> Dataset:
    """Return a dataset of a group."""
    if name not in group:
        raise ValueError(f"{group.path.rstrip('/')}/{name} is missing")
    entry = group[name]
    if not isinstance(entry, Dataset):
        raise ValueError(f"{entry.path} must be a dataset")  # noqa: TRY004 - of a file, not of a call
    return entry


def _numbered(group: str) -> tuple[str, int]:
    """Return the class and the number in the name of a group such as ``lstm_1``."""
    match = re.fullmatch(r"(\w+?)(?:_(\d{1,9}))?", group)
    return (match[1], int(match[2] or 0)) if match else (group, 0)
