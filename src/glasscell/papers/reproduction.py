"""Run an experiment over several seeds, and describe what came out."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Self

from glasscell.manifest_files import finite_or_none
from glasscell.papers.experiment import Experiment, Row
from glasscell.papers.registry import find
from glasscell.sweeps.grid import Grid
from glasscell.sweeps.running import sweep

TEXTS = ("name", "paper", "claim", "paper_figure", "criterion", "remark")  # of an experiment


@dataclass(frozen=True)
class Reproduction:
    """The rows of an experiment, its outcome, and all that is needed to read them; a JSON object.

    Attributes
    ----------
    name, paper, claim, paper_figure, criterion, remark : str
    differences : list of str
        Those of :class:`glasscell.papers.Experiment`.
    quick : str or None
        What a quick run changes; None: nothing was changed.
    figure : str
        Our figure. "" if no seed finished.
    met : bool or None
        Whether the criterion is met; None for a quick run, which does not decide it.
    failures : int
        Number of rows that failed.
    command : str
    minutes : float
        Sum over all rows.
    processor_minutes : float or None
        The same; None if a row does not have it.
    version : str
        Of Glasscell.
    rows : list of dict
    """

    name: str
    paper: str
    claim: str
    paper_figure: str
    criterion: str
    remark: str
    differences: list[str]
    quick: str | None
    figure: str
    met: bool | None
    failures: int
    command: str
    minutes: float
    processor_minutes: float | None
    version: str
    rows: list[dict[str, Any]]

    @classmethod
    def of(cls, experiment: Experiment, rows: Sequence[Row], *, quick: bool, version: str) -> Self:
        """Return the outcome of the rows of an experiment."""
        finished = [row for row in rows if row["status"] == "finished"]
        outcome = experiment.outcome(finished) if finished else None
        processor = [row["scores"].get("processor_seconds") for row in finished]
        failures, seeds = len(rows) - len(finished), len({row["seed"] for row in rows})
        usual = experiment.quick_seeds if quick else experiment.seeds
        words = ["glasscell reproduce", experiment.name, *(["--quick"] if quick else [])]
        words += [f"--seeds {seeds}"] if seeds != usual else []
        words += ["--data FOLDER"] if experiment.files else []
        changes = [f"{usual} instead of {experiment.seeds} seeds"] if usual != experiment.seeds else []
        changes += [experiment.quick] if experiment.quick else []
        return cls(
            **{name: getattr(experiment, name) for name in TEXTS},
            differences=list(experiment.differences),
            quick=(", ".join(changes) or "no change") if quick else None,
            figure=outcome.figure if outcome else "",
            met=None if quick or outcome is None else outcome.met and not failures,
            failures=failures,
            command=" ".join(words),
            minutes=round(sum(row["seconds"] for row in rows) / 60, 2),
            processor_minutes=None if None in processor else round(sum(processor) / 60, 2),
            version=version,
            rows=[finite_or_none(_rounded(row)) for row in rows],
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file that :meth:`json` has written.

        Raises
        ------
        ValueError
            If it is another file.
        """
        try:
            values = json.loads(path.read_bytes())
            return cls(**{field.name: values[field.name] for field in fields(cls)})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not the result of an experiment: {error}") from None

    def json(self) -> str:
        """Return the object as JSON."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len({row["seed"] for row in self.rows})

    @property
    def verdict(self) -> str:
        """Whether the criterion is met, in a word."""
        return {True: "met", False: "missed", None: "not decided"}[self.met]


def _rounded(row: Row) -> dict[str, Any]:
    return {**row, "seconds": round(row["seconds"], 2)}


def train_experiment(name: str, /, *, seed: int, quick: bool, data: str | None, **setting: Any) -> dict[str, Any]:
    """Train with this seed, and return the scores and the processor time."""
    processor = time.process_time()
    scores = find(name).train(seed, quick=quick, data=None if data is None else Path(data), **setting)
    return {**scores, "processor_seconds": round(time.process_time() - processor, 2)}


def grid_of(name: str, *, seeds: int | None = None, quick: bool = False, data: Path | None = None) -> Grid:
    """Return what an experiment runs; arguments as of :func:`run_rows`."""
    experiment = find(name)
    seeds = (experiment.quick_seeds if quick else experiment.seeds) if seeds is None else seeds
    return Grid.of(_train_function(name, quick=quick, data=data), seeds, dict(experiment.settings))


def _train_function(name: str, *, quick: bool, data: Path | None) -> partial[dict[str, Any]]:
    """Return the training of an experiment. Its arguments are part of the file of rows."""
    folder = str(data.resolve()) if data is not None and find(name).files else None
    return partial(train_experiment, name, quick=quick, data=folder)


def run_rows(
    name: str,
    *,
    seeds: int | None = None,
    quick: bool = False,
    data: Path | None = None,
    file: Path | None = None,
    resume: bool = False,
    executor: Any = None,
    progress: bool = False,
) -> list[Row]:
    """Train an experiment with all of its settings and seeds by :func:`glasscell.sweep`, and return the rows.

    Parameters
    ----------
    name : str
        Of the experiment.
    seeds : int, optional
        Default: that of the experiment, for a quick run its `quick_seeds`.
    quick : bool
        Smaller sizes.
    data : path, optional
        Folder with the user's data. Experiments that need no files ignore it.
    file, resume, executor, progress
        See :func:`glasscell.sweep`.
    """
    grid = grid_of(name, seeds=seeds, quick=quick, data=data)
    values: dict[str, Any] = dict(grid.values)
    result = sweep(
        _train_function(name, quick=quick, data=data),
        seeds=grid.seeds,
        file=file,
        resume=resume,
        executor=executor,
        progress=progress,
        **values,
    )
    return [dict(row) for row in result.rows]
