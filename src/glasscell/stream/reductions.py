"""Layers that make one vector of a sequence: what they would give for the steps so far."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from glasscell.stream.arena import Call
from glasscell.stream.building import StreamBuilder, only_where

if TYPE_CHECKING:
    from glasscell.layers import FinalState, Pool, Step


class LastPart:
    """The last step that is not masked; 0 before there is one."""

    def __init__(self, name: str, layer: Step | FinalState, *, single: bool) -> None:
        del single
        where = vars(layer).get("index", vars(layer).get("directions"))
        if where not in (-1, "forward"):
            raise ValueError(
                f"layer {name!r} cannot be streamed: of the steps so far a stream gives the last, and {layer!r} takes "
                "another; forward() runs it over a whole sequence"
            )

    def blocks(self, width: int) -> list[int]:
        """As wide as its inputs."""
        return [width]

    def build(self, building: StreamBuilder) -> None:
        """Add a call where steps may be masked or missing; else the inputs are the answer."""
        own, x = building.own, building.x
        building.own = building.present = None
        if own is None:
            return
        building.x = y = building.memory.block(len(x))
        building.remembered.append(y)
        building.calls.append(partial(np.copyto, y, x, where=own))


class PoolPart:
    """The mean or the maximum of the steps so far that are not masked; 0 before there is one."""

    def __init__(self, name: str, layer: Pool, *, single: bool) -> None:
        del name, single
        self.how = layer.how

    def blocks(self, width: int) -> list[int]:
        """As wide as its inputs."""
        return [width]

    def build(self, building: StreamBuilder) -> None:
        """Add its calls."""
        own = building.own
        calls = self._mean(building) if self.how == "mean" else self._maximum(building)
        building.own = building.present = None
        update, result = calls
        building.calls += update if own is None else only_where(own, building.remembered[-2:], update)
        building.calls += result

    @staticmethod
    def _mean(building: StreamBuilder) -> tuple[list[Call], list[Call]]:
        """The sum and the number of steps, compensated (Kahan 1965): they do not drift, however long a stream runs."""
        memory, x_and_one, rows = building.memory, building.memory.last_block_with_bias_row(), len(building.x)
        total, lost, term, new = (memory.room(rows + 1) for _ in range(4))
        building.remembered += [total, lost]
        building.x = y = memory.block(rows)
        update: list[Call] = [
            partial(np.subtract, x_and_one, lost, term),
            partial(np.add, total, term, new),
            partial(np.subtract, new, total, lost),
            partial(np.subtract, lost, term, lost),
            partial(np.copyto, total, new),
        ]
        count, one = new[:rows], np.array(1, memory.dtype)
        result: list[Call] = [
            partial(np.copyto, count, total[rows:]),  # a ufunc would allocate to broadcast it
            partial(np.maximum, count, one, out=count),
            partial(np.divide, total[:rows], count, y),
        ]
        return update, result

    @staticmethod
    def _maximum(building: StreamBuilder) -> tuple[list[Call], list[Call]]:
        memory, x = building.memory, building.x
        started = memory.room(1)
        building.x = y = memory.block(len(x))
        building.remembered += [y, started]
        first = np.empty(started.shape, np.bool_)
        zero = np.array(0, memory.dtype)
        update: list[Call] = [
            partial(np.equal, started, zero, first),
            partial(np.maximum, y, x, out=y),
            partial(np.copyto, y, x, where=first),
            partial(started.fill, 1),
        ]
        return update, []


def refusal(reason: str) -> Any:
    """Make the part of a kind of layer that no stream can have."""

    class Refused:
        def __init__(self, name: str, layer: object, *, single: bool) -> None:
            del single
            raise ValueError(
                f"layer {name!r} cannot be streamed: {layer!r} {reason}; forward() runs it over a whole sequence"
            )

    return Refused
