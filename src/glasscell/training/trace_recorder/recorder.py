"""A training callback that traces the same input at a fixed interval of updates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from glasscell.atomic_files import OutputFile, StrPath
from glasscell.core.norms import vector_norms
from glasscell.core.types import Array
from glasscell.trace import diagnostics
from glasscell.trace.display import StepMarks, get_values, resolve_layer, step_marks, units_by_peak
from glasscell.trace.layer_trace import LayerTrace
from glasscell.trace.trace import HTML, Trace
from glasscell.training.trace_recorder.frames import Frame, RecordedFrames
from glasscell.validation import choice, positive_integer, positive_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from glasscell.training.callbacks import TrainingState

SYMBOLS = ("i", "f", "o", "g", "c")
ANIMATIONS = (".gif", ".webp")


class Model(Protocol):
    """A model that can be recorded."""

    def trace(self, x: ArrayLike, y: ArrayLike | None = None, **options: Any) -> Trace:
        """Run the model forward and, with a target, backward, and return the trace."""


@dataclass
class TraceRecorder(RecordedFrames):
    """A callback for :func:`glasscell.fit` that records traces of one input during training.

    A frame is one trace, in float32; between frames there is no cost. At `max_frames` frames every second one is
    discarded and the interval doubles, so that a training run of any length fits.

    Parameters
    ----------
    x : array
        The traced input, an argument of ``model.trace``: bits for a CopyLSTM, one sequence for other models.
    y : array, optional
        Its target. Default: no gradients, except for a CopyLSTM, whose task defines the target.
    every : int
        Updates between frames; the first update has a frame too.
    symbols : sequence of str
        Recorded symbols, such as ``f``, ``c``, ``d_c``, or ``z_f``. An RNN or a GRU has others: ``symbols=("h",)``.
    layer : int
        Negative values count from the last layer.
    max_frames : int
        Maximum number of frames, at least 2.
    trace_options : dict, optional
        Other arguments of ``model.trace``, such as ``{"loss": "categorical_cross_entropy"}``.

    Attributes
    ----------
    frames : list of Frame

    Examples
    --------
    >>> import glasscell as gc
    >>> recorder = gc.TraceRecorder([1, 0, 1, 1], every=10)
    >>> task, model = gc.tasks.Copy(4), gc.CopyLSTM(hidden_size=8, task=gc.tasks.Copy(4))
    >>> recorder.capture_frame(model)  # before training
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
    max_frames: int = 120
    trace_options: dict[str, Any] = field(default_factory=dict)
    frames: list[Frame] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        positive_integer("every", self.every)
        if positive_integer("max_frames", self.max_frames) < 2:
            raise ValueError(f"max_frames must be at least 2, got {self.max_frames}")
        if isinstance(self.symbols, str) or not self.symbols:
            raise ValueError(f"symbols must be a list such as ['f', 'c'], got {self.symbols!r}")
        self._interval = self.every
        self._earlier_updates, self._last_update = 0, 0  # of previous training runs, and of this one
        self._metadata: dict[str, Any] = {}
        self.marks = StepMarks()

    def __call__(self, state: TrainingState) -> None:
        """Capture a frame if one is due; :func:`glasscell.fit` calls this after every update."""
        update = state.history.updates
        if update <= self._last_update:  # another training run: continue the count
            self._earlier_updates += self._last_update
        self._last_update = update
        if update == 1 or update % self._interval == 0:
            self.capture_frame(state.model, self._earlier_updates + update)

    def capture_frame(self, model: Model, update: int = 0) -> None:
        """Capture a frame now, such as before training, or in another training loop.

        Parameters
        ----------
        model : LSTM, CopyLSTM or Sequential
        update : int
            Number of updates so far.

        Raises
        ------
        ValueError
            If the update is not after that of the last frame, the input is not a single sequence with at least one
            step, a symbol does not exist, or shapes differ from those of the last frame.
        """
        if self.frames and update <= self.frames[-1].update:
            raise ValueError(f"update must be after that of the last frame, {self.frames[-1].update}, got {update}")
        trace = model.trace(self.x, self.y, **self.trace_options)
        layer = resolve_layer(trace, self.layer)
        frame = _capture_frame(trace, layer, self.symbols, update)
        if self.frames and _shapes(frame) != _shapes(self.frames[-1]):
            raise ValueError(f"the frame must have the shapes {_shapes(self.frames[-1])}, got {_shapes(frame)}")
        self._metadata, self.marks = trace.about, step_marks(trace)
        self._order, self.symbol_names = units_by_peak(layer), layer.symbol_names
        if len(self.frames) == self.max_frames:
            del self.frames[1::2]
            self._interval *= 2
        self.frames.append(frame)

    def plot(self, symbols: Sequence[str] | None = None, number: int = 6) -> Figure:
        """Plot small heat maps: one row per symbol, one column per frame.

        Parameters
        ----------
        symbols : sequence of str, optional
            Default: all recorded symbols.
        number : int
            Maximum number of columns. The frames are at approximately equal ratios of updates, first and last included.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from glasscell.training.trace_recorder.figures import plot_strip  # noqa: PLC0415 - views are imported on first use

        frames = _pick_frames(self._existing_frames(), positive_integer("number", number), self.every)
        return plot_strip(self, self._recorded(symbols), frames)

    def animate(self, path: StrPath, symbol: str = "f", *, fps: float = 8, dpi: int = 100) -> None:
        """Write an animation of one symbol, with the loss on the input below it.

        Parameters
        ----------
        path : path
            ``….gif`` or ``….webp``.
        symbol : str
            A recorded symbol.
        fps : float
            Frames per second.
        dpi : int
            Resolution in dots per inch.
        """
        from glasscell.training.trace_recorder.figures import save_animation  # noqa: PLC0415

        self._existing_frames(), self._recorded([symbol])
        positive_number("fps", fps)
        suffix = Path(path).suffix.lower()
        if suffix not in ANIMATIONS:
            raise ValueError(f"path must end in {' or '.join(ANIMATIONS)}, got {Path(path).name}")
        positive_integer("dpi", dpi)
        file = OutputFile(path, ANIMATIONS)
        file.write(save_animation(self, symbol, suffix, fps, dpi))

    def report(self, path: StrPath) -> None:
        """Write a self-contained HTML file: heat maps with a slider over updates, the gradient by step, and the loss.

        Values are rounded to 1/255 of the range of their color scale. The file is smaller than 3 MB: if the frames do
        not fit, it has means of blocks of units and steps, or a selection of the frames, and a note.
        """
        from glasscell.training.trace_recorder.html import page  # noqa: PLC0415

        self._existing_frames()
        file = OutputFile(path, HTML)
        file.write(page(self).encode())

    def _recorded(self, symbols: Sequence[str] | None) -> Sequence[str]:
        for symbol in symbols or ():
            choice("symbol", symbol, tuple(self.symbols))
        return self.symbols if symbols is None else symbols


def _capture_frame(trace: Trace, layer: LayerTrace, symbols: Sequence[str], update: int) -> Frame:
    if not layer.T:
        raise ValueError("x must have at least one step, got none")
    values = {symbol: _float32_copy(get_values(layer, symbol)) for symbol in symbols}
    ranges = {symbol: (float(array.min()), float(array.max())) for symbol, array in values.items()}
    norms: dict[str, Array] = {}
    if layer.has_gradients:
        norms = {name: layer.value(f"d_{name}") for name in (layer.state, "x")}
        if layer.state == "c" and diagnostics.has_gradient_paths(layer):
            norms |= diagnostics.gradient_paths(layer)._asdict()
        norms = {name: _float32_copy(vector_norms(part)) for name, part in norms.items()}
    return Frame(update, trace.loss, _float32_copy(trace.outputs), values, norms, ranges)


def _pick_frames(frames: Sequence[Frame], number: int, interval: int) -> list[Frame]:
    """Return at most `number` frames, first and last included, at approximately equal ratios of updates."""
    updates = np.array([frame.update for frame in frames], np.float64) + interval
    targets = np.geomspace(updates[0], updates[-1], number) if number > 1 else updates[-1:]
    indices = np.unique(np.abs(updates[:, None] - targets).argmin(axis=0))
    return [frames[k] for k in indices]


def _float32_copy(array: Array) -> Array:
    copy = array.astype(np.float32)
    copy.flags.writeable = False
    return copy


def _shapes(frame: Frame) -> str:
    return ", ".join(f"{symbol} {'×'.join(map(str, values.shape))}" for symbol, values in frame.values.items())
