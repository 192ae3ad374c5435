"""The gated recurrent unit, stacked, in one direction or both."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from glasscell.core import gru
from glasscell.core.gru_tape import Tape
from glasscell.core.types import Array
from glasscell.layers.cell_stack import CellStack
from glasscell.layers.trainable import refuse_unknown_options
from glasscell.validation import boolean

if TYPE_CHECKING:
    from glasscell.stream.building import Stage


class GRU(CellStack):
    """A stack of gated recurrent units (Cho et al. 2014), as ``torch.nn.GRU``; equations in :mod:`glasscell.core.gru`.

    Parameters
    ----------
    input_size : int
        I.
    hidden_size : int
        H.
    num_layers : int
        L; each layer takes the outputs of the one before.
    reset_after : bool
        Whether the reset gate acts behind the product with the recurrent weights of the candidate, as in PyTorch and
        cuDNN. False: before, as in the paper; Keras has both.
    bidirectional : bool
        Whether each layer runs in both directions; their outputs are side by side.
    bias : bool
    dropout : float
        Probability with which, in training, outputs of each layer but the last are 0, drawn at every step.
    initializer : {"orthogonal", "glorot", "uniform"}
        "orthogonal": recurrent weights of each gate orthogonal, input weights Glorot-uniform, biases 0. "glorot": both
        Glorot-uniform. "uniform": everything in ±1/√H, as in PyTorch.
    dtype : float32 or float64
    seed : int or numpy.random.Generator, optional
        None draws nothing: all weights are 0. Default: 0, and in a :class:`glasscell.Sequential` drawn from the model's
        seed.
    parameters : Parameters, optional
        Where to keep the weights, of the names and shapes of :meth:`shapes`.

    Attributes
    ----------
    parameters : Parameters
        ``kernel_l0`` (3H, H + I + 1), …: rows r z n, columns for h_{t-1}, x_t and the bias; ``recurrent_bias_l0`` (H,),
        that of q, unless ``reset_after=False``; ``_reverse`` for the second direction.

    Examples
    --------
    >>> import numpy as np
    >>> layer = GRU(input_size=3, hidden_size=16, bidirectional=True)
    >>> y, state, tape = layer.forward(np.zeros((5, 7, 3)))
    >>> y.shape, state.h.shape, tape.layers[0].z.shape
    ((5, 7, 32), (2, 5, 16), (7, 16, 5))
    >>> dx, dstate, gradients = layer.backward(tape, np.ones_like(y))
    >>> dx.shape, gradients["kernel_l0"].shape
    ((5, 7, 3), (48, 20))
    """

    cell: ClassVar[Any] = gru
    gates: ClassVar[tuple[str, ...]] = gru.GATES
    symbols: ClassVar[tuple[str, ...]] = ("x", "a_r", "a_z", "r", "z", "q", "a_n", "n", "h", "W_h")

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, *, reset_after: bool = True, **options: Any
    ) -> None:
        self.reset_after = boolean("reset_after", reset_after)
        self.cell_options = {"reset_after": reset_after}
        super().__init__(input_size, hidden_size, num_layers, **options)

    @classmethod
    def cell_shapes(cls, input_size: int, hidden_size: int, **options: Any) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of the weights of one direction, with a bias."""
        reset_after = boolean("reset_after", options.pop("reset_after", True))
        refuse_unknown_options(options, cls, CellStack)
        return gru.shapes(input_size, hidden_size, reset_after=reset_after)

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that make an equal layer, except dtype and seed; those with the default are omitted."""
        return super().config | ({} if self.reset_after else {"reset_after": False})

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream: all layers."""
        return self._stream_stage(single=single)

    def _shape_options(self) -> dict[str, Any]:
        return {"reset_after": self.reset_after}

    def _step_gradients(
        self, tape: Tape, dy: Array, dh: Array, gradient: gru.Gradient
    ) -> Callable[[], dict[str, Array]]:
        def compute() -> dict[str, Array]:
            H = dh.shape[1]
            valid = 1 if tape.lengths is None else np.arange(len(dh))[:, None, None] < tape.lengths
            d_n: Array = dh * (1 - tape.z) * valid
            d_z: Array = dh * (tape.h_prev - tape.n) * valid
            d_r: Array = gradient.da[:, 2 * H :] * tape.q if self.reset_after else gradient.dq * tape.h_prev
            if gradient.d_gates is not None:  # under interventions
                d_r, d_z, d_n = (gradient.d_gates[:, k * H : (k + 1) * H] for k in range(3))
            gates = {"r": d_r, "z": d_z, "n": d_n, "q": gradient.dq, "a": gradient.da}
            return {"y": dy, "h": dh, **gates, "x": gradient.dx}

        return compute
