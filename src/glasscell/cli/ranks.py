"""A training command in several processes of MPI: rank 0 runs it, and the others take part in its trainings.

Rank 0 alone parses the command line, reads files, prints, and owns the folder. The other ranks wait for its requests:
to train a model with it, to read a text that each reads in part, or to end with its exit status. A mistake of the user
is therefore found, and reported, once.
"""

from __future__ import annotations

import io
import pickle
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from glasscell import __version__
from glasscell.cli import launchers
from glasscell.cli.interrupts import SIGNALS, Interrupts
from glasscell.cli.launchers import Launch
from glasscell.training.parallel.lost_ranks import UPDATE, LossReport, this_place

T = TypeVar("T")

TAG = 16  # of the message that precedes a request
FIT, TEXT, END = "fit", "text", "end"  # requests
LONGEST_PAUSE = 0.02  # seconds between two looks for a request
OF_FIRST_RANK = ("callbacks", "checkpoint", "checkpoint_every", "resume", "progress")  # arguments of `fit`


class Ranks:
    """The ranks of a command, on rank 0.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm

    Attributes
    ----------
    comm : mpi4py.MPI.Comm
    size : int
        Number of ranks.
    """

    def __init__(self, comm: Any) -> None:
        self.comm, self.size = comm, int(comm.Get_size())
        self._texts: list[Any] = []  # that each rank has
        self._places = comm.allgather(this_place())
        self._report: LossReport | None = None

    def fit(
        self,
        function: Callable[..., T],
        arguments: Sequence[Any],
        options: Mapping[str, Any],
        folder: Path,
        command: str,
    ) -> T:
        """Call :func:`glasscell.fit` on all ranks, and return the result of this one.

        Parameters
        ----------
        function : callable
            `fit`, on this rank.
        arguments, options : sequence, mapping
        folder : Path
            Folder of the checkpoints, for the message if a rank is lost.
        command : str
            Command line with which the run then goes on.

        Raises
        ------
        ChildProcessError
            If another rank has failed.
        """
        from glasscell.training.parallel.errors import RankError  # noqa: PLC0415 - after the errors of the command line

        sent = {name: value for name, value in options.items() if name not in OF_FIRST_RANK}
        file = io.BytesIO()
        _Pickler(file, self._texts).dump((arguments, sent))
        self._request(FIT, file.getvalue())
        self._report_losses(folder, command)
        try:
            return function(*arguments, **options, comm=self.comm)
        except RankError as error:
            raise ChildProcessError(str(error)) from None

    def read_text(self, *arguments: Any, **options: Any) -> Any:
        """Return `TextData.from_files` of these arguments, on all ranks."""
        from glasscell.data.text.text_data import TextData  # noqa: PLC0415 - only where it is used

        self._request(TEXT, pickle.dumps((arguments, options)))
        self._texts.append(TextData.from_files(*arguments, comm=self.comm, **options))
        return self._texts[-1]

    def _report_losses(self, folder: Path, command: str) -> None:
        """Let a message be printed if a rank is lost from now on."""
        self.dismiss()
        if len(set(self._places)) == self.size:  # and not the threads of a test
            kept = f"the checkpoint of update {UPDATE} is kept in {folder}; to go on: {command}"
            self._report = LossReport(self._places, folder, (kept, f"there is no checkpoint in {folder}"))

    def dismiss(self) -> None:
        """Let no message be printed if a rank is lost: the command ends."""
        if self._report is not None:
            self._report.dismiss()

    def end(self, status: int) -> None:
        """Let the other ranks end with an exit status."""
        self.dismiss()
        self._send(END, pickle.dumps(status))

    def _request(self, kind: str, content: bytes) -> None:
        """Send a request, and raise an error if a rank cannot do it."""
        self._send(kind, content)
        problems = self.comm.allgather("")
        for rank, problem in enumerate(problems):
            if problem:
                raise ChildProcessError(f"rank {rank} failed: {problem}")

    def _send(self, kind: str, content: bytes) -> None:
        for rank in range(1, self.size):
            self.comm.send(None, dest=rank, tag=TAG)
        self.comm.bcast((__version__, kind, content), root=0)


class _Pickler(pickle.Pickler):
    """Pickles texts that all ranks have as their numbers."""

    def __init__(self, file: Any, texts: list[Any]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._texts = texts

    def persistent_id(self, value: Any) -> int | None:
        """Return the number of a text."""
        return next((number for number, text in enumerate(self._texts) if text is value), None)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, texts: list[Any]) -> None:
        super().__init__(file)
        self._texts = texts

    def persistent_load(self, number: int) -> Any:
        """Return the text of a number."""
        return self._texts[number]


def serve(comm: Any) -> int:
    """Do what rank 0 requests, and return the exit status of the command."""
    texts: list[Any] = []
    comm.allgather(this_place())
    while True:
        _wait(comm)
        version, kind, content = comm.bcast(None, root=0)
        if kind == END:
            return int(pickle.loads(content))  # noqa: S301 - of a process of this program
        problem, loaded = "", None
        try:
            loaded = load_request(version, content, texts)
        except Exception as error:  # noqa: BLE001 - whatever it is, rank 0 reports it
            problem = f"{type(error).__name__}: {error}"
        problems = comm.allgather(problem)
        if not any(problems):
            _do(kind, loaded, texts, comm)


