"""How gates come to life: a callback that traces the same input every so many updates of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from glasscell.atomic_files import OutputFile, StrPath
from glasscell.core import blocking
from glasscell.core.types import Array
from glasscell.trace import diagnostics
from glasscell.trace.data import LayerTrace
from glasscell.trace.display import get_values, resolve_layer, units_by_peak
from glasscell.trace.trace import HTML, Trace
from glasscell.training.trace_recorder.frames import Frame, RecordedFrames
from glasscell.validation import choice, positive_integer, positive_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from glasscell.training.loop import TrainingState

SYMBOLS = ("i", "f", "o", "g", "c")
MOVIES = (".gif", ".webp")


class Model(Protocol):
    """What a recorder needs of a model."""

    def trace(self, x: ArrayLike, y: ArrayLike | None = None, **given: Any) -> Trace:
        """Everything that happens on the way forward and back."""


@dataclass
class TraceRecorder(RecordedFrames):
    """A callback for :func:`glasscell.fit` that keeps how a model sees one input, from update to update.

    It costs one trace of the input each `every` updates, nothing in between, and 4 bytes for each number that it keeps:
    a frame of five symbols of 32 units over 17 steps takes 11 KB. There are at most `most` frames: when there would be
    more, every second one goes, and from then on only half as many are taken. So a training of any length fits.

    Parameters
    ----------
    x : array
        The input that is looked at, as ``model.trace`` takes it: bits for a CopyLSTM, one sequence for others.
    y : array, optional
        Its target, without which there are no gradients; a CopyLSTM knows its own.
    every : int
        Updates from one frame to the next; the first update has a frame, too.
    symbols : sequence of str
        What is kept: such as ``f``, ``c``, ``d_c``, or ``z_f``.
    layer : int
        From the end if it is negative.
    most : int
        Frames, at most; at least 2.
    given : dict, optional
        More for ``model.trace``: ``{"loss": "categorical_cross_entropy"}``.

    Attributes
    ----------
    frames : list of Frame

    Examples
    --------
    >>> import glasscell as gc
    >>> recorder = gc.TraceRecorder([1, 0, 1, 1], every=10)
    >>> task, model = gc.tasks.Copy(4), gc.CopyLSTM(hidden_size=8, task=gc.tasks.Copy(4))
    >>> recorder.look(model)  # before training
    >>> history = gc.fit(model, task, updates=30, callbacks=[recorder])
    >>> [frame.update for frame in recorder.frames]
    [0, 1, 10, 20, 30]
    >>> recorder.frames[-1].values["f"].shape
    (9, 8)
    """

    x: ArrayLike
    y: ArrayLike | None = None
    every: int = 50
    symbols: Sequence[str] = SYMBOLS
    layer: int = -1
    most: int = 120
    given: dict[str, Any] = field(default_factory=dict)
    frames: list[Frame] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        positive_integer("every", self.every)
        if positive_integer("most", self.most) < 2:
            raise ValueError(f"most must be at least 2, the first frame and the last, and is {self.most}")
        if isinstance(self.symbols, str) or not self.symbols:
            raise ValueError(f"symbols must be a list such as ['f', 'c'], and are {self.symbols!r}")
        self._step, self._before, self._last = self.every, 0, 0
        self._about: dict[str, Any] = {}

    def __call__(self, moment: TrainingState) -> None:
        """Look, if it is time; :func:`glasscell.fit` calls this after every update."""
        done = moment.history.updates
        if done <= self._last:  # another training begins: updates are counted on
            self._before += self._last
        self._last = done
        if done == 1 or done % self._step == 0:
            self.look(moment.model, self._before + done)

    def look(self, model: Model, update: int = 0) -> None:
        """Take a frame now: before the training, or of a model that something else trains.

        Parameters
        ----------
        model : LSTM, CopyLSTM or Sequential
        update : int
            Updates done.

        Raises
        ------
        ValueError
            If there is a later frame already, the input is no single sequence, or there is no such symbol.
        """
        if self.frames and update <= self.frames[-1].update:
            raise ValueError(f"update {update} is not after that of the last frame, {self.frames[-1].update}")
        trace = model.trace(self.x, self.y, **self.given)
        frame = _capture_frame(trace, resolve_layer(trace, self.layer), self.symbols, update)
        if self.frames and _shapes(frame) != _shapes(self.frames[-1]):
            raise ValueError(f"frames are of {_shapes(self.frames[-1])}, and this one is of {_shapes(frame)}")
        self._about = trace.about
        self._order = units_by_peak(resolve_layer(trace, self.layer))
        if len(self.frames) == self.most:
            del self.frames[1::2]
            self._step *= 2
        self.frames.append(frame)

    def plot(self, symbols: Sequence[str] | None = None, number: int = 6) -> Figure:
        """A strip of small heat maps: a row a symbol, a column a moment, to the last one.

        Parameters
        ----------
        symbols : sequence of str, optional
            Without it all that are kept.
        number : int
            Columns, at most; closer to each other at first, when most happens: at equal ratios of updates.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from glasscell.training.trace_recorder.figures import plot_strip  # noqa: PLC0415 - views are loaded when they are used

        return plot_strip(
            self,
            self._kept(symbols),
            _pick_frames(self._existing_frames(), positive_integer("number", number), self.every),
        )

    def animate(self, path: StrPath, symbol: str = "f", *, fps: float = 8, dpi: int = 100) -> None:
        """Write a film of one symbol, with the loss of the probe below it.

        Parameters
        ----------
        path : path
            ``….gif`` or ``….webp``.
        symbol : str
            One that is kept.
        fps : float
            Frames a second.
        dpi : int
        """
        from glasscell.training.trace_recorder.figures import save_animation  # noqa: PLC0415

        self._existing_frames(), self._kept([symbol])
        positive_number("fps", fps)
        kind = Path(path).suffix.lower()
        if kind not in MOVIES:
            raise ValueError(f"the name of a film must end in {' or '.join(MOVIES)}, and is {Path(path).name}")
        positive_integer("dpi", dpi)
        file = OutputFile(path, MOVIES)
        file.write(save_animation(self, symbol, kind, fps, dpi))

    def report(self, path: StrPath) -> None:
        """Write one HTML file, without network: a slider over updates, heat maps, gradient by step, the loss.

        Numbers in it are rounded to 1/255 of their colours' range. It stays below 3 MB: where there are more, it has
        means of blocks of units and steps, and some of the moments, and says so.
        """
        from glasscell.training.trace_recorder.html import page  # noqa: PLC0415

        self._existing_frames()
        file = OutputFile(path, HTML)
        file.write(page(self).encode())

    def _kept(self, symbols: Sequence[str] | None) -> Sequence[str]:
        for symbol in symbols or ():
            choice("symbol", symbol, tuple(self.symbols))
        return self.symbols if symbols is None else symbols


