"""Short form of ``benchmarks/killed_ranks.py``: a killed rank ends all, with a message, and the run goes on."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mpi import SECONDS, finish, launcher, start

import glasscell as gc
from glasscell.cli.run_files import is_locked

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"

if not BENCHMARKS.is_dir():
    pytest.skip("benchmarks are not part of an installed package", allow_module_level=True)
if not Path("/proc/self/environ").exists():
    pytest.skip("the ranks are found in /proc", allow_module_level=True)

sys.path.append(str(BENCHMARKS))

from killed_ranks import MARK, Bench, is_running, ranks_of  # noqa: E402 - of benchmarks


def test_a_run_whose_ranks_are_killed_goes_on_with_the_same_bits(tmp_path):
    launcher()
    bench = Bench(tmp_path, ranks=2, lines=40)
    bench.train_uninterrupted()
    kills, faults = bench.trial(random.Random(1), num_kills=2)  # noqa: S311
    assert len(kills) == 2
    assert faults == []


def test_ranks_end_and_can_go_on_after_the_launcher_is_killed(tmp_path, monkeypatch):
    monkeypatch.setenv(MARK, str(tmp_path))
    words = ["copy", "--width", "4", "--updates", "100000", "--checkpoint-every", "5", "--out", "run"]
    process = start(2, "command.py", *words, cwd=tmp_path)
    checkpoints = tmp_path / "run" / "checkpoints"
    try:
        wait_until(lambda: len(list(checkpoints.glob("*.safetensors"))) > 1 or process.poll() is not None)
        ranks = [number for _, number in ranks_of(str(tmp_path))]
        assert len(ranks) == 2
        process.kill()
        wait_until(lambda: not any(map(is_running, ranks)))
        newest = max(checkpoints.glob("*.safetensors"))
        assert gc.checkpoint.kind(newest) == "Training"
        message = finish(start(2, "command.py", "copy", "--resume", "run", "--updates", "1", cwd=tmp_path))
        assert message == (2, "glasscell: --updates must be 100000, as in run, got 1\n")
        assert not is_locked(tmp_path / "run")
    finally:
        process.kill()
        process.communicate()


def wait_until(condition):
    """Wait for something that takes seconds; fail after minutes."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["copy", "--width", "99"], "glasscell: --width must be from 1 to 64, got 99"),
        (["inspect", "run"], "glasscell: glasscell inspect must be run by one process, got 2 of mpiexec: "),
    ],
)
def test_a_mistake_is_one_message(words, message, tmp_path):
    code, output = finish(start(2, "command.py", *words, cwd=tmp_path))
    assert code == 2
    assert output.count("glasscell: ") == 1 + ("glasscell: " in message[11:])
    assert output.startswith(message)
    assert list(tmp_path.iterdir()) == []


def test_mpi4py_is_named_if_it_is_missing(tmp_path):
    program = (
        "import sys; sys.modules['mpi4py'] = None; sys.argv[1:] = ['copy']; from glasscell.cli import main; main()"
    )
    outputs = []
    for rank in range(2):
        environment = os.environ | {"PMI_SIZE": "2", "PMI_RANK": str(rank)}
        environment.pop("PMI_FD", None)
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        outputs.append(done.stderr)
    started = "glasscell: mpiexec has started 2 processes, which need mpi4py"
    assert outputs == [f"{started}: pip install 'glasscell[mpi]', or start one process\n", ""]
