"""What a value of a graph is: a constant, or the output of the layers so far with its axes in some order.

A graph transposes, reshapes and slices what a chain of layers just hands on. Here that is undone by bookkeeping: each
axis of a value is a group of *atoms*, such as time, batch or units, and moving axes about moves groups of atoms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import numpy as np

from glasscell.convert.onnx.importer.constants import MAX_AXES, UnsupportedNode, normalize_axis
from glasscell.convert.onnx.importer.layer_specs import DirectionWeights, LayerSpec


@dataclass(frozen=True, eq=False)
class Dim:
    """What one axis, or a part of one, runs over. Each is itself alone, whatever its size."""

    size: int
    open: bool = False  # whether the file leaves the size to the input


Axis = tuple[Dim, ...]


@dataclass(frozen=True, eq=False)
class LayerNode:
    """A layer, and the one before it."""

    before: LayerNode | None
    layer: LayerSpec
    name: str  # of the module that it comes from; empty where the file does not say


@dataclass(frozen=True)
class SymbolicTensor:
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
    dtype : dtype
    time, batch : Atom, optional
        Once an LSTM has said which they are.
    lengths : str, optional
        The input of the graph that says how many steps each sequence has.
    turned : Atom, optional
        The axis along which it is the other way round than the link gives it.
    rows : range, optional
        Of an input for initial states: which of its entries, and
    cut : Atom, optional
        along which axis.
    alone : bool
        Whether it is one vector for each sequence.
    symbols : bool
        Whether it is an input of floats that are cast to integers: only an embedding takes these.
    bare : bool
        Whether it comes from an input of numbers without an axis of features.
    flat : str
        Where steps and features are in one axis, the module that put them there.
    """

    link: LayerNode | None
    axes: tuple[Axis, ...]
    features: Axis
    source: str
    dtype: np.dtype[Any]
    time: Dim | None = None
    batch: Dim | None = None
    lengths: str | None = None
    turned: Dim | None = None
    rows: range | None = None
    cut: Dim | None = None
    alone: bool = False
    symbols: bool = False
    bare: bool = False
    flat: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return sizes(self.axes)

    def through(self, layer: LayerSpec, name: str) -> SymbolicTensor:
        """What a layer makes of it that treats all steps and features alike."""
        return replace(self, link=LayerNode(self.link, layer, name))


@dataclass(frozen=True)
class SymbolicStates:
    """Final states of LSTMs, with their axes as a node sees them.

    Attributes
    ----------
    kind : "h" or "c"
    entries : tuple of (View, Way)
        What each entry along `along` is: the LSTM's output, and which of its directions.
    along, units : Atom
    axes : tuple of Axis
    name : str
        Of the module whose node moved them last; empty where the file does not say.
    """

    kind: Literal["h", "c"]
    entries: tuple[tuple[SymbolicTensor, DirectionWeights], ...]
    along: Dim
    units: Dim
    axes: tuple[Axis, ...]
    name: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return sizes(self.axes)


Value = SymbolicTensor | SymbolicStates


def sizes(axes: Sequence[Axis]) -> tuple[int, ...]:
    """The sizes of axes."""
    return tuple(prod(atom.size for atom in axis) for axis in axes)


def describe_size(axis: Axis) -> str:
    """Return the size of an axis for a message: "?" where the file leaves it to the input."""
    return "?" if any(dim.open for dim in axis) else str(prod(dim.size for dim in axis))


def describe_shape(value: Value) -> str:
    """Return the shape of a value for a message: "(?, ?, 3)"."""
    return f"({', '.join(map(describe_size, value.axes))})"


def without_unit_dims(axis: Axis) -> Axis:
    """Without atoms of size 1, which are there or not as reshapes please."""
    return tuple(atom for atom in axis if atom.size != 1)


def layers_up_to(link: LayerNode | None) -> list[LayerNode]:
    """From the first layer to this one."""
    links = []
    while link is not None:
        links.append(link)
        link = link.before
    return links[::-1]


def with_axes(value: Value, axes: Sequence[Axis]) -> Value:
    """The same with other axes."""
    if len(axes) > MAX_AXES:
        raise UnsupportedNode(f"gives {len(axes)} axes")
    return replace(value, axes=tuple(axes))


