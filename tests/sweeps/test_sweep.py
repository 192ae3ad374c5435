"""Laws of `gc.sweep`: rows in the order of the grid, the same from every executor, and one error for each mistake."""

import functools
import io
import itertools
import math
import sys
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import sweep_functions as functions
from sweep_functions import without_seconds

import glasscell as gc
from glasscell.sweeps import SweepError, SweepInterrupted

GRID = {"width": [3, 1, 2], "rate": (0.5, 0.25)}


def test_rows_are_in_the_order_of_the_grid():
    result = gc.sweep(functions.scores, seeds=[5, 2], **GRID)
    expected = [(w, r, seed) for w, r, seed in itertools.product(*GRID.values(), [5, 2])]
    assert [(*row["setting"].values(), row["seed"]) for row in result.rows] == expected
    assert result.is_complete
    assert not result.failures
    assert len(result) == 12
    assert result.settings == [{"width": w, "rate": r} for w, r in itertools.product(*GRID.values())]


def test_scores_are_those_of_the_function_and_without_numpy():
    row = gc.sweep(functions.scores, seeds=1, width=np.arange(1, 2), rate=[np.float32(0.1)]).rows[0]
    direct = functions.scores(0, 1, float(np.float32(0.1)))
    for name, value in row["scores"].items():
        assert type(value) in (int, float, bool, str, type(None)), name
        assert value == direct[name] or (name == "nan" and math.isnan(value)), name
    assert math.copysign(1, row["scores"]["zero"]) == -1
    assert row["scores"]["solved"] is bool(direct["solved"])
    assert row["setting"] == {"width": 1, "rate": float(np.float32(0.1))}
    assert type(row["setting"]["width"]) is int
    assert row["seconds"] >= 0


def test_a_grid_without_names_has_one_setting():
    result = gc.sweep(functions.scores, seeds=3)
    assert [(row["setting"], row["seed"]) for row in result.rows] == [({}, 0), ({}, 1), ({}, 2)]


def test_lists_and_tuples_are_passed_as_they_are():
    def train(seed, lags):
        return {"kind": type(lags).__name__, "sum": sum(lags)}

    result = gc.sweep(train, seeds=1, lags=[(12, 1), [3]])
    assert [row["scores"] for row in result.rows] == [{"kind": "tuple", "sum": 13}, {"kind": "list", "sum": 3}]


def test_failures_are_rows():
    result = gc.sweep(functions.odd_seeds_fail, seeds=4, width=[1, 2])
    assert [row["status"] for row in result.rows] == ["finished", "failed"] * 4
    assert {row["error"] for row in result.failures} == {
        "ArithmeticError: seed 1 is odd",
        "ArithmeticError: seed 3 is odd",
    }
    assert all(row["scores"] == {} for row in result.failures)
    first = result.summary()[0]
    assert (first.finished, first.failed, first.scores["width"].count) == (2, 2, 2)


@pytest.mark.parametrize(
    ("returned", "error"),
    [
        ([1], "TypeError: train must return a mapping of scores or a History, got [1]"),
        (None, "TypeError: train must return a mapping of scores or a History, got None"),
        ({1: 2}, "TypeError: train must return names of scores that are text, got 1"),
        ({"loss": [1]}, "TypeError: score loss must be a number, text, truth value or None, got [1]"),
        ({"loss": 1j}, "TypeError: score loss must be a number, text, truth value or None, got 1j"),
    ],
)
def test_a_wrong_result_is_a_failure(returned, error):
    (row,) = gc.sweep(lambda seed: returned, seeds=1).rows
    assert (row["status"], row["error"]) == ("failed", error)


def test_errors_without_message_and_exits_are_failures():
    def train(seed):
        raise (KeyError, SystemExit)[seed]

    assert [row["error"] for row in gc.sweep(train, seeds=2).rows] == ["KeyError", "SystemExit"]


def test_a_history_is_scores_and_a_curve():
    result = gc.sweep(functions.history, seeds=2)
    for row in result.rows:
        history = functions.history(row["seed"])
        assert row["scores"]["validation_loss"] == history["validation_loss"][-1]
        assert row["scores"]["updates"] == 6
        assert row["curve"]["update"] == [2.0, 4.0, 6.0]
        assert row["curve"]["validation_loss"] == history["validation_loss"][1::2].tolist()


# Executors


def test_every_executor_gives_the_same_rows():
    expected = without_seconds(gc.sweep(functions.scores, seeds=3, **GRID))
    with ThreadPoolExecutor(3) as threads, ProcessPoolExecutor(2, get_context("fork")) as processes:
        for executor in (threads, processes, _Immediate(), _Backwards()):
            assert without_seconds(gc.sweep(functions.scores, seeds=3, executor=executor, **GRID)) == expected


class _Immediate:
    """An executor whose futures are done when they are returned."""

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future


class _Backwards:
    """An executor of another family: futures of one's own kind, which end in reverse order, in another thread."""

    def __init__(self):
        self._jobs = []

    def submit(self, function, *arguments):
        self._jobs.append((future := _OtherFuture(), function, arguments))
        if len(self._jobs) == 18:
            threading.Timer(0.01, self._run).start()
        return future

    def _run(self):
        for future, function, arguments in reversed(self._jobs):
            future.finish(function(*arguments))


