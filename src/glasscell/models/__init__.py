"""Models: a readout on layers, and chains of layers."""

from typing import TYPE_CHECKING

from glasscell.lazy import lazily

if TYPE_CHECKING:
    from glasscell.models.copy_lstm import CopyLSTM, LossAndGradients, ModelTape, Workspace
    from glasscell.models.sequential import Sequential, SequentialTape

__all__ = ["CopyLSTM", "LossAndGradients", "ModelTape", "Sequential", "SequentialTape", "Workspace"]

COPY = ("CopyLSTM", "LossAndGradients", "ModelTape", "Workspace")
__getattr__, __dir__ = lazily(
    __name__, dict.fromkeys(("Sequential", "SequentialTape"), "sequential") | dict.fromkeys(COPY, "copy_lstm")
)
