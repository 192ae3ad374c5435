"""Law: the page's maps of what a model does equal glasscell.explain to 1e-10."""

from typing import Any

import numpy as np

import glasscell as gc
from glasscell.explain.statistics import regularized_beta
from glasscell.trace.html_report.payload import array, payload_of
from glasscell.trace.trace import Trace


def randomized(model: Any, rng: np.random.Generator) -> Any:
    model.parameters.vector[:] = rng.normal(0, 0.8, model.parameters.vector.shape)
    return model


def case_of_copies(rng: np.random.Generator, layers: int = 1, **options: Any) -> dict[str, Any]:
    task = gc.tasks.Copy(width=4, **options)
    model = randomized(gc.CopyLSTM(6, num_layers=layers, task=task, dtype=np.float64), rng)
    decoded = gc.explain.decodability(model, task)
    differences = gc.explain.unit_differences(model, task)
    depends = gc.explain.dependency(model, task)
    return {
        "check": "copies",
        "payload": payload_of(model.trace([1, 0, 1, 1])),
        "layer": layers - 1,
        "halves": [decoded.fitted.tolist(), decoded.scored.tolist()],
        "expected": {
            "r2": array(decoded.r2),
            "difference": array(differences.difference),
            "p": array(differences.p),
            "isSignificant": array(differences.is_significant.astype(float)),
            "flips": array(depends.exact),
            "jacobian": array(depends.linear),
        },
    }


def case_of_relay(rng: np.random.Generator, k: int, **options: Any) -> dict[str, Any]:
    """The path of bit k through one of two layers."""
    task = gc.tasks.Copy(width=6, **options)
    model = randomized(gc.CopyLSTM(5, num_layers=2, task=task, dtype=np.float64), rng)
    layer = k % 2
    relay = gc.explain.relay(model, task, layer=layer, sequences=64)
    return {
        "check": "relay",
        "payload": payload_of(model.trace([1, 0, 1, 1, 0, 0])),
        "place": {"layer": layer, "direction": 0, "k": k},
        "sequences": int(relay.sequences[k]),
        "expected": {"carried": array(relay.carried[k]), "together": array(relay.together[k])},
        "steps": [int(relay.written_at[k]), int(relay.read_at[k])],
        "path": [[one.unit, one.first, one.last, one.share] for one in relay.path(k)],
    }


def case_of_steps(trace: Trace, lstm: gc.LSTM) -> dict[str, Any]:
    """The derivatives of every output by one backward pass each."""
    T, O = trace.outputs.shape
    norms = np.zeros((T, T))
    for t in range(T):
        for k in range(O):
            d_outputs = np.zeros((T, O))
            d_outputs[t, k] = 1
            norms[t] += np.square(lstm.trace(trace.x, d_outputs=d_outputs).d_x).sum(axis=1)
    return {"check": "steps", "payload": payload_of(trace), "expected": {"norms": array(np.sqrt(norms))}}


def case_of_crossings(trace: Trace, model: Any, output: int) -> dict[str, Any]:
    d_outputs = np.zeros(trace.outputs.shape)
    d_outputs.flat[output] = 1
    traces = [trace, model.trace(trace.x, d_outputs=d_outputs)]
    parts = [
        [array(gc.explain.gradient_flow(one, layer=k, crossings=2).c) for k in range(len(one.layer))] for one in traces
    ]
    return {"check": "crossings", "payload": payload_of(trace), "output": output, "expected": parts}


def case_of_crossings_under(rng: np.random.Generator, model: Any) -> dict[str, Any]:
    """Those of the loss under interventions of each kind."""
    interventions = [
        {"symbol": "f", "operation": "scale", "value": 0.5},
        {"symbol": "W_h", "operation": "cut", "units": [1], "steps": [2, 3]},
        {"symbol": "c", "operation": "freeze", "units": [0], "steps": [4]},
        {"symbol": "g", "operation": "clamp", "low": -0.3, "high": 0.4},
        {"symbol": "h", "operation": "add", "value": 0.2, "steps": [1]},
    ]
    x, y = rng.normal(size=(6, 2)), rng.normal(size=(6, 6))
    payload = payload_of(model.trace(x, y))
    where = [{"units": one.get("units"), "steps": one.get("steps")} for one in interventions]
    operations: list[dict[str, Any]] = [
        {"scale": 0.5},
        {"cut": True},
        {"freeze": True},
        {"clamp": (-0.3, 0.4)},
        {"add": 0.2},
    ]
    acting = [
        gc.explain.Intervention(str(one["symbol"]), **operation, **place, layer=None)
        for one, operation, place in zip(interventions, operations, where, strict=True)
    ]
    with gc.explain.intervene(model, *acting):
        flows = [gc.explain.gradient_flow(model, x, y, layer=k, crossings=2) for k in range(4)]
    expected = [array(flow.c) for flow in flows]
    return {"check": "crossings", "payload": payload, "interventions": interventions, "expected": [expected]}


def cases(rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    small = randomized(gc.LSTM(2, 3, dtype=np.float64), rng)
    both = randomized(gc.LSTM(2, 3, 2, bidirectional=True, learn_initial_state=True, dtype=np.float64), rng)
    triples = np.column_stack([rng.random(200), rng.uniform(0.5, 80, 200), np.full(200, 0.5)])
    return {
        "copies recall": case_of_copies(rng),
        "copies two layers": case_of_copies(rng, 2, bits_per_step=2),
        "copies echo": case_of_copies(rng, mode="echo"),
        "relay recall": case_of_relay(rng, 1),
        "relay echo": case_of_relay(rng, 2, mode="echo"),
        "relay of two bits per step": case_of_relay(rng, 5, bits_per_step=2),
        "steps": case_of_steps(small.trace(rng.normal(size=(7, 2))), small),
        "crossings": case_of_crossings(both.trace(rng.normal(size=(6, 2)), rng.normal(size=(6, 6))), both, 27),
        "crossings under interventions": case_of_crossings_under(rng, both),
        "beta": {
            "check": "beta",
            "arguments": triples.tolist(),
            "expected": array(regularized_beta(*triples.T)),
        },
    }


def test_the_maps_equal_those_of_python(run_web_tests: Any, rng: np.random.Generator) -> None:
    written = cases(rng)
    assert all(case["payload"]["live"] for case in written.values() if "payload" in case)
    assert run_web_tests("maps", written) > len(written)
