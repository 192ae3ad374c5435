"""Type aliases of signatures."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# float32 or float64; all arrays of a computation have the same dtype.
Array: TypeAlias = NDArray[np.floating[Any]]
# Source of random numbers: a seed, or a generator, whose state advances.
Seed: TypeAlias = "int | np.random.Generator"
