"""Laws of the other files with processes of MPI: they make the same updates, and an error on one ends all."""

import re
from pathlib import Path

import numpy as np
from mpi import finish, start
from parallel_cases import MAIN_CASES, train

from glasscell.training import CheckpointFolder, has_checkpoint

UPDATES = 20


def test_processes_make_the_updates_of_one_and_end_together(tmp_path):
    code, output = finish(start(2, "mpi_child.py", tmp_path, UPDATES))
    for name in MAIN_CASES:
        weights, history = train(name, None, UPDATES)
        files = [np.load(tmp_path / f"{name}_{rank}.npz") for rank in range(2)]
        np.testing.assert_array_equal(files[0]["weights"], files[1]["weights"])
        np.testing.assert_allclose(files[0]["weights"], weights, rtol=0, atol=1e-12)
        np.testing.assert_allclose(files[1]["loss"], history["loss"], rtol=1e-12)
        assert has_checkpoint(tmp_path / name)
    assert code == 1
    assert output.count("Traceback (most recent call last)") == 1
    assert output.rstrip().endswith("ZeroDivisionError: on purpose")
    with CheckpointFolder(tmp_path / "failed") as folder:
        assert folder.manifest["reason"] == "RankError: rank 1 failed: ZeroDivisionError: on purpose"
        assert folder.newest().updates == 0


def test_the_program_of_the_docs_runs(tmp_path):
    text = (Path(__file__).parents[3] / "docs" / "parallel.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    script = tmp_path / "train.py"
    script.write_text(program, encoding="utf-8")
    code, output = finish(start(2, script, cwd=tmp_path))
    assert code == 0, output
    assert output.count("History(40 updates") == 1
    assert has_checkpoint(tmp_path / "runs" / "sum")