def transposed(value: Value, order: Sequence[int]) -> Value:
    """Axes in another order."""
    if sorted(order) != list(range(len(value.axes))):
        raise UnsupportedNode(f"puts {len(value.axes)} axes in the order {list(order)}")
    return with_axes(value, [value.axes[k] for k in order])


def reshaped(value: Value, target: Sequence[int], *, allow_zero: bool) -> Value:
    """Return a value reshaped: neighbouring dimensions in other groups."""
    wanted = [value.shape[k] if size == 0 and not allow_zero else size for k, size in enumerate(target)]
    first = value.axes[0] if value.axes else ()
    if (
        len(first) == 1
        and first[0].open
        and wanted[0] > 0
        and wanted[1:2] == [-1]
        and len(wanted) == len(value.axes) - 1
    ):
        wanted[0] = first[0].size  # (6, -1, 8) of (T, B, 2, 4): PyTorch's exporter wrote its example's T for any
    if -1 in wanted:
        rest = prod(size for size in wanted if size != -1)
        wanted[wanted.index(-1)] = prod(value.shape) // rest if rest else 0
    atoms = [atom for axis in value.axes for atom in axis][::-1]
    axes: list[Axis] = []
    for size in wanted:
        group: list[Dim] = []
        held = 1
        while atoms and (held < size or (atoms[-1].size == 1 and not group)):
            group.append(atoms.pop())
            held *= group[-1].size
        if held != size:
            raise UnsupportedNode(
                f"reshapes {describe_shape(value)} to {len(target)} axes, which splits or mixes time, batch, features"
            )
        axes.append(tuple(group))
    if without_unit_dims(tuple(atoms)):
        raise UnsupportedNode(f"reshapes {describe_shape(value)} to {len(target)} axes of another size")
    if atoms and axes:
        axes[-1] = (*axes[-1], *atoms[::-1])
    return with_axes(value, axes)


def unsqueezed(value: Value, places: Sequence[int]) -> Value:
    """New axes of size 1."""
    rank = len(value.axes) + len(places)
    new = sorted({normalize_axis(k, rank) for k in places})
    if len(new) != len(places):
        raise UnsupportedNode(f"makes the axes {list(places)}")
    axes = list(value.axes)
    for place in new:
        axes.insert(place, ())
    return with_axes(value, axes)


def runs_over(axis: Axis, atom: Dim | None) -> bool:
    """Whether an axis runs over this atom, and nothing else."""
    return atom is not None and (
        without_unit_dims(axis) == (atom,) or (atom.size == 1 and atom in axis and not without_unit_dims(axis))
    )


def same_chain(a: LayerNode | None, b: LayerNode | None) -> bool:
    """Whether two links are the ends of the same layers, even if one of these was made twice."""
    while a is not b:
        if a is None or b is None or a.layer != b.layer:
            return False
        a, b = a.before, b.before
    return True


def same_values(a: SymbolicTensor, b: SymbolicTensor) -> bool:
    """Whether two views are of the same numbers."""
    return same_chain(a.link, b.link) and (a.source, a.axes, a.turned) == (b.source, b.axes, b.turned)


def same_axes(a: Value, b: Value, but: int) -> bool:
    """Whether all axes but one are the same."""
    others = zip(a.axes, b.axes, strict=False)
    return len(a.axes) == len(b.axes) and all(
        without_unit_dims(x) == without_unit_dims(y) for k, (x, y) in enumerate(others) if k != but
    )


def is_features(view: SymbolicTensor, axis: int) -> bool:
    """Whether an axis is the features, all of them and in their order."""
    group = without_unit_dims(view.axes[axis])
    return group == without_unit_dims(view.features) and bool(
        group or (view.features[-1:] and view.features[-1] in view.axes[axis])
    )


def check_last_is_features(view: SymbolicTensor) -> None:
    """Refuse what acts on the last axis, if that is another one."""
    last = without_unit_dims(view.axes[-1]) if view.axes else ()
    if not view.axes or (last != without_unit_dims(view.features) if view.features else len(last) > 1):
        raise UnsupportedNode("acts on an axis that is not the features in their order")
