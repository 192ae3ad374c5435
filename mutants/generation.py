"""Generate mutants of a file with Cosmic Ray.

``operators.py`` adds operators that Cosmic Ray lacks. Mutants without information are left out:

- mutants that do not compile, and duplicates;
- annotations, which are not executed;
- bit operators and shifts in place of arithmetic, which raise TypeError for floats and are killed easily;
- ``is`` in place of ``==`` and similar: whether equal numbers are identical depends on CPython.

The list of a file's mutants is kept in ``build/mutants/generated`` under a hash of the file and of these rules.
"""

import ast
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.ast.ast_query import ASTQuery
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from mutant_run import ROOT
from operators import OWN

GENERATED = ROOT / "build" / "mutants" / "generated"

ARITHMETIC = {"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"}
BITS = {"RShift", "LShift", "BitOr", "BitAnd", "BitXor"}
IDENTITY = {"Is", "IsNot"}

Where = tuple[str, ...]


@dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    file: str  # under src/glasscell
    function: str
    line: int
    operator: str
    occurrence: int  # among the operator's changes of the file
    original: str  # the lines that change, without indentation
    mutated: str
    key: str  # a hash of the file's name and changed text

    @property
    def where(self) -> Where:
        """Return its cells in the list of survivors."""
        return self.file, self.function, self.original, self.mutated

    def text(self, source: str) -> str:
        """Return the whole changed file."""
        text = mutate_code(source, dict(_operators())[self.operator], self.occurrence)
        if _key(self.file, text) != self.key:
            raise RuntimeError(f"{self.file}:{self.line} {self.operator}: another mutant than the listed one")
        return str(text)


def mutants_of(file: str, source: str) -> list[Mutant]:
    """Return all informative mutants of a file, in a fixed order, from the list kept on disk if there is one."""
    rules = (Path(__file__).parent / name for name in ("generation.py", "operators.py"))
    content = "\n".join([file, source, *(rule.read_text("utf-8") for rule in rules)])
    kept = GENERATED / f"{hashlib.sha256(content.encode()).hexdigest()[:24]}.json"
    if kept.exists():
        return [Mutant(**fields) for fields in json.loads(kept.read_text("utf-8"))]
    mutants = _generate(file, source)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps([asdict(mutant) for mutant in mutants]), "utf-8")
    return mutants


def _generate(file: str, source: str) -> list[Mutant]:
    tree, annotations, mutants = get_ast(source), list(_annotations(source)), {}
    nodes = list(ast_nodes(tree))
    for name, operator in _operators():
        found = ((node, *place) for node in nodes for place in enumerate(operator.mutation_positions(node)))
        for occurrence, (node, index, (start, _)) in enumerate(found):
            if any(begin <= start < end for begin, end in annotations):
                continue
            function = ASTQuery(node).get_definition_name() or "module"
            text, compiles = _changed(tree, node, operator, index)
            if text != source and text not in mutants and compiles:
                original, mutated = _changed_lines(source, text)
                key = _key(file, text)
                mutants[text] = Mutant(file, function, start[0], name, occurrence, original, mutated, key)
    return list(mutants.values())


def _changed(tree: Any, node: Any, operator: Operator, index: int) -> tuple[str, bool]:
    """Return the text of the tree with a change of one node, and whether it compiles; the tree stays as it is.

    As Cosmic Ray's `mutate_code`, which parses the file for each change.
    """
    top = node
    while top.parent is not tree:
        top = top.parent
    place, number = tree.children.index(top), node.parent.children.index(node)
    leaves = [(leaf, leaf.value, leaf.prefix) for leaf in ast_nodes(node) if not hasattr(leaf, "children")]
    parents = [node.parent, *(inner for inner in ast_nodes(node) if hasattr(inner, "children"))]
    children = [(parent, list(parent.children)) for parent in parents]
    try:
        changed = operator.mutate(node, index)
        node.parent.children[number : number + 1] = [] if changed is None else [changed]
        return tree.get_code(), _compiles(tree.children[place].get_code())  # the rest of the file compiles as before
    finally:
        for leaf, value, prefix in leaves:
            leaf.value, leaf.prefix = value, prefix
        for parent, parts in children:
            parent.children = parts


def _key(file: str, text: str) -> str:
    return hashlib.sha256(f"{file}\n{text}".encode()).hexdigest()[:24]


def _operators() -> Iterator[tuple[str, Operator]]:
    for name in sorted(cosmic_ray.plugins.operator_names()):
        kind = cosmic_ray.plugins.get_operator(name)
        if not kind.arguments() and _is_sensible(name):
            yield name.split("/")[1], kind()
    for name, kind in OWN.items():
        yield name, kind()


def _is_sensible(name: str) -> bool:
    match = re.fullmatch(r".*/Replace(Binary|Comparison)Operator_(\w+?)_(\w+)", name)
    if not match:
        return True
    kind, old, new = match.groups()
    if kind == "Comparison":
        return old in IDENTITY or new not in IDENTITY
    return old in BITS or new in ARITHMETIC


def _annotations(source: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for node in ast.walk(ast.parse(source)):
        for name in ("annotation", "returns"):
            part = getattr(node, name, None)
            if part is not None:
                yield (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)


def _compiles(text: str) -> bool:
    try:
        compile(text, "mutant", "exec")
    except (SyntaxError, ValueError):
        return False
    return True


def _changed_lines(source: str, text: str) -> tuple[str, str]:
    old, new = source.splitlines(), text.splitlines()
    head = _alike(old, new)
    tail = _alike(old[head:][::-1], new[head:][::-1])
    original, mutated = (" ".join(" ".join(lines[head : len(lines) - tail]).split()) for lines in (old, new))
    return original, mutated


def _alike(old: list[str], new: list[str]) -> int:
    """Return the number of equal lines at the beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
