"""Law: every block of docs/series.md runs as it is printed, in order."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "series.md"


def test_the_blocks_of_series_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 9
    for block in blocks:
        exec(compile(block, "docs/series.md", "exec"), names)  # noqa: S102 - it is the test
    assert (tmp_path / "forecaster.safetensors").exists()
    assert names["series"].values.ravel().tolist() == [10, 12, 13, 14]
