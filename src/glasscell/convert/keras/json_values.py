"""Parse and validate JSON values of Keras configurations."""

from collections.abc import Mapping, Sequence
from typing import Any

from glasscell.limits import BudgetError, MemoryBudget, parse_json


def parse_config(text: bytes, what: str, budget: MemoryBudget) -> dict[str, Any]:
    """Parse JSON that must be a dict; `what` names it in errors."""
    try:
        value = parse_json(text, budget, constants=True)
    except BudgetError:
        raise
    except ValueError:
        raise ValueError(f"{what} is not valid JSON") from None
    return mapping(value, what)


def mapping(value: Any, what: str) -> dict[str, Any]:
    """Return a value as a dict; raise ValueError if it is none."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} must be a dict, got {shorten(value)}")  # noqa: TRY004 - of a file, not of a call
    return dict(value)


def entries(value: Any, what: str) -> list[Any]:
    """Return a value as a list; raise ValueError if it is none."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"{what} must be a list, got {shorten(value)}")  # noqa: TRY004 - of a file, not of a call
    return list(value)


def shorten(value: Any) -> str:
    """Format a value for a message, in at most 80 characters."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"a deep {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."
