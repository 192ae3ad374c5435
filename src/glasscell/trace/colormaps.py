"""Colours without Matplotlib, for terminals and pages: the same two scales that the figures have.

Each is defined by colours at equal distances, with straight lines between them. Viridis for gates: lighter is
more open, also in grey and to those who do not tell red from green. Blue to red through white for what has a sign.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glasscell.core.types import Array
from glasscell.trace.display import ColorScale, Range

Colors = NDArray[np.uint8]

STOPS: dict[Range, str] = {
    "open and shut": "#440154 #482878 #3e4a89 #31688e #26828e #1f9e89 #35b779 #6dcd59 #b4de2c #fde725",
    "around zero": "#053061 #2166ac #4393c3 #92c5de #f7f7f7 #f4a582 #d6604d #b2182b #67001f",
}


def rgb(values: Array, scale: ColorScale) -> Colors:
    """The colour of each value, (…, 3)."""
    stops = np.array([[int(stop[k : k + 2], 16) for k in (1, 3, 5)] for stop in STOPS[scale.kind].split()])
    share = np.nan_to_num(scale.share(values))
    channels = [np.interp(share, np.linspace(0, 1, len(stops)), stops[:, k]) for k in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def to_xterm256(colors: Colors) -> Colors:
    """The nearest of the 256 colours of terminals, by number: a cube of 6 x 6 x 6 from 16 on, greys from 232 on."""
    levels = np.array([0, 95, 135, 175, 215, 255])
    wanted = colors.astype(np.int64)
    sides = np.abs(wanted[..., None] - levels).argmin(axis=-1)
    grey = np.clip((wanted.mean(axis=-1) - 3).round() // 10, 0, 23).astype(np.int64)
    of_cube, of_grey = levels[sides], np.broadcast_to((8 + 10 * grey)[..., None], wanted.shape)
    nearer = ((of_grey - wanted) ** 2).sum(axis=-1) < ((of_cube - wanted) ** 2).sum(axis=-1)
    cube = 16 + 36 * sides[..., 0] + 6 * sides[..., 1] + sides[..., 2]
    numbers: NDArray[np.uint8] = np.where(nearer, 232 + grey, cube).astype(np.uint8)
    return numbers
