"""One run of a sweep, where the executor runs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from glasscell.sweeps.rows import Row, plain_scalar
from glasscell.training.history import History

MAX_POINTS = 200  # of a learning curve
MAX_ERROR = 2000  # characters
HISTORY = "history"  # name among the scores under which a History is accepted


class Job:
    """A run: the training function with its setting and seed.

    An object, not a tuple or dict: Dask searches these for values of its graph.
    """

    __slots__ = ("seed", "setting", "train")

    def __init__(self, train: Callable[..., Any], setting: Mapping[str, Any], seed: int) -> None:
        self.train, self.setting, self.seed = train, setting, seed

    def __getstate__(self) -> tuple[Any, ...]:
        return self.train, self.setting, self.seed

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.train, self.setting, self.seed = state


def run(job: Job) -> Row:
    """Run the training function, and return the row; its errors are in the row."""
    row: Row = {
        "setting": dict(job.setting),
        "seed": job.seed,
        "status": "finished",
        "error": "",
        "seconds": 0.0,
        "scores": {},
    }
    start = time.perf_counter()
    try:
        returned = job.train(seed=job.seed, **deepcopy(dict(job.setting)))  # which it may change
        row["scores"], curve = _split(returned)
        if curve:
            row["curve"] = curve
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it is the result of the run
        row["status"], row["error"] = "failed", _described(error)
    row["seconds"] = time.perf_counter() - start
    return row


def _split(returned: Any) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Return the scores and the learning curve of what a training function returned."""
    if isinstance(returned, History):
        return last_scores(returned), curve_of(returned)
    if not isinstance(returned, Mapping):
        raise TypeError(f"train must return a mapping of scores or a History, got {returned!r:.100}")
    scores, curve = dict(returned), {}
    if isinstance(scores.get(HISTORY), History):
        curve = curve_of(scores.pop(HISTORY))
    for name in scores:
        if not isinstance(name, str):
            raise TypeError(f"train must return names of scores that are text, got {name!r:.100}")
    return {str(name): plain_scalar(f"score {name}", value) for name, value in scores.items()}, curve


def last_scores(history: History) -> dict[str, Any]:
    """Return the last measured value of each column of a history, the number of updates, and how it ended."""
    last: dict[str, Any] = {}
    for row in history.rows:
        last |= row
    scores = {name: plain_scalar(name, value) for name, value in last.items() if name != "update"}
    ends = {"target_reached": history.target_reached, "stopped_early": history.stopped_early}
    return {"updates": history.updates, **scores, **ends, "best_update": history.best_update}


def curve_of(history: History) -> dict[str, list[float]]:
    """Return the losses and scores of a history at its evaluations, or at all updates; at most `MAX_POINTS` of them."""
    rows = [row for row in history.rows if any(name.startswith("validation_") for name in row)] or history.rows
    if len(rows) > MAX_POINTS:
        rows = [rows[round(k * (len(rows) - 1) / (MAX_POINTS - 1))] for k in range(MAX_POINTS)]
    names = {name: None for row in rows for name in row if name in ("update", "loss") or name.startswith("validation_")}
    return {name: [float(row.get(name, float("nan"))) for row in rows] for name in names}


def _described(error: BaseException) -> str:
    """Return type and message of an error."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - whatever its class does
        message = ""
    return f"{type(error).__name__}: {message}"[:MAX_ERROR] if message else type(error).__name__
