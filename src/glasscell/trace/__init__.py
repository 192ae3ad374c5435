"""Traces: all quantities of a model in one pass, measures of them, and their views.

``model.trace(x, y)`` returns a :class:`Trace`. :mod:`~glasscell.trace.diagnostics` has saturation, half-lives, gradient
paths and other measures, :mod:`~glasscell.trace.figures` Matplotlib figures, and :mod:`~glasscell.trace.terminal` text;
``trace.report(path)`` writes an interactive HTML page.
"""

from typing import TYPE_CHECKING

from glasscell.lazy import attach

if TYPE_CHECKING:
    from glasscell.trace import diagnostics, figures, terminal
    from glasscell.trace.layer_trace import LayerTrace
    from glasscell.trace.trace import Trace

__all__ = ["LayerTrace", "Trace", "diagnostics", "figures", "terminal"]

__getattr__, __dir__ = attach(
    __name__,
    {"figures": "figures", "diagnostics": "diagnostics", "terminal": "terminal"}
    | {"Trace": "trace", "LayerTrace": "layer_trace"},
)
