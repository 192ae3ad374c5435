"""Interventions on the directions of an RNN or a GRU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from glasscell.core.time_order import TimeOrder
from glasscell.core.types import Array

if TYPE_CHECKING:
    from glasscell.recurrent.step_interventions import PassHook, StepIntervention


class Direction(NamedTuple):
    """One layer in one direction: the suffix of its weights, such as ``_l0_reverse``, and its number of inputs."""

    suffix: str
    input_size: int
    reverse: bool


class StackInterventions:
    """The methods of :class:`glasscell.RNN` and :class:`glasscell.GRU` that concern interventions.

    Attributes
    ----------
    symbols : tuple of str
        Those on which interventions can act.
    directions : tuple of Direction
    hidden_size : int
    """

    symbols: ClassVar[tuple[str, ...]]
    directions: tuple[Direction, ...]
    hidden_size: int
    _interventions: dict[int, tuple[StepIntervention, ...]]

    def __getstate__(self) -> dict[str, Any]:
        """Copy without interventions."""
        return {**self.__dict__, "_interventions": {}}

    def intervention_rows(self, symbol: str, k: int) -> int:
        """Return the number of rows of a symbol of an intervention on direction k.

        Raises
        ------
        ValueError
            If the layer has no such symbol.
        """
        if symbol not in self.symbols:
            kind = type(self).__name__
            raise ValueError(
                f"symbol of an intervention on a {kind} must be one of {', '.join(self.symbols)}, got {symbol!r}"
            )
        return self.directions[k].input_size if symbol == "x" else self.hidden_size

    def interventions(self, k: int) -> tuple[StepIntervention, ...]:
        """Return the interventions on direction k."""
        return self._interventions.get(k, ())

    def set_interventions(self, k: int, interventions: Sequence[StepIntervention]) -> None:
        """Run direction k under these interventions, in this order, from now on."""
        others = {key: value for key, value in self._interventions.items() if key != k}
        self._interventions = others | ({k: tuple(interventions)} if interventions else {})

    def _pass_hook(self, k: int, x: Array, order: TimeOrder | None) -> PassHook | None:
        """Return the interventions on a pass of direction k over x (T, I, B), in processing order."""
        from glasscell.recurrent.step_interventions import bind  # noqa: PLC0415 - only where it is used

        return bind(self.interventions(k), x, order, reverse=self.directions[k].reverse)
