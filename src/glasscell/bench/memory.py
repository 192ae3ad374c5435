"""What training on one very long sequence needs: memory, and time a step."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from glasscell.bench import children, pytorch
from glasscell.bench.results import Figure, Race
from glasscell.bench.shapes import Shape
from glasscell.bench.work import work_of

SHORT, LONG = 1000, 100_000
I, H = 8, 64

# In a process of its own: nothing else is in its memory. Arguments: side, options, T of the short and the long run.
PROGRAM = f"""{children.PEAK}
import json, sys
side, options, short, long = sys.argv[1], *map(json.loads, sys.argv[2:])
from glasscell.bench import memory, ours, pytorch, work
make = memory.maker(side, options)
baseline = peak()
times = [memory.seconds_a_step(make, T) for T in (short, long)]
print(json.dumps({{"seconds": times, "peak": peak() - baseline}}))
"""


def memory(say: Callable[[str], object], short: int = SHORT, long: int = LONG) -> Race:
    """A training step over `long` steps, and the same over `short` ones."""
    sides: dict[str, tuple[str, dict[str, Any]]] = {
        "Glasscell": ("ours", {}),
        "Glasscell, recompute_every='auto'": ("ours", {"recompute_every": "auto"}),
    }
    absent = {}
    if why := pytorch.why_not():
        absent["PyTorch"] = why
    else:
        sides["PyTorch"] = ("torch", {})
    figures = []
    for name, (side, options) in sides.items():
        say(f"memory, {name}")
        arguments = [side, json.dumps(options), str(short), str(long)]
        out = json.loads(children.run(PROGRAM, arguments).lines[-1])
        a, b = out["seconds"]
        figures += [
            Figure(f"{name}: peak memory over the baseline", out["peak"] / 1e6, "MB"),
            Figure(f"{name}: time a step at T = {long:,}", b * 1e6, "µs"),
            Figure(f"{name}: over the time a step at T = {short:,}", b / a, "times"),
        ]
    title = f"A training step on one long sequence: T = {long:,}, I = {I}, H = {H}, B = 1"
    return Race("memory", title, figures=tuple(figures), absent=absent)


def maker(side: str, options: dict[str, Any]) -> Callable[[int], Callable[[], object]]:
    """What makes a training step of this side for so many steps of time; what it needs is imported by now."""
    if side == "torch":
        import torch  # noqa: F401, PLC0415 - optional

        return lambda T: pytorch.TrainingStep(work_of(Shape(I, H, T, 1)), batch_first=True, fused=True)
    from glasscell.bench import ours  # noqa: PLC0415

    return lambda T: ours.TrainingStep(work_of(Shape(I, H, T, 1)), **options)


def seconds_a_step(make: Callable[[int], Callable[[], object]], T: int) -> float:
    """Of an update, by the number of steps; the fastest of some, after a first that touches the memory."""
    update = make(T)
    update()
    times = []
    for _ in range(max(2, min(20, 20 * SHORT // T))):
        start = time.perf_counter()
        update()
        times.append(time.perf_counter() - start)
    return min(times) / T
