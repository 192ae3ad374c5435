"""The output of the layers that have been exported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from glasscell.convert.onnx.exporter.lstm import LSTMOutputs


@dataclass(frozen=True)
class TensorRef:
    """The output of the last exported layer.

    Attributes
    ----------
    value : str
        Its name in the graph.
    features : int, optional
        None if the number is unknown.
    is_sequence : bool
        Whether the shape is (B, T, F), and not (B, F).
    lstm : LSTMOutputs, optional
        Set if the last layer is an LSTM.
    time : str or int, optional
        Number of steps: "time" for that of the input, None for an unknown number.
    """

    value: str
    features: int | None
    is_sequence: bool = True
    lstm: LSTMOutputs | None = None
    time: str | int | None = "time"


def raise_unsupported(name: str, reason: str) -> NoReturn:
    """Raise a ValueError that names the layer."""
    raise ValueError(f"the layer {name!r} {reason}")
