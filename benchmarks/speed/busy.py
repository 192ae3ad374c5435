"""Other processes that keep the cores busy during a measurement."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from speed import threads
from speed.contenders import Contender

PER_CORE = 1  # busy processes


def describe() -> str:
    """Return how many processes are busy: 2 busy processes on 2 cores."""
    count = PER_CORE * threads.cores()
    return f"{count} busy process{'es' * (count > 1)} on {threads.describe(threads.cores()).replace('thread', 'core')}"


@contextmanager
def processes() -> Iterator[None]:
    """Run a busy process for each core during the block."""
    command = [sys.executable, "-c", "while True: pass"]
    running = [subprocess.Popen(command) for _ in range(PER_CORE * threads.cores())]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def all_threads(contenders: Iterable[Contender]) -> list[Contender]:
    """Return the first contender of each implementation that uses a thread for each core: a collapse takes seconds."""
    words = threads.describe(threads.cores())
    found: dict[str, Contender] = {}
    for contender in contenders:
        if contender.setting.startswith(words):
            found.setdefault(contender.name, contender)
    return [*found.values()]
