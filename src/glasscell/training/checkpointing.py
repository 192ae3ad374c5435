"""Checkpoints during a training run: when they are written, how a run goes on, and what its end records."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from warnings import warn

from glasscell.escaping import one_line
from glasscell.training.arguments import TrainingOptions, optional
from glasscell.training.checkpoint_errors import CheckpointError, CheckpointWarning
from glasscell.training.state_comparison import check_state
from glasscell.training.training_state import state_of, stored_ranks
from glasscell.validation import positive_integer

if TYPE_CHECKING:
    from glasscell.training.checkpoint_files import StoredTraining
    from glasscell.training.checkpoints import CheckpointFolder
    from glasscell.training.manifest import RunState

TIME_SHARE = 0.01  # of the time of a training that checkpoints may take by default
SECONDS_BETWEEN = 600.0  # by default there is a checkpoint at least as often, evaluated or not


def check_options(options: TrainingOptions) -> None:
    """Check the arguments of checkpoints, before anything is changed.

    Raises
    ------
    TypeError, ValueError
        An argument out of range.
    FileNotFoundError
        If there is no checkpoint to go on from.
    FileExistsError
        If `checkpoint` has the checkpoints of an earlier run, which does not go on, or other files.
    """
    optional(positive_integer, "checkpoint_every", options.checkpoint_every)
    positive_integer("keep_checkpoints", options.keep_checkpoints)
    checkpoint, resume = options.checkpoint, options.resume
    if checkpoint is not None and not isinstance(checkpoint, str | os.PathLike):
        raise TypeError(f"checkpoint must be a folder, got {checkpoint!r}")
    if not isinstance(resume, bool | str | os.PathLike):
        raise TypeError(f"resume must be True, False or a folder, got {resume!r}")
    if checkpoint is None and options.checkpoint_every is not None:
        raise ValueError("checkpoint must be a folder for checkpoint_every, got None")
    if checkpoint is None and resume is True:
        raise ValueError("checkpoint must be a folder for resume=True, got None")
    source = checkpoint if resume is True else resume or None
    if checkpoint is None and source is None:
        return
    from glasscell.training.checkpoint_files import check_folder, has_checkpoint, has_updates  # noqa: PLC0415 - only where it is used

    if checkpoint is not None:
        check_folder(checkpoint)
    if source is not None and not has_checkpoint(source):
        raise FileNotFoundError(f"resume must be a folder with a checkpoint, got {source!s}, which has none")
    if checkpoint is not None and not _is_same(source, checkpoint) and has_updates(checkpoint):
        raise FileExistsError(
            f"checkpoint must be a folder without an earlier run, got {checkpoint!s}: "
            "pass resume=True to go on from the newest one, or another folder"
        )


def _is_same(source: Any, folder: Any) -> bool:
    return source is not None and os.path.realpath(source) == os.path.realpath(folder)


class TrainingCheckpoints:
    """The checkpoints of a training, as a context of its run: resumes it, writes them, and records how it ended.

    Parameters
    ----------
    training : Training

    Attributes
    ----------
    folder : CheckpointFolder or None
        Where the run writes checkpoints, from its begin to its end.
    interrupted : bool
        Whether Ctrl-C was pressed once: the training then ends after the update and its checkpoint.
    """

    def __init__(self, training: Any) -> None:
        self._training, options = training, training.options
        self._every = options.checkpoint_every
        self.folder: CheckpointFolder | None = None
        self._failure: OSError | None = None
        self._written = 0  # updates of the last checkpoint
        self._began = self._ended = time.monotonic()  # the run, and the last checkpoint
        self._seconds = 0.0  # of all checkpoints
        self._has_begun = False
        self._replaced: Any = None  # handler of Ctrl-C
        self.interrupted = False

    @property
    def is_active(self) -> bool:
        """Whether :meth:`after_update` is to be called."""
        return self.folder is not None

    # Begin and end

    def __enter__(self) -> Self:
        from glasscell.training.checkpoints import CheckpointFolder  # noqa: PLC0415 - only where it is used

        options = self._training.options
        if options.checkpoint is None:
            if not self._has_begun and options.resume is not False:
                self._resume(options.resume)
            self._has_begun = True
            return self
        self.folder, self.interrupted = CheckpointFolder(options.checkpoint, options.keep_checkpoints), False
        self._began, self._seconds = time.monotonic(), 0.0
        try:
            self._begin(self.folder, options)
        except BaseException:
            self.folder.close()
            raise
        self._take_signals()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.folder is None:
            return
        try:
            self._record_end(self.folder, error)
        finally:
            self.folder.close()
            self._return_signals()
        if error is None and self._failure is not None:
            raise self._error(self._failure)
        if error is None and self.interrupted:
            raise KeyboardInterrupt(self._place())

    def _take_signals(self) -> None:
        """Handle Ctrl-C, unless the user does."""
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if handler is signal.default_int_handler:
                self._replaced = handler
                signal.signal(signal.SIGINT, self._handle)

    def _return_signals(self) -> None:
        if self._replaced is not None:
            signal.signal(signal.SIGINT, self._replaced)
            self._replaced = None

    def _resume(self, folder: Any) -> None:
        """Restore the training from the newest complete checkpoint of a folder."""
        resume(self._training, newest_checkpoint(folder))

    def _begin(self, folder: CheckpointFolder, options: TrainingOptions) -> None:
        """Resume the training, and write a checkpoint, or that the run goes on."""
        if not self._has_begun and options.resume is not False:
            self._resume(options.checkpoint if options.resume is True else options.resume)
        if self._begin_run(folder, options):
            self._save()
        self._has_begun = True

    def _begin_run(self, folder: CheckpointFolder, options: TrainingOptions) -> bool:
        """Record that the run goes on; return whether the folder needs a checkpoint of this update first."""
        source = options.checkpoint if options.resume is True else options.resume or None
        if not self._has_begun and not _is_same(source, options.checkpoint):
            folder.begin_run()
        entries, updates = folder.manifest["checkpoints"], self._training.history.updates
        if not entries or entries[-1]["updates"] != updates:
            return True
        folder.set_state("running")
        self._written = updates
        return False

    def _handle(self, number: int, frame: Any) -> None:
        if self.interrupted:
            signal.default_int_handler(number, frame)
        self.interrupted = True

    def _record_end(self, folder: CheckpointFolder, error: BaseException | None) -> None:
        """Record in the manifest how the run ended, unless that was done; if it cannot be written, warn."""
        error = error or self._failure
        state: RunState = "finished"
        reason = ""
        if error is not None:
            state = "failed" if isinstance(error, Exception) else "interrupted"
            reason = f"{type(error).__name__}: {error}"[:500]
        elif folder.manifest["state"] != "running":  # recorded with the last checkpoint
            return
        try:
            folder.set_state(state, reason)
        except OSError as failure:
            if self._failure is None:
                self._warn(failure)

    def _place(self) -> str:
        return f"resume=True goes on from update {self._written}, in {self._training.options.checkpoint!s}"

    def _error(self, reason: OSError) -> CheckpointError:
        history = self._training.history
        error = CheckpointError(
            reason.errno,
            f"{reason.strerror or reason}; the {history.updates} updates are complete in the model, but the newest "
            f"checkpoint is that of update {self._written}: save the model elsewhere",
            str(self._training.options.checkpoint),
        )
        error.history, error.training = history, self._training
        return error

    # Write

    def after_update(self, *, evaluated: bool, ended: bool) -> None:
        """Write a checkpoint if it is time to; raise KeyboardInterrupt after Ctrl-C.

        Parameters
        ----------
        evaluated : bool
            Whether this update was evaluated.
        ended : bool
            Whether it was the last one.
        """
        if ended and self._training.has_finished():
            self._try_to_save("finished")
        elif ended:
            self._try_to_save("interrupted", "a callback ended the training")
        elif self.interrupted:
            self._try_to_save("interrupted", "Ctrl-C")
        elif self._is_due(self._training.history.updates, evaluated=evaluated):
            self._try_to_save()
        if self.interrupted:
            raise KeyboardInterrupt(self._place())

    def _is_due(self, updates: int, *, evaluated: bool) -> bool:
        if self._every is not None:
            return bool(updates % self._every == 0)
        return (evaluated and self._is_affordable()) or self._is_overdue()

    def _is_affordable(self) -> bool:
        """Return whether the checkpoints so far have taken less than their share of the time."""
        return self._seconds <= TIME_SHARE * (time.monotonic() - self._began)

    def _is_overdue(self) -> bool:
        """Return whether the last checkpoint was long ago."""
        return time.monotonic() - self._ended >= SECONDS_BETWEEN

    def _try_to_save(self, state: RunState = "running", reason: str = "") -> None:
        try:
            self._save(state, reason)
        except OSError as error:
            self._failure = error
            self._warn(error)

    def _save(self, state: RunState = "running", reason: str = "") -> None:
        assert self.folder is not None  # noqa: S101 - for mypy
        start = time.monotonic()
        try:
            self.folder.save(self._training, state, reason)
        finally:
            self._ended = time.monotonic()
            self._seconds += self._ended - start
        self._failure, self._written = None, self._training.history.updates

    def _warn(self, error: OSError) -> None:
        options, updates = self._training.options, self._training.history.updates
        warn(
            f"the checkpoint of update {updates} could not be written to {options.checkpoint!s}: "
            f"{error.strerror or error}; the training goes on in memory",
            CheckpointWarning,
            stacklevel=2,
        )


def newest_checkpoint(folder: Any) -> StoredTraining:
    """Return the newest complete checkpoint of a folder.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    from glasscell.training.checkpoint_files import read_newest  # noqa: PLC0415 - only where it is used

    stored = read_newest(folder)
    if stored is None:
        raise FileNotFoundError(f"resume must be a folder with a checkpoint, got {folder!s}, which has none")
    return stored


