"""The definition of an experiment of a paper, and the outcome of its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

Scores: TypeAlias = Mapping[str, float | int | str | None]
Row: TypeAlias = Mapping[str, Any]
"""A row of a sweep: "setting", "seed", "status", "error", "seconds" and "scores"."""


class Outcome(NamedTuple):
    """What the finished rows of an experiment show.

    Attributes
    ----------
    figure : str
        The figure to compare with that of the paper.
    met : bool
        Whether the criterion is met.
    """

    figure: str
    met: bool


@dataclass(frozen=True)
class Experiment:
    """An experiment of a paper.

    Attributes
    ----------
    name : str
        Such as "adding-100".
    paper : str
        Authors, year and number of the experiment.
    claim : str
        What the paper shows.
    paper_figure : str
        Its figure.
    criterion : str
        What `outcome` checks.
    differences : tuple of str
        Sentences: how the set-up differs from that of the paper.
    train : callable
        ``train(seed, quick=…, data=…, **setting)`` returns scores. A function of a module, so that it can be sent to
        another process. `data` is the folder with the user's data, or None.
    outcome : callable
        ``outcome(rows)`` of the finished rows, of which there is at least one.
    seeds, quick_seeds : int
        Number of seeds, which are 0, 1, …
    quick : str
        What a quick run changes in addition to the number of seeds. Default: nothing.
    settings : mapping of str to sequence
        Arguments of `train`; all combinations are run.
    files : tuple of str
        Files of the user's data that are needed, relative to the folder.
    remark : str
        Why a criterion is missed, or another fact that a reader of the figure needs.
    """

    name: str
    paper: str
    claim: str
    paper_figure: str
    criterion: str
    differences: tuple[str, ...]
    train: Callable[..., Scores]
    outcome: Callable[[Sequence[Row]], Outcome]
    seeds: int = 10
    quick_seeds: int = 2
    quick: str = ""
    settings: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    remark: str = ""

    def missing_files(self, data: Path | None) -> list[str]:
        """Return the files that a folder of data, or no folder, does not have."""
        return [name for name in self.files if data is None or not (data / name).is_file()]


def scores_of(rows: Sequence[Row], name: str, **setting: Any) -> list[Any]:
    """Return one score of all rows with this setting; None where it is not recorded."""
    return [row["scores"].get(name) for row in rows if setting.items() <= row["setting"].items()]
