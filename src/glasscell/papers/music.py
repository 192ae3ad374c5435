"""Polyphonic music: predict the next chord of JSB chorales and Nottingham (Boulanger-Lewandowski et al. 2012).

A piano roll has 88 keys per step. The model reads a step and predicts which keys the next one has. The loss is the
binary cross-entropy, summed over the keys and averaged over all steps, in nats (NLL). The weights of the best
validation loss are kept, and scored on the test part once. Settings were chosen by the validation loss.

A file ``NAME.npz`` has, for each of "train", "valid" and "test", the arrays ``PART_bits``, the steps of all sequences
in 88 bits that are packed into 11 bytes, and ``PART_len``, the number of steps of each sequence.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from glasscell.core.losses import binary_cross_entropy
from glasscell.core.optimizers import Adam
from glasscell.data import ArrayData
from glasscell.data.batch import Batch
from glasscell.layers import LSTM, Dropout, Linear
from glasscell.models import Sequential
from glasscell.papers.experiment import Experiment, Outcome, Row, Scores, scores_of
from glasscell.training import fit, schedules

KEYS = 88
BATCH_SIZE = 16
LARGEST_TRANSPOSITION = 6  # semitones; no roll has a note on the outer 6 keys of a side
QUICK_UPDATES = 1000
Rolls: TypeAlias = list[Any]


class Settings(NamedTuple):
    """Settings of a data set."""

    hidden_size: int
    input_dropout: float
    output_dropout: float
    learning_rate: float
    schedule: Callable[[int], Callable[[int], float]]  # of the number of updates
    transposed: float  # fraction of the training tunes
    tbptt_steps: int | None
    updates: int
    evaluate_every: int


def constant_then_linear(num_updates: int) -> Callable[[int], float]:
    """Return a schedule that falls to 0 in the last fifth of the updates."""
    return lambda update: min(1.0, 5 * max(0.0, 1 - update / num_updates))


JSB = Settings(200, 0.1, 0.5, 0.01, schedules.cosine, 0.0, None, 2500, 50)
NOTTINGHAM = Settings(256, 0.1, 0.5, 0.005, constant_then_linear, 0.4, 100, 12_000, 500)


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

    def validation(self, size: int, dtype: DTypeLike) -> None:
        """Return None: the validation part is passed to `fit`."""


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


def evaluate(model: Any, rolls: Rolls) -> float:
    """Return the NLL per step of all sequences, one after the other, without padding."""
    losses = [nll(model(x[None]), y[None])[0] * len(y) for x, y in zip(*pairs(rolls), strict=True)]
    return float(sum(losses) / sum(len(roll) - 1 for roll in rolls))


def baselines(rolls: dict[str, Rolls]) -> tuple[float, float]:
    """Return the NLL per step of two predictors: the frequency of each key; and of each key, given itself."""
    (x, y), (x_test, y_test) = (map(np.concatenate, pairs(rolls[part])) for part in ("train", "test"))
    result = []
    for now, now_test in ((np.zeros_like(x), np.zeros_like(x_test)), (x, x_test)):
        on, off = ((y * part).sum(axis=0, dtype=np.float64) + 0.5 for part in (now, 1 - now))  # at least half a count
        p = np.where(now_test > 0, on / (now.sum(axis=0) + 1), off / ((1 - now).sum(axis=0) + 1))
        result.append(float(-np.where(y_test > 0, np.log(p), np.log1p(-p)).sum(axis=1).mean()))
    return result[0], result[1]


def train_music(seed: int, *, quick: bool, data: Path | None, file: str, settings: Settings) -> Scores:
    """Train on the piano rolls of a file, and score the weights with the best validation loss."""
    if data is None:
        raise ValueError(f"data must be the folder with {file}, got None")
    rolls = read_rolls(data / file)
    H, updates = settings.hidden_size, QUICK_UPDATES if quick else settings.updates
    layers = [Dropout(settings.input_dropout), LSTM(KEYS, H), Dropout(settings.output_dropout), Linear(H, KEYS)]
    model = Sequential(layers, seed=seed)
    fit(
        model,
        Transposed(rolls["train"], settings.transposed),
        updates,
        loss=nll,
        validation=pairs(rolls["valid"]),
        batch_size=BATCH_SIZE,
        optimizer=Adam(settings.learning_rate),
        schedule=settings.schedule(updates),
        tbptt_steps=settings.tbptt_steps,
        clip_norm=10.0,
        keep="best",
        evaluate_every=min(settings.evaluate_every, updates // 3),
        seed=seed,
    )
    key, given_itself = baselines(rolls)
    scores = {"validation_nll": evaluate(model, rolls["valid"]), "test_nll": evaluate(model, rolls["test"])}
    return scores | {"frequency_of_each_key": key, "each_key_given_itself": given_itself}


def outcome(rows: Sequence[Row], *, bar: float) -> Outcome:
    """Compare the median test loss with the bar."""
    tests, (key, given, *_) = (
        scores_of(rows, "test_nll"),
        (scores_of(rows, name)[0] for name in ("frequency_of_each_key", "each_key_given_itself")),
    )
    median = statistics.median(tests)
    text = (
        f"{median:.3f} nats per step ({min(tests):.3f} to {max(tests):.3f}); without memory {key:.2f}, or {given:.2f}"
    )
    return Outcome(f"{text} with the same key as input", median <= bar)


def differences(settings: Settings) -> tuple[str, ...]:
    """Return the differences from the paper that both data sets have."""
    return (
        f"One layer of {settings.hidden_size} LSTM units with dropout, trained with Adam; weights of the best "
        "validation loss. The paper's LSTM has about as many weights as its convolutional network.",
    )


EXPERIMENTS = (
    Experiment(
        name="jsb-chorales",
        paper="Bai, Kolter & Koltun (2018), JSB chorales",
        claim="an LSTM predicts the next chord of a chorale",
        paper_figure="8.45 nats per step",
        criterion="median test loss at most 8.4",
        differences=differences(JSB),
        train=partial(train_music, file="music/JSB_Chorales.npz", settings=JSB),
        outcome=partial(outcome, bar=8.4),
        seeds=5,
        quick_seeds=1,
        quick=f"{QUICK_UPDATES:,} updates instead of {JSB.updates:,}",
        files=("music/JSB_Chorales.npz",),
    ),
    Experiment(
        name="nottingham",
        paper="Bai, Kolter & Koltun (2018), Nottingham",
        claim="an LSTM predicts the next chord of a folk tune",
        paper_figure="3.29 nats per step",
        criterion="median test loss at most 3.3",
        differences=(
            *differences(NOTTINGHAM),
            "In each epoch 40 % of the training tunes are transposed by up to 6 semitones; tunes are cut into windows "
            "of 100 steps, whose state is carried on.",
        ),
        train=partial(train_music, file="music/Nottingham.npz", settings=NOTTINGHAM),
        outcome=partial(outcome, bar=3.3),
        seeds=3,
        quick_seeds=1,
        quick=f"{QUICK_UPDATES:,} updates instead of {NOTTINGHAM.updates:,}",
        files=("music/Nottingham.npz",),
    ),
)
