"""Law: the page's JavaScript equals NumPy to 1e-10: every quantity of every layer, direction and step."""

import itertools
from typing import Any

import numpy as np

import glasscell as gc
from glasscell.trace.diagnostics import gradient_paths, half_life
from glasscell.trace.html_report.payload import array, payload_of
from glasscell.trace.trace import Trace


def expected(trace: Trace) -> dict[str, Any]:
    """The expected result of run() of lstm.js."""
    directions = {}
    for layer in trace.layer:
        arrays = {name: layer.value(name) for name in layer.names}
        if layer.has_gradients:
            paths = gradient_paths(layer)
            u = np.concatenate([layer.h_prev, layer.x, np.ones((layer.T, 1))], axis=1)
            arrays |= {**paths._asdict(), "dW": layer.d_z.T @ u}
        directions[layer.name] = {name: array(values) for name, values in arrays.items()}
    of_trace = {name: getattr(trace, name) for name in ("outputs", "d_outputs", "d_x")}
    arrays = {name: array(values) for name, values in of_trace.items() if values is not None}
    return {"arrays": arrays, "loss": trace.loss, "directions": directions, "measures": measures(trace)}


def measures(trace: Trace) -> dict[str, Any]:
    """The expected results of measures.js for each direction."""
    found = {}
    for layer in trace.layer:
        c, x = layer.c.astype(np.float64), trace.layer[0].x[:, 0].astype(np.float64)
        spread = (c - c.mean(axis=0)).T @ (x - x.mean()) / layer.T
        scale = c.std(axis=0) * x.std()
        correlation = np.divide(spread, scale, out=np.zeros(layer.H), where=scale > 0)
        found[layer.name] = {
            "halfLives": array(half_life(layer.f)),
            "peaks": array(np.abs(c).argmax(axis=0)),
            "correlations": array(correlation),
            "rowNorms": array(np.linalg.norm(c, axis=1)),
        }
    return found


def an_lstm(rng: np.random.Generator, **options: Any) -> tuple[gc.LSTM, Any]:
    """An LSTM of random sizes with weights that saturate some gates, and a state to begin with."""
    I, H = rng.integers(1, 7, 2)
    lstm = gc.LSTM(int(I), int(H), learn_initial_state=True, dtype=np.float64, **options)
    lstm.parameters.vector[:] = rng.normal(0, 0.8, lstm.parameters.vector.shape)
    T = int(rng.integers(1, 12))
    return lstm, rng.normal(size=(T, int(I)))


def target(rng: np.random.Generator, loss: str, T: int, O: int) -> tuple[Any, Any]:
    """Targets and weights, of which some are 0."""
    weights = rng.choice([0.0, 1.0, 2.5], T)
    if loss == "categorical_cross_entropy":
        return rng.integers(0, O, T), weights
    y = rng.random((T, O)) if loss == "binary_cross_entropy" else rng.normal(size=(T, O))
    return y, weights[:, None]


