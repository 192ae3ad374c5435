"""Change one detail at a time of experiments 2a, 4 and 5 of 1997, and print a table for each seed.

    OPENBLAS_NUM_THREADS=1 python benchmarks/experiments_1997.py {lag,adding,multiplication} [SEED …]

The measurements behind docs/online_learning.md; seeds are from 100, which are not those of docs/papers.
"""

import argparse
from collections import deque

import numpy as np

import glasscell as gc
from glasscell.online import experiments_1997

LIMIT = {"lag": 15_000, "adding": 200_000, "multiplication": 1_600_000}  # sequences
PAPER_ADDING = {"rate": 0.5, "input_gate_bias": (-3, -6), "scale": 1.0}
VARIANTS = {
    "lag": {
        f"rate {rate}, cell after {after:,}, input gate -{lower}": {
            "learning_rate": rate, "cell_after": after, "lower_input_gate": lower
        }
        for rate, after, lower in ((1, 1000, 3), (2, 300, 3), (2, 1000, 3), (2, 3000, 3), (2, 3000, 0))
    },
    "adding": {
        "biases -3 and -6": {},
        "rate 1": {"rate": 1.0},
        "rate 2": {"rate": 2.0},
        "g in [-1, 1], h in [-2, 2]": {"g_range": (-1, 1), "h_range": (-2, 2)},
        "one cell in a block, rate 1": {"cells": 1, "rate": 1.0},
        "biases -3 and -3": {"input_gate_bias": (-3, -3)},
        "random biases": {"input_gate_bias": None},
        "targets in [.25, .75], tolerance .02, rate 2": {"scale": 0.5, "rate": 2.0},
    },
    "multiplication": {
        f"rate {rate}, {'random biases' if bias is None else 'biases -3 and -6'}": {
            "learning_rate": rate, "input_gate_bias": bias
        }
        for rate in (0.1, 0.2)
        for bias in ((-3, -6), None)
    },
}  # fmt: skip


def train_adding(seed: int, *, rate: float, scale: float, **options) -> str:
    """Return cells of the table: targets and tolerance are scaled towards 0.5."""
    rng = np.random.default_rng(seed)
    task, network = gc.tasks.Adding(100, seed=seed), gc.online.MemoryBlocks(2, 1, seed=rng, **options)
    recent, reached, count = deque(maxlen=20), -1, 0  # errors of 100 sequences each
    tolerance = experiments_1997.TOLERANCE * scale
    while count < LIMIT["adding"]:
        inputs, targets, _, lengths, *_ = task.batch(100, rng, np.float64)
        targets = 0.5 + scale * (targets - 0.5)
        recent.append(np.abs(network.train(inputs, targets, rate, lengths) - targets))
        count += 100
        incorrect = int((np.concatenate(recent) >= tolerance).sum())
        if len(recent) == 20 and incorrect <= 200 and reached < 0:
            reached = count
        if len(recent) == 20 and incorrect == 0 and np.mean(recent) < 0.01 * scale:
            break
    inputs, targets, _, lengths, *_ = task.test_batch(dtype=np.float64)
    errors = (network.run(inputs, lengths) - 0.5) / scale + 0.5 - targets
    ends = [errors[(targets >= low) & (targets < low + 0.1)] for low in (0.0, 0.9)]
    bias = " / ".join(f"{end.mean():+.3f} ± {end.std():.3f}" for end in ends)
    return f"{reached:,} | {count:,} | {incorrect} | {bias}"


def train(experiment: str, seed: int, options: dict) -> str:
    """Return the cells of a row of the table."""
    if experiment == "adding":
        return train_adding(seed, **PAPER_ADDING | options)
    name = "noise_free_lag" if experiment == "lag" else experiment
    scores = getattr(experiments_1997, name)(seed, max_sequences=LIMIT[experiment], **options)
    keys = ["sequences_to_test"] if experiment == "lag" else ["sequences_to_90_percent", "sequences", "wrong"]
    return " | ".join(f"{scores[key]:,}" for key in keys)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", choices=VARIANTS)
    parser.add_argument("seeds", nargs="*", type=int, default=[100])
    arguments = parser.parse_args()
    heads = {
        "lag": "both sequences within .25",
        "adding": "90 % correct | end | wrong of 2000 | error of targets below .1 / above .9",
        "multiplication": "90 % correct | criterion met | wrong of 2560",
    }
    print(f"| {arguments.experiment} | seed | {heads[arguments.experiment]} |")
    for seed in arguments.seeds:
        for name, options in VARIANTS[arguments.experiment].items():
            print(f"| {name} | {seed} | {train(arguments.experiment, seed, options)} |", flush=True)


if __name__ == "__main__":
    main()
