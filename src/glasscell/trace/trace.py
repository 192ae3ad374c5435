"""The public trace: arrays, equations, figures, report and files."""

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
        """Return the equations of a step and unit with their values: forward and, with a target, backward.

        Parameters
        ----------
        t, unit, layer : int
            Negative values count from the end.

        Returns
        -------
        Equations
            ``str`` returns text; the attributes ``latex`` and ``html`` are the other formats.
        """
        from glasscell.trace.equations import equations  # noqa: PLC0415 - views are imported on first use

        return equations(self, t, unit, layer)

    def plot(self, layer: int = -1) -> Figure:
        """Plot input, gates, cell state, output and gradient of a layer; see :func:`glasscell.trace.figures.plot`."""
        from glasscell.trace.figures import plot  # noqa: PLC0415

        return plot(self, layer)

    def report(self, path: StrPath) -> None:
        """Write an interactive, self-contained HTML file, ``….html``.

        Replaces an existing report; raises an error for a file of another type. See
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

        is_supported = self.axes == "T" and self.T and all(layer.state == "c" for layer in self.layer)
        return frame(page(payload_of(self))) if is_supported else None

    def save(self, path: StrPath) -> None:
        """Write the trace to a file ``….safetensors``, atomically; replaces an existing trace."""
        from glasscell.trace.storage import save  # noqa: PLC0415

        save(self, path)

    @staticmethod
    def load(path: StrPath) -> Trace:
        """Read a file written by :meth:`save`."""
        from glasscell.trace.storage import load  # noqa: PLC0415

        return Trace(**vars(load(path)))
