"""Models: a readout on layers, and chains of layers."""

from typing import TYPE_CHECKING

from glasscell.lazy import attach

if TYPE_CHECKING:
    from glasscell.models.copy_lstm import CopyLSTM, CopyLSTMTape, LossAndGradients, TrainingBuffers
    from glasscell.models.sequential import Sequential, SequentialTape

__all__ = ["CopyLSTM", "CopyLSTMTape", "LossAndGradients", "Sequential", "SequentialTape", "TrainingBuffers"]

COPY = ("CopyLSTM", "CopyLSTMTape", "LossAndGradients", "TrainingBuffers")
__getattr__, __dir__ = attach(
    __name__, dict.fromkeys(("Sequential", "SequentialTape"), "sequential") | dict.fromkeys(COPY, "copy_lstm")
)
