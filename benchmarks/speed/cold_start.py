"""Measure the time from process start to the first answer of a saved model of 128 units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from speed import glasscell_runner, onnx_runtime, pytorch, subprocesses
from speed.results import Benchmark, Implementation, Metric, Row
from speed.shapes import Shape
from speed.timing import interleaved_order, wait_until_idle
from speed.workload import OUTPUTS, Workload, make_workload

SHAPE = Shape(8, 128, 20, 1)
OURS, NUMPY, IMPORT = "Glasscell", "import numpy alone", "glasscell.Sequential"

# Each prints its answer (the sum of all outputs) as its first line. Its arguments: the file of the model.
PROGRAMS = {
    NUMPY: "import numpy; print(0.0)",
    IMPORT: "import numpy, glasscell; glasscell.Sequential; print(0.0)",  # each name is imported when it is first used
    OURS: f"""
import sys, numpy, glasscell
model = glasscell.Sequential.load(sys.argv[1])
print(float(model(numpy.ones((1, {SHAPE.T}, {SHAPE.I}), numpy.float32)).sum()))
""",
    "PyTorch": f"""
import sys, torch
model = torch.nn.ModuleDict({{
    "lstm": torch.nn.LSTM({SHAPE.I}, {SHAPE.H}, batch_first=True), "readout": torch.nn.Linear({SHAPE.H}, {OUTPUTS})
}})
model.load_state_dict(torch.load(sys.argv[1], weights_only=True))
with torch.inference_mode():
    print(float(model["readout"](model["lstm"](torch.ones(1, {SHAPE.T}, {SHAPE.I}))[0]).sum()))
""",
    "ONNX Runtime": f"""
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
print(float(session.run(None, {{"x": numpy.ones((1, {SHAPE.T}, {SHAPE.I}), numpy.float32)}})[0].sum()))
""",
}


def measure_cold_start(turns: int, log: Callable[[str], object]) -> Benchmark:
    """Time whole processes in interleaved rounds."""
    peers = {"PyTorch": pytorch.unavailable_reason(), "ONNX Runtime": onnx_runtime.unavailable_reason()}
    names = [name for name in (OURS, NUMPY, IMPORT, *peers) if not peers.get(name)]
    with TemporaryDirectory() as folder:
        files = {name: _save(name, make_workload(SHAPE), Path(folder)) for name in names}
        log("cold start")
        for name in names:
            run_program(name, files[name])  # files into the cache of the system, modules compiled
        times: dict[str, list[float]] = {name: [] for name in names}
        peaks: dict[str, list[float]] = {name: [] for name in names}
        for name in interleaved_order(names, turns):
            wait_until_idle()
            seconds, _, peak = run_program(name, files[name])
            times[name].append(seconds)
            peaks[name].append(peak)
    implementations = tuple(
        Implementation(
            name, "a separate process", tuple(times[name]), ours=name == OURS, peak_mb=sorted(peaks[name])[turns // 2]
        )
        for name in names
        if name != IMPORT
    )
    metrics = (Metric(f"importing {IMPORT}, over import numpy", added(times[IMPORT], times[NUMPY]) * 1e3, "ms"),)
    title = "From process start to the first answer of a saved model: LSTM(8, 128) → Linear(8), 20 steps"
    return Benchmark(
        "cold",
        title,
        (Row("H = 128", implementations),),
        metrics,
        absent={name: why for name, why in peers.items() if why},
    )


def added(longer: Sequence[float], shorter: Sequence[float]) -> float:
    """Return the additional time of a program that begins with another: the difference of their fastest runs.

    Slower runs depend on the load of the machine: the difference of two of them can be negative.
    """
    return min(longer) - min(shorter)


def run_program(name: str, file: Path) -> tuple[float, float, float]:
    """Return the seconds to the answer of a process, the answer, and its peak memory in MB."""
    done = subprocesses.run(f"{PROGRAMS[name]}{subprocesses.PEAK}print(peak())", [str(file)])
    answer, peak = map(float, done.lines)
    return done.seconds, answer, peak / 1e6


def _save(name: str, workload: Workload, folder: Path) -> Path:
    """Save the model in the format that an implementation reads, and return the file."""
    file = folder / name.replace(" ", "_")
    if name == OURS:
        file = file.with_suffix(".safetensors")
        glasscell_runner.model_of(workload).save(file)
    elif name == "PyTorch":
        import torch

        torch.save(pytorch.modules(workload).state_dict(), file)
    elif name == "ONNX Runtime":
        from glasscell.convert.onnx import exporter

        file = file.with_suffix(".onnx")
        exporter.save(glasscell_runner.model_of(workload), file)
    return file
