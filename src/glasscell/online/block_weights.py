"""The weights of memory blocks as parameters, and as the matrix W of a step."""

import numpy as np

from glasscell.core.parameters import Parameters
from glasscell.core.types import Array

Shapes = dict[str, tuple[int, ...]]


def weight_shapes(R: int, M: int, inputs: int, outputs: tuple[int, int], *, bias: bool, cell_bias: bool) -> Shapes:
    """Return the shapes of the parameters of R hidden units, of which M are cells."""
    if bias and not cell_bias:
        return {"hidden": (R, inputs), "gate_bias": (R - M,), "output": outputs}
    return {"hidden": (R, inputs + bias), "output": outputs}


def hidden_matrix(parameters: Parameters) -> Array:
    """Return W (R, K). Where cells have no bias, it is a copy, with 0 for their bias; otherwise it is the parameter."""
    hidden = parameters["hidden"]
    if "gate_bias" not in parameters:
        return hidden
    bias = np.zeros(len(hidden))
    bias[len(hidden) - len(parameters["gate_bias"]) :] = parameters["gate_bias"]
    return np.column_stack([hidden, bias])


def store_hidden_matrix(parameters: Parameters, W: Array) -> None:
    """Write a W that was changed to the parameters."""
    if "gate_bias" in parameters:
        parameters["hidden"][:] = W[:, :-1]
        parameters["gate_bias"][:] = W[len(W) - len(parameters["gate_bias"]) :, -1]
