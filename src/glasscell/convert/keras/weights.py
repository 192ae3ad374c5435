"""Where files of Keras keep the weights of which layer; and what weights alone say of the layers.

Since Keras 3, below groups that are named after the class of a layer, ``layers/lstm_1/cell/vars/0``; before, below the
layer's own name, in a list that is in order.
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

TRAINING = ("optimizer", "metrics", "seed_generator")  # entries that Keras keeps for training only
SHOWN = (
    "LSTM",
    "Bidirectional",
    "SimpleRNN",
    "GRU",
    "Dense",
    "TimeDistributed",
    "Embedding",
)  # the kinds that weights alone show
NOTHING_AT_INFERENCE = (  # groups of layers that compute nothing outside training
    *("input_layer", "dropout", "spatial_dropout1d", "gaussian_noise", "gaussian_dropout", "alpha_dropout"),
    "activity_regularization",
)
NORMS = ("BatchNormalization", "LayerNormalization")
MAX_NESTED = 8  # models in models

Weights = dict[str, dict[str, Array]]  # of a layer: by part, "" or "forward" and "backward", and by name
Found = dict[str, dict[str, Dataset]]  # the same, not yet read


class Source(Protocol):
    """A file's weights.

    Attributes
    ----------
    root : Group
        Where all of them are.
    """

    root: Group

    def of(self, layers: Sequence[KerasLayer]) -> list[Found]:
        """The weights of each of the layers of a chain."""

    def layers(self) -> "Iterator[FoundLayer]":
        """Yield each layer that the file names, without a configuration."""


class FoundLayer(NamedTuple):
    """A layer as its weights alone show it.

    Attributes
    ----------
    name : str
    kind : str
        One of `SHOWN`, "BatchNormalization" or "LayerNormalization"; "" for any other.
    weights : dict
        By part and name; of a layer of another kind by their places in it. Empty if it has none.
    """

    name: str
    kind: str
    weights: Found


def read(found: Found) -> Weights:
    """The numbers, but not of how many values a Normalization has taken its mean and variance."""
    return {
        part: {name: check_weight(dataset.path, dataset.read()) for name, dataset in weights.items() if name != "count"}
        for part, weights in found.items()
    }


def check_all_taken(source: Source, found: Sequence[Found]) -> None:
    """Refuse weights that no layer has, by name."""
    taken = {one.path for of_layer in found for of_part in of_layer.values() for one in of_part.values()}
    for dataset in source.root.datasets(but=TRAINING):
        if dataset.path not in taken:
            raise ValueError(f"{dataset.path} is a weight of none of the model's layers")


def numbered(layers: Sequence[KerasLayer]) -> list[str]:
    """The group of each layer with weights, "lstm", "lstm_1", …, or of a model with layers; "" for the others."""
    count: Counter[str] = Counter()
    groups = []
    for layer in layers:
        group = NESTED[layer.kind] if layer.layers else WEIGHTED[layer.kind].group if layer.kind in WEIGHTED else ""
        groups.append(f"{group}_{count[group]}" if group and count[group] else group)
        count[group] += 1
    return groups


class Keras3Weights:
    """The weights of Keras 3, in ``.keras`` and ``.weights.h5``.

    Parameters
    ----------
    root : Group
    """

    def __init__(self, root: Group) -> None:
        names = [name for name in ("layers", "_layer_checkpoint_dependencies") if name in root]  # second: Keras 2.13
        if not names:
            raise ValueError("it holds no layers of Keras")
        self.root, self.groups = root, group_at(root, names[0])

    def of(self, layers: Sequence[KerasLayer]) -> list[Found]:
        """The weights of each layer of a chain, also in models among them; {} for those that have none."""
        return self._below(self.groups, layers)

    def _below(self, groups: Group, layers: Sequence[KerasLayer]) -> list[Found]:
        found: list[Found] = []
        for layer, group in zip(layers, numbered(layers), strict=True):
            if layer.layers:
                found += self._below(group_at(group_at(groups, group), "layers"), layer.layers)
                continue
            names = weight_names(layer.kind, unwrapped_config(layer))
            if names and group not in groups:
                raise ValueError(f"the layer {layer.name!r} has no weights: there is no {groups.path}/{group}")
            found.append(self._in(groups, group, layer.kind, names) if names else {})
        return found

    def _in(self, groups: Group, group: str, kind: str, names: Sequence[str] | None = None) -> Found:
        """The weights in the group of a layer: these, or as many of its kind as there are."""
        found: Found = {}
        for part, place in WEIGHTED[kind].parts.items():
            below = groups
            for name in (group, *filter(None, place.split("/")), "vars"):
                below = group_at(below, name)
            expected = WEIGHTED[kind].weights[: len(below)] if names is None else names
            if set(below) != {str(k) for k in range(len(expected))}:
                held, has = ", ".join(below) or "nothing", ", ".join(names or WEIGHTED[kind].weights)
                raise ValueError(f"{below.path} holds {held}, and a {kind} has {has}")
            found[part] = {name: dataset_at(below, str(k)) for k, name in enumerate(expected)}
        return found

    def layers(self) -> Iterator[FoundLayer]:
        """Yield each layer, those of a class in order; of a model in the model as "functional.lstm"."""
        yield from self._layers(self.groups, "", 0)

    def _layers(self, groups: Group, prefix: str, depth: int) -> Iterator[FoundLayer]:
        if depth > MAX_NESTED:
            raise ValueError(f"{groups.path} is a model in more than {MAX_NESTED} models")
        classes = {of.group: kind for kind, of in WEIGHTED.items()}
        ordered = [name for _, name in sorted((_numbered(name), name) for name in groups)]
        labels = {name: _label(group_at(groups, name), name) for name in ordered}
        if len(set(labels.values())) != len(labels):
            labels = {name: name for name in labels}
        for name in ordered:
            group, (base, _), label = group_at(groups, name), _numbered(name), f"{prefix}{labels[name]}"
            if base in NESTED.values() and "layers" in group:
                yield from self._layers(group_at(group, "layers"), f"{label}.", depth + 1)
                continue
            held = {one.path.removeprefix(f"{group.path}/"): one for one in group.datasets()}
            kind = classes.get(base, "")
            if (held and kind in SHOWN) or (kind in NORMS and len(held) == len(WEIGHTED[kind].weights)):
                yield FoundLayer(label, kind, self._in(groups, name, kind))
            elif held or base not in NOTHING_AT_INFERENCE:
                yield FoundLayer(label, "", {"": held} if held else {})


def _label(group: Group, name: str) -> str:
    """Return what a layer was called in Keras, where the file says it."""
    return (group_at(group, "vars").text("name") if "vars" in group else None) or name


def group_at(group: Group, name: str) -> Group:
    """A group in a group."""
    if name not in group:
        raise ValueError(f"there is no {group.path.rstrip('/')}/{name}")
    found = group[name]
    if not isinstance(found, Group):
        raise ValueError(f"{found.path} is no group")  # noqa: TRY004 - of a file, not of a call
    return found


def dataset_at(group: Group, name: str) -> Dataset:
    """A dataset in a group."""
    if name not in group:
        raise ValueError(f"there is no {group.path.rstrip('/')}/{name}")
    found = group[name]
    if not isinstance(found, Dataset):
        raise ValueError(f"{found.path} is no dataset")  # noqa: TRY004 - of a file, not of a call
    return found


def _numbered(group: str) -> tuple[str, int]:
    """The class and the number that the name of a group says: ``lstm_1``."""
    match = re.fullmatch(r"(\w+?)(?:_(\d{1,9}))?", group)
    return (match[1], int(match[2] or 0)) if match else (group, 0)
