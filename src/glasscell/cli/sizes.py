"""Check sizes before memory is allocated."""

import os
from pathlib import Path

MAX_LAYERS = 1000
BYTES_PER_HISTORY_ROW = 400  # in memory, at least: a dict of floats
WEIGHT_COPIES = 4  # in training: weights, gradients, and two moments of Adam
ARRAYS_PER_STEP = 8  # of H numbers in a tape, at least


def available_memory() -> int | None:
    """Return the bytes of memory that this process may use at most, or None if unknown."""
    limits = []
    if hasattr(os, "sysconf"):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        import resource  # noqa: PLC0415 - not on Windows

        limits.append(resource.getrlimit(resource.RLIMIT_AS)[0])
    except ImportError:
        pass
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):  # of a container
        try:
            limits.append(int(Path(file).read_text()))
        except (OSError, ValueError):  # the file does not exist, or contains "max"
            continue
    return min((limit for limit in limits if limit > 0), default=None)


def check_memory(purpose: str, needed: int) -> None:
    """Raise ValueError if more bytes are needed than are available."""
    available = available_memory()
    if available is not None and needed > available:
        raise ValueError(f"{purpose} needs at least {_size(needed)} of memory, and {_size(available)} are available")


def check_layers(name: str, layers: int) -> None:
    """Raise ValueError if the number of layers exceeds `MAX_LAYERS`."""
    if layers > MAX_LAYERS:
        raise ValueError(f"{name} must be at most {MAX_LAYERS}, got {layers}")


def training_bytes(I: int, H: int, L: int, T: int, B: int, itemsize: int = 4) -> int:
    """Return the bytes that training needs at least: weights and their copies, and a tape of T steps, B sequences."""
    weights = 4 * H * (H + I + 1) + (L - 1) * 4 * H * (2 * H + 1)
    return itemsize * (WEIGHT_COPIES * weights + T * B * (I + L * ARRAYS_PER_STEP * H))


def forward_bytes(I: int, H: int, T: int, B: int, itemsize: int = 4) -> int:
    """Return the bytes that a pass over B sequences of T steps needs at least: inputs and outputs."""
    return itemsize * T * B * (I + H)


def _size(count: int) -> str:
    if count >= 10**18:  # may exceed the range of a float
        return "more than 1e9 GB"
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"
