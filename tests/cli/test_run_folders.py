"""Property: the folder of a run is replaced as one or not at all, and nothing in it is lost."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from copy_runs import ENDLESS, TINY, environment_of, raising

from glasscell import CopyLSTM
from glasscell.atomic_files import write_atomically
from glasscell.cli import copy, main
from glasscell.cli.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


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


@pytest.mark.usefixtures("no_picture")
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


@pytest.mark.usefixtures("no_picture")
def test_a_full_disk_is_known_before_the_training_and_names_the_folder(monkeypatch, capsys):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(copy, "fit", raising)
    assert main([*TINY, "--out", "mine"]) == 2
    assert capsys.readouterr().err == "glasscell: mine: No space left on device; nothing is kept\n"
    assert list(Path().iterdir()) == []


@pytest.mark.usefixtures("no_picture")
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
