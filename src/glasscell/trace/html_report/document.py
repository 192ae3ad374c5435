"""The page of a report: one HTML file that shows a trace, recomputes it in the browser, and needs no network.

The page is written by hand in ``web/``: ``page.html``, ``style.css``, and ECMAScript modules, of which ``app.js`` is
the entry and starts itself. They are put together here, so that Node is not needed. In ``page.html`` stand
``{{title}}``, ``{{style}}``, ``{{payload}}`` (within ``<script type="application/json" id="payload">``) and
``{{script}}`` (within ``<script>``).

The input of the page, the payload, is a dictionary that can be written as JSON; ``array`` stands for
``{"shape": [...], "type": "float32" or "float64", "data": base64 of little-endian numbers}``.

- ``version``: 1; ``title``; ``notes``: sentences for the top of the page; ``dtype``
- ``live``: whether the page computes. Then each way of each layer has its weights.
- ``layers``: a list of ``name, input_size, hidden_size, merge, ways``; ``ways``: one, or two of a bidirectional layer,
  of ``name, reverse`` and, if live, arrays ``kernel`` (4H, H + I + 1), ``h0`` (H), ``c0`` (H)
- ``readout``: arrays ``weight`` (O, H), ``bias`` (O), or null
- ``x``: array (T, I); ``outputs``: array (T, O), null if live: the page computes them
- ``loss``: the name of one of :mod:`glasscell.core.losses`, ``targets``: array (T, O), or (T) of class numbers,
  ``weights``: array (T) or (T, O); or ``d_outputs``: array (T, O), the gradient of a loss on the outputs; each may be
  null.
  ``loss_value``: what the loss was, or null; ``share``: what the page's own loss is to be multiplied by, less than 1
  if it is of one sequence out of a batch
- ``input_names``, ``output_names``; ``step_names``, empty or one a step
- ``copy``: of the copy task ``mode, bits_per_step, bits``, or null
- ``unit_measures``: by the name of a way, ``half_life``: array (H)
- ``static``: null, or, of a page that is not live, what there is to see: ``steps``: array of the numbers of the T'
  steps that are kept, and ``ways``: by the name of a way, ``units``: array of the numbers of the H' units that are
  kept, and arrays by symbol, ``i f o g c_prev c tanh_c h d_i d_f d_o d_g d_c d_tanh_c d_h`` (T', H') and ``z d_z``
  (T', 4H'), of those that there are; h and d_h have the rows of a projection, (T', P). ``output``, ``cell`` and
  ``recurrent`` (T', H') are the parts of d_c, ``d_x_norm`` (T') is the norm of the gradient on x. All other
  arrays, x, outputs, …, are of these
  T' steps, too; of a model that reads a whole sequence into one answer, outputs and targets are (O)
"""

from __future__ import annotations

import html
import json
import re
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

ENTRY = "app.js"
HEIGHT = 900  # of a frame in a notebook, in CSS pixels


def page(payload: dict[str, Any]) -> str:
    """The whole page.

    Parameters
    ----------
    payload : dict
        As this module describes it.

    Returns
    -------
    str
        HTML. All text of the payload is escaped: markup in names is shown, not obeyed.

    Raises
    ------
    ValueError
        If the payload has a NaN or an infinity outside an array; JSON knows none.
    """
    parts = {
        "title": html.escape(str(payload["title"])),
        "style": _style(),
        "payload": script_json(payload),
        "script": _script(),
    }
    # One pass: what is put in is not searched again.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _template())


def frame(page: str, height: int = HEIGHT) -> str:
    """A page as an element of another one, such as the output of a cell in a notebook.

    Scripts run in it, and cannot reach what is around it: its sandbox has a separate origin.

    Parameters
    ----------
    page : str
        What :func:`page` returned.
    height : int
        In CSS pixels.
    """
    return (
        f'<iframe sandbox="allow-scripts" srcdoc="{html.escape(page)}" title="Glasscell report" '
        f'style="width: 100%; height: {height}px; border: 0"></iframe>'
    )


