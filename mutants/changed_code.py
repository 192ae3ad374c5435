"""Find out what a change of a source file changes: which functions, and which lines belong to a line."""

import ast
import gc
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

Live = Mapping[tuple[Any, ...], list[FunctionType]]
Changes = list[tuple[list[FunctionType], CodeType]]


def live_functions(package: Path) -> Live:
    """Return all functions of the package, by their code."""
    functions, prefix = defaultdict(list), str(package)
    for function in gc.get_objects():
        if type(function) is FunctionType and function.__code__.co_filename.startswith(prefix):
            functions[_identity(function.__code__)].append(function)
    return functions


def _identity(code: CodeType) -> tuple[Any, ...]:
    return code, tuple(code.co_positions())


def changes_of_functions(path: Path, text: str, live: Live) -> Changes | None:
    """Return the functions that a change of a file changes, and their new code; None if it changes more than those."""
    old, new = (compile(some, str(path), "exec", dont_inherit=True) for some in (path.read_text("utf-8"), text))
    pairs: list[tuple[CodeType, CodeType]] = []
    if not _pair(old, new, pairs, inside=False):
        return None
    changes = [(live.get(_identity(before), []), after) for before, after in pairs]
    return changes if changes and changes[0][0] else None  # the first is the outermost


def _pair(old: CodeType, new: CodeType, pairs: list[tuple[CodeType, CodeType]], *, inside: bool) -> bool:
    """Collect the functions that differ; return whether nothing else does."""
    if old == new and _identity(old) == _identity(new):
        return True
    inside = inside or bool(old.co_flags & CO_OPTIMIZED)
    if inside:
        if old.co_freevars != new.co_freevars:
            return False
        pairs.append((old, new))
    elif _without_nested(old) != _without_nested(new):
        return False
    nested = [[const for const in code.co_consts if isinstance(const, CodeType)] for code in (old, new)]
    return len(nested[0]) == len(nested[1]) and all(
        _pair(before, after, pairs, inside=inside) for before, after in zip(*nested, strict=True)
    )


def _without_nested(code: CodeType) -> CodeType:
    consts = tuple(const for const in code.co_consts if not isinstance(const, CodeType))
    return code.replace(co_consts=consts)


class Lines(NamedTuple):
    """Masks of lines: bit n is set for line n."""

    statement: int  # the statement at a line, without its body
    scope: int  # the function or class around it, or the whole file
    in_function: bool  # whether calls execute the statement, not the import


def enclosing_lines(source: str, line: int) -> Lines:
    """Return the lines that belong to a line."""
    statement = scope = _span(1, source.count("\n") + 1)
    in_function = False
    for node in _nodes(source):  # outer nodes come first
        decorators = getattr(node, "decorator_list", [])
        first = min([getattr(node, "lineno", None) or node.pattern.lineno, *(part.lineno for part in decorators)])
        last = getattr(node, "end_lineno", None) or node.body[-1].end_lineno
        if not first <= line <= last:
            continue
        body = getattr(node, "body", None)
        head = max(first, body[0].lineno - 1) if body else last  # a docstring or comment between does no harm
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            scope = _span(first, last)
            in_function = in_function or (isinstance(node, ast.FunctionDef) and line > head)
        # After its head come its body and its else.
        statement = _span(first, head) if line <= head else scope
    return Lines(statement, scope, in_function)


@cache
def _nodes(source: str) -> list[ast.AST]:
    return [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.stmt, ast.excepthandler, ast.match_case))
    ]


def _span(first: int, last: int) -> int:
    return (1 << (last + 1)) - (1 << first)
