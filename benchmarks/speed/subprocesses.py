"""Run Python programs in separate processes: their time to the first line, and their memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

import glasscell

PACKAGES = (str(Path(glasscell.__file__).parents[1]), str(Path(__file__).resolve().parents[1]))
# Prints the peak of the process's own memory, in bytes. On Linux a child inherits the ru_maxrss of who started it.
PEAK = """
def peak():
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except OSError:
        import resource, sys
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
"""


class ProcessResult(NamedTuple):
    """Result of a process.

    Attributes
    ----------
    seconds : float
        From its start to its first line.
    lines : list of str
        What it printed.
    """

    seconds: float
    lines: list[str]


def run(program: str, arguments: Sequence[str] = ()) -> ProcessResult:
    """Run a program in a separate Python process.

    Raises
    ------
    ChildProcessError
        If it fails, with the last line that it said.
    """
    # What pip installs is compiled to bytecode; so are we, by the first of our processes, if we are not installed so.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    path = os.pathsep.join(filter(None, [*PACKAGES, os.environ.get("PYTHONPATH")]))
    with TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        start = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-u", "-c", program, *arguments],  # -u: a line comes when it is printed
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment | {"PYTHONPATH": path},
        ) as child:
            assert child.stdout is not None  # a pipe  # noqa: S101
            first = child.stdout.readline()
            seconds = time.perf_counter() - start
            rest = child.stdout.read()
        if child.returncode:
            errors.seek(0)
            said = errors.read().strip().splitlines()
            raise ChildProcessError(f"a process of the benchmark failed: {said[-1] if said else child.returncode}")
    return ProcessResult(seconds, (first + rest).splitlines())
