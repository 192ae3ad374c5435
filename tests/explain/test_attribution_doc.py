"""Laws: the code in docs/attribution.md runs, and has the results that the page states."""

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")
PAGE = Path(__file__).parents[2] / "docs" / "attribution.md"
TEXT = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""


def test_the_blocks_of_attribution_run(tmp_path, monkeypatch, capsys):
    if not TEXT:
        pytest.skip("docs are not part of an installed package")
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(block, "docs/attribution.md", "exec"), names)  # noqa: S102 - of this repository
    assert (tmp_path / "output.png").read_bytes().startswith(b"\x89PNG")

    def without_numbers(line):
        return re.sub(r"-?\d+(\.\d+)?(e-\d+)?", "number", line)

    printed = capsys.readouterr().out.splitlines()
    documented = [line.strip() for line in TEXT.splitlines() if line.startswith("    Attribution")]
    assert without_numbers(next(line for line in printed if line.startswith("Attr"))) == without_numbers(documented[0])
    result, attribution, score = (names[name] for name in ("result", "attribution", "score"))
    assert result.completeness_error < 1e-3
    assert attribution.completeness_error.max() < 1e-3
    assert np.abs(result.by_step).argmax() == 2  # the third answer depends on the third bit
    assert score.by_step.shape == (22,)
    flow, sources, matrix = (names[name] for name in ("flow", "sources", "matrix"))
    assert flow.labels == ("0", "1", "2", "3", "more than 3")
    assert flow.completeness_error < 1e-12
    np.testing.assert_allclose(flow.shares.sum(axis=0), 1)
    np.testing.assert_allclose(sources.shares.sum(axis=0), 1)
    assert matrix.norms.shape == (9, 9)
