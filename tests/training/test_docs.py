"""Law: every block of docs/training.md runs as it is printed, in order, and its task can be learned."""

import re
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


def test_the_blocks_of_training_run():
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 8
    for block in blocks:
        exec(compile(block, "docs/training.md", "exec"), names)  # noqa: S102 - it is the test
        if "class RunningSum" in block:
            losses = names["history"]["loss"]
            assert losses[-1] < 0.05 * losses[0]
    assert names["y_new"].shape == (5, 10, 1)