class _OtherFuture:
    def __init__(self):
        self._callbacks, self._value, self._lock = [], None, threading.Lock()

    def finish(self, value):
        with self._lock:
            self._value = value
        for callback in self._callbacks:
            callback(self)

    def add_done_callback(self, callback):
        with self._lock:
            if self._value is None:
                self._callbacks.append(callback)
                return
        callback(self)

    def result(self):
        return self._value

    def cancel(self):
        return False


def test_loky_gives_the_same_rows(importable):
    loky = pytest.importorskip("loky")
    expected = without_seconds(gc.sweep(functions.scores, seeds=2, width=[1, 2]))
    executor = loky.ProcessPoolExecutor(1)
    try:
        assert without_seconds(gc.sweep(functions.scores, seeds=2, width=[1, 2], executor=executor)) == expected
    finally:
        executor.shutdown()


def test_a_worker_that_dies_ends_the_sweep_with_its_rows(tmp_path):
    file = tmp_path / "rows.jsonl"
    with (
        ProcessPoolExecutor(1, get_context("fork")) as executor,
        pytest.raises(SweepError, match="BrokenProcess") as error,
    ):
        gc.sweep(functions.dies, seeds=5, executor=executor, file=file)
    assert str(error.value).endswith(f"2 of 5 rows are kept in {file}: resume=True goes on")
    assert [row["seed"] for row in error.value.result.rows] == [0, 1]
    assert without_seconds(gc.sweeps.SweepResult.load(file)) == without_seconds(error.value.result)


def test_a_function_that_cannot_be_sent_to_processes(tmp_path):
    with (
        ProcessPoolExecutor(1, get_context("fork")) as executor,
        pytest.raises(TypeError, match=r"^train must be a function at the top level of a module, .*local object"),
    ):
        gc.sweep(lambda seed: {}, seeds=3, executor=executor, file=tmp_path / "rows.jsonl")
    assert not list(tmp_path.iterdir())


def test_an_executor_that_is_shut_down(tmp_path):
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(
        RuntimeError, match=r"^executor must accept functions, got a ThreadPoolExecutor that does not: "
    ):
        gc.sweep(functions.scores, seeds=2, executor=executor, file=tmp_path / "rows.jsonl")
    assert not list(tmp_path.iterdir())


def test_an_executor_that_is_shut_down_in_the_middle():
    executor = ThreadPoolExecutor(1)

    def train(seed):
        if seed == 1:
            executor.shutdown(wait=False, cancel_futures=True)
        return {"seed": seed}

    with pytest.raises(SweepError, match=r"the executor failed \(CancelledError\); 2 of 5 rows") as error:
        gc.sweep(train, seeds=5, executor=executor)
    assert [row["seed"] for row in error.value.result.rows] == [0, 1]


@pytest.mark.parametrize("in_threads", [False, True])
def test_an_interrupt_keeps_the_rows_and_cancels_the_others(tmp_path, in_threads):
    file, begun = tmp_path / "rows.jsonl", []

    def train(seed):
        begun.append(seed)
        if seed == 2:
            raise KeyboardInterrupt
        time.sleep(0.01 * (seed > 2))
        return {"seed": seed}

    with ThreadPoolExecutor(1) as pool, pytest.raises(SweepInterrupted) as error:
        gc.sweep(train, seeds=200, executor=pool if in_threads else None, file=file)
    assert str(error.value).startswith("the sweep was interrupted; ")
    assert str(error.value).endswith(f"of 200 rows are kept in {file}: resume=True goes on")
    rows = gc.sweeps.SweepResult.load(file).rows
    assert [row["seed"] for row in rows][:2] == [0, 1]
    assert without_seconds(error.value.result) == without_seconds(gc.sweeps.SweepResult.load(file))
    assert in_threads or begun == [0, 1, 2]
    assert len(begun) < 200


# Arguments


def train_a(seed, hidden_size, *, rate=1.0):
    return {}


def needs_more(seed, width, depth):
    return {}


