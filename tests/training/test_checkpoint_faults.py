"""Law: no kill and no error of the operating system loses what was written before, or leaves a mixture."""

import errno
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from case_loops import loop_over
from training_cases import ERROR, array_data, regressor

import glasscell as gc
from glasscell.data import TextData
from glasscell.training import CheckpointError, CheckpointFolder, CheckpointWarning, has_checkpoint
from glasscell.training.checkpoint_files import read_manifest, read_newest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CALLS = ("open", "fsync", "replace", "unlink", "mkdir", "ftruncate", "write", "fchmod")
ARGUMENTS = {"updates": 6, "seed": 5, "evaluate_every": 3, **ERROR}


def run(path, **options):
    """Train a model with checkpoints; return the bits of its weights."""
    model = regressor()
    gc.fit(model, array_data(), **ARGUMENTS | {"checkpoint": path, "checkpoint_every": 2} | options)
    return model.parameters.vector.tobytes()


def names(path):
    return sorted(file.name for file in (path / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"))


class Faults:
    """Makes one call of the operating system fail, or all from one on.

    Parameters
    ----------
    monkeypatch : MonkeyPatch
    number : int or None
        Number of the call, from 0.
    code : int
        Of the error.
    lasting : bool
        Whether all later calls fail, too.
    """

    def __init__(self, monkeypatch, number, code=errno.EIO, *, lasting=False):
        self.number, self.code, self.lasting, self.count = number, code, lasting, -1
        for name in CALLS:
            monkeypatch.setattr(os, name, self._failing(getattr(os, name)))
        fdopen = os.fdopen

        def open_with_faults(*arguments, **options):
            file = fdopen(*arguments, **options)
            faults = self

            class File:
                def write(self, content):
                    file.write(content[: len(content) // 2])
                    faults.next()
                    file.write(content[len(content) // 2 :])

                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    file.close()

                def __getattr__(self, name):
                    return getattr(file, name)

            return File()

        monkeypatch.setattr(os, "fdopen", open_with_faults)

    def _failing(self, function):
        def call(*arguments, **options):
            self.next()
            return function(*arguments, **options)

        return call

    def next(self):
        self.count += 1
        if self.number is not None and (self.count == self.number or (self.lasting and self.count > self.number)):
            raise OSError(self.code, os.strerror(self.code))


@pytest.fixture(scope="module")
def num_calls(whole, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        faults = Faults(patch, None)
        assert run(tmp_path_factory.mktemp("counted")) == whole
    return faults.count + 1


def outcome_of(path, started):
    """Return the number of updates, the bits of the weights or None, and the code of the error or None."""
    try:
        return 6, run(path, callbacks=[lambda _: started.append(1)]), None
    except CheckpointError as error:
        return error.history.updates, error.training.model.parameters.vector.tobytes(), error.errno
    except OSError as error:
        return len(started), None, error.errno


@pytest.mark.parametrize("lasting", [False, True], ids=["one call", "all calls from one on"])
def test_an_error_of_any_call_loses_nothing(tmp_path, num_calls, whole, lasting):
    seen = set()
    for number in range(lasting, num_calls, 10 if lasting else 3):
        path, started, code = tmp_path / str(number), [], (errno.EIO, errno.ENOSPC, errno.EROFS)[number % 3]
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            Faults(patch, number, code, lasting=lasting)
            outcome = outcome_of(path, started)
            seen.add(outcome[0])
        if started:  # in memory: with warnings, or with an error at the end
            assert outcome == (6, whole, None) or (outcome == (6, whole, code) and caught)
            assert read_newest(path) is not None
        else:
            assert outcome == (0, None, code)
        assert run(path, resume=has_checkpoint(path)) == whole
        assert names(path)[-2:] == ["000000006.safetensors", "manifest.json"]
        assert len([name for name in names(path) if re.fullmatch(r"\d{9}.safetensors", name)]) == len(names(path)) - 1
        shutil.rmtree(path)
    assert seen == {0, 6}


def test_each_attempt_warns_and_the_error_at_the_end_names_what_was_kept(tmp_path, whole, monkeypatch):
    def fill(state):
        if state.history.updates == 3:
            Faults(monkeypatch, 0, errno.ENOSPC, lasting=True)

    with (
        pytest.warns(CheckpointWarning, match="could not be written to .*: No space left") as caught,
        pytest.raises(CheckpointError, match=r"the 6 updates are complete .* newest checkpoint is that of update 2"),
    ):
        run(tmp_path, callbacks=[fill])
    assert [str(warning.message).split()[4] for warning in caught if "memory" in str(warning.message)] == ["4", "6"]
    monkeypatch.undo()
    assert read_newest(tmp_path).updates == 2
    assert run(tmp_path, resume=True) == whole


def test_a_removed_folder_is_made_again(tmp_path, whole):
    path = tmp_path / "run"

    def remove(state):
        if state.history.updates == 3:
            shutil.rmtree(path)

    assert run(path, callbacks=[remove]) == whole
    assert [entry["updates"] for entry in read_manifest(path)["checkpoints"]] == [4, 6]
    assert run(path, resume=True) == whole


def test_a_folder_that_another_run_has_made_meanwhile_is_not_used(tmp_path):
    path, other = tmp_path / "run", []

    def replace(state):
        if state.history.updates == 3:
            shutil.rmtree(path)
            other.append(CheckpointFolder(path))

    with pytest.warns(CheckpointWarning, match="it is used by process"), pytest.raises(CheckpointError):
        run(path, callbacks=[replace])
    other[0].close()
    assert not has_checkpoint(path)


def test_a_failed_training_can_be_stored_elsewhere(tmp_path, monkeypatch, whole):
    def fail(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    patch = pytest.MonkeyPatch()
    with (
        pytest.warns(CheckpointWarning, match="Read-only"),
        pytest.raises(CheckpointError) as caught,
    ):
        run(
            tmp_path / "1",
            callbacks=[lambda _: patch.setattr("glasscell.training.checkpoints._write", fail)],
        )
    patch.undo()
    with CheckpointFolder(tmp_path / "2") as folder:
        folder.save(caught.value.training, "finished")
    assert run(tmp_path / "3", resume=tmp_path / "2") == whole


@pytest.mark.skipif(not (BENCHMARKS.is_dir() and hasattr(os, "fork")), reason="benchmarks/ or fork is missing")
def test_killed_trainings_go_on_to_the_same_bits():
    """The short form of benchmarks/torture/kills.py."""
    arguments = ["--count", "1", "--kinds", "classification", "--engines", "numpy", "--stride", "61", "--no-strace"]
    command = [sys.executable, "-m", "torture.kills", *arguments]
    done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("| yes |") == 2


# What is not the run that was stopped


def test_another_text_of_the_same_characters_is_refused(tmp_path):
    text = "the cat sat on the mat. " * 40

    def fit(text, **options):
        data = TextData(text, steps=6, streams=4)
        size = len(data.vocabulary)
        layers = [gc.Embedding(size, 4), gc.LSTM(4, 5), gc.Linear(5, size)]
        return gc.fit(gc.Sequential(layers), data, updates=9, checkpoint=tmp_path, **options)

    fit(text, callbacks=[lambda state: state.history.updates == 3])
    with pytest.raises(ValueError, match=r'got data.ids "\w+", where it was "\w+"'):
        fit(text.replace("the cat sat", "the sat cat"), resume=True)
    assert fit(text, resume=True).updates == 9


def test_another_working_directory_during_the_run_changes_nothing(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    run("run", callbacks=[lambda state: os.chdir("other") if state.history.updates == 3 else None])
    assert not [*(tmp_path / "other").iterdir()]
    assert read_manifest(tmp_path / "run")["state"] == "finished"
    assert names(tmp_path / "run") == ["000000004.safetensors", "000000006.safetensors", "manifest.json"]


@loop_over("kind", ["folder", "FIFO", "link"])
@loop_over("name", ["manifest.json", "000000006.safetensors"])
def test_names_of_checkpoints_that_are_no_files_are_refused(tmp_path, name, kind):
    run(tmp_path)
    path = tmp_path / "checkpoints" / name
    aside = path.rename(tmp_path / name)
    make = {"folder": Path.mkdir, "FIFO": os.mkfifo, "link": lambda path: path.symlink_to(aside)}
    make[kind](path)
    with pytest.raises(FileExistsError, match=f"checkpoint must be a folder whose 'checkpoints' .* with '{name}'"):
        run(tmp_path, resume=True, updates=9)


def test_a_manifest_that_is_no_file_is_not_opened(tmp_path):
    run(tmp_path)
    file = tmp_path / "checkpoints" / "manifest.json"
    file.unlink()
    os.mkfifo(file)
    with pytest.warns(CheckpointWarning, match=r"manifest.json is no file.*; the checkpoint of update 6 is used"):
        assert read_newest(tmp_path).updates == 6
