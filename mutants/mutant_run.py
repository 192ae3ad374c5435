"""Run tests against a copy of the repository with a changed file.

A test run spends most of its time on loading NumPy, pytest, Hypothesis and PyTorch. Therefore one process loads these,
but not glasscell, and forks for each trial: the child imports glasscell from the changed copy, which it checks, runs
pytest, and reports the first failure. Needs `os.fork`: Linux and macOS.
"""

import gc
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

# Trials run in parallel with one thread each; set before NumPy loads BLAS.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

import pytest  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("src/glasscell")
PYTEST_OPTIONS = ("-q", "--no-header", "--tb=short", "--assert=plain", "--exitfirst", "-p", "no:cacheprovider")
ADDRESS_SPACE = 16 << 30  # bytes per trial: larger allocations of a mutant fail


class Outcome(NamedTuple):
    """Result of a trial.

    `how` is "survived", or the kind of failure: an "assertion", another "exception" in a test, a failed "import" or
    collection, a "crash" of the process, or "time" for a time-out.
    """

    how: str
    test: str
    message: str
    seconds: float

    @property
    def survived(self) -> bool:
        """Return whether all tests passed."""
        return self.how == "survived"


@dataclass
class Trial:
    """Changed files, from path under src/glasscell to text, and the tests to run: test files, or single tests."""

    changed: Mapping[str, str]
    tests: Sequence[str]
    timeout: float
    subject: Any = None


