"""Everything of a training that changes from update to update: the one place that lists it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

# Attributes of a training that change from update to update, apart from weights, random numbers and the current batch.
STATE_ATTRIBUTES = (
    *("states", "optimizer_states", "history", "best_score", "best_weights", "_evaluations_without_gain"),
)


def stored_ranks(state: Mapping[str, Any]) -> int:
    """Return the number of processes that trained together to this state."""
    ranks = state.get("ranks")
    size = ranks.get("size") if isinstance(ranks, dict) else 1
    if type(size) is not int or size < 1:
        raise ValueError(f"ranks.size must be an integer of at least 1, got {size!r:.100}")
    return size


def state_of(training: Any, *, copy: bool) -> dict[str, Any]:
    """Return the state of a training: see :meth:`glasscell.training.Training.state`."""
    state: dict[str, Any] = {"weights": training.model.parameters.vector, "rng": training.rng.bit_generator.state}
    state |= training.windows.state() | {"failures": training.failures.state()}
    state |= {name: getattr(training, name) for name in STATE_ATTRIBUTES}
    state["states"] = deepcopy(training.states)  # some are computed from the tape when they are copied
    return deepcopy(state) if copy else state


def restore_state(training: Any, state: Mapping[str, Any]) -> None:
    """Set the state of a training: see :meth:`glasscell.training.Training.restore`."""
    vector, rng = training.model.parameters.vector, training.rng.bit_generator.state
    names = {"weights", "rng", "failures", *training.windows.state(), *STATE_ATTRIBUTES}
    if set(state) != names:
        raise ValueError(
            f"state must be that of a training, with the entries {', '.join(sorted(names))}, got {[*state]}"
        )
    if state["weights"].shape != vector.shape:
        size = state["weights"].size
        raise ValueError(f"state must be that of a training of {vector.size} weights, got one of {size}")
    if state["rng"]["bit_generator"] != rng["bit_generator"]:
        raise ValueError(
            f"seed must be a generator with a {state['rng']['bit_generator']}, got a {rng['bit_generator']}"
        )
    try:
        training.windows.restore(state)  # first: it raises an error for other data
    except BaseException:
        training.rng.bit_generator.state = rng
        raise
    vector[:] = state["weights"]
    vars(training).update({name: deepcopy(state[name]) for name in STATE_ATTRIBUTES})
    training.failures.restore(deepcopy(state["failures"]))
    training.clear_attempt()
    training.rng.bit_generator.state = state["rng"]
