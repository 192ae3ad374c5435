"""Callback that writes the history of a training for TensorBoard, with the package tensorboardX."""

from __future__ import annotations

import math
import os
import secrets
import time
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from glasscell.training.failures import TrainingWarning
from glasscell.validation import positive_integer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from glasscell.atomic_files import StrPath
    from glasscell.training.callbacks import TrainingState

SECONDS_BETWEEN_FLUSHES = 5.0


class TensorBoard:
    """Callback that writes losses, scores and learning rates for TensorBoard.

    ``tensorboard --logdir FOLDER`` shows them. Scores of the validation have the tags ``validation/…``, all others
    ``training/…``; the step is the number of the update. An error of a file ends the writing with a warning, and not
    the training. As a context it closes its file at the end; otherwise the file is closed with the callback.

    Parameters
    ----------
    folder : path
        Made if it does not exist. Each callback writes a file of a new name.
    interval : int
        Updates between rows that are written; evaluated ones always are.

    Attributes
    ----------
    error : Exception or None
        The error that has ended the writing.

    Raises
    ------
    ImportError
        If tensorboardX is not installed.
    OSError
        If the file cannot be made.

    Examples
    --------
    >>> with TensorBoard("runs/board") as board:  # doctest: +SKIP
    ...     gc.fit(model, data, callbacks=[board])
    """

    def __init__(self, folder: StrPath, interval: int = 1) -> None:
        self._interval = positive_integer("interval", interval)
        self._Event, self._Summary, EventsWriter = _tensorboard_classes()
        from pathlib import Path  # noqa: PLC0415 - takes longer to load than a model

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # Its own names differ by seconds only.
        suffix = f".{os.getpid()}.{secrets.token_hex(4)}"
        # Not its asynchronous writer: after an error of its thread the training would wait for ever.
        self._writer: Any = EventsWriter(str(folder / "events"), suffix)
        self._flushed = 0.0
        self.error: Exception | None = None

    def __call__(self, state: TrainingState) -> None:
        """Write the last row of the history, if it is due."""
        row = state.history.rows[-1]
        if self._writer is None or (state.history.updates % self._interval and not state.history.was_evaluated):
            return
        try:
            self._write(row)
        except Exception as error:  # noqa: BLE001 - whatever it is, the training continues
            self._end(error)

    def _write(self, row: Mapping[str, float]) -> None:
        values = [
            self._Summary.Value(tag=_tag(name), simple_value=float(row[name])) for name in row if name != "update"
        ]
        now = time.time()
        self._writer.write_event(
            self._Event(wall_time=now, step=int(row["update"]), summary=self._Summary(value=values))
        )
        if not math.isfinite(row["loss"]) or now - self._flushed > SECONDS_BETWEEN_FLUSHES:
            self._writer.flush()
            self._flushed = now

    def _end(self, error: Exception) -> None:
        """Write nothing any more."""
        writer, self._writer, self.error = self._writer, None, error
        with suppress(Exception):
            writer.close()
        warnings.warn(f"nothing more is written for TensorBoard: {error}", TrainingWarning, stacklevel=3)

    def close(self) -> None:
        """Write everything to the file, and close it; an error is a warning."""
        if self._writer is not None:
            try:
                self._writer.close()
            except Exception as error:  # noqa: BLE001 - whatever it is, the training is complete
                self._end(error)
            self._writer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_writer", None) is not None:
            self.close()


def _tensorboard_classes() -> tuple[Any, Any, Any]:
    try:
        from tensorboardX.event_file_writer import EventsWriter  # noqa: PLC0415 - optional
        from tensorboardX.proto import event_pb2, summary_pb2  # noqa: PLC0415
    except ImportError as error:
        raise ImportError("TensorBoard needs tensorboardX: pip install 'glasscell[tensorboard]'") from error
    return event_pb2.Event, summary_pb2.Summary, EventsWriter


def _tag(name: str) -> str:
    """Return the tag of a column of the history."""
    score = name.removeprefix("validation_")
    return f"training/{name}" if score == name else f"validation/{score}"
