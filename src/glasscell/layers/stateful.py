"""The protocol of layers that carry a state between calls, in core's layout."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from glasscell.core.types import Array
from glasscell.layers.base import Mask
from glasscell.layers.trainable import TrainableLayer
from glasscell.validation import finite_array

if TYPE_CHECKING:
    from glasscell.core.buffers import BufferPool
    from glasscell.core.parameters import Parameters
    from glasscell.trace.layer_trace import LayerTrace


class StatefulLayer(TrainableLayer):
    """A layer with parameters and a state that it carries from step to step, and between calls.

    A subclass of :class:`~glasscell.layers.recurrent_layer.RecurrentLayer` defines the passes in core's layout,
    ``forward_feature_major`` and :meth:`backward_with_state`, and the description of its state and tape.

    In core's layout a state is a ``state_type`` whose fields are sequences of arrays (rows, B), one for each of the
    ``num_states`` stacked layers and directions. For users its fields are arrays (num_states, B, rows), or
    (num_states, rows) for a single sequence.

    Attributes
    ----------
    input_size, output_size : int
    state_type : class
        A NamedTuple: the state, and the gradient on it.
    tape_type : class
        A NamedTuple with a field ``unbatched``: whether the input was one sequence without a batch axis.
    replayable : bool
        Whether interactive views of a trace may recompute the layer by the equations of a standard LSTM.
    """

    takes: ClassVar = "sequence"
    stateful: ClassVar = True
    state_type: ClassVar[type[Any]]
    tape_type: ClassVar[type[Any]]
    replayable: ClassVar[bool] = False

    input_size: int
    output_size: int

    @property
    @abstractmethod
    def state_sizes(self) -> Mapping[str, tuple[str, int]]:
        """The letter and the number of rows of each field of a state, such as ``{"h": ("H", 16)}``."""

    @property
    @abstractmethod
    def num_states(self) -> tuple[str, int]:
        """The letters and the number of stacked layers and directions, such as ``("L·D", 4)``."""

    @abstractmethod
    def backward_with_state(
        self,
        tape: Any,
        d_outputs: Array,
        d_final_state: Any = None,
        gradients: Parameters | None = None,
        buffers: BufferPool | None = None,
        *,
        need_dx: bool = True,
        step_gradients: list[Any] | None = None,
    ) -> tuple[Array, Any]:
        """Compute all gradients in core's layout.

        Parameters
        ----------
        tape : tape_type
            From ``forward_feature_major``; it may be used again.
        d_outputs : array (T, output_size, B)
        d_final_state : state_type, optional
            Gradient on the final state, in core's layout. Default: 0.
        gradients : Parameters, optional
            Overwritten with the gradients on the parameters, summed over the batch.
        buffers : BufferPool, optional
        need_dx : bool
            False: the first result is not used, and may have any values.
        step_gradients : list, optional
            Extended by the gradients at every step, one entry for each stacked layer and direction, for
            :meth:`layer_traces`.

        Returns
        -------
        dx : array (T, input_size, B)
            0 at steps that are not valid.
        d_state : state_type
            Gradient on the initial state, in core's layout.
        """

    def backward_feature_major(
        self,
        tape: Any,
        d_outputs: Array,
        gradients: Parameters | None = None,
        buffers: BufferPool | None = None,
        need_dx: bool = True,
    ) -> Array:
        """Compute the gradient on x (T, I, B) by :meth:`backward_with_state`, and overwrite `gradients`."""
        return self.backward_with_state(tape, d_outputs, None, gradients, buffers, need_dx=need_dx)[0]

    @abstractmethod
    def tape_shape(self, tape: Any) -> tuple[int, int]:
        """Return (T, B) of the pass that a tape records."""

    def valid_steps(self, tape: Any) -> Mask | None:
        """Return the steps (B, T) at which the pass processed a step; None: all. Used by traces."""
        raise NotImplementedError(f"{type(self).__name__} has no trace")

    def layer_traces(
        self, tape: Any, step_gradients: Sequence[Any] | None = None, prefix: str = ""
    ) -> tuple[LayerTrace, ...]:
        """Return the trace of each stacked layer and direction; for layers that are ``traceable``.

        Parameters
        ----------
        tape : tape_type
        step_gradients : sequence, optional
            The entries that :meth:`backward_with_state` appended. Default: none were computed.
        prefix : str
            Put before the names of the traces.
        """
        raise NotImplementedError(f"{type(self).__name__} has no trace")

    def output_features(self, features: int | None) -> int:
        """Return the number of features of the outputs."""
        if features not in (None, self.input_size):
            raise ValueError(f"takes {self.input_size} features")
        return self.output_size

    def state_to_feature_major(self, name: str, state: Any, B: int, *, single: bool) -> Any:
        """Return a user's state in core's layout.

        Raises
        ------
        TypeError, ValueError
            If it does not have the fields and shapes of a state, or is not finite.
        """
        letters, count = self.num_states
        sizes = self.state_sizes
        try:
            values = dict(zip(sizes, state, strict=True))
        except (TypeError, ValueError):
            noun = "a pair" if len(sizes) == 2 else "a tuple"
            fields = f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"
            raise TypeError(f"{name} must be {noun} {fields}, got {type(state).__name__}") from None
        columns = []
        for field, (letter, rows) in sizes.items():
            shape = (count, rows) if single else (count, B, rows)
            array = finite_array(f"{name}.{field}", values[field], self.dtype)
            if array.shape != shape:
                expected = f"({letters}, {letter})" if single else f"({letters}, B, {letter})"
                raise ValueError(f"{name}.{field} must have shape {expected} = {shape}, got {array.shape}")
            columns.append(array[..., None] if single else array.swapaxes(1, 2))
        return self.state_type(*columns)

    def state_to_user(self, state: Any, *, single: bool) -> Any:
        """Return a copy of a state in core's layout as users have it."""
        fields = [np.array([array.T for array in arrays]) for arrays in state]  # np.stack takes three times as long
        return self.state_type(*((field[:, 0] for field in fields) if single else fields))
