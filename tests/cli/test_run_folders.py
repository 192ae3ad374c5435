"""Property: the folder of a run is replaced as one or not at all, and nothing in it is lost."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from copy_runs import ENDLESS, TINY, WITH_NUMPY_ALONE, environment_of, raising

from glasscell import CopyLSTM
from glasscell.cli import copy, main
from glasscell.cli.run_folder import RunFolder
from glasscell.cli.run_manifest import Manifest

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")
WRITTEN = ["history.csv", "manifest.json", "model.safetensors"]


def everything(folder):
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in Path(folder).rglob("*")}


def test_a_run_that_was_killed_before_its_first_checkpoint_leaves_nothing_in_the_way(monkeypatch):
    """The next run uses its folder; checkpoints of another one are kept."""
    with subprocess.Popen(
        [sys.executable, *WITH_NUMPY_ALONE, *ENDLESS, "--no-checkpoints"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=environment_of(),
    ) as run:
        run.stderr.readline()
        run.kill()
    assert Manifest.read(Path("runs/copy")).state == "running"
    Path("runs/copy/.glasscell-0123456789abcdef.tmp").touch()
    Path("runs/copy/.glasscell-0123456789abcdef.safetensors").touch()
    monkeypatch.setattr(copy, "is_installed", lambda _: False)
    assert main(TINY) == 0
    assert sorted(everything("runs")) == sorted(["copy", *(f"copy/{name}" for name in WRITTEN)])


@pytest.mark.usefixtures("no_picture")
def test_an_empty_folder_is_free():
    """Such as killed runs of older versions left."""
    Path("runs/copy").mkdir(parents=True, mode=0o750)
    Path("runs/copy").chmod(0o750)
    assert main(TINY) == 0
    assert [path.name for path in Path("runs").iterdir()] == ["copy"]
    assert Path("runs/copy").stat().st_mode & 0o777 == 0o750


def reserved(folder=None, *, overwrite=False):
    return RunFolder(folder, Path("runs/copy"), copy.FILES, Manifest("copy", []), overwrite=overwrite)


def test_the_folder_of_a_living_run_is_not_used():
    with reserved() as first:
        (first.folder / "model.safetensors").write_bytes(file_of("model.safetensors", b"first"))
        with reserved() as second:
            (second.folder / "model.safetensors").write_bytes(file_of("model.safetensors", b"second"))
            assert second.finish() == Path("runs/copy-2")
        for overwrite in (False, True):
            message = (
                rf"^runs/copy must be used by one run at a time, and one is in progress \(process {os.getpid()} on "
            )
            with pytest.raises(ValueError, match=message):
                reserved(Path("runs/copy"), overwrite=overwrite)
        assert first.finish() == Path("runs/copy")
    for folder, content in (("runs/copy", b"first"), ("runs/copy-2", b"second")):
        assert Path(folder, "model.safetensors").read_bytes().endswith(content)
        assert Manifest.read(Path(folder)).state == "finished"


HEADS = {"model.safetensors": b"12345678{", "history.csv": b"update,", "gates.png": b"\x89PNG\r\n\x1a\n"}


def file_of(name, content):
    return HEADS[name] + content


def write(run, content):
    for name in ("model.safetensors", "history.csv"):
        (run.folder / name).write_bytes(file_of(name, content))


def run_of(content, folder="mine", *, overwrite=False):
    with reserved(Path(folder), overwrite=overwrite) as run:
        write(run, content)
        return run.finish()


def runs_in(files):
    """Return the contents of a run's files, without the bytes that identify their formats."""
    return {content.removeprefix(HEADS[name]) for name, content in files.items() if name in HEADS}


@pytest.mark.parametrize("killed_at", range(1, 12))
def test_a_run_is_replaced_as_one(killed_at):
    """Killed at any rename or removal: the old run or the new one is there, and the next command completes it."""
    run_of(b"old")
    Path("mine/gates.png").write_bytes(file_of("gates.png", b"old"))
    Path("mine/notes").mkdir()
    Path("mine/notes/a.txt").write_bytes(b"precious")
    Path("mine/b.txt").write_bytes(b"precious")
    pid = os.fork()
    if not pid:
        _replace_and_die(killed_at)
    _, status = os.waitpid(pid, 0)
    if Path("mine").exists():  # otherwise the next run renames the old one
        contents = {name: content for name, content in everything("mine").items() if name in copy.FILES}
        assert contents.keys() >= {"model.safetensors", "history.csv"}
        assert len(runs_in(contents)) == 1
    if Path("mine-2").exists():
        assert main(["copy", "--resume", "mine-2"]) == 0
    with reserved(Path("mine"), overwrite=True):
        pass
    after = everything("mine")
    assert after.pop("notes") is False
    assert after.pop("notes/a.txt") == after.pop("b.txt") == b"precious"
    assert runs_in(after) == {b"new"}
    assert sorted(after) == WRITTEN
    assert [path.name for path in Path().iterdir()] == ["mine"]
    assert Manifest.read(Path("mine")).replaces in (None, str(Path("mine").resolve()))
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)


