"""Law: the code in docs/seeing.md runs as it stands, and writes what it says."""

import re
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
DOCUMENT = Path(__file__).parents[2] / "docs" / "seeing.md"
FIRST_BYTES = {
    "everything.png": b"\x89PNG",
    "six.pdf": b"%PDF",
    "text.svg": b"<?xml",
    "strip.png": b"\x89PNG",
    "film.gif": b"GIF8",
    "film.html": b"<!doctype html>",
}


def test_the_examples_run(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    monkeypatch.chdir(tmp_path)
    exec("\n".join(blocks), {})  # noqa: S102 - of this repository
    assert {path.name for path in tmp_path.iterdir()} == set(FIRST_BYTES)
    for name, first in FIRST_BYTES.items():
        assert (tmp_path / name).read_bytes().startswith(first)
