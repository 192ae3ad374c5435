"""Run mutants of functions in forks of one process that has loaded everything.

Most of a short trial is the import of the package and the collection of the tests. A mutant inside a function needs
neither: the process imports and collects once, and forks for each mutant; the child replaces the code object of the
function, wherever the function was imported to, and runs the selected tests. That is exact only if nothing depends on
an earlier call of the function: mutants of lines that imports execute, and of code outside functions, are returned, to
be run with a new import.
"""

import gc
import json
import mmap
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from changed_code import Changes, changes_of_functions, live_functions
from line_map import warm_up
from mutant_run import PACKAGE, PYTEST_OPTIONS, Outcome, Recorder, enter, fork, kill, outcome_of

NEEDS_IMPORT = "needs import"  # in place of an outcome: this mutant needs a new import
PATIENCE, FACTOR = 20.0, 10.0  # seconds that any test has, and multiple of its time without a change


class WarmTrial(NamedTuple):
    """One changed file and its tests, in order."""

    key: str
    file: str
    text: Callable[[], str]
    tests: list[str]


def run_warm(
    trials: Sequence[WarmTrial], seconds: Mapping[str, float], place: Path, jobs: int
) -> Iterator[tuple[str, Outcome]]:
    """Yield the key and outcome of each trial; an outcome of kind `NEEDS_IMPORT` asks for a new import."""
    if not trials:
        return
    read, write = os.pipe()
    server = fork(place, partial(_serve, trials, seconds, place, jobs, write), "server.json")
    os.close(write)
    try:
        with os.fdopen(read, encoding="utf-8") as results:
            for line in results:
                key, *outcome = json.loads(line)
                yield key, Outcome(*outcome)
        os.waitpid(server, 0)
    except BaseException:
        kill(server)
        raise
    if not (place / "server.json").exists():
        raise RuntimeError(f"the process of warm trials failed: {(place / 'log').read_text('utf-8')[-2000:]}")


def _serve(trials: Sequence[WarmTrial], seconds: Mapping[str, float], place: Path, jobs: int, write: int) -> int:
    enter(place)
    files = sorted({test.split("::")[0] for trial in trials for test in trial.tests})
    with os.fdopen(write, "w", encoding="utf-8") as results:
        server = Server(trials, seconds, place, jobs, results)
        code = pytest.main([*PYTEST_OPTIONS, "--capture=sys", *files], [server, server.recorder])
    if code != pytest.ExitCode.OK:
        raise RuntimeError(f"pytest ended with {code!r}")
    return 0


class Server:
    """A pytest plugin that runs, in place of the collected tests, the trials."""

    def __init__(
        self, trials: Sequence[WarmTrial], seconds: Mapping[str, float], place: Path, jobs: int, results: Any
    ) -> None:
        self.trials, self.seconds, self.place, self.results = trials, seconds, place, results
        self.recorder = Recorder()
        self.slots = list(range(jobs))
        self.progress = mmap.mmap(-1, jobs * 4)  # number of the test that each slot runs
        self.running: dict[int, _Running] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the trials."""
        warm_up()
        for file in {trial.file for trial in self.trials}:
            import_module(".".join(["glasscell", *Path(file.removesuffix("/__init__.py")).with_suffix("").parts]))
        items = {item.nodeid: item for item in session.items}
        gc.collect()
        gc.unfreeze()  # the tests have excluded themselves, and the package, from what `get_objects` returns
        live = live_functions(self.place / PACKAGE)
        gc.freeze()
        for trial in self.trials:
            changes = changes_of_functions(self.place / PACKAGE / trial.file, trial.text(), live)
            if changes is None:
                self._report(trial.key, Outcome(NEEDS_IMPORT, "", "", 0.0))
                continue
            while not self.slots:
                self._wait()
            slot = self.slots.pop()
            self._set(slot, 0)
            begin, name = time.monotonic(), f"report-{slot}.json"
            pid = fork(self.place, partial(self._child, trial, changes, items, slot), name)
            self.running[pid] = _Running(trial, slot, begin, begin, 0)
        while self.running:
            self._wait()
        return True

    def _child(
        self, trial: WarmTrial, changes: Changes, items: dict[str, pytest.Item], slot: int
    ) -> tuple[str, str, str]:
        os.environ["PYTEST_DEBUG_TEMPROOT"], server = str(self._temporary(slot)), os.getppid()
        for functions, code in changes:
            for function in functions:
                function.__code__ = code
        for number, (item, following) in enumerate(pairwise([*(items[test] for test in trial.tests), None])):
            if os.getppid() != server:
                raise SystemExit("the process that started this one has ended")
            self._set(slot, number)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.recorder.failure is not None:
                return self.recorder.failure
        return "survived", "", ""

    def _wait(self) -> None:
        """Report the trials that ended, or whose test takes too long."""
        time.sleep(0.005)
        for pid, run in list(self.running.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            now, number = time.monotonic(), int.from_bytes(self.progress[4 * run.slot : 4 * run.slot + 4], "little")
            if not done and number != run.number:
                self.running[pid] = run._replace(number=number, since=now)
            elif not done and now - run.since > PATIENCE + FACTOR * self.seconds[run.trial.tests[number]]:
                kill(pid)
                done, status = pid, None
            if done:
                del self.running[pid]
                self.slots.append(run.slot)
                outcome = outcome_of(self.place, status, now - run.begin, f"report-{run.slot}.json")
                if outcome.how in ("time", "crash"):
                    outcome = outcome._replace(test=run.trial.tests[number])
                self._report(run.trial.key, outcome)
                shutil.rmtree(self._temporary(run.slot), ignore_errors=True)

    def _report(self, key: str, outcome: Outcome) -> None:
        print(json.dumps([key, *outcome]), file=self.results, flush=True)

    def _set(self, slot: int, number: int) -> None:
        self.progress[4 * slot : 4 * slot + 4] = number.to_bytes(4, "little")

    def _temporary(self, slot: int) -> Path:
        path = self.place / "tmp" / str(slot)
        path.mkdir(parents=True, exist_ok=True)
        return path


class _Running(NamedTuple):
    trial: WarmTrial
    slot: int
    begin: float
    since: float  # when the present test began
    number: int  # of the present test
