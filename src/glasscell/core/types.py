"""The names that signatures use."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# float32 or float64. Every array of one computation has the same of the two.
Array: TypeAlias = NDArray[np.floating[Any]]
# What random numbers are drawn from: a number, or a generator, which goes on.
Seed: TypeAlias = "int | np.random.Generator"
