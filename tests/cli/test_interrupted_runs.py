"""Property: an interrupted training keeps its model and replaces nothing; status and message are those of a shell."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from copy_runs import ENDLESS, TINY, WITH_NUMPY_ALONE, environment_of

from glasscell import CopyLSTM
from glasscell.cli import copy, main
from glasscell.cli.interrupts import deferred

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


# Of a second signal, once Python has ended its handlers; a shell reports 130, too.
ENDED_BY_SIGINT = (-signal.SIGINT,)


@pytest.fixture(autouse=True)
def _signals_are_delivered():
    """Set Python's own handlers, which child processes have too: a shell starts jobs in the background without."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    for number in numbers:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def interrupted(arguments, *, times=1, wait_for="update ", program=("-m", "glasscell"), number=signal.SIGINT):
    """Return the status and standard error of a command that is sent a signal after its first line."""
    command = [sys.executable, "-u", *program, *arguments]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment_of(), **pipes) as run:
        said = run.stderr.readline()
        assert wait_for in said
        for _ in range(times):
            run.send_signal(number)
            time.sleep(0.02)
        try:
            said += run.communicate(timeout=60)[1]
        finally:
            run.kill()
        return run.returncode, said


@pytest.mark.parametrize(
    ("number", "times"),  # `timeout`, shells and terminals may send these two twice
    [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGTERM, 2), (signal.SIGHUP, 2)],
)
def test_an_interrupt_keeps_what_was_learned(number, times):
    program = ("-m", "glasscell") if number == signal.SIGINT else WITH_NUMPY_ALONE
    status, said = interrupted(ENDLESS, number=number, times=times, program=program)
    assert status == 128 + number
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    kept = r"the model of (\d+) updates is kept in runs/copy; to go on: .*glasscell copy --resume runs/copy"
    found = re.fullmatch(f"glasscell: interrupted; {kept}", last)
    assert found, said
    model, lines = CopyLSTM.load("runs/copy"), Path("runs/copy/history.csv").read_text().splitlines()
    assert len(lines) == int(found[1]) + 1
    assert (model.parameters.vector != CopyLSTM(3, task=model.task).parameters.vector).any()


def test_an_interrupted_run_replaces_nothing(monkeypatch, capsys):
    """The earlier run may be the better one."""
    monkeypatch.setattr(copy, "is_installed", lambda _: False)
    main(TINY)
    before = Path("runs/copy/model.safetensors").read_bytes()
    fit = copy.fit

    def interrupt(*arguments, callbacks, **options):
        def after_seven(moment):
            if moment.history.updates == 7:
                os.kill(os.getpid(), signal.SIGINT)

        return fit(*arguments, callbacks=[after_seven, *callbacks], **options)

    monkeypatch.setattr(copy, "fit", interrupt)
    capsys.readouterr()
    assert main([*TINY, "--overwrite"]) == 130
    assert "the model of 7 updates is kept in runs/copy-2" in capsys.readouterr().err
    assert Path("runs/copy/model.safetensors").read_bytes() == before
    CopyLSTM.load("runs/copy-2")


@pytest.mark.parametrize("times", [2, 5])
def test_twice_ends_at_once_and_says_what_was_kept(times):
    status, said = interrupted(ENDLESS, times=times, program=WITH_NUMPY_ALONE)
    assert status in (130, *ENDED_BY_SIGINT)
    assert "Traceback" not in said
    assert "glasscell: interrupted" in said
    if "kept in runs/copy" not in said.splitlines()[-1]:
        assert not Path("runs/copy/model.safetensors").exists()


SLOW_IMPORTS = """
import sys, time
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            print("importing", file=sys.stderr, flush=True)
            time.sleep(20)
sys.meta_path.insert(0, Slow())
from glasscell.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize(("module", "times"), [("glasscell.cli.command_line", 1), ("numpy", 3)])
def test_an_interrupt_of_imports(module, times):
    program = ("-c", SLOW_IMPORTS.format(name=module))
    status, said = interrupted(["copy"], times=times, wait_for="importing", program=program)
    assert said.split() == ["importing", "glasscell:", "interrupted"]
    assert status in (130, *ENDED_BY_SIGINT[: times - 1])


@pytest.mark.parametrize("error", [ImportError("numpy.core failed"), OSError("system call")])
def test_an_interrupt_that_comes_out_as_another_error(error, monkeypatch, capsys):
    def load(*_, **__):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            raise error from None

    monkeypatch.setattr("glasscell.convert.files.load", load)
    assert main(["verify", "m.pt"]) == 130
    assert capsys.readouterr().err == "\nglasscell: interrupted\n"


def test_the_handlers_of_the_program_are_restored(capsys):
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    assert main([]) == 0
    assert "usage: glasscell" in capsys.readouterr().out
    assert [signal.getsignal(number) for number in numbers] == before


def test_an_ignored_signal_stays_ignored(monkeypatch, capsys):
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr("glasscell.cli.command_line._run", lambda *_: os.kill(os.getpid(), signal.SIGHUP) or 0)
        assert main([]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_failed_training_says_that_nothing_is_kept(monkeypatch, capsys):
    def fails(*_, **__):
        raise FloatingPointError("loss nan")

    monkeypatch.setattr(copy, "fit", fails)
    assert main(TINY) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "glasscell: loss nan; nothing is kept"
    assert list(Path().iterdir()) == []


def interrupt_a_deferred_block(done):
    with deferred():
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            time.sleep(0)
        done.append("block")


def test_signals_are_deferred_also_while_there_are_other_threads():
    """A process has threads of BLAS or Numba, any of which may receive a signal."""
    end, done = threading.Event(), []
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupt_a_deferred_block(done)
    finally:
        end.set()
        thread.join()
    assert done == ["block"]
