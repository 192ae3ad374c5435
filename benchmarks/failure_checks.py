"""Measure the share of an update that the checks for failures take: a Markdown table.

    python benchmarks/failure_checks.py [--seconds 2]

The checks are what an update does more than loss, gradient and optimiser: a copy of the carried state, comparisons of
the loss, and the sum of squares of the weights. The bar is 1 % of an update.
"""

import argparse
import math
import time
from collections.abc import Callable
from copy import deepcopy
from statistics import median

import numpy as np

import glasscell as gc
from glasscell.core.norms import all_finite
from glasscell.data import ContinuousData
from glasscell.layers import FinalState
from glasscell.training import Training, TrainingOptions
from glasscell.training.diagnosis import Window
from glasscell.training.divergence import find_divergence

CLASSES = "categorical_cross_entropy"


def median_seconds(function: Callable[[], object], count: int) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return median(times)


def language_model(symbols: int, embedding: int, hidden: int) -> gc.Sequential:
    """Return a model with two LSTM layers."""
    layers = [gc.Embedding(symbols, embedding), gc.LSTM(embedding, hidden, num_layers=2), gc.Linear(hidden, symbols)]
    return gc.Sequential(layers)


def trainings() -> dict[str, Training]:
    """Return the trainings by their names."""
    rng, task = np.random.default_rng(0), gc.tasks.Copy(8)
    characters = ContinuousData(rng.integers(0, 65, 200_000), steps=50)
    words = ContinuousData(rng.integers(0, 10_000, 100_000), steps=20)
    x, y = rng.normal(size=(64, 29, 12)), np.arange(64) % 9
    classifier = gc.Sequential([gc.LSTM(12, 64), FinalState(), gc.Linear(64, 9)])
    options = {"updates": 100_000, "loss": CLASSES}
    sgd = gc.SGD(1.0)
    return {
        "copy task, 32 units, B = 64": Training(gc.CopyLSTM(task=task), task, TrainingOptions()),
        "classifier, H = 64, T = 29, B = 32": Training(classifier, (x, y), TrainingOptions(**options)),
        "characters, 2 x 128, T = 50, B = 50": Training(
            language_model(65, 64, 128), characters, TrainingOptions(**options, batch_size=50)
        ),
        "words, V = 10,000, 2 x 200, T = 20, B = 20": Training(
            language_model(10_000, 200, 200), words, TrainingOptions(**options, batch_size=20, optimizer=sgd)
        ),
    }


def measure(training: Training, seconds: float) -> tuple[float, float]:
    """Return the median times of an update and of its checks."""
    for _ in range(3):
        training.step()
    update = median_seconds(training.step, 5)
    update = median_seconds(training.step, max(5, int(seconds / update)))
    window = training.windows.next(training.forward)
    result = training.forward(window)
    training.clear_attempt()

    def check() -> None:
        states = deepcopy(result.states) if window.continues else None
        training.attempt.append(Window(window, states, training.windows.first_step))
        if not math.isfinite(0.5 + 1.0 + 0.1) or find_divergence(training, 0.5):
            raise FloatingPointError
        all_finite(training.model.parameters.vector)
        training.clear_attempt()

    with np.errstate(all="ignore"):
        return update, median_seconds(check, 500)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="time of the updates of each training")
    options = parser.parse_args()
    print("| training | update, ms | checks, µs | share |\n| --- | --- | --- | --- |")
    for name, training in trainings().items():
        update, checks = measure(training, options.seconds)
        print(f"| {name} | {update * 1e3:.2f} | {checks * 1e6:.1f} | {checks / update:.2%} |", flush=True)


if __name__ == "__main__":
    main()