BAD = [
    ({"train": 3}, TypeError, "train must be a function, got 3"),
    ({"seeds": 0}, ValueError, "seeds must be at least 1, got 0"),
    ({"seeds": 10**7}, ValueError, "a sweep must have at most 1,000,000 runs, got 10,000,000"),
    ({"seeds": 1001, "hidden_size": range(1000)}, ValueError, "a sweep must have at most 1,000,000 runs, got 1,001,"),
    ({"seeds": []}, ValueError, "seeds must have at least one value, got none"),
    ({"seeds": [1, 2, 1]}, ValueError, "seeds must be different values, got 1 twice"),
    ({"seeds": [-1]}, ValueError, "seeds must be at least 0, got -1"),
    ({"seeds": [0.5]}, TypeError, "seeds must be an integer, got 0.5"),
    ({"seeds": True}, TypeError, "seeds must be an integer, got True"),
    ({"seeds": "12"}, TypeError, "seeds must be a number or a list of values, got '12'"),
    ({"hidden_size": []}, ValueError, "hidden_size must have at least one value, got none"),
    ({"hidden_size": 16}, TypeError, "hidden_size must be a list of values, got 16"),
    ({"hidden_size": "16"}, TypeError, "hidden_size must be a list of values, got '16'"),
    ({"hidden_size": [16, np.int64(16)]}, ValueError, "hidden_size must be different values, got 16 twice"),
    ({"hidden_size": [gc.Adam()]}, TypeError, "hidden_size must be a number, text, truth value, None, or a list of"),
    ({"hiden_size": [1]}, TypeError, "train must accept hiden_size, got {module}.train_a("
     "seed, hidden_size, *, rate=1.0); did you mean hidden_size?"),
    ({"seed": [1]}, ValueError, "seed must not be a name of the grid: pass seeds"),
    ({"train": needs_more, "hidden_size": None, "width": [1]}, TypeError, "depth must be in the grid, because train"),
    ({"train": lambda width: {}, "hidden_size": None}, TypeError, "train must accept seed, got "),
    ({"executor": 4}, TypeError, "executor must be None or an executor of concurrent.futures, got 4"),
    ({"executor": ThreadPoolExecutor}, TypeError, "executor must be None or an executor of concurrent.futures, got <"),
    ({"resume": True}, ValueError, "resume=True needs file"),
    ({"retry_failed": True}, ValueError, "retry_failed=True needs resume=True"),
    ({"progress": 1}, TypeError, "progress must be True or False, got 1"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "error", "message"), BAD, ids=lambda value: value[:40] if isinstance(value, str) else ""
)
def test_a_wrong_argument_is_one_error(changes, error, message):
    arguments = {"train": train_a, "seeds": 2, "hidden_size": [1], **changes}
    arguments = {name: value for name, value in arguments.items() if value is not None}
    with pytest.raises(error) as raised:
        gc.sweep(arguments.pop("train"), **arguments)
    assert str(raised.value).startswith(message.format(module=__name__))


def test_names_of_functions():
    from glasscell.sweeps.grid import name_of  # noqa: PLC0415

    assert name_of(functions.scores) == "sweep_functions.scores"
    assert (
        name_of(functools.partial(functions.scores, 1, rate=np.float64(0.5))) == "sweep_functions.scores(1, rate=0.5)"
    )
    assert name_of(functools.partial(functions.scores, rate=2)) != name_of(functions.scores)
    name = name_of(functools.partial(functions.scores, optimizer=gc.Adam(), data=np.zeros(3)))
    assert name == "sweep_functions.scores(optimizer=<Adam>, data=<ndarray>)"
    assert name_of(gc.Adam(0.1).__class__) == "glasscell.core.optimizers.Adam"


def test_an_object_that_is_called_is_a_training_function():
    class Train:
        def __call__(self, seed, **setting):
            return {"sum": seed + sum(setting.values())}

    assert [row["scores"]["sum"] for row in gc.sweep(Train(), seeds=2, a=[1, 5]).rows] == [1, 2, 5, 6]


# Progress


def test_progress_has_failures_and_the_last_run(capsys):
    gc.sweep(functions.odd_seeds_fail, seeds=[0, 2, 1, *range(4, 402, 2)], progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("run   1 of 202   seed 0: width 1   0:0")
    assert any("run   3 of 202   seed 1: ArithmeticError: seed 1 is odd" in line for line in lines)
    assert lines[-1].startswith("run 202 of 202   seed 400: width 1   0:00 left")
    assert 25 <= len(lines) <= 35


def test_on_a_terminal_progress_is_a_bar(monkeypatch):
    pytest.importorskip("tqdm")
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    gc.sweep(functions.odd_seeds_fail, seeds=4, progress=True)
    assert "4/4" in terminal.getvalue()
    assert "2 failed" in terminal.getvalue()
    terminal.close()  # an error of the display does not end the sweep
    assert gc.sweep(functions.scores, seeds=3, progress=True).is_complete


def test_progress_escapes_control_characters(capsys):
    gc.sweep(lambda seed, name: {}, seeds=1, name=["\x1b[2J"], progress=True)
    assert "\x1b" not in capsys.readouterr().err


def test_progress_can_be_a_function(tmp_path):
    rows, file = [], tmp_path / "rows.jsonl"

    def report(row):
        rows.append((row["seed"], file.read_bytes().count(b'"seed":')))

    gc.sweep(functions.scores, seeds=3, progress=report, file=file)
    assert rows == [(0, 1), (1, 2), (2, 3)]
    gc.sweep(functions.scores, seeds=4, progress=report, file=file, resume=True)
    assert rows[3:] == [(3, 4)]


def test_an_interrupt_while_runs_are_submitted():
    class Slow(ThreadPoolExecutor):
        def submit(self, function, job):
            if job.seed == 2:
                raise KeyboardInterrupt
            return super().submit(function, job)

    with Slow(1) as executor, pytest.raises(SweepInterrupted, match="the sweep was interrupted; "):
        gc.sweep(functions.slow, seeds=4, executor=executor)
