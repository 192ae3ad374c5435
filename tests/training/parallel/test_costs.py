"""Laws: the tables of docs/parallel.md are those of the measured costs, and the model is the one that it describes."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

if not (ROOT / "benchmarks" / "parallel.py").is_file():
    pytest.skip("benchmarks are not part of an installed package", allow_module_level=True)

sys.path.append(str(ROOT / "benchmarks"))

import parallel  # noqa: E402 - of benchmarks

import glasscell as gc  # noqa: E402


def test_the_tables_are_those_of_the_measured_costs():
    text = parallel.DOCS.read_text("utf-8")
    assert parallel.with_tables(text, json.loads(parallel.COSTS.read_text())) == text
    assert parallel.BEGIN in text
    assert parallel.END in text


def test_the_model_has_the_bytes_and_messages_of_an_update():
    """Each of n ranks sends n - 1 segments of its gradient, and n - 1 times its sum: see `messages.py`."""
    network = parallel.Network(bandwidth=1e9, latency=1e-3)
    assert parallel.exchange_seconds(4, 1_000_000, network) == pytest.approx(6 * 1e-3 + 2 * 3 / 4 * 4e6 / 1e9)
    update = {str(parallel.B // n): 1.0 / n for n in (1, *parallel.MACHINES)}
    rows = parallel.predict(update, parallel.Network(bandwidth=1e15, latency=0.0))
    assert [row["speed_up"] for row in rows] == pytest.approx(list(parallel.MACHINES), rel=1e-6)
    assert [row["efficiency"] for row in rows] == pytest.approx([1.0] * len(rows))


def test_the_number_of_weights_is_that_of_the_model():
    model = gc.Sequential([gc.LSTM(parallel.I, parallel.H), gc.Linear(parallel.H, parallel.O)])
    assert model.parameters.vector.size == parallel.WEIGHTS == 330_760
