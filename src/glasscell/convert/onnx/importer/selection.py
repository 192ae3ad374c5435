"""Parts of values, and parts put together: steps, directions and final states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from glasscell.convert.onnx.importer.constants import UnsupportedNode, normalize_axis
from glasscell.convert.onnx.importer.layer_specs import LayerSpec, LSTMSpec
from glasscell.convert.onnx.importer.lstm_ops import bidirectional_from, merge_plan, reverse_lstm, single_direction
from glasscell.convert.onnx.importer.symbolic_values import (
    Dim,
    LayerNode,
    SymbolicStates,
    SymbolicTensor,
    Value,
    describe_size,
    is_features,
    runs_over,
    same_axes,
    same_chain,
    with_axes,
    without_unit_dims,
)
from glasscell.layers import Dropout, FinalState, Function, Pool, Step, SwapHalves

Merge = Literal["sum", "average", "multiply"]
NEAR = 8  # an index so near to the end of an axis whose size is open is counted from there


def squeeze(value: Value, places: Sequence[int] | None) -> Value:
    """Without axes of size 1."""
    shape = value.shape
    gone = (
        {k for k, n in enumerate(shape) if n == 1}
        if places is None
        else {normalize_axis(k, len(shape)) for k in places}
    )
    for k in sorted(gone, reverse=True):
        if shape[k] != 1:
            raise UnsupportedNode(f"squeezes an axis of size {shape[k]}")
        value = take_index(value, k, 0, "")
    return value


def take_index(value: Value, axis: int, index: int, name: str) -> Value:
    """One place along an axis, which is then gone. `name` is for a layer that this makes."""
    at = normalize_axis(index, value.shape[axis])
    group, rest = value.axes[axis], [*value.axes[:axis], *value.axes[axis + 1 :]]
    if isinstance(value, SymbolicTensor) and runs_over(group, value.time):
        return _step(value, index, rest, name)
    if not without_unit_dims(group):
        return with_axes(value, rest)
    one = take_range(value, axis, range(at, at + 1), name)
    return with_axes(one, [*one.axes[:axis], *one.axes[axis + 1 :]])


def take_range(value: Value, axis: int, places: Sequence[int], name: str) -> Value:
    """Some places along an axis, in this order."""
    size = value.shape[axis]
    if places == range(size) or (size == 1 and len(places) == 1):
        return value
    group = value.axes[axis]
    if isinstance(value, SymbolicStates) and runs_over(group, value.along):
        return _some_states(value, axis, places)
    value = as_features(value) if isinstance(value, SymbolicStates) else value
    if runs_over(group, value.time) and len(places) == 1:
        one = take_index(value, axis, places[0], name)
        return with_axes(one, [*one.axes[:axis], (), *one.axes[axis:]])
    if (
        places == range(size - 1, -1, -1)
        and len(without_unit_dims(group)) == 1
        and without_unit_dims(group) != without_unit_dims(value.features)
    ):
        return _reverse_time(value, without_unit_dims(group)[0])
    if value.link is None:
        return _rows(value, axis, places)
    return _some_features(value, axis, places, name)


def _step(view: SymbolicTensor, index: int, rest: list[tuple[Dim, ...]], name: str) -> SymbolicTensor:
    """A step of an LSTM's outputs."""
    assert view.time is not None  # or the caller would not be here  # noqa: S101
    size = view.time.size
    from_end = index in (-1, size - 1) or (view.time.open and index >= size - NEAR)
    step = Step(index - size if from_end and index >= 0 else index)
    check_in_time(view)
    return replace(view.through(step, name), axes=tuple(rest), time=None, alone=True)


def check_in_time(view: SymbolicTensor) -> None:
    """Refuse what makes one of all steps, where it would not do that here."""
    if view.lengths is not None:
        raise UnsupportedNode(
            "looks at all steps alike, and the sequences have sequence_lens; only final states know them"
        )
    if view.turned is not None:
        raise UnsupportedNode("looks at steps that are the other way round")


