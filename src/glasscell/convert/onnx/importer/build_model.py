"""Build a model from the specifications of its layers."""

from __future__ import annotations

from itertools import accumulate, chain, count

from glasscell.convert.onnx.importer.constants import UnsupportedNode
from glasscell.convert.onnx.importer.layer_specs import (
    InitialStateInput,
    LayerSpec,
    LSTMSpec,
    WeightedSpec,
    build_layer,
)
from glasscell.convert.onnx.importer.lstm_ops import stack
from glasscell.convert.onnx.importer.symbolic_values import LayerNode, SymbolicStates, layers_up_to
from glasscell.layers import Dropout, Function
from glasscell.limits import MemoryBudget
from glasscell.models.sequential import Sequential


def check_state_output(name: str, states: SymbolicStates, layers: list[LayerNode]) -> None:
    """Raise an error unless an output has the final states of consecutive LSTMs in the order of a forward pass."""
    by_layer = [layer.spec.directions for layer in layers if isinstance(layer.spec, LSTMSpec)]
    directions, boundaries = [*chain.from_iterable(by_layer)], {0, *accumulate(map(len, by_layer))}
    entries = [weights for _, weights in states.entries]
    first = next((k for k in boundaries if directions[k : k + 1] == entries[:1]), len(directions))
    last = first + len(entries)
    if not entries or directions[first:last] != entries or last not in boundaries:
        raise ValueError(f"the output {name!r} has final states in an order that cannot be represented")


def initial_state_inputs(layers: list[LayerNode], source: str) -> list[str]:
    """Return the inputs of the graph that are initial states.

    Raises
    ------
    ValueError
        If their entries are used twice, or in another order than that of the layers, or `source`, the input of the
        model, is one of them.
    """
    next_rows: dict[str, tuple[str, int]] = {}
    for layer in layers:
        for weights in layer.spec.directions if isinstance(layer.spec, LSTMSpec) else ():
            for kind, state in (("h", weights.h0), ("c", weights.c0)):
                if isinstance(state, InitialStateInput):
                    expected = next_rows.get(state.source, (kind, 0))
                    if state.source == source or expected != (kind, state.row):
                        raise ValueError(f"the initial states {state.source!r} are not in the order of the layers")
                    next_rows[state.source] = (kind, state.row + 1)
    return list(next_rows)


def build(last_layer: LayerNode, budget: MemoryBudget) -> Sequential:
    """Return the model that ends with a layer. Consecutive LSTMs of one module become one where that is possible."""
    specs: list[tuple[str, LayerSpec]] = []
    for layer in layers_up_to(last_layer):
        if isinstance(layer.spec, WeightedSpec):
            _reserve(budget, layer.spec)
        if not _stack(specs, layer.name, layer.spec):
            specs.append((layer.name, layer.spec))
    names = _unique_names([(name, _default_name(spec)) for name, spec in specs])
    return Sequential([build_layer(spec) for _, spec in specs], names, seed=None)


def _reserve(budget: MemoryBudget, spec: WeightedSpec) -> None:
    try:
        budget.reserve(spec.size * spec.dtype.itemsize)
    except UnsupportedNode as error:
        raise ValueError(f"the model {error}") from None


def _stack(specs: list[tuple[str, LayerSpec]], name: str, above: LayerSpec) -> bool:
    """Stack an LSTM on the previous one of the same module, with optional dropout between them.

    Returns
    -------
    bool
        False if the layer was not stacked; `specs` is then unchanged.
    """
    if not isinstance(above, LSTMSpec):
        return False
    index = len(specs) - 1
    between = specs[index][1] if index > 0 and specs[index][0] == name else None
    index -= isinstance(between, Dropout)
    below = specs[index][1] if index >= 0 and specs[index][0] == name else None
    rate = between.rate if isinstance(between, Dropout) else 0.0
    stacked = stack(below, above, rate) if isinstance(below, LSTMSpec) else None
    if stacked is None:
        return False
    specs[index:] = [(name, stacked)]
    return True


def _default_name(spec: LayerSpec) -> str:
    if isinstance(spec, WeightedSpec):
        return spec.default_name
    return (spec.name if isinstance(spec, Function) else type(spec).__name__).lower()


def _unique_names(candidates: list[tuple[str, str]]) -> list[str]:
    """Return names of which none equals another one, or is its prefix up to a dot.

    `candidates` are pairs of a name from the file, which may be empty, and a default name.
    """
    reserved = {prefix for name, _ in candidates for prefix in _prefixes(name)}
    names: dict[str, None] = {}

    def is_free(name: str) -> bool:
        return name not in names and name not in reserved and names.keys().isdisjoint(_prefixes(name))

    for name, default in candidates:
        possible = chain((name, default), (f"{default}_{k}" for k in count(len(names))))
        names[next(candidate for candidate in possible if candidate and is_free(candidate))] = None
    return list(names)


def _prefixes(name: str) -> list[str]:
    """Return a and a.b for a.b.c."""
    return [name[:k] for k, letter in enumerate(name) if letter == "."]
