"""The LSTM variants of the literature and of other libraries, as one general layer, forward and backward.

A step with all options (⊙ is elementwise; :mod:`~glasscell.core.cell` is the step without options)::

    z = W_x x_t + W_h (r ⊙ h_{t-1}) + b        r: recurrent dropout, the same at every step
    z_i += p_i ⊙ c_{t-1}                       peepholes; z_f likewise
    i f g = σ(clip(z_i)), σ(clip(z_f)), τ(clip(z_g))
    ĉ = f ⊙ c_{t-1} + i ⊙ g                    coupled gates: f = 1 - i, or i = 1 - f; no forget gate: f = 1
    o = σ(clip(z_o + p_o ⊙ ĉ))
    ĥ = P (o ⊙ φ(ĉ)) + b_p                     projection
    c_t = c_{t-1} + k_c ⊙ (ĉ - c_{t-1})        zoneout: k is the share of the new value
    h_t = h_{t-1} + k_h ⊙ (ĥ - h_{t-1})

Layer normalisation N(a), to mean 0 and variance 1, has three forms:

- "haste":   z = γ_x N(W_x x_t) + γ_h N(W_h h_{t-1}) + b over all gates at once, and φ(γ_c N(ĉ) + β_c)
- "tflite":  z_i = γ_i N(z_i) + b_i for each gate, peephole included
- "contrib": the same, and ĉ = γ_c N(f ⊙ c_{t-1} + i ⊙ g) + β_c

Sources: peepholes, Gers & Schmidhuber (2000); projection, Sak et al. (2014); f = 1 - i, the ONNX operator; i = 1 - f,
Greff et al. (2015); f = 1, Hochreiter & Schmidhuber (1997), and NFG of Greff et al. (2015); clip, the ONNX operator;
zoneout, Krueger et al. (2017), equation 3; recurrent dropout, Gal & Ghahramani (2016), equation 7; layer normalisation,
the projects of these names.

Only the recurrence runs step by step; the product with the inputs and the gradients of the weights are computed for all
steps at once.
Shapes as in :mod:`~glasscell.core.lstm`; ``P`` rows of h, ``R`` rows of the kernel: 4H; 3H with coupled gates,
or without forget gates.
"""

from typing import TYPE_CHECKING

from glasscell.core.variants.config import CellConfig, CoupledGates, DropoutMasks, LayerNorm
from glasscell.lazy import attach

if TYPE_CHECKING:
    from glasscell.core.variants.backward_pass import Gradient, backward
    from glasscell.core.variants.forward_pass import Tape, forward

__all__ = ["CellConfig", "CoupledGates", "DropoutMasks", "Gradient", "LayerNorm", "Tape", "backward", "forward"]

__getattr__, __dir__ = attach(
    __name__,
    {"Tape": "forward_pass", "forward": "forward_pass", "Gradient": "backward_pass", "backward": "backward_pass"},
)
