"""The simple recurrent layer: h_t = tanh(W [h_{t-1}; x_t; 1]), stacked, in one direction or both."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from glasscell.core import rnn
from glasscell.core.types import Array
from glasscell.layers.cell_stack import CellStack
from glasscell.layers.trainable import refuse_unknown_options
from glasscell.validation import choice

if TYPE_CHECKING:
    from glasscell.stream.building import Stage


class RNN(CellStack):
    """A stack of simple recurrent layers (Elman 1990), as ``torch.nn.RNN``; equations in :mod:`glasscell.core.rnn`.

    Parameters
    ----------
    input_size : int
        I.
    hidden_size : int
        H.
    num_layers : int
        L; each layer takes the outputs of the one before.
    nonlinearity : {"tanh", "relu"}
    bidirectional : bool
        Whether each layer runs in both directions; their outputs are side by side.
    bias : bool
    dropout : float
        Probability with which, in training, outputs of each layer but the last are 0, drawn at every step.
    initializer : {"orthogonal", "glorot", "uniform"}
        "orthogonal": recurrent weights orthogonal, input weights Glorot-uniform, biases 0. "glorot": both
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
        ``kernel_l0`` (H, H + I + 1), …: columns for h_{t-1}, x_t and the bias; ``_reverse`` for the second direction.

    Examples
    --------
    >>> import numpy as np
    >>> layer = RNN(input_size=3, hidden_size=16, num_layers=2)
    >>> y, state, tape = layer.forward(np.zeros((5, 7, 3)))
    >>> y.shape, state.h.shape, tape.layers[0].h.shape
    ((5, 7, 16), (2, 5, 16), (7, 16, 5))
    >>> dx, dstate, gradients = layer.backward(tape, np.ones_like(y))
    >>> dx.shape, gradients["kernel_l0"].shape
    ((5, 7, 3), (16, 20))
    """

    cell: ClassVar[Any] = rnn
    gates: ClassVar[tuple[str, ...]] = ("h",)
    symbols: ClassVar[tuple[str, ...]] = ("x", "z", "h", "W_h")

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, *, nonlinearity: str = "tanh", **options: Any
    ) -> None:
        choice("nonlinearity", nonlinearity, ("tanh", "relu"))
        self.nonlinearity = nonlinearity
        self.cell_options = {"activation": nonlinearity}
        super().__init__(input_size, hidden_size, num_layers, **options)

    @classmethod
    def cell_shapes(cls, input_size: int, hidden_size: int, **options: Any) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of the weights of one direction, with a bias."""
        choice("nonlinearity", options.pop("nonlinearity", "tanh"), ("tanh", "relu"))
        refuse_unknown_options(options, cls, CellStack)
        return rnn.shapes(input_size, hidden_size)

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that make an equal layer, except dtype and seed; those with the default are omitted."""
        return super().config | ({"nonlinearity": self.nonlinearity} if self.nonlinearity != "tanh" else {})

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream: all layers."""
        return self._stream_stage(single=single)

    def _step_gradients(
        self, tape: rnn.Tape, dy: Array, dh: Array, gradient: rnn.Gradient
    ) -> Callable[[], dict[str, Array]]:
        del tape
        return lambda: {"y": dy, "h": dh, "z": gradient.dz, "x": gradient.dx}
