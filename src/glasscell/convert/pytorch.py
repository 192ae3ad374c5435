"""PyTorch's names and layout for the weights of an LSTM: also the layout of our files.

``nn.LSTM`` keeps, for each layer, ``weight_ih`` (4H, I), ``weight_hh`` (4H, H) and two biases (4H,) that add up; its
gates are in the order i f g o. Ours are i f o g, in one kernel with columns h, x, bias.
"""

from collections.abc import Mapping

import numpy as np

from glasscell.core.cell import GATES
from glasscell.core.parameters import Parameters
from glasscell.core.typing import Array

TORCH_GATES = ("i", "f", "g", "o")


def lstm_to_torch(parameters: Parameters) -> dict[str, Array]:
    """The weights of a :class:`glasscell.LSTM` under PyTorch's names.

    Our one bias becomes ``bias_ih``, and ``bias_hh`` is 0. A learned initial state keeps its names.
    """
    weights: dict[str, Array] = {}
    for name, array in parameters.items():
        if not name.startswith("kernel_"):
            weights[name] = array.copy()
            continue
        layer = name.removeprefix("kernel_")
        H = len(array) // 4
        kernel = _reorder(array, GATES, TORCH_GATES)
        weights[f"weight_ih_{layer}"] = kernel[:, H:-1].copy()
        weights[f"weight_hh_{layer}"] = kernel[:, :H].copy()
        weights[f"bias_ih_{layer}"] = kernel[:, -1].copy()
        weights[f"bias_hh_{layer}"] = np.zeros_like(kernel[:, -1])
    return weights


def lstm_from_torch(weights: Mapping[str, Array], parameters: Parameters) -> None:
    """Copy weights under PyTorch's names into the parameters of a :class:`glasscell.LSTM`.

    Raises
    ------
    ValueError
        If a weight is missing, has another shape, or is not one of these parameters; they are then as they were.
    """
    expected = {name: array.shape for name, array in lstm_to_torch(parameters).items()}
    check_shapes({name: array.shape for name, array in weights.items()}, expected)
    for name, view in parameters.items():
        if not name.startswith("kernel_"):
            view[:] = weights[name]
            continue
        layer = name.removeprefix("kernel_")
        bias = weights[f"bias_ih_{layer}"] + weights[f"bias_hh_{layer}"]
        kernel = np.concatenate([weights[f"weight_hh_{layer}"], weights[f"weight_ih_{layer}"], bias[:, None]], axis=1)
        view[:] = _reorder(kernel, TORCH_GATES, GATES)


def check_shapes(given: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse names and shapes of weights that are not the expected ones, by name."""
    for name, shape in expected.items():
        if name not in given:
            raise ValueError(f"the weight {name!r} {shape} is missing")
        if given[name] != shape:
            raise ValueError(f"the weight {name!r} has shape {given[name]}; expected {shape}")
    for name in given:
        if name not in expected:
            raise ValueError(f"the weight {name!r} {given[name]} does not belong to this model")


def _reorder(rows: Array, of: tuple[str, ...], to: tuple[str, ...]) -> Array:
    blocks = dict(zip(of, np.split(rows, 4), strict=True))
    return np.concatenate([blocks[gate] for gate in to])
