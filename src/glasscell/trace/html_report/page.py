"""The page of a report: one HTML file that shows a trace, recomputes it in the browser, and needs no network."""

from __future__ import annotations

import html
from typing import Any

from glasscell.pages import render_page, script_json

FRAME_HEIGHT = 900  # in a notebook, in CSS pixels


def page(payload: dict[str, Any]) -> str:
    """Return the page of a payload of :func:`glasscell.trace.html_report.payload.payload_of`.

    All text of the payload is escaped: the page displays markup in names and titles as text.

    Raises
    ------
    ValueError
        If the payload has NaN or an infinity outside an array, which JSON does not support.
    """
    return render_page("report", title=html.escape(str(payload["title"])), payload=script_json(payload))


def frame(page: str, height: int = FRAME_HEIGHT) -> str:
    """Return a page as an element of another page, such as the output of a notebook cell.

    Scripts run in it, and cannot access the page around it: its sandbox has a separate origin.

    Parameters
    ----------
    page : str
        HTML from :func:`page`.
    height : int
        In CSS pixels.
    """
    return (
        f'<iframe sandbox="allow-scripts" srcdoc="{html.escape(page)}" title="Glasscell report" '
        f'style="width: 100%; height: {height}px; border: 0"></iframe>'
    )
