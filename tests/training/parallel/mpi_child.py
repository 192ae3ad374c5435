"""Program of the tests with mpiexec: trains, writes a file for each rank, and then fails on one rank."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from parallel_cases import MAIN_CASES, train

import glasscell as gc


def main(folder, updates):
    from mpi4py import MPI  # noqa: PLC0415 - it starts MPI

    comm = MPI.COMM_WORLD
    for name in MAIN_CASES:
        weights, history = train(name, comm, updates, checkpoint=folder / name)
        np.savez(folder / f"{name}_{comm.rank}.npz", weights=weights, loss=history["loss"])

    def loss(*values):
        if comm.rank == 1:
            raise ZeroDivisionError("on purpose")
        return gc.core.losses.squared_error(*values)

    train("weights", comm, updates, loss=loss, checkpoint=folder / "failed")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
