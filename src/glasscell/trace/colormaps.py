"""Color maps of figures, terminals and pages.

Each is a list of equidistant colors with linear interpolation. Sequential: a closed gate is light and an open one dark,
in one hue, so that it is readable in grey and with color blindness. Diverging: blue below zero, orange above it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glasscell.core.types import Array
from glasscell.trace.display import ColorScale, ScaleKind

Colors = NDArray[np.uint8]

STOPS: dict[ScaleKind, str] = {
    "sequential": "#f1efe8 #cde2de #8cc0bc #45919a #1b6072 #0b3346",
    "diverging": "#103a75 #2c6bb2 #7aacd8 #c4d9ea #f1efe8 #f3d2b6 #e59a61 #c65d25 #7f2b0a",
}


def rgb(values: Array, scale: ColorScale) -> Colors:
    """Return the color of each value, (…, 3)."""
    stops = np.array([[int(stop[k : k + 2], 16) for k in (1, 3, 5)] for stop in STOPS[scale.kind].split()])
    share = np.nan_to_num(scale.share(values))
    channels = [np.interp(share, np.linspace(0, 1, len(stops)), stops[:, k]) for k in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def to_xterm256(colors: Colors) -> Colors:
    """Return the nearest of the 256 terminal colors: a 6 × 6 × 6 cube from number 16, greys from 232."""
    levels = np.array([0, 95, 135, 175, 215, 255])
    exact = colors.astype(np.int64)
    sides = np.abs(exact[..., None] - levels).argmin(axis=-1)
    grey = np.clip((exact.mean(axis=-1) - 3).round() // 10, 0, 23).astype(np.int64)
    cube_rgb, grey_rgb = levels[sides], np.broadcast_to((8 + 10 * grey)[..., None], exact.shape)
    grey_is_nearer = ((grey_rgb - exact) ** 2).sum(axis=-1) < ((cube_rgb - exact) ** 2).sum(axis=-1)
    cube = 16 + 36 * sides[..., 0] + 6 * sides[..., 1] + sides[..., 2]
    numbers: NDArray[np.uint8] = np.where(grey_is_nearer, 232 + grey, cube).astype(np.uint8)
    return numbers
