"""The runner of a direction under interventions: the general engine with a hook, forward and backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from glasscell.core.cell import GATES
from glasscell.core.time_order import TimeOrder
from glasscell.core.types import Array
from glasscell.recurrent.config import LSTMConfig
from glasscell.recurrent.execution import DirectionRunner
from glasscell.recurrent.step_interventions import PassHook, StepIntervention, bind

PRE_ACTIVATIONS = tuple(f"z_{gate}" for gate in GATES)
LSTM_SYMBOLS = ("x", *PRE_ACTIVATIONS, *GATES, "c", "h", "W_h")


class InterventionRunner(DirectionRunner):
    """Runs the steps of one layer in one direction under interventions, in the general engine.

    Parameters
    ----------
    original : DirectionRunner
        The runner without them.
    interventions : sequence of StepIntervention
        In the order in which they act.
    reverse : bool
        Whether the direction processes the steps from the last to the first.
    """

    def __init__(self, original: DirectionRunner, interventions: Sequence[StepIntervention], *, reverse: bool) -> None:
        super().__init__(original.options, original.weights, original.execution)
        self._original, self.interventions, self._reverse = original, tuple(interventions), reverse
        self.is_direct = self._is_standard_cell = False

    @property
    def original(self) -> DirectionRunner:
        """The runner without interventions."""
        return self._original

    def pass_hook(self, x: Array, order: TimeOrder | None) -> PassHook | None:
        """Return the interventions on a pass over x (T, I, B) in processing order."""
        return bind(self.interventions, x, order, reverse=self._reverse)


def symbol_rows(options: LSTMConfig, symbol: str, I: int) -> int:
    """Return the number of rows of a symbol, of a direction with I inputs.

    Raises
    ------
    ValueError
        If the LSTM does not compute the symbol, or the value at a step is not that of one unit's equation.
    """
    if symbol not in LSTM_SYMBOLS:
        raise ValueError(
            f"symbol of an intervention on an LSTM must be one of {', '.join(LSTM_SYMBOLS)}, got {symbol!r}"
        )
    gate = symbol.removeprefix("z_")
    if gate in options.cell_config.derived_gates:
        name = "coupled" if options.coupled else "forget_gate"
        source = options.cell_config.derived_gates[gate]
        rule = "1" if source is None else f"1 - {source}"
        raise ValueError(
            f"{symbol} must be a gate with weights, got {gate} = {rule} with {name}={getattr(options, name)!r}"
        )
    refused: dict[str, dict[str, Any]] = {
        "c": {
            "zoneout_cell": options.zoneout_cell,
            "layer_norm": options.layer_norm if options.cell_config.normalises_cell else None,
        },
        "h": {"zoneout": options.zoneout, "proj_size": options.proj_size},
    }
    for name, value in refused.get(symbol, {}).items():
        if value:
            raise ValueError(f"an intervention on {symbol} must have an LSTM without {name}, got {name}={value!r}")
    return {"x": I, "h": options.state_size, "W_h": options.state_size}.get(symbol, options.hidden_size)
