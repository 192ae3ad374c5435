"""Where files of Keras keep the weights of which layer; and what weights alone say of the layers.

Since Keras 3, below groups that are named after the class of a layer, ``layers/lstm_1/cell/vars/0``; before, below the
layer's own name, in a list that is in order.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from glasscell.convert.codec import as_weight
from glasscell.convert.keras.chain import Chain, KerasLayer, inner
from glasscell.convert.keras.hdf5 import Dataset, Group
from glasscell.convert.keras.kinds import LSTM_WEIGHTS, NESTED, WEIGHTED, weight_names
from glasscell.core.typing import Array

TRAINING = ("optimizer", "metrics", "seed_generator")  # what Keras keeps beside weights, for training alone
INFERRED = ("LSTM", "Bidirectional", "Dense", "TimeDistributed", "Embedding")  # the kinds that weights alone show
NOTHING_AT_INFERENCE = (  # groups of layers that compute nothing outside training
    *("input_layer", "dropout", "spatial_dropout1d", "gaussian_noise", "gaussian_dropout", "alpha_dropout"),
    "activity_regularization",
)
MOST_INFERRED = 64  # layers whose order is looked for; more would take long where all sizes are alike

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

    def chain(self, order: Sequence[str] | None, *, return_sequences: bool | None) -> Chain:
        """The chain that the weights alone say; its settings are Keras' own defaults."""


class Inferred(NamedTuple):
    """A layer as its weights alone show it."""

    layer: KerasLayer
    inputs: int | None  # None where it takes symbols
    outputs: int


def read(found: Found) -> Weights:
    """The numbers, but not of how many values a Normalization has taken its mean and variance."""
    return {
        part: {name: as_weight(dataset.path, dataset.read()) for name, dataset in weights.items() if name != "count"}
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


class ByClass:
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
            names = weight_names(layer.kind, inner(layer))
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

    def chain(self, order: Sequence[str] | None, *, return_sequences: bool | None) -> Chain:
        """The one order in which the sizes fit; layers of a class are numbered in order."""
        classes = {of.group: kind for kind, of in WEIGHTED.items() if kind in INFERRED}
        groups = sorted((_numbered(name), name) for name in self.groups)
        called = {name: self._label(name) for _, name in groups}
        if len(set(called.values())) != len(called):
            called = {name: name for name in called}
        layers: dict[str, list[Inferred]] = {}
        for (base, _), name in groups:
            if base not in classes:
                if base in NOTHING_AT_INFERENCE:
                    continue
                raise ValueError(f"the weights do not say where {called[name]!r} stands and what it does: give config")
            layers.setdefault(base, []).append(
                inferred(classes[base], called[name], self._in(self.groups, name, classes[base]))
            )
        known = [one for of_class in layers.values() for one in of_class]
        chains = _orders(list(layers.values())) if order is None else [ordered(known, order)]
        shown = ", ".join(f"{layer.name} ({inputs or 'symbols'} to {outputs})" for layer, inputs, outputs in known)
        if len(chains) != 1:
            why = "in no order" if not chains else "in more than one order"
            raise ValueError(f"the layers {shown} fit {why}: give config, or order, their names from input to output")
        if order is not None and any([one for one in chains[0] if one in of] != of for of in layers.values()):
            raise ValueError(f"order contradicts the file, which numbers the layers of each class in order: {shown}")
        return Chain(with_settings(chains[0], return_sequences=return_sequences))

    def _label(self, name: str) -> str:
        """What the layer was called in Keras, where the file says it."""
        group = group_at(self.groups, name)
        label = group_at(group, "vars").text("name") if "vars" in group else None
        return label or name


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


def inferred(kind: str, name: str, found: Found) -> Inferred:
    """The layer that weights of these shapes belong to."""
    shapes = [{key: dataset.shape for key, dataset in of_part.items()} for of_part in found.values()]
    first, config = shapes[0], {"name": name}
    sizes = first.get(WEIGHTED[kind].weights[0], ())
    if len(sizes) != 2 or any(len(one) < len(WEIGHTED[kind].weights) - 1 for one in shapes):
        raise ValueError(f"the layer {name!r} has weights of the shapes {shapes[0]}, which are not those of a {kind}")
    if kind == "Embedding":
        return Inferred(
            KerasLayer(kind, name, {**config, "input_dim": sizes[0], "output_dim": sizes[1]}), None, sizes[1]
        )
    units = sizes[1] // 4 if WEIGHTED[kind].weights == LSTM_WEIGHTS else sizes[1]
    settings: dict[str, Any] = {**config, "units": units, "use_bias": "bias" in first}
    if kind in ("Bidirectional", "TimeDistributed"):
        wraps = "LSTM" if kind == "Bidirectional" else "Dense"
        settings = {**config, "layer": {"class_name": wraps, "config": settings}}
    return Inferred(KerasLayer(kind, name, settings), sizes[0], units * (2 if kind == "Bidirectional" else 1))


def _orders(classes: Sequence[Sequence[Inferred]]) -> list[list[Inferred]]:
    """The orders in which each layer takes what the one before gives, at most two; those of a class stay in order."""
    count = sum(map(len, classes))
    if count > MOST_INFERRED:
        raise ValueError(f"the order of {count} layers is not looked for: give config, or order")
    dead: set[tuple[tuple[int, ...], int | None]] = set()  # where no order goes on from

    def continued(taken: tuple[int, ...], features: int | None) -> Iterator[list[Inferred]]:
        if sum(taken) == count:
            yield []
        if (taken, features) in dead:
            return
        some = sum(taken) == count
        for k, of_class in enumerate(classes):
            one = of_class[taken[k]] if taken[k] < len(of_class) else None
            if one is not None and (one.inputs == features if sum(taken) else True):
                for rest in continued((*taken[:k], taken[k] + 1, *taken[k + 1 :]), one.outputs):
                    some = True
                    yield [one, *rest]
        if not some:
            dead.add((taken, features))

    search = continued((0,) * len(classes), None)
    return [chain for chain, _ in zip(search, range(2), strict=False)]


def ordered(layers: Sequence[Inferred], order: Sequence[str], *, as_it_is: bool = False) -> list[Inferred]:
    """The layers in the order of these names."""
    by_name = {one.layer.name: one for one in layers}
    if sorted(order) != sorted(by_name) or (as_it_is and list(order) != list(by_name)):
        raise ValueError(f"order is {', '.join(order)}; the layers of the file are {', '.join(by_name)}")
    return [by_name[name] for name in order]


def with_settings(layers: Sequence[Inferred], *, return_sequences: bool | None) -> tuple[KerasLayer, ...]:
    """With what no weights say: each LSTM that another LSTM follows returns sequences, and the last as it is said."""
    recurrent = [k for k, one in enumerate(layers) if one.layer.kind in ("LSTM", "Bidirectional")]
    behind = layers[recurrent[-1] :] if recurrent else []
    last = bool(return_sequences) or any(one.layer.kind == "TimeDistributed" for one in behind)
    found = []
    for k, (layer, _, _) in enumerate(layers):
        config: Mapping[str, Any] = layer.config
        if k in recurrent:
            sequences = {"return_sequences": k != recurrent[-1] or last}
            wrapped = layer.config.get("layer")
            if wrapped is None:
                config = {**config, **sequences}
            else:
                config = {**config, "layer": {**wrapped, "config": {**wrapped["config"], **sequences}}}
        found.append(layer._replace(config=dict(config)))
    return tuple(found)
