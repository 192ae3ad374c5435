"""Train on a large generated text, read a whole epoch of it, and print the peak memory of the process.

    python benchmarks/large_text.py --gigabytes 2 --updates 100 --folder /var/tmp
    mpiexec -n 4 python benchmarks/large_text.py --gigabytes 0.2

The text has 26 letters, spaces, line ends and some characters of two bytes. An epoch of 2 GB has 800,000 updates: the
script makes some of them, and then takes the batches of a whole epoch without training. The exit status is 1 if the
peak is above the limit. With mpiexec all processes train together, and the peak of each is printed.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import glasscell as gc
from glasscell.cli.launchers import find_launch
from glasscell.data import TextData

BLOCK, BLOCKS = 1 << 18, 32  # characters, and how many blocks of them


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--unit", default="characters", choices=("characters", "bytes"))
    parser.add_argument("--limit", type=float, default=300.0, help="megabytes")
    parser.add_argument("--folder", type=Path, help="of the text and the ids, twice its size (default: the system's)")
    given = parser.parse_args()
    comm = communicator()
    with folder_of_ranks(given.folder, comm) as folder:
        file = Path(folder) / "large.txt"
        if comm is None or comm.rank == 0:
            generate(file, int(given.gigabytes * 1e9))
        start = time.perf_counter()
        if comm is not None:
            comm.Barrier()
        report("generated", file.stat().st_size / 1e9, "GB")
        data = TextData.from_files(file, given.unit, folder=folder, comm=comm)
        print(data.description)
        report("counted and encoded", time.perf_counter() - start, "s")
        model = gc.LanguageModel(data.vocabulary)
        start = time.perf_counter()
        options = {"evaluate_every": given.updates + 1, "validation": [few(data)], "comm": comm}
        history = gc.fit(model, data, updates=given.updates, **options)
        report(f"{history.updates} updates, loss {history['loss'][-1]:.3f}", time.perf_counter() - start, "s")
        start, symbols = time.perf_counter(), 0
        for batch in data.batches(data.batch_size, np.random.default_rng(0), np.float32):
            symbols += batch.inputs.size
        report(f"{symbols:,} symbols of an epoch read", time.perf_counter() - start, "s")
    return int(peak() > given.limit)


def communicator() -> Any:
    """Return the communicator of all processes if there are several; otherwise None."""
    if find_launch() is None:
        return None
    from mpi4py import MPI

    return MPI.COMM_WORLD


@contextmanager
def folder_of_ranks(parent: Path | None, comm: Any) -> Iterator[str]:
    """Make a temporary folder on rank 0, for all ranks, and remove it when all have left the block."""
    if comm is None:
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            yield folder
        return
    made = tempfile.TemporaryDirectory(dir=parent) if comm.rank == 0 else None
    yield comm.bcast(None if made is None else made.name, root=0)
    comm.Barrier()
    if made is not None:
        made.cleanup()


def generate(file: Path, size: int) -> None:
    """Write a text of this many bytes: random blocks in random order."""
    rng = np.random.default_rng(0)
    symbols = np.array(list("abcdefghijklmnopqrstuvwxyz      \né"))
    blocks = ["".join(symbols[rng.integers(len(symbols), size=BLOCK)]).encode() for _ in range(BLOCKS)]
    written = 0
    with file.open("wb") as stream:
        while written < size:
            written += stream.write(blocks[rng.integers(BLOCKS)])


def few(data: TextData) -> gc.data.Batch:
    """Return one validation batch."""
    return next(iter(data.parts["validation"]))


def peak() -> float:
    """Return the peak memory of the process so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 10)


def report(done: str, number: float, unit: str) -> None:
    print(f"{done}: {number:.3g} {unit}; peak {peak():.0f} MB", flush=True)


if __name__ == "__main__":
    sys.exit(main())
