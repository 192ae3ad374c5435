"""Seeing: the record of what happened inside a model, what can be said of it in numbers, and its views.

``model.trace(x, y)`` gives a :class:`Trace`. :mod:`~glasscell.trace.measures` has saturation, half-lives, paths of
gradients and more; :mod:`~glasscell.trace.figures`, what Matplotlib draws; :mod:`~glasscell.trace.terminal`, what a
terminal shows; ``trace.report(path)`` writes a page.
"""

from typing import TYPE_CHECKING

from glasscell.lazy import lazily

if TYPE_CHECKING:
    from glasscell.trace import figures, measures, terminal
    from glasscell.trace.record import LayerTrace, Trace
    from glasscell.trace.recorder import Recorder

__all__ = ["LayerTrace", "Recorder", "Trace", "figures", "measures", "terminal"]

__getattr__, __dir__ = lazily(
    __name__,
    {"figures": "figures", "measures": "measures", "terminal": "terminal"}
    | {"Trace": "record", "LayerTrace": "record", "Recorder": "recorder"},
)
