"""Law: what the README shows runs as it is written, its Python blocks one after the other."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

import glasscell

README = Path(glasscell.__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL) if README.exists() else []


def test_the_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if not BLOCKS:
        pytest.skip("README.md is not part of an installed package")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in BLOCKS:
        if "import torch" in block and find_spec("torch") is None:
            continue
        # Training to the end is proven elsewhere; the copied bits are random at first.
        exec(compile(block.replace("updates=2000", "updates=20"), "README.md", "exec"), names)  # noqa: S102
    assert {"report.html", "trace.png", "model.safetensors", "model.pt"} <= {path.name for path in tmp_path.iterdir()}
    assert "d_z_g" in capsys.readouterr().out
