"""Law: the code in docs/dynamics.md runs; where nothing is trained, it prints the text that follows it."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

DOC = Path(__file__).parents[2] / "docs" / "dynamics.md"
BLOCK = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


@pytest.mark.skipif(not DOC.exists(), reason="docs are not part of an installed package")
def test_the_code_prints_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers of trained models depend on rounding: they are printed, and must say the same as the page."""
    names: dict[str, Any] = {}
    blocks = BLOCK.findall(DOC.read_text("utf-8"))
    assert len(blocks) == 8
    results = []
    for code, text in blocks:
        exec(compile(code, "docs/dynamics.md", "exec"), names)  # noqa: S102 - our own text
        results.append(capsys.readouterr().out)
        if "model" not in names:
            assert results[-1] == text
    with capsys.disabled():
        print("", *results[-2:], sep="\n")
    lines = results[-2].splitlines()
    assert lines[0].startswith(
        "untrained: 1 fixed point, 1 stable; eigenvalue 0.87+0.00j of modulus 0.87; exponent -0.1"
    )
    assert sum(", 0 stable;" in line for line in lines[1:]) >= 2
    for line in results[-1].splitlines():
        _, half_life, own, cells = (float(number) for number in re.findall(r"[\d.]+|inf", line))
        assert half_life < cells
        assert own < cells
    bits = np.array([[k >> j & 1 for j in range(4)] for k in range(16)])
    assert all((model.copy(bits) == bits).all() for model in names["models"])
