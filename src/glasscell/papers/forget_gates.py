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
LOWEST_RATE = 1e-9  # a training stream ends where the rate falls below it: the rates that follow have a sum of 1e-7
STREAMS, CHECK_STREAMS = 30_000, 30
STREAMS_PER_CHECK, SYMBOLS_PER_CHECK = 50, 100_000  # of the training; a check follows the first of both
MAX_SYMBOLS = 100_000_000  # of training and checks, looked at with each check
QUICK_STREAMS, QUICK_LENGTH = 10_000, 10_000
FIRST_WINDOW, WINDOW = 100, 1000  # symbols that are trained at a time; most streams end in the first window
ROWS = 100  # windows that are drawn at a time
STATE_LENGTH = 10_000  # symbols after which the states of cells are measured, and after the first window
PERFECT_OR_GOOD, PERFECT_WITH_DECAY = 0.47, 0.62  # fractions of the networks of the paper
FORGET_BIASES, OTHER_BIASES = (0.5, 1.0, 1.5, 2.0), (-0.5, -1.0, -1.5, -2.0)

REMARK = (
    "With the constant rate seven of ten networks are perfect or good, more than in the paper. With the decreasing "
    "rate four are perfect, against 62 %; the 95 % interval of four of ten is 12 % to 74 %. Three more have an error "
    "in one of the ten streams. Without forget gates one of twenty networks is good, with a mean length of 2,040. "
    "benchmarks/forget_gates_2000.py changes one detail at a time, with the decreasing rate, on the seeds 100 to 107. "
    "Five of eight networks reach 10,000 symbols without an error; six with first forget biases of 1, with biases of "
    "cells, with first weights in [-0.1, 0.1] or with a tolerance of 0.4; none with first gate biases doubled, and one "
    "if outputs do not read the inputs. None was chosen. If the states are set to 0 before each string, four of eight "
    "reach it without forget gates."
)

Window = tuple[Array, Array]  # inputs and targets, (steps, 7)


class Streams:
    """Random streams of the continual grammar, in windows; windows are drawn many at a time."""

    def __init__(self, rng: np.random.Generator, length: int) -> None:
        self.rng, self.length = rng, length
        self.windows: dict[tuple[int, int], list[tuple[Any, Any]]] = {}  # by size and state before the first symbol

    def stream(self) -> Iterator[Window]:
        """Yield the windows of a new stream."""
        state, begin, size = 0, 0, FIRST_WINDOW
        while begin < self.length:
            drawn = self.windows.setdefault((size, state), [])
            if not drawn:
                drawn += zip(*walk(np.full(ROWS, state), self.rng, size), strict=True)
            ids, states = drawn.pop()
            steps = min(size, self.length - begin)
            yield np.eye(len(SYMBOLS))[ids[:steps]], ALLOWED[states[:steps]].astype(np.float64)
            state, begin, size = int(states[-1]), begin + steps, WINDOW


def make_network(rng: np.random.Generator, *, forget_gate: bool, **changes: Any) -> MemoryBlocks:
    """Return the network of the paper: four blocks of two cells. `changes` replace its options."""
    options: dict[str, Any] = {
        "reads": "cells",
        "cell_bias": False,
        "input_to_output": True,
        "weight_range": 0.2,
        "input_gate_bias": OTHER_BIASES,
        "output_gate_bias": OTHER_BIASES,
    }
    if forget_gate:
        options["forget_gate_bias"] = FORGET_BIASES
    return MemoryBlocks(7, 7, 4, 2, forget_gate=forget_gate, seed=rng, **options | changes)


def train_stream(
    network: MemoryBlocks,
    windows: Iterator[Window],
    rate: float | None,
    decay: float = 1.0,
    tolerance: float = TOLERANCE,
) -> int:
    """Train on a stream until the first error, and return the number of symbols before it. None: do not train.

    Training also ends, with the end of a window, where the rate falls below LOWEST_RATE.
    """
    network.reset()
    length = 0
    for inputs, targets in windows:
        now = None if rate is None else rate * decay**length
        if now is not None and now < LOWEST_RATE:
            break
        steps = network.train_stream(inputs, targets, now, decay=decay, tolerance=tolerance)
        length += steps
        if steps < len(inputs):
            break
    return length


def error_free_length(network: MemoryBlocks, streams: Streams, tolerance: float = TOLERANCE) -> int:
    """Return the number of symbols of at most CHECK_STREAMS new streams before the first error, without training."""
    total = 0
    for _ in range(CHECK_STREAMS):
        length = train_stream(network, streams.stream(), None, tolerance=tolerance)
        total += length
        if length < streams.length:
            break
    return total


