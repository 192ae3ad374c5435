"""Laws of reading a series: every value, step and gap of the file; mistakes are named by file, line and column."""

import gzip
import re

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.data import read_series
from glasscell.data.series.times import time_axis


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text, encoding="utf-8"):
        (tmp_path / "s.csv").write_bytes(text.encode(encoding))
        return "s.csv"

    return write


def test_a_file(write):
    series = read_series(write("t,a,b\n2,1.5,-3\n4, 2e1 ,.5\n6,+3.,7\n"), ["b", "a"], time="t")
    assert series.values.tolist() == [[-3, 1.5], [0.5, 20], [7, 3]]
    assert series.names == ("b", "a")
    assert [series.label(k) for k in range(5)] == ["2", "4", "6", "8", "10"]
    assert read_series("s.csv", ["a"]).label(7) == "7"


def test_decimal_commas_and_a_byte_order_mark(write):
    text = 't;"a b"\r\n2024-01-31;1,5\r\n2024-02-29;"2,25"\r\n2024-03-31;-3\r\n'
    series = read_series(write(text, "utf-8-sig"), ["a b"], time="t", decimal=",")
    assert series.values.ravel().tolist() == [1.5, 2.25, -3]
    assert series.label(3) == "2024-04-30"


@loop_over(
    ("times", "step", "following"),
    [
        (["1749", "1750"], "1", "1751"),
        (["0.5", "0.75"], "0.25", "1"),
        (["1949-11", "1949-12"], "1 month", "1950-01"),
        (["2020-01-31", "2020-02-29"], "1 month", "2020-03-31"),
        (["2020-01-01", "2021-01-01"], "12 months", "2022-01-01"),
        (["19580329", "19580405"], "7 days", "19580412"),
        (["2024-02-28", "2024-02-29"], "1 day", "2024-03-01"),
        (["2024-01-01T23:00", "2024-01-01T23:30"], "30 minutes", "2024-01-02T00:00"),
        (["2024-03-31T00:00+01:00", "2024-03-31T04:00+02:00"], "3 hours", "2024-03-31T06:00+01:00"),
        (["2024-01-01 23:00:00", "2024-01-02 00:00:00"], "1 hour", "2024-01-02 01:00:00"),
        (["2024-01-01T23:00Z", "2024-01-02T00:00Z"], "1 hour", "2024-01-02T01:00Z"),
        (["2023-02-28", "2023-03-31"], "1 month", "2023-04-30"),
        (["2023-09-30", "2023-12-30"], "3 months", "2024-03-30"),
        (["2023-07-29", "2023-12-29"], "5 months", "2024-05-29"),
        (["0999-11", "0999-12"], "1 month", "1000-01"),
        (["9999-11", "9999-12"], "1 month", "?"),
        (["9999-12-30", "9999-12-31"], "1 day", "?"),
    ],
)
def test_times_continue(times, step, following):
    axis, rows = time_axis(times, "line {}".format)
    assert (axis.description, axis.label(2), rows.tolist()) == (step, following, [0, 1])


@pytest.mark.parametrize("end", [28, 29, 30, 31])
def test_days_of_months_stay_as_they_are(end):
    months = [f"2023-{month:02d}" for month in (3, 5, 7, 8, 10, 12)]
    axis, rows = time_axis([f"{month}-{end:02d}" for month in months], "line {}".format)
    assert [axis.label(k) for k in rows] == [f"{month}-{end:02d}" for month in months]
    assert axis.label(11) == f"2024-02-{min(end, 29)}"


def test_missing_values_and_gaps_are_interpolated(write):
    path = write("t,a\n1,1\n2,\n4,7\n5,NaN\n6,9\n")
    series = read_series(path, ["a"], time="t", fill="linear")
    np.testing.assert_allclose(series.values.ravel(), [1, 3, 5, 7, 8, 9])
    assert series.filled == 3
    assert series.label(6) == "7"


def test_missing_values_and_gaps_are_filled_with_the_value_before(write):
    series = read_series(write("t,a\n1,1\n2,\n4,7\n5,NaN\n6,9\n7,\n"), ["a"], time="t", fill="previous")
    assert series.values.ravel().tolist() == [1, 1, 1, 7, 7, 9, 9]
    assert series.filled == 4


