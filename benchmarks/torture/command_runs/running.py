"""Run training commands in forked processes, and compare the files of their folders.

The parent process imports the library once and computes nothing itself: a child starts within milliseconds.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported; the processes are forked

import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from glasscell.cli import main
from glasscell.cli.run_files import newest_checkpoint

COMMANDS = {  # of about a third of a second each
    "copy": "--width 4 --hidden-size 6 --steps 400 --batch-size 8",
    "text train": "cat.txt --hidden-size 12 --num-layers 1 --steps 10 --streams 6 --epochs 3 --evaluate-every 25 "
    "--dropout 0.2",
    "classify": "rows.csv --label kind --hidden-size 6 --updates 120 --seeds 2 --dropout 0.2",
    "forecast": "s.csv --column sales --hidden-size 6 --updates 80 --window 20 --horizon 6 --members 2",
}


class Ended(NamedTuple):
    """How a command ended.

    Attributes
    ----------
    status : int
        Exit status; -n: ended by signal n.
    output : str
        Standard output and standard error.
    """

    status: int
    output: str

    @property
    def last_line(self) -> str:
        """Last line that is not empty."""
        return next((line for line in reversed(self.output.splitlines()) if line.strip()), "")


def write_data(folder: Path) -> None:
    """Write the files of data that the commands read."""
    rng = np.random.default_rng(0)
    (folder / "cat.txt").write_text("the cat sat on the mat, and the dog sat on the log.\n" * 60)
    values = rng.normal(size=(60, 4))
    rows = [f"{'ab'[int(row.sum() > 0)]},{','.join(f'{value:.4f}' for value in row)}" for row in values]
    (folder / "rows.csv").write_text("kind,p,q,r,s\n" + "\n".join(rows) + "\n")
    y = 50 + 10 * np.sin(np.arange(120) * 2 * np.pi / 12) + rng.normal(size=120)
    (folder / "s.csv").write_text("\n".join(["sales", *(f"{value:.2f}" for value in y)]) + "\n")


def arguments_of(command: str, *options: str) -> list[str]:
    """Return the arguments of a run in the folder ``run``."""
    return [*command.split(), *COMMANDS[command].split(), "--out", "run", *options]


class Process:
    """A command in a child process.

    Parameters
    ----------
    arguments : list of str
    folder : Path
        Working directory.
    prepare : callable, optional
        Called in the child before the command.
    """

    def __init__(self, arguments: list[str], folder: Path, prepare: Callable[[], None] | None = None) -> None:
        self._output = folder / f".output-{time.monotonic_ns()}"
        sys.stdout.flush()
        sys.stderr.flush()
        self.number = os.fork()
        if self.number:
            return
        status = 99
        try:
            self._run(arguments, folder, prepare)
        finally:  # nothing of the parent process is cleaned up here
            os._exit(status)

    def _run(self, arguments: list[str], folder: Path, prepare: Callable[[], None] | None) -> None:
        """Run the command, and end the process."""
        status = 99
        try:
            os.chdir(folder)
            for name in ("numba", "matplotlib"):
                sys.modules.setdefault(name, None)  # type: ignore[arg-type] # not imported: the import takes a second
            descriptor = os.open(self._output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            if prepare is not None:
                prepare()
            sys.argv = ["glasscell", *arguments]
            status = main()
            if sys.stdout is not None:  # otherwise it was closed
                sys.stdout.flush()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:  # noqa: BLE001 - printed
            traceback.print_exc()
        os._exit(status)

    def wait_until(self, condition: Callable[[], object], seconds: float = 60.0) -> bool:
        """Wait until a condition holds; return whether it does before the process ends."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return True
            if os.waitid(os.P_PID, self.number, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return bool(condition())
            time.sleep(0.0005)
        raise TimeoutError(f"process {self.number} does not begin")

    def send(self, number: int) -> None:
        """Send a signal; the process may have ended."""
        os.kill(self.number, number)  # it is not waited for: its number is not used again

    def end(self) -> Ended:
        """Wait for the end."""
        _, status = os.waitpid(self.number, 0)
        output = self._output.read_text("utf-8", errors="replace") if self._output.exists() else ""
        self._output.unlink(missing_ok=True)
        return Ended(os.waitstatus_to_exitcode(status), output)


def run(arguments: list[str], folder: Path, prepare: Callable[[], None] | None = None) -> Ended:
    """Run a command to its end."""
    return Process(arguments, folder, prepare).end()


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files in a folder but the manifest of a run, which has times."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def has_begun(folder: Path) -> bool:
    """Return whether the run in a folder has its first checkpoint."""
    return newest_checkpoint(folder) is not None


class Reference(NamedTuple):
    """A run that was not disturbed.

    Attributes
    ----------
    command : str
    files : dict of str to bytes
    seconds : float
        From its first checkpoint to its end.
    """

    command: str
    files: dict[str, bytes]
    seconds: float


def reference(command: str, folder: Path, *options: str) -> Reference:
    """Run a command undisturbed."""
    folder.mkdir()
    write_data(folder)
    process = Process(arguments_of(command, *options), folder)
    process.wait_until(lambda: has_begun(folder / "run"))
    start = time.monotonic()
    ended = process.end()
    if ended.status:
        raise RuntimeError(f"{command} ends with status {ended.status}: {ended.output}")
    return Reference(command, files_of(folder / "run"), time.monotonic() - start)