def _reverse_time(view: SymbolicTensor, atom: Dim) -> SymbolicTensor:
    """The other way round along an axis."""
    if view.lengths is not None:
        raise UnsupportedNode("turns sequences round that have sequence_lens")
    if view.turned is not None and view.turned is not atom:
        raise UnsupportedNode("turns a second axis round")
    if view.turned is atom:
        return replace(view, turned=None)
    if atom is view.time and view.link is not None and isinstance(view.link.layer, LSTMSpec):
        plan = reverse_lstm(view.link.layer)
        if plan is not None:
            return replace(view, link=replace(view.link, layer=plan))
    return replace(view, turned=atom)


def _rows(view: SymbolicTensor, axis: int, places: Sequence[int]) -> SymbolicTensor:
    """Some entries of an input: of initial states, those of some layers."""
    group = without_unit_dims(view.axes[axis])
    if len(group) != 1 or not isinstance(places, range) or places.step < 1 or view.cut not in (None, group[0]):
        raise UnsupportedNode("takes a part of an input")
    rows = range(view.shape[axis]) if view.rows is None else view.rows
    new = Dim(len(places))
    axes = [(new,) if k == axis else one for k, one in enumerate(view.axes)]
    return replace(view, axes=tuple(axes), rows=rows[places.start : places.stop : places.step], cut=new)


def _some_states(states: SymbolicStates, axis: int, places: Sequence[int]) -> SymbolicStates:
    """Those of some layers or directions."""
    along = Dim(len(places))
    entries = tuple(states.entries[k] for k in places)
    axes = [(along,) if k == axis else group for k, group in enumerate(states.axes)]
    return replace(states, entries=entries, along=along, axes=tuple(axes))


def _some_features(view: SymbolicTensor, axis: int, places: Sequence[int], name: str) -> SymbolicTensor:
    """One direction's features, or both directions' in the other order."""
    size, group = view.shape[axis], without_unit_dims(view.axes[axis])
    middle = size // 2
    if (
        is_features(view, axis)
        and len(places) == size
        and [*places] == [k - middle + size * (k < middle) for k in range(size)]
    ):
        return view.through(SwapHalves(), name)
    halves = [range(middle), range(middle, size)]
    if places in halves and view.features[:1] == group[:1] and (is_features(view, axis) or len(group) == 1):
        return _half(view, halves.index(places))
    raise UnsupportedNode(
        f"takes a part of an axis of size {describe_size(view.axes[axis])}, "
        "which is neither time nor the directions of an LSTM"
    )


# Layers that treat each feature alone: behind them the halves of the features are still the two directions.
POINTWISE = (Dropout, Function, Step, Pool)


def _alone(layer: LayerSpec) -> bool:
    return isinstance(layer, POINTWISE) and not (isinstance(layer, Function) and "Softmax" in layer.name)


def _half(view: SymbolicTensor, way: int) -> SymbolicTensor:
    """The features of one direction of a bidirectional LSTM."""
    above: list[LayerNode] = []
    link = view.link
    while link is not None and (_alone(link.layer) or link.layer == FinalState("both")):
        above.append(link)
        link = link.before
    if link is None or not _has_halves(link.layer) or len(view.features) != 2:
        raise UnsupportedNode("takes a part of the features that is not a direction of an LSTM")
    assert isinstance(link.layer, LSTMSpec)  # it has halves  # noqa: S101
    link = replace(link, layer=single_direction(link.layer, way))
    for one in reversed(above):
        layer = FinalState(("forward", "reverse")[way]) if isinstance(one.layer, FinalState) else one.layer
        link = replace(one, before=link, layer=layer)
    ways = view.features[0]
    axes = [tuple(atom for atom in group if atom is not ways) for group in view.axes]
    return replace(view, link=link, axes=tuple(axes), features=view.features[1:])


