"""Matplotlib figures of a trace. Each takes an ``ax``, draws on it and returns it, and nothing is ever shown.

Without an ``ax`` a figure is made, ``ax.figure``, which can be saved: ``heat_map(trace, "f").figure.savefig("f.png")``.
It is Matplotlib's own ``Figure``, no window of pyplot, so it is freed with its last reference.
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
