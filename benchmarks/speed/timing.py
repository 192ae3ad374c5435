"""Timing in interleaved rounds, each run without competing threads."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from statistics import median
from typing import TypeVar

from speed.contenders import Contender

K = TypeVar("K")

MIN_TIMING_SECONDS = 0.01  # seconds of a timing: many times what the clock and the loop around the workload cost
POLL_SECONDS = 0.002  # seconds between looks at what the process does
IDLE_SHARE = 0.3  # share of a core from which on a thread is taken to be spinning
MAX_WAIT_SECONDS = 0.15  # seconds
MAX_RELATIVE_TIME = 3.0  # times the fastest setting of its implementation: not looked at again


def wait_until_idle() -> None:
    """Wait until no thread of this process is busy.

    Pools of threads spin for a while after their workload, OpenBLAS's for some 60 ms: what is timed next would have to
    share its core with another library's.
    """
    end = time.perf_counter() + MAX_WAIT_SECONDS
    quiet = 0
    before, used = time.perf_counter(), time.process_time()
    while quiet < 3 and before < end:
        time.sleep(POLL_SECONDS)
        now, use = time.perf_counter(), time.process_time()
        quiet = quiet + 1 if use - used < IDLE_SHARE * (now - before) else 0
        before, used = now, use


def timed(contender: Contender, repetitions: int) -> float:
    """Return the mean seconds per run, without garbage collection."""
    run = contender.run
    with contender.context():
        wait_until_idle()
        if repetitions > 1:
            run()  # caches and threads: a short run would otherwise pay for who ran before it
        collected = gc.isenabled()
        gc.disable()
        try:
            start = time.perf_counter()
            for _ in range(repetitions):
                run()
            return (time.perf_counter() - start) / repetitions
        finally:
            if collected:
                gc.enable()


def repetitions_of(contender: Contender, shortest: float = MIN_TIMING_SECONDS) -> int:
    """Return the number of runs whose total time is at least `shortest`."""
    timed(contender, 2)
    count = 1
    while True:
        seconds = timed(contender, count) * count
        if seconds >= 0.8 * shortest:
            return ceil(count * max(1.0, shortest / seconds))
        count = ceil(count * min(10.0, 1.3 * shortest / max(seconds, 1e-7)))


def calibrated(
    contenders: Sequence[Contender], rounds: int, shortest: float = MIN_TIMING_SECONDS
) -> tuple[Contender, int]:
    """Return the fastest setting of one implementation, and its number of runs per timing."""
    counts = dict(enumerate(repetitions_of(contender, shortest) for contender in contenders))
    first = {k: timed(contender, counts[k]) for k, contender in enumerate(contenders)}
    near = {k: contenders[k] for k, seconds in first.items() if seconds <= MAX_RELATIVE_TIME * min(first.values())}
    times = interleave(near, counts, rounds) if len(near) > 1 else {k: [0.0] for k in near}
    best = min(times, key=lambda k: median(times[k]))
    return contenders[best], counts[best]


def interleave(contenders: Mapping[K, Contender], repetitions: Mapping[K, int], turns: int) -> dict[K, list[float]]:
    """Return the seconds per run of each contender in each round, in rotating order."""
    times: dict[K, list[float]] = {key: [] for key in contenders}
    for key in interleaved_order(list(contenders), turns):
        times[key].append(timed(contenders[key], repetitions[key]))
    return times


def interleaved_order(keys: Sequence[K], turns: int) -> Iterable[K]:
    """Yield each key once per round, in rotating order."""
    for turn in range(turns):
        k = turn % len(keys)
        yield from (*keys[k:], *keys[:k])
