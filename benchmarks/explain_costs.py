"""Measure what explanations cost, and how exact the quadrature of integrated gradients is.

    python benchmarks/explain_costs.py               # all sections: minutes
    python benchmarks/explain_costs.py quadrature
    python benchmarks/explain_costs.py explanations
    python benchmarks/explain_costs.py trace

`quadrature` prints the table of docs/attribution.md: the largest completeness error on a trained copy model of 8 bits
with 32 units, for 64 sequences and 8 outputs each. `explanations` prints the section Cost of docs/what_it_does.md, and
`trace` that of docs/introspection.md. Times are the least processor time of some rounds: with OPENBLAS_NUM_THREADS=1,
those on one core.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import glasscell as gc
from glasscell import explain
from glasscell.core.types import Array
from glasscell.explain import attribution
from glasscell.explain.quadrature import path_quadrature

ROUNDS = 5
OUTPUTS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("section", nargs="?", choices=[*SECTIONS], help="default: all")
    section = parser.parse_args().section
    for name in SECTIONS if section is None else [section]:
        SECTIONS[name]()


def quadrature() -> None:
    """Print the largest completeness error of each rule and number of points."""
    model = trained(gc.tasks.Copy(width=8), 32, 3000)
    x = model.task.validation_batch(model.dtype).inputs
    print("| `steps` | panels by curvature | one Gauss–Legendre rule | midpoints |")
    print("| --- | --- | --- | --- |")
    for steps in (16, 32, 64, 128):
        errors = [largest_error(model, x, steps, rule) for rule in (path_quadrature, one_rule, midpoints)]
        print(f"| {steps} | {' | '.join(f'{error:.2g}' for error in errors)} |", flush=True)


def largest_error(model: Any, x: Array, steps: int, rule: Callable[..., tuple[Array, Array]]) -> float:
    """Return the largest completeness error of all sequences and outputs, with this rule."""
    original = attribution.path_quadrature
    attribution.path_quadrature = rule
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of errors above 1e-3, which are printed
            results = [
                explain.integrated_gradients(model, x, output=0, step=k - OUTPUTS, steps=steps) for k in range(OUTPUTS)
            ]
    finally:
        attribution.path_quadrature = original
    return max(float(result.completeness_error.max()) for result in results)


def one_rule(inputs: Any, _start: Array, steps: int) -> tuple[Array, Array]:
    """Return the points and weights of one Gauss–Legendre rule on the whole line, (steps, B) each."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return np.repeat((nodes[:, None] + 1) / 2, inputs.B, axis=1), np.repeat(weights[:, None] / 2, inputs.B, axis=1)


def midpoints(inputs: Any, _start: Array, steps: int) -> tuple[Array, Array]:
    """Return the midpoints of equal intervals, (steps, B), and their weights."""
    points = (np.arange(steps)[:, None] + 0.5) / steps
    return np.repeat(points, inputs.B, axis=1), np.full((steps, inputs.B), 1 / steps)


def explanations() -> None:
    """Print the times of explanations of copy models and of a text model."""
    model = trained(gc.tasks.Copy(width=8), 32, 300)
    for function in (explain.decodability, explain.unit_differences, explain.dependency):
        report(f"{function.__name__}, 8 bits, 32 units", lambda function=function: function(model, model.task))
    report("relay, 8 bits, 32 units", lambda: explain.relay(model, model.task))
    large = gc.CopyLSTM(64, task=gc.tasks.Copy(width=16), seed=0)
    report("relay, 16 bits, 64 units, 16 sequences", lambda: explain.relay(large, large.task, sequences=16), 1)
    text = "The delimiter (a bracket) opens one gate, and closes another. " * 10_323
    vocabulary = gc.data.Vocabulary.from_text(text)
    language = gc.LanguageModel(vocabulary, 32, 64, num_layers=2, seed=0)
    text = text[:640_000]
    report(
        "extreme_inputs, 640,000 characters, 2 × 64 units",
        lambda: explain.extreme_inputs(language, text, unit=3, symbol="f"),
        1,
    )


def trace() -> None:
    """Print the ratio of the times of a trace and of a forward and a backward pass, for some sizes."""
    for width, units in ((8, 32), (16, 64), (32, 128)):
        model = gc.CopyLSTM(units, task=gc.tasks.Copy(width=width), seed=0)
        batch = model.task.make_batch([np.resize([1, 0, 0, 1, 1], (1, width))], model.dtype)
        x, y, weights = batch.inputs[0], batch.targets[0], batch.weights[0]

        def passes(model: Any = model, x: Array = x, y: Array = y) -> None:
            outputs, _, tape = model.forward(x)
            model.backward(tape, outputs - y)

        def traced(model: Any = model, x: Array = x, y: Array = y, weights: Array = weights) -> Any:
            return model.trace(x, y, weights=weights)

        def derived(traced: Callable[[], Any] = traced) -> None:
            result = traced()
            for layer in result.layer:
                for name in layer.names:
                    layer.value(name)

        least = [least_time(function, 200) for function in (passes, traced, derived)]
        print(
            f"trace, {width} bits, {units} units: {least[1] / least[0]:.2g} times a forward and a backward pass, "
            f"{least[2] / least[0]:.2g} times with all derived quantities",
            flush=True,
        )


def trained(task: gc.tasks.Copy, units: int, updates: int) -> gc.CopyLSTM:
    """Return a trained copy model."""
    model = gc.CopyLSTM(units, task=task, seed=0)
    gc.fit(model, task, updates=updates, seed=0)
    return model


def least_time(function: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """Return the least processor time in seconds of some calls."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def report(name: str, function: Callable[[], Any], rounds: int = ROUNDS) -> None:
    """Print the least time of a function."""
    print(f"{name}: {least_time(function, rounds):.2g} s", flush=True)


SECTIONS: dict[str, Callable[[], None]] = {"quadrature": quadrature, "explanations": explanations, "trace": trace}

if __name__ == "__main__":
    main()
