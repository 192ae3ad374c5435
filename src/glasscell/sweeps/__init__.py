"""Sweeps: one training function over settings and seeds, on any executor, with one line of a file per run.

``gc.sweep`` is the function; this package has what it returns and raises.
"""

from typing import TYPE_CHECKING

from glasscell.lazy import attach

if TYPE_CHECKING:
    from glasscell.sweeps.errors import SweepError, SweepInterrupted
    from glasscell.sweeps.result import SweepResult
    from glasscell.sweeps.row_file import SweepWarning
    from glasscell.sweeps.rows import Row
    from glasscell.sweeps.summary import ScoreSummary, SettingSummary

__all__ = ["Row", "ScoreSummary", "SettingSummary", "SweepError", "SweepInterrupted", "SweepResult", "SweepWarning"]

__getattr__, __dir__ = attach(
    __name__,
    dict.fromkeys(("SweepError", "SweepInterrupted"), "errors")
    | dict.fromkeys(("ScoreSummary", "SettingSummary"), "summary")
    | {"SweepResult": "result", "Row": "rows", "SweepWarning": "row_file"},
)
