"""A training command: its run folder, checkpoints and signals; messages state what is kept and how a run goes on."""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from glasscell.cli.continuation import (
    RESTORE,
    check_inputs,
    earlier_place,
    first_kept,
    message_of,
    resume_words,
    starting_points,
    training_folder,
)
from glasscell.cli.interrupts import Interrupted
from glasscell.cli.run_files import Kinds, newest_checkpoint
from glasscell.cli.run_folder import RunFolder
from glasscell.cli.run_history import HISTORY_FILE, HistoryFile, best_score
from glasscell.cli.run_manifest import Manifest, checksum, launcher_words, process_of_run
from glasscell.cli.run_output import RunOutput
from glasscell.cli.terminal import program_name
from glasscell.escaping import escape
from glasscell.training.callbacks import TrainingState
from glasscell.training.checkpoint_errors import CheckpointError, CheckpointWarning
from glasscell.training.failures import TrainingError, TrainingWarning
from glasscell.training.history import History
from glasscell.validation import positive_integer


class CheckPassed(Exception):  # noqa: N818 - no error
    """Raised before the first training of a command with the option ``check_only``, which is internal."""


class TrainingRun(RunOutput):
    """A run of a training command. As a context, it states in errors what is kept.

    Parameters
    ----------
    options : argparse.Namespace
        With those of :func:`glasscell.cli.parser.add_run_folder`.
    kinds : mapping of str to callable
        Names of the files of a run, with predicates of their first bytes.
    default : Path
        Folder, unless the options have one.
    inputs : sequence of path
        Files of data, which must be the same when the run goes on.

    The attributes are those of :class:`glasscell.cli.run_output.RunOutput`.
    """

    def __init__(
        self, options: argparse.Namespace, kinds: Kinds, default: Path, inputs: Sequence[str | Path] = ()
    ) -> None:
        super().__init__(options.interrupts)
        self.options = options
        if options.checkpoint_every is not None:
            positive_integer("--checkpoint-every", options.checkpoint_every)
        self._training: Any = None
        self._number = 1  # of that training
        self._has_begun = False
        self._starting_points: dict[int, str] = {}
        checksums = {str(path): checksum(Path(path)) for path in inputs if Path(path).is_file()}
        self.is_resumed = options.resume is not None
        self.ranks: Any = getattr(options, "ranks", None)  # those of glasscell.cli.ranks; None: one process
        self._num_ranks = 1 if self.ranks is None else self.ranks.size
        self._changes_ranks = bool(getattr(options, "change_ranks", False))
        if self._changes_ranks and not self.is_resumed:
            raise ValueError("--change-ranks must be used with --resume")
        self._check_batch_size()
        if self.is_resumed:
            manifest = Manifest.read(Path(options.resume))
            check_inputs(manifest, checksums)
        else:
            process = process_of_run(self._num_ranks)
            manifest = Manifest(options.command, options.arguments, inputs=checksums, process=process)
        requested = options.resume or options.out
        self.folder = RunFolder(
            None if requested is None else Path(requested),
            default,
            kinds,
            manifest,
            overwrite=options.overwrite,
            resume=self.is_resumed,
        )
        self.folder.num_ranks = self._num_ranks
        if self.is_resumed:
            try:
                required = None if self._changes_ranks else self._num_ranks
                self._starting_points = starting_points(self.folder.display_path, required)
            except BaseException:
                self.folder.release(remove=False)
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.folder.__exit__(kind, error, traceback)
        if isinstance(error, Interrupted) or error is None:
            return
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(self.what_is_kept()) from None
        if isinstance(error, OSError) and self._has_begun and error.strerror and "kept" not in error.strerror:
            reason, file = error.strerror.partition("; ")[0], error.filename or str(self.folder.display_path)
            raise OSError(error.errno, f"{reason}; {self.what_is_kept()}", file) from None
        if self._training is not None or isinstance(error, FloatingPointError):
            for kind_of_error in (FloatingPointError, MemoryError, ValueError):
                if isinstance(error, kind_of_error):
                    message = message_of(error, self.options.command) or "not enough memory"
                    raised = kind_of_error(f"{message}; {self.what_is_kept()}")
                    raise (with_status_1(raised) if isinstance(error, TrainingError) else raised) from None

    def what_is_kept(self) -> str:
        """Return what is kept, and how the run goes on."""
        folder = self.folder.display_path
        kept = f"{self.kept} is kept in {folder}" if self.kept else ""
        update = newest_checkpoint(self.folder.folder)
        if update is None or self.folder.is_finished:
            return kept or "nothing is kept"
        if not kept:
            kept = f"the checkpoint of update {update} is kept in {folder}" if update else first_kept(folder)
        words = resume_words(self.options.command, self.folder.folder, folder)
        if words is None or (words[-1] == RESTORE and not self.kept and not update):
            return f"{kept}; begin again with a lower --learning-rate"
        return f"{kept}; to go on{self._from_earlier_checkpoint()}: {self._command_line(words)}"

    def _command_line(self, words: Sequence[str]) -> str:
        """Return a command line of this program that has as many processes as this one."""
        return " ".join([*launcher_words(self._num_ranks), program_name(), shlex.join(words)])

    def _from_earlier_checkpoint(self) -> str:
        """Return where an interrupted training goes on, if the checkpoint of its last update was not written."""
        if self._training is None or not (self.interrupts.finish or self.interrupts.raised):
            return ""
        return earlier_place(self.folder.folder, self._number, self._training.history.updates)

    def has_ended(self) -> bool:
        """Return whether a signal or a failure has ended the training."""
        return self.interrupts.finish or self.error is not None

    # Training

    def reserve_space(self, model: Any) -> None:
        """Write the untrained model under a temporary name: an error before the work if there is no space."""
        self._has_begun = True
        self.folder.reserve_space(model.save)

    def train(
        self,
        fit: Callable[..., History],
        model: Any,
        *arguments: Any,
        number: int = 1,
        writes_history: bool = True,
        callbacks: Sequence[Callable[[TrainingState], bool | None]] = (),
        **options: Any,
    ) -> History:
        """Train a model with checkpoints, from its newest one if the run goes on; a signal ends it after the update.

        Parameters
        ----------
        fit : callable
            :func:`glasscell.fit`.
        model : Trainable
        *arguments, callbacks, **options
            Arguments of `fit`.
        number : int
            Number of this training, if the run has several: the first one has the model that is kept.
        writes_history : bool
            Whether the history of this training is that of the run.
        """
        if getattr(self.options, "check_only", False):
            raise CheckPassed
        rows = [HistoryFile(self.folder.folder / HISTORY_FILE)] if writes_history else []
        callbacks = [*callbacks, *rows, partial(self._follow, number)]
        options |= {"callbacks": callbacks, "on_failure": self.options.on_failure} | self._checkpoint_options(number)
        self.folder.begin()
        with self.interrupts.finishing(), _printed_warnings():
            try:
                if self.ranks is not None:
                    fit = partial(self._fit_on_ranks, fit, number)
                history = fit(model, *arguments, **options)
            except ChildProcessError as error:  # of another rank
                self.interrupts.check()
                raise with_status_1(ChildProcessError(f"{error}; {self.what_is_kept()}")) from None
            except CheckpointError as error:  # it was said when it happened; the model is trained
                history = error.history
            except TrainingError as error:
                self._restore_evaluated(model, error)
                if number == 1 and not error.model_update:  # nothing was learned
                    self._keep_failed(error.history)
                    raise
                self.error, self._failed_number, history = error, number, error.history
            except FloatingPointError:
                self._keep_best(model)
                raise
        if writes_history:
            self._note_progress(history)
        return history

    def _checkpoint_options(self, number: int) -> dict[str, Any]:
        """Return the arguments of `fit` for checkpoints."""
        if self.options.no_checkpoints:
            return {}
        folder = training_folder(self.folder.display_path, number)
        goes_on = number in self._starting_points and newest_checkpoint(folder) is not None
        if goes_on:
            print(f"Continuing {folder} {self._starting_points[number]}.", flush=True)
        if number > 1 and (reason := self.folder.write_error()):
            print(f"glasscell: {reason}; the training goes on without checkpoints", file=sys.stderr)
            return {}
        every = self.options.checkpoint_every
        changed = {"change_ranks": True} if self._changes_ranks else {}
        return {"checkpoint": folder, "checkpoint_every": every, "resume": goes_on} | changed

    def _check_batch_size(self) -> None:
        """Raise ValueError if a batch has fewer sequences than there are ranks; the default is for `fit` to check."""
        for name in ("streams", "batch_size"):
            size = getattr(self.options, name, None)
            if size is not None and size < self._num_ranks:
                option = f"--{name.replace('_', '-')}"
                raise ValueError(f"{option} must be at least the number of processes, {self._num_ranks}, got {size}")

    def _fit_on_ranks(self, fit: Callable[..., History], number: int, *arguments: Any, **options: Any) -> History:
        folder = training_folder(self.folder.display_path, number)
        command = self._command_line([*self.options.command.split(), "--resume", str(self.folder.display_path)])
        history: History = self.ranks.fit(fit, arguments, options, folder, command)
        return history

    def _follow(self, number: int, state: TrainingState) -> bool:
        self._training, self._number = state.training, number
        return self.interrupts.finish

    def _note_progress(self, history: History) -> None:
        """Note updates and best score for the manifest."""
        manifest, name = self.folder.manifest, "loss"
        manifest.updates = history.updates
        if history.rows:
            options = None if self._training is None else self._training.options
            manifest.best = best_score(history, getattr(options, "monitor", name))

    def _restore_evaluated(self, model: Any, error: TrainingError) -> None:
        """Restore the best model that was evaluated, also where its loss is too large to go on from it."""
        training, best = self._training, error.history.best_update
        if best and training is not None and training.history is error.history and training.best_weights is not None:
            model.parameters.vector[:], error.model_update = training.best_weights, best

    def _keep_failed(self, history: History) -> None:
        """Write the history of a training that failed without a model, and keep the first checkpoint."""
        self.folder.keeps_first_checkpoint = not self.options.no_checkpoints
        self._note_progress(history)
        if history.rows:
            self.write_history(history)

    def _keep_best(self, model: Any) -> None:
        """Write the best model of a training that failed or, if none was evaluated, that of the last whole update."""
        training = self._training
        if training is None:
            return
        history = training.history
        self._note_progress(history)
        if training.best_weights is not None:
            model.parameters.vector[:] = training.best_weights
        try:
            self.save_model(model, f"the model of update {history.best_update or history.updates}")
        except (OSError, ValueError) as error:  # the training's own error is the one to report
            print(f"glasscell: the model could not be written: {error}", file=sys.stderr)

    def end(self) -> int:
        """Print the failures, and return the exit status; raise Interrupted after a training that was interrupted."""
        if self.error is not None:
            number = f"training {self._failed_number}: " if self._failed_number > 1 else ""
            print(
                f"glasscell: {number}{message_of(self.error, self.options.command)}; {self.what_is_kept()}",
                file=sys.stderr,
            )
        for failure in self.failures:
            print(f"glasscell: {failure}; the model is kept in {self.folder.display_path}", file=sys.stderr)
        if self.interrupts.finish or self.interrupts.raised:
            raise Interrupted(self.what_is_kept())
        return int(bool(self.failures) or self.error is not None)


def with_status_1(error: Exception) -> Exception:
    """Let a command that ends with this error have the exit status 1 instead of 2."""
    vars(error)["exit_status"] = 1
    return error


@contextmanager
def _printed_warnings() -> Iterator[None]:
    """Print warnings about checkpoints and failures as lines of the command."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"\nglasscell: {escape(str(message))}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", CheckpointWarning)
        warnings.simplefilter("always", TrainingWarning)
        warnings.showwarning = show
        yield
