"""Run a program with mpiexec."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SECONDS = 120  # much more than a run takes


def launcher():
    """Return mpiexec of the environment that has mpi4py, or of the system.

    If there is none, skip the test, or fail it with GLASSCELL_REQUIRE_MPI=1.
    """
    missing = pytest.fail if os.environ.get("GLASSCELL_REQUIRE_MPI") else pytest.skip
    package = find_spec("mpi4py")
    if package is None or package.origin is None:
        missing("mpi4py is not installed")
    program = Path(package.origin).parents[4] / "bin" / "mpiexec"
    found = str(program) if program.exists() else shutil.which("mpiexec")
    if found is None:
        missing("there is no mpiexec")
    return found


def start(size, script, *arguments, **options):
    """Start a script of this folder with `size` processes; returns the process of mpiexec."""
    program = launcher()
    libraries = Path(program).resolve().parents[1] / "lib"
    paths = [str(libraries), os.environ.get("LD_LIBRARY_PATH", "")]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "LD_LIBRARY_PATH": os.pathsep.join(filter(None, paths))}
    command = [program, "-n", str(size), sys.executable, str(HERE / script), *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        env=environment,
        **options,
    )


def finish(process):
    """Return the exit code and the output of a process that must end soon."""
    try:
        output, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, output