class Recorder:
    """A pytest plugin that keeps the first failure, and runs only some tests, in their order, if they are named."""

    failure: tuple[str, str, str] | None = None

    def __init__(self, order: Sequence[str] = ()) -> None:
        self.order = {test: place for place, test in enumerate(order)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Select and sort the named tests; all are kept if none of the named ones is left."""
        if any(item.nodeid in self.order for item in items):
            items[:] = [item for item in items if item.nodeid in self.order]
            items.sort(key=lambda item: self.order[item.nodeid])

    def pytest_exception_interact(self, call: pytest.CallInfo[Any], report: pytest.CollectReport | pytest.TestReport):
        """Record a failed test or collection."""
        if self.failure is None:
            asserted = call.excinfo.errisinstance((AssertionError, pytest.fail.Exception))
            how = "assertion" if asserted else "exception" if isinstance(report, pytest.TestReport) else "import"
            self.failure = how, report.nodeid, f"{call.excinfo.typename}: {report.longreprtext.strip()[-600:]}"


class WorkingCopies:
    """Copies of package and tests, one for each parallel trial, with what Numba has compiled."""

    def __init__(self, folder: Path, number: int) -> None:
        self.paths = [folder / str(k) for k in range(number)]
        for path in self.paths:
            path.mkdir()
            shutil.copy2(ROOT / "pyproject.toml", path)
            for name in ("src", "tests", "benchmarks", "web", "docs"):
                shutil.copytree(ROOT / name, path / name, ignore=shutil.ignore_patterns("*.pyc"))

    def text(self, file: str) -> str:
        """Return the original text of a file."""
        return (self.paths[0] / PACKAGE / file).read_text("utf-8")


def preload() -> None:
    """Load the modules that are slow to load, if they are installed."""
    for name in ("numpy.testing", "safetensors.numpy", "hypothesis", "torch._dynamo", "onnx", "h5py"):
        try:
            importlib.import_module(name)
        except ImportError:
            print(f"{name.split('.')[0]} is not installed: tests that need it are skipped")
    gc.collect()
    gc.freeze()  # otherwise garbage collection of a child would visit, and so copy, the memory of PyTorch
    from hypothesis import HealthCheck, Phase, settings  # noqa: PLC0415

    # The first failure is enough: no shrinking, no database, no explanation.
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("trial", database=None, phases=phases, suppress_health_check=list(HealthCheck))
    settings.load_profile("trial")


def run(trials: Iterable[Trial], places: WorkingCopies) -> Iterator[tuple[Trial, Outcome]]:
    """Run trials in parallel, one per working copy; yield each when it ends."""
    if "glasscell" in sys.modules:
        raise RuntimeError("glasscell must not be loaded before the trials, which would test the loaded one")
    free, running = list(places.paths), {}
    trials = iter(trials)
    try:
        while True:
            while free and (trial := next(trials, None)) is not None:
                place = free.pop()
                originals = {file: (place / PACKAGE / file).read_text("utf-8") for file in trial.changed}
                _write(place, trial.changed)
                running[fork(place, partial(_in_child, place, trial))] = (trial, place, originals, time.monotonic())
            if not running:
                return
            ended = [done for pid, (trial, *_, start) in running.items() if (done := _ended(pid, trial, start))]
            if not ended:
                time.sleep(0.02)
            for pid, status in ended:
                trial, place, originals, start = running.pop(pid)
                _write(place, originals)
                shutil.rmtree(place / "tmp", ignore_errors=True)
                free.append(place)
                yield trial, outcome_of(place, status, time.monotonic() - start)
    finally:
        for pid in running:
            kill(pid)


def _ended(pid: int, trial: Trial, start: float) -> tuple[int, int | None] | None:
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        return pid, status
    if time.monotonic() - start > trial.timeout:
        kill(pid)
        return pid, None
    return None


def kill(pid: int) -> None:
    """Kill the child and its children, which are one process group."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _write(place: Path, files: Mapping[str, str]) -> None:
    for file, text in files.items():
        path = place / PACKAGE / file
        path.write_text(text, "utf-8")
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            compiled.unlink()  # Python compares only time and size


def outcome_of(place: Path, status: int | None, seconds: float, report: str = "report.json") -> Outcome:
    """Return the outcome that a fork left in its file, unless it was killed (no status) or crashed."""
    if status is None:
        return Outcome("time", "", f"still running after {seconds:.0f} s", seconds)
    try:
        how, test, message = json.loads((place / report).read_text("utf-8"))
    except (OSError, ValueError):
        return Outcome("crash", "", f"the process ended with status {status}", seconds)
    return Outcome(how, test, message, seconds)


def in_fork(place: Path, function: Callable[[], Any]) -> Any:
    """Return the result of a function that is called in a fork, which is in a working copy and may load glasscell."""
    os.waitpid(fork(place, lambda: (enter(place), function())[1]), 0)
    return json.loads((place / "report.json").read_text("utf-8"))


def fork(place: Path, function: Callable[[], Any], report: str = "report.json") -> int:
    """Call a function in a fork, which is a process group and leaves its result in a file; return its number."""
    (place / report).unlink(missing_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        result = json.dumps(function())
        (place / report).write_text(result, "utf-8")
    except BaseException:  # noqa: BLE001 - a fork must not return into its parent's code
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def enter(place: Path) -> None:
    """Make a working copy the folder, the source and the place of temporary files of this process."""
    log = os.open(place / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, hard))
    os.chdir(place)
    temporary = place / "tmp"
    temporary.mkdir(exist_ok=True)
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(temporary)
    os.environ["PYTHONPATH"] = str(place / "src")
    sys.path[:0] = [str(place / "src"), str(place)]  # as of `python -m pytest`: processes of tests import their modules


def _in_child(place: Path, trial: Trial) -> tuple[str, str, str]:
    enter(place)
    source = place / "src"
    sys.dont_write_bytecode = bool(trial.changed)  # a run without a change leaves the compiled tests to those after it
    try:
        import glasscell  # noqa: PLC0415
    except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
        return "import", "import glasscell", f"{type(error).__name__}: {error}"
    if not Path(glasscell.__file__).is_relative_to(source):
        raise RuntimeError(f"glasscell came from {glasscell.__file__} and not from the changed copy")
    recorder = Recorder([test for test in trial.tests if "::" in test])
    code = pytest.main([*PYTEST_OPTIONS, *dict.fromkeys(test.split("::")[0] for test in trial.tests)], [recorder])
    if recorder.failure is not None:
        return recorder.failure
    if code != pytest.ExitCode.OK:
        return "crash", "", f"pytest ended with {code!r}"
    return "survived", "", ""
