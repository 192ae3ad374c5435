"""Write the table of checks as one HTML page, which needs no network."""

import html
import platform
from collections.abc import Sequence

import numpy as np

from glasscell.escaping import escape as escaped
from glasscell.pages import render_page
from glasscell.verify.checks import Check


def page(claims: Sequence[Check], subject: str, remark: str = "") -> str:
    """The page.

    Parameters
    ----------
    claims : sequence of Claim
    subject : str
        What was checked: the library, or the name of a file.
    remark : str
        What could not be checked of it at all.
    """
    counts = {verdict: sum(claim.holds is verdict for claim in claims) for verdict in (True, False, None)}
    summary = f"{counts[True]} hold, {counts[False]} fail, {counts[None]} could not be checked"
    machine = f"Python {platform.python_version()}, NumPy {np.__version__}, {platform.system()} {platform.machine()}"
    rows = "\n".join(map(_row, claims))
    return render_page(
        "verify",
        subject=_text(subject),
        summary=f"{summary}. {_text(machine)}.",
        rows=rows,
        remark=f"<p>{_text(remark)}</p>" if remark else "",
    )


def _row(claim: Check) -> str:
    against, what = _text(claim.against), _text(claim.what)
    if claim.error is not None and claim.note:
        what += f"<br><small>{_text(claim.note)}</small>"
    head = f"<tr><td>{against}</td><td>{what}</td>"
    if claim.error is None:
        return f'{head}<td colspan="4" class="open">{_text(claim.note)}</td></tr>'
    numbers = "".join(f'<td class="number">{value}</td>' for value in (claim.cases, *in_words(claim)))
    verdict = '<td class="holds">✓ yes</td>' if claim.holds else '<td class="fails">✗ no</td>'
    return f"{head}{numbers}{verdict}</tr>"


def in_words(claim: Check) -> tuple[str, str]:
    """The largest error and the bound, as they are printed."""
    return "-" if claim.error is None else f"{claim.error:.1e}", f"{claim.bound:.0e}"


def _text(value: object) -> str:
    """Text as it is shown on a page: neither markup nor characters that act on it."""
    return html.escape(escaped(value))
