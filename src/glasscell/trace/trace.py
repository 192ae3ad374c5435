"""The public trace: its arrays, with equations, figures, report and files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glasscell.trace.data import TraceData

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from glasscell.atomic_files import StrPath
    from glasscell.trace.equations import Equations

HTML = (".html", ".htm")


class Trace(TraceData):
    __doc__ = TraceData.__doc__

    def equations(self, t: int, unit: int, layer: int = -1) -> Equations:
        """Return the equations of a step and unit with their numbers, forward and, with a target, backward.

        Parameters
        ----------
        t, unit, layer : int
            From the end if they are negative.

        Returns
        -------
        Equations
            Its ``str`` is text; it also has ``latex`` and ``html``.
        """
        from glasscell.trace.equations import equations  # noqa: PLC0415 - views are loaded when they are used

        return equations(self, t, unit, layer)

    def plot(self, layer: int = -1) -> Figure:
        """Plot a layer with Matplotlib; :mod:`glasscell.trace.figures` has more figures."""
        from glasscell.trace.figures import plot  # noqa: PLC0415

        return plot(self, layer)

    def report(self, path: StrPath) -> None:
        """Write one self-contained, interactive HTML file, ``….html``.

        An existing report is replaced; a file of another type raises an error. See
        :class:`glasscell.atomic_files.OutputFile`.
        """
        from glasscell.atomic_files import OutputFile  # noqa: PLC0415
        from glasscell.trace.html_report.page import page  # noqa: PLC0415
        from glasscell.trace.html_report.payload import payload_of  # noqa: PLC0415

        file = OutputFile(path, HTML)
        file.write(page(payload_of(self)).encode())

    def _repr_html_(self) -> str | None:
        """Return the report for a notebook cell, in a sandbox without access to other scripts or the network."""
        from glasscell.trace.html_report.page import frame, page  # noqa: PLC0415
        from glasscell.trace.html_report.payload import payload_of  # noqa: PLC0415

        return frame(page(payload_of(self))) if self.axes == "T" and self.T else None

    def save(self, path: StrPath) -> None:
        """Write everything to a file ``….safetensors``, atomically; an existing one is replaced."""
        from glasscell.trace.storage import save  # noqa: PLC0415

        save(self, path)

    @staticmethod
    def load(path: StrPath) -> Trace:
        """Read a file that :meth:`save` wrote."""
        from glasscell.trace.storage import load  # noqa: PLC0415

        return Trace(**vars(load(path)))
