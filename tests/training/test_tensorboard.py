"""Laws: TensorBoard's files have the history, and no error of theirs ends a training."""

import struct
import sys

import numpy as np
import pytest

import glasscell as gc
from glasscell.training import TensorBoard, TrainingWarning

with pytest.MonkeyPatch.context() as patch:  # tensorboardX imports PyTorch if it can, which takes seconds
    if "torch" not in sys.modules:
        patch.setitem(sys.modules, "torch", None)
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
TASK = gc.tasks.Copy(3)


def train(*callbacks, updates=4):
    model = gc.CopyLSTM(2, task=TASK)
    return gc.fit(model, TASK, updates, evaluate_every=2, callbacks=callbacks), model.parameters.vector.tobytes()


def events_of(folder):
    """Return (step, tag, value) of all files."""
    found = []
    for path in sorted(folder.iterdir()):
        data, start = path.read_bytes(), 0
        while start < len(data):
            (length,) = struct.unpack_from("<Q", data, start)
            event = event_pb2.Event.FromString(data[start + 12 : start + 12 + length])
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            start += 16 + length
    return found


def test_the_files_have_the_history(tmp_path):
    with TensorBoard(tmp_path / "board") as board:
        history, _ = train(board)
    expected = [
        (
            row["update"],
            f"validation/{name[11:]}" if name.startswith("validation_") else f"training/{name}",
            np.float32(v),
        )
        for row in history
        for name, v in row.items()
        if name != "update"
    ]
    assert events_of(tmp_path / "board") == expected
    assert {"training/loss", "validation/sequence_accuracy"} <= {tag for _, tag, _ in expected}


def test_an_interval_keeps_the_evaluated_rows(tmp_path):
    with TensorBoard(tmp_path, interval=3) as board:
        train(board)
    assert sorted({step for step, _, _ in events_of(tmp_path)}) == [2, 3, 4]


def test_two_callbacks_write_two_files(tmp_path):
    for _ in range(2):
        train(TensorBoard(tmp_path))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("method", ["write_event", "flush"])
def test_an_error_of_the_file_ends_the_writing_only(method, tmp_path, monkeypatch):
    board = TensorBoard(tmp_path)

    def fail(*_):
        monkeypatch.undo()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(board._writer, method, fail)
    _, expected = train()
    with pytest.warns(TrainingWarning, match=r"nothing more is written for TensorBoard: .*No space left on device"):
        history, vector = train(board)
    assert (history.updates, vector) == (4, expected)
    assert board.error.errno == 28


def test_an_error_at_the_end_is_a_warning(tmp_path, monkeypatch):
    board = TensorBoard(tmp_path)
    train(board)

    def fail():
        monkeypatch.undo()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(board._writer, "close", fail)
    with pytest.warns(TrainingWarning, match="nothing more is written"):
        board.close()
    board.close()


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="exists"):
        TensorBoard(tmp_path / "file")


@pytest.mark.parametrize("interval", [0, 1.5, None])
def test_the_interval_is_a_positive_integer(interval, tmp_path):
    with pytest.raises((TypeError, ValueError), match="interval must be"):
        TensorBoard(tmp_path, interval)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
    with pytest.raises(ImportError, match=r"^TensorBoard needs tensorboardX: pip install 'glasscell\[tensorboard\]'$"):
        TensorBoard(tmp_path)
