"""Predict the next chord of polyphonic music: JSB chorales and Nottingham (Boulanger-Lewandowski et al. 2012).

    python benchmarks/real_data/music.py --only JSB_Chorales --seeds 5

A piano roll has 88 keys per step. The model reads a step and predicts which keys the next one has. The loss is the
binary cross-entropy, summed over the keys and averaged over all steps, in nats (NLL). The weights of the best
validation loss are kept, and scored on the test part once. Settings were chosen by the validation loss. Bars (median
over the seeds): JSB chorales 8.4 within 1 minute, Nottingham 3.4 within 15 minutes. Exits with 1 if a bar is missed.
`processor s` is the processor time of training, summed over threads: with one thread, the seconds on a quiet core.

Nottingham is trained on windows of 100 steps, whose state is carried on, and on tunes of which 40 % are transposed by
up to 6 semitones in each epoch. Its learning rate is constant, and falls to 0 in the last fifth of the updates.

Compared with: the frequency of each key, an estimate without memory (the frequency of each key given whether the same
key sounds now), and the LSTM of Bai et al. (2018).
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

import glasscell as gc
from glasscell.core.losses import binary_cross_entropy
from glasscell.data import ArrayData
from glasscell.data.batch import Batch
from glasscell.layers import Dropout

KEYS = 88
BATCH_SIZE = 16
LARGEST_TRANSPOSITION = 6  # semitones; no roll has a note on the outer 6 keys of a side
Rolls = list[Any]


class Settings(NamedTuple):
    """Settings of a data set, and its bars."""

    hidden_size: int
    input_dropout: float
    output_dropout: float
    learning_rate: float
    schedule: Callable[[int], Callable[[int], float]]  # of the number of updates
    transposed: float  # fraction of the training tunes
    tbptt_steps: int | None
    updates: int
    evaluate_every: int
    published: float  # LSTM of Bai et al. (2018)
    bar: float
    seconds: float


def constant_then_linear(num_updates: int) -> Callable[[int], float]:
    """Return a schedule that falls to 0 in the last fifth of the updates."""
    return lambda update: min(1.0, 5 * max(0.0, 1 - update / num_updates))


DATA = {
    "JSB_Chorales": Settings(200, 0.1, 0.5, 0.01, gc.schedules.cosine, 0.0, None, 2500, 50, 8.45, 8.4, 60),
    "Nottingham": Settings(200, 0.0, 0.5, 0.005, constant_then_linear, 0.4, 100, 12_000, 500, 3.29, 3.4, 900),
}


class Transposed:
    """Sequences of which a fraction is transposed by a random number of semitones, a new one in each epoch."""

    def __init__(self, rolls: Rolls, fraction: float) -> None:
        self.data, self.fraction = ArrayData(*pairs(rolls)), fraction

    def batches(self, size: int, rng: np.random.Generator, dtype: DTypeLike) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        for batch in self.data.batches(size, rng, dtype):
            for x, y in zip(batch.inputs, batch.targets, strict=True):
                if rng.random() < self.fraction:
                    semitones = int(rng.integers(-LARGEST_TRANSPOSITION, LARGEST_TRANSPOSITION + 1))
                    x[:], y[:] = np.roll(x, semitones, axis=-1), np.roll(y, semitones, axis=-1)
            yield batch

    def validation(self, size: int, dtype: DTypeLike) -> list[Batch] | None:
        """Return None: there are none."""
        return self.data.validation(size, dtype)


def read_rolls(path: Path) -> dict[str, Rolls]:
    """Return the piano rolls of each part, a list of arrays (T, 88) of 0 and 1."""
    rolls = {}
    with np.load(path) as arrays:
        for part in ("train", "valid", "test"):
            steps = np.unpackbits(arrays[f"{part}_bits"], axis=1)[:, :KEYS].astype(np.float32)
            rolls[part] = np.split(steps, np.cumsum(arrays[f"{part}_len"])[:-1])
    return rolls


def pairs(rolls: Rolls) -> tuple[Rolls, Rolls]:
    """Return inputs and targets: all steps but the last, all but the first."""
    return [roll[:-1] for roll in rolls], [roll[1:] for roll in rolls]


def nll(logits: Any, targets: Any, weights: Any = None) -> tuple[float, Any]:
    """Return the cross-entropy summed over the keys, averaged over the steps, and its gradient."""
    loss, gradient = binary_cross_entropy(logits, targets, weights)
    return KEYS * loss, KEYS * gradient


def evaluate(model: gc.Sequential, rolls: Rolls) -> float:
    """Return the NLL per step of all sequences, one after the other, without padding."""
    losses = [nll(model(x[None]), y[None])[0] * len(y) for x, y in zip(*pairs(rolls), strict=True)]
    return sum(losses) / sum(len(roll) - 1 for roll in rolls)


def baselines(rolls: dict[str, Rolls]) -> tuple[float, float]:
    """Return the NLL per step of two predictors: the frequency of each key; and of each key, given itself."""
    (x, y), (x_test, y_test) = (map(np.concatenate, pairs(rolls[part])) for part in ("train", "test"))
    result = []
    for now, now_test in ((np.zeros_like(x), np.zeros_like(x_test)), (x, x_test)):
        on, off = ((y * part).sum(axis=0, dtype=np.float64) + 0.5 for part in (now, 1 - now))  # at least half a count
        p = np.where(now_test > 0, on / (now.sum(axis=0) + 1), off / ((1 - now).sum(axis=0) + 1))
        result.append(float(-np.where(y_test > 0, np.log(p), np.log1p(-p)).sum(axis=1).mean()))
    return result[0], result[1]


def train(rolls: dict[str, Rolls], settings: Settings, seed: int, updates: int | None) -> tuple[float, ...]:
    """Return the NLL of validation and test, and the seconds and the processor time of training."""
    H, updates = settings.hidden_size, updates or settings.updates
    layers = [Dropout(settings.input_dropout), gc.LSTM(KEYS, H), Dropout(settings.output_dropout), gc.Linear(H, KEYS)]
    model, start, processor = gc.Sequential(layers, seed=seed), time.perf_counter(), time.process_time()
    gc.fit(
        model,
        Transposed(rolls["train"], settings.transposed),
        updates,
        loss=nll,
        validation=pairs(rolls["valid"]),
        batch_size=BATCH_SIZE,
        optimizer=gc.Adam(settings.learning_rate),
        schedule=settings.schedule(updates),
        tbptt_steps=settings.tbptt_steps,
        clip_norm=10.0,
        keep="best",
        evaluate_every=settings.evaluate_every,
        seed=seed,
    )
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    return evaluate(model, rolls["valid"]), evaluate(model, rolls["test"]), seconds, processor


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "../shared/data", help="folder")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0, help="so that seeds can run apart")
    parser.add_argument("--only", default="", help="data sets whose name contains this")
    parser.add_argument(
        "--updates", type=int, help="updates of each training, for a quick look; default: the settings'"
    )
    options = parser.parse_args()
    chosen = {name: settings for name, settings in DATA.items() if options.only in name}
    if not chosen:
        parser.error(f"--only must be a part of {', '.join(map(repr, DATA))}, got {options.only!r}")
    columns = (
        "data | validation | test, median | range | each key | key given itself | LSTM, Bai et al. | s | processor s"
    )
    print(f"| {columns} |\n{'| --- ' * 9}|", flush=True)
    missed = False
    for name, settings in chosen.items():
        rolls, results = read_rolls(options.data / "music" / f"{name}.npz"), []
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            results.append(train(rolls, settings, seed, options.updates))
            print(f"{name}, seed {seed}: {results[-1]}", file=sys.stderr, flush=True)
        valid, test, seconds, processor = (statistics.median(column) for column in zip(*results, strict=True))
        scores, (key, given_itself) = [result[1] for result in results], baselines(rolls)
        print(
            f"| {name} | {valid:.3f} | {test:.3f} | {min(scores):.3f} to {max(scores):.3f} | {key:.2f} "
            f"| {given_itself:.2f} | {settings.published} | {seconds:.0f} | {processor:.0f} |",
            flush=True,
        )
        missed |= test > settings.bar or seconds > settings.seconds
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
