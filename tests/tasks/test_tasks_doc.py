"""Law: every block of docs/tasks.md runs as it is printed, in order, and its numbers are those of the tasks."""

import re
from pathlib import Path

import numpy as np
import pytest

from glasscell import tasks

PAGE = Path(__file__).parents[2] / "docs" / "tasks.md"
TEXT = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""


def test_the_blocks_of_tasks_run(capsys):
    if not TEXT:
        pytest.skip("docs are not part of an installed package")
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    for name in set(tasks.__all__) - {"Batch", "Copy", "decode", "encode"}:  # docs/copy_task.md describes these
        assert f"`gc.tasks.{name}`" in TEXT
        assert any(f"gc.tasks.{name}(" in block or f"gc.tasks.{name}." in block for block in blocks)
    for block in blocks:
        exec(compile(block.replace("updates=400", "updates=20"), "docs/tasks.md", "exec"), names)  # noqa: S102
        if "Adding" in block:
            assert np.shape(names["outputs"]) == (2560, 1)
    printed = capsys.readouterr().out.splitlines()
    documented = re.search(r"# ([\d.]+) ([\d.]+) nats per symbol", TEXT)
    assert [f"{float(number):.3f}" for number in printed[-1].split()] == list(documented.groups())
    assert re.fullmatch(r"\['E[abcdXY]+B', 'E[abcdXY]+B'\] \['[XY]{2}', '[XY]{2}'\]", printed[-2])


def test_documented_losses_without_memory():
    losses = re.findall(r"log (\d) = (\d\.\d+)", TEXT)
    assert len(losses) == 3
    assert [f"{np.log(int(k)):.3f}" for k, _ in losses] == [number for _, number in losses]
    assert f"{(2 - 0.1 - 0.9 / 49) / 48:.3f}" == re.search(r"/ 48 = (\d\.\d+)", TEXT).group(1)
