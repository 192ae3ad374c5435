"""Change one detail at a time of the network of 2000, and reset its states before each string.

    OPENBLAS_NUM_THREADS=1 python benchmarks/forget_gates_2000.py [SEED …]

Each cell of the table is the number of training streams, with the decreasing rate, after which a stream of 10,000
symbols has no error; a dash is none within 30,000. Seeds are from 100, which are not those of docs/papers.
"""

import argparse
import statistics

import numpy as np

from glasscell.papers import forget_gates
from glasscell.tasks.continual_reber import walk
from glasscell.tasks.embedded_reber import ALLOWED, SYMBOLS

LENGTH, CHECK = 10_000, 50  # symbols of a check; training streams between two checks
DOUBLED = {f"{gate}_gate_bias": tuple(np.multiply(2.0, forget_gates.OTHER_BIASES)) for gate in ("input", "output")}
VARIANTS = {
    "as in docs/papers": {},
    "forget biases 1": {"forget_gate_bias": (1.0,) * 4},
    "biases of gates doubled": DOUBLED | {"forget_gate_bias": tuple(np.multiply(2.0, forget_gates.FORGET_BIASES))},
    "biases of cells": {"cell_bias": True},
    "weights in [-0.1, 0.1]": {"weight_range": 0.1},
    "outputs do not read inputs": {"input_to_output": False},
    "tolerance 0.4": {"tolerance": 0.4},
}


def streams_needed(train, check) -> int | None:
    """Return the number of training streams before the first check without an error."""
    for count in range(1, forget_gates.STREAMS + 1):
        train()
        if count % CHECK == 0 and check() >= LENGTH:
            return count
    return None


def continual(seed: int, *, tolerance: float = forget_gates.TOLERANCE, **changes) -> int | None:
    """Train on streams without a reset."""
    weights, *draws = (np.random.default_rng([seed, k]) for k in range(3))
    network = forget_gates.make_network(weights, forget_gate=True, **changes)
    training, checks = map(forget_gates.Streams, draws, (forget_gates.STREAM_LENGTH, LENGTH))
    rate, decay = forget_gates.LEARNING_RATE, forget_gates.DECAY

    def run(streams, rate) -> int:
        return forget_gates.train_stream(network, streams.stream(), rate, decay, tolerance)

    return streams_needed(lambda: run(training, rate), lambda: run(checks, None))


def strings(rng: np.random.Generator):
    """Yield inputs and targets of one string after another."""
    while True:
        for ids, states in zip(*walk(np.zeros(100, np.int64), rng, 60), strict=True):
            ends = np.flatnonzero(states == 0)
            if len(ends):
                string = slice(0, ends[0] + 1)
                yield np.eye(len(SYMBOLS))[ids[string]], ALLOWED[states[string]].astype(np.float64)


def reset_before_strings(seed: int) -> tuple[int | None, float]:
    """Train without forget gates, with states of 0 before each string; return the mean length without this, too."""
    weights, *draws = (np.random.default_rng([seed, k]) for k in range(4))
    network = forget_gates.make_network(weights, forget_gate=False)
    training, checks = map(strings, draws[:2])

    def run(source, rate, limit) -> int:
        length = 0
        while length < limit:
            now = None if rate is None else rate * forget_gates.DECAY**length
            if now is not None and now < forget_gates.LOWEST_RATE:
                break
            inputs, targets = next(source)
            network.reset()
            steps = network.train_stream(
                inputs, targets, now, decay=forget_gates.DECAY, tolerance=forget_gates.TOLERANCE
            )
            length += steps
            if steps < len(inputs):
                break
        return length

    rate, longest = forget_gates.LEARNING_RATE, forget_gates.STREAM_LENGTH
    needed = streams_needed(lambda: run(training, rate, longest), lambda: run(checks, None, LENGTH))
    streams = forget_gates.Streams(draws[2], LENGTH)
    return needed, statistics.fmean(forget_gates.train_stream(network, streams.stream(), None) for _ in range(10))


def main() -> None:
    """Print a row per variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seeds", type=int, nargs="*", default=list(range(100, 108)), metavar="SEED")
    seeds = parser.parse_args().seeds
    print(f"| variant | {' | '.join(map(str, seeds))} |\n|{' --- |' * (len(seeds) + 1)}")
    for name, changes in VARIANTS.items():
        cells = [continual(seed, **changes) for seed in seeds]
        print(f"| {name} | {' | '.join('-' if cell is None else f'{cell:,}' for cell in cells)} |", flush=True)
    results = [reset_before_strings(seed) for seed in seeds]
    cells = [f"{'-' if needed is None else f'{needed:,}'} ({length:.0f})" for needed, length in results]
    print(f"| no forget gates, states 0 before each string (mean length without) | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
