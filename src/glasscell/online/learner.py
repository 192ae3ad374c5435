"""What the rules share: the layer, its state, and checks of arguments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core import gru, rnn
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array
from glasscell.recurrent.config import LSTMConfig
from glasscell.validation import finite_array, positive_integer, type_name

SIZES = {"input_size", "hidden_size", "num_layers", "bias"}
# Options of a layer that these rules compute; masked_outputs and epsilon change nothing in a step that exists.
LSTM_OPTIONS = SIZES | {
    *("recurrent_bias", "proj_size", "projection_bias", "peepholes", "coupled", "forget_gate", "clip"),
    *("gate_activation", "candidate_activation", "output_activation", "learn_initial_state", "masked_outputs"),
}
CELL_OPTIONS = SIZES | {"reset_after", "nonlinearity"}

State = TypeVar("State")


class OnlineLearner(ABC, Generic[State]):
    """A recurrent layer that runs step by step, and the gradient of its weights that a rule computes on the way.

    Attributes
    ----------
    layer : RecurrentLayer
        Its weights are read at each step, so that an optimiser may change them between steps.
    batch : int or None
        B, the number of sequences that step together; None: one, whose arrays have no batch axis.
    gradients : Parameters
        Of the names and shapes of ``layer.parameters``: the sum of all that :meth:`learn` has added.
    """

    cells: ClassVar[tuple[str, ...]] = ("lstm", "rnn", "gru")
    unsupported: ClassVar[frozenset[str]] = frozenset()  # options that this rule accepts at their defaults only

    def __init__(self, layer: Any, batch: int | None = None) -> None:
        self.cell = _check_layer(layer, self)
        self.layer, self.batch = layer, None if batch is None else positive_integer("batch", batch)
        self.gradients: Parameters = layer.parameters.zeros_like()
        self.reset()

    @property
    def state(self) -> State:
        """The state after the last step: h, and c of an LSTM, as ``layer.forward`` returns them.

        A state that is assigned is a constant: derivatives with respect to the weights begin again, at 0.
        """
        state: State = self.layer.state_to_user(self._state(), single=self.batch is None)
        return state

    @state.setter
    def state(self, state: State) -> None:
        self.reset(state)

    def reset(self, state: State | None = None) -> None:
        """Begin a sequence; :attr:`gradients` stay.

        Parameters
        ----------
        state : state_type, optional
            Initial state, of the shapes of :attr:`state`. Default: the learned one, or 0.
        """
        initial = None
        if state is not None:
            initial = self.layer.state_to_feature_major("state", state, self._size, single=self.batch is None)
        self._begin(initial)
        self._has_step = False

    def push(self, x: ArrayLike) -> Array:
        """Take one step.

        Parameters
        ----------
        x : array (I,), or (B, I) with a batch
            Finite.

        Returns
        -------
        array (P,) or (B, P)
            The output of this step.

        Raises
        ------
        ValueError
            If x is not finite or of another shape, or the layer has interventions. The state is unchanged.
        """
        _check_no_interventions(self.layer, self)
        with np.errstate(under="ignore"):
            y = self._push(self._columns("x", x, self.layer.input_size, "I"))
        self._has_step = True
        return y[:, 0].copy() if self.batch is None else y.T.copy()

    def learn(self, dy: ArrayLike) -> Self:
        """Add the gradient of the loss of the last step to :attr:`gradients`, summed over the batch.

        Parameters
        ----------
        dy : array (P,), or (B, P) with a batch
            Gradient of the loss of this step on its output. Calls for one step add up.

        Raises
        ------
        RuntimeError
            If there is no step since the beginning of the sequence.
        """
        if not self._has_step:
            raise RuntimeError("learn() must follow a push(): there is no step since the beginning of the sequence")
        dy = self._columns("dy", dy, self.layer.output_size, "P")
        with np.errstate(under="ignore"):
            self._learn(dy)
        return self

    def zero_gradients(self) -> None:
        """Set :attr:`gradients` to 0, such as after an update."""
        self.gradients.vector[:] = 0

    @property
    def _size(self) -> int:
        return 1 if self.batch is None else self.batch

    def _columns(self, name: str, value: ArrayLike, features: int, letter: str) -> Array:
        """Check one vector for each sequence, and return them as columns (features, B)."""
        array = finite_array(name, value, self.layer.dtype)
        shape = (features,) if self.batch is None else (self.batch, features)
        if array.shape != shape:
            letters = f"({letter},)" if self.batch is None else f"(B, {letter})"
            raise ValueError(f"{name} must have shape {letters} = {shape}, got {array.shape}")
        return array.reshape(self._size, features).T

    @abstractmethod
    def _begin(self, initial: Any | None) -> None:
        """Set the state, in core's layout, or the initial one, and its derivatives."""

    @abstractmethod
    def _state(self) -> Any:
        """Return the state in core's layout."""

    @abstractmethod
    def _push(self, x: Array) -> Array:
        """Take a step with x (I, B): return y (P, B)."""

    @abstractmethod
    def _learn(self, dy: Array) -> None:
        """Add the gradient for dy (P, B)."""


def _check_layer(layer: Any, rule: OnlineLearner[Any]) -> str:
    """Return "lstm", "rnn" or "gru" for a layer that the rule can train."""
    label = type(rule).__name__
    options = getattr(layer, "options", None)
    if isinstance(options, LSTMConfig):
        cell, given, known = "lstm", options.non_default(), LSTM_OPTIONS
    elif getattr(layer, "cell", None) in (rnn, gru):
        cell, given, known = "rnn" if layer.cell is rnn else "gru", layer.config, CELL_OPTIONS
    else:
        cell, given, known = "", {}, set()
    if cell not in rule.cells:
        kinds = {"lstm": "an LSTM", "rnn": "an RNN", "gru": "a GRU"}
        *others, last = (kinds[one] for one in rule.cells)
        expected = f"{', '.join(others)} or {last}" if others else last
        raise TypeError(f"layer must be {expected}, got {type_name(layer)}")
    for name, value in given.items():
        if name not in known - rule.unsupported:
            raise ValueError(f"layer must have no {name}={value!r}: {label} does not support it")
    _check_no_interventions(layer, rule)
    return cell


def _check_no_interventions(layer: Any, rule: OnlineLearner[Any]) -> None:
    """Raise ValueError if a layer has interventions, which may begin between two steps."""
    if any(layer.interventions(k) for k in range(layer.num_states[1])):
        raise ValueError(f"layer must have no interventions: {type(rule).__name__} does not support them")
