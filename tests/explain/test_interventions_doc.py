"""Laws: the code in docs/interventions.md runs, and has the results that the page states."""

import re
from pathlib import Path

import numpy as np
import pytest

from glasscell.explain.intervention import GRU_SYMBOLS, LSTM_SYMBOLS, OPERATIONS, RNN_SYMBOLS

PAGE = Path(__file__).parents[2] / "docs" / "interventions.md"
TEXT = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
pytestmark = pytest.mark.skipif(not TEXT, reason="docs are not part of an installed package")


def test_the_blocks_of_interventions_run(capsys):
    names = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(block, "docs/interventions.md", "exec"), names)  # noqa: S102 - of this repository
    printed = capsys.readouterr().out
    assert "[1 1 0 1 0]" in printed
    assert "('f scaled by 0.9 in units [3, 7] at steps from 4 on',)" in printed
    assert "Ablation: bit_accuracy" in printed
    np.testing.assert_array_equal(names["same"], names["logits"])
    assert names["trace"].layer[0].f.max() <= 0.5
    assert names["effects"].shape == (4, 16)
    assert names["curve"].values[0] == names["curve"].baseline
    assert names["curve"].values[-1] < names["curve"].baseline
    assert np.ptp(names["answers"]) > 1


def test_the_tables_name_all_symbols_and_operations():
    rows = dict(re.findall(r"^\| `(LSTM|RNN|GRU)` \| (.*) \|$", TEXT, re.MULTILINE))
    for kind, symbols in {"LSTM": LSTM_SYMBOLS, "RNN": RNN_SYMBOLS, "GRU": GRU_SYMBOLS}.items():
        assert tuple(re.findall(r"`(\w+)`", rows[kind])) == symbols
    assert tuple(re.findall(r"^\| `(\w+)=", TEXT, re.MULTILINE)) == OPERATIONS
