"""Measure memory and time per step of training on one very long sequence."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from speed import pytorch, subprocesses
from speed.results import Benchmark, Metric
from speed.shapes import Shape
from speed.workload import make_workload

SHORT, LONG = 1000, 100_000
I, H = 8, 64

# Runs in a separate process, which holds nothing else in memory. Arguments: implementation, options, short T, long T.
PROGRAM = f"""{subprocesses.PEAK}
import json, sys
implementation, options, short, long = sys.argv[1], *map(json.loads, sys.argv[2:])
from speed import memory
make = memory.step_factory(implementation, options)
baseline = peak()
times = [memory.seconds_a_step(make, T) for T in (short, long)]
print(json.dumps({{"seconds": times, "peak": peak() - baseline}}))
"""


def measure_memory(log: Callable[[str], object], short: int = SHORT, long: int = LONG) -> Benchmark:
    """Measure a training step over `long` steps, and over `short` steps."""
    implementations: dict[str, tuple[str, dict[str, Any]]] = {
        "Glasscell": ("ours", {}),
        "Glasscell, recompute_every='auto'": ("ours", {"recompute_every": "auto"}),
    }
    absent = {}
    if why := pytorch.unavailable_reason():
        absent["PyTorch"] = why
    else:
        implementations["PyTorch"] = ("torch", {})
    metrics = []
    for name, (implementation, options) in implementations.items():
        log(f"memory, {name}")
        arguments = [implementation, json.dumps(options), str(short), str(long)]
        out = json.loads(subprocesses.run(PROGRAM, arguments).lines[-1])
        a, b = out["seconds"]
        metrics += [
            Metric(f"{name}: peak memory over the baseline", out["peak"] / 1e6, "MB"),
            Metric(f"{name}: time a step at T = {long:,}", b * 1e6, "µs"),
            Metric(f"{name}: over the time a step at T = {short:,}", b / a, "times"),
        ]
    title = f"A training step on one long sequence: T = {long:,}, I = {I}, H = {H}, B = 1"
    return Benchmark("memory", title, metrics=tuple(metrics), absent=absent)


def step_factory(implementation: str, options: dict[str, Any]) -> Callable[[int], Callable[[], object]]:
    """Return a function of T that makes a training step; the implementation is imported by this call."""
    if implementation == "torch":
        import torch  # noqa: F401 - optional

        return lambda T: pytorch.TrainingStep(make_workload(Shape(I, H, T, 1)), batch_first=True, fused=True)
    from speed import glasscell_runner

    return lambda T: glasscell_runner.TrainingStep(make_workload(Shape(I, H, T, 1)), **options)


def seconds_a_step(make: Callable[[int], Callable[[], object]], T: int) -> float:
    """Return the time of an update divided by T: the fastest of a few, after a first that touches the memory."""
    update = make(T)
    update()
    times = []
    for _ in range(max(2, min(20, 20 * SHORT // T))):
        start = time.perf_counter()
        update()
        times.append(time.perf_counter() - start)
    return min(times) / T