def cases(rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    written = {}
    kinds: list[dict[str, Any]] = [{}, {"reverse": True}, {"bias": False}]
    kinds += [{"bidirectional": True, "merge": merge} for merge in ("concat", "sum", "average", "multiply")]
    losses = ("binary_cross_entropy", "squared_error", "categorical_cross_entropy", None)
    for (number, kind), layers, loss in itertools.product(enumerate(kinds), (1, 3), losses):
        lstm, x = an_lstm(rng, num_layers=layers, **kind)
        T, O = len(x), lstm.output_size
        if loss is None:
            trace = lstm.trace(x, d_outputs=rng.normal(size=(T, O)))
        else:
            y, weights = target(rng, loss, T, O)
            trace = lstm.trace(x, y, loss=loss, weights=weights if rng.random() < 0.7 else None)
        written[f"{number} {kind} x{layers} {loss}"] = {"payload": payload_of(trace), "expected": expected(trace)}
    for mode, k, layers in (("recall", 1, 1), ("recall", 2, 2), ("echo", 2, 1)):
        model = a_copier(rng, mode, k, layers)
        bits = rng.integers(0, 2, (2, 8))
        trace, after = model.trace(bits[0]), model.trace(bits[1, :6])
        written[f"copy {mode} {k}"] = {
            "payload": payload_of(trace),
            "expected": expected(trace),
            "bits": "".join(map(str, bits[1, :6])),
            "after": expected(after),
        }
    model = gc.LanguageModel(gc.data.Vocabulary("abc \n"), 3, 4, dropout=0.3, dtype=np.float64)
    model.parameters.vector[:] = rng.normal(0, 0.8, model.parameters.vector.shape)
    trace = model.trace("a cab\nbac")
    written["a language model"] = {"payload": payload_of(trace), "expected": expected(trace)}
    for name, (trace, loss) in parts(rng).items():
        written[f"part {name}"] = {"payload": payload_of(trace), "expected": expected(trace) | {"loss": loss}}
    for name, options in STILL.items():
        trace = gc.LSTM(3, 4, **options).trace(rng.normal(size=(6, 3)), d_outputs=rng.normal(size=(6, 8)))
        payload = payload_of(trace)
        shown = payload["static"]["directions"]
        of_trace = expected(trace)
        directions = {
            direction: {
                symbol: of_trace["directions"][direction][symbol] for symbol in shown[direction].keys() - NOT_SYMBOLS
            }
            for direction in shown
        }
        arrays = {name: of_trace["arrays"][name] for name in ("outputs", "d_outputs")}
        written[f"still {name}"] = {
            "payload": payload,
            "expected": {**of_trace, "arrays": arrays, "loss": None, "directions": directions},
        }
    return written


def parts(rng: np.random.Generator) -> dict[str, tuple[Trace, float]]:
    """Traces whose answers count differently, or are not all that the loss is of; and what they add to that loss."""
    lstm = gc.LSTM(3, 4, bidirectional=True, dtype=np.float64)
    x, y = rng.normal(size=(5, 6, 3)), rng.normal(size=(5, 6, 8))
    weights = rng.choice([0.0, 1.0, 2.5], (5, 6, 8))
    errors, lengths = weights * (lstm.infer(x)[0] - y) ** 2, [6, 2, 4, 1, 6]
    ragged = lstm.trace(x, y, lengths=lengths)
    ragged_errors = (ragged.outputs[2, :4] - y[2, :4]) ** 2
    ahead = gc.LSTM(3, 4, dtype=np.float64).trace(x[0], y[0, :, :4])
    alone = lstm.trace(x[0], y[0], weights=weights[0])
    return {
        "weights of outputs": (alone, errors[0].sum() / weights[0].sum()),
        "weights of outputs, of a step": (
            lstm.trace(x[0], y[0], weights=weights[0, 0]),
            (weights[0, 0] * (alone.outputs - y[0]) ** 2).sum() / (6 * weights[0, 0].sum()),
        ),
        "a sequence of a batch": (lstm.trace(x, y, weights=weights).sequence(3), errors[3].sum() / weights.sum()),
        "a short sequence of a batch": (ragged.sequence(2), ragged_errors.sum() / (8 * sum(lengths))),
        "the last steps": (ahead[2:], ((ahead.outputs - y[0, :, :4])[2:] ** 2).sum() / (6 * 4)),
    }


NOT_SYMBOLS = {"units", "d_x_norm"}  # of the arrays of a direction
# Recorded values of static pages, in float32.
STILL: dict[str, dict[str, Any]] = {
    "peepholes": {"bidirectional": True, "peepholes": True},
    "projection": {"bidirectional": True, "proj_size": 4, "coupled": "input"},
}


def a_copier(rng: np.random.Generator, mode: Any, bits_per_step: int, layers: int) -> gc.CopyLSTM:
    task = gc.tasks.Copy(width=8, mode=mode, bits_per_step=bits_per_step)
    model = gc.CopyLSTM(hidden_size=5, num_layers=layers, task=task, dtype=np.float64)
    model.parameters.vector[:] = rng.normal(0, 0.8, model.parameters.vector.shape)
    return model


def test_javascript_computes_what_numpy_does(run_web_tests: Any, rng: np.random.Generator) -> None:
    written = cases(rng)
    assert all(case["payload"]["live"] != name.startswith("still") for name, case in written.items())
    assert len(written) == 67
    assert run_web_tests("", written) > len(written)
