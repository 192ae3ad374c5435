"""Rules that keep one unit's derivatives for each weight: SnAp-1, and the truncated gradient of the first LSTM."""

from __future__ import annotations

from typing import Any, ClassVar

from glasscell.core.types import Array
from glasscell.online.learner import OnlineLearner, State
from glasscell.online.unit_traces import UNIT_TRACES, UnitTraces


class UnitRule(OnlineLearner[State]):
    """A rule that keeps the derivatives of a unit's state with respect to the weights of that unit."""

    recurrent: ClassVar[bool]

    def _begin(self, initial: Any | None) -> None:
        if not hasattr(self, "_traces"):
            self._traces: UnitTraces = UNIT_TRACES[self.cell](self.layer, self._size, recurrent=self.recurrent)
        self._traces.begin(None if initial is None else {name: getattr(initial, name)[0] for name in initial._fields})

    def _state(self) -> Any:
        return self.layer.state_type(*([self._traces.state[name]] for name in self.layer.state_sizes))

    def _push(self, x: Array) -> Array:
        return self._traces.step(x)

    def _learn(self, dy: Array) -> None:
        self._traces.learn(dy, self.gradients)


class SnAp1(UnitRule[State]):
    """The sparse one-step approximation of RTRL (Menick et al. 2020, arXiv:2006.07232), at the cost of a step.

    Of the derivatives that :class:`RTRL` carries, only those of the unit that a weight belongs to are kept: h and, of
    an LSTM, c. A unit acts on itself through its cell and the diagonal of W_h; paths through other units are omitted.

    Parameters
    ----------
    layer : LSTM, GRU or RNN
        Of one layer; an LSTM without a projection, and a GRU with ``reset_after=True``: in the others a weight acts on
        all units within a step.
    batch : int, optional
        B, independent sequences that step together. Default: one, without a batch axis.

    Raises
    ------
    TypeError, ValueError
        If `layer` is no such layer, or has an option that is not supported.

    Notes
    -----
    The gradient is exact if H = 1, and if each recurrent matrix is diagonal. A step costs about 6 N operations for each
    sequence and needs 2 B N numbers, for N weights.
    In the paper h and c are components of one state, and for an output gate's weights the derivative of c is omitted;
    here it is kept, so that a unit is one component.
    """

    unsupported = frozenset({"num_layers", "proj_size", "projection_bias", "reset_after"})
    recurrent = True


class Truncated1997(UnitRule[State]):
    """The learning rule of the first LSTM (Hochreiter & Schmidhuber 1997, appendix A.1; Gers et al. 2000).

    Errors that arrive at the net inputs of a cell or of its gates change the weights of these inputs, and go no further
    back in time: h_{t-1}, and what a peephole reads, are constants. Errors go back through the cell state alone, with
    the factor f, or 1 without a forget gate.

    Parameters
    ----------
    layer : LSTM
        Of one layer.
    batch : int, optional
        B, independent sequences that step together. Default: one, without a batch axis.

    Raises
    ------
    TypeError, ValueError
        If `layer` is no such layer, or has an option that is not supported.

    Notes
    -----
    The gradient is exact if the columns of W for h_{t-1} and the peepholes are 0. A step costs about 5 N operations
    for each sequence and needs 2 B N numbers, for N weights.
    :class:`MemoryBlocks` is the network of the paper, with this rule.
    """

    cells = ("lstm",)
    unsupported = frozenset({"num_layers"})
    recurrent = False
