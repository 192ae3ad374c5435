"""Law: every block of docs/training.md and docs/failures.md runs as it is printed, in order, and learns its task."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def test_the_blocks_of_training_run():
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 8
    for block in blocks:
        exec(compile(block, "docs/training.md", "exec"), names)  # noqa: S102 - it is the test
        if "class RunningSum" in block:
            losses = names["history"]["loss"]
            assert losses[-1] < 0.05 * losses[0]
    assert names["y_new"].shape == (5, 10, 1)


def test_the_blocks_of_failures_run(tmp_path, monkeypatch, capsys):
    """The message that the page shows is the one that the first block prints."""
    if "torch" not in sys.modules:  # tensorboardX imports PyTorch if it can, which takes seconds
        monkeypatch.setitem(sys.modules, "torch", None)
    pytest.importorskip("tensorboardX.proto")
    monkeypatch.chdir(tmp_path)
    text, names = (ROOT / "docs" / "failures.md").read_text(encoding="utf-8"), {}
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        if "TensorBoard" in block:
            names |= {"x": names["x"][:17], "y": names["y"][:17]}  # without the number that is not finite
        exec(compile(block, "docs/failures.md", "exec"), names)  # noqa: S102 - it is the test
    shown = re.search(r"```text\n(.*?)```", text, re.DOTALL)[1]
    assert capsys.readouterr().out.split() == shown.split()