def script_json(value: Any) -> str:
    """JSON that may stand within a script element: no ``<`` in it, so neither ``</script>`` nor ``<!--``."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", r"\u003c")


def bundle(folder: Traversable, entry: str = ENTRY) -> str:
    """Modules as one script: each becomes a function that is called at once, and returns what it exports.

    Of the language of modules it understands what ``web/`` uses: ``import { a, b as c } from "./x.js"``,
    ``import * as x from "./x.js"``, ``export`` in front of a declaration, ``export { a, b as c }`` with and without
    ``from``. What is exported is taken when the module has run.

    Parameters
    ----------
    folder : path or Traversable
        Where the modules lie, all in one folder.
    entry : str
        The module that runs last.

    Raises
    ------
    ValueError
        If a module imports in another way, imports what it is imported by, or cannot stand in a script element.
    """
    written: dict[str, str] = {}
    _add(folder, entry, written, ())
    return '"use strict";\n' + "\n".join(written.values())


FROM = r'from "\./([\w-]+\.js)";'
IMPORT_NAMES = re.compile(rf"^import \{{([^}}]*)\}} {FROM}$", re.MULTILINE)
IMPORT_ALL = re.compile(rf"^import \* as (\w+) {FROM}$", re.MULTILINE)
EXPORT_NAMES = re.compile(rf"^export \{{([^}}]*)\}}(?: {FROM}|;)$", re.MULTILINE)
EXPORT_DECLARATION = re.compile(r"^export (?=(?:async )?(?:const|let|class|function\*?) (\w+))", re.MULTILINE)


def _add(folder: Traversable, name: str, written: dict[str, str], importers: tuple[str, ...]) -> None:
    """Write a module behind those that it imports."""
    if name in importers:
        raise ValueError(f"modules import each other in a circle: {' → '.join((*importers, name))}")
    source = (folder / name).read_text(encoding="utf-8")
    imports = [
        found[2] for expression in (IMPORT_NAMES, IMPORT_ALL, EXPORT_NAMES) for found in expression.finditer(source)
    ]
    for imported in filter(None, imports):
        if imported not in written:
            _add(folder, imported, written, (*importers, name))
    written[name] = _as_function(name, source)


def _as_function(name: str, source: str) -> str:
    exports = [found[1] for found in EXPORT_DECLARATION.finditer(source)]
    for found in EXPORT_NAMES.finditer(source):
        origin = f"{_variable(found[2])}." if found[2] else ""
        exports += [f"{new}: {origin}{old}" for old, new in _renamed(found[1])]

    def destructured(found: re.Match[str]) -> str:
        names = ", ".join(old if old == new else f"{old}: {new}" for old, new in _renamed(found[1]))
        return f"const {{ {names} }} = {_variable(found[2])};"

    source = IMPORT_NAMES.sub(destructured, source)
    source = IMPORT_ALL.sub(lambda found: f"const {found[1]} = {_variable(found[2])};", source)
    source = EXPORT_DECLARATION.sub("", EXPORT_NAMES.sub("", source))
    if left := re.search(r"^(?:import|export)\b.*", source, re.MULTILINE):
        raise ValueError(f"{name} has a line that the bundler does not understand: {left[0]}")
    if forbidden := re.search(r"</script|<!--", source, re.IGNORECASE):
        raise ValueError(f"{name} has {forbidden[0]!r} in it, which cannot stand in a script element")
    return f"const {_variable(name)} = (() => {{\n{source.strip()}\nreturn {{ {', '.join(exports)} }};\n}})();\n"


def _variable(module: str) -> str:
    return "module_" + re.sub(r"\W", "_", module.removesuffix(".js"))


def _renamed(names: str) -> list[tuple[str, str]]:
    """``a, b as c`` → (a, a), (b, c)."""
    pairs = (part.split(" as ") for part in names.replace("\n", " ").split(","))
    return [(pair[0].strip(), pair[-1].strip()) for pair in pairs if pair[0].strip()]


def _web() -> Traversable:
    return files("glasscell.trace") / "web"


@cache
def _template() -> str:
    return (_web() / "page.html").read_text(encoding="utf-8")


@cache
def _style() -> str:
    return (_web() / "style.css").read_text(encoding="utf-8")


@cache
def _script() -> str:
    return bundle(_web())