def _capture_frame(trace: Trace, layer: LayerTrace, symbols: Sequence[str], update: int) -> Frame:
    if not layer.T:
        raise ValueError("there is nothing to record of a sequence without steps")
    values = {symbol: _float32_copy(get_values(layer, symbol)) for symbol in symbols}
    ranges = {symbol: (float(array.min()), float(array.max())) for symbol, array in values.items()}
    norms: dict[str, Array] = {}
    if layer.has_gradients:
        norms = {"c": layer.d_c, "x": layer.d_x}
        if not layer.options.cell_config.normalises_cell:
            norms |= diagnostics.gradient_paths(layer)._asdict()
        norms = {name: _float32_copy(blocking.norms(part)) for name, part in norms.items()}
    return Frame(update, trace.loss, _float32_copy(trace.outputs), values, norms, ranges)


def _pick_frames(frames: Sequence[Frame], number: int, every: int) -> list[Frame]:
    """At most so many frames, the first and the last among them, whose updates are in about equal ratios."""
    updates = np.array([frame.update for frame in frames], np.float64) + every
    wanted = np.geomspace(updates[0], updates[-1], number) if number > 1 else updates[-1:]
    places = np.unique(np.abs(updates[:, None] - wanted).argmin(axis=0))
    return [frames[k] for k in places]


def _float32_copy(array: Array) -> Array:
    copy = array.astype(np.float32)
    copy.flags.writeable = False
    return copy


def _shapes(frame: Frame) -> str:
    return ", ".join(f"{symbol} {'×'.join(map(str, values.shape))}" for symbol, values in frame.values.items())
