"""Describe the machine."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from speed.threads import cores

PACKAGES = ("numpy", "torch", "onnxruntime", "jax", "numba", "scipy", "threadpoolctl")


def machine() -> dict[str, Any]:
    """Return the processor, and the versions of all packages that are compared."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "blas": _blas(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def describe(described: dict[str, Any]) -> str:
    """Return one line, for the table and the plot."""
    packages = ", ".join(f"{name} {number}" for name, number in described["packages"].items() if number)
    cores = f"{described['cores']} core{'s' * (described['cores'] > 1)}"
    return f"{described['processor']}, {cores}; Python {described['python']}, {packages}"


def _processor() -> str:
    """Return the processor's name if the system reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _blas() -> str:
    """Return the name and version of NumPy's BLAS."""
    config: Any = np.show_config(mode="dicts")
    found = config.get("Build Dependencies", {}).get("blas", {})
    return f"{found.get('name', 'unknown')} {found.get('version', '')}".strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return getattr(sys.modules.get(package), "__version__", None)
