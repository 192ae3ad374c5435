"""How gates come to life: a callback that traces the same input every so many updates of training."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.checkpoint import StrPath, write_atomically
from glasscell.core.typing import Array
from glasscell.trace import measures
from glasscell.trace.record import LayerTrace, Trace
from glasscell.trace.shown import layer_of, name_of, scale_of, units_by_peak, values_of
from glasscell.validation import one_of, positive_integer, positive_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from glasscell.trace.shown import Scale
    from glasscell.training import Moment

SYMBOLS = ("i", "f", "o", "g", "c")
MOVIES = (".gif", ".webp")


class Model(Protocol):
    """What a recorder needs of a model."""

    def trace(self, x: ArrayLike, y: ArrayLike | None = None, **given: Any) -> Trace:
        """Everything that happens on the way forward and back."""


@dataclass(frozen=True)
class Frame:
    """What the model did at one moment of its training; arrays of float32, read only.

    Attributes
    ----------
    update : int
        Updates done; 0 before training.
    loss : float, optional
        Of the probe; None without a target.
    outputs : array (T, O)
    values : dict of str to array (T, rows)
        By symbol.
    norms : dict of str to array (T,)
        Of the gradient on the layer's ``c`` and ``x``; ``cell`` and ``recurrent`` are the two paths of that on c, where
        it has them. Empty without a target.
    """

    update: int
    loss: float | None
    outputs: Array
    values: dict[str, Array]
    norms: dict[str, Array]


@dataclass
class Recorder:
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
    >>> recorder = gc.trace.Recorder([1, 0, 1, 1], every=10)
    >>> task, model = gc.tasks.Copy(4), gc.CopyLSTM(hidden_size=8, task=gc.tasks.Copy(4))
    >>> recorder.look(model)  # before training
    >>> history = gc.fit(model, task, steps=30, callbacks=[recorder])
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
    most: int = 240
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

    def __call__(self, moment: Moment) -> None:
        """Look, if it is time; :func:`glasscell.fit` calls this after every update."""
        done = moment.history.updates
        if done <= self._last:  # another training begins: updates are counted on
            self._before += self._last
        self._last = done
        if done == 1 or done % self._step == 0:
            self.look(moment.model, self._before + done)  # type: ignore[arg-type] # models of fit need not have a trace

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
        frame = _frame(trace, layer_of(trace, self.layer), self.symbols, update)
        if self.frames and frame.values.keys() and _shapes(frame) != _shapes(self.frames[-1]):
            raise ValueError(f"frames are of {_shapes(self.frames[-1])}, and this one is of {_shapes(frame)}")
        self._about = trace.about
        self._order = units_by_peak(layer_of(trace, self.layer))
        if len(self.frames) == self.most:
            del self.frames[1::2]
            self._step *= 2
        self.frames.append(frame)

    @property
    def title(self) -> str:
        """Of the last trace."""
        return str(self._about.get("title", "An LSTM"))

    @property
    def units(self) -> NDArray[np.intp]:
        """All units, by the step at which their cell is largest in the last frame: the order of the pictures."""
        self._some()
        return self._order

    def scale(self, symbol: str, frame: Frame) -> Scale:
        """The range of a symbol's colours: over all frames; of gradients, in this one: they shrink."""
        frames = [frame] if symbol.startswith("d_") else self._some()
        return scale_of(symbol, np.array([one.values[symbol] for one in frames]))

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
        from glasscell.trace.figures.maps import written  # noqa: PLC0415 - optional

        frames, symbols = self._some(), self._kept(symbols)
        positive_integer("number", number)
        shown = _moments(frames, number, self.every)
        figure = _figure((min(20, 1.6 + 1.9 * len(shown)), 0.9 + 1.6 * len(symbols)))
        grid = figure.subplots(len(symbols), len(shown), squeeze=False, sharex=True)
        for row, symbol in zip(grid, symbols, strict=True):
            for ax, frame in zip(row, shown, strict=True):
                image = _draw(ax, self.drawn(frame, symbol), self.scale(symbol, frame))
                ax.set_yticks([])
                if symbol.startswith("d_"):
                    ax.set_xlabel(f"from {-image.norm.vmax:.1g} to {image.norm.vmax:.1g}", fontsize=7)
            if not symbol.startswith("d_"):
                _bar(figure, image, list(row))
            row[0].set_ylabel(written(symbol), rotation=0, ha="right", va="center", fontsize=11)
        for ax, frame in zip(grid[0], shown, strict=True):
            ax.set_title(_caption(frame), fontsize=8)
        for ax in grid[-1]:
            ax.set_xlabel(f"{ax.get_xlabel()}\nstep".strip(), fontsize=8)
        figure.suptitle(_plain(self.title), fontsize=10)
        return figure

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
        target = Path(path)
        frames, [symbol] = self._some(), self._kept([symbol])
        positive_number("fps", fps)
        if target.suffix.lower() not in MOVIES:
            raise ValueError(f"the name of a film must end in {' or '.join(MOVIES)}, and is {target.name}")
        figure = _figure((5.6, 4.6))
        from matplotlib.animation import PillowWriter  # noqa: PLC0415 - optional

        top, below = figure.subplots(2, 1, height_ratios=[4, 1])
        image = _draw(top, self.drawn(frames[0], symbol), self.scale(symbol, frames[0]))
        _bar(figure, image, top)
        top.set_ylabel(f"{len(image.get_array())} units" if self.of_units(symbol) else "", fontsize=9)
        top.set_yticks([])
        top.set_xlabel("step", fontsize=9)
        top.set_title(f"{name_of(symbol)} {symbol}", loc="left", fontsize=10)
        dot = _draw_losses(below, frames)
        with tempfile.TemporaryDirectory() as folder:
            film = Path(folder) / f"film{target.suffix.lower()}"
            writer = PillowWriter(fps)  # type: ignore[arg-type] # it divides by it
            with writer.saving(figure, str(film), dpi):
                for frame in frames:
                    image.set_data(self.drawn(frame, symbol))
                    image.set_clim(*self.scale(symbol, frame)[:2])
                    top.set_title(_caption(frame), loc="right", fontsize=9, family="monospace")
                    dot.set_data([frame.update], [np.nan if frame.loss is None else frame.loss])
                    writer.grab_frame()
                    figure.set_layout_engine("none")  # as the first frame: what moves is the data
            write_atomically(target, film.read_bytes())

    def report(self, path: StrPath) -> None:
        """Write one HTML file, without network: a slider over updates, heat maps, gradient by step, the loss.

        Numbers in it are rounded to 1/255 of their colours' range.
        """
        from glasscell.trace.film import page  # noqa: PLC0415 - views are loaded when they are used

        self._some()
        write_atomically(path, page(self).encode())

    def _some(self) -> list[Frame]:
        if not self.frames:
            raise ValueError("nothing is recorded yet: gc.fit(…, callbacks=[recorder]), or recorder.look(model)")
        return self.frames

    def _kept(self, symbols: Sequence[str] | None) -> Sequence[str]:
        for symbol in symbols or ():
            one_of("symbol", symbol, tuple(self.symbols))
        return self.symbols if symbols is None else symbols

    def of_units(self, symbol: str) -> bool:
        """Whether its rows are the units: not those of x, a projection, or all of z."""
        return symbol not in ("x", "d_x") and self._some()[0].values[symbol].shape[1] == len(self._order)

    def drawn(self, frame: Frame, symbol: str) -> Array:
        """A symbol as it is drawn, (rows, T)."""
        values = frame.values[symbol].T
        return values[self._order] if self.of_units(symbol) else values


