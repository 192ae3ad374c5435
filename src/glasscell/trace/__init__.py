"""Seeing: the record of what happened inside a model, what can be said of it in numbers, and its views.

``model.trace(x, y)`` gives a :class:`Trace`. :mod:`~glasscell.trace.diagnostics` has saturation, half-lives, paths of
gradients and more; :mod:`~glasscell.trace.figures`, what Matplotlib draws; :mod:`~glasscell.trace.terminal`, what a
terminal shows; ``trace.report(path)`` writes a page.
"""

from typing import TYPE_CHECKING

from glasscell.lazy import attach

if TYPE_CHECKING:
    from glasscell.trace import diagnostics, figures, terminal
    from glasscell.trace.data import LayerTrace
    from glasscell.trace.trace import Trace

__all__ = ["LayerTrace", "Trace", "diagnostics", "figures", "terminal"]

__getattr__, __dir__ = attach(
    __name__,
    {"figures": "figures", "diagnostics": "diagnostics", "terminal": "terminal"}
    | {"Trace": "trace", "LayerTrace": "data"},
)
