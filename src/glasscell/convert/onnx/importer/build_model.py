"""From a chain of plans to a model."""

from __future__ import annotations

from itertools import accumulate, count
from itertools import chain as in_turn

from glasscell.convert.onnx.importer.constants import UnsupportedNode
from glasscell.convert.onnx.importer.layer_specs import (
    BatchNormPlan,
    ConvolutionPlan,
    EmbeddingSpec,
    InitialStateInput,
    LayerNormPlan,
    LayerSpec,
    LinearSpec,
    LSTMSpec,
    WithWeights,
    build_layer,
)
from glasscell.convert.onnx.importer.lstm_ops import stack
from glasscell.convert.onnx.importer.symbolic_values import LayerNode, SymbolicStates, layers_up_to
from glasscell.layers import Dropout, Function
from glasscell.limits import MemoryBudget
from glasscell.models.sequential import Sequential


def check_all_states(name: str, states: SymbolicStates, links: list[LayerNode]) -> None:
    """Refuse an output of states that are not those of LSTMs that follow each other, as a forward pass gives them."""
    by_layer = [link.layer.ways for link in links if isinstance(link.layer, LSTMSpec)]
    ways, edges = [*in_turn.from_iterable(by_layer)], {0, *accumulate(map(len, by_layer))}
    given = [way for _, way in states.entries]
    first = next((k for k in edges if ways[k : k + 1] == given[:1]), len(ways))
    last = first + len(given)
    if not given or ways[first:last] != given or last not in edges:
        raise ValueError(f"the output {name!r} has final states in an order that cannot be represented")


def check_starts(links: list[LayerNode], source: str) -> list[str]:
    """The inputs for initial states; refused if they are used in another order than that of the layers, or twice."""
    used: dict[str, tuple[str, int]] = {}
    for link in links:
        for way in link.layer.ways if isinstance(link.layer, LSTMSpec) else ():
            for kind, start in (("h", way.h0), ("c", way.c0)):
                if isinstance(start, InitialStateInput):
                    if start.source == source or used.get(start.source, (kind, 0)) != (kind, start.row):
                        raise ValueError(f"the initial states {start.source!r} are used in an order of their own")
                    used[start.source] = (kind, start.row + 1)
    return list(used)


def build(last: LayerNode, budget: MemoryBudget) -> Sequential:
    """The chain as a model; LSTMs of one module that a stack of layers can be become one."""
    plans: list[tuple[str, LayerSpec]] = []
    for link in layers_up_to(last):
        if isinstance(link.layer, WithWeights):
            _reserve(budget, link.layer)
        if not _stack(plans, link.name, link.layer):
            plans.append((link.name, link.layer))
    names = _unique_names([(name, _kind(plan)) for name, plan in plans])
    return Sequential([build_layer(plan) for _, plan in plans], names, seed=None)


def _reserve(budget: MemoryBudget, plan: WithWeights) -> None:
    try:
        budget.reserve(plan.size * plan.dtype.itemsize)
    except UnsupportedNode as refusal:
        raise ValueError(f"the model {refusal}") from None


def _stack(plans: list[tuple[str, LayerSpec]], name: str, above: LayerSpec) -> bool:
    """Put an LSTM on top of the one before it, also with dropout between them, if both come from one module."""
    if not isinstance(above, LSTMSpec):
        return False
    under = len(plans) - 1
    between = plans[under][1] if under > 0 and plans[under][0] == name else None
    under -= isinstance(between, Dropout)
    below = plans[under][1] if under >= 0 and plans[under][0] == name else None
    rate = between.rate if isinstance(between, Dropout) else 0.0
    one = stack(below, above, rate) if isinstance(below, LSTMSpec) else None
    if one is None:
        return False
    plans[under:] = [(name, one)]
    return True


def _kind(plan: LayerSpec) -> str:
    """What a layer is called that has no name."""
    if isinstance(plan, Function):
        return plan.name.lower()
    names: dict[type, str] = {
        LSTMSpec: "lstm",
        LinearSpec: "linear",
        EmbeddingSpec: "embedding",
        LayerNormPlan: "layernorm",
        BatchNormPlan: "batchnorm",
        ConvolutionPlan: "conv",
    }
    return names.get(type(plan), type(plan).__name__.lower())


def _unique_names(wanted: list[tuple[str, str]]) -> list[str]:
    """Names that no other is, or is the beginning of: those wanted, or what the layer is."""
    under = {prefix for name, _ in wanted for prefix in _prefixes(name)}
    found: dict[str, None] = {}
    for name, kind in wanted:
        for candidate in in_turn((name, kind), (f"{kind}_{k}" for k in count(len(found)))):
            free = candidate not in found and candidate not in under and found.keys().isdisjoint(_prefixes(candidate))
            if candidate and free:
                found[candidate] = None
                break
    return list(found)


def _prefixes(name: str) -> list[str]:
    """Of a.b.c, a and a.b."""
    return [name[:k] for k, letter in enumerate(name) if letter == "."]
