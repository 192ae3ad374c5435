"""Record which test executes which lines.

coverage.py traces one run of the tests. Its contexts are the tests, and the fixtures that tests share: what such a
fixture executes is attributed to every test that uses the fixture. What imports and the collection of the tests execute
has no context. Functions compiled by Numba are not seen: their mutants are run against all tests that call the package.

The map is kept in ``build/mutants/lines``, one file per test file, under a hash of the package's sources, of the files
that tests share, and of the test file. A changed test file is recorded again, a changed source file means a new map.
"""

import hashlib
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mutant_run import PACKAGE, PYTEST_OPTIONS, ROOT, in_fork
from selection import LineMap

TESTS = (
    *(f"tests/{name}" for name in ("core", "recurrent", "layers", "models", "stream", "training", "tasks")),
    *(
        f"tests/test_{name}.py"
        for name in ("models", "checkpoint", "checksum", "validation", "number_options", "import", "signatures")
    ),
    *(f"tests/trace/test_{name}.py" for name in ("recorder", "recorder_frames", "rnn_and_gru_traces", "report")),
    *("tests/test_atomic_files.py", "tests/weight_layouts"),
    *(
        f"tests/explain/test_{name}.py"
        for name in ("interventions", "intervention_passes", "rnn_and_gru_interventions")
    ),
)
FORMAT = 1  # of the records
KEPT = ROOT / "build" / "mutants" / "lines"
SLOW_FIXTURES = {"keras": 4.0}  # seconds of the import that the first test pays


def record(place: Path) -> LineMap:
    """Return the map of a working copy; only what is not kept is recorded, folder by folder."""
    shared = _hash([*sorted((place / PACKAGE).rglob("*.py")), *_helpers(place)])
    KEPT.mkdir(parents=True, exist_ok=True)
    lines = LineMap()
    for name in TESTS:
        kept = {
            file: KEPT / f"{FORMAT}-{shared}-{_hash([file])}-{file.stem}.json" for file in _test_files(place / name)
        }
        missing = [file for file in kept if not kept[file].exists()]
        if missing:
            begin = time.monotonic()
            failure = in_fork(place, partial(_record, place, missing, kept))
            if failure:
                sys.exit(f"all tests must pass without a change: {failure}")
            print(f"{name}: lines of {len(missing)} files in {time.monotonic() - begin:.0f} s", flush=True)
        for path in kept.values():
            lines.add(json.loads(path.read_text("utf-8")))
    return lines


def _test_files(path: Path) -> list[Path]:
    return sorted(path.rglob("test_*.py")) if path.is_dir() else [path]


def _helpers(place: Path) -> Iterator[Path]:
    yield place / "pyproject.toml"
    yield from (path for path in sorted((place / "tests").rglob("*.py")) if not path.name.startswith("test_"))


def _hash(paths: list[Path]) -> str:
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()[:16]


def _record(place: Path, files: list[Path], kept: dict[Path, Path]) -> str:
    """Run the tests of the files and write a record of each; return the first failure."""
    import coverage  # noqa: PLC0415 - only a new map needs it

    package = place / PACKAGE
    tracer = coverage.Coverage(data_file=None, config_file=False, source=[str(package)])
    recorder = LineRecorder(tracer)
    tracer.start()
    code = pytest.main([*PYTEST_OPTIONS, *map(str, files)], [recorder])
    tracer.stop()
    if code != pytest.ExitCode.OK:
        return f"{code!r}\n{(place / 'log').read_text('utf-8')[-3000:]}"
    contexts, data = defaultdict(lambda: defaultdict(int)), tracer.get_data()
    for path in data.measured_files():
        file = str(Path(path).relative_to(package))
        for line, names in data.contexts_by_lineno(path).items():
            for name in names:
                contexts[name][file] |= 1 << line
    imported = {file: hex(mask) for file, mask in contexts[""].items()}
    of_files = {str(path.relative_to(place)): {} for path in files}
    for test, (seconds, fixtures) in recorder.tests.items():
        masks = contexts[test]
        for name in fixtures:
            for file, mask in contexts.get(f"fixture {name}", {}).items():
                masks[file] |= mask
        of_files[test.split("::")[0]][test] = seconds, {file: hex(mask) for file, mask in masks.items()}
    for path in files:
        tests = of_files[str(path.relative_to(place))]
        kept[path].write_text(json.dumps({"tests": tests, "imported": imported}), "utf-8")
    return ""


class LineRecorder:
    """A pytest plugin that tells coverage.py which test or shared fixture runs."""

    def __init__(self, tracer: Any) -> None:
        self.tracer, self.context = tracer, ""
        self.tests: dict[str, tuple[float, list[str]]] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out tests of pages and of memory: a browser takes more than a trial may, and the tracer takes some."""
        items[:] = [item for item in items if not ({"browser", "tracemalloc"} & _names(item))]

    def pytest_collection_finish(self) -> None:
        """Do here what is done before the first test of a mutant, too."""
        warm_up()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        """Attribute what a test executes to it."""
        self._switch(item.nodeid)
        begin = _cpu_seconds()
        try:
            return (yield)
        finally:
            seconds = _cpu_seconds() - begin
            self._switch("")
            fixtures = list(getattr(item, "fixturenames", ()))
            seconds = max(seconds, *(SLOW_FIXTURES.get(name, 0.0) for name in ["", *fixtures]))
            self.tests[item.nodeid] = round(seconds, 4), fixtures

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Any:
        """Attribute what a shared fixture executes to it."""
        if fixturedef.scope == "function":
            return (yield)
        test = self.context
        self._switch(f"fixture {fixturedef.argname}")
        try:
            return (yield)
        finally:
            self._switch(test)

    def _switch(self, context: str) -> None:
        self.context = context
        self.tracer.switch_context(context)


def _names(item: pytest.Item) -> set[str]:
    """Return the names of the fixtures and of the modules that a test uses."""
    code = getattr(getattr(item, "function", None), "__code__", None)
    return {*getattr(item, "fixturenames", ()), *(() if code is None else code.co_names)}


def _cpu_seconds() -> float:
    """Return the seconds of this process and its children, which do not depend on what else the machine does."""
    return sum(os.times()[:4])


def warm_up() -> None:
    """Import and load what is kept in memory once it is used: the compiled functions."""
    from glasscell.core import engines, optimizers  # noqa: PLC0415
    from glasscell.core.packages import is_installed  # noqa: PLC0415

    if is_installed("numba") and engines.compiles_updates(None):
        from glasscell.core.numba_engine import kernels, stream_step  # noqa: PLC0415

        for char in "fd":
            kernels.compile_kernels(char)
            optimizers.compiled_adam(char)
            stream_step.compiled_step(char)
