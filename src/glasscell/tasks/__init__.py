"""Synthetic tasks: generators of batches with a loss and metrics. Imports no model."""

from typing import TYPE_CHECKING

from glasscell.data.batch import Batch
from glasscell.lazy import attach

if TYPE_CHECKING:
    from glasscell.tasks.adding import Adding
    from glasscell.tasks.binary import decode, encode
    from glasscell.tasks.continual_reber import ContinualReber
    from glasscell.tasks.copy import Copy
    from glasscell.tasks.copy_memory import CopyMemory
    from glasscell.tasks.distractor_lag import DistractorLag
    from glasscell.tasks.embedded_reber import EmbeddedReber
    from glasscell.tasks.multiplication import Multiplication
    from glasscell.tasks.noise_free_lag import NoiseFreeLag
    from glasscell.tasks.parity import Parity
    from glasscell.tasks.repeat_copy import RepeatCopy
    from glasscell.tasks.row_digits import RowDigits
    from glasscell.tasks.temporal_order import TemporalOrder
    from glasscell.tasks.two_sequence import TwoSequence
    from glasscell.tasks.vector_copy import VectorCopy

__all__ = [
    "Adding",
    "Batch",
    "ContinualReber",
    "Copy",
    "CopyMemory",
    "DistractorLag",
    "EmbeddedReber",
    "Multiplication",
    "NoiseFreeLag",
    "Parity",
    "RepeatCopy",
    "RowDigits",
    "TemporalOrder",
    "TwoSequence",
    "VectorCopy",
    "decode",
    "encode",
]

__getattr__, __dir__ = attach(
    __name__,
    {"Adding": "adding", "ContinualReber": "continual_reber", "Copy": "copy", "CopyMemory": "copy_memory"}
    | {"DistractorLag": "distractor_lag", "EmbeddedReber": "embedded_reber"}
    | {"Multiplication": "multiplication", "NoiseFreeLag": "noise_free_lag", "Parity": "parity"}
    | {"RepeatCopy": "repeat_copy", "RowDigits": "row_digits", "TemporalOrder": "temporal_order"}
    | {"TwoSequence": "two_sequence", "VectorCopy": "vector_copy"}
    | {"decode": "binary", "encode": "binary"},
)
