"""Law: the page's maps of what a model does equal glasscell.explain to 1e-10."""

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
from glasscell.explain.statistics import regularized_beta
from glasscell.trace.html_report.payload import array, payload_of
from glasscell.trace.trace import Trace

WEB_TESTS = sorted((Path(__file__).parent / "web" / "maps").glob("*.test.mjs"))


@pytest.fixture(scope="module")
def node() -> str:
    """Node, or a skipped test; with GLASSCELL_REQUIRE_BROWSER=1, or a failed one."""
    found = shutil.which("node")
    if found is None and os.environ.get("GLASSCELL_REQUIRE_BROWSER"):
        pytest.fail("Node is not installed, and GLASSCELL_REQUIRE_BROWSER is set")
    if found is None:
        pytest.skip("Node is not installed: it runs the tests of the page's JavaScript")
    return found


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


def cases(rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    small = randomized(gc.LSTM(2, 3, dtype=np.float64), rng)
    both = randomized(gc.LSTM(2, 3, 2, bidirectional=True, learn_initial_state=True, dtype=np.float64), rng)
    triples = np.column_stack([rng.random(200), rng.uniform(0.5, 80, 200), np.full(200, 0.5)])
    return {
        "copies recall": case_of_copies(rng),
        "copies two layers": case_of_copies(rng, 2, bits_per_step=2),
        "copies echo": case_of_copies(rng, mode="echo"),
        "steps": case_of_steps(small.trace(rng.normal(size=(7, 2))), small),
        "crossings": case_of_crossings(both.trace(rng.normal(size=(6, 2)), rng.normal(size=(6, 6))), both, 27),
        "beta": {
            "check": "beta",
            "arguments": triples.tolist(),
            "expected": array(regularized_beta(*triples.T)),
        },
    }


def test_the_maps_equal_those_of_python(node: str, rng: np.random.Generator, tmp_path: Path) -> None:
    written = cases(rng)
    assert all(case["payload"]["live"] for case in written.values() if "payload" in case)
    for name, case in written.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(case), encoding="utf-8")
    environment = os.environ | {"GLASSCELL_CASES": str(tmp_path)}
    command = [node, "--test", "--test-reporter=tap", *map(str, WEB_TESTS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    print(done.stdout if done.returncode else "".join(re.findall(r"^# (?!Subtest).*\n", done.stdout, re.MULTILINE)))
    assert done.returncode == 0
    assert int(re.findall(r"^# pass (\d+)$", done.stdout, re.MULTILINE)[0]) > len(written)
