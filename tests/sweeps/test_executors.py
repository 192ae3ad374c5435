"""Law: Dask and MPI give the rows of this process. Short version of benchmarks/sweep_executors.py."""

import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import sweep_functions as functions
from sweep_functions import without_seconds

import glasscell as gc
from glasscell.sweeps import SweepError

EXPECTED = {"seeds": 2, "width": [1, 2]}

PROGRAM = """
import glasscell as gc, sweep_functions
from mpi4py.futures import MPIPoolExecutor

if __name__ == "__main__":
    with MPIPoolExecutor() as executor:
        gc.sweep(sweep_functions.scores, seeds=2, width=[1, 2], executor=executor, file="rows.jsonl")
        try:
            gc.sweep(lambda seed: {}, seeds=2, executor=executor)
        except TypeError as error:
            print(error)
"""


def test_mpi_gives_the_same_rows(tmp_path, importable):
    specification = importlib.util.find_spec("mpi4py")
    library = None if specification is None else Path(specification.origin).parents[3]
    mpiexec = shutil.which("mpiexec") or (library and shutil.which(library.with_name("bin") / "mpiexec"))
    if mpiexec is None:
        pytest.skip("mpi4py or mpiexec is not installed")
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [mpiexec, "-n", "2", sys.executable, "-m", "mpi4py.futures", "program.py"],
        cwd=tmp_path,
        env=os.environ | {"LD_LIBRARY_PATH": f"{library}:{os.environ.get('LD_LIBRARY_PATH', '')}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.startswith("train must be a function at the top level of a module")
    expected = without_seconds(gc.sweep(functions.scores, **EXPECTED))
    assert without_seconds(gc.sweeps.SweepResult.load(tmp_path / "rows.jsonl")) == expected


def test_dask_gives_the_same_rows():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of its modules
        distributed = pytest.importorskip("distributed")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    expected = without_seconds(gc.sweep(functions.scores, **EXPECTED))
    with distributed.Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None, set_as_default=False
    ) as client:
        assert without_seconds(gc.sweep(functions.scores, executor=client, **EXPECTED)) == expected
        failed = gc.sweep(functions.odd_seeds_fail, seeds=2, executor=client)
        assert [row["error"] for row in failed.rows] == ["", "ArithmeticError: seed 1 is odd"]
    with pytest.raises((RuntimeError, SweepError)):  # closed
        gc.sweep(functions.scores, executor=client, **EXPECTED)
