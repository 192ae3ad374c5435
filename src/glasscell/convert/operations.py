"""Operations without weights, by their names in an architecture."""

from collections.abc import Callable
from typing import Any, NamedTuple

from glasscell.core.activations import ACTIVATIONS, EXTRA_ACTIVATIONS
from glasscell.layers import Dropout, Flatten, Function, Pool, RepeatVector, Step
from glasscell.models.sequential import Layer


class Operation(NamedTuple):
    """An operation without weights, written "name" or "name:argument:argument".

    Attributes
    ----------
    arguments : tuple of str
        Names of the arguments. All are required, because frameworks have different defaults.
    make : callable
        Creates the layer from numbers.
    """

    arguments: tuple[str, ...]
    make: Callable[..., Layer]


_DEFINITIONS = ACTIVATIONS | EXTRA_ACTIVATIONS


def _function(name: str) -> Operation:
    definition = _DEFINITIONS.get(name)
    values = () if definition is None else (definition.alpha, definition.beta)
    return Operation(
        tuple(label for label, value in zip(("alpha", "beta"), values, strict=False) if value is not None),
        lambda *arguments: Function(name, *arguments),
    )


OPERATIONS: dict[str, Operation] = {
    "last": Operation((), lambda: Step(-1)),
    "first": Operation((), lambda: Step(0)),
    "step": Operation(("index",), lambda index: Step(int(index))),
    "mean": Operation((), lambda: Pool("mean")),
    "max": Operation((), lambda: Pool("max")),
    "flatten": Operation((), Flatten),
    "repeat": Operation(("times",), lambda times: RepeatVector(int(times))),
    "dropout": Operation(("rate",), Dropout),
} | {name.lower(): _function(name) for name in (*_DEFINITIONS, "Softmax", "LogSoftmax")}

# "final:…": selection or merge of the final states of the preceding layer.
FINALS: dict[str, dict[str, Any]] = {
    "": {},
    "forward": {"keep": "forward"},
    "reverse": {"keep": "reverse"},
    "sum": {"merge": "sum"},
    "average": {"merge": "average"},
    "multiply": {"merge": "multiply"},
}


def is_operation(item: str) -> bool:
    """Return whether an item has the name of an operation."""
    return operation_name(item) in (*OPERATIONS, "final")


def operation_name(item: str) -> str:
    """Return the canonical name of an operation: "leakyrelu" for "LeakyReLU:0.01" and "leaky_relu"."""
    return item.removeprefix("operation:").partition(":")[0].lower().replace("_", "")
