"""Fixed numbers of layers: one number, or one for each feature."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glasscell.validation import real_array

SHOWN = 3  # numbers of the features in a representation


def numbers(name: str, value: float | Sequence[float]) -> float | tuple[float, ...]:
    """Convert to a float or a tuple of floats, all finite."""
    array, _ = real_array(name, value, np.dtype(np.float64))
    if array.ndim > 1 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"{name} must be a finite number, or one for each feature, got {value!r}")
    return tuple(array.tolist()) if array.ndim else float(array)


def shortened(value: float | tuple[float, ...]) -> str:
    """Format a number, or the first three of several."""
    if not isinstance(value, tuple):
        return f"{value:g}"
    shown = ", ".join(f"{number:g}" for number in value[:SHOWN])
    return f"({shown}{', …' if len(value) > SHOWN else ',' * (len(value) == 1)})"


def common_size(**fields: float | tuple[float, ...]) -> int | None:
    """Return the number of features that the fields are for; None: any."""
    sizes = {name: len(value) for name, value in fields.items() if isinstance(value, tuple)}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"{' and '.join(sizes)} must have one length, got {' and '.join(map(str, sizes.values()))}")
    return next(iter(sizes.values()), None)


def same_features(size: int | None, features: int | None) -> int | None:
    """Return the number of features that a layer for `size` features gets; raise ValueError for another one."""
    if size is None or features in (None, size):
        return size or features
    raise ValueError(f"takes {size} features")
