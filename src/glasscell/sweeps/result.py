"""What a sweep returns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from glasscell.atomic_files import StrPath
from glasscell.sweeps.grid import Grid
from glasscell.sweeps.row_file import ROWS_FILE, parse
from glasscell.sweeps.rows import Row, key_of, plain
from glasscell.sweeps.summary import SettingSummary, is_number, rows_by_setting, summarize
from glasscell.sweeps.tables import format_rows
from glasscell.validation import choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class SweepResult:
    """Rows of a sweep, in the order of its grid.

    Attributes
    ----------
    rows : list of dict
        One per run: "setting", "seed", "status" ("finished" or "failed"), "error", "seconds", "scores" and, where the
        training function returned a History, "curve". See :class:`glasscell.sweeps.Row`.
    seeds : tuple of int
    grid : dict of str to tuple
        Values by name.
    settings : list of dict
        All combinations of values, in order.
    folder : Path or None
        That of the file.
    """

    def __init__(self, grid: Grid, rows: list[Row], folder: Path | None = None) -> None:
        self.rows, self.folder = rows, folder
        self.seeds, self.grid, self.settings = grid.seeds, grid.values, grid.settings

    @classmethod
    def load(cls, file: StrPath) -> Self:
        """Read the rows that a sweep has written so far, also while it is in progress.

        Parameters
        ----------
        file : path
            The file, or the folder of ``glasscell sweep``. An incomplete last line is left out.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is none, or it is damaged or another file.
        """
        path = Path(file)
        path = path / ROWS_FILE if path.is_dir() else path
        content = parse(path.read_bytes(), path)
        if content.grid is None:
            raise ValueError(f"{path} must be the rows of a sweep, got an empty file")
        rows = [content.rows[key] for key in content.grid.runs if key in content.rows]
        return cls(content.grid, rows, path.parent)

    @property
    def failures(self) -> list[Row]:
        """The rows of runs that failed."""
        return [row for row in self.rows if row["status"] == "failed"]

    @property
    def is_complete(self) -> bool:
        """Whether each run of the grid has a row, finished or failed."""
        return len(self.rows) == len(self.settings) * len(self.seeds)

    @property
    def scores(self) -> list[str]:
        """Names of the scores that are numbers in some row."""
        finished = [row["scores"].items() for row in self.rows]
        return list({name: None for scores in finished for name, value in scores if is_number(value)})

    def summary(self) -> list[SettingSummary]:
        """Return median and quartiles over the finished seeds of each setting, in the order of the grid."""
        return [summarize(setting, rows) for setting, rows in rows_by_setting(self.settings, self.rows)]

    def table(
        self,
        scores: Sequence[str] | None = None,
        *,
        format: Literal["text", "markdown", "csv"] = "text",  # noqa: A002 - as in other libraries
    ) -> str:
        """Return a table with one line per setting: the median of each score, and its quartiles in brackets.

        Parameters
        ----------
        scores : sequence of str, optional
            Default: all that are numbers.
        format : {"text", "markdown", "csv"}
            In "csv" median and quartiles are columns of all digits.
        """
        choice("format", format, ("text", "markdown", "csv"))
        if isinstance(scores, str) or not isinstance(scores, Sequence | None):
            raise TypeError(f"scores must be a list of names, got {scores!r:.100}")
        for name in scores or ():
            self._check_score(name)
        return format_rows(self.summary(), list(self.grid), list(self.scores if scores is None else scores), format)

    def models(self, **setting: Any) -> list[Any]:
        """Load the models that the runs of a setting have kept, in the order of their seeds, such as for an Ensemble.

        The score "model" of a row is the name of a file in the folder of the rows: ``glasscell sweep --keep-models``
        writes it, and a training function can return it.

        Parameters
        ----------
        **setting
            Values of some names of the grid. Default: all runs.

        Raises
        ------
        ValueError
            If a name or a value is not in the grid, or a finished run has no model.
        FileNotFoundError
            If a file is missing.
        """
        from glasscell.models.files import load  # noqa: PLC0415 - only where it is used

        for name in setting:
            choice("a name of the setting", name, list(self.grid))
        keys = {name: self._key(name, value) for name, value in setting.items()}
        rows = [row for row in self.rows if row["status"] == "finished"]
        rows = [row for row in rows if all(key_of({}, row["setting"][name]) == key for name, key in keys.items())]
        names = [row["scores"].get("model") for row in rows]
        if self.folder is None or not all(isinstance(name, str) and Path(name).name == name for name in names):
            raise ValueError('rows must have the score "model", the name of a file in the folder of the rows')
        return [load(self.folder / str(name)) for name in names]

    def plot(self, score: str, over: str | None = None, *, ax: Axes | None = None) -> Axes:
        """Draw the median of a score over seeds, with a band from the lower to the upper quartile.

        Settings whose median is not finite are left out.

        Parameters
        ----------
        score : str
        over : str, optional
            Name of the grid on the horizontal axis; each combination of the others is a line. Or "update": learning
            curves of training functions that return a History. Default: the first name with several values.
        ax : matplotlib.axes.Axes, optional
            Default: those of a new figure, ``ax.figure``.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ValueError
            If no run has the score, or the name does not exist.
        ImportError
            If Matplotlib is not installed.
        """
        from glasscell.sweeps import plots  # noqa: PLC0415 - Matplotlib is optional

        if over == "update":
            return plots.plot_curves(self.grid, rows_by_setting(self.settings, self.rows), score, ax)
        self._check_score(score)
        names = list(self.grid)
        if over is None:
            over = next((name for name in names if len(self.grid[name]) > 1), names[0] if names else None)
        elif over not in names:
            raise ValueError(f"over must be one of {', '.join([*names, 'update'])}, got {over!r:.100}")
        return plots.plot_score(self.grid, self.summary(), score, over, ax)

    def _key(self, name: str, value: Any) -> str:
        """Return the key of this value of the grid, or of one that equals it; 1, 1.0 and True are different."""
        keys = {key_of({}, known): known for known in self.grid[name]}
        key = key_of({}, plain(name, value))
        if key not in keys:
            choice(name, value, self.grid[name])
            key = next(key for key, known in keys.items() if known == value)
        return key

    def _check_score(self, name: str) -> None:
        if name not in self.scores:
            raise ValueError(f"score must be one of {', '.join(self.scores) or 'no score'}, got {name!r:.100}")

    def __iter__(self) -> Any:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        total, failed = len(self.settings) * len(self.seeds), len(self.failures)
        return f"SweepResult({len(self.rows)} of {total} rows" + (f", {failed} failed)" if failed else ")")
