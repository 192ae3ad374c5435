"""What a value of a graph is: a constant, or the output of the layers so far with its axes in some order.

A graph transposes, reshapes and slices what a chain of layers just hands on. Here that is undone by bookkeeping: each
axis of a value is a group of *atoms*, such as time, batch or units, and moving axes about moves groups of atoms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from glasscell.layers import LSTM, FinalState, Step
from glasscell.models.sequential import Layer


class Refusal(ValueError):  # noqa: N818 - what it is called in a sentence
    """What cannot be represented: the end of a sentence that begins with the node's name."""


@dataclass(frozen=True, eq=False)
class Atom:
    """What one axis, or a part of one, runs over. Each is itself alone, whatever its size."""

    size: int


Axis = tuple[Atom, ...]


@dataclass(frozen=True, eq=False)
class Link:
    """A layer, and the one before it."""

    before: Link | None
    layer: Layer
    name: str


@dataclass(frozen=True)
class View:
    """The output of a link, or an input of the graph, with its axes as a node sees them.

    Attributes
    ----------
    link : Link or None
        None for an input of the graph.
    axes : tuple of Axis
    features : Axis
        The atoms of the features, in order; empty where that is not known yet.
    source : str
        The input of the graph that it comes from.
    time, batch : Atom, optional
        Once an LSTM has said which they are.
    rows : tuple of int, optional
        Of an input for initial states: which of its entries.
    """

    link: Link | None
    axes: tuple[Axis, ...]
    features: Axis
    source: str
    time: Atom | None = None
    batch: Atom | None = None
    rows: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return sizes(self.axes)