def largest_states(network: MemoryBlocks, streams: Streams) -> list[float]:
    """Return the largest |s| after each window of a new stream, which does not end with an error."""
    network.reset()
    states = []
    for inputs, targets in streams.stream():
        network.train_stream(inputs, targets, None)
        states.append(round(float(np.abs(network.s).max()), 3))
    return states


def train_original_reber(
    seed: int, *, quick: bool, data: Path | None, forget_gate: bool, decay: float, streams: int | None = None
) -> Scores:
    """Train on streams that end with their first error, until CHECK_STREAMS other streams have none."""
    del data
    limit = QUICK_LENGTH if quick else STREAM_LENGTH
    most = (QUICK_STREAMS if quick else STREAMS) if streams is None else streams
    weights, *draws = (np.random.default_rng([seed, k]) for k in range(5))
    training, checks, test, further = map(Streams, draws, (limit, limit, limit, STATE_LENGTH))
    network = make_network(weights, forget_gate=forget_gate)
    count, symbols, best, vector = 0, {"trained": 0, "checked": 0}, -1, network.parameters.vector.copy()
    while count < most and best < CHECK_STREAMS * limit and sum(symbols.values()) < MAX_SYMBOLS:
        streams_end, symbols_end = min(count + STREAMS_PER_CHECK, most), symbols["trained"] + SYMBOLS_PER_CHECK
        while count < streams_end and symbols["trained"] < symbols_end:
            symbols["trained"] += train_stream(network, training.stream(), LEARNING_RATE, decay)
            count += 1
        length = error_free_length(network, checks)
        symbols["checked"] += length
        if length > best:
            best, best_count, vector = length, count, network.parameters.vector.copy()
    network.parameters.vector[:] = vector
    lengths = [train_stream(network, test.stream(), None) for _ in range(TEST_STREAMS)]
    states = largest_states(network, further)
    return {
        "rating": rating(lengths, limit),
        "mean_length": statistics.fmean(lengths),
        "lengths": " ".join(map(str, lengths)),
        f"state_after_{FIRST_WINDOW}": states[0],
        f"state_after_{STATE_LENGTH}": states[-1],
        "limit": limit,
        "checked_length": best,
        "streams": best_count,
        "trained_streams": count,
        "trained_symbols": symbols["trained"],
        "checked_symbols": symbols["checked"],
    }


def outcome(rows: Sequence[Row]) -> Outcome:
    """Count perfect and good networks of each variant, and compare the states of their cells."""
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
    for forget_gate, label in ((True, "with forget gates"), (False, "without them")):
        if states := scores_of(rows, f"state_after_{STATE_LENGTH}", forget_gate=forget_gate):
            start = "" if not forget_gate else f"largest |s| after {STATE_LENGTH:,} symbols, median of the networks: "
            parts.append(f"{start}{statistics.median(states):,.1f} {label}")
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
            "The inputs of a step act within that step, not one step later.",
            "First weights are uniform in [-0.2, 0.2]. Biases of input and output gates begin at -0.5, -1, -1.5 and "
            "-2, those of forget gates at +0.5, +1, +1.5 and +2, one of each for a block; cells have no bias. Cells "
            "and gates read the outputs of cells and the inputs, outputs read the inputs too. This gives the paper's "
            "424 weights. These details and the number are from memory of the paper, not read again.",
            "The decreasing rate is 0.5 · 0.99ᵗ at symbol t of a stream, and 0.5 again in the next stream: the "
            "paper's factor is read as one per symbol. A training stream ends after 2,100 symbols without an error, "
            "where the rate is below 1e-9: the sum of all rates that follow is below 1e-7.",
            "After 50 training streams or 100,000 training symbols, whichever is first, random streams of up to "
            "100,000 symbols are run without training, until one has an error. Training ends when 30 in a row have "
            "none, after 30,000 streams, and at the check after 100 million symbols of training and checks. The "
            "weights with the most symbols before the first error are rated, on ten other streams. This rule was "
            "chosen on the seeds 100 to 107: with ten streams in a row, five of eight networks that passed had an "
            "error in the ten other streams.",
            "An error is an output that is not within 0.49 of its target; the symbol with the error is trained on.",
        ),
        train=train_original_reber,
        outcome=outcome,
        remark=REMARK,
        seeds=10,
        quick_seeds=1,
        quick=f"at most {QUICK_STREAMS:,} training streams, streams of {QUICK_LENGTH:,} symbols",
        settings={"forget_gate": (True, False), "decay": (1.0, DECAY)},
    ),
)
