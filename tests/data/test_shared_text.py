"""Laws: ranks have the text of one process; one per machine encodes it, into a file that is gone when they close it."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training" / "parallel"))

from fake_ranks import run_ranks

from glasscell.data import TextData
from glasscell.data.text import files, shared_ids

TEXT = "the cat sat on the mat, and the dog sat on the log.\n" * 120
OPTIONS = {"steps": 10, "streams": 4, "test": 0.1}


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path / "text.txt"


@pytest.fixture
def encodings(monkeypatch):
    """List the files that were encoded."""
    found, encode = [], files.TextFiles.encode

    def count(self, *arguments, **options):
        found.append(self.files)
        return encode(self, *arguments, **options)

    monkeypatch.setattr(files.TextFiles, "encode", count)
    return found


def two_machines(monkeypatch):
    monkeypatch.setattr(shared_ids, "machine_leader", lambda comm: comm.Get_rank() // 2 * 2)


@pytest.mark.parametrize("unit", ["characters", "words", "bytes"])
@pytest.mark.parametrize("machines", [1, 2])
def test_ranks_have_the_text_of_one_process(unit, machines, text, tmp_path, encodings, monkeypatch):
    if machines == 2:
        two_machines(monkeypatch)
    alone = TextData.from_files(text, unit, **OPTIONS)
    encodings.clear()
    names = {path.name for path in tmp_path.iterdir()}
    together = run_ranks(4, lambda comm: TextData.from_files(text, unit, folder=tmp_path, comm=comm, **OPTIONS))
    assert len(encodings) == machines
    assert {path.name for path in tmp_path.iterdir()} == names
    for data in together:
        assert data.vocabulary.symbols == alone.vocabulary.symbols
        assert data.checksum() == alone.checksum()
        assert data.description == alone.description
        assert not data._ids.in_memory
        for name, part in data.parts.items():
            for batch, expected in zip(part, alone.parts[name], strict=True):
                np.testing.assert_array_equal(batch.inputs, expected.inputs)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "there is no file"), (b"", "got an empty file"), (b"the cat\xff", "must be UTF-8")]
)
def test_an_error_of_one_rank_is_one_of_all(content, message, tmp_path):
    file = tmp_path / "text.txt"
    if content is not None:
        file.write_bytes(content)
    results = run_ranks(3, lambda comm: TextData.from_files(file, folder=tmp_path, comm=comm), catch=True)
    assert type(results[0]) in (ValueError, FileNotFoundError)
    assert message in str(results[0])
    for result in results[1:]:
        assert isinstance(result, ChildProcessError)
        assert str(result) == f"rank 0 failed: {type(results[0]).__name__}: {results[0]}"
    assert [path.name for path in tmp_path.iterdir()] == [file.name] * file.exists()


def test_no_space_is_an_error_of_all(text, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr(files.TextFiles, "encode", fail)
    results = run_ranks(2, lambda comm: TextData.from_files(text, folder=tmp_path, comm=comm), catch=True)
    assert [type(result) for result in results] == [OSError, ChildProcessError]
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_machines_with_other_texts_are_refused(text, tmp_path, monkeypatch):
    two_machines(monkeypatch)
    other = tmp_path / "other.txt"
    other.write_text(TEXT[::-1])
    results = run_ranks(
        4, lambda comm: TextData.from_files([text, text, other, other][comm.Get_rank()], comm=comm), catch=True
    )
    for result in results:
        assert "files must have the same text on all machines, got another one on that of rank 2" in str(result)


def test_a_machine_without_the_folder_uses_that_of_the_system(text, tmp_path, monkeypatch):
    two_machines(monkeypatch)
    made = []
    mkstemp = shared_ids.tempfile.mkstemp

    def note(prefix, dir):  # noqa: A002
        made.append(dir)
        return mkstemp(prefix=prefix, dir=dir)

    monkeypatch.setattr(shared_ids.tempfile, "mkstemp", note)
    folders = [tmp_path, tmp_path, tmp_path / "none", tmp_path / "none"]
    run_ranks(4, lambda comm: TextData.from_files(text, folder=folders[comm.Get_rank()], comm=comm, **OPTIONS))
    assert sorted(made, key=str) == sorted([None, tmp_path], key=str)
