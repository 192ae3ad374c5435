"""Functions that run the calls of one step. They are closures, which look up no attribute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from glasscell.core.types import Array
from glasscell.stream.input_checks import InputCheck


def make_step(check_input: InputCheck, calls: Sequence[Callable[[], object]], outputs: Array) -> Callable[[Any], Array]:
    """Return the function that runs one step."""
    if len(calls) == 1:
        (only,) = calls

        def step(x: Any) -> Array:
            check_input(x)
            only()
            return outputs

    else:

        def step(x: Any) -> Array:
            check_input(x)
            for call in calls:
                call()
            return outputs

    return step


def make_step_with_rollback(
    check_input: InputCheck, calls: Sequence[Callable[[], object]], outputs: Array, memory: Array, previous: Array
) -> Callable[[Any], Array]:
    """Return the function that runs one step, and restores the memory if a call raises an exception."""

    def step(x: Any) -> Array:
        check_input(x)
        previous[...] = memory
        try:
            for call in calls:
                call()
        except BaseException:
            memory[...] = previous
            raise
        return outputs

    return step


def output_view(block: Array, batch: int | None, *, feature_axis: bool) -> Array:
    """Return a read-only view of the output block: (O,) or (n, O); without an axis of features () or (n,)."""
    if feature_axis:
        view = block.view() if batch is None else block.T
    else:
        view = block.reshape(()) if batch is None else block[0]
    view.flags.writeable = False
    return view
