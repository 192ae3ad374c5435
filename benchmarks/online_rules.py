"""Print the table of docs/online_learning.md: the time of a step of each rule, and of the network of 1997.

    OPENBLAS_NUM_THREADS=1 python benchmarks/online_rules.py

Minima over repeated steps, in float64.
"""

from time import perf_counter

import numpy as np

import glasscell as gc

I, REPEATS, SECONDS = 8, 30, 1.0


def step_seconds(rule, H: int) -> float:
    """Return the time of push and learn."""
    learner = rule(gc.LSTM(I, H, dtype=np.float64))
    x, dy, times = np.ones(I), np.ones(H), []
    while len(times) < REPEATS and (len(times) < 5 or sum(times) < SECONDS):
        start = perf_counter()
        learner.push(x)
        learner.learn(dy)
        times.append(perf_counter() - start)
    return min(times)


def network_seconds(engine: str, sequences: int) -> float:
    """Return the time of a step of the network of the adding problem, in training."""
    inputs, targets, _, lengths, *_ = gc.tasks.Adding(100).batch(sequences, np.random.default_rng(0), np.float64)
    network = gc.online.MemoryBlocks(2, 1, input_gate_bias=[-3, -6], engine=engine)
    network.train(inputs[:1], targets[:1], 0.5, lengths[:1])  # compiles
    times = []
    for _ in range(5):
        start = perf_counter()
        network.train(inputs, targets, 0.5, lengths)
        times.append(perf_counter() - start)
    return min(times) / int(lengths.sum())


def main() -> None:
    """Print the table."""
    print("| H | weights | `RTRL` | `SnAp1` | `Truncated1997` | memory of `RTRL` |")
    for H in (8, 16, 32, 64):
        N = gc.LSTM(I, H).parameters.vector.size
        rules = (gc.online.RTRL, gc.online.SnAp1, gc.online.Truncated1997)
        times = " | ".join(f"{step_seconds(rule, H) * 1e6:,.0f} µs" for rule in rules)
        print(f"| {H} | {N:,} | {times} | {2 * H * N * 8 / 1e6:.2g} MB |")
    print(f"network of 1997: compiled {network_seconds('numba', 1000) * 1e6:.2f} µs a step", end=", ")
    print(f"NumPy {network_seconds('numpy', 10) * 1e6:.0f} µs")


if __name__ == "__main__":
    main()