def _replace_and_die(killed_at):
    """Replace the run in a child process, which kills itself before a rename or removal."""
    calls = 0

    def dying(call):
        def wrapped(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return wrapped

    with reserved(Path("mine"), overwrite=True) as run:
        write(run, b"new")
        manifest = Manifest.end

        def end(*arguments, **options):  # the new run is complete
            manifest(*arguments, **options)
            run.manifest.write(run.folder)
            Path.rename, Path.unlink, Path.rmdir = map(dying, (Path.rename, Path.unlink, Path.rmdir))

        Manifest.end = end
        run.finish()
    os._exit(0)


def test_where_a_folder_cannot_be_renamed_its_files_are_replaced(monkeypatch):
    Path("mine").mkdir()
    monkeypatch.chdir("mine")
    for content in (b"old", b"new"):
        assert run_of(content, ".", overwrite=True) == Path()
        assert (sorted(everything(".")), runs_in(everything("."))) == (WRITTEN, {content})
        Path("gates.png").write_bytes(file_of("gates.png", b"of the old run"))
    run_of(b"third", ".", overwrite=True)
    assert (sorted(everything(".")), runs_in(everything("."))) == (WRITTEN, {b"third"})


def test_an_error_while_the_old_run_is_removed_costs_nothing(monkeypatch):
    """The new run is complete: it keeps its name, and later runs in the same parent folder succeed."""
    run_of(b"old")
    with monkeypatch.context() as patch:

        def failing(call):
            def wrapped(path, *arguments, **options):
                if ".old" in str(path):
                    raise PermissionError(13, "Permission denied")
                return call(path, *arguments, **options)

            return wrapped

        patch.setattr(Path, "unlink", failing(Path.unlink))
        patch.setattr(Path, "rmdir", failing(Path.rmdir))
        assert run_of(b"new", overwrite=True) == Path("mine")
    assert runs_in(everything("mine")) == {b"new"}
    assert run_of(b"x", "other") == Path("other")
    assert sorted(path.name for path in Path().iterdir()) == ["mine", "other"]


def test_a_remainder_that_cannot_be_removed_does_not_block_later_runs():
    """As older versions left it: a folder named like a picture, in a run that was being replaced."""
    run_of(b"new")
    remainder = Path(".mine.glasscell-0123456789abcdef.old")
    (remainder / "gates.png" / "precious").mkdir(parents=True)
    Path("mine/gates.png").write_bytes(file_of("gates.png", b"new"))
    assert run_of(b"x", "other") == Path("other")
    assert (remainder / "gates.png" / "precious").is_dir()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("precious")])
def test_what_comes_in_during_the_work_is_not_replaced(make):
    run_of(b"old")
    Path("precious").write_bytes(b"precious")
    with reserved(Path("mine"), overwrite=True) as run:
        write(run, b"new")
        make(Path("mine/gates.png"))
        mode = Path("mine/gates.png").lstat().st_mode
        with pytest.raises(ValueError, match=r"--out: gates\.png must be a regular file"):
            run.finish()
        assert run.display_path == Path("mine-2")
    assert Path("mine/gates.png").lstat().st_mode == mode
    assert Path("mine/model.safetensors").read_bytes() == file_of("model.safetensors", b"old")
    assert Path("mine-2/model.safetensors").read_bytes() == file_of("model.safetensors", b"new")
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
    assert capsys.readouterr().err == "glasscell: cannot write to the folder mine: No space left on device\n"
    assert list(Path().iterdir()) == []


@pytest.mark.usefixtures("no_picture")
def test_a_folder_that_vanishes_during_the_training_costs_nothing(monkeypatch, capsys):
    fit = copy.fit

    def meanwhile(*arguments, callbacks, **options):
        def remove(state):
            if state.history.updates == 5:
                shutil.rmtree("mine")
                Path("mine").write_bytes(b"a file took the name")

        return fit(*arguments, callbacks=[remove, *callbacks], **options)

    monkeypatch.setattr(copy, "fit", meanwhile)
    assert main([*TINY, "--out", "mine"]) == 0
    assert "Written to mine-2" in capsys.readouterr().out
    CopyLSTM.load("mine-2")
    assert Path("mine").read_bytes() == b"a file took the name"


def test_temporary_files_are_recognised_by_their_whole_name():
    Path("mine").mkdir()
    names = [".glasscell-0123456789abcdef", "x.tmp", ".glasscell-0123456789abcdeX.tmp", ".glasscell-0.safetensors"]
    for name in names:
        Path("mine", name).touch()
    run_of(b"x")
    assert sorted(path.name for path in Path("mine").iterdir()) == sorted([*names, *WRITTEN])
