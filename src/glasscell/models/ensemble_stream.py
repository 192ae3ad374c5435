"""An ensemble as a stream: one step in, the mean prediction out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.types import Array
from glasscell.models import averaging
from glasscell.stream import Stream
from glasscell.stream.input_checks import check_out


class EnsembleStream:
    """An ensemble that processes one step per call. ``ensemble.stream()`` creates it.

    After each push the result is that of ``ensemble.predict`` over all steps so far, to rounding: the mean over the
    members of probabilities or of values, each member with a state of its stream. The weights are read when the stream
    is created. If a push raises an exception, the state of all members is the one before the step. A stream is for one
    thread at a time: a push during a push raises a RuntimeError.

    Parameters
    ----------
    streams : sequence of M Stream
        One per member, with equal inputs, outputs and batch.
    outputs : {"classes", "bits", "values"}
        As in :class:`glasscell.Ensemble`.

    Examples
    --------
    >>> import numpy as np, glasscell as gc
    >>> members = [gc.SequenceClassifier(2, ["down", "up"], hidden_size=4, seed=seed) for seed in range(3)]
    >>> stream = gc.Ensemble(members).stream()
    >>> stream.push([0.5, -0.1]).shape, len(stream.state)
    ((2,), 3)
    """

    def __init__(self, streams: Sequence[Stream[Any]], outputs: averaging.Outputs) -> None:
        self._streams, self._outputs = tuple(streams), outputs
        self._context = copy_context()

    @property
    def batch(self) -> int | None:
        """Return n, the number of streams that step together; None for a single one without a batch axis."""
        return self._streams[0].batch

    def push(self, x: ArrayLike, out: Array | None = None, *, active: ArrayLike | None = None) -> Array:
        """Take one step.

        Parameters
        ----------
        x, active
            As in :meth:`glasscell.stream.Stream.push`.
        out : array (O,) or (n, O), optional
            Writable array of the members' dtype for the result.

        Returns
        -------
        array (O,) or (n, O)
            The mean probability of each class, or of each bit to be 1, or the mean value; 0 for inactive streams.
            `out`. Default: a new array.

        Raises
        ------
        TypeError, ValueError
            As in :meth:`glasscell.stream.Stream.push`. The states are unchanged.
        """
        return self._context.run(self._push, x, out, active)

    def push_outputs(self, x: ArrayLike) -> Array:
        """Take one step, and return the mean in the form of a member's outputs, as :meth:`glasscell.Ensemble.infer`."""
        return self._context.run(self._push_outputs, x)

    def _push_outputs(self, x: ArrayLike) -> Array:
        with self._rollback():
            return averaging.mean_as_outputs([stream.push(x) for stream in self._streams], self._outputs)

    def _push(self, x: ArrayLike, out: Array | None, active: ArrayLike | None) -> Array:
        with self._rollback():
            outputs = [stream.push(x, active=active) for stream in self._streams]
            if out is not None:
                check_out(out, outputs[0])
            result = averaging.mean(outputs, self._outputs)
            if active is not None:
                result[np.logical_not(active)] = 0
        if out is None:
            return result
        out[...] = result
        return out

    @property
    def state(self) -> tuple[Any, ...]:
        """A copy of the states of all members: one entry per member, as ``stream.state`` of its stream.

        It can be set to such a tuple. If an entry does not fit, an error is raised and all states are unchanged.
        """
        return tuple(stream.state for stream in self._streams)

    @state.setter
    def state(self, state: Sequence[Any]) -> None:
        if not isinstance(state, tuple | list) or len(state) != len(self._streams):
            size = f"{len(state)}" if isinstance(state, tuple | list) else f"a {type(state).__name__}"
            raise ValueError(f"state must have one entry per member, {len(self._streams)}, got {size}")
        with self._rollback():
            for stream, entry in zip(self._streams, state, strict=True):
                stream.state = entry

    def reset(self, stream: int | None = None, *, state: Sequence[Any] | None = None) -> None:
        """Restart all members from an initial state.

        Parameters
        ----------
        stream : int, optional
            Index of one stream of a batch; the others continue. Default: all.
        state : sequence of M states, optional
            Of all streams, in the form of :attr:`state`. Default: the learned initial states, or 0.
        """
        if state is not None:
            if stream is not None:
                raise ValueError(f"stream must be None with a state, which is that of all streams, got {stream}")
            self.state = state
            return
        with self._rollback():
            for member in self._streams:
                member.reset(stream)

    def copy(self) -> Self:
        """Return an independent copy, in the same state and with the same weights."""
        return type(self)([stream.copy() for stream in self._streams], self._outputs)

    __copy__ = copy

    def reload_weights(self) -> None:
        """Read the weights of all members again, after training. The states stay."""
        streams = [stream.copy() for stream in self._streams]
        for stream in streams:
            stream.reload_weights()
        self._streams = tuple(streams)

    @contextmanager
    def _rollback(self) -> Iterator[None]:
        """Restore the states of all members if anything is raised meanwhile, also by a signal's handler."""
        restores = [stream.snapshot() for stream in self._streams]
        try:
            yield
        except BaseException:
            for restore in restores:
                restore()
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the arguments of an equal stream, for pickle."""
        return type(self), (self._streams, self._outputs)

    def __repr__(self) -> str:
        batch = "" if self.batch is None else f", batch={self.batch}"
        return f"EnsembleStream({len(self._streams)} × {self._streams[0]!r}, outputs={self._outputs!r}{batch})"
