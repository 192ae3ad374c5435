"""The formats .ts of sktime and aeon, and .npz of NumPy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.data import read_npz, read_sequences, read_ts

DATA = Path(__file__).parents[3] / "shared" / "data"
HEADER = (
    "# comment\n@problemName P\n@timeStamps false\n@missing {missing}\n@univariate {uni}\n@classLabel {labels}\n@data\n"
)


def ts(
    folder: Path, data: str, *, missing: str = "false", uni: str = "true", labels: str = "true b a", extra: str = ""
) -> Path:
    path = folder / "t.ts"
    path.write_text(extra + HEADER.format(missing=missing, uni=uni, labels=labels) + data)
    return path


def test_multivariate_of_unequal_lengths(tmp_path: Path) -> None:
    data = read_ts(ts(tmp_path, "1,2,3:4,5,6:a\n7,8:9,10:b\n", uni="false"))
    assert [sequence.tolist() for sequence in data.x] == [[[1, 4], [2, 5], [3, 6]], [[7, 9], [8, 10]]]
    assert (data.labels, data.classes) == (["a", "b"], ["b", "a"])


def test_numbers_as_targets_and_no_labels(tmp_path: Path) -> None:
    path = tmp_path / "t.ts"
    path.write_text("@problemName P\n@univariate true\n@targetLabel true\n@data\n1,2:0.5\n3,4:1.5\n")
    np.testing.assert_array_equal(read_ts(path).targets, [[0.5], [1.5]])
    unlabelled = read_ts(ts(tmp_path, "1,2\n", labels="false"))
    assert unlabelled.labels is None
    with pytest.raises(ValueError, match="the sequences must have labels, got none"):
        unlabelled.counts()


def test_missing_values_are_filled_as_stated(tmp_path: Path) -> None:
    path = ts(tmp_path, "1,?,3,NaN:a\n", missing="true")
    assert read_ts(path, fill="linear").x[0].ravel().tolist() == [1, 2, 3, 3]
    assert read_ts(path, fill="previous").x[0].ravel().tolist() == [1, 1, 3, 3]


@loop_over(
    ("data", "options", "message"),
    [
        (
            "1,?:a\n",
            {"missing": "true"},
            "line 8: dimension 1, value 2: must be a number, got a missing value: "
            "fill='linear' or fill='previous' replaces missing values",
        ),
        ("1,x:a\n", {}, "line 8: dimension 1 must be numbers, got 'x'"),
        ("1,1_0:a\n", {}, "line 8: dimension 1 must be numbers, got '1_0'"),
        ("1,inf:a\n", {}, "line 8: dimension 1, value 2: must be finite, got inf"),
        ("1,2:c\n", {}, "line 8: the label must be one of @classLabel, b a, got 'c'"),
        ("1,2:3,4:a\n", {}, "line 8: must have 1 dimensions, got 2"),
        ("1,2:3:a\n", {"uni": "false"}, "line 8: dimensions must have one length, got 2, 1"),
        (
            "(2020-01-01,1),(2020-01-02,2):a\n",
            {},
            "line 8: values must be numbers, got timestamps in parentheses, which are not supported",
        ),
        ("", {}, "must have at least one sequence after @data, got none"),
        ("1:a\n", {"labels": "true a a"}, "line 6: @classLabel must have different labels, got 'true a a'"),
        ("1:a\n", {"labels": ""}, "line 6: @classLabel must be false, or true and the labels, got ''"),
        ("1:a\n", {"labels": "perhaps"}, "line 6: @classLabel must be false, or true and the labels, got 'perhaps'"),
        ("1:a\n", {"uni": "2"}, "line 5: @univariate must be true or false, got '2'"),
        ("1:a\n", {"extra": "@frequency 3\n"}, "line 1: must be one of the declarations of a .ts file, got @frequency"),
        ("1:a\n", {"extra": "text\n"}, "line 1: must start with @ before @data, got text"),
        ("1:a\n", {"extra": "@missing false\n"}, "line 5: @missing must be declared once, got it again"),
        ("1:a\n", {"extra": "@dimensions x\n"}, "line 8: @dimensions must be a positive integer, got 'x'"),
        (
            "1,2:a\n1:b\n",
            {"extra": "@equalLength true\n"},
            "line 10: must have 2 steps, as @equalLength true declares, got 1",
        ),
    ],
)
def test_a_mistake_in_a_ts_file_is_one_error_with_its_line(
    tmp_path: Path, data: str, options: dict[str, str], message: str
) -> None:
    path = ts(tmp_path, data, **options)
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is compared below
        read_ts(path)
    assert str(error.value) == f"{path}{', ' if message.startswith('line') else ' '}{message}"


def test_timestamps_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "t.ts"
    path.write_text("@problemName P\n@timeStamps true\n@data\n")
    with pytest.raises(ValueError, match=r"line 2: @timeStamps must be false, got true: sequences with timestamps"):
        read_ts(path)


@pytest.mark.parametrize(
    ("name", "steps", "features", "classes"),
    [("JapaneseVowels", (7, 26), 12, 9), ("BasicMotions", (100, 100), 6, 4), ("ItalyPowerDemand", (24, 24), 1, 2)],
)
def test_files_of_the_archives(name: str, steps: tuple[int, int], features: int, classes: int) -> None:
    path = DATA / "ts" / name / f"{name}_TRAIN.ts"
    if not path.exists():
        pytest.skip("../shared/data is missing")
    data = read_sequences(path)
    lengths = [len(sequence) for sequence in data.x]
    assert ((min(lengths), max(lengths)), data.input_size, len(data.classes)) == (steps, features, classes)


def test_arrays_of_a_file(tmp_path: Path) -> None:
    x, y = np.arange(24.0).reshape(3, 4, 2), np.array(["u", "v", "u"])
    np.savez(tmp_path / "a.npz", x=x, y=y, lengths=[4, 2, 1], tags=np.arange(12).reshape(3, 4) % 2)
    data = read_npz(tmp_path / "a.npz")
    assert [len(sequence) for sequence in data.x] == [4, 2, 1]
    assert (data.labels, data.per_step) == (["u", "v", "u"], False)
    tagged = read_sequences(tmp_path / "a.npz", y="tags")
    assert tagged.labels == [[0, 1, 0, 1], [0, 1], [0]]
    np.savez(tmp_path / "b.npz", x=x[..., 0])
    assert read_npz(tmp_path / "b.npz", y=None).x[0].shape == (4, 1)


@loop_over(
    ("arrays", "message"),
    [
        ({"y": [1]}, "x must name an array of {path}, y, got 'x'"),
        ({"x": [[1.0]]}, "y must name an array of {path}, x, got 'y'"),
        ({"x": [1.0], "y": [1]}, "{path}: x must be numbers (N, T, I) or (N, T), got float64 of shape (1,)"),
        ({"x": [[1.0, np.nan]], "y": [1]}, "{path}: x[0, 1, 0] must be finite, got nan"),
        (
            {"x": [[1.0, 2.0]], "y": [1, 2]},
            "{path}: y must have shape (1,), or (1, 2) for one label per step, got (2,)",
        ),
        ({"x": [[1.0, 2.0]], "y": [np.nan]}, "{path}: y: labels must be finite, got nan"),
        ({"x": [[1.0, 2.0]], "y": [1], "lengths": [3]}, "{path}: lengths must be 1 integers from 1 to T = 2, got 3"),
        (
            {"x": [[1.0, 2.0]], "y": [1], "lengths": [1.0]},
            "{path}: lengths must be 1 integers from 1 to T = 2, got float64 of shape (1,)",
        ),
    ],
)
def test_a_mistake_in_arrays_is_one_error(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is compared below
        read_npz(path)
    assert str(error.value) == message.replace("{path}", str(path))


def test_damaged_and_pickled_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((2, 3)), y=np.array([{}, []], object))
    whole = path.read_bytes()
    for content in (whole, whole[:-30], b"", b"text", whole[:70] + b"\xff" + whole[71:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.npz"):
            read_npz(path)
