"""Program of the tests with mpiexec: trains, writes a file for each rank, and then fails on one rank."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from mpi4py import MPI
from parallel_cases import MAIN_CASES, train

import glasscell as gc

comm, folder, updates = MPI.COMM_WORLD, Path(sys.argv[1]), int(sys.argv[2])
for name in MAIN_CASES:
    weights, history = train(name, comm, updates, checkpoint=folder / name)
    np.savez(folder / f"{name}_{comm.rank}.npz", weights=weights, loss=history["loss"])


def loss(*values):
    if comm.rank == 1:
        raise ZeroDivisionError("on purpose")
    return gc.core.losses.squared_error(*values)


train("weights", comm, updates, loss=loss, checkpoint=folder / "failed")
