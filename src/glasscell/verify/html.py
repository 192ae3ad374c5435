"""Write the table of checks as one HTML page, which needs no network."""

import html
import platform
from collections.abc import Sequence

import numpy as np

from glasscell.escaping import escape
from glasscell.pages import render_page
from glasscell.verify.checks import Check


def page(checks: Sequence[Check], subject: str, remark: str = "") -> str:
    """Return the page.

    Parameters
    ----------
    checks : sequence of Check
    subject : str
        The library, or the name of a file.
    remark : str
        A limit of all checks. Default: none.
    """
    counts = {verdict: sum(check.holds is verdict for check in checks) for verdict in (True, False, None)}
    summary = f"{counts[True]} hold, {counts[False]} fail, {counts[None]} skipped"
    machine = f"Python {platform.python_version()}, NumPy {np.__version__}, {platform.system()} {platform.machine()}"
    rows = "\n".join(map(_row, checks))
    return render_page(
        "verify",
        subject=_text(subject),
        summary=f"{summary}. {_text(machine)}.",
        rows=rows,
        remark=f"<p>{_text(remark)}</p>" if remark else "",
    )


def _row(check: Check) -> str:
    reference, label = _text(check.reference), _text(check.label)
    if check.error is not None and check.note:
        label += f"<br><small>{_text(check.note)}</small>"
    head = f"<tr><td>{reference}</td><td>{label}</td>"
    if check.error is None:
        return f'{head}<td colspan="4" class="open">{_text(check.note)}</td></tr>'
    numbers = "".join(f'<td class="number">{value}</td>' for value in (check.cases, *format_numbers(check)))
    verdict = '<td class="holds">✓ yes</td>' if check.holds else '<td class="fails">✗ no</td>'
    return f"{head}{numbers}{verdict}</tr>"


def format_numbers(check: Check) -> tuple[str, str]:
    """Format the largest error and the bound."""
    return "-" if check.error is None else f"{check.error:.1e}", f"{check.bound:.0e}"


def _text(value: object) -> str:
    """Escape markup and control characters."""
    return html.escape(escape(value))
