"""Property: once trained, a model is kept, whatever else fails; and what is not kept is said."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import glasscell
from glasscell import CopyLSTM
from glasscell.atomic_files import write_atomically
from glasscell.cli import copy, main
from glasscell.cli.run_folder import RunFolder
from glasscell.tasks.copy import Copy
from glasscell.training.history import History

SOURCE = str(Path(glasscell.__file__).parents[1])
TINY = ["copy", "--width", "4", "--hidden-size", "3", "--steps", "30", "--batch-size", "4"]
ENDLESS = ["copy", "--width", "4", "--hidden-size", "3", "--steps", "10000000", "--batch-size", "4"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


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


@pytest.fixture
def _no_picture(monkeypatch):
    monkeypatch.setattr(copy, "is_installed", lambda _: False)  # Matplotlib takes a second


# The command where neither Matplotlib nor Numba is installed, each of which takes most of a second to import.
WITH_NUMPY_ALONE = (
    "-c",
    "import sys; sys.modules['matplotlib'] = sys.modules['numba'] = None; from glasscell.cli import main; "
    "sys.exit(main())",
)


def raising(*_, **__):
    raise RuntimeError("it does not work")


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


def environment_of(**environment):
    return os.environ | {"PYTHONPATH": SOURCE, "PYTHONIOENCODING": "utf-8", "OPENBLAS_NUM_THREADS": "1"} | environment


SHELL = {  # what a shell does with the output, and the status
    "2>&1 | head -1": 0,
    ">&-": 0,
    "2>&-": 0,
    "<&- >&- 2>&-": 0,
    "> /dev/full": 1,
}


@pytest.mark.usefixtures("_no_picture")
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
    assert sorted(path.name for path in Path("runs/copy").iterdir()) == ["history.csv", "model.safetensors"]


# Interrupted


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
    found = re.fullmatch(r"glasscell: interrupted; the model of (\d+) updates is kept in runs/copy", last)
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
    assert status in (130, -signal.SIGINT)  # the latter once Python has ended its handlers; a shell reports 130, too
    assert "Traceback" not in said
    assert "glasscell: interrupted" in said
    if "kept in runs/copy" not in said.splitlines()[-1]:
        assert not Path("runs/copy").exists()


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
    assert (status, said.split()) == (130, ["importing", "glasscell:", "interrupted"])


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


# The folder of a run


def everything(folder):
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in Path(folder).rglob("*")}


def test_a_killed_run_leaves_nothing_in_the_way(monkeypatch):
    """The next run goes to runs/copy, and the folder of the killed one is gone."""
    with subprocess.Popen(
        [sys.executable, "-m", "glasscell", *ENDLESS],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=environment_of(),
    ) as run:
        run.stderr.readline()
        run.kill()
    [left] = Path("runs").iterdir()
    assert left.name.startswith(".glasscell-")
    monkeypatch.setattr(copy, "is_installed", lambda _: False)
    assert main(TINY) == 0
    assert sorted(everything("runs")) == ["copy", "copy/history.csv", "copy/model.safetensors"]


@pytest.mark.usefixtures("_no_picture")
def test_an_empty_folder_is_free():
    """Such as killed runs of older versions left."""
    Path("runs/copy").mkdir(parents=True, mode=0o750)
    Path("runs/copy").chmod(0o750)
    assert main(TINY) == 0
    assert [path.name for path in Path("runs").iterdir()] == ["copy"]
    assert Path("runs/copy").stat().st_mode & 0o777 == 0o750


def test_the_stage_of_a_living_run_is_left_alone():
    with RunFolder(None, Path("runs/copy"), copy.FILES, overwrite=False) as first:
        (first.stage / "model.safetensors").write_bytes(b"first")
        with RunFolder(None, Path("runs/copy"), copy.FILES, overwrite=False) as second:
            (second.stage / "model.safetensors").write_bytes(b"second")
            assert second.publish() == Path("runs/copy")
        assert first.publish() == Path("runs/copy-2")
    assert Path("runs/copy/model.safetensors").read_bytes() == b"second"
    assert Path("runs/copy-2/model.safetensors").read_bytes() == b"first"


HEADS = {"model.safetensors": b"12345678{", "history.csv": b"update,", "gates.png": b"\x89PNG\r\n\x1a\n"}


def file_of(name, content):
    return HEADS[name] + content


def run_of(content, folder="mine", **options):
    with RunFolder(Path(folder), Path("runs/copy"), copy.FILES, **options) as run:
        for name in ("model.safetensors", "history.csv"):
            (run.stage / name).write_bytes(file_of(name, content))
        return run.publish()


def runs_in(files):
    """Return the contents of a run's files, without the bytes that identify their formats."""
    return {content.removeprefix(HEADS[name]) for name, content in files.items()}


