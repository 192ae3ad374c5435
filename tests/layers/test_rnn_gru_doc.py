"""Law: the code in docs/rnn_gru.md runs and prints the text that follows it, and the places that it names exist."""

import re
from pathlib import Path

import glasscell as gc

DOC = Path(__file__).parents[2] / "docs" / "rnn_gru.md"
BLOCK = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


def test_the_code_prints_the_text(capsys):
    names, blocks = {}, BLOCK.findall(DOC.read_text("utf-8"))
    assert len(blocks) == 4
    for code, text in blocks:
        exec(compile(code, "docs/rnn_gru.md", "exec"), names)  # noqa: S102 - our own text
        assert capsys.readouterr().out == text


def test_the_places_in_the_code_exist():
    root = Path(gc.__file__).parent
    text = DOC.read_text("utf-8")
    markers = re.findall(r"`([a-z_/]+\.py)`, `(# equation: [a-z-]+)`", text)
    assert len(markers) == 6
    for file, marker in markers:
        assert marker in [line.strip() for line in (root / file).read_text("utf-8").splitlines()]
    for file in re.findall(r"`((?:core|layers)/[a-z_]+\.py)`", text):
        assert (root / file).is_file()
