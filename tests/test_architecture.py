"""Imports go one way, type imports included. The order of the packages is that of ORDER."""

import ast
import functools
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from case_loops import loop_over

import glasscell

ROOT = Path(glasscell.__file__).parent
# From bottom to top: a module imports from its own package and from those above it in this list.
ORDER = (
    "lazy",
    "core",
    "escaping",
    "pages",
    "validation",
    "limits",
    "atomic_files",
    "manifest_files",
    "tensor_files",
    "checkpoint",
    "data",
    "tasks",
    "recurrent",
    "weight_layouts",
    "stream",
    "trace",
    "explain",
    "online",
    "layers",
    "models",
    "training",
    "sweeps",
    "papers",
    "estimators",
    "convert",
    "verify",
    "cli",
    "__main__",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in ROOT.rglob("*.py")}


def resolve(name: str) -> str:
    """Return the module that a dotted name is, or is defined in."""
    while name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def imports_of(module: str) -> Iterator[str]:
    """Yield the modules of this project that a module imports: at its top, in functions, and for types."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} has a relative import"
            if (node.module or "").split(".")[0] == "glasscell":
                yield from (resolve(f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (resolve(alias.name) for alias in node.names if alias.name.split(".")[0] == "glasscell")


@functools.cache
def imports() -> dict[str, set[str]]:
    """Return the modules of this project that each module imports."""
    return {module: set(imports_of(module)) - {module} for module in MODULES}


def package_of(module: str) -> str | None:
    return module.split(".")[1] if "." in module else None


def test_every_package_has_its_place() -> None:
    assert {package_of(module) for module in MODULES} - {None} <= set(ORDER)


@loop_over("package", ORDER)
def test_no_package_imports_a_higher_one(package: str) -> None:
    below = ORDER[: ORDER.index(package) + 1]
    upward = [
        f"{module} imports {target}"
        for module, targets in imports().items()
        if package_of(module) == package
        for target in targets
        if target != "glasscell" and package_of(target) not in below
    ]
    assert not upward


def test_nothing_but_programs_imports_the_top_of_the_package() -> None:
    programs = {"cli", "verify", "__main__"}
    assert not [m for m, targets in imports().items() if "glasscell" in targets and package_of(m) not in programs]


def test_there_are_no_circles() -> None:
    """Depth first search: a module on the current path must not be reached again."""
    done: set[str] = set()
    circles: list[str] = []

    def visit(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            circles.append(" → ".join((*path[path.index(module) :], module)))
        elif module not in done:
            for target in sorted(imports()[module]):
                if target != "glasscell":  # lazy: it imports nothing until a name is used
                    visit(target, (*path, module))
            done.add(module)

    for module in sorted(MODULES):
        visit(module, ())
    assert not circles


def test_core_imports_numpy_and_the_standard_library_alone() -> None:
    """Except for the optional compiler in its engine, and threadpoolctl, which limits BLAS's threads."""
    allowed = {"numpy", "glasscell", *sys.stdlib_module_names}
    optional = {"glasscell.core.numba_engine": {"numba", "llvmlite"}, "glasscell.core.blas_threads": {"threadpoolctl"}}
    foreign = defaultdict(set)
    for module, path in MODULES.items():
        if package_of(module) == "core":
            extra = {name for prefix, names in optional.items() if module.startswith(prefix) for name in names}
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                foreign[module] |= {name.split(".")[0] for name in names} - allowed - extra
    assert not {module: names for module, names in foreign.items() if names}
