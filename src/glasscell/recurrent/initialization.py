"""Where the first weights of an LSTM come from."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from typing import TYPE_CHECKING, Literal, TypeAlias

from glasscell.core.initializers import glorot_uniform, orthogonal, uniform
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array, Seed
from glasscell.recurrent.config import LSTMConfig
from glasscell.validation import as_generator, choice

if TYPE_CHECKING:
    import numpy as np

Initializer: TypeAlias = Literal["orthogonal", "glorot", "uniform"]
UNIFORM = ("peepholes", "projection", "projection_bias", "recurrent_bias")  # where everything is


def initialize(
    options: LSTMConfig, parameters: Parameters, initializer: Initializer, forget_bias: float, seed: Seed | None
) -> None:
    """Write first values into the parameters of an LSTM; 0 without a seed.

    Gains start at 1; shifts and initial states at 0; peepholes at 0 too, unless everything is uniform.
    """
    choice("initializer", initializer, ("orthogonal", "glorot", "uniform"))
    if seed is None:
        for view in parameters.values():
            view[:] = 0
        return
    rng = as_generator(seed)
    H, gates = options.hidden_size, options.variant.gates
    for name, view in parameters.items():
        kind = name.rsplit("_l", 1)[0]
        if kind == "kernel":
            _kernel(options, view, initializer, rng)
        elif kind == "projection" and initializer != "uniform":
            view[:] = orthogonal(rng, *view.shape) if initializer == "orthogonal" else glorot_uniform(rng, view.shape)
        elif initializer == "uniform" and kind in UNIFORM:
            view[:] = uniform(rng, view.shape, H**-0.5)
        else:
            view[:] = kind.startswith("gain")
        if kind == "kernel" and options.bias:  # without a forget gate of its own, f = 1 - i opens as i closes
            gate, sign = ("f", 1) if "f" in gates else ("i", -1)
            rows = slice(gates.index(gate) * H, (gates.index(gate) + 1) * H)
            view[rows, -1] += sign * forget_bias


def _kernel(options: LSTMConfig, kernel: Array, initializer: Initializer, rng: np.random.Generator) -> None:
    H, P = options.hidden_size, options.state_size
    if initializer == "uniform":
        kernel[:] = uniform(rng, kernel.shape, H**-0.5)
        return
    weights = kernel[:, :-1] if options.bias else kernel
    if options.bias:
        kernel[:, -1] = 0
    I = weights.shape[1] - P
    for start in range(0, len(kernel), H):
        rows = slice(start, start + H)
        weights[rows, :P] = orthogonal(rng, H, P) if initializer == "orthogonal" else glorot_uniform(rng, (H, P))
        weights[rows, P:] = glorot_uniform(rng, (H, I))
