"""Checkpoints of a training with several ranks: rank 0 reads and writes them, and the others take part."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from glasscell.training.checkpointing import TrainingCheckpoints, check_stored, file_errors, newest_checkpoint
from glasscell.training.checkpoints import CheckpointFolder
from glasscell.training.manifest import RunState
from glasscell.training.parallel.messages import AFFORDABLE, INTERRUPTED, OVERDUE


class ParallelCheckpoints(TrainingCheckpoints):
    """The checkpoints of a training with several ranks.

    When one is due, and whether Ctrl-C was pressed, is decided from flags that are sent with each update.

    Attributes
    ----------
    signalled : bool
        Whether this process has received a Ctrl-C. `interrupted`: whether any process has; the same on all ranks.
    """

    def __init__(self, training: Any) -> None:
        super().__init__(training)
        self._ranks = training.ranks
        self._folder_name: str | None = None  # the same on all ranks
        self.signalled = self._affordable = self._overdue = False

    @property
    def is_active(self) -> bool:
        """Whether :meth:`after_update` is to be called: always, since it ends the training after Ctrl-C."""
        return True

    # Begin and end

    def __enter__(self) -> Self:
        ranks = self._ranks
        self.interrupted = self.signalled = False
        self._take_signals()
        try:
            with ranks.message():  # also what lies between: an error there is not shared
                stored = ranks.from_first(ranks.together(self._open))
                if stored is not None:
                    ranks.together(lambda: self._restore(stored))
                self._folder_name, self._every, is_new = ranks.from_first(ranks.together(self._begin_on_first))
                if is_new:
                    self._save_together()
        except BaseException:
            self._close()
            raise
        self._has_begun = True
        return self

    def _open(self) -> Any:
        """Open the folder, and return the checkpoint from which the training goes on, if any; on rank 0 alone."""
        options = self._training.options
        if not self._ranks.is_first:
            return None
        if options.checkpoint is not None:
            self.folder = CheckpointFolder(options.checkpoint, options.keep_checkpoints)
            self._began, self._seconds = time.monotonic(), 0.0
        if self._has_begun or options.resume is False:
            return None
        stored = newest_checkpoint(options.checkpoint if options.resume is True else options.resume)
        check_stored(self._training, stored)
        return stored

    def _restore(self, stored: Any) -> None:
        with file_errors(stored):
            self._training.restore(stored.state)

    def _begin_on_first(self) -> tuple[str | None, int | None, bool]:
        """Return the folder, `checkpoint_every`, and whether the folder needs a checkpoint now; of rank 0."""
        if self.folder is None:
            return None, None, False
        options = self._training.options
        return str(options.checkpoint), options.checkpoint_every, self._begin_run(self.folder, options)

    def _save_together(self) -> None:
        """Write a checkpoint on rank 0, and raise its errors on all ranks."""
        with self._training.joined_state():
            self._ranks.together(lambda: self._save() if self._ranks.is_first else None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leave = super().__exit__
        if error is not None:
            try:
                leave(kind, error, trace)
            finally:
                self._close()
            return
        try:
            self._ranks.together(lambda: leave(None, None, None))
        finally:
            self._close()
        if self.interrupted or self.signalled:
            raise KeyboardInterrupt(self._place())

    def _close(self) -> None:
        self._return_signals()
        if self.folder is not None:
            with suppress(OSError):
                self.folder.close()

    def _handle(self, number: int, frame: Any) -> None:
        if self.signalled:
            signal.default_int_handler(number, frame)
        self.signalled = True

    # Flags

    def flags(self) -> int:
        """Return the flags that this rank sends."""
        flags = INTERRUPTED if self.signalled else 0
        if self.folder is not None and self._every is None:
            flags |= (AFFORDABLE if self._is_affordable() else 0) | (OVERDUE if self._is_overdue() else 0)
        return flags

    def receive(self, flags: Any) -> None:
        """Take the flags of all ranks, (n,)."""
        self.interrupted = bool((flags & INTERRUPTED).any())
        self._affordable, self._overdue = bool(flags[0] & AFFORDABLE), bool(flags[0] & OVERDUE)

    def _is_due(self, updates: int, *, evaluated: bool) -> bool:
        if self._folder_name is None:
            return False
        if self._every is not None:
            return bool(updates % self._every == 0)
        return (evaluated and self._affordable) or self._overdue

    # Write

    def _try_to_save(self, state: RunState = "running", reason: str = "") -> None:
        if self._folder_name is None:
            return
        with self._training.joined_state():
            if self._ranks.is_first:
                super()._try_to_save(state, reason)
        if not self._ranks.is_first:
            self._written = self._training.history.updates

    def _place(self) -> str:
        if self._folder_name is None:
            return f"the training ends after update {self._training.history.updates}"
        return f"resume=True goes on from update {self._written}, in {self._folder_name}"