@dataclass(frozen=True)
class States:
    """Final states of LSTMs, with their axes as a node sees them.

    Attributes
    ----------
    kind : "h" or "c"
    entries : tuple of (View, int)
        What each entry along `along` is: the LSTM's output, and the number of its direction.
    along : Atom
    """

    kind: Literal["h", "c"]
    entries: tuple[tuple[View, int], ...]
    along: Atom
    axes: tuple[Axis, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return sizes(self.axes)


Value = View | States


def sizes(axes: Sequence[Axis]) -> tuple[int, ...]:
    """The sizes of axes."""
    return tuple(prod(atom.size for atom in axis) for axis in axes)


def with_axes(value: Value, axes: Sequence[Axis]) -> Value:
    """The same with other axes."""
    return replace(value, axes=tuple(axes))


def transposed(value: Value, order: Sequence[int]) -> Value:
    """Axes in another order."""
    return with_axes(value, [value.axes[k] for k in order])


def reshaped(value: Value, target: Sequence[int], *, allow_zero: bool) -> Value:
    """Neighbouring atoms grouped anew."""
    wanted = [value.shape[k] if size == 0 and not allow_zero else size for k, size in enumerate(target)]
    if -1 in wanted:
        rest = prod(size for size in wanted if size != -1)
        wanted[wanted.index(-1)] = prod(value.shape) // rest if rest else 0
    atoms = [atom for axis in value.axes for atom in axis]
    axes: list[Axis] = []
    for size in wanted:
        group: list[Atom] = []
        while atoms and (prod(a.size for a in group) < size or (atoms[0].size == 1 and not group)):
            group.append(atoms.pop(0))
        if prod(a.size for a in group) != size:
            raise Refusal(f"reshapes {value.shape} to {tuple(target)}, which splits or mixes what belongs together")
        axes.append(tuple(group))
    if any(atom.size != 1 for atom in atoms):
        raise Refusal(f"reshapes {value.shape} to {tuple(target)}, which leaves something out")
    if atoms and axes:
        axes[-1] = (*axes[-1], *atoms)
    return with_axes(value, axes)


def unsqueezed(value: Value, places: Sequence[int]) -> Value:
    """New axes of size 1."""
    rank = len(value.axes) + len(places)
    axes = list(value.axes)
    for place in sorted(k % rank for k in places):
        axes.insert(place, ())
    return with_axes(value, axes)


def squeezed(value: Value, places: Sequence[int] | None) -> Value:
    """Without axes of size 1."""
    rank = len(value.axes)
    gone = [k for k, n in enumerate(value.shape) if n == 1] if places is None else [k % rank for k in places]
    for k in sorted(gone, reverse=True):
        if value.shape[k] != 1:
            raise Refusal(f"squeezes an axis of size {value.shape[k]}")
        value = taken(value, k, 0)
    return value


def taken(value: Value, axis: int, index: int) -> Value:
    """One place along an axis, which is then gone."""
    group, rest = value.axes[axis], [*value.axes[:axis], *value.axes[axis + 1 :]]
    if isinstance(value, States):
        if real(group) == real((value.along,)) and value.along in group:
            return replace(value, entries=(value.entries[index],), axes=tuple(rest))
    elif value.time is not None and value.time in group and len(real(group)) <= 1:
        last = index in (-1, value.shape[axis] - 1)
        link = Link(value.link, Step(-1 if last else index), "last" if last else f"step{index}")
        return replace(value, link=link, axes=tuple(rest), time=None)
    if not real(group):
        return with_axes(value, rest)
    raise Refusal("takes a part of an axis that is neither time nor the directions of an LSTM")


def sliced(value: Value, axis: int, start: int, stop: int, stride: int) -> Value:
    """A range along an axis."""
    size = value.shape[axis]
    places = range(*slice(start, stop, stride).indices(size))
    if places == range(size):
        return value
    group = value.axes[axis]
    if isinstance(value, States) and value.along in group and len(real(group)) <= 1:
        along = Atom(len(places))
        entries = tuple(value.entries[k] for k in places)
        axes = [tuple(along if atom is value.along else atom for atom in axis) for axis in value.axes]
        return replace(value, entries=entries, along=along, axes=tuple(axes))
    if isinstance(value, View) and value.link is None and axis == 0:  # initial states of some layers
        rows = tuple((value.rows or range(size))[k] for k in places)
        return replace(value, axes=((Atom(len(rows)),), *value.axes[1:]), rows=rows)
    if len(places) == 1:
        index = places[0] if start >= 0 else places[0] - size
        one = taken(value, axis, index)
        return with_axes(one, [*one.axes[:axis], (), *one.axes[axis:]])
    raise Refusal(f"takes the part {start}:{stop}:{stride} of an axis of {size}")


def real(axis: Axis) -> Axis:
    """Without atoms of size 1, which are there or not as reshapes please."""
    return tuple(atom for atom in axis if atom.size != 1)


def as_features(value: Value) -> View:
    """Final states as the output of a layer: hidden states at the end of each direction's way."""
    if isinstance(value, View):
        return value
    (lstm, first), *others = value.entries
    layer = lstm.link.layer if lstm.link else None
    assert isinstance(layer, LSTM)  # as every entry is made from one  # noqa: S101
    units = next(
        (atom for axis in value.axes for atom in axis if atom in lstm.features and atom is not value.along), None
    )
    ways = [first, *(way for _, way in others)]
    if value.kind == "c" or any(view.link is not lstm.link for view, _ in others):
        raise Refusal("computes with the cell state, or with states of several layers together")
    if len(ways) > 1 and not any(value.along in axis and units in axis for axis in value.axes):
        raise Refusal("computes with a stack of states")
    if len(ways) > 1 and ways != [0, 1]:
        raise Refusal("puts the directions' final states in another order than forward, reverse")
    if not layer.options.bidirectional:
        final = FinalState("reverse" if layer.options.reverse else "forward")
    else:
        final = FinalState("both", "both" if len(ways) > 1 else ("forward", "reverse")[first])
    features = tuple(atom for axis in value.axes for atom in axis if atom is value.along or atom is units)
    link = Link(lstm.link, final, "final")
    return View(link, value.axes, features, lstm.source, None, lstm.batch)
