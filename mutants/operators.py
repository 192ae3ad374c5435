"""Mutations that Cosmic Ray lacks and this code needs.

The fast code is written in calls with an output argument, ``multiply(a, b, out)``, in assignments to parts of arrays,
and in augmented assignments. Cosmic Ray changes none of these.
"""

from collections.abc import Iterator
from typing import Any

import parso
from cosmic_ray.operators.operator import Operator
from parso.python.tree import Name, PythonNode

Position = tuple[tuple[int, int], tuple[int, int]]

AUGMENTED = {"+=": ("-=", "="), "-=": ("+=", "="), "*=": ("/=", "="), "/=": ("*=", "="), "|=": ("=",)}

CALLS = {
    "add": ("multiply",),
    "subtract": ("add",),
    "multiply": ("add",),
    "maximum": ("minimum",),
    "minimum": ("maximum",),
    "max": ("min",),
    "min": ("max",),
    "sum": ("mean", "prod"),
    "mean": ("sum",),
    "zeros": ("ones",),
    "zeros_like": ("ones_like",),
    "ones_like": ("zeros_like",),
    "exp": ("expm1",),
    "expm1": ("exp",),
    "log": ("log1p",),
    "log1p": ("log",),
    "sqrt": ("abs",),
    "square": ("abs",),
    "tanh": ("sin",),
    "sigmoid": ("tanh",),
    "sigmoid_derivative": ("tanh_derivative",),
    "tanh_derivative": ("sigmoid_derivative",),
    "copy": ("view",),
    "reversed": ("list",),
}


class Own(Operator):
    """Base class of the three operators."""

    @classmethod
    def examples(cls) -> tuple[()]:
        """Return no examples; Cosmic Ray requires the method."""
        return ()


class DeleteStatement(Own):
    """Remove a call whose result is not used, an augmented assignment, or an assignment to an attribute or item."""

    def mutation_positions(self, node: Any) -> Iterator[Position]:
        """Yield the positions of possible mutations."""
        if _is_effect(node):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:  # noqa: ARG002 - Cosmic Ray's signature
        """Return the mutated node."""
        return Name("pass", node.start_pos, node.get_first_leaf().prefix)


class ReplaceAugmentedAssignment(Own):
    """Replace an augmented assignment by another one, or by a plain assignment."""

    def mutation_positions(self, node: Any) -> Iterator[Position]:
        """Yield the positions of possible mutations."""
        if node.type == "operator" and node.value in AUGMENTED:
            for _ in AUGMENTED[node.value]:
                yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Return the mutated node."""
        node.value = AUGMENTED[node.value][index]
        return node


class ReplaceCall(Own):
    """Replace a called function by another one with the same signature."""

    def mutation_positions(self, node: Any) -> Iterator[Position]:
        """Yield the positions of possible mutations."""
        after = node.get_next_leaf() if node.type == "name" and node.value in CALLS else None
        if after is not None and after.value == "(" and node.parent.type != "funcdef":
            for _ in CALLS[node.value]:
                yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Return the mutated node."""
        node.value = CALLS[node.value][index]
        return node


def _is_effect(node: Any) -> bool:
    if node.parent is None or node.parent.type != "simple_stmt" or node.parent.children[0] is not node:
        return False
    if node.type == "expr_stmt":
        target, operator = node.children[:2]
        augmented = isinstance(operator, parso.python.tree.Operator) and operator.value in AUGMENTED
        return augmented or _is_part(target)
    return node.type in ("atom_expr", "power") and node.children[-1].type == "trailer"


def _is_part(target: PythonNode) -> bool:
    """Return whether the target is an attribute, an item, or several of them."""
    if target.type == "testlist_star_expr":
        return all(_is_part(one) for one in target.children[::2])
    return target.type in ("atom_expr", "power") and target.children[-1].type == "trailer"


OWN = {kind.__name__: kind for kind in (DeleteStatement, ReplaceAugmentedAssignment, ReplaceCall)}
