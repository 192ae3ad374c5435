"""Run an experiment over several seeds, and describe what came out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any, Self

from glasscell.manifest_files import finite_or_none
from glasscell.papers.experiment import Experiment, Row

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
    minutes, processor_minutes : float
        Sums over all rows.
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
    processor_minutes: float
    version: str
    rows: list[dict[str, Any]]

    @classmethod
    def of(cls, experiment: Experiment, rows: Sequence[Row], *, quick: bool, version: str) -> Self:
        """Return the outcome of the rows of an experiment."""
        finished = [row for row in rows if row["status"] == "finished"]
        outcome = experiment.outcome(finished) if finished else None
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
            processor_minutes=round(sum(row["scores"].get("processor_seconds", 0) for row in finished) / 60, 2),
            version=version,
            rows=[dict(row) for row in rows],
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


class TimedTraining:
    """The training of an experiment, with the processor time as an additional score; can be sent to a process."""

    def __init__(self, experiment: Experiment, *, quick: bool, data: Path | None) -> None:
        self.train, self.quick, self.data = experiment.train, quick, data

    def __call__(self, seed: int, **setting: Any) -> dict[str, Any]:
        """Train with this seed, and return the scores."""
        processor = time.process_time()
        scores = dict(self.train(seed, quick=self.quick, data=self.data, **setting))
        finite: dict[str, Any] = finite_or_none(scores)
        return finite | {"processor_seconds": round(time.process_time() - processor, 2)}


def run_rows(
    experiment: Experiment,
    *,
    seeds: int,
    quick: bool = False,
    data: Path | None = None,
    file: Path | None = None,
    resume: bool = False,
    on_row: Callable[[Row], None] | None = None,
) -> list[dict[str, Any]]:
    """Train with all settings and seeds, and return the rows; each is written to `file` when it comes."""
    train, rows = TimedTraining(experiment, quick=quick, data=data), list[dict[str, Any]]()
    if resume and file is not None and file.exists():
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    done = {_key(row["setting"], row["seed"]) for row in rows}
    for values in product(*experiment.settings.values()):
        setting = dict(zip(experiment.settings, values, strict=True))
        for seed in range(seeds):
            if _key(setting, seed) not in done:
                rows.append(_row(train, setting, seed))
                if file is not None:
                    with file.open("a", encoding="utf-8") as lines:
                        lines.write(json.dumps(rows[-1]) + "\n")
                if on_row is not None:
                    on_row(rows[-1])
    return rows


def _key(setting: Mapping[str, Any], seed: int) -> str:
    return json.dumps([setting, seed], sort_keys=True)


def _row(train: TimedTraining, setting: dict[str, Any], seed: int) -> dict[str, Any]:
    start, scores, error = time.perf_counter(), dict[str, Any](), ""
    try:
        scores = train(seed, **setting)
    except Exception as failure:  # noqa: BLE001 - the row has it
        error = f"{type(failure).__name__}: {failure}"
    status, seconds = "failed" if error else "finished", round(time.perf_counter() - start, 2)
    return {"setting": setting, "seed": seed, "status": status, "error": error, "seconds": seconds, "scores": scores}
