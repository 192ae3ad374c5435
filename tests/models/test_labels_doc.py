"""Law: every block of docs/labels.md runs as it is printed, in order, and what it trains learns."""

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "labels.md").read_text(encoding="utf-8")


def test_the_blocks_of_labels_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 7
    for block in blocks:
        exec(compile(block, "docs/labels.md", "exec"), names)  # noqa: S102 - it is the test
        if "SequenceRegressor" in block:
            error = names["history"]["validation_mean_absolute_error"][-1]  # type: ignore[index]
            assert error < 4
    assert names["predicted"].count("rising") in range(5, 26)  # type: ignore[attr-defined]
    assert (names["probabilities"].shape, names["logits"].shape) == ((30, 2), (2,))  # type: ignore[attr-defined]
