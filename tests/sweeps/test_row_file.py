"""Laws of the file of a sweep: written row by row, resumed, extended, repaired, and never guessed."""

import contextlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sweep_functions as functions
from sweep_functions import without_seconds

import glasscell as gc
from glasscell.sweeps import SweepInterrupted, SweepResult, SweepWarning

CALLS = []


def counted(seed, width=1):
    CALLS.append((width, seed))
    return {"value": 10 * width + seed}


@pytest.fixture(autouse=True)
def calls():
    CALLS.clear()
    return CALLS


@pytest.fixture
def file(tmp_path):
    return tmp_path / "rows.jsonl"


def test_rows_are_read_back_exactly(file):
    result = gc.sweep(functions.scores, seeds=3, file=file, width=[1, 2], rate=[0.1, 1e-300])
    assert without_seconds(SweepResult.load(file)) == without_seconds(result)
    assert [row["seconds"] for row in SweepResult.load(file).rows] == [row["seconds"] for row in result.rows]
    again = gc.sweep(functions.scores, seeds=3, file=file, width=[1, 2], rate=[0.1, 1e-300], resume=True)
    assert without_seconds(again) == without_seconds(result)


def test_curves_are_read_back(file):
    result = gc.sweep(functions.history, seeds=2, file=file)
    assert SweepResult.load(file).rows == result.rows


def test_each_row_is_on_disk_when_the_next_run_begins(file):
    lines = []

    def train(seed):
        lines.append(file.read_bytes().count(b"\n"))
        return {}

    gc.sweep(train, seeds=3, file=file)
    assert lines == [1, 2, 3]


@pytest.mark.parametrize("rows", range(7))
def test_a_sweep_goes_on_after_any_row(file, calls, rows):
    whole = gc.sweep(counted, seeds=3, file=file, width=[1, 2])
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[: rows + 1]))
    calls.clear()
    resumed = gc.sweep(counted, seeds=3, file=file, width=[1, 2], resume=True)
    assert without_seconds(resumed) == without_seconds(whole)
    assert calls == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)][rows:]
    assert len(file.read_bytes().splitlines()) == 7


def test_a_torn_line_is_removed_and_reported(file, calls):
    whole = gc.sweep(counted, seeds=2, file=file)
    content = file.read_bytes()
    ends = [k for k, byte in enumerate(content) if byte == 10]
    for size in sorted(
        {*range(1, len(content), 23), *ends, *(end + 1 for end in ends), *(end + 2 for end in ends[:-1])}
    ):
        file.write_bytes(content[:size])
        is_torn = content[size - 1 : size] != b"\n"
        before = file.read_bytes()
        if is_torn:
            with pytest.warns(SweepWarning, match="the last line was incomplete"):
                resumed = gc.sweep(counted, seeds=2, file=file, resume=True)
        else:
            resumed = gc.sweep(counted, seeds=2, file=file, resume=True)
        assert without_seconds(resumed) == without_seconds(whole)
        kept = before[: before.rfind(b"\n") + 1]
        assert file.read_bytes().startswith(kept)
        assert without_seconds(SweepResult.load(file)) == without_seconds(whole)


def test_a_damaged_byte_is_one_error_with_its_line(file, rng):
    gc.sweep(counted, seeds=3, file=file)
    content = file.read_bytes()
    ends = [k for k, byte in enumerate(content) if byte == 10]
    for position in rng.choice(len(content), 60, replace=False):
        if position in ends:
            continue
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        line = 1 + sum(end < position for end in ends)
        if damaged[position] == 10:
            continue  # a further end of a line
        expected = "must be the rows of a sweep" if line == 1 and position < 20 else f"line {line} must be a whole row"
        with pytest.raises(ValueError, match=expected):
            gc.sweep(counted, seeds=3, file=file, resume=True)
        assert file.read_bytes() == bytes(damaged)


def test_a_line_that_is_removed_is_run_again(file, calls):
    whole = gc.sweep(counted, seeds=3, file=file)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    calls.clear()
    assert without_seconds(gc.sweep(counted, seeds=3, file=file, resume=True)) == without_seconds(whole)
    assert calls == [(1, 1)]


def test_a_row_that_is_there_twice_is_an_error(file):
    gc.sweep(counted, seeds=2, file=file)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines, lines[1]]))
    with pytest.raises(ValueError, match="line 4 must be a whole row of the sweep: there is a row of its run before"):
        gc.sweep(counted, seeds=2, file=file, resume=True)


