"""Where files of Keras keep the weights of which layer; and what weights alone say of the layers.

Since Keras 3, below groups that are named after the class of a layer, ``layers/lstm_1/cell/vars/0``; before, below the
layer's own name, in a list that is in order.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from glasscell.convert.codec import as_weight
from glasscell.convert.keras.chain import WEIGHTED, Chain, KerasLayer
from glasscell.convert.keras.hdf5 import Dataset, Group
from glasscell.core.typing import Array

LSTM_WEIGHTS, DENSE_WEIGHTS, EMBEDDING_WEIGHTS = (
    ("kernel", "recurrent_kernel", "bias"),
    ("kernel", "bias"),
    ("embeddings",),
)
NAMES = {  # the weights of a layer in the order in which files number them
    "LSTM": LSTM_WEIGHTS,
    "Bidirectional": LSTM_WEIGHTS,
    "Dense": DENSE_WEIGHTS,
    "TimeDistributed": DENSE_WEIGHTS,
    "Embedding": EMBEDDING_WEIGHTS,
}
PARTS = {  # a layer's parts that have weights, and where in its group they are
    "LSTM": {"": "cell"},
    "Bidirectional": {"forward": "forward_layer/cell", "backward": "backward_layer/cell"},
    "Dense": {"": ""},
    "TimeDistributed": {"": "layer"},
    "Embedding": {"": ""},
}
TRAINING = ("optimizer", "metrics", "seed_generator")  # what Keras keeps beside weights, for training alone
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
    """The numbers."""
    return {
        part: {name: as_weight(dataset.path, dataset.read()) for name, dataset in weights.items()}
        for part, weights in found.items()
    }


def check_all_taken(source: Source, found: Sequence[Found]) -> None:
    """Refuse weights that no layer has, by name."""
    taken = {one.path for of_layer in found for of_part in of_layer.values() for one in of_part.values()}
    for dataset in source.root.datasets(but=TRAINING):
        if dataset.path not in taken:
            raise ValueError(f"{dataset.path} is a weight of none of the model's layers")


def numbered(layers: Sequence[KerasLayer]) -> list[str]:
    """The group of each layer with weights, "lstm", "lstm_1", …; "" for the others."""
    count: Counter[str] = Counter()
    groups = []
    for layer in layers:
        group = WEIGHTED.get(layer.kind, "")
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
        """The weights of each of the layers of a chain; {} for those that have none."""
        found: list[Found] = []
        for layer, group in zip(layers, numbered(layers), strict=True):
            if group and group not in self.groups:
                raise ValueError(f"the layer {layer.name!r} has no weights: there is no {self.groups.path}/{group}")
            found.append(self._in(group, layer.kind) if group else {})
        return found

    def _in(self, group: str, kind: str) -> Found:
        """The weights in the group of a layer."""
        found: Found = {}
        for part, place in PARTS[kind].items():
            below = self.groups
            for name in (group, *filter(None, place.split("/")), "vars"):
                below = group_at(below, name)
            if set(below) != {str(k) for k in range(len(below))} or len(below) > len(NAMES[kind]):
                raise ValueError(f"{below.path} holds {', '.join(below) or 'nothing'}, and a {kind} has {NAMES[kind]}")
            names = NAMES[kind][: len(below)]
            found[part] = {name: dataset_at(below, str(k)) for k, name in enumerate(names)}
        return found

    def chain(self, order: Sequence[str] | None, *, return_sequences: bool | None) -> Chain:
        """The one order in which the sizes fit; layers of a class are numbered in order."""
        classes = {group: kind for kind, group in WEIGHTED.items()}
        groups = sorted((_numbered(name), name) for name in self.groups)
        called = {name: self._label(name) for _, name in groups}
        if len(set(called.values())) != len(called):
            called = {name: name for name in called}
        layers: dict[str, list[Inferred]] = {}
        for (base, _), name in groups:
            if base not in classes:
                if base == "input_layer":
                    continue
                raise ValueError(f"the weights do not say where {called[name]!r} stands and what it does: give config")
            layers.setdefault(base, []).append(_inferred(classes[base], called[name], self._in(name, classes[base])))
        known = [one for of_class in layers.values() for one in of_class]
        chains = _orders(list(layers.values())) if order is None else [_ordered(known, order)]
        shown = ", ".join(f"{layer.name} ({inputs or 'symbols'} to {outputs})" for layer, inputs, outputs in known)
        if len(chains) != 1:
            why = "in no order" if not chains else "in more than one order"
            raise ValueError(f"the layers {shown} fit {why}: give config, or order, their names from input to output")
        if order is not None and any([one for one in chains[0] if one in of] != of for of in layers.values()):
            raise ValueError(f"order contradicts the file, which numbers the layers of each class in order: {shown}")
        return Chain(_with_settings(chains[0], return_sequences=return_sequences))

    def _label(self, name: str) -> str:
        """What the layer was called in Keras, where the file says it."""
        group = group_at(self.groups, name)
        label = group_at(group, "vars").text("name") if "vars" in group else None
        return label or name


class ByName:
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
        self.layers = {name: _named_weights(group_at(group, name)) for name in _listed(group, "layer_names")}

    def of(self, layers: Sequence[KerasLayer]) -> list[Found]:
        """The weights of each of the layers of a chain, one after the other as Keras takes them."""
        having = {name: found for name, found in self.layers.items() if found}
        taking = [layer for layer in layers if layer.kind in WEIGHTED]
        if len(taking) != len(having):
            raise ValueError(f"the model has {len(taking)} layers with weights, and the file weights of {len(having)}")
        rest = iter(having.items())
        found: list[Found] = []
        for layer in layers:
            name, parts = next(rest) if layer.kind in WEIGHTED else ("", {})
            expected = PARTS.get(layer.kind, {})
            if len(parts) == 2 and "" in parts:  # the layer of one direction may be called anything
                parts = {way: parts.get(way, parts[""]) for way in ("forward", "backward")}
            if layer.kind in WEIGHTED and "" in expected:
                parts = {"": {key: one for of_part in parts.values() for key, one in of_part.items()}}
            if set(parts) != set(expected):
                raise ValueError(f"the weights of {name!r} are not those of the {layer.kind} {layer.name!r}")
            found.append(parts)
        return found

    def chain(self, order: Sequence[str] | None, *, return_sequences: bool | None) -> Chain:
        """The layers in the order of the file."""
        layers = []
        for k, (name, found) in enumerate(self.layers.items()):
            if not found and k == 0 and name.startswith("input"):
                continue
            if not found:
                raise ValueError(f"the weights do not say what the layer {name!r} does: give config")
            names = {key for of_part in found.values() for key in of_part}
            kind = next((kind for kind, known in NAMES.items() if names <= set(known) and known[0] in names), None)
            if kind == "LSTM" and set(found) == set(PARTS["Bidirectional"]):
                kind = "Bidirectional"
            if kind == "LSTM" and "recurrent_kernel" not in names:
                kind = "Dense"
            if kind is None:
                raise ValueError(f"the layer {name!r} has the weights {', '.join(names)}, which cannot be represented")
            layers.append(_inferred(kind, name, found))
        if order is not None:
            layers = _ordered(layers, order, as_it_is=True)
        if any(one.layer.kind in ("LSTM", "Bidirectional") for one in layers) and _before_2_3(self.version):
            raise ValueError(
                f"Keras {self.version} wrote it, where an LSTM has one of two recurrent activations: give config"
            )
        return Chain(_with_settings(layers, return_sequences=return_sequences), self.version)


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


def _listed(group: Group, attribute: str) -> list[str]:
    """A list of names, which Keras cuts into several attributes where it is long."""
    names = group.texts(attribute)
    if names is None:
        names, parts = [], 0
        while (part := group.texts(f"{attribute}{parts}")) is not None:
            names, parts = names + part, parts + 1
        if not parts:
            raise ValueError(f"{group.path} has no list {attribute}")
    if len(set(names)) != len(names):
        raise ValueError(f"{attribute} of {group.path} has a name twice")
    return names


def _named_weights(group: Group) -> Found:
    """The weights of a layer by part and name, from such names as ``bidirectional/forward_lstm/lstm_cell/kernel:0``."""
    found: Found = {}
    own = group.path.rsplit("/", maxsplit=1)[-1]
    for path in _listed(group, "weight_names"):
        *folders, last = [name for name in path.split("/") if name]
        below = group
        for name in folders:
            below = group_at(below, name)
        ways = (re.match("(forward|backward)_", name) for name in reversed(folders) if name != own)
        part = next((match[1] for match in ways if match), "")
        name = re.sub(r"(_\d+)?(:0)?$", "", last)
        of_part = found.setdefault(part, {})
        if name in of_part:
            raise ValueError(f"{group.path} has the weight {name!r} twice")
        of_part[name] = dataset_at(below, last)
    return found


def _numbered(group: str) -> tuple[str, int]:
    """The class and the number that the name of a group says: ``lstm_1``."""
    match = re.fullmatch(r"(\w+?)(?:_(\d{1,9}))?", group)
    return (match[1], int(match[2] or 0)) if match else (group, 0)


def _before_2_3(version: str) -> bool:
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is None or (int(numbers[1]), int(numbers[2])) < (2, 3)


def _inferred(kind: str, name: str, found: Found) -> Inferred:
    """The layer that weights of these shapes belong to."""
    shapes = [{key: dataset.shape for key, dataset in of_part.items()} for of_part in found.values()]
    first, config = shapes[0], {"name": name}
    sizes = first.get(NAMES[kind][0], ())
    if len(sizes) != 2 or any(len(one) < len(NAMES[kind]) - 1 for one in shapes):
        raise ValueError(f"the layer {name!r} has weights of the shapes {shapes[0]}, which are not those of a {kind}")
    if kind == "Embedding":
        return Inferred(
            KerasLayer(kind, name, {**config, "input_dim": sizes[0], "output_dim": sizes[1]}), None, sizes[1]
        )
    units = sizes[1] // 4 if NAMES[kind] == LSTM_WEIGHTS else sizes[1]
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


def _ordered(layers: Sequence[Inferred], order: Sequence[str], *, as_it_is: bool = False) -> list[Inferred]:
    """The layers in the order of these names."""
    by_name = {one.layer.name: one for one in layers}
    if sorted(order) != sorted(by_name) or (as_it_is and list(order) != list(by_name)):
        raise ValueError(f"order is {', '.join(order)}; the layers of the file are {', '.join(by_name)}")
    return [by_name[name] for name in order]


def _with_settings(layers: Sequence[Inferred], *, return_sequences: bool | None) -> tuple[KerasLayer, ...]:
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
