"""Taking times so that they can be compared: in turns, each with the machine to itself."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from statistics import median
from typing import TypeVar

from glasscell.bench.entrants import Entrant

K = TypeVar("K")

SHORTEST = 0.01  # seconds of a timing: many times what the clock and the loop around the work cost
LOOK = 0.002  # seconds between looks at what the process does
QUIET = 0.3  # share of a core from which on a thread is taken to be spinning
PATIENCE = 0.15  # seconds
HOPELESS = 3.0  # times the fastest setting of its side: not looked at again


def settle() -> None:
    """Wait until no thread of this process is busy.

    Pools of threads spin for a while after their work, OpenBLAS's for some 60 ms: what is timed next would have to
    share its core with another library's.
    """
    end = time.perf_counter() + PATIENCE
    quiet = 0
    before, used = time.perf_counter(), time.process_time()
    while quiet < 3 and before < end:
        time.sleep(LOOK)
        now, use = time.perf_counter(), time.process_time()
        quiet = quiet + 1 if use - used < QUIET * (now - before) else 0
        before, used = now, use


def timed(entrant: Entrant, repetitions: int) -> float:
    """Seconds a run, the mean of some; garbage is not collected meanwhile."""
    run = entrant.run
    with entrant.during():
        settle()
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


def repetitions_of(entrant: Entrant, shortest: float = SHORTEST) -> int:
    """How many runs make a timing that is long enough."""
    timed(entrant, 2)
    count = 1
    while True:
        seconds = timed(entrant, count) * count
        if seconds >= 0.8 * shortest:
            return ceil(count * max(1.0, shortest / seconds))
        count = ceil(count * min(10.0, 1.3 * shortest / max(seconds, 1e-7)))


def calibrated(entrants: Sequence[Entrant], rounds: int, shortest: float = SHORTEST) -> tuple[Entrant, int]:
    """The fastest of one side's settings, and its number of runs a timing."""
    counts = dict(enumerate(repetitions_of(entrant, shortest) for entrant in entrants))
    first = {k: timed(entrant, counts[k]) for k, entrant in enumerate(entrants)}
    near = {k: entrants[k] for k, seconds in first.items() if seconds <= HOPELESS * min(first.values())}
    times = take_turns(near, counts, rounds) if len(near) > 1 else {k: [0.0] for k in near}
    best = min(times, key=lambda k: median(times[k]))
    return entrants[best], counts[best]


def take_turns(entrants: Mapping[K, Entrant], repetitions: Mapping[K, int], turns: int) -> dict[K, list[float]]:
    """Seconds a run of everyone, turn by turn; who is first is another one each time."""
    times: dict[K, list[float]] = {key: [] for key in entrants}
    for key in in_turns(list(entrants), turns):
        times[key].append(timed(entrants[key], repetitions[key]))
    return times


def in_turns(keys: Sequence[K], turns: int) -> Iterable[K]:
    """Everyone in every turn; who is first is another one each time."""
    for turn in range(turns):
        k = turn % len(keys)
        yield from (*keys[k:], *keys[:k])
