"""Operations without weights, by the names that an architecture has for them."""

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
        What its arguments are called in messages. All are required: frameworks have different defaults.
    make : callable
        From the arguments as numbers to the layer.
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

# "final:how": which final states of the LSTM before it, and how two become one vector.
FINALS: dict[str, dict[str, Any]] = {
    "": {},
    "forward": {"keep": "forward"},
    "reverse": {"keep": "reverse"},
    "sum": {"merge": "sum"},
    "average": {"merge": "average"},
    "multiply": {"merge": "multiply"},
}


def is_operation(item: str) -> bool:
    """Return whether an item is called as an operation is."""
    return operation_name(item) in (*OPERATIONS, "final")


def operation_name(item: str) -> str:
    """Return the name of an operation as it is in the table: "LeakyReLU:0.01" and "leaky_relu" are "leakyrelu"."""
    return item.removeprefix("operation:").partition(":")[0].lower().replace("_", "")
