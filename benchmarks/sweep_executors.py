"""Run one sweep on every kind of executor, and compare the rows with those of this process.

Usage: ``python benchmarks/sweep_executors.py``. Threads, processes (fork and spawn), loky, Dask and MPI (``mpiexec -n 3
python -m mpi4py.futures``), each if it is installed. The exit status is 1 if rows differ.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import glasscell as gc

GRID = {"seeds": 4, "hidden_size": [4, 8], "learning_rate": [0.01, 0.03]}


def train(seed, hidden_size, learning_rate):
    task = gc.tasks.Copy(3)
    model = gc.CopyLSTM(hidden_size, task=task, seed=seed)
    history = gc.fit(model, task, updates=100, optimizer=gc.Adam(learning_rate), seed=seed)
    return {**model.evaluate(task.held_out_batch()), "batch_loss": history["loss"][-1]}


def rows(executor=None):
    result = gc.sweep(train, **GRID, executor=executor)
    return repr([(row["setting"], row["seed"], row["status"], row["error"], row["scores"]) for row in result.rows])


def on_loky():
    import loky

    return rows(loky.get_reusable_executor(2))


def on_dask():
    from dask.distributed import Client

    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        return rows(client)


def on_mpi():
    """Start this file again under MPI, and return what it prints."""
    library = Path(importlib.util.find_spec("mpi4py").origin).parents[3]  # with the library of the mpich wheel
    command = [shutil.which("mpiexec") or str(library.with_name("bin") / "mpiexec"), "-n", "3"]
    environment = os.environ | {"LD_LIBRARY_PATH": f"{library}:{os.environ.get('LD_LIBRARY_PATH', '')}"}
    command += [sys.executable, "-m", "mpi4py.futures", __file__, "--mpi"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


def in_pool(pool, *arguments):
    with pool(2, *arguments) as executor:
        return rows(executor)


def main():
    if "--mpi" in sys.argv:
        from mpi4py.futures import MPIPoolExecutor

        with MPIPoolExecutor() as executor:
            print(rows(executor))
        return 0
    expected = rows()
    kinds = {
        "threads": ("glasscell", lambda: in_pool(ThreadPoolExecutor)),
        "processes (fork)": ("glasscell", lambda: in_pool(ProcessPoolExecutor, get_context("fork"))),
        "processes (spawn)": ("glasscell", lambda: in_pool(ProcessPoolExecutor, get_context("spawn"))),
        "loky": ("loky", on_loky),
        "Dask": ("distributed", on_dask),
        "MPI": ("mpi4py", on_mpi),
    }
    differ = 0
    for name, (package, run) in kinds.items():
        if importlib.util.find_spec(package) is None:
            print(f"{name}: {package} is not installed")
            continue
        start = time.perf_counter()
        is_equal = run() == expected
        differ += not is_equal
        print(
            f"{name}: 16 rows, {'equal' if is_equal else 'DIFFERENT'}, {time.perf_counter() - start:.1f} s", flush=True
        )
    return int(bool(differ))


if __name__ == "__main__":
    sys.exit(main())
