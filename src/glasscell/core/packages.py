"""Optional packages."""

from functools import cache
from importlib.util import find_spec


@cache  # the search takes longer than a small pass
def is_installed(package: str) -> bool:
    """Return whether a package is installed, without importing it."""
    return find_spec(package) is not None
