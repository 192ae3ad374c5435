"""Law: the code in docs/online_learning.md runs and prints the text that follows it."""

import re
from pathlib import Path

import pytest

DOC = Path(__file__).parents[2] / "docs" / "online_learning.md"
BLOCK = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


@pytest.mark.skipif(not DOC.exists(), reason="docs are not part of an installed package")
def test_the_code_prints_the_text(capsys):
    names = {}
    text = DOC.read_text("utf-8")
    blocks = BLOCK.findall(text)
    assert len(blocks) == text.count("```python") == 3
    for code, expected in blocks:
        exec(compile(code, "docs/online_learning.md", "exec"), names)  # noqa: S102 - our own text
        assert capsys.readouterr().out == expected
