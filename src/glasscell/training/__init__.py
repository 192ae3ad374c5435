"""Training: the loop, learning-rate schedules, progress, and the recorder of traces."""

from typing import TYPE_CHECKING

from glasscell.lazy import attach

if TYPE_CHECKING:
    from glasscell.training import progress, schedules
    from glasscell.training.loop import Callback, History, TrainingState, fit
    from glasscell.training.trace_recorder.recorder import TraceRecorder

__all__ = ["Callback", "History", "TraceRecorder", "TrainingState", "fit", "progress", "schedules"]

__getattr__, __dir__ = attach(
    __name__,
    {"progress": "progress", "schedules": "schedules", "TraceRecorder": "trace_recorder.recorder"}
    | dict.fromkeys(("Callback", "History", "TrainingState", "fit"), "loop"),
)
