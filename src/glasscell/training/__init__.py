"""Training: one loop for every model, task and source of data; schedules, progress, and the recorder of traces."""

from typing import TYPE_CHECKING

from glasscell.lazy import attach

if TYPE_CHECKING:
    from glasscell.training import progress, schedules
    from glasscell.training.arguments import TrainingOptions
    from glasscell.training.callbacks import Callback, TrainingState
    from glasscell.training.checkpoint_errors import CheckpointError, CheckpointWarning
    from glasscell.training.checkpoint_files import has_checkpoint
    from glasscell.training.checkpoints import CheckpointFolder
    from glasscell.training.failures import TrainingDataError, TrainingError, TrainingWarning
    from glasscell.training.fitting import fit
    from glasscell.training.history import History
    from glasscell.training.loop import Training
    from glasscell.training.parallel.errors import RankError
    from glasscell.training.parallel.training import ParallelTraining
    from glasscell.training.tensorboard import TensorBoard
    from glasscell.training.trace_recorder.recorder import TraceRecorder

__all__ = [
    "Callback",
    "CheckpointError",
    "CheckpointFolder",
    "CheckpointWarning",
    "History",
    "ParallelTraining",
    "RankError",
    "TensorBoard",
    "TraceRecorder",
    "Training",
    "TrainingDataError",
    "TrainingError",
    "TrainingOptions",
    "TrainingState",
    "TrainingWarning",
    "fit",
    "has_checkpoint",
    "progress",
    "schedules",
]

__getattr__, __dir__ = attach(
    __name__,
    {"progress": "progress", "schedules": "schedules", "TraceRecorder": "trace_recorder.recorder"}
    | {"fit": "fitting", "History": "history", "Training": "loop", "TrainingOptions": "arguments"}
    | {"ParallelTraining": "parallel.training", "RankError": "parallel.errors"}
    | dict.fromkeys(("CheckpointError", "CheckpointWarning"), "checkpoint_errors")
    | {"TensorBoard": "tensorboard"}
    | {"CheckpointFolder": "checkpoints", "has_checkpoint": "checkpoint_files"}
    | dict.fromkeys(("Callback", "TrainingState"), "callbacks")
    | dict.fromkeys(("TrainingDataError", "TrainingError", "TrainingWarning"), "failures"),
)
