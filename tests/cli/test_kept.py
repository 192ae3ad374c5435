"""Property: a trained model is kept, whatever else fails; and what is not kept is said."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from copy_runs import TINY, WITH_NUMPY_ALONE, environment_of, raising

from glasscell import CopyLSTM
from glasscell.cli import copy, main
from glasscell.tasks.copy import Copy
from glasscell.training.history import History

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


def once(patch):
    """Return a method that raises on its first call; tqdm calls it again in its destructor."""

    def close(_):
        patch.setattr("tqdm.tqdm.close", lambda _: None)
        raise RuntimeError("it does not work")

    return close


class Broken:
    """A terminal of which a method raises; what it shows is dropped."""

    encoding = "utf-8"

    def __init__(self, method, error):
        self.method, self.error = method, error

    def write(self, text):
        if self.method == "write":
            raise self.error
        return len(text)

    def flush(self):
        if self.method == "flush":
            raise self.error

    def isatty(self):
        if self.method == "isatty":
            raise self.error
        return True


OPTIONAL = {
    "tqdm, imported": lambda patch: patch.setitem(sys.modules, "tqdm", None),
    "tqdm, made": lambda patch: patch.setattr("tqdm.tqdm", raising),
    "tqdm, updated": lambda patch: patch.setattr("tqdm.tqdm.update", raising),
    "tqdm, closed": lambda patch: patch.setattr("tqdm.tqdm.close", once(patch)),
    "lines of progress": lambda patch: patch.setattr("glasscell.training.progress._format", raising),
    "history": lambda patch: patch.setattr(History, "save", raising),
    "held-out integers": lambda patch: patch.setattr(Copy, "held_out_integers", raising),
    "scores": lambda patch: patch.setattr(Copy, "memoryless_baseline_loss", raising),
    "table": lambda patch: patch.setattr(copy, "print_samples", raising),
    "marks": lambda patch: patch.setattr(copy, "check_mark", raising),
    "figure": lambda patch: patch.setattr("glasscell.trace.figures.plot_gates", raising),
    "Matplotlib, imported": lambda patch: patch.setitem(sys.modules, "matplotlib.figure", None),
    "Matplotlib, damaged": lambda patch: patch.setattr("matplotlib.rc_context", raising),
    "savefig": lambda patch: patch.setattr("matplotlib.figure.Figure.savefig", raising),
    "file of the picture": lambda patch: patch.setattr(copy, "write_atomically", raising),
    "standard output None": lambda patch: patch.setattr(sys, "stdout", None),
    "standard error None": lambda patch: patch.setattr(sys, "stderr", None),
} | {
    f"{stream}.{method} {type(error).__name__}": lambda patch, s=stream, m=method, e=error: patch.setattr(
        sys, s, Broken(m, e)
    )
    for stream in ("stdout", "stderr")
    for method in ("write", "flush", "isatty")
    for error in (OSError(5, "Input/output error"), RuntimeError("it does not work"), ValueError("closed file"))
}

DRAWING = {"figure", "Matplotlib, imported", "Matplotlib, damaged", "savefig", "file of the picture"}

FAILING = DRAWING | {"history", "held-out integers", "scores", "table", "marks"}


@pytest.mark.parametrize("part", OPTIONAL)
def test_every_optional_part_may_raise(part, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    with monkeypatch.context() as patch:
        if part.startswith("tqdm"):
            patch.setattr(sys, "stderr", Broken("nothing", None))
        if part not in DRAWING:
            patch.setattr(copy, "draw", lambda *_: False)
        OPTIONAL[part](patch)
        status = main(TINY)
    model = CopyLSTM.load("runs/copy")
    assert (model.parameters.vector != CopyLSTM(3, task=model.task).parameters.vector).any()
    if part in FAILING:
        assert status == 1
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("glasscell: ")
        assert line.endswith("; the model is kept in runs/copy")
    elif part.startswith(("stdout.write", "stdout.flush")):
        assert status == 1
        assert "glasscell: standard output: " in capsys.readouterr().err
    else:
        assert status == 0


def test_the_backend_of_a_notebook_has_no_part_in_it():
    """As in ``!glasscell copy``: the kernel's backend is inherited, and not installed here."""
    pytest.importorskip("matplotlib")
    done = process(*TINY, MPLBACKEND="module://no.such.backend")
    assert (done.returncode, done.stderr.count(b"\n")) == (0, len(re.findall(b"update ", done.stderr)))
    assert Path("runs/copy/gates.png").read_bytes().startswith(b"\x89PNG")


def process(*arguments, **environment):
    command = [sys.executable, "-W", "error", "-m", "glasscell", *arguments]
    return subprocess.run(command, capture_output=True, check=False, env=environment_of(**environment))


SHELL = {  # what a shell does with the output, and the status
    "2>&1 | head -1": 0,
    ">&-": 0,
    "2>&-": 0,
    "<&- >&- 2>&-": 0,
    "> /dev/full": 1,
}


@pytest.mark.usefixtures("no_picture")
@pytest.mark.parametrize("redirection", SHELL)
def test_output_that_nobody_reads_costs_nothing(redirection):
    command = f"{shlex.join([sys.executable, *WITH_NUMPY_ALONE, *TINY])} {redirection}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["/bin/bash", "-c", command], capture_output=True, check=False, env=environment_of())
    assert done.returncode == SHELL[redirection]
    assert b"Traceback" not in done.stdout + done.stderr
    assert b"Exception" not in done.stdout + done.stderr
    if redirection == "> /dev/full":
        assert b"glasscell: standard output: No space left on device" in done.stderr
    CopyLSTM.load("runs/copy")
    assert sorted(path.name for path in Path("runs/copy").iterdir()) == [
        "history.csv",
        "manifest.json",
        "model.safetensors",
    ]
