"""Law: the LSTM operator reproduces the golden cases of the ONNX project and of onnxruntime."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest

from glasscell.convert.onnx import run_lstm

FOLDER = Path(__file__).parents[3].parent / "shared" / "conformance"
COUNTS = {"onnx_backend_lstm": 6, "ort_lstm_golden": 32}


@functools.cache
def golden(set_name):
    """Return the cases of a set by name, with their tolerances and arrays. If the set is missing, none."""
    if not (FOLDER / f"{set_name}.npz").is_file():
        return {}
    description = json.loads((FOLDER / f"{set_name}.json").read_text(encoding="utf-8"))
    tolerance = {key: description["tolerance"][key] for key in ("rtol", "atol")}
    with np.load(FOLDER / f"{set_name}.npz") as arrays:
        return {
            case["name"]: case
            | {"tolerance": case.get("tolerance", tolerance)}
            | {"arrays": {name: arrays[f"{case['name']}/{name}"] for name in case["arrays"]}}
            for case in description["cases"]
        }


CASES = [(set_name, name) for set_name in COUNTS for name in golden(set_name)]
MISSING = pytest.param("", "", marks=pytest.mark.skip("the golden sets are missing"))
TOLERANCES = {  # of cases with rounded or stale literals, as their notes explain
    "ONNXRuntime_TestLSTMShorterSeqInMiddle": {"rtol": 0, "atol": 1e-4},
    "ONNXRuntime_TestLSTMZeroSeqInMiddle": {"rtol": 0, "atol": 1e-4},
}


@pytest.mark.parametrize(("set_name", "name"), CASES or [MISSING])
def test_golden_cases(set_name, name):
    case = golden(set_name)[name]
    inputs = {key: array for key, array in case["arrays"].items() if not key.startswith("Y")}
    outputs = run_lstm(case["attrs"], inputs)
    expected = {key: array for key, array in case["arrays"].items() if key.startswith("Y")}
    assert expected
    for key, array in expected.items():
        assert outputs[key].dtype == array.dtype
        np.testing.assert_allclose(outputs[key], array, **TOLERANCES.get(name, case["tolerance"]))


@pytest.mark.skipif(not CASES, reason="the golden sets are missing")
def test_golden_cases_are_complete():
    """No case depends on onnxruntime's zero state of sequences of length 0: their initial states are 0."""
    for set_name, count in COUNTS.items():
        assert len(golden(set_name)) == count
    for set_name, name in CASES:
        arrays = golden(set_name)[name]["arrays"]
        assert (arrays.get("sequence_lens", np.ones(1)) > 0).all() or "initial_h" not in arrays
