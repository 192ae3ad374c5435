"""Law: every block of docs/training.md runs as it is printed, in order."""

import re
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


def test_the_blocks_of_training_run():
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 7
    for block in blocks:
        exec(compile(block, "docs/training.md", "exec"), names)  # noqa: S102 - it is the test
    assert names["y_new"].shape == (5, 10, 1)