def test_rows_without_observations_are_the_future_of_known_inputs(write):
    series = read_series(write("a,k,p\n1,5,8\n2,6,9\n,7,\n,8,\n"), ["a"], known_exogenous=["k"], past_exogenous=["p"])
    assert (len(series), series.future_steps) == (2, 2)
    assert series.known_exogenous.ravel().tolist() == [5, 6, 7, 8]
    assert series.past_exogenous.ravel().tolist() == [8, 9]
    head = series.head(1)
    assert (len(head), head.future_steps, len(head.past_exogenous)) == (1, 0, 1)


def test_known_inputs_of_the_future_are_interpolated_too(write):
    path = write("a,k\n1,5\n2,6\n,\n,8\n")
    with pytest.raises(ValueError, match="line 4, column 'k': must have a value in every row, got 1 of 4 without"):
        read_series(path, ["a"], known_exogenous=["k"])
    series = read_series(path, ["a"], known_exogenous=["k"], fill="linear")
    assert series.known_exogenous.ravel().tolist() == [5, 6, 7, 8]


ERRORS = {
    "empty": ("", {}, "s.csv must have at least one line, got an empty file"),
    "blank lines": ("\n\n", {}, "s.csv must have at least one row, got blank lines only"),
    "no rows": ("a,b\n", {}, "s.csv must have a row after the header, got none"),
    "text": ("a,b\n1,2\ntwelve,3\n", {}, "s.csv, line 3, column 'a': must be a number, got 'twelve'"),
    "underscores": ("a\n1_000\n", {}, "s.csv, line 2, column 'a': must be a number, got '1_000'"),
    "infinity": ("a\ninf\n", {}, "s.csv, line 2, column 'a': must be a number, got 'inf'"),
    "decimal comma": (
        'a,b\n"1,5",2\n',
        {},
        "s.csv, line 2, column 'a': must be a number, got '1,5'; decimal=',' reads decimal commas",
    ),
    "decimal point": ("a\n1.5\n", {"decimal": ","}, "s.csv, line 2, column 'a': must be a number, got '1.5'"),
    "missing column": ("b,c\n1,2\n", {}, "columns must name a column of s.csv (comma, a header), 'b', 'c', got 'a'"),
    "two columns": ("a,a\n1,2\n", {}, "s.csv, line 1: columns must have different names, got 'a' for columns 1 and 2"),
    "cells": ("a,b\n1\n", {}, "s.csv, line 2: must have 2 cells, got 1"),
    "missing": (
        "a\n1\nNA\n3\n",
        {},
        "s.csv, line 3, column 'a': must have a value in every row, got 1 of 3 without; "
        "fill='linear' or fill='previous' fills them",
    ),
    "edge": (
        'a\n""\n1\n3\n',
        {"fill": "linear"},
        "s.csv, line 2, column 'a': must begin and end with a value for fill='linear'",
    ),
    "begin": (
        'a\n""\n1\n3\n',
        {"fill": "previous"},
        "s.csv, line 2, column 'a': must begin with a value for fill='previous'",
    ),
    "end": (
        "a\n1\nNA\n3\nNA\nNA\n",
        {"fill": "linear"},
        "s.csv, line 5, column 'a': must begin and end with a value for fill='linear'; "
        "rows without observations at the end are for known_exogenous columns",
    ),
    "no values": ("a,b\n,1\n,2\n", {}, "s.csv, column 'a': must have values, got none"),
    "gap": (
        "t,a\n2024-01,1\n2024-02,1\n2024-04,2\n",
        {"time": "t"},
        "s.csv, line 4, column 't': must have a row for every step of 1 month, got a gap before '2024-04'; "
        "fill='linear' or fill='previous' fills it",
    ),
    "unequal": (
        "t,a\n2024-01-01,1\n2024-01-03,1\n2024-01-06,2\n",
        {"time": "t"},
        "s.csv, line 4: times must have equal steps, of 2 days here, got '2024-01-06' after '2024-01-03'",
    ),
    "order": ("t,a\n3,1\n2,1\n", {"time": "t"}, "s.csv, line 3: times must increase, got '2' after '3'"),
    "repeated": ("t,a\n2,1\n2,1\n", {"time": "t"}, "s.csv, line 3: times must increase, got '2' after '2'"),
    "format": (
        "t,a\n2024-01-01,1\n03.01.2024,2\n",
        {"time": "t"},
        "s.csv, line 3: times must be numbers, YYYY-MM, YYYY-MM-DD, YYYYMMDD or ISO 8601 date-times, one format in a "
        "file, got '03.01.2024'",
    ),
    "underscores in times": (
        "t,a\n1_000,1\n1_001,2\n",
        {"time": "t"},
        "s.csv, line 2: times must be numbers, YYYY-MM, YYYY-MM-DD, YYYYMMDD or ISO 8601 date-times, one format in a "
        "file, got '1_000'",
    ),
    "no day": ("t,a\n2024-02-30,1\n", {"time": "t"}, "s.csv, line 2: times must be numbers, YYYY-MM"),
    "zones": (
        "t,a\n2024-01-01T00:00,1\n2024-01-01T01:00+00:00,2\n",
        {"time": "t"},
        "s.csv, line 2: times must all have a time zone, or none",
    ),
    "future gap": (
        "t,a,k\n1,1,1\n2,1,1\n3,,1\n5,,1\n",
        {"time": "t", "known_exogenous": ["k"]},
        "s.csv, line 5, column 't': must have a row for every step of 1, got a gap before '5'; "
        "fill='linear' or fill='previous' fills it",
    ),
    "twice": ("a,b\n1,2\n", {"time": "a"}, "columns must be different, got 'a', 'a'"),
    "quotes": ('a\n"1\n', {}, "s.csv, line 2: must be a CSV file: unexpected end of data"),
}