def _frame(trace: Trace, layer: LayerTrace, symbols: Sequence[str], update: int) -> Frame:
    values = {symbol: _small(values_of(layer, symbol)) for symbol in symbols}
    norms: dict[str, Array] = {}
    if layer.has_gradients:
        norms = {"c": layer.d_c, "x": layer.d_x}
        if layer.options.layer_norm not in ("haste", "contrib"):
            norms |= measures.by_path(layer)._asdict()
        norms = {name: _small(np.linalg.norm(part, axis=-1)) for name, part in norms.items()}
    return Frame(update, trace.loss, _small(trace.outputs), values, norms)


def _moments(frames: Sequence[Frame], number: int, every: int) -> list[Frame]:
    """At most so many frames, the first and the last among them, whose updates are in about equal ratios."""
    updates = np.array([frame.update for frame in frames], np.float64) + every
    wanted = np.geomspace(updates[0], updates[-1], number) if number > 1 else updates[-1:]
    places = np.unique(np.abs(updates[:, None] - wanted).argmin(axis=0))
    return [frames[k] for k in places]


def _small(array: Array) -> Array:
    copy = array.astype(np.float32)
    copy.flags.writeable = False
    return copy


def _shapes(frame: Frame) -> str:
    return ", ".join(f"{symbol} {'×'.join(map(str, values.shape))}" for symbol, values in frame.values.items())


def _caption(frame: Frame) -> str:
    return f"update {frame.update}" + ("" if frame.loss is None else f", loss {frame.loss:.3g}")


# Drawing


def _figure(size: tuple[float, float]) -> Figure:
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    return Figure(figsize=size, layout="constrained")


def _draw(ax: Axes, values: Array, scale: Scale) -> Any:
    from glasscell.trace.figures.style import clean, colors_of  # noqa: PLC0415 - as the figures look

    image = ax.imshow(values, aspect="auto", interpolation="nearest", **colors_of(scale))
    clean(ax, grid=False)
    return image


def _bar(figure: Figure, image: Any, ax: Any) -> None:
    from glasscell.trace.figures.style import clean  # noqa: PLC0415

    bar = figure.colorbar(image, ax=ax, pad=0.01, aspect=16)
    bar.outline.set_visible(False)
    clean(bar.ax, grid=False)


def _draw_losses(ax: Axes, frames: Sequence[Frame]) -> Any:
    """The loss of every frame, and a dot that will move."""
    from glasscell.trace.figures.style import BLUE, INK, clean  # noqa: PLC0415

    losses = [np.nan if frame.loss is None else frame.loss for frame in frames]
    ax.plot([frame.update for frame in frames], losses, color=BLUE, lw=1.2)
    [dot] = ax.plot([], [], "o", color=INK, ms=6)
    ax.set_xlabel("update")
    ax.set_ylabel("loss")
    clean(ax)
    return dot


def _plain(text: str) -> str:
    from glasscell.trace.figures.style import plain  # noqa: PLC0415

    return plain(text)
