"""Law: the blocks of docs/sweeps.md run as they are printed, the first one as a program."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import glasscell as gc

TEXT = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text(encoding="utf-8")


def test_the_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    program, *blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 2
    Path("copy_sweep.py").write_text(program)
    command = [sys.executable, "copy_sweep.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    header = done.stdout.splitlines()[0].split()
    assert header == ["hidden_size", "learning_rate", "runs", "loss", "sequence_accuracy", "seconds"]
    assert "run 12 of 12" in done.stderr
    names: dict[str, object] = {"gc": gc}
    for block in blocks:
        exec(compile(block, "docs/sweeps.md", "exec"), names)  # noqa: S102 - it is the test
    assert names["result"].is_complete  # type: ignore[attr-defined]
    assert not names["result"].failures  # type: ignore[attr-defined]
    assert names["ensemble"].copy([1, 0, 1, 0]).tolist() == [1, 0, 1, 0]  # type: ignore[attr-defined]
    assert {"loss.png", "curves.png", "ensemble.safetensors"} <= {path.name for path in tmp_path.iterdir()}
    assert "| hidden_size | learning_rate | runs | loss | seconds |" in capsys.readouterr().out
