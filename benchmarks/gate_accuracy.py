"""Print the largest errors of σ and tanh, in units of the last place, of everything that computes them.

    python benchmarks/gate_accuracy.py
    python benchmarks/gate_accuracy.py --numbers 100000000

A layer of one unit is set up so that its cell becomes σ(x), or tanh(x), after one step. Results are compared with long
doubles where they are normal numbers; elsewhere they must be 0 or subnormal. Where a long double is no wider than a
double (Windows, ARM), the figures for float64 contain the errors of the reference. Exits with 1 if an error is above 4
units.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import glasscell as gc
from glasscell.core.activations import sigmoid, tanh

BOUND = 4
CHUNK = 200_000
OPEN = 1e4  # a bias: the gate is 1, and the candidate too
WEB = Path(gc.__file__).parent / "trace" / "web" / "lstm.js"
LONG = np.longdouble

Evaluate = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # from x to σ(x) and tanh(x)


@np.errstate(over="ignore", under="ignore")
def exact(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return σ(x) and tanh(x) in long doubles."""
    x = x.astype(LONG)
    e = np.expm1(-2 * np.abs(x))
    return 1 / (1 + np.exp(-x)), -np.copysign(LONG(1), x) * e / (e + 2)


def numbers(dtype: type, count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield chunks: half of the numbers uniform where σ is normal, a quarter near 0, a quarter of all small sizes."""
    end, smallest = (87.3, -36) if dtype == np.float32 else (708.3, -300)
    for start in range(0, count, CHUNK):
        n = min(CHUNK, count - start) // 4
        parts = rng.uniform(-end, end, 2 * n), rng.normal(size=n), 10 ** rng.uniform(smallest, 0, n)
        yield np.concatenate(parts).astype(dtype)


def unit(dtype: type, gate: str, **options: object) -> gc.LSTM:
    """Make a layer of one unit whose cell becomes a function of x: σ for the gate "i", tanh for "g"."""
    model = gc.LSTM(1, 1, dtype=dtype, **options)
    model.parameters.vector[:] = 0
    kernel = model.parameters["kernel_l0"]  # rows i f o g; columns h, x, bias
    kernel[:, 2] = OPEN
    kernel["ifog".index(gate)] = 0, 1, 0
    return model


def of_cells(way: Callable[[gc.LSTM, np.ndarray], np.ndarray], **options: object) -> Evaluate:
    """Return the function that reads σ and tanh off the cells of such layers."""

    def evaluate(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        of_i, of_g = (way(unit(x.dtype.type, gate, **options), x).ravel() for gate in "ig")
        return of_i, of_g

    return evaluate


def forward(model: gc.LSTM, x: np.ndarray) -> np.ndarray:
    return model.forward(x[:, None, None])[1].c


def run(model: gc.LSTM, x: np.ndarray) -> np.ndarray:
    return model.infer(x[:, None, None])[1].c


def streams(model: gc.LSTM, x: np.ndarray) -> np.ndarray:
    stream = model.stream(batch=len(x))
    stream.push(x[:, None])
    return stream.state.c


def stream(model: gc.LSTM, x: np.ndarray) -> np.ndarray:
    one, cells = model.stream(), []
    for number in x[:: max(1, len(x) // 5_000), None]:
        one.reset()
        one.push(number)
        cells.append(one.state.c[0])
    return np.array(cells)


def in_javascript(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    program = (
        f"import {{ sigmoid }} from {json.dumps(WEB.as_uri())}; import {{ readFileSync }} from 'node:fs';"
        "const bytes = readFileSync(0); const x = new Float64Array(new Uint8Array(bytes).buffer);"
        "process.stdout.write(Buffer.from(Float64Array.from([...x.map(sigmoid), ...x.map(Math.tanh)]).buffer));"
    )
    command = ["node", "--input-type=module", "-e", program]
    done = subprocess.run(command, input=x.astype(np.float64).tobytes(), capture_output=True, check=True)
    of_sigmoid, of_tanh = np.frombuffer(done.stdout).reshape(2, -1)
    return of_sigmoid, of_tanh


def rows() -> dict[str, Evaluate]:
    """Return everything that computes σ and tanh, by name."""
    engines = ["numpy", *(["numba"] if find_spec("numba") else [])]
    found: dict[str, Evaluate] = {"functions": lambda x: (sigmoid(x), tanh(x))}
    for engine in engines:
        for way in (forward, run, streams, stream):
            found[f"{engine}: {way.__name__}"] = of_cells(way, engine=engine)
    for way in (forward, streams, stream):
        found[f"general layer: {way.__name__}"] = of_cells(way, peepholes=True)
    if shutil.which("node"):
        found["the page's JavaScript"] = in_javascript
    return found


def largest_error(values: np.ndarray, expected: np.ndarray) -> float:
    """Return it in units of the last place of the value; of those that are not normal numbers only whether they are."""
    dtype = values.dtype
    normal = np.abs(expected) >= np.finfo(dtype).tiny
    unit_of = np.spacing(np.abs(expected[normal]).astype(dtype)).astype(LONG)
    error = float((np.abs(values[normal].astype(LONG) - expected[normal]) / unit_of).max(initial=0))
    return error if (np.abs(values[~normal]) <= np.finfo(dtype).tiny).all() else np.inf


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--numbers", type=int, default=1_000_000, help="of each dtype (default 1,000,000)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    worst = 0.0
    print(f"{'largest error in units of the last place':42s}{'float32':>16s}{'float64':>18s}")
    print(f"{f'of {options.numbers:,} numbers':42s}{'σ':>8s}{'tanh':>8s}{'σ':>10s}{'tanh':>8s}")
    for name, evaluate in rows().items():
        line = f"{name:42s}"
        for dtype in (np.float32, np.float64):
            errors = [0.0, 0.0]
            if name.endswith("JavaScript") and dtype == np.float32:
                line += f"{'-':>8s}{'-':>8s}"  # it computes in doubles
                continue
            for x in numbers(dtype, options.numbers, np.random.default_rng(options.seed)):
                values = evaluate(x)
                if len(values[0]) < len(x):  # single streams take a sample
                    x = x[:: max(1, len(x) // 5_000)]  # noqa: PLW2901 - the same numbers, fewer
                errors = [max(e, largest_error(v, t)) for e, v, t in zip(errors, values, exact(x), strict=True)]
            worst = max(worst, *errors)
            line += f"{errors[0]:>{8 if dtype == np.float32 else 10}.2f}{errors[1]:>8.2f}"
        print(line, flush=True)
    return int(worst > BOUND)


if __name__ == "__main__":
    sys.exit(main())
