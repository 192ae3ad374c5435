"""Law: every block of docs/text.md runs as it is printed, in order."""

import re
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs" / "text.md").read_text(encoding="utf-8")


def test_the_blocks_of_text_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        exec(compile(block, "docs/text.md", "exec"), names)  # noqa: S102 - it is the test
    assert names["history"]["validation_loss"][-1] < 0.1
    assert names["best"].startswith("og sat on the")
    assert len(names["few"]) == 20
    assert (tmp_path / "text.html").stat().st_size > 100_000
    assert "nats" in capsys.readouterr().out
