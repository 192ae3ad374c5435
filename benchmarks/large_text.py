"""Train on a large generated text, read a whole epoch of it, and print the peak memory of the process.

    python benchmarks/large_text.py --gigabytes 2 --updates 100 --folder /var/tmp

The text has 26 letters, spaces, line ends and some characters of two bytes. An epoch of 2 GB has 800,000 updates: the
script makes some of them, and then takes the batches of a whole epoch without training. The exit status is 1 if the
peak is above the limit.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import glasscell as gc
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
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        file = Path(folder) / "large.txt"
        generate(file, int(given.gigabytes * 1e9))
        report("generated", file.stat().st_size / 1e9, "GB")
        start = time.perf_counter()
        data = TextData.from_files(file, given.unit, folder=folder)
        print(data.description)
        report("counted and encoded", time.perf_counter() - start, "s")
        model = gc.LanguageModel(data.vocabulary)
        start = time.perf_counter()
        history = gc.fit(model, data, updates=given.updates, evaluate_every=given.updates + 1, validation=[few(data)])
        report(f"{history.updates} updates, loss {history['loss'][-1]:.3f}", time.perf_counter() - start, "s")
        start, symbols = time.perf_counter(), 0
        for batch in data.batches(data.batch_size, np.random.default_rng(0), np.float32):
            symbols += batch.inputs.size
        report(f"{symbols:,} symbols of an epoch read", time.perf_counter() - start, "s")
    return int(peak() > given.limit)


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