@pytest.mark.parametrize("killed_at", range(1, 8))
def test_a_run_is_replaced_as_one(killed_at, monkeypatch):
    """Killed at any rename or removal: the old run or the new one is there, and the next run cleans up."""
    run_of(b"old", overwrite=False)
    Path("mine/gates.png").write_bytes(file_of("gates.png", b"old"))
    Path("mine/notes").mkdir()
    Path("mine/notes/a.txt").write_bytes(b"precious")
    Path("mine/b.txt").write_bytes(b"precious")
    program = f"""
import os, signal, sys
from pathlib import Path
from glasscell.cli.run_folder import RunFolder
calls = 0
def dying(call):
    def wrapped(*arguments, **options):
        global calls
        calls += 1
        if calls == {killed_at}:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return wrapped
from glasscell.cli.copy import FILES
with RunFolder(Path("mine"), Path("x"), FILES, overwrite=True) as run:
    (run.stage / "model.safetensors").write_bytes({file_of("model.safetensors", b"new")})
    (run.stage / "history.csv").write_bytes({file_of("history.csv", b"new")})
    Path.rename, Path.unlink, Path.rmdir = map(dying, (Path.rename, Path.unlink, Path.rmdir))
    run.publish()
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, env=environment_of())
    if Path("mine").exists():  # else it is found again by the next run
        contents = {name: content for name, content in everything("mine").items() if name in copy.FILES}
        assert contents.keys() >= {"model.safetensors", "history.csv"}
        assert len(runs_in(contents)) == 1
    with RunFolder(Path("mine"), Path("x"), copy.FILES, overwrite=True):
        pass
    after = everything("mine")
    assert after.pop("notes") is False
    assert after.pop("notes/a.txt") == after.pop("b.txt") == b"precious"
    assert len(runs_in(after)) == 1
    assert [path.name for path in Path().iterdir()] == ["mine"]
    assert done.returncode in (0, -signal.SIGKILL)
    if done.returncode == 0:
        assert runs_in(after) == {b"new"}


def test_where_a_folder_cannot_be_renamed_its_files_are_replaced(monkeypatch):
    Path("mine").mkdir()
    monkeypatch.chdir("mine")
    for content in (b"old", b"new"):
        assert run_of(content, ".", overwrite=True) == Path()
        assert (len(everything(".")), runs_in(everything("."))) == (2, {content})
        Path("gates.png").write_bytes(file_of("gates.png", b"of the old run"))
    run_of(b"third", ".", overwrite=True)
    assert (len(everything(".")), runs_in(everything("."))) == (2, {b"third"})


def test_an_error_while_the_old_run_is_removed_costs_nothing(monkeypatch):
    """The new run is complete: it keeps its name, and later runs in the same parent folder succeed."""
    run_of(b"old", overwrite=False)
    with monkeypatch.context() as patch:

        def fails(*_, **__):
            raise PermissionError(13, "Permission denied")

        patch.setattr(Path, "unlink", fails)
        patch.setattr(Path, "rmdir", fails)
        assert run_of(b"new", overwrite=True) == Path("mine")
    assert runs_in(everything("mine")) == {b"new"}
    assert run_of(b"x", "other", overwrite=False) == Path("other")
    assert sorted(path.name for path in Path().iterdir()) == ["mine", "other"]


def test_a_remainder_that_cannot_be_removed_does_not_block_later_runs():
    """As older versions left it: a folder named like a picture, in a run that was being replaced."""
    run_of(b"new", overwrite=False)
    remainder = Path(".mine.glasscell-0123456789abcdef.old")
    (remainder / "gates.png" / "precious").mkdir(parents=True)
    Path("mine/gates.png").write_bytes(file_of("gates.png", b"new"))
    assert run_of(b"x", "other", overwrite=False) == Path("other")
    assert (remainder / "gates.png" / "precious").is_dir()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("precious")])
def test_what_comes_in_during_the_work_is_not_replaced(make):
    run_of(b"old", overwrite=False)
    Path("precious").write_bytes(b"precious")
    with RunFolder(Path("mine"), Path("runs/copy"), copy.FILES, overwrite=True) as run:
        (run.stage / "model.safetensors").write_bytes(file_of("model.safetensors", b"new"))
        make(Path("mine/gates.png"))
        mode = Path("mine/gates.png").lstat().st_mode
        assert run.publish() == Path("mine-2")
    assert Path("mine/gates.png").lstat().st_mode == mode
    assert Path("mine/model.safetensors").read_bytes() == file_of("model.safetensors", b"old")
    assert Path("precious").read_bytes() == b"precious"


def test_a_link_is_refused(capsys):
    Path("real").mkdir()
    Path("link").symlink_to("real")
    assert main([*TINY, "--out", "link"]) == 2
    assert "link, which is a symbolic link" in capsys.readouterr().err
    assert list(Path("real").iterdir()) == []


@pytest.mark.usefixtures("_no_picture")
def test_a_full_disk_is_known_before_the_training_and_names_the_folder(monkeypatch, capsys):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(copy, "fit", raising)
    assert main([*TINY, "--out", "mine"]) == 2
    assert capsys.readouterr().err == "glasscell: mine: No space left on device; nothing is kept\n"
    assert list(Path().iterdir()) == []


@pytest.mark.usefixtures("_no_picture")
def test_a_folder_that_vanishes_during_the_training_costs_nothing(monkeypatch, capsys):
    fit = copy.fit

    def meanwhile(*arguments, **options):
        Path("mine").write_bytes(b"a file took the name")
        return fit(*arguments, **options)

    monkeypatch.setattr(copy, "fit", meanwhile)
    assert main([*TINY, "--out", "mine"]) == 0
    assert "Written to mine-2" in capsys.readouterr().out
    CopyLSTM.load("mine-2")
    assert Path("mine").read_bytes() == b"a file took the name"


def test_stages_are_recognised_by_their_whole_name():
    for name in (".glasscell-0123456789abcdef", "x.run", ".glasscell-0123456789abcdeX.run"):
        Path(name).mkdir()
        write_atomically(f"{name}/precious", b"x")
    run_of(b"x", overwrite=False)
    assert len([path for path in Path().iterdir() if path.name != "mine"]) == 3