def _has_halves(layer: LayerSpec) -> bool:
    return isinstance(layer, LSTMSpec) and layer.options.bidirectional and layer.options.merge == "concat"


def concat_directions(a: SymbolicTensor, b: SymbolicTensor, axis: int) -> SymbolicTensor:
    """The features of two LSTMs that are the directions of one, joined along an axis."""
    if a.link is None or b.link is None:
        raise UnsupportedNode("joins inputs; a chain of layers has one")
    alike = (a.source, a.turned, a.time, a.lengths, a.alone) == (b.source, b.turned, b.time, b.lengths, b.alone)
    if not (alike and same_axes(a, b, axis) and is_features(a, axis) and is_features(b, axis)):
        raise UnsupportedNode("concatenates values that no sequential model concatenates")
    swapped = _first_lstm_is_reverse(a.link)
    link = _merge_twin_chains(b.link, a.link) if swapped else _merge_twin_chains(a.link, b.link)
    if swapped:
        link = LayerNode(link, SwapHalves(), "")
    ways, units = Dim(2), Dim(a.shape[axis])
    axes = [(ways, units) if k == axis else group for k, group in enumerate(a.axes)]
    return replace(a, link=link, axes=tuple(axes), features=(ways, units))


def _first_lstm_is_reverse(link: LayerNode) -> bool:
    """Whether the LSTM nearest to the end of the chain is a reverse one."""
    one: LayerNode | None = link
    while one is not None and not isinstance(one.layer, LSTMSpec):
        one = one.before
    return one is not None and isinstance(one.layer, LSTMSpec) and one.layer.options.reverse


def _merge_twin_chains(forward: LayerNode, back: LayerNode) -> LayerNode:
    """The chain whose two halves are these: LSTMs on the same input, and the same layers behind them."""
    above: list[tuple[LayerNode, LayerSpec]] = []
    a: LayerNode | None = forward
    b: LayerNode | None = back
    while a is not None and b is not None and not isinstance(a.layer, LSTMSpec):
        above.append((a, _layer_of_both(a.layer, b.layer)))
        a, b = a.before, b.before
    if a is None or b is None or not same_chain(a.before, b.before):
        raise UnsupportedNode("joins the outputs of LSTMs that do not have the same input")
    link = replace(a, layer=bidirectional_from(a.layer, b.layer))
    for one, layer in reversed(above):
        link = replace(one, before=link, layer=layer)
    return link


def _layer_of_both(a: LayerSpec, b: LayerSpec) -> LayerSpec:
    if (a, b) in ((Step(-1), Step(0)), (FinalState("forward"), FinalState("reverse"))):
        return FinalState("both")
    if a == b and _alone(a):
        return a
    raise UnsupportedNode("concatenates values that no sequential model concatenates")


def merge_directions(a: SymbolicTensor, b: SymbolicTensor, how: Merge) -> SymbolicTensor:
    """The outputs of the two directions of an LSTM, added or multiplied."""
    axis = next((k for k in range(len(a.axes)) if is_features(a, k)), 0)
    joined = concat_directions(a, b, axis)
    link = joined.link
    while link is not None and isinstance(link.layer, SwapHalves):  # the order does not matter
        link = link.before
    return _merged(replace(joined, link=link), how)


def reduce_direction_axis(view: SymbolicTensor, axis: int, how: Merge) -> SymbolicTensor:
    """The same of an LSTM's outputs whose directions are an axis of their own."""
    if not runs_over(view.axes[axis], view.features[0] if view.features else None):
        raise UnsupportedNode("makes one of an axis that is neither time nor the directions of an LSTM")
    return _merged(view, how)


def _merged(view: SymbolicTensor, how: Merge) -> SymbolicTensor:
    assert view.link is not None  # the callers have looked  # noqa: S101
    link = replace(view.link, layer=merge_plan(view.link.layer, how))
    ways, features = view.features[0], view.features[1:]
    axes = [tuple(atom for atom in group if atom is not ways) for group in view.axes]
    return replace(view, link=link, axes=tuple(axes), features=features)


