"""Recurrent layers: the public interface and the protocol of layers that carry a state between calls."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.types import Array
from glasscell.layers.base import Mask
from glasscell.layers.trainable import TrainableLayer
from glasscell.validation import (
    check_finite,
    finite_array,
    from_feature_major,
    step_mask,
    to_feature_major,
)

if TYPE_CHECKING:
    from glasscell.core.buffers import BufferPool
    from glasscell.core.parameters import Parameters
    from glasscell.stream import Stream
    from glasscell.trace.layer_trace import LayerTrace
    from glasscell.trace.trace import Trace


class RecurrentLayer(TrainableLayer):
    """A layer with parameters and a state that it carries from step to step, and between calls.

    A subclass defines the passes in core's layout, ``forward_feature_major`` and :meth:`backward_with_state`, and the
    description of its state and tape. This class has the rest: validated ``forward``, ``infer``, ``backward``,
    ``trace`` and ``stream`` on batch-first arrays.

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

    # Batch first, for users

    def __call__(
        self,
        x: ArrayLike,
        state: Any = None,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> Array:
        """Return the outputs of :meth:`infer`, without the final state. Several threads may run one layer at once."""
        return self.infer(x, state, lengths=lengths, mask=mask)[0]

    def forward(
        self,
        x: ArrayLike,
        state: Any = None,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        rng: np.random.Generator | None = None,
    ) -> tuple[Array, Any, Any]:
        """Compute outputs, final state and tape.

        Parameters
        ----------
        x : array (B, T, I) or (T, I)
            Finite. T and B may be 0.
        state : state_type, optional
            Initial state, of the shapes of the final one. Default: the learned one, or 0.
        lengths : array (B,) of int, or int for a single sequence, optional
            Length of each sequence, between 0 and T, in any order. Values after a sequence's end are ignored.
        mask : array (B, T) or (T,) of bool, optional
            Alternative to `lengths`: True for valid steps. Invalid steps are skipped.
        rng : numpy.random.Generator, optional
            For training: dropout and zoneout are drawn from it. Default: no noise.

        Returns
        -------
        outputs : array (B, T, output_size) or (T, output_size)
            0 at steps that are not valid.
        state : state_type
            After the last valid step of each sequence: the initial state of a call that continues.
        tape : tape_type
            For :meth:`backward`.

        Raises
        ------
        ValueError
            Another number of features, a shape that does not fit, lengths out of range, or NaN or infinite values.
        """
        if rng is not None and not isinstance(rng, np.random.Generator):
            raise TypeError(f"rng must be a numpy.random.Generator, got {rng!r}")
        columns, initial, valid, single = self._prepare_inputs(x, state, lengths, mask)
        y, _, final, tape = self.forward_feature_major(columns, valid, initial, rng)
        tape = tape._replace(unbatched=single)
        return from_feature_major(y, single=single), self.state_to_user(final, single=single), tape

    def infer(
        self,
        x: ArrayLike,
        state: Any = None,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> tuple[Array, Any]:
        """Compute the outputs and final state of :meth:`forward` without a tape: faster, in less memory.

        Several threads may run one layer at once.
        """
        columns, initial, valid, single = self._prepare_inputs(x, state, lengths, mask)
        y, _, final, _ = self.forward_feature_major(columns, valid, initial, keep_tape=False)
        return from_feature_major(y, single=single), self.state_to_user(final, single=single)

    def backward(
        self,
        tape: Any,
        d_outputs: ArrayLike | None = None,
        d_final_state: Any = None,
        *,
        step_gradients: list[Any] | None = None,
    ) -> tuple[Array, Any, Parameters]:
        """Compute the gradients of a loss on everything that :meth:`forward` used. The tape may be used again.

        Parameters
        ----------
        tape : tape_type
        d_outputs : array (B, T, output_size) or (T, output_size), optional
            Gradient of the loss on the outputs. Default: 0.
        d_final_state : state_type, optional
            Gradient on the final state, of its shapes. Default: 0.
        step_gradients : list, optional
            Extended by the gradients at every step, one entry for each stacked layer and direction, in core's layout.

        Returns
        -------
        d_inputs : array (B, T, I) or (T, I)
            Exactly 0 at steps that are not valid.
        d_state : state_type
            Gradient on the initial state of each sequence, also where that was learned or 0.
        gradients : Parameters
            Gradient on every parameter, summed over the batch; of the names and shapes of ``parameters``.
        """
        self._check_tape(tape)
        (T, B), single = self.tape_shape(tape), tape.unbatched
        if d_outputs is None:
            dy = np.zeros((T, self.output_size, B), self.dtype)
        else:
            dy, _ = to_feature_major(
                "d_outputs", d_outputs, self.output_size, "D·P", self.dtype, expected=(B, T, single)
            )
        d_final = None
        if d_final_state is not None:
            d_final = self.state_to_feature_major("d_final_state", d_final_state, B, single=single)
        gradients = self.parameters.zeros_like()
        dx, d_initial = self.backward_with_state(tape, dy, d_final, gradients, step_gradients=step_gradients)
        return from_feature_major(dx, single=single), self.state_to_user(d_initial, single=single), gradients

    def trace(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        *,
        loss: str = "squared_error",
        weights: ArrayLike | None = None,
        d_outputs: ArrayLike | None = None,
        state: Any = None,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        **metadata: Any,
    ) -> Trace:
        """Record every gate and state of a pass and, with a target, every gradient.

        Parameters
        ----------
        x : array (B, T, I) or (T, I)
        y : array (B, T, output_size) or (T, output_size), optional
            Targets of the outputs; class numbers, without the last axis, for "categorical_cross_entropy".
        loss : {"squared_error", "binary_cross_entropy", "categorical_cross_entropy"}
        weights : array, broadcasts to y, optional
            Weight of each target in the loss.
        d_outputs : array (B, T, output_size) or (T, output_size), optional
            Instead of y: the gradient of any loss on the outputs.
        state, lengths, mask
            As in :meth:`forward`.
        **metadata
            For the views: ``title``, and lists of ``input_names``, ``output_names`` and ``step_names``.

        Returns
        -------
        glasscell.trace.Trace
        """
        if not self.traceable:
            raise ValueError(f"the layer must be one that can be traced, got a {type(self).__name__}")
        from glasscell.trace.capture import TracedLayer, TraceTargets, capture  # noqa: PLC0415 - only where it is used

        targets = TraceTargets(y, loss, weights, d_outputs)
        metadata = {"title": repr(self), "chain": self.replayable, **metadata}
        return capture(
            *(self, lambda tape: [TracedLayer(self, tape)], x, targets, metadata),
            state=state,
            lengths=lengths,
            mask=mask,
        )

    def stream(self, batch: int | None = None) -> Stream[Any]:
        """Return a stream of this layer, which takes one step at a time: see :class:`glasscell.stream.Stream`.

        Parameters
        ----------
        batch : int, optional
            Number of independent streams that step together. Default: one, whose arrays have no batch axis; for a
            standard LSTM with ``engine="numba"`` its step is compiled.

        Raises
        ------
        ValueError
            If an output depends on later steps.
        """
        from glasscell.stream import Stream  # noqa: PLC0415 - not paid for by `import glasscell`

        return Stream({type(self).__name__.lower(): self}, batch, self._stream_state, _states_of_one)

    def _stream_state(self, states: Sequence[Sequence[Array]]) -> Any:
        """Return the state of a stream, from the arrays of its only layer."""
        return self.state_type(*states[0])

    # States

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

    # Validation

    def output_features(self, features: int | None) -> int:
        """Return the number of features of the outputs."""
        if features not in (None, self.input_size):
            raise ValueError(f"takes {self.input_size} features")
        return self.output_size

    def _prepare_inputs(
        self, x: ArrayLike, state: Any, lengths: ArrayLike | None, mask: ArrayLike | None
    ) -> tuple[Array, Any, Mask | None, bool]:
        """Return the validated arguments in core's layout, and whether there was no batch axis."""
        everywhere = lengths is None and mask is None
        columns, single = to_feature_major("x", x, self.input_size, "I", self.dtype, finite=everywhere)
        T, _, B = columns.shape
        valid = None if everywhere else step_mask(lengths, mask, B, T, single=single)
        if not everywhere:
            if valid is not None:
                columns = np.where(valid[:, None, :], columns, self.dtype.type(0))
            check_finite("x", columns[:, :, 0] if single else columns.transpose(2, 0, 1), np.asarray(x))
        initial = None if state is None else self.state_to_feature_major("state", state, B, single=single)
        return columns, initial, valid, single

    def _check_tape(self, tape: Any) -> None:
        """Raise TypeError unless the tape is one of this kind of layer."""
        if not isinstance(tape, self.tape_type):
            raise TypeError(f"tape must be the tape of {type(self).__name__}.forward, got {type(tape).__name__}")


def _states_of_one(state: Any) -> list[Any]:
    """Return the states of all recurrent layers, from that of the only one."""
    return [state]
