"""Law: work and memory to read a table are linear in its rows and cells, and long cells add none but their bytes.

Work is counted, not timed: calls, into Python and into C, at most 20 per row and cell, or 40 where gaps are filled. The
seconds in SECURITY.md are these calls, each of about a tenth of a microsecond.
"""

import sys
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from case_loops import loop_over

from glasscell.data import read_csv, read_series, read_ts

N = 500
CALLS, MEMORY = 1_000, 2**18  # per file: calls, and bytes
CALLS_PER_CELL, CALLS_PER_FILLED_CELL = 20, 40  # and per row
BUFFER = 2**12  # bytes, at least, that one call reads

FEW = {"label": "kind"}
TABLES: dict[str, tuple[Callable[[int], str], Callable[[Path], Any], str]] = {  # text of n rows or cells, reader, name
    "rows": (lambda n: "a,b,kind\n" + "1,2.5,x\n" * n, partial(read_csv, **FEW), "t.csv"),
    "decimal commas": (lambda n: "a\n" + "1\n" * n, partial(read_csv, decimal=","), "t.csv"),
    "spaces": (lambda n: "a b\n" + "1 2\n" * n, partial(read_csv, delimiter=" "), "t.csv"),
    "blank rows": (lambda n: "a,b\n1,2\n" + "\n" * n, read_csv, "t.csv"),
    "columns": (lambda n: ",".join(f"a{k}" for k in range(n)) + ("\n" + ",".join("1" * n)) * 2, read_csv, "t.csv"),
    "labels": (lambda n: "a,kind\n" + "".join(f"1,{k}\n" for k in range(n)), partial(read_csv, **FEW), "t.csv"),
    "sequences": (lambda n: "id,a\n" + "".join(f"{k},1\n" for k in range(n)), partial(read_csv, id="id"), "t.csv"),
    "steps": (lambda n: "id,a\n" + "1,1\n" * n, partial(read_csv, id="id"), "t.csv"),
    "gaps in sequences": (
        lambda n: "id,a\n" + "".join(f"{k},1\n{k},\n" for k in range(n // 2)),
        partial(read_csv, id="id", fill="previous"),
        "filled.csv",
    ),
    "gaps in a sequence": (
        lambda n: "id,a\n" + "1,\n1,2\n" * (n // 2) + "1,1\n",
        partial(read_csv, id="id", fill="previous"),
        "filled.csv",
    ),
    "times": (
        lambda n: "t,a\n" + "".join(f"{k},1\n" for k in range(n)),
        partial(read_series, columns=["a"], time="t"),
        "t.csv",
    ),
    "missing times": (
        lambda n: "t,a\n" + "".join(f"{3 * k},1\n" for k in range(n)) + f"{3 * n - 2},1\n",
        partial(read_series, columns=["a"], time="t", fill="linear"),
        "filled.csv",
    ),
    "series": (lambda n: "@classLabel true a b\n@data\n" + "1,2:3,4:a\n" * n, read_ts, "t.ts"),
    "values of series": (lambda n: "@data\n" + ",".join("1" * n) + "\n", read_ts, "t.ts"),
    "dimensions": (lambda n: "@data\n" + ":".join("1" * n) + "\n", read_ts, "t.ts"),
    "gaps in series": (lambda n: "@data\n" + "1,?\n" * n, partial(read_ts, fill="linear"), "filled.ts"),
    "gaps in dimensions": (
        lambda n: "@data\n" + ":".join(["1,?"] * n) + "\n",
        partial(read_ts, fill="previous"),
        "filled.ts",
    ),
    "comments": (lambda n: "@data\n1,2\n" + "# x\n" * n, read_ts, "t.ts"),
    "classes": (
        lambda n: (
            f"@classLabel true {' '.join(f'c{k}' for k in range(n))}\n@data\n" + "".join(f"1:c{k}\n" for k in range(n))
        ),
        read_ts,
        "t.ts",
    ),
}
LONG: dict[str, tuple[Callable[[int], str], Callable[[Path], Any], str]] = {  # text with a cell of n characters
    "text": (lambda n: f"a,kind\n1,{'x' * n}\n2,y\n", partial(read_csv, **FEW), "t.csv"),
    "digits": (lambda n: f"a\n1.{'1' * n}\n2\n", read_csv, "t.csv"),
    "a name": (lambda n: f"{'a' * n}\n1\n2\n", read_csv, "t.csv"),
    "a comment": (lambda n: f"# {'a' * n}\n@data\n1,2\n", read_ts, "t.ts"),
    "a label": (lambda n: f"@classLabel true {'a' * n}\n@data\n1:{'a' * n}\n", read_ts, "t.ts"),
}


def calls_of(run: Callable[[], Any]) -> int:
    """Return the number of calls, into Python and into C."""
    count = 0

    def profile(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count


def peak_of(run: Callable[[], Any]) -> int:
    """Return the most bytes that it held at once."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def cells_of(text: str) -> int:
    """Return the number of rows and cells."""
    return 2 * text.count("\n") + sum(map(text.count, ",:; "))


def check_that_calls_and_memory_are_linear(name: str, folder: Path) -> None:
    make, read, file = TABLES[name]
    path, counts, per_cell = folder / file, [], CALLS_PER_FILLED_CELL if "filled" in file else CALLS_PER_CELL
    for n in (N, N, 4 * N):  # the first one imports modules
        path.write_text(make(n))
        counts.append(calls_of(lambda: read(path)))
    text = make(4 * N)
    assert counts[2] <= 4.04 * counts[1]
    assert counts[2] <= CALLS + per_cell * cells_of(text)
    assert peak_of(lambda: read(path)) <= 12 * len(text) + 500 * cells_of(text) + MEMORY


@loop_over("name", TABLES)
def test_calls_and_memory_are_linear_in_rows_and_cells(name: str, tmp_path: Path) -> None:
    check_that_calls_and_memory_are_linear(name, tmp_path)


@pytest.mark.parametrize("name", LONG)
def test_a_long_cell_takes_no_calls_but_those_that_read_its_bytes(name: str, tmp_path: Path) -> None:
    make, read, file = LONG[name]
    path, counts = tmp_path / file, []
    for n in (10, 10, 100_000):
        path.write_text(make(n))
        counts.append(calls_of(lambda: read(path)))
    assert counts[2] <= counts[1] + 100_000 // BUFFER
    assert peak_of(lambda: read(path)) <= 12 * path.stat().st_size + MEMORY


def test_the_law_sees_a_reader_that_compares_all_rows_with_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def quadratic(path: Path) -> None:
        lines = path.read_text().splitlines()
        assert [other for line in lines for other in lines if not other.startswith(line)]

    monkeypatch.setitem(TABLES, "quadratic", (TABLES["labels"][0], quadratic, "t.csv"))
    with pytest.raises(AssertionError, match=r"<= \(4\.04"):
        check_that_calls_and_memory_are_linear("quadratic", tmp_path)
