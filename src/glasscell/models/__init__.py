"""Models: a readout on layers, and chains of layers."""

from glasscell.models.copy_lstm import CopyLSTM, LossAndGradients, ModelTape, Workspace
from glasscell.models.sequential import Sequential, SequentialTape

__all__ = ["CopyLSTM", "LossAndGradients", "ModelTape", "Sequential", "SequentialTape", "Workspace"]
