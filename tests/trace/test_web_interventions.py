"""Law: the page's JavaScript under interventions equals glasscell.explain to 1e-10, with every gradient."""

from typing import Any

import numpy as np

import glasscell as gc
from glasscell.core.types import Array
from glasscell.explain import Intervention, intervene
from glasscell.trace.html_report.payload import array, payload_of

T, I, H = 6, 2, 4
SYMBOLS = ("x", *"ifogch", "d_i", "d_f", "d_o", "d_g", "d_c", "d_h", "d_z")

# By name: interventions in the form of web/report/interventions.js.
CASES: dict[str, list[dict[str, Any]]] = {
    **{
        f"scale {symbol}": [{"symbol": symbol, "operation": "scale", "value": 0.7}]
        for symbol in (*"xifogch", "z_i", "z_f", "z_o", "z_g")
    },
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
    "pre-activations": [
        {"symbol": "z_f", "operation": "freeze", "units": [0, 2], "steps": [0, 2, 3]},
        {"symbol": "z_i", "operation": "set", "value": 2.5, "units": [1], "steps": [1, 4]},
        {"symbol": "z_o", "operation": "clamp", "low": -0.3, "high": 0.4},
        {"symbol": "z_g", "operation": "add", "value": [0.3, -0.9], "units": [3, 1]},
        {"symbol": "f", "operation": "scale", "value": 0.8},
    ],
    "freeze pre-activations": [{"symbol": "z_g", "operation": "freeze"}, {"symbol": "g", "operation": "freeze"}],
    "patch a pre-activation": [{"symbol": "z_f", "operation": "patch", "values": "random", "units": [2]}],
    "a number for each unit": [
        {"symbol": "f", "operation": "scale", "value": [0.2, 0.9], "units": [3, 0]},
        {"symbol": "i", "operation": "set", "value": [0.1, 0.4, 0.6, 0.8], "steps": [2]},
        {"symbol": "h", "operation": "clamp", "low": [-0.1, -0.2], "high": [0.1, 0.3], "units": [1, 2]},
        {"symbol": "c", "operation": "clamp", "low": None, "high": [0.2, 0.5, 0.1, 0.9]},
        {"symbol": "x", "operation": "add", "value": [0.5, -1.0], "units": [0, 1], "steps": [0, 5]},
    ],
    "several": [
        {"symbol": "f", "operation": "freeze", "steps": [2]},
        {"symbol": "f", "operation": "scale", "value": 0.8},
        {"symbol": "o", "operation": "clamp", "low": 0.4, "high": 0.6},
        {"symbol": "c", "operation": "set", "value": 0.0, "units": [1]},
    ],
}
INPUT_CASES = ("patch", "patch a pre-activation", "freeze an input", "a number for each unit")


def in_python(one: dict[str, Any], patch: Array) -> Intervention:
    """The same intervention for a model in Python."""
    arguments: dict[str, Any] = {name: one[name] for name in ("units", "steps") if name in one}
    match one["operation"]:
        case "clamp":
            arguments["clamp"] = (one["low"], one["high"])
        case "patch":
            arguments["patch"] = patch
        case "cut" | "freeze":
            arguments[one["operation"]] = True
        case operation:
            arguments[operation] = one["value"]
    return Intervention(one["symbol"], **arguments, layer=None)


def test_interventions_in_javascript_equal_those_in_python(run_web_tests: Any, rng: np.random.Generator) -> None:
    written: dict[str, Any] = {}
    for layers, options in ((1, {}), (2, {"bidirectional": True})):
        lstm = gc.LSTM(I, H, layers, learn_initial_state=True, dtype=np.float64, **options)
        lstm.parameters.vector[:] = rng.normal(0, 0.8, lstm.parameters.vector.shape)
        x, d_outputs = rng.normal(size=(T, I)), rng.normal(size=(T, lstm.output_size))
        payload = payload_of(lstm.trace(x, d_outputs=d_outputs))
        for name, interventions in CASES.items():
            if layers == 2 and name in INPUT_CASES:
                continue  # the arrays and inputs of one layer do not fit another
            patch = rng.normal(size=(T, H))
            with intervene(lstm, *(in_python(one, patch) for one in interventions)):
                trace = lstm.trace(x, d_outputs=d_outputs)
            written[f"{name} {layers}"] = {
                "payload": payload,
                "interventions": [{**one, "values": array(patch)} if "values" in one else one for one in interventions],
                "expected": {
                    layer.name: {symbol: array(layer.value(symbol)) for symbol in SYMBOLS} for layer in trace.layer
                },
                "d_x": array(trace.d_x),
            }
    assert run_web_tests("interventions", written) == len(written)
