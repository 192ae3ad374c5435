"""Names that are imported when they are first used, so that ``import glasscell`` stays quick (PEP 562)."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as in the package

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def attach(package: str, places: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's ``__getattr__`` and ``__dir__``.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    places : mapping of str to str
        For each name the module of the package that has it; a name that is itself a module has its own name there.
    """

    def getattr_(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f"{package}.{places[name]}")
        return module if places[name].rpartition(".")[2] == name else getattr(module, name)

    def dir_() -> list[str]:
        return sorted({*vars(import_module(package)), *places})

    return getattr_, dir_
