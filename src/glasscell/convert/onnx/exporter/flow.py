"""What the layers that are written so far give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from glasscell.convert.onnx.exporter.lstm import LSTMOutputs


@dataclass(frozen=True)
class TensorRef:
    """What the layers so far give.

    Attributes
    ----------
    value : str
        Its name in the graph.
    features : int, optional
        None where that is not known yet.
    in_time : bool
        Whether it is (B, T, F), and not (B, F).
    lstm : Written, optional
        The LSTM that gives it, if it is directly before.
    time : str or int, optional
        How many steps it has: "time" if as many as the input, None if another number.
    """

    value: str
    features: int | None
    in_time: bool = True
    lstm: LSTMOutputs | None = None
    time: str | int | None = "time"


def refuse(name: str, why: str) -> NoReturn:
    """Raise a ValueError that names the layer."""
    raise ValueError(f"the layer {name!r} {why}")
