"""Law: data that cannot be right is an error that names it, and data at a limit has its right value."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.data import (
    ArrayData,
    LeastSquaresAR,
    SeriesTransformation,
    class_weights,
    read_npz,
    read_series,
    read_ts,
)
from glasscell.data.labelled.labels import classes_of
from glasscell.data.numpy_files import read_array
from glasscell.data.series import evaluation
from glasscell.data.series.features import SeriesFeatures
from glasscell.data.series.times import TimeAxis, time_axis


def array_file(header: str, values: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    form = "<H" if version == (1, 0) else "<I"
    return b"\x93NUMPY" + bytes(version) + struct.pack(form, len(header)) + header.encode() + values


ONE = "{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}"
FILES = {
    "another version": (array_file(ONE, bytes(8), (4, 0)), 0, "version of its format must be 1.0, 2.0 or 3.0, got 4.0"),
    "a long header": (array_file(" " * 10_001, b"", (2, 0)), 0, "its header must have at most 10000 bytes, got 10001"),
    "a header that ends": (array_file(ONE)[:20], 0, "it ends within its header"),
    "few values": (array_file(ONE, bytes(7)), 0, "it has 7 bytes of values, and the shape"),
    "values that end": (array_file(ONE, bytes(7)), 1, "it ends within its values"),
    "no array": (b"PK" + bytes(20), 0, "it is not an array of NumPy"),
}


@loop_over("name", FILES)
def test_files_of_arrays_that_are_damaged(name: str) -> None:
    content, missing, message = FILES[name]
    with pytest.raises(ValueError, match=message):
        read_array(io.BytesIO(content), len(content) + missing)


def test_labels_of_an_archive_are_text_or_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((2, 3)), y=np.array(["a", "b"]))
    assert read_npz(path).labels == ["a", "b"]
    np.savez(path, x=np.zeros((2, 3)), y=np.array([1j, 2j]))
    with pytest.raises(ValueError, match=r"a\.npz must be a .npz file of arrays of numbers or text"):
        read_npz(path)


def test_missing_labels_come_first() -> None:
    assert classes_of(["b", None, "a", None]) == [None, "a", "b"]


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        ([np.array(["a"]), np.array([1.0, 2.0])], [0, 1], TypeError, "x must be real numbers, got dtype"),
        ([np.zeros((2, 3)), np.zeros((3, 2))], [0, 1], ValueError, "x must be sequences .* of one I, .* got several"),
        (
            [np.zeros((2, 3)), np.zeros((3, 3))],
            np.zeros((2, 1, 1)),
            ValueError,
            r"y must be a list .* shape \(2, 1, 1\)",
        ),
    ],
)
def test_lists_of_sequences_that_are_refused(x: Any, y: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ArrayData(x, y)


def test_a_mask_leaves_targets_of_sequences_as_they_are() -> None:
    x, y = np.arange(12.0).reshape(2, 3, 2), np.array([[0.5], [1.5]])
    data = ArrayData(x, y, mask=[[True, False, True], [False, True, True]])
    np.testing.assert_array_equal(data.y, y)
    np.testing.assert_array_equal(data.x[0], x[0, [0, 2]])
    np.testing.assert_array_equal(data.x[1], x[1, 1:])


def test_a_large_value_of_a_ts_file_is_kept(tmp_path: Path) -> None:
    """The sum of both is above all numbers, and neither is."""
    path = tmp_path / "a.ts"
    path.write_text("@univariate true\n@classLabel false\n@data\n1e308,1e308\n")
    [sequence] = read_ts(path).x
    np.testing.assert_array_equal(sequence, [[1e308], [1e308]])
    path.write_text("@univariate true\n")
    with pytest.raises(ValueError, match=r"a\.ts must have a line @data, got none"):
        read_ts(path)


def test_windows_of_sequences_with_one_label_are_an_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3)), y=np.array([0, 1]))
    with pytest.raises(ValueError, match="windows must be of sequences with one label per step, got one per sequence"):
        read_npz(tmp_path / "a.npz").windows(2)


def test_short_series_are_named() -> None:
    with pytest.raises(ValueError, match="history must have at least 2 values, got 1"):
        LeastSquaresAR([1.0, 2.0, 4.0, 7.0, 11.0, 3.0], 2).forecast([1.0], 1)
    difference = SeriesTransformation(differences=(2,))
    with pytest.raises(ValueError, match=r"differences \(2,\) need more than 2 values, got 2"):
        difference.apply([1.0, 2.0])
    with pytest.raises(ValueError, match="history must have at least 2 values, got 1"):
        difference.invert([1.0], [1.0])
    assert np.isnan(difference.continuation(np.zeros((1, 1)), 3, from_last=False)).all()


def test_baselines_for_which_there_are_too_few_values_are_left_out() -> None:
    forecasts = evaluation.baseline_forecasts([1.0, 2.0, 4.0, 7.0], [3], 1, season=1, order=4)
    assert {name: values.tolist() for name, values in forecasts.items()} == {"naive": [[4.0]]}


def test_exogenous_inputs_are_given_once(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n2\n3\n")
    series = read_series(path, ["a"])
    features = SeriesFeatures(1, 1, 0, 0, SeriesTransformation(), False, ())
    np.testing.assert_array_equal(features.observations("values", series, None, None).values, [[1.0], [2.0], [3.0]])
    with pytest.raises(ValueError, match="known_exogenous and past_exogenous must be None for a Series"):
        features.observations("values", series, np.zeros((3, 1)), None)
    with pytest.raises(TypeError, match="columns must be a list of at least one name, got 'a'"):
        read_series(path, "a")


def test_times_of_one_row_and_of_weeks() -> None:
    axis, rows = time_axis(["2024-01-31"], str)
    assert (axis.length, axis.step, rows.tolist()) == (1, 1.0, [0])
    week = TimeAxis("2024-W01-1", 7 * 86400.0, "second", 2, "iso")
    assert (week.label(0), week.label(1)) == ("2024-01-01T00:00:00", "2024-01-08T00:00:00")


@pytest.mark.parametrize(
    ("labels", "nested"), [(np.array([[1, 0], [2, 2]]), True), (np.array([1, 0, 2]), False), ([[1, 0], [2]], True)]
)
def test_classes_of_arrays_and_of_lists(labels: Any, nested: bool) -> None:
    assert classes_of(labels) == [0, 1, 2]
    weights = class_weights(labels, {0: 1.0, 1: 2.0, 2: 3.0})
    expected = {0: 1.0, 1: 2.0, 2: 3.0}
    rows = [[expected[k] for k in row] for row in labels] if nested else [expected[k] for k in labels]
    for row, values in zip(weights, rows, strict=True):
        np.testing.assert_array_equal(row, values)
