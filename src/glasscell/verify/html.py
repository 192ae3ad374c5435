"""The table of claims as one page of HTML: no network, readable anywhere."""

import html
import platform
from collections.abc import Sequence

import numpy as np

from glasscell.escaping import escape as escaped
from glasscell.verify.checks import Check

STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #cf222e; --dim: #777; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #ff7b72; --dim: #999; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--dim); padding-bottom: .5rem; }
th, td { text-align: left; padding: .35rem .7rem; border-bottom: 1px solid var(--line); vertical-align: top; }
.number { text-align: right; white-space: nowrap; }
.holds { color: var(--good); } .fails { color: var(--bad); font-weight: bold; } .open { color: var(--dim); }
"""


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
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Glasscell: {_text(subject)}, checked</title>
<style>{STYLE}</style>
</head>
<body>
<h1>Glasscell: {_text(subject)}, checked</h1>
<div class="scroll">
<table>
<caption>{summary}. {_text(machine)}.</caption>
<thead><tr><th scope="col">against</th><th scope="col">what was compared</th><th scope="col" class="number">cases</th>
<th scope="col" class="number">largest error</th><th scope="col" class="number">bound</th>
<th scope="col">holds</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>
{f"<p>{_text(remark)}</p>" if remark else ""}
</body>
</html>
"""


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
