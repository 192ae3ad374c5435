"""Import names on first use, so that ``import glasscell`` stays fast (PEP 562)."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as in the package

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def attach(package: str, locations: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's ``__getattr__`` and ``__dir__``.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    locations : mapping of str to str
        Module of the package that defines each name; a module maps to its name.
    """

    def getattr_(name: str) -> Any:
        if name not in locations:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f"{package}.{locations[name]}")
        return module if locations[name].rpartition(".")[2] == name else getattr(module, name)

    def dir_() -> list[str]:
        return sorted({*vars(import_module(package)), *locations})

    return getattr_, dir_
