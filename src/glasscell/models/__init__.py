"""Models: a readout on layers, and chains of layers."""

from typing import TYPE_CHECKING

from glasscell.lazy import lazily
from glasscell.models.copy_lstm import CopyLSTM, LossAndGradients, ModelTape, Workspace

if TYPE_CHECKING:
    from glasscell.models.sequential import Sequential, SequentialTape

__all__ = ["CopyLSTM", "LossAndGradients", "ModelTape", "Sequential", "SequentialTape", "Workspace"]

__getattr__, __dir__ = lazily(__name__, {"Sequential": "sequential", "SequentialTape": "sequential"})
