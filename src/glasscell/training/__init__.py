"""Training: one loop for every model, task and source of data; schedules, progress, and the recorder of traces."""

from typing import TYPE_CHECKING

from glasscell.lazy import attach

if TYPE_CHECKING:
    from glasscell.training import progress, schedules
    from glasscell.training.fitting import fit
    from glasscell.training.history import History
    from glasscell.training.loop import Callback, Training, TrainingState
    from glasscell.training.trace_recorder.recorder import TraceRecorder

__all__ = ["Callback", "History", "TraceRecorder", "Training", "TrainingState", "fit", "progress", "schedules"]

__getattr__, __dir__ = attach(
    __name__,
    {"progress": "progress", "schedules": "schedules", "TraceRecorder": "trace_recorder.recorder"}
    | {"fit": "fitting", "History": "history"}
    | dict.fromkeys(("Callback", "Training", "TrainingState"), "loop"),
)