def concat(values: list[SymbolicStates], axis: int) -> Value:
    """States side by side; of a forward and a reverse LSTM, as those of one."""
    states = concat_states(values, axis)
    links = [view.link for view, _ in states.entries]
    if len(values) == 2 and links[0] is not links[-1] and states.units in states.axes[axis]:
        return concat_directions(as_features(values[0]), as_features(values[1]), axis)
    return states


def concat_states(values: list[SymbolicStates], axis: int) -> SymbolicStates:
    """States of several LSTMs or directions: stacked along the axis of layers, or side by side along the units."""
    first = values[0]
    if any(value.kind != first.kind for value in values):
        raise UnsupportedNode("joins hidden with cell states")
    entries = tuple(entry for value in values for entry in value.entries)
    along = Dim(len(entries))
    alike = all(_order(value, axis) == _order(first, axis) for value in values)
    if alike and all(
        runs_over(value.axes[axis], value.along) or not without_unit_dims(value.axes[axis]) for value in values
    ):
        group: tuple[Dim, ...] = (along,)
    elif alike and all(len(value.entries) == 1 and runs_over(value.axes[axis], value.units) for value in values):
        group = (along, first.units)
    else:
        raise UnsupportedNode("joins final states along another axis than their own")
    axes = [group if k == axis else one for k, one in enumerate(first.axes)]
    return replace(first, entries=entries, along=along, axes=tuple(axes))


def _order(states: SymbolicStates, but: int) -> list[list[object]]:
    """What the axes but one run over, told in the same way for the states of any LSTM."""
    names = {states.along: "along", states.units: ("units", states.units.size)}
    return [
        [names.get(atom, atom) for atom in without_unit_dims(group)] for k, group in enumerate(states.axes) if k != but
    ]


def as_features(value: Value, *, stacked: bool = False) -> SymbolicTensor:
    """Final states as the output of a layer: hidden states at the end of each direction's way, also stacked."""
    if isinstance(value, SymbolicTensor):
        if value.rows is not None:
            raise UnsupportedNode("acts on a part of an input")
        return value
    lstm = value.entries[0][0]
    plan = lstm.link.layer if lstm.link else None
    assert isinstance(plan, LSTMSpec)  # as every entry is made from one  # noqa: S101
    if value.kind == "c" or any(view.link is not lstm.link for view, _ in value.entries):
        raise UnsupportedNode("computes with the cell state, or with states of several layers together")
    stacked = stacked or any(
        without_unit_dims(axis) == without_unit_dims((value.along, value.units)) for axis in value.axes
    )
    if len(value.entries) > 1 and not stacked:
        raise UnsupportedNode("computes with a stack of states")
    link = _final(lstm.link, plan, [plan.ways.index(way) for _, way in value.entries], value.name)
    features = (value.along, value.units) if len(value.entries) > 1 else (value.units,)
    return replace(lstm, link=link, axes=value.axes, features=features, time=None, lengths=None, alone=True)


def _final(lstm: LayerNode | None, plan: LSTMSpec, ways: list[int], name: str) -> LayerNode:
    """The layer that gives the final hidden states of these directions."""
    if len(set(ways)) != len(ways):
        raise UnsupportedNode("computes with the final state of one direction twice")
    if not plan.options.bidirectional:
        at_last = not plan.options.reverse or plan.options.outputs_in == "processing"
        return LayerNode(lstm, FinalState("forward" if at_last else "reverse"), name)
    if len(ways) == 1:
        return LayerNode(lstm, FinalState("both", ("forward", "reverse")[ways[0]]), name)
    link = LayerNode(lstm, FinalState("both"), name)
    return link if ways == [0, 1] else LayerNode(link, SwapHalves(), "")