def load_request(version: str, content: bytes, texts: list[Any]) -> Any:
    """Return the content of a request of rank 0.

    Raises
    ------
    RuntimeError
        If rank 0 has another version of the library.
    """
    if version != __version__:
        raise RuntimeError(f"it has version {__version__}, and rank 0 has {version}")
    return _Unpickler(io.BytesIO(content), texts).load()


def _wait(comm: Any) -> None:
    """Wait for a request without occupying a core, as the receiving functions of MPI would."""
    pause = 1e-4
    while not comm.Iprobe(source=0, tag=TAG):
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
    comm.recv(source=0, tag=TAG)


def _do(kind: str, loaded: Any, texts: list[Any], comm: Any) -> None:
    """Take part in a training, or in reading a text. Rank 0 gets the errors, and reports them."""
    from glasscell.data.text.text_data import TextData  # noqa: PLC0415 - only where it is used

    try:
        arguments, options = loaded
        if kind == TEXT:
            texts.append(TextData.from_files(*arguments, comm=comm, **options))
        else:
            fit_of_rank(*arguments, **options, comm=comm)
    except BaseException:  # noqa: BLE001, S110 - also SystemExit: shared with rank 0 by `fit` and `from_files`
        pass


def fit_of_rank(*arguments: Any, **options: Any) -> None:
    """Call `fit` on a rank that is not the first one."""
    from glasscell.training.fitting import fit  # noqa: PLC0415 - only where it is used

    fit(*arguments, **options)


# Start


def run_on_ranks(launch: Launch, interrupts: Interrupts) -> int:
    """Run the command line as one of several processes, and return its exit status."""
    from glasscell.cli.command_line import run  # noqa: PLC0415 - not on other ranks

    arguments, is_first = sys.argv[1:], launch.rank == 0
    if launchers.is_information(arguments):
        return run(None, interrupts) if is_first else 0
    try:
        # MPI starts when all processes are there, and no handler runs meanwhile: signals end this one at once, and then
        # the launcher ends the others.
        handlers = _set_handlers(dict.fromkeys(SIGNALS, signal.SIG_DFL))
        comm = _start(launch, arguments)
        _set_handlers(handlers if is_first else dict.fromkeys(SIGNALS, signal.SIG_IGN))  # rank 0 gets them as well
    except ChildProcessError as error:
        if is_first:
            print(f"glasscell: {error}", file=sys.stderr, flush=True)
        return 2
    try:
        if comm.Get_rank() == 0:
            return _run_first(comm, interrupts)
        warnings.simplefilter("ignore")  # rank 0 shows them
        return serve(comm)
    except SystemExit:
        raise
    except BaseException as error:  # a fault of this program: the other ranks must end, too
        traceback.print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
        comm.Abort(1)
        raise


def _set_handlers(handlers: Mapping[signal.Signals, Any]) -> dict[signal.Signals, Any]:
    """Set handlers of signals that are not ignored already, as under nohup; return those before."""
    before = {number: signal.getsignal(number) for number in handlers}
    for number, handler in handlers.items():
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, handler)
    return before


def _start(launch: Launch, arguments: Sequence[str]) -> Any:
    """Start MPI, and return the communicator of all processes.

    Raises
    ------
    ChildProcessError
        If the command does not train, or MPI cannot be started.
    """
    if not launchers.is_training(arguments):
        raise ChildProcessError(
            f"glasscell {arguments[0]} must be run by one process, got {launch.size} of {launch.launcher}: "
            "only copy, text train, classify and forecast run with several processes"
        )
    try:
        from mpi4py import MPI  # noqa: PLC0415 - it starts MPI
    except ImportError:
        started = f"{launch.launcher} has started {launch.size} processes, which need mpi4py"
        raise ChildProcessError(f"{started}: pip install 'glasscell[mpi]', or start one process") from None
    except RuntimeError as error:  # mpi4py finds no library of MPI
        raise ChildProcessError(f"mpi4py cannot start MPI: {' '.join(str(error).split())}") from None
    comm = MPI.COMM_WORLD
    if comm.Get_size() != launch.size:
        raise ChildProcessError(
            f"{launch.launcher} has started {launch.size} processes, but MPI has {comm.Get_size()}: it must be the "
            "launcher of the MPI library that mpi4py uses (with Slurm: srun --mpi=pmi2 or --mpi=pmix)"
        )
    return comm


def _run_first(comm: Any, interrupts: Interrupts) -> int:
    from glasscell.cli.command_line import run  # noqa: PLC0415

    ranks = Ranks(comm)
    interrupts.before_exit = ranks.dismiss
    try:
        status = run(None, interrupts, ranks=ranks)
    except SystemExit as error:  # of the parser
        status = int(error.code or 0)
    interrupts.end()  # a signal that came between the messages would leave the others waiting
    ranks.end(status)
    return status
