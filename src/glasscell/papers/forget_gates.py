"""Gers, Schmidhuber & Cummins (2000), "Learning to Forget", with the network and the learning rule of the paper."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glasscell.core.types import Array
from glasscell.online.memory_blocks import MemoryBlocks
from glasscell.papers.experiment import Experiment, Outcome, Row, Scores, scores_of
from glasscell.tasks.continual_reber import STREAM_LENGTH, TEST_STREAMS, TOLERANCE, rating, walk
from glasscell.tasks.embedded_reber import ALLOWED, SYMBOLS

LEARNING_RATE, DECAY = 0.5, 0.99
LOWEST_RATE = 1e-18  # below it, updates are lost in rounding: the weights are not updated
STREAMS, STREAMS_PER_CHECK = 30_000, 500
MAX_SYMBOLS = 20_000_000  # of the training, looked at with each check
QUICK_STREAMS, QUICK_LENGTH = 10_000, 10_000
WINDOW, ROWS = 1000, 100  # symbols that are trained at a time; windows that are drawn at a time
PERFECT_OR_GOOD, PERFECT_WITH_DECAY = 0.47, 0.62  # fractions of the networks of the paper
FORGET_BIASES, OTHER_BIASES = (0.5, 1.0, 1.5, 2.0), (-0.5, -1.0, -1.5, -2.0)

REMARK = (
    "The claim is reproduced: nine of ten networks with forget gates are perfect or good, none of ten without them. "
    "The share of perfect networks with the decreasing rate is not: one of five, against three of five with the "
    "constant rate; five seeds are few. The six networks with forget gates that are not perfect were trained to the "
    "limit of 20 million symbols, which is 10,000 to 16,500 streams, against the paper's 30,000. The limit matters: "
    "seed 1 with the decreasing rate is perfect if it is trained to 103 million symbols, which was tried once, with "
    "this seed alone."
)

Window = tuple[Array, Array]  # inputs and targets, (WINDOW, 7)


class Streams:
    """Random streams of the continual grammar, in windows; windows are drawn many at a time."""

    def __init__(self, rng: np.random.Generator, length: int) -> None:
        self.rng, self.length = rng, length
        self.windows: dict[int, list[tuple[Any, Any]]] = {}  # by the state of the grammar before the first symbol

    def stream(self) -> Iterator[Window]:
        """Yield the windows of a new stream."""
        state = 0
        for begin in range(0, self.length, WINDOW):
            drawn = self.windows.setdefault(state, [])
            if not drawn:
                drawn += zip(*walk(np.full(ROWS, state), self.rng, WINDOW), strict=True)
            ids, states = drawn.pop()
            steps = min(WINDOW, self.length - begin)
            yield np.eye(len(SYMBOLS))[ids[:steps]], ALLOWED[states[:steps]].astype(np.float64)
            state = int(states[-1])


def make_network(rng: np.random.Generator, *, forget_gate: bool) -> MemoryBlocks:
    """Return the network of the paper: four blocks of two cells."""
    options: dict[str, Any] = {"forget_gate_bias": FORGET_BIASES} if forget_gate else {}
    return MemoryBlocks(
        7,
        7,
        4,
        2,
        forget_gate=forget_gate,
        reads="cells",
        input_to_output=True,
        weight_range=0.2,
        input_gate_bias=OTHER_BIASES,
        output_gate_bias=OTHER_BIASES,
        seed=rng,
        **options,
    )


def train_stream(network: MemoryBlocks, windows: Iterator[Window], rate: float | None, decay: float = 1.0) -> int:
    """Train on a stream until the first error, and return the number of symbols before it. None: do not train."""
    network.reset()
    length = 0
    for inputs, targets in windows:
        now = None if rate is None or rate * decay**length < LOWEST_RATE else rate * decay**length
        steps = network.train_stream(inputs, targets, now, decay=decay, tolerance=TOLERANCE)
        length += steps
        if steps < len(inputs):
            break
    return length


def train_original_reber(
    seed: int, *, quick: bool, data: Path | None, forget_gate: bool, decay: float, streams: int | None = None
) -> Scores:
    """Train on streams that end with their first error, until ten other streams have none."""
    del data
    limit = QUICK_LENGTH if quick else STREAM_LENGTH
    most = (QUICK_STREAMS if quick else STREAMS) if streams is None else streams
    weights, *draws = (np.random.default_rng([seed, k]) for k in range(4))
    training, checks, test = (Streams(rng, limit) for rng in draws)
    network = make_network(weights, forget_gate=forget_gate)
    count, symbols, best, vector = 0, 0, -1.0, network.parameters.vector.copy()
    while count < most and best < limit and symbols < MAX_SYMBOLS:
        for _ in range(min(STREAMS_PER_CHECK, most - count)):
            symbols += train_stream(network, training.stream(), LEARNING_RATE, decay)
            count += 1
        mean = statistics.fmean(train_stream(network, checks.stream(), None) for _ in range(TEST_STREAMS))
        if mean > best:
            best, best_count, vector = mean, count, network.parameters.vector.copy()
    network.parameters.vector[:] = vector
    lengths = [train_stream(network, test.stream(), None) for _ in range(TEST_STREAMS)]
    return {
        "rating": rating(lengths, limit),
        "mean_length": statistics.fmean(lengths),
        "limit": limit,
        "checked_length": best,
        "streams": best_count,
        "trained_streams": count,
        "trained_symbols": symbols,
    }


def outcome(rows: Sequence[Row]) -> Outcome:
    """Count perfect and good networks of each variant."""
    parts, shares = [], {}
    for forget_gate, decay, label in (
        (True, 1.0, "with forget gates"),
        (True, DECAY, "with forget gates and the decreasing rate"),
        (False, 1.0, "without forget gates"),
        (False, DECAY, "without them, with the decreasing rate"),
    ):
        setting = {"forget_gate": forget_gate, "decay": decay}
        ratings, lengths = (scores_of(rows, name, **setting) for name in ("rating", "mean_length"))
        perfect, good, number = ratings.count("perfect"), ratings.count("good"), len(ratings)
        shares[forget_gate, decay] = perfect / number if number else 0.0, (perfect + good) / number if number else 0.0
        if not number:
            continue
        part = f"{label} {perfect} of {number} perfect, {good} good"
        failed = [length for length, one in zip(lengths, ratings, strict=True) if one == "failed"]
        parts.append(part + (f", mean length of the others {statistics.fmean(failed):,.0f}" if failed else ""))
    with_gates = shares[True, 1.0][1] >= PERFECT_OR_GOOD and shares[True, DECAY][0] >= PERFECT_WITH_DECAY
    return Outcome("; ".join(parts), with_gates and not any(shares[False, decay][1] for decay in (1.0, DECAY)))


EXPERIMENTS = (
    Experiment(
        name="continual-reber-2000",
        paper="Gers, Schmidhuber & Cummins (2000), continual embedded Reber grammar",
        claim="with the truncated rule, strings that follow one another without a reset are learned with forget gates, "
        "and not without them",
        paper_figure="with forget gates 18 % of 100 networks perfect on ten streams of 100,000 symbols, 29 % good; "
        "with a decreasing learning rate too 62 % perfect; without forget gates 0 % solved",
        criterion="as in the paper: with forget gates at least 47 % of the seeds are perfect or good (mean length "
        "above 1,000), with the decreasing rate at least 62 % perfect; without forget gates none is perfect or good",
        differences=(
            "The cells have a bias: 432 weights, against 424.",
            "The inputs of a step act within that step, not one step later.",
            "First weights are uniform in [-0.2, 0.2]. Biases of input and output gates begin at -0.5, -1, -1.5 and "
            "-2, those of forget gates at +0.5, +1, +1.5 and +2, one of each for a block. Cells and gates read the "
            "outputs of cells and the inputs, outputs read the inputs too. These details and the number 424 are from "
            "memory of the paper, not read again.",
            "The decreasing rate is 0.5 · 0.99ᵗ at symbol t of a stream, and 0.5 again in the next stream: the "
            "paper's factor is read as one per symbol. Below 1e-18 the weights are not updated.",
            "Every 500 training streams, ten random streams are run without training. Training ends when none of them "
            "has an error, and at the check after 20 million symbols. The weights with the largest "
            "mean length are rated, on ten other streams.",
            "An error is an output that is not within 0.49 of its target; the symbol with the error is trained on.",
        ),
        train=train_original_reber,
        outcome=outcome,
        remark=REMARK,
        seeds=5,
        quick_seeds=1,
        quick=f"at most {QUICK_STREAMS:,} training streams, streams of {QUICK_LENGTH:,} symbols",
        settings={"forget_gate": (True, False), "decay": (1.0, DECAY)},
    ),
)
