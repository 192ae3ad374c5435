"""Run a training function over settings and seeds, with one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from glasscell.atomic_files import StrPath
from glasscell.sweeps.errors import SweepError, SweepInterrupted
from glasscell.sweeps.execution import ExecutorError, Runs, RunsInProcess, RunsOnExecutor, check_executor
from glasscell.sweeps.grid import Grid
from glasscell.sweeps.job import Job
from glasscell.sweeps.progress import RowReporter, row_progress
from glasscell.sweeps.result import SweepResult
from glasscell.sweeps.row_file import RowFile
from glasscell.sweeps.rows import Row, key_of
from glasscell.training.history import History
from glasscell.validation import boolean


def sweep(
    train: Callable[..., Mapping[str, Any] | History],
    /,
    *,
    seeds: int | Sequence[int],
    executor: Any = None,
    file: StrPath | None = None,
    resume: bool = False,
    retry_failed: bool = False,
    progress: bool | Callable[[Row], None] = False,
    **grid: Sequence[Any],
) -> SweepResult:
    """Run a training function for each combination of values and each seed.

    Parameters
    ----------
    train : callable
        Called with ``seed=`` and one value of each name of the grid. Returns a mapping of scores (numbers, texts, truth
        values or None by name), or a :class:`History`, whose last values are the scores and whose evaluations are the
        learning curve. A mapping may have a History under the name "history". Its errors become failed rows.
    seeds : int or sequence of int
        Different seeds; a number n means 0 to n - 1. A sweep has at most 1,000,000 runs.
    executor : optional
        Any executor of concurrent.futures (ProcessPoolExecutor, ThreadPoolExecutor), loky,
        ``mpi4py.futures.MPIPoolExecutor``, or a ``dask.distributed.Client``. It is not shut down. For one with
        processes `train` must be a function at the top level of a module. Default: in this process, one after another.
    file : path, optional
        Gets one line of JSON per run, flushed to disk when the run ends: see docs/sweeps.md. Default: none.
    resume : bool
        Go on with the rows of `file`, if there is one: their runs are not repeated. Training function and grid must be
        those of the file; more values of a name and more seeds extend the sweep.
    retry_failed : bool
        With `resume`, repeat the runs that failed.
    progress : bool or callable
        Show progress on standard error: a bar on a terminal, if tqdm is installed; otherwise lines. Or a function that
        is called with each new row, after it has been written.
    **grid : sequence of values
        Numbers, texts, truth values, None, or lists of these, by the name of the argument of `train`. NumPy's numbers
        are passed as those of Python. Integers have at most 1000 bits.

    Returns
    -------
    SweepResult
        Rows in the order of the grid: the last name varies fastest, and seeds faster still.

    Raises
    ------
    TypeError, ValueError
        An argument out of range: a name that `train` does not accept, a name without values, repeated values or seeds,
        a function that cannot be sent to processes, a file that is damaged or of another sweep.
    FileExistsError, BlockingIOError, OSError
        If `file` exists and `resume` is False, another sweep uses it, or it cannot be written.
    RuntimeError
        If the executor is shut down.
    SweepError
        A RuntimeError: the executor failed, such as by a process that died. ``error.result`` has the rows until then.
    SweepInterrupted
        A KeyboardInterrupt, after Ctrl-C, with the same attribute. Runs that wait are cancelled.

    Warns
    -----
    SweepWarning
        If the last line of `file` was incomplete, after a kill: it is removed, and its run is repeated.

    Examples
    --------
    >>> import glasscell as gc
    >>> def train(seed, hidden_size):
    ...     model = gc.CopyLSTM(hidden_size, task=gc.tasks.Copy(2), seed=seed)
    ...     history = gc.fit(model, model.task, updates=5, seed=seed)
    ...     return {"loss": history["loss"][-1]}
    >>> result = gc.sweep(train, seeds=2, hidden_size=[4, 8])
    >>> [(row["setting"]["hidden_size"], row["seed"]) for row in result.rows]
    [(4, 0), (4, 1), (8, 0), (8, 1)]
    """
    if boolean("retry_failed", retry_failed) and not resume:
        raise ValueError("retry_failed=True needs resume=True")
    if boolean("resume", resume) and file is None:
        raise ValueError("resume=True needs file")
    if not callable(progress):
        boolean("progress", progress)
    if executor is not None:
        check_executor(executor)
    described = Grid.of(train, seeds, grid)
    with _opened(file, described, resume=resume) as row_file:
        return _Sweep(train, described, row_file, retry_failed=retry_failed).run(executor, progress)


@contextmanager
def _opened(file: StrPath | None, grid: Grid, *, resume: bool) -> Iterator[RowFile | None]:
    if file is None:
        yield None
        return
    row_file = RowFile(file, grid, resume=resume)
    try:
        yield row_file
    finally:
        row_file.close()


class _Sweep:
    """A sweep in progress."""

    def __init__(self, train: Callable[..., Any], grid: Grid, row_file: RowFile | None, *, retry_failed: bool) -> None:
        self._grid, self._file, self._all = grid, row_file, grid.runs
        self._rows: dict[str, Row] = {}
        self._ended: set[str] = set()  # runs of this sweep that have a row
        for key, row in ({} if row_file is None else row_file.rows).items():
            self._rows[key] = {**row, "setting": self._all[key][0]}  # with tuples, which JSON has as lists
        repeated = {key for key, row in self._rows.items() if retry_failed and row["status"] == "failed"}
        left = [key for key in self._all if key not in self._rows or key in repeated]
        self._jobs = [Job(train, *self._all[key]) for key in left]

    def run(self, executor: Any, progress: bool | RowReporter) -> SweepResult:
        """Run what is left, and return all rows."""
        runs: Runs = RunsInProcess(self._jobs)
        done = len(self._all) - len(self._jobs)
        reporter: AbstractContextManager[RowReporter] = nullcontext(progress if callable(progress) else lambda _: None)
        if progress and not callable(progress):
            reporter = row_progress(done, len(self._all))
        try:
            if executor is not None:
                runs = RunsOnExecutor(executor, self._jobs)
            with reporter as report:
                for row in runs:
                    self._add(row, report)
        except (ExecutorError, KeyboardInterrupt) as error:
            runs.cancel()
            for row in runs.finished():
                self._rows[key_of(row["setting"], row["seed"])] = row
                if self._file is not None:
                    self._file.append_once(row)
            if isinstance(error, ExecutorError):
                raise SweepError(f"the executor failed ({error}); {self._kept()}", self._result()) from error
            raise SweepInterrupted(f"the sweep was interrupted; {self._kept()}", self._result()) from None
        except BaseException:
            runs.cancel()
            raise
        return self._result()

    def _add(self, row: Row, report: RowReporter) -> None:
        key = key_of(row["setting"], row["seed"])
        if key not in self._all or key in self._ended:
            raise TypeError("executor must return the result of each function once, got one of another run")
        self._ended.add(key)
        self._rows[key] = row
        if self._file is not None:
            self._file.append(row)
        report(row)

    def _kept(self) -> str:
        """Return how many rows there are, and how the sweep goes on."""
        number = f"{len(self._rows)} of {len(self._all)} rows"
        if self._file is None:
            return f"{number} are in the attribute result of this error"
        if not self._rows:
            return "there is no row yet"
        return f"{number} are kept in {self._file.path}: resume=True goes on"

    def _result(self) -> SweepResult:
        folder = None if self._file is None else self._file.absolute.parent
        return SweepResult(self._grid, [self._rows[key] for key in self._all if key in self._rows], folder)
