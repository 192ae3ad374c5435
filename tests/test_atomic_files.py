"""A written file is complete or absent, and only files of the same kind are replaced."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import glasscell as gc
from glasscell import atomic_files
from glasscell.atomic_files import KINDS, OutputFile, is_temporary_name, temporary_name, write_atomically
from glasscell.convert import torch as torch_files
from glasscell.training.history import History

SOURCE = str(Path(gc.__file__).parents[1])


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


# Every writer of the Python interface


def trace():
    return gc.LSTM(2, 3, seed=1).trace(np.ones((4, 2)))


def recorder():
    recorder = gc.TraceRecorder(np.ones((4, 2)))
    recorder.capture_frame(gc.LSTM(2, 3, seed=1))
    return recorder


WRITERS = {
    "CopyLSTM.save": (".safetensors", lambda path: gc.CopyLSTM(3, task=gc.tasks.Copy(4)).save(path)),
    "Sequential.save": (".safetensors", lambda path: gc.Sequential([gc.LSTM(2, 3)]).save(path)),
    "Stream.save": (".safetensors", lambda path: gc.LSTM(2, 3).stream().save(path)),
    "Trace.save": (".safetensors", lambda path: trace().save(path)),
    "Trace.report": (".html", lambda path: trace().report(path)),
    "Recorder.report": (".html", lambda path: recorder().report(path)),
    "Recorder.animate": (".gif", lambda path: recorder().animate(path, dpi=20)),
    "History.save": (".csv", lambda path: History([{"update": 1, "loss": 0.5}]).save(path)),
    "convert.torch.write": (".pt", lambda path: torch_files.write(gc.LSTM(2, 3).to_torch(), path)),
    "convert.save, ours": (".safetensors", lambda path: gc.convert.save(gc.LSTM(2, 3), path)),
    "convert.save, onnx": (".onnx", lambda path: gc.convert.save(gc.LSTM(2, 3), path)),
    "convert.save, keras": (".keras", lambda path: gc.convert.save(gc.LSTM(2, 3), path)),
    "convert.save, h5": (".h5", lambda path: gc.convert.save(gc.LSTM(2, 3), path)),
}
NEEDS = {".onnx": "onnx", ".keras": "h5py", ".h5": "h5py", ".gif": "matplotlib"}


@pytest.fixture(params=WRITERS)
def writer(request):
    ending, write = WRITERS[request.param]
    pytest.importorskip(NEEDS.get(ending, "numpy"))
    return ending, write


def test_a_writer_demands_its_ending(writer, tmp_path):
    ending, write = writer
    for name in ("x", "x.txt", f"x{ending}.bak", ending):
        with pytest.raises(ValueError, match=r"must end in|no known format"):
            write(tmp_path / name)
    assert names(tmp_path) == []


def test_a_writer_replaces_its_own_kind_alone(writer, tmp_path):
    """A model under the name of a page, or the reverse, is kept; so is its mode."""
    ending, write = writer
    file = tmp_path / f"x{ending}"
    write(file)
    content = file.read_bytes()
    assert KINDS[ending](content[:4096])
    file.chmod(0o640)
    write(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    file.write_bytes(b"")  # as made by tempfile
    write(file)
    assert file.stat().st_size == len(content)
    other = b"\x00\x01 precious"
    file.write_bytes(other)
    with pytest.raises(FileExistsError, match="something other than"):
        write(file)
    assert file.read_bytes() == other
    assert names(tmp_path) == [file.name]


def test_a_writer_never_follows_a_link_or_replaces_what_is_no_file(writer, tmp_path):
    ending, write = writer
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / f"link{ending}").symlink_to(tmp_path / "target")
    (tmp_path / f"dangling{ending}").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / f"fifo{ending}")
    (tmp_path / f"folder{ending}").mkdir()
    before = names(tmp_path)
    for name, words in (
        ("link", "symbolic link"),
        ("dangling", "symbolic link"),
        ("fifo", "FIFO"),
        ("folder", "is a folder"),
    ):
        with pytest.raises((ValueError, OSError), match=words):
            write(tmp_path / f"{name}{ending}")
    assert names(tmp_path) == before
    assert (tmp_path / "target").read_bytes() == b"precious"
    assert stat.S_ISFIFO((tmp_path / f"fifo{ending}").stat().st_mode)


def test_a_writer_is_refused_before_its_work(writer, tmp_path, monkeypatch):
    """The folder is missing or full: known before content is made, from the same check."""
    ending, write = writer
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write(tmp_path / "nowhere" / f"x{ending}")
    checked = []

    def refuse(file, *_):
        checked.append(file.path)
        raise OSError(30, "Read-only file system", str(file.path.parent))

    monkeypatch.setattr(OutputFile, "_create", refuse)
    monkeypatch.setattr(OutputFile, "write", lambda *_: pytest.fail("content was made"))
    with pytest.raises(OSError, match="Read-only"):
        write(tmp_path / f"x{ending}")
    assert checked == [tmp_path / f"x{ending}"]


# The file itself


@pytest.mark.parametrize("path", ["/dev/null", "/dev/full"])
def test_a_device_is_never_replaced(path):
    before = Path(path).stat().st_rdev
    with pytest.raises(ValueError, match="a device, FIFO or socket"):
        write_atomically(path, b"x")
    assert stat.S_ISCHR(Path(path).stat().st_mode)
    assert Path(path).stat().st_rdev == before


def test_a_socket_is_never_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # its name is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        with pytest.raises(ValueError, match="a device, FIFO or socket"):
            write_atomically("s", b"x")
    assert stat.S_ISSOCK(Path("s").stat().st_mode)


def test_without_overwrite_what_exists_is_kept(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(FileExistsError, match=r"--out .*a exists already"):
        OutputFile(tmp_path / "a", overwrite=False, name="--out")
    late = OutputFile(tmp_path / "b", overwrite=False)
    (tmp_path / "b").write_bytes(b"of another program, during the work")
    with pytest.raises(FileExistsError, match="exists already"):
        late.write(b"new")
    assert (tmp_path / "b").read_bytes() == b"of another program, during the work"
    free = OutputFile(tmp_path / "c", overwrite=False)
    free.write(b"new")
    assert (tmp_path / "c").read_bytes() == b"new"
    assert (tmp_path / "c").stat().st_nlink == 1
    assert names(tmp_path) == ["a", "b", "c"]


@pytest.mark.parametrize("taken", [False, True])
def test_without_overwrite_and_without_hard_links(taken, tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    file = OutputFile(tmp_path / "a", overwrite=False)
    if taken:
        (tmp_path / "a").write_bytes(b"old")
        with pytest.raises(FileExistsError):
            file.write(b"new")
    else:
        file.write(b"new")
    assert (tmp_path / "a").read_bytes() == (b"old" if taken else b"new")
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_mode_is_that_of_the_old_file_or_of_the_umask(umask, tmp_path):
    old = os.umask(umask)
    try:
        write_atomically(tmp_path / "new", b"x")
        (tmp_path / "old").write_bytes(b"y")
        for mode in (0o600, 0o644, 0o666, 0o755):
            (tmp_path / "old").chmod(mode)
            write_atomically(tmp_path / "old", b"x")
            assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == mode
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o666 & ~umask


def test_what_is_read_only_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"x")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(PermissionError, match="is read-only"):
        OutputFile(tmp_path / "a")


def test_temporary_files_are_made_exclusively(tmp_path, monkeypatch):
    """A file or a link that someone put where the temporary file goes is not written to."""
    name = temporary_name()
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / name).symlink_to(tmp_path / "target")
    monkeypatch.setattr(atomic_files, "temporary_name", lambda: name)
    with pytest.raises(OSError, match="File exists"):
        write_atomically(tmp_path / "a", b"x")
    assert (tmp_path / "target").read_bytes() == b"precious"


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_failure_names_the_file_and_says_what_it_holds(old, tmp_path, monkeypatch):
    if old:
        (tmp_path / "a").write_bytes(old)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device; ") as caught:
        write_atomically(tmp_path / "a", b"new")
    assert caught.value.errno == 28
    assert caught.value.filename == str(tmp_path / "a")
    assert ("the file that was there is unchanged" if old else "nothing was written") in str(caught.value)
    assert names(tmp_path) == (["a"] if old else [])


# Killed


KILLED = """
import os, signal, sys
from glasscell.atomic_files import OutputFile
file = OutputFile(sys.argv[1])
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
file.write(b"half")
"""
WAITING = KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)", "(print('writing', flush=True), sys.stdin.read())")


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    environment = os.environ | {"PYTHONPATH": SOURCE}
    (tmp_path / "a").write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a")], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    [left, kept] = names(tmp_path)
    assert is_temporary_name(left)
    assert (tmp_path / kept).read_bytes() == b"old"
    write_atomically(tmp_path / "b", b"of another name")
    assert names(tmp_path) == ["a", "b"]


def test_the_file_of_a_living_writer_is_left_alone(tmp_path):
    environment = os.environ | {"PYTHONPATH": SOURCE}
    command = [sys.executable, "-c", WAITING, str(tmp_path / "a")]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"writing\n"
        write_atomically(tmp_path / "b", b"x")
        [temporary] = [name for name in names(tmp_path) if name != "b"]
        assert is_temporary_name(temporary)
        writer.communicate()
    assert names(tmp_path) == ["a", "b"]


def test_nothing_else_is_removed(tmp_path):
    others = [
        ".glasscell-0123456789abcdef",
        "glasscell-0123456789abcdef.tmp",
        ".glasscell-0123456789ABCDEF.tmp",
        "x.tmp",
    ]
    for name in (*others, ".glasscell-.tmp"):
        (tmp_path / name).write_bytes(b"precious")
    (tmp_path / ".glasscell-0123456789abcdef.tmp").mkdir()
    before = names(tmp_path)
    write_atomically(tmp_path / "a", b"x")
    assert names(tmp_path) == sorted([*before, "a"])


def test_many_writers_of_one_file_leave_one_whole_content(tmp_path):
    """Readers see one of the contents, whole, at every moment."""
    program = """
import sys
from glasscell.atomic_files import write_atomically
for _ in range(40):
    write_atomically(sys.argv[1], sys.argv[2].encode() * 5000)
"""
    write_atomically(tmp_path / "a", b"0" * 5000)
    environment = os.environ | {"PYTHONPATH": SOURCE}
    writers = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "a"), k], env=environment) for k in "12"]
    seen, end = set(), time.monotonic() + 60
    while any(writer.poll() is None for writer in writers) and time.monotonic() < end:
        content = (tmp_path / "a").read_bytes()
        assert len(content) == 5000
        seen |= {*content}
        assert len({*content}) == 1
    assert [writer.wait() for writer in writers] == [0, 0]
    assert names(tmp_path) == ["a"]
    assert seen <= {*b"012"}