def test_a_file_that_exists_is_not_replaced(file):
    gc.sweep(counted, seeds=2, file=file)
    content = file.read_bytes()
    with pytest.raises(FileExistsError, match="exists already: resume=True goes on with it"):
        gc.sweep(counted, seeds=2, file=file)
    assert file.read_bytes() == content


def test_resume_without_file_begins(file, calls):
    gc.sweep(counted, seeds=2, file=file, resume=True)
    assert len(calls) == 2


@pytest.mark.parametrize(
    "content", [b"text", b"{}\n", b'{"glasscell_run": 1}\n', b'{"other', b"\0" * 50, b"a,b\n1,2\n"]
)
def test_another_file_is_refused_and_kept(file, content):
    file.write_bytes(content)
    with pytest.raises(ValueError, match="must be the rows of a sweep, got another file"):
        gc.sweep(counted, seeds=2, file=file, resume=True)
    assert file.read_bytes() == content


def test_another_sweep_is_refused(file):
    gc.sweep(counted, seeds=[1, 2], file=file, width=[1, 2])
    content = file.read_bytes()
    for train, arguments, message in (
        (functions.scores, {"width": [1, 2]}, "train is sweep_functions.scores, there it is"),
        (counted, {}, "the grid has no names, there it has width"),
        (counted, {"width": [1, 3]}, "width must include 2, as there"),
        (counted, {"width": [1, 2.0]}, "width must include 2, as there"),
        (counted, {"width": [1, 2], "seeds": 2}, "seeds must include 2, as there"),
        (functions.scores, {"width": [1], "rate": [1]}, "train is"),
    ):
        with pytest.raises(ValueError, match="has rows of another sweep: ") as error:
            gc.sweep(train, file=file, resume=True, **{"seeds": [1, 2], **arguments})
        assert message in str(error.value)
        assert str(error.value).endswith("; pass another file")
        assert file.read_bytes() == content


def test_a_sweep_is_extended(file, calls):
    gc.sweep(counted, seeds=[1], file=file, width=[2])
    result = gc.sweep(counted, seeds=[0, 1], file=file, width=[3, 2, 1], resume=True)
    assert len(calls) == len(set(calls)) == 6
    assert [row["scores"]["value"] for row in result.rows] == [30, 31, 20, 21, 10, 11]
    assert without_seconds(SweepResult.load(file)) == without_seconds(result)
    with pytest.raises(ValueError, match="width must include 3, 1, as there"):
        gc.sweep(counted, seeds=[1], file=file, width=[2], resume=True)


def test_the_order_of_names_and_values_does_not_matter(file, calls):
    result = gc.sweep(functions.scores, seeds=2, file=file, width=[1, 2], rate=[(0.5), 1.0])
    again = gc.sweep(functions.scores, seeds=[1, 0], file=file, rate=[1.0, 0.5], width=[2, 1], resume=True)
    assert again.rows[0]["setting"] == {"rate": 1.0, "width": 2}
    key = lambda row: (row["setting"]["width"], row["setting"]["rate"], row["seed"])  # noqa: E731
    assert sorted(map(repr, sorted(result.rows, key=key))) != []
    assert [row["seconds"] for row in sorted(result.rows, key=key)] == [
        row["seconds"] for row in sorted(again.rows, key=key)
    ]


def test_failures_are_repeated_only_on_request(file, tmp_path):
    path = str(tmp_path / "repaired")
    first = gc.sweep(functions.odd_seeds_fail_if, seeds=4, file=file, path=[path])
    Path(path).touch()
    assert gc.sweep(functions.odd_seeds_fail_if, seeds=4, file=file, path=[path], resume=True).rows == first.rows
    again = gc.sweep(functions.odd_seeds_fail_if, seeds=4, file=file, path=[path], resume=True, retry_failed=True)
    assert not again.failures
    assert SweepResult.load(file).rows == again.rows
    assert [row["seconds"] for row in again.rows][::2] == [row["seconds"] for row in first.rows][::2]


def test_another_sweep_that_uses_the_file_is_refused(file):
    messages = []

    def train(seed):
        with pytest.raises(BlockingIOError, match="another sweep uses it"):
            gc.sweep(counted, seeds=2, file=file, resume=True)
        messages.append(1)
        return {}

    gc.sweep(train, seeds=2, file=file)
    assert messages == [1, 1]
    assert not CALLS


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_does_not_keep_the_lock(file):
    from glasscell.sweeps.grid import Grid  # noqa: PLC0415
    from glasscell.sweeps.row_file import RowFile  # noqa: PLC0415

    grid = Grid.of(counted, 2, {})
    rows = RowFile(file, grid, resume=False)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(write)
        os.read(read, 1)  # until the parent closes the pipe
        os._exit(0)
    rows.close()
    again = RowFile(file, grid, resume=True)  # while the child lives
    again.close()
    os.close(write)
    os.close(read)
    os.waitpid(child, 0)


