"""Sequences from tables: what is detected is stated, and every mistake is one error with file, line and column."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.data import read_csv, read_sequences
from glasscell.data.csv_tables import CsvTable

ROWS = "label,a,b,c,d\nup,1,2,3,4\ndown,5,6,7,8\n"
STEPS = "run,when,kind,p,q\nA,0,x,1,2\nB,0,y,3,4\nA,1,x,5,6\n"


def written(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_one_row_per_sequence(tmp_path: Path) -> None:
    data = read_csv(written(tmp_path, ROWS), label="label", features_per_step=2)
    np.testing.assert_array_equal(data.x, [[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    assert data.labels == ["up", "down"]
    assert data.classes == ["down", "up"]
    assert data.feature_names == ["a", "b"]
    assert "comma, a header" in data.source
    assert str(data).endswith("2 sequences of 2 steps, 2 features")


def test_decimal_commas_of_times_and_targets(tmp_path: Path) -> None:
    text = "run;when;target;p\nA;0,5;1,5;1,25\nA;1,5;1,5;2\nB;0,25;-2;3\n"
    data = read_csv(written(tmp_path, text), id="run", time="when", label="target", decimal=",")
    assert [sequence.tolist() for sequence in data.x] == [[[1.25], [2]], [[3]]]
    assert data.labels == ["1,5", "-2"]
    assert data.targets.tolist() == data.subset([0, 1]).targets.tolist() == [[1.5], [-2]]
    text = text.replace("A;1,5", "A;0,5")
    with pytest.raises(ValueError, match="line 3, column 'when': must increase within a sequence, got 0,5"):
        read_csv(written(tmp_path, text), id="run", time="when", label="target", decimal=",")


@pytest.mark.parametrize("text", ["1_000", "inf"])
def test_numbers_of_python_alone_are_no_times_or_targets(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, f"run,when,target,p\nA,{text},{text},1\nB,0,2,3\n")
    with pytest.raises(ValueError, match="line 2, column 'when': must be a number or an ISO date, got"):
        read_csv(path, id="run", time="when", label="target")
    data = read_csv(path, id="run", ignore=["when"], label="target")
    with pytest.raises(ValueError, match=r"targets must be finite numbers, got \['.*'\] for A"):
        _ = data.targets


def test_one_row_per_step(tmp_path: Path) -> None:
    data = read_csv(written(tmp_path, STEPS), id="run", time="when", label="kind")
    assert [sequence.tolist() for sequence in data.x] == [[[1, 2], [5, 6]], [[3, 4]]]
    assert (data.labels, data.names, data.feature_names) == (["x", "y"], ["A", "B"], ["p", "q"])
    tagged = read_csv(
        written(tmp_path, STEPS), label="kind", per_step=True, ignore=["run", "when"], features=["q", "p"]
    )
    assert tagged.labels == [["x", "y", "x"]]
    assert tagged.x[0].tolist() == [[2, 1], [4, 3], [6, 5]]
    windows = tagged.windows(2)
    assert windows.labels == [["x", "y"], ["x"]]
    assert [len(sequence) for sequence in windows.x] == [2, 1]


@loop_over(
    ("text", "delimiter", "header"),
    [
        ("1,2,a\n3,4,b\n", ",", False),
        ("p;q;r\n1;2;a\n", ";", True),
        ("1\t2\ta\n3\t4\tb\n", "\t", False),
        ("p|q|r\n1|2|a\n", "|", True),
        ("\ufeff1,2,a\r\n\r\n3,4,b\r\n", ",", False),
        ('"p, q",q,r\n1,2,a\n', ",", True),
    ],
)
def test_delimiter_and_header_are_detected_and_stated(tmp_path: Path, text: str, delimiter: str, header: bool) -> None:
    table = CsvTable(written(tmp_path, text))
    assert (table.delimiter, table.has_header) == (delimiter, header)
    data = read_csv(written(tmp_path, text), label="r" if header else "3")
    assert len(data.x[0]) == 2
    assert ("a header" if header else "no header") in data.source


def test_a_name_that_is_requested_makes_the_first_row_a_header(tmp_path: Path) -> None:
    data = read_csv(written(tmp_path, "0,1,class\n0.5,0.25,a\n0.5,0.75,b\n"), label="class")
    assert data.labels == ["a", "b"]
    assert data.classes == ["a", "b"]


def test_labels_that_are_numbers_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    text = "".join(f"{k},{label}\n" for k, label in enumerate(("10", "9", "-1", "b", "a")))
    assert read_csv(written(tmp_path, text), label="2").classes == ["-1", "9", "10", "a", "b"]


def test_compressed_spaced_and_european_tables(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(ROWS.encode()))
    assert len(read_sequences(path, label="label").x[0]) == 4
    spaced = read_csv(written(tmp_path, "  1  2.5 a\n 3  4.5  b\n"), delimiter=" ", label="3")
    assert spaced.x[0].tolist() == [[1], [2.5]]
    comma = read_csv(written(tmp_path, "1,5;2;a\n3;4,5;b\n"), delimiter=";", decimal=",", label="3")
    assert comma.x[1].tolist() == [[3], [4.5]]


def test_rows_may_end_early_if_that_is_stated(tmp_path: Path) -> None:
    data = read_csv(written(tmp_path, "a,1,2,3,4\nb,1,2,,\nc,5,6\n"), label="1", ragged=True, features_per_step=2)
    assert [len(sequence) for sequence in data.x] == [2, 1, 1]
    assert str(data).endswith("3 sequences of 1 to 2 steps, 2 features")


def test_gaps_are_filled_as_stated(tmp_path: Path) -> None:
    path = written(tmp_path, "label,a,b,c,d\nu,1,?,NA,4\nv,,2,,3\n")
    assert read_csv(path, label="label", fill="linear").x[0].ravel().tolist() == [1, 2, 3, 4]
    previous = read_csv(path, label="label", fill="previous")
    assert [sequence.ravel().tolist() for sequence in previous.x] == [[1, 1, 1, 4], [2, 2, 2, 3]]
    assert "missing values filled (previous)" in previous.source


@loop_over(
    ("text", "options", "message"),
    [
        ("", {}, "t.csv must have at least one line, got an empty file"),
        ("\n \n", {}, "t.csv must have at least one row, got blank lines only"),
        ("a,b\n", {"header": True}, "t.csv must have a row after the header, got none"),
        (b"a,b\n1,\xff\n", {}, "t.csv, line 2: must be UTF-8, got the byte 0xff"),
        (b"a,b\n1,\0\n", {}, "t.csv, line 2: must be text, got a zero byte"),
        ("a,b\n1,2\n3,4,5\n", {"header": True}, "t.csv, line 3: must have 2 cells, got 3"),
        ("a,b\n1,2\n3\n", {"header": True}, "t.csv, line 3: must have 2 cells, got 1"),
        ("a,b\n1,2\n3,x\n", {}, "t.csv, line 3, column 'b': must be a number, got 'x'"),
        ("a,b\n1,2\n3,1_0\n", {}, "t.csv, line 3, column 'b': must be a number, got '1_0'"),
        ("a,b\n1,2\n3,inf\n", {}, "t.csv, line 3, column 'b': must be a number, got 'inf'"),
        (
            "a,b,c\n1,2,3\n4,nan,5\n",
            {},
            "t.csv, line 3, column 'b': must be a number, got a missing value: "
            "fill='linear' or fill='previous' replaces missing values",
        ),
        (
            "1,2,3\n4,5,\n",
            {},
            "t.csv, line 2, column 3: must be a number, got a missing value (ragged=True: sequences may end before the "
            "last column): fill='linear' or fill='previous' replaces missing values",
        ),
        ("a,b\n1,\n3,4\n", {"label": "b"}, "t.csv, line 2, column 'b': must be a label, got an empty cell"),
        ("a,b\n1,2\n", {"label": "c"}, "label must name a column of {path} (comma, a header), 'a', 'b', got 'c'"),
        (
            "1,2\n3,4\n",
            {"label": "5"},
            "label must be the number of a column of {path} (comma, no header), '1', '2', got '5'",
        ),
        ("a,b,a\n1,2,3\n", {}, "t.csv, line 1: columns must have different names, got 'a' for columns 1 and 3"),
        ("a,\n1,2\n", {"header": True}, "t.csv, line 1: column 2 must have a name, got an empty cell"),
        (
            "1,5;2,5\n3,5;4,5\n",
            {},
            "t.csv: delimiter must be passed, got several that are possible, comma and semicolon",
        ),
        ('a,b\n"1,2\n', {"header": True}, "t.csv, line 2: must be a CSV file: unexpected end of data"),
        (
            "1,2,3\n",
            {"features_per_step": 2},
            "features_per_step must divide the 3 columns of features of {path} (comma, no header), got 2",
        ),
        (
            "a,b\n1,2\n",
            {"label": "a", "id": "a"},
            "label, id, time, features and ignore must name different columns, got 'a' twice",
        ),
        (
            "a,b\n1,2\n",
            {"label": "a", "ignore": ["b"]},
            "{path} (comma, a header) must have a column of features, got none besides label, id and time",
        ),
        ("a,b\n1,2\n", {"per_step": True}, "label must be passed with per_step=True, got none"),
        ("a,b\n1,2\n", {"fill": "zero"}, "fill must be one of None, 'previous', 'linear', got 'zero'"),
        (
            STEPS + "A,2,y,7,8\n",
            {"id": "run", "label": "kind", "time": "when"},
            "t.csv, line 5, column 'kind': must be 'x' as in the sequence's other rows, got 'y': "
            "per_step=True reads one label per step",
        ),
        (
            STEPS + "A,1,x,7,8\n",
            {"id": "run", "label": "kind", "time": "when"},
            "t.csv, line 5, column 'when': must increase within a sequence, got 1, which is not after the row before",
        ),
        (
            STEPS + "A,soon,x,7,8\n",
            {"id": "run", "label": "kind", "time": "when"},
            "t.csv, line 5, column 'when': must be a number or an ISO date, got 'soon'",
        ),
        (
            STEPS + ",2,x,7,8\n",
            {"id": "run", "label": "kind", "time": "when"},
            "t.csv, line 5, column 'run': must be the identifier of a sequence, got an empty cell",
        ),
        (
            STEPS,
            {"id": "run", "label": "kind", "ragged": True},
            "ragged must be left out for one row per step, got True",
        ),
        (STEPS, {"time": "when"}, "time must be left out for one row per sequence, got 'when'"),
        (
            "k,v\nA,?\n",
            {"id": "k", "fill": "linear"},
            "t.csv, sequence 'A': a feature must have at least one value in every sequence, got none",
        ),
        ("a,1\nb,\n", {"label": "1", "ragged": True}, "t.csv, line 2: must have at least one step, got 0 values"),
    ],
)
def test_a_mistake_is_one_error_with_file_line_and_column(
    tmp_path: Path, text: str | bytes, options: dict[str, Any], message: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is compared below
        read_csv(path, **options)
    assert str(error.value) == message.replace("{path}", str(path)).replace(
        "t.csv", str(path), message.startswith("t.csv")
    )


def test_files_are_read_by_their_extension(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"x\.json must be a \.csv, \.tsv, \.txt, \.dat, \.ts file, each also compressed"
    ):
        read_sequences(tmp_path / "x.json")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*x\.csv"):
        read_sequences(tmp_path / "x.csv")
    with pytest.raises(TypeError, match=r"options of .*t\.csv must be of label, id, .*fill, got lengths"):
        read_sequences(written(tmp_path, ROWS), lengths="n")


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    content = gzip.compress((ROWS + "up,1,2,3,4\n" * 100).encode())
    for damaged in (content[:-20], b"plain text\n"):
        with pytest.raises(ValueError, match=r"t\.csv\.gz, line \d+: must be a gzip file, got damaged data"):
            read_csv(written(tmp_path, damaged, "t.csv.gz"), label="label")


def test_a_split_has_every_class_in_both_parts_and_depends_on_the_seed_alone(tmp_path: Path) -> None:
    text = "".join(f"{k},{'ab'[k % 3 == 0]}\n" for k in range(30))
    data = read_csv(written(tmp_path, text), label="2")
    first, second = data.split(0.2, seed=3)
    assert (first.counts(), second.counts()) == ({"a": 16, "b": 8}, {"a": 4, "b": 2})
    assert sorted(float(sequence[0, 0]) for sequence in first.x + second.x) == list(range(30))
    assert data.split(0.2, seed=3)[1].names == second.names != data.split(0.2, seed=4)[1].names


def test_labels_that_are_numbers_are_targets(tmp_path: Path) -> None:
    data = read_csv(written(tmp_path, "y,a,b\n1.5,1,2\n-2,3,4\n"), label="y")
    assert data.targets.tolist() == [[1.5], [-2]]
    stepwise = read_csv(written(tmp_path, "y,a\n1,1\n2,3\n"), label="y", per_step=True)
    assert [entry.tolist() for entry in stepwise.targets] == [[[1], [2]]]
    for text in ("y,a\nx,1\n", "y,a\ninf,1\n"):
        wrong = read_csv(written(tmp_path, text), label="y")
        with pytest.raises(
            ValueError, match=r"t\.csv .*: targets must be finite numbers, got \['(x|inf)'\] for line 2"
        ):
            wrong.targets  # noqa: B018 - a property


@pytest.mark.parametrize(
    ("file", "options", "lengths", "features", "classes"),
    [
        ("digits/digits.csv.gz", {"label": "65", "features_per_step": 8}, {8}, 8, 10),
        (
            "ts/Daphnet/S06R02E0.csv",
            {"label": "is_anomaly", "per_step": True, "time": "timestamp"},
            {7040},
            9,
            1,
        ),
    ],
)
def test_tables_of_the_archives(
    file: str, options: dict[str, Any], lengths: set[int], features: int, classes: int
) -> None:
    path = Path(__file__).parents[3] / "shared" / "data" / file
    if not path.exists():
        pytest.skip("../shared/data is missing")
    data = read_sequences(path, **options)
    assert ({len(sequence) for sequence in data.x}, data.input_size, len(data.classes)) == (lengths, features, classes)
