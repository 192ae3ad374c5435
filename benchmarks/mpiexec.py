"""The mpiexec with which benchmarks start ranks."""

import shutil
from importlib.util import find_spec
from pathlib import Path


def find_mpiexec() -> str:
    """Return mpiexec of the environment that has mpi4py, or of the system."""
    package = find_spec("mpi4py")
    if package is None or package.origin is None:
        raise SystemExit("mpi4py is not installed: pip install 'glasscell[mpi]'")
    program = Path(package.origin).parents[4] / "bin" / "mpiexec"
    found = str(program) if program.exists() else shutil.which("mpiexec")
    if found is None:
        raise SystemExit("there is no mpiexec")
    return found