@pytest.mark.parametrize("make", ["folder", "link", "missing"])
def test_a_path_that_is_no_file(tmp_path, make):
    path = tmp_path / "rows.jsonl"
    if make == "folder":
        path.mkdir()
    elif make == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path = tmp_path / "none" / "rows.jsonl"
    error, message = {
        "folder": (ValueError, "file must be a regular file or a free name"),
        "link": (ValueError, "file must be a regular file or a free name"),
        "missing": (FileNotFoundError, "there is no folder"),
    }[make]
    with pytest.raises(error, match=message):
        gc.sweep(counted, seeds=1, file=path)
    assert not CALLS


def test_an_error_of_the_disk_keeps_the_rows_before(file, monkeypatch):
    from glasscell.sweeps import row_file  # noqa: PLC0415

    real, left = os.write, [3]

    def write(descriptor, content):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return real(descriptor, content[: len(content) // 2]) if left[0] == 0 else real(descriptor, content)

    monkeypatch.setattr(row_file.os, "write", write)
    with pytest.raises(OSError, match="No space left on device; the rows before are kept") as error:
        gc.sweep(counted, seeds=4, file=file)
    assert error.value.filename == str(file)
    monkeypatch.undo()
    assert [row["seed"] for row in SweepResult.load(file).rows] == [0]
    assert gc.sweep(counted, seeds=4, file=file, resume=True).is_complete


@pytest.mark.parametrize("in_threads", [False, True])
@pytest.mark.parametrize("place", ["before the write", "in the write", "after the write", "in the flush", "after it"])
@pytest.mark.parametrize("number", [1, 3])
def test_an_interrupt_while_a_row_is_written_loses_nothing(file, monkeypatch, place, number, in_threads):
    from glasscell.sweeps import row_file  # noqa: PLC0415

    write, fsync, count = os.write, os.fsync, [0]

    def interrupted_write(descriptor, content):
        count[0] += 1
        if count[0] != number + 1 or place in ("in the flush", "after it"):  # the first line is not a row
            return write(descriptor, content)
        if place != "before the write":
            write(descriptor, content[: len(content) // 2] if place == "in the write" else content)
        raise KeyboardInterrupt

    def interrupted_fsync(descriptor):
        if count[0] == number + 1 and place in ("in the flush", "after it"):
            if place == "after it":
                fsync(descriptor)
            count[0] += 1
            raise KeyboardInterrupt
        fsync(descriptor)

    monkeypatch.setattr(row_file.os, "write", interrupted_write)
    monkeypatch.setattr(row_file.os, "fsync", interrupted_fsync)
    with ThreadPoolExecutor(1) as pool, pytest.raises(SweepInterrupted) as error:
        gc.sweep(counted, seeds=4, file=file, executor=pool if in_threads else None)
    monkeypatch.undo()
    kept = SweepResult.load(file)
    assert kept.rows == error.value.result.rows
    assert len(kept) >= number
    assert f"{len(kept)} of 4 rows are kept" in str(error.value)
    assert gc.sweep(counted, seeds=4, file=file, resume=True).is_complete
    assert file.read_bytes().count(b'"seed":') == 4


def test_a_sweep_in_progress_can_be_read(file):
    sizes = []

    def train(seed):
        sizes.append(len(SweepResult.load(file)))
        return {"seed": seed}

    result = gc.sweep(train, seeds=3, file=file)
    assert sizes == [0, 1, 2]
    assert result.is_complete


PROGRAM = """
import glasscell as gc, sweep_functions
gc.sweep(sweep_functions.slow, seeds=10, width=[1, 2], file={file!r}, resume=True)
"""


def test_a_sweep_that_is_killed_has_each_row_once(file, importable, rng):
    """Short version of benchmarks/sweep_kills.py."""
    expected = gc.sweep(functions.slow, seeds=10, width=[1, 2])
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", PROGRAM.format(file=str(file))])
        before = file.stat().st_size if file.exists() else 0
        while not (file.exists() and file.stat().st_size > before) and process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.005 + 0.02 * rng.random())
        process.kill()
        process.wait()
    result = gc.sweep(functions.slow, seeds=10, width=[1, 2], file=file, resume=True)
    assert without_seconds(result) == without_seconds(expected)
    assert file.read_bytes().count(b'"seed":') == 20
