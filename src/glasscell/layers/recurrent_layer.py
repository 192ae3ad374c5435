"""Recurrent layers: the public interface, on batch-first arrays."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.types import Array
from glasscell.layers.stateful import StatefulLayer
from glasscell.validation import from_feature_major, prepare_inputs, to_feature_major

if TYPE_CHECKING:
    from glasscell.core.parameters import Parameters
    from glasscell.explain.intervention import Intervention
    from glasscell.stream import Stream
    from glasscell.trace.trace import Trace


class RecurrentLayer(StatefulLayer):
    """A layer with parameters and a state that it carries from step to step, and between calls.

    It adds validated ``forward``, ``infer``, ``backward``, ``trace`` and ``stream`` on batch-first arrays to the
    protocol, which a subclass implements.
    """

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

    def uses_numba(self, B: int) -> bool:
        """Return whether the compiled engine trains this layer with B sequences."""
        del B
        return False

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
        outputs, final, tape = self._forward(x, state, lengths, mask, rng)
        return outputs, self.state_to_user(final, single=tape.unbatched), tape

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
        outputs, final, _ = self._forward(x, state, lengths, mask, keep_tape=False)
        return outputs, self.state_to_user(final, single=outputs.ndim == 2)

    def _forward(
        self,
        x: ArrayLike,
        state: Any = None,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        rng: np.random.Generator | None = None,
        *,
        keep_tape: bool = True,
    ) -> tuple[Array, Any, Any]:
        """Return outputs, final state in core's layout, and tape."""
        x_feature_major, valid, single = prepare_inputs(x, lengths, mask, self.input_size, self.dtype)
        B = x_feature_major.shape[-1]
        initial = None if state is None else self.state_to_feature_major("state", state, B, single=single)
        y, _, final, tape = self.forward_feature_major(x_feature_major, valid, initial, rng, keep_tape=keep_tape)
        tape = tape._replace(unbatched=single) if keep_tape else None
        return from_feature_major(y, single=single), final, tape

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
        gradients = self.parameters.zeros_like()
        dx, d_initial = self._backward(tape, d_outputs, d_final_state, gradients, step_gradients=step_gradients)
        return dx, self.state_to_user(d_initial, single=tape.unbatched), gradients

    def _backward(
        self,
        tape: Any,
        d_outputs: ArrayLike | None,
        d_final_state: Any = None,
        gradients: Parameters | None = None,
        *,
        step_gradients: list[Any] | None = None,
    ) -> tuple[Array, Any]:
        """Return the gradients on x, and on the initial state in core's layout; overwrite `gradients`, if present."""
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
        dx, d_initial = self.backward_with_state(tape, dy, d_final, gradients, step_gradients=step_gradients)
        return from_feature_major(dx, single=single), d_initial

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
        from glasscell.trace.capture import Passes, TracedLayer, TraceTargets, capture  # noqa: PLC0415 - only where used

        targets = TraceTargets(y, loss, weights, d_outputs)
        metadata = {"title": repr(self), "chain": self.replayable, **metadata}
        return capture(
            *(Passes(self._forward, self._backward), lambda tape: [TracedLayer(self, tape)], x, targets, metadata),
            state=state,
            lengths=lengths,
            mask=mask,
        )

    def intervene(self, *interventions: Intervention | str, **arguments: Any) -> AbstractContextManager[Self]:
        """Return a context in which this layer runs under interventions: see :func:`glasscell.explain.intervene`.

        Parameters
        ----------
        *interventions : glasscell.explain.Intervention, or one str
            A symbol, such as "f", is ``Intervention(symbol, **arguments)``.
        **arguments
            Of :class:`glasscell.explain.Intervention` for a symbol: an operation such as ``scale=0.9``, and ``layer``,
            ``direction``, ``units``, ``steps``.
        """
        from glasscell.explain import intervening  # noqa: PLC0415 - only where it is used

        return intervening.intervene(self, *intervening.from_arguments(interventions, arguments))

    def stream(self, batch: int | None = None, *, state: Any = None) -> Stream[Any]:
        """Return a stream of this layer, which takes one step at a time: see :class:`glasscell.stream.Stream`.

        Parameters
        ----------
        batch : int, optional
            Number of independent streams that step together. Default: one, whose arrays have no batch axis; for a
            standard LSTM with ``engine="numba"`` its step is compiled.
        state : state_type, optional
            Initial state, as ``stream.state``. Default: the learned one, or 0, from which a later ``reset`` restarts.

        Raises
        ------
        ValueError
            If an output depends on later steps.
        """
        from glasscell.stream import Stream  # noqa: PLC0415 - not paid for by `import glasscell`

        stream = Stream({type(self).__name__.lower(): self}, batch, self._stream_state, _states_of_one)
        if state is not None:
            stream.state = state
        return stream

    def _stream_state(self, states: Sequence[Sequence[Array]]) -> Any:
        """Return the state of a stream, from the arrays of its only layer."""
        return self.state_type(*states[0])

    def _check_tape(self, tape: Any) -> None:
        """Raise TypeError unless the tape is one of this kind of layer."""
        if not isinstance(tape, self.tape_type):
            raise TypeError(f"tape must be the tape of {type(self).__name__}.forward, got {type(tape).__name__}")


def _states_of_one(state: Any) -> list[Any]:
    """Return the states of all recurrent layers, from that of the only one."""
    return [state]
