"""What it was measured on."""

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
    """The processor, and the versions of everything that takes part."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "blas": _blas(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def describe(described: dict[str, Any]) -> str:
    """One line: for the table and the picture."""
    packages = ", ".join(f"{name} {number}" for name, number in described["packages"].items() if number)
    cores = f"{described['cores']} core{'s' * (described['cores'] > 1)}"
    return f"{described['processor']}, {cores}; Python {described['python']}, {packages}"


def _processor() -> str:
    """Its name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _blas() -> str:
    """NumPy's."""
    config: Any = np.show_config(mode="dicts")
    found = config.get("Build Dependencies", {}).get("blas", {})
    return f"{found.get('name', 'unknown')} {found.get('version', '')}".strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return getattr(sys.modules.get(package), "__version__", None)
