"""Laws: a run that goes on states the checkpoint from which it does, before the work and after an interrupt."""

import shutil
import signal
from pathlib import Path

import pytest
from training_commands import COMMANDS, calling, files_of, resume, without_pictures, write_data

from glasscell.atomic_files import OutputFile
from glasscell.cli import main
from glasscell.cli.run_manifest import Manifest


@pytest.fixture(autouse=True)
def _in_a_folder_with_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    without_pictures(monkeypatch)
    write_data()


def interrupt(command, update, *options):
    """Run a command that is interrupted after an update, counted over all of its trainings."""
    with pytest.MonkeyPatch.context() as patch:
        calling(command, lambda n: n == update and signal.raise_signal(signal.SIGINT), patch)
        assert main([*COMMANDS[command], *options]) == 130


def damage(*files):
    for file in files:
        content = bytearray(file.read_bytes())
        content[-5] ^= 1
        file.write_bytes(content)


def checkpoints(folder="run"):
    return sorted(Path(folder, "checkpoints").glob("*.safetensors"))


def last_line(capsys):
    return capsys.readouterr().err.splitlines()[-1]


def test_the_checkpoint_that_is_used_is_named(capsys):
    assert main(COMMANDS["copy"]) == 0
    whole = files_of()
    shutil.rmtree("run")
    interrupt("copy", 37, "--checkpoint-every", "10")
    damage(checkpoints()[-1])
    capsys.readouterr()
    assert resume("copy") == 0
    out, err = capsys.readouterr()
    assert "Continuing run after update 30: the newest checkpoint, of update 37, is damaged.\n" in out
    (line,) = [line for line in err.splitlines() if line.startswith("glasscell: ")]
    assert line.startswith("glasscell: run/checkpoints/000000037.safetensors")
    assert line.endswith("; the checkpoint of update 30 is used")
    assert files_of() == whole


def refused(command, capsys):
    """Return the line of a run that cannot go on, and is unchanged."""
    before = {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}
    capsys.readouterr()
    assert resume(command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")} == before
    return line


def test_damaged_checkpoints_of_the_only_training_are_refused_before_the_work(capsys):
    interrupt("copy", 20)
    damage(*checkpoints())
    line = refused("copy", capsys)
    assert line.startswith("glasscell: --resume must be a folder with a complete checkpoint, got damaged ones: run/")
    assert line.endswith("; begin the run again, with --overwrite")
    assert main([*COMMANDS["copy"], "--overwrite"]) == 0


@pytest.mark.parametrize(("command", "update"), [("classify", 15 + 7), ("forecast", 12 + 5)])
@pytest.mark.parametrize(("number", "removed"), [(1, "run/checkpoints"), (2, "run/training-2")])
def test_only_the_training_whose_checkpoints_are_damaged_begins_again(number, removed, command, update, capsys):
    assert main(COMMANDS[command]) == 0
    whole = files_of()
    shutil.rmtree("run")
    interrupt(command, update)
    damage(*checkpoints("run" if number == 1 else removed))
    assert refused(command, capsys).endswith(f"; remove {removed}, and only this training begins again")
    shutil.rmtree(removed)
    assert resume(command) == 0
    out = capsys.readouterr().out
    assert ("Continuing run after" in out, "Continuing run/training-2 after" in out) == (number == 2, number == 1)
    assert files_of() == whole


@pytest.mark.parametrize(
    ("command", "written", "update", "place"),
    [
        ("copy", 1, 37, "the beginning"),
        ("copy", 3, 37, "update 20"),
        ("classify", 5, 15 + 7, "the beginning of training 2"),
        ("classify", 6, 15 + 7, "update 5 of training 2"),
    ],
)
def test_after_an_interrupt_the_checkpoint_of_a_resume_is_named(command, written, update, place, monkeypatch, capsys):
    """Where the checkpoint of the last update could not be written."""
    write, count = OutputFile.write, 0

    def write_or_fail(self, *content):
        nonlocal count
        if self.path.parent.name == "checkpoints" and self.path.suffix == ".safetensors":
            count += 1
            if count > written:
                raise OSError(28, "No space left on device", str(self.path))
        write(self, *content)

    with monkeypatch.context() as patch:
        patch.setattr(OutputFile, "write", write_or_fail)
        interrupt(command, update, "--checkpoint-every", "10" if command == "copy" else "5")
    line = last_line(capsys)
    assert " is kept in run; " in line
    assert f"; to go on from {place}: " in line
    assert line.endswith(f"glasscell {command} --resume run")
    assert resume(command) == 0
    said = capsys.readouterr().out
    assert Manifest.read(Path("run")).state == "finished"
    words = place.replace("the beginning", "its beginning").partition(" of training")[0]
    assert f"Continuing run{'/training-2' * ('training' in place)} {'after ' * ('update' in words)}" in said
    assert f"{words.removeprefix('from ')}.\n" in said
