"""Commands replace a file only with --overwrite and only by its kind; mistakes are reported before the work."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest

import glasscell as gc
from glasscell.cli import main
from glasscell.convert import files
from glasscell.trace.trace import HTML
from glasscell.verify.checks import Check


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """Models to read, and commands that are quick."""
    monkeypatch.chdir(tmp_path)
    gc.CopyLSTM(3, task=gc.tasks.Copy(4)).save("m.safetensors")
    monkeypatch.setattr("glasscell.verify.iter_checks", lambda *_: iter([Check("x", "y", 1, 0.0, 1.0)]))


@pytest.fixture
def no_work(monkeypatch):
    def began(*_, **__):
        raise AssertionError("the work began")

    monkeypatch.setattr("glasscell.verify.iter_checks", began)
    monkeypatch.setattr(files, "load", began)


WRITING = {  # a command, and the ending that its file has; the name follows
    "verify --html": (["verify", "--html"], ".html"),
    "inspect --html": (["inspect", "m.safetensors", "--input", "10", "--html"], ".html"),
    "inspect --png": (["inspect", "m.safetensors", "--input", "10", "--png"], ".png"),
    "inspect --png, svg": (["inspect", "m.safetensors", "--input", "10", "--png"], ".svg"),
    "inspect --png, pdf": (["inspect", "m.safetensors", "--input", "10", "--png"], ".pdf"),
    "convert": (["convert", "m.safetensors"], ".onnx"),
    "convert, ours": (["convert", "m.safetensors"], ".safetensors"),
}


@pytest.fixture(params=WRITING)
def command(request):
    arguments, ending = WRITING[request.param]
    pytest.importorskip({".onnx": "onnx", ".png": "matplotlib", ".svg": "matplotlib"}.get(ending, "numpy"))
    return arguments, ending


def refusal(arguments, capsys):
    capsys.readouterr()
    try:
        status = main(arguments)
    except SystemExit as stop:  # of the parser
        status = stop.code
    assert status == 2
    out, err = capsys.readouterr()
    assert not out
    [line] = err.splitlines()
    return line


def test_what_exists_is_kept_unless_told(command, capsys, request):
    arguments, ending = command
    file = Path(f"x{ending}")
    assert main([*arguments, str(file)]) == 0
    first = file.read_bytes()
    file.chmod(0o600)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("glasscell.verify.iter_checks", None)
        patched.setattr(files, "load", None)
        line = refusal([*arguments, str(file)], capsys)
    assert "exists already; --overwrite" in line
    assert str(file) in line
    assert main([*arguments, str(file), "--overwrite"]) == 0
    assert len(file.read_bytes()) == len(first)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_a_file_that_cannot_be_is_refused_before_the_work(overwrite, command, capsys):
    arguments, ending = command
    Path("target").write_bytes(b"precious")
    Path(f"link{ending}").symlink_to("target")
    os.mkfifo(f"fifo{ending}")
    Path(f"folder{ending}").mkdir()
    Path(f"other{ending}").write_bytes(b"\x00precious")
    before = sorted(Path().iterdir())
    cases = {
        "x.txt": "must end in",
        "m": "must end in",
        "": "must not be empty",
        "/dev/null": "must end in",
        f"nowhere/x{ending}": "there is no folder nowhere",
        f"m.safetensors/x{ending}": "there is no folder m.safetensors",
        f"link{ending}": "a symbolic link",
        f"fifo{ending}": "a device, FIFO or socket",
        f"folder{ending}": "is a folder",
        f"other{ending}": "something other than" if overwrite else "exists already",
    }
    for name, words in cases.items():
        line = refusal([*arguments, name, *overwrite], capsys)
        assert words in line, (name, line)
    assert sorted(Path().iterdir()) == before
    assert Path("target").read_bytes() == b"precious"
    assert Path(f"other{ending}").read_bytes() == b"\x00precious"


@pytest.mark.parametrize("arguments", [["verify", "--html"], ["inspect", "m.safetensors", "--input", "10", "--html"]])
def test_a_model_is_never_overwritten_by_a_report(arguments, capsys):
    before = Path("m.safetensors").read_bytes()
    for overwrite in ([], ["--overwrite"]):
        assert "must end in" in refusal([*arguments, "m.safetensors", *overwrite], capsys)
    assert Path("m.safetensors").read_bytes() == before


def test_a_full_disk_names_the_file_and_what_it_holds(command, capsys, monkeypatch):
    arguments, ending = command

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert main([*arguments, f"x{ending}"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line == f"glasscell: x{ending}: No space left on device; nothing was written"
    assert sorted(Path().iterdir()) == [Path("m.safetensors")]


def test_a_picture_does_not_depend_on_the_environment(capsys, monkeypatch):
    """The backend of a notebook that is not installed here, and LaTeX that is missing."""
    matplotlib = pytest.importorskip("matplotlib")
    monkeypatch.setenv("MPLBACKEND", "module://no.such.backend")
    monkeypatch.setenv("PATH", "")
    with matplotlib.rc_context({"text.usetex": True}):
        assert main(["inspect", "m.safetensors", "--input", "10", "--png", "x.png"]) == 0
        assert main(["inspect", "m.safetensors", "--input", "10", "--png", "y.svg"]) == 0
    assert os.environ["MPLBACKEND"] == "module://no.such.backend"
    assert Path("x.png").read_bytes().startswith(b"\x89PNG")
    first = Path("y.svg").read_bytes()
    assert main(["inspect", "m.safetensors", "--input", "10", "--png", "y.svg", "--overwrite"]) == 0
    assert Path("y.svg").read_bytes() == first


def test_the_page_of_inspect_is_that_of_the_trace():
    assert main(["inspect", "m.safetensors", "--input", "10", "--html", "x.html"]) == 0
    gc.CopyLSTM.load("m.safetensors").trace(np.array([1, 0])).report("y.html")
    assert Path("x.html").read_bytes() == Path("y.html").read_bytes()
    assert HTML == (".html", ".htm")


@pytest.mark.parametrize("command", [["verify", "--html", "x.html"], ["verify"]])
def test_an_interrupt_says_what_is_not_written(command, monkeypatch, capsys):
    def interrupt(*_, **__):
        yield from []
        raise KeyboardInterrupt

    monkeypatch.setattr("glasscell.verify.iter_checks", interrupt)
    assert main(command) == 130
    kept = f"; {command[2]} not written" if len(command) > 1 else ""
    assert capsys.readouterr().err == f"\nglasscell: interrupted{kept}\n"
    assert list(Path().glob("x.*")) == []
