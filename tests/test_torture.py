"""Short form of ``benchmarks/torture/fuzz.py``: files are determined by seed and number, and every fault is seen."""

import os
import sys
import warnings
from pathlib import Path

import pytest

import glasscell.limits

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
FILES = int(os.environ.get("GLASSCELL_FUZZED", "4"))  # of each kind
if not (BENCHMARKS / "torture").is_dir():
    pytest.skip("benchmarks are not part of an installed package", allow_module_level=True)
pytest.importorskip("resource", reason="the meter of the fuzzer needs resource limits, which this system does not have")
sys.path.insert(0, str(BENCHMARKS))
from torture import fuzz  # noqa: E402 - after the path is set
from torture.fuzzing.kinds import available, import_all  # noqa: E402
from torture.measuring import BYTES, Measurement, TooLongError, faults_of  # noqa: E402

MB = 2**20


def test_mutated_files_are_read_or_refused_by_one_line(tmp_path: Path) -> None:
    import_all()
    kinds = available()
    seeds = {name: kind.seeds(tmp_path / f"seed{kind.suffix}") for name, kind in kinds.items()}
    faults, refused = [], 0
    with warnings.catch_warnings(action="error"):
        for number in range(FILES * len(kinds)):
            name, content, reader = fuzz.mutant(kinds, seeds, 0, number)
            assert fuzz.mutant(kinds, seeds, 0, number) == (name, content, reader)
            path = tmp_path / f"mutant{kinds[name].suffix}"
            path.write_bytes(content)
            try:
                kinds[name].readers[reader](path)
            except Exception as error:  # noqa: BLE001 - that is what is tested
                refused += 1
                found = faults_of(Measurement(error, 0, 0, []), len(content), path.name)
                faults += [f"{name}, file {number}: {fault}" for fault in found]
    assert faults == []
    assert refused > len(kinds)


@pytest.mark.parametrize(
    ("measured", "fault"),
    [
        (Measurement(TooLongError(), 1, 0, []), "hang"),
        (Measurement(KeyError("x"), 0, 0, []), "undocumented error"),
        (Measurement(UnicodeDecodeError("utf-8", b"a", 0, 1, "a.csv"), 0, 0, []), "undocumented error"),
        (Measurement(ValueError("no file"), 0, 0, []), "error that is not one line"),
        (Measurement(ValueError("a.csv\nb"), 0, 0, []), "error that is not one line"),
        (Measurement(None, 1.3, 0, []), "time"),
        (Measurement(None, 0, BYTES + 25 * MB, []), "memory"),
        (Measurement(None, 0, 0, ["os.system"]), "executed"),
    ],
)
def test_a_fault_is_seen(measured: Measurement, fault: str) -> None:
    [found] = faults_of(measured, 2 * MB, "a.csv")
    assert found.startswith(fault)
    assert any(found.startswith(name) for name in fuzz.CLASSES)


def test_what_is_within_the_bounds_is_no_fault() -> None:
    refused = glasscell.limits.BudgetError("a.csv needs more memory")
    for error in (None, ValueError("a.csv is damaged"), refused):
        assert faults_of(Measurement(error, 1.1, BYTES + 23 * MB, []), 2 * MB, "a.csv") == []
