"""Law: every block of docs/scikit_learn.md runs as it is printed, in order, and returns what the page says."""

import re
from pathlib import Path

import pytest

pytest.importorskip("sklearn")

PAGE = Path(__file__).parents[2] / "docs" / "scikit_learn.md"


def test_the_blocks_of_the_page_run(tmp_path, monkeypatch):
    if not PAGE.is_file():
        pytest.skip("docs are not part of an installed package")
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        exec(compile(block, "docs/scikit_learn.md", "exec"), names)  # noqa: S102 - it is the test
    X, y = names["X"], names["y"]
    assert names["regressor"].predict(X[:5]).shape == (5, 2)
    assert names["classifier"].predict_proba(X[:2]).shape == (2, 2)
    assert names["classifier"].history_.best_update is not None
    assert names["classifier"].model_.trace(X[0]).layer[0].f.shape == (20, 8)
    assert names["search"].best_params_["hidden_size"] in {4, 8}
    assert set(names["classifier"].predict(X)) <= set(y)