@pytest.mark.parametrize(("text", "options", "message"), ERRORS.values(), ids=list(ERRORS))
def test_mistakes(write, text, options, message):
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}"):
        read_series(write(text), ["a"], **options)


def test_the_delimiter_is_detected_and_columns_that_are_not_used_may_have_any_name(write):
    path = write(";a;b;b\n0;1.5;2;3\n1;2.5;2;3\n")
    assert read_series(path, ["a"]).values.ravel().tolist() == [1.5, 2.5]
    with pytest.raises(
        ValueError, match=r"^s.csv, line 1: columns must have different names, got 'b' for columns 3 and 4"
    ):
        read_series(path, ["b"])
    assert read_series(write("a,b\n1,2\n"), ["a"], delimiter=",").values.tolist() == [[1]]


def test_a_decimal_comma_is_no_delimiter(write):
    assert read_series(write("a\n1,5\n2,5\n"), ["a"], decimal=",").values.ravel().tolist() == [1.5, 2.5]
    assert read_series(write("a\tb\n1,5\t2\n"), ["b", "a"], decimal=",").values.tolist() == [[2, 1.5]]


def test_bytes_that_are_not_utf8(write):
    with pytest.raises(ValueError, match=r"^s.csv, line 3: must be UTF-8, got the byte 0xe4$"):
        read_series(write("a\n1\nä\n", "latin-1"), ["a"])


def test_a_compressed_file(write, tmp_path):
    path = tmp_path / "s.csv.gz"
    path.write_bytes(gzip.compress(b"a\n1\n2.5\n"))
    assert read_series(path, ["a"]).values.tolist() == [[1], [2.5]]


def test_a_missing_file(write):
    with pytest.raises(FileNotFoundError):
        read_series("none.csv", ["a"])


def test_the_representation_is_one_line(write):
    path = write("t,a,h,w\n2024-01,1,0,5\n2024-02,,1,6\n2024-03,2,0,7\n2024-04,,1,\n")
    series = read_series(path, ["a"], time="t", known_exogenous=["h"], past_exogenous=["w"], fill="linear")
    assert repr(series) == (
        "Series(3 values of 'a'; 2024-01 to 2024-03; 1 known exogenous, future steps: 1; 1 past exogenous; "
        "missing values filled: 1)"
    )
    assert repr(read_series(path, ["h"])) == "Series(4 values of 'h')"