def resume(training: Any, stored: StoredTraining) -> None:
    """Restore a training from a checkpoint of the same model, data and options.

    Raises and warns as :func:`check_stored`.
    """
    check_stored(training, stored)
    with file_errors(stored):
        training.restore(stored.state)


@contextmanager
def file_errors(stored: StoredTraining) -> Iterator[None]:
    """Raise ValueError, which names the file, for errors of a state that was changed on purpose."""
    try:
        yield
    except (AttributeError, LookupError, OverflowError, TypeError) as error:
        raise ValueError(f"{stored.path} does not fit the training: {one_line(error)}") from None


def check_stored(training: Any, stored: StoredTraining) -> None:
    """Check that a checkpoint is one of the same model, data and options.

    The entry ``ranks`` of its state, of several processes, is removed if their number is to change.

    Warns
    -----
    CheckpointWarning
        If engine, threads, processor or versions are others: results then agree to rounding only.

    Raises
    ------
    ValueError
        If model, data, options or the version of Glasscell are others; the message names the first difference.
    """
    from glasscell.training.description import difference, other_environment  # noqa: PLC0415

    if different := difference(stored.description, training.description):
        raise ValueError(f"resume must continue the training of {stored.path} with the same arguments, got {different}")
    try:
        before, now = stored_ranks(stored.state), training.num_ranks
    except ValueError as error:
        raise ValueError(f"{stored.path} does not fit the training: {one_line(error)}") from None
    if before != now and not training.options.change_ranks:
        raise ValueError(
            f"comm must have as many processes as the training of {stored.path}, {before}, got {now}: "
            "pass change_ranks=True to go on with another number"
        )
    if before != now:
        stored.state.pop("ranks", None)
    try:
        state = {name: value for name, value in stored.state.items() if name != "ranks"}
        check_state(state, state_of(training, copy=False))
    except ValueError as error:
        raise ValueError(f"{stored.path} does not fit the training: {one_line(error)}") from None
    if other := other_environment(stored.description, training.description):
        warn(
            f"the training goes on with {other}: results agree with an uninterrupted one to rounding only",
            CheckpointWarning,
            stacklevel=2,
        )
