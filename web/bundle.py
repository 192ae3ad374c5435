"""Bundle ECMAScript modules as one script.

The modules share the scope of one function, in the order in which they run: a name that one exports is declared for
all of them, so that imports and exports need no code. A module with a name that an earlier one has too is a function
inside that scope. Only the Python standard library is needed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from compact import compact_js, declared_names

PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
FROM = r'from "(\.\.?/[\w/-]+\.js)";'
IMPORT_NAMES = re.compile(rf"^import \{{([^}}]*)\}} {FROM}$", re.MULTILINE)
IMPORT_ALL = re.compile(rf"^import \* as (\w+) {FROM}$", re.MULTILINE)
EXPORT_NAMES = re.compile(rf"^export \{{([^}}]*)\}}(?: {FROM}|;)$", re.MULTILINE)
EXPORT_DECLARATION = re.compile(r"^export (?=(?:async )?(?:const|let|class|function\*?) (\w+))", re.MULTILINE)


def bundle(entry: Path) -> str:
    """Bundle modules as one script.

    Parameters
    ----------
    entry : path
        The module that runs last. Modules use this subset of the syntax: ``import { a, b as c } from "./x.js"``,
        ``import * as x from "../shared/x.js"``, ``export`` before a declaration, and ``export { a, b as c }`` with
        and without ``from``. A value that is imported under another name is read when the importing module runs.

    Raises
    ------
    ValueError
        If a module has another import or export, imports what a module does not export, imports itself indirectly,
        contains text that cannot be inside a script element or looks like a placeholder, or has a template literal
        that does not end.
    """
    return f'"use strict";(()=>{{\n{read_modules(entry).text}}})();\n'


def read_modules(entry: Path) -> Script:
    """Return a module, and those that it imports, as a script."""
    script = Script()
    script.add(entry.resolve(), ())
    return script


@dataclass
class Script:
    """A script that grows by modules.

    Attributes
    ----------
    text : str
        The modules so far.
    scope : dict
        What is declared for all modules. By name: the name or expression that it is another name of, or itself.
    exports : dict of dict
        By module and name of an export: its name in the scope.
    """

    text: str = ""
    scope: dict[str, str] = field(default_factory=dict)
    exports: dict[Path, dict[str, str]] = field(default_factory=dict)

    def add(self, path: Path, importers: tuple[Path, ...]) -> None:
        """Add a module after the modules that it imports."""
        if path in importers:
            raise ValueError(f"modules import each other: {' → '.join(p.name for p in (*importers, path))}")
        if path in self.exports:
            return
        source = read(path)
        for expression in (IMPORT_NAMES, IMPORT_ALL, EXPORT_NAMES):
            for match in expression.finditer(source):
                if match[2]:
                    self.add((path.parent / match[2]).resolve(), (*importers, path))
        imported, exported = self._imports(path, source), self._exports(path, source)
        code = _without_imports(path.name, source)
        names = declared_names(code)
        renamed = {name: value for name, value in imported.items() if value != name and self.scope.get(name) != value}
        own = {name for name in exported.values() if name in names}
        if (names | set(renamed)) & set(self.scope):
            code, new = self._in_function(code, renamed, sorted(own))
        else:
            code = "".join(f"let {name} = {value};\n" for name, value in renamed.items()) + code
            self.scope |= {name: name for name in names} | renamed
            new = {name: name for name in own}
        self.exports[path] = {name: new.get(here, imported.get(here, here)) for name, here in exported.items()}
        self.text += f"{compact_js(code)} // {path.name}\n"

    def _in_function(self, code: str, renamed: dict[str, str], own: list[str]) -> tuple[str, dict[str, str]]:
        """Return a module as a function that is called once, and its exports: names in the scope by names here."""
        new: dict[str, str] = {}
        for name in own:
            free = (
                candidate for n in range(len(self.scope) + 1) if (candidate := f"{name}{n or ''}") not in self.scope
            )
            new[name] = next(free)
            self.scope[new[name]] = new[name]
        targets = ", ".join(name if name == other else f"{name}: {other}" for name, other in new.items())
        start = f"const {{ {targets} }} = " if new else ""
        code = f"{start}(({', '.join(renamed)}) => {{\n{code}\nreturn {{ {', '.join(new)} }};\n}})"
        return f"{code}({', '.join(renamed.values())});", new

    def _imports(self, path: Path, source: str) -> dict[str, str]:
        """Return the names in the scope, or expressions, of what a module imports, by its names for them."""
        imported: dict[str, str] = {}
        for match in IMPORT_NAMES.finditer(source):
            exports = self.exports[(path.parent / match[2]).resolve()]
            for old, name in _renamings(match[1]):
                if old not in exports:
                    raise ValueError(f"{path.name} must import what {match[2]} exports, got {old}")
                imported[name] = exports[old]
        for match in IMPORT_ALL.finditer(source):
            exports = self.exports[(path.parent / match[2]).resolve()]
            imported[match[1]] = f"{{ {', '.join(f'{name}: {value}' for name, value in exports.items())} }}"
        return imported

    def _exports(self, path: Path, source: str) -> dict[str, str]:
        """Return what a module exports, by name: its name here, or for another module's export that in the scope."""
        exported = {match[1]: match[1] for match in EXPORT_DECLARATION.finditer(source)}
        for match in EXPORT_NAMES.finditer(source):
            exports = self.exports[(path.parent / match[2]).resolve()] if match[2] else {}
            exported |= {name: exports.get(old, old) for old, name in _renamings(match[1])}
        return exported


def read(path: Path) -> str:
    """Return the text of a file of a page, which must not contain a placeholder."""
    source = path.read_text(encoding="utf-8")
    if match := PLACEHOLDER.search(source):
        raise ValueError(f"{path.name} must not contain a placeholder, got {match[0]}")
    return source


def _without_imports(name: str, source: str) -> str:
    """Return a module without its imports and exports."""
    for expression in (IMPORT_NAMES, IMPORT_ALL, EXPORT_NAMES, EXPORT_DECLARATION):
        source = expression.sub("", source)
    if match := re.search(r"^(?:import|export)\b.*", source, re.MULTILINE):
        raise ValueError(f"{name} must use the supported imports and exports, got {match[0]}")
    if match := re.search(r"</script|<!--", source, re.IGNORECASE):
        raise ValueError(f"{name} must be valid inside a script element, got {match[0]!r}")
    return source


def _renamings(names: str) -> list[tuple[str, str]]:
    """Return pairs of names: (a, a), (b, c) for ``a, b as c``."""
    pairs = (item.split(" as ") for item in names.replace("\n", " ").split(","))
    return [(pair[0].strip(), pair[-1].strip()) for pair in pairs if pair[0].strip()]
