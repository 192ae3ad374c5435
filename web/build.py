"""Build the HTML pages of Glasscell: one self-contained template per page, from the sources in this folder.

Each folder with a ``body.html`` is a page: ``style.css`` and then the other CSS files by name; if the page computes
something, the ECMAScript modules from ``app.js`` on. ``shared/`` holds modules of several pages, ``shell.html`` the
parts that every page has. A built page is package data of :mod:`glasscell.pages`, which replaces its remaining
placeholders at run time, such as ``{{title}}``. Only the Python standard library is needed.

    python web/build.py
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from compact import compact_css, compact_js

SOURCES = Path(__file__).parent
OUTPUT = SOURCES.parent / "src" / "glasscell" / "pages"
ENTRY = "app.js"
# By page: the text of its <title>, and attributes of its <html>.
PAGES = {
    "report": ("{{title}}", ' data-theme="light" data-mode="forward"'),
    "film": ("{{title}}: training", ""),
    "verify": ("Glasscell: {{subject}}, verified", ""),
}

PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
FROM = r'from "(\.\.?/[\w/-]+\.js)";'
IMPORT_NAMES = re.compile(rf"^import \{{([^}}]*)\}} {FROM}$", re.MULTILINE)
IMPORT_ALL = re.compile(rf"^import \* as (\w+) {FROM}$", re.MULTILINE)
EXPORT_NAMES = re.compile(rf"^export \{{([^}}]*)\}}(?: {FROM}|;)$", re.MULTILINE)
NEXT_IMPORT = re.compile(r"(?<= = m)(\d+);\nconst (?=\{[^}]*\} = m\d+;)")  # one declaration for all of a module
EXPORT_DECLARATION = re.compile(r"^export (?=(?:async )?(?:const|let|class|function\*?) (\w+))", re.MULTILINE)


def build(page: str) -> str:
    """Return a page as one HTML template."""
    folder, (title, attributes) = SOURCES / page, PAGES[page]
    parts = {
        "html_title": title,
        "html_attributes": attributes,
        "style": _styles(folder),
        "body": re.sub(r"\n +", "\n", (folder / "body.html").read_text(encoding="utf-8")).rstrip(),
        "script": _scripts(folder),
    }
    shell = (SOURCES / "shell.html").read_text(encoding="utf-8")
    return PLACEHOLDER.sub(lambda match: parts[match[1]], shell)


def _styles(folder: Path) -> str:
    """Return the CSS files of a page as one: ``style.css`` first, then the others by name."""
    paths = sorted(folder.glob("*.css"), key=lambda path: (path.name != "style.css", path.name))
    return "\n".join(compact_css(_without_placeholders(path)) for path in paths)


def _scripts(folder: Path) -> str:
    """Return the script elements of a page: its data, and the bundled modules."""
    if not (folder / ENTRY).exists():
        return ""
    payload = '<script type="application/json" id="payload">{{payload}}</script>'
    return f"{payload}\n<script>{bundle(folder / ENTRY)}</script>\n"


def _without_placeholders(path: Path) -> str:
    source = path.read_text(encoding="utf-8")
    if match := PLACEHOLDER.search(source):
        raise ValueError(f"{path.name} must not contain a placeholder, got {match[0]}")
    return source


def bundle(entry: Path) -> str:
    """Bundle modules as one script: each becomes a function that runs once and returns its exports.

    Parameters
    ----------
    entry : path
        The module that runs last. Modules use this subset of the syntax: ``import { a, b as c } from "./x.js"``,
        ``import * as x from "../shared/x.js"``, ``export`` before a declaration, and ``export { a, b as c }`` with
        and without ``from``. Exported values are read when the module has run.

    Raises
    ------
    ValueError
        If a module has another import or export, imports itself indirectly, contains text that cannot be inside a
        script element or looks like a placeholder, or has a template literal of several lines.
    """
    functions: dict[Path, str] = {}
    _add(entry.resolve(), functions, ())
    return '"use strict";\n' + "".join(functions.values())


def _add(path: Path, functions: dict[Path, str], importers: tuple[Path, ...]) -> None:
    """Add a module after the modules that it imports."""
    if path in importers:
        raise ValueError(f"modules import each other: {' → '.join(p.name for p in (*importers, path))}")
    source = _without_placeholders(path)
    for expression in (IMPORT_NAMES, IMPORT_ALL, EXPORT_NAMES):
        for match in expression.finditer(source):
            imported = match[2] and (path.parent / match[2]).resolve()
            if imported and imported not in functions:
                _add(imported, functions, (*importers, path))
    variables = {module.stem: f"m{n}" for n, module in enumerate([*functions, path])}
    functions[path] = _as_function(path.name, source, variables)


def _as_function(name: str, source: str, variables: dict[str, str]) -> str:
    """Return a module as a function. Exports of modules are in the variables m0, m1, m2 and so on."""

    def variable(module: str) -> str:
        return variables[Path(module).stem]

    exports = [match[1] for match in EXPORT_DECLARATION.finditer(source)]
    for match in EXPORT_NAMES.finditer(source):
        origin = f"{variable(match[2])}." if match[2] else ""
        exports += [f"{new}:{origin}{old}" for old, new in _renamings(match[1])]

    def destructure(match: re.Match[str]) -> str:
        names = ",".join(old if old == new else f"{old}:{new}" for old, new in _renamings(match[1]))
        return f"const {{ {names} }} = {variable(match[2])};"

    source = IMPORT_NAMES.sub(destructure, source)
    source = IMPORT_ALL.sub(lambda match: f"const {match[1]} = {variable(match[2])};", source)
    source = EXPORT_DECLARATION.sub("", EXPORT_NAMES.sub("", source))
    if match := re.search(r"^(?:import|export)\b.*", source, re.MULTILINE):
        raise ValueError(f"{name} must use the supported imports and exports, got {match[0]}")
    if match := re.search(r"</script|<!--", source, re.IGNORECASE):
        raise ValueError(f"{name} must be valid inside a script element, got {match[0]!r}")
    source = compact_js(NEXT_IMPORT.sub(r"\1, ", source))
    return f"let {variable(name)}=(()=>{{\n{source}\nreturn{{{','.join(exports)}}};}})(); // {name}\n"


def _renamings(names: str) -> list[tuple[str, str]]:
    """Return pairs of names: (a, a), (b, c) for ``a, b as c``."""
    pairs = (item.split(" as ") for item in names.replace("\n", " ").split(","))
    return [(pair[0].strip(), pair[-1].strip()) for pair in pairs if pair[0].strip()]


def main() -> int:
    for page in PAGES:
        path = OUTPUT / f"{page}.html"
        path.write_text(build(page), encoding="utf-8")
        print(f"{path.relative_to(SOURCES.parent)}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
