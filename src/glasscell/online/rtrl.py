"""Real-time recurrent learning.

Williams & Zipser (1989), "A Learning Algorithm for Continually Running Fully Recurrent Neural Networks".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from glasscell.core.types import Array
from glasscell.online.learner import OnlineLearner, State
from glasscell.online.tangents import TANGENT_LAYERS, TangentLayer


class RTRL(OnlineLearner[State]):
    """Real-time recurrent learning (Williams & Zipser 1989): the exact gradient, forward in time.

    Parameters
    ----------
    layer : LSTM, GRU or RNN
        Running forward in time, with any number of stacked layers. Of an LSTM all options are supported, except
        ``layer_norm`` and those that add noise (dropout, zoneout).
    batch : int, optional
        B, independent sequences that step together. Default: one, without a batch axis.

    Raises
    ------
    TypeError, ValueError
        If `layer` is no such layer, or has another option.

    Notes
    -----
    With the weights constant, the sum of the gradients of all steps is that of backpropagation through time over the
    whole sequence, to rounding, whatever its length. If an optimiser changes the weights between steps, the
    derivatives that are kept are those at the earlier weights; the change of the weights in one step should be small.

    The derivatives of the state with respect to all N weights are carried from step to step. Of an LSTM with H units,
    a step costs about 8 H² N operations for each sequence, and the memory is B (H + P) N numbers, with another
    B (4H + P) N during a step: N is 4H (H + I + 1). Backpropagation through time costs 6 N operations a step, but
    needs memory for each step. Neither cost of RTRL depends on the number of steps.

    Examples
    --------
    >>> import numpy as np, glasscell as gc
    >>> layer = gc.LSTM(input_size=2, hidden_size=4, dtype=np.float64)
    >>> learner = gc.online.RTRL(layer)
    >>> for x in np.eye(2):
    ...     y = learner.push(x)
    ...     _ = learner.learn(y - 1)  # the gradient of ½ |y - 1|²
    >>> layer.parameters.vector -= 0.1 * learner.gradients.vector
    """

    def _begin(self, initial: Any | None) -> None:
        if not hasattr(self, "_layers"):
            self._layers: list[TangentLayer] = []
            I = self.layer.input_size
            for k in range(self.layer.num_states[1]):
                self._layers.append(TANGENT_LAYERS[self.cell](self.layer, f"_l{k}", I, self._size))
                I = self.layer.output_size
        for k, one in enumerate(self._layers):
            one.begin(None if initial is None else {name: getattr(initial, name)[k] for name in initial._fields})

    def _state(self) -> Any:
        names = self.layer.state_sizes
        return self.layer.state_type(*([one.state[name] for one in self._layers] for name in names))

    def _push(self, x: Array) -> Array:
        dx: Array | None = None
        for one in self._layers:
            one.step(x, dx)
            x, dx = one.state["h"], one.tangents["h"]
        return x

    def _learn(self, dy: Array) -> None:
        self.gradients.vector += np.tensordot(dy, self._layers[-1].tangents["h"], axes=2)
