"""Run one stream for long; measure the growth of memory and the drift of the state from ``forward``.

    python benchmarks/soak.py --steps 10000000
    python benchmarks/soak.py --engine numba

In parallel NumPy's ``forward`` computes the same inputs in chunks, from its own state, in float32; every chunk
the outputs and states of both are compared. Exits with 1 if they differ by more than 1e-4, or memory has grown.
"""

import argparse
import os
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np

import glasscell as gc
from glasscell.layers import LSTMState

DRIFT = 1e-4
GROWTH = 1 << 20  # bytes of the process: what the allocator of the machine takes and gives back without our doing
CHUNK = 1_000
SETTLED = 200_000  # steps after which everything has been used


def resident() -> int:
    """Return the bytes of memory of the process; 0 if the system does not report them."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def furthest(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000_000)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--engine", choices=["numpy", "numba"], default="numpy")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    H, readout = arguments.hidden, gc.Linear(arguments.hidden, 4)
    model, reference = (gc.Sequential([gc.LSTM(8, H, engine=name), readout]) for name in (arguments.engine, "numpy"))
    stream, states = model.stream(), None
    push, out = stream.push, np.empty((CHUNK, 4), np.float32)
    done, worst, seconds = 0, 0.0, 0.0
    start = last = resident()
    while done < arguments.steps:
        x = rng.standard_normal((CHUNK, 8), np.float32)
        begin = time.perf_counter()
        for k, row in enumerate(x):
            out[k] = push(row)
        seconds += time.perf_counter() - begin
        done += CHUNK
        expected, states, _ = reference.forward(x, states)
        of_states = [furthest(a, b) for a, b in zip(LSTMState(*stream.state[0]), states[0], strict=True)]
        worst = max(worst, furthest(out, expected), *of_states)
        last = resident()
        if done <= SETTLED:
            start = max(start, last)
        if done % 500_000 == 0:
            print(f"{done:>11,} steps  {worst:.1e} apart at most  {last / 2**20:.1f} MB", flush=True)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for row in x:
        push(row)
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    print(f"{done:,} steps of {stream}, engine {arguments.engine!r}")
    print(f"  {seconds / done * 1e6:.2f} µs a step, with the copy of its outputs")
    print(f"  outputs and states: at most {worst:.1e} from forward (bar {DRIFT:.0e})")
    print(f"  memory of the process: {start / 2**20:.1f} MB after {SETTLED:,} steps, {last / 2**20:.1f} MB at the end")
    print(f"  memory of Python objects that {CHUNK:,} more steps leave: {kept} bytes")
    return int(worst > DRIFT or last - start > GROWTH or kept > 1000)


if __name__ == "__main__":
    sys.exit(main())
