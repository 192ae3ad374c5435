"""Matplotlib figures of a trace. Each function draws on the argument ``ax`` and returns it; none opens a window.

By default a function creates a figure, ``ax.figure``: ``heat_map(trace, "f").figure.savefig("f.png")``. The figure is
independent of pyplot, so that it is freed with its last reference.
"""

from glasscell.trace.figures.curves import cell_traces, gradient_decay, gradient_flow
from glasscell.trace.figures.maps import heat_map
from glasscell.trace.figures.overview import plot, plot_gates
from glasscell.trace.figures.text import colored_text
from glasscell.trace.figures.units import half_lives, saturation

__all__ = [
    "cell_traces",
    "colored_text",
    "gradient_decay",
    "gradient_flow",
    "half_lives",
    "heat_map",
    "plot",
    "plot_gates",
    "saturation",
]
