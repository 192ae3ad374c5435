"""Law: interventions in the page's JavaScript equal the equations of core.cell, changed by hand, to 1e-10."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import glasscell as gc
from glasscell.core.activations import sigmoid
from glasscell.core.types import Array
from glasscell.trace.html_report.payload import array, payload_of

WEB_TEST = Path(__file__).parent / "web" / "interventions" / "against_numpy.test.mjs"
T, I, H = 6, 2, 4

# By name: interventions in the form of web/report/interventions.js.
CASES: dict[str, list[dict[str, Any]]] = {
    **{f"scale {symbol}": [{"symbol": symbol, "operation": "scale", "value": 0.7}] for symbol in "xifogch"},
    "set": [{"symbol": "i", "operation": "set", "value": 0.9, "units": [0, 3]}],
    "add": [{"symbol": "c", "operation": "add", "value": -0.4, "steps": [1, 4]}],
    "clamp": [{"symbol": "g", "operation": "clamp", "low": -0.2, "high": 0.3}],
    "freeze a gate": [{"symbol": "f", "operation": "freeze", "units": [1, 2]}],
    "freeze an input": [{"symbol": "x", "operation": "freeze", "units": [1], "steps": [2, 3]}],
    "freeze states": [
        {"symbol": "c", "operation": "freeze", "steps": [0, 2]},
        {"symbol": "h", "operation": "freeze", "units": [3], "steps": [0, 1, 5]},
    ],
    "patch": [{"symbol": "h", "operation": "patch", "values": "random", "steps": [3], "units": [0, 1]}],
    "cut": [{"symbol": "W_h", "operation": "cut"}],
    "cut a unit": [{"symbol": "W_h", "operation": "cut", "units": [2], "steps": [2, 3, 4]}],
    "several": [
        {"symbol": "f", "operation": "freeze", "steps": [2]},
        {"symbol": "f", "operation": "scale", "value": 0.8},
        {"symbol": "o", "operation": "clamp", "low": 0.4, "high": 0.6},
        {"symbol": "c", "operation": "set", "value": 0.0, "units": [1]},
    ],
}


def by_hand(lstm: gc.LSTM, x: Array, state: Any, interventions: list[dict[str, Any]]) -> dict[str, Array]:
    """The equations of core.cell over a sequence, each quantity changed as soon as it is computed."""
    W, x = lstm.parameters["kernel_l0"], x.copy()
    h, c = state
    previous: dict[str, Array] = {"h": h, "c": c}
    values: dict[str, list[Array]] = {symbol: [] for symbol in "xifogch"}

    def changed(symbol: str, t: int, value: Array) -> Array:
        value = value.copy()
        for one in interventions:
            if one["symbol"] != symbol or t not in one.get("steps", range(T)):
                continue
            units = one.get("units", slice(None))
            match one["operation"]:
                case "scale":
                    value[units] *= one["value"]
                case "set":
                    value[units] = one["value"]
                case "add":
                    value[units] += one["value"]
                case "clamp":
                    value[units] = np.clip(value[units], one["low"], one["high"])
                case "freeze" if symbol in previous:
                    value[units] = previous[symbol][units]
                case "patch":
                    value[units] = one["values"][t][units]
        previous[symbol] = value
        values[symbol].append(value)
        return value

    for t in range(T):
        read = h.copy()
        for one in interventions:
            if one["symbol"] == "W_h" and t in one.get("steps", range(T)):
                read[one.get("units", slice(None))] = 0
        z_i, z_f, z_o, z_g = np.split(W @ np.concatenate([read, changed("x", t, x[t]), [1]]), 4)
        i, f, o = (changed(s, t, sigmoid(z)) for s, z in (("i", z_i), ("f", z_f), ("o", z_o)))
        g = changed("g", t, np.tanh(z_g))
        c = changed("c", t, f * c + i * g)
        h = changed("h", t, o * np.tanh(c))
    return {symbol: np.array(rows) for symbol, rows in values.items()}


def test_interventions_in_javascript_equal_the_changed_equations(rng: np.random.Generator, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None and os.environ.get("GLASSCELL_REQUIRE_BROWSER"):
        pytest.fail("Node is not installed, and GLASSCELL_REQUIRE_BROWSER is set")
    if node is None:
        pytest.skip("Node is not installed: it runs the tests of the page's JavaScript")
    lstm = gc.LSTM(I, H, learn_initial_state=True, dtype=np.float64)
    lstm.parameters.vector[:] = rng.normal(0, 0.8, lstm.parameters.vector.shape)
    x = rng.normal(size=(T, I))
    trace = lstm.trace(x)
    state = trace.layer[0].h_prev[0], trace.layer[0].c_prev[0]
    for name, interventions in CASES.items():
        patch = rng.normal(size=(T, H))
        given = [{**one, "values": patch} if "values" in one else one for one in interventions]
        case = {
            "payload": payload_of(trace),
            "interventions": [{**one, "values": array(patch)} if "values" in one else one for one in interventions],
            "expected": {symbol: array(values) for symbol, values in by_hand(lstm, x, state, given).items()},
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(case), encoding="utf-8")
    environment = os.environ | {"GLASSCELL_CASES": str(tmp_path)}
    command = [node, "--test", "--test-reporter=tap", str(WEB_TEST)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    print(done.stdout if done.returncode else done.stdout[-300:])
    assert done.returncode == 0
    assert int(re.findall(r"^# pass (\d+)$", done.stdout, re.MULTILINE)[0]) == len(CASES)
