"""The public stream: input validation, steps, state access, copies, save and load."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.types import Array
from glasscell.stream.arena import Arena, Mask
from glasscell.stream.building import Stage, StreamBuilder
from glasscell.stream.input_checks import active_mask, check_out, finite_check, float_input_check, id_input_check
from glasscell.stream.lstm_stage import LSTMStage
from glasscell.stream.stages import EmbeddingStage, SqueezeStage, UnsqueezeStage
from glasscell.stream.state import StreamState
from glasscell.stream.step_functions import make_step, make_step_with_rollback, output_view
from glasscell.stream.stream_memory import StateParts, StreamMemory
from glasscell.validation import check_finite, positive_integer

if TYPE_CHECKING:
    from glasscell.atomic_files import StrPath

State = TypeVar("State")


class Stream(Generic[State]):
    """A model that takes one step at a time. ``model.stream()`` makes it.

    Its outputs are those of ``model.forward`` over all steps so far, to rounding; dropout and zoneout act as in
    ``forward`` without a generator. A model that returns one vector for a sequence returns that for the steps so far;
    the last step, mean and maximum are 0 before the first valid step. A push allocates no array.

    Parameters
    ----------
    layers : mapping of str to layer
        Each takes the outputs of the one before, and its ``stream_stage(single=...)`` returns a
        :class:`~glasscell.stream.building.Stage`, or None if it changes nothing outside training.
    batch : int, optional
        n independent streams that step together. Default: one, whose arrays have no batch axis.
    pack, unpack : callable
        From the states of all recurrent layers to the form in which the model's ``forward`` returns them, and back.

    Notes
    -----
    The weights are read when the stream is made. :meth:`reload_weights` reads them again, after training.

    A stream is for one thread at a time: a push into one that is just being pushed raises a RuntimeError. Any number of
    streams of one model may run in as many threads.

    The steps of a standard LSTM in a single stream are compiled by Numba where the layer's ``engine`` is "numba". A
    push then takes a third of the time at 32 units, two thirds at 128; the numbers are the same to rounding. All other
    streams, and batches, run on NumPy.

    Whatever a push raises, also an exception of Ctrl-C or of a signal's handler, the state is that before or after the
    step, never one between.

    How an overflow is treated (``numpy.errstate``) is also read when the stream is made; underflow is let through.

    Examples
    --------
    >>> import numpy as np, glasscell as gc
    >>> model = gc.LSTM(input_size=3, hidden_size=16)
    >>> stream = model.stream()
    >>> stream.push([0.1, 0.2, 0.3]).shape
    (16,)
    """

    def __init__(
        self,
        layers: Mapping[str, Any],
        batch: int | None,
        pack: Callable[[Sequence[Any]], State],
        unpack: Callable[[State], Sequence[StateParts]],
    ) -> None:
        self._layers = dict(layers)
        self._batch = None if batch is None else positive_integer("batch", batch)
        self._pack, self._unpack = pack, unpack
        self._read_weights()
        self._build()
        self.reset()

    @property
    def batch(self) -> int | None:
        """Return n, the number of streams that step together; None for a single one without a batch axis."""
        return self._batch

    def push(self, x: ArrayLike, out: Array | None = None, *, active: ArrayLike | None = None) -> Array:
        """Take one step.

        Parameters
        ----------
        x : array (I,), or (n, I) with a batch; if the model begins with an Embedding or an Unsqueeze, a number, or (n,)
            Finite. Quickest as an array of the model's dtype.
        out : array (O,) or (n, O), optional
            Of the model's dtype; where the outputs are written.
        active : array (n,) of bool, optional
            Which streams of a batch have a step. The others keep their state, ignore x, and output 0.

        Returns
        -------
        array (O,) or (n, O)
            `out`. Default: a read-only view of the stream's memory, which **the next push overwrites**: copy what is to
            be kept.

        Raises
        ------
        TypeError, ValueError
            Another width, values that are not real numbers, NaN or infinity, symbols out of range. The state is then
            unchanged.
        """
        if out is None and active is None:
            return self._run(self._step, x)
        return self._run(self._step_to_out, x, out, active)

    @property
    def state(self) -> State:
        """The present state, a copy, in the form in which the model's ``forward`` takes and returns it.

        LSTM and CopyLSTM: LSTMState, h (L, P) and c (L, H), with a batch (L, n, P) and (L, n, H). RNN and GRU:
        RNNState, h (L, H) or (L, n, H). Sequential: a tuple of such, one for each recurrent layer.

        Where other layers keep arrays too (poolings, windows over earlier steps), the tuple is a
        :class:`~glasscell.stream.StreamState`, which carries them.

        It can be set to such a state, also one of ``forward``; if it does not fit, an error is raised and the previous
        one stays. From a state of ``forward`` those other layers start at 0, as in ``forward``.
        """
        memory = self._memory
        states = self._pack([memory.to_user_state(layers) for layers in memory.recurrent])
        other = memory.other_arrays
        if not other:
            return states
        complete: Any = StreamState(cast("Iterable[Any]", states), [memory.to_user(array) for array in other])
        return cast("State", complete)

    @state.setter
    def state(self, state: State) -> None:
        memory = self._memory
        given, other = list(self._unpack(state)), memory.other_arrays
        if len(given) != len(memory.recurrent):
            raise ValueError(f"state has {len(given)} entries; the model has {len(memory.recurrent)} recurrent layers")
        states = memory.from_user_states(given, "state")
        remembered = getattr(state, "remembered", None)
        if remembered is not None and len(remembered) != len(other):
            raise ValueError(f"state.remembered must have {len(other)} arrays, got {len(remembered)}")
        values = [
            memory.from_user(f"state.remembered[{k}]", value, other[k]) for k, value in enumerate(remembered or ())
        ]

        def change() -> None:
            memory.set_states(states)
            for array, value in zip(other, values, strict=remembered is not None):
                array[...] = value

        self._with_rollback(change)

    def reset(self, stream: int | None = None) -> None:
        """Restart from the learned initial state, or from 0.

        Parameters
        ----------
        stream : int, optional
            Which one of a batch, from 0; the others continue. Default: all.
        """
        at: Any = ...
        if stream is not None:
            n = self._batch
            if isinstance(stream, bool) or not isinstance(stream, int | np.integer):
                raise TypeError(f"stream must be an integer, and is {stream!r}")
            if n is None:
                raise ValueError("this is a single stream: reset() without a number; stream(batch=n) makes n of them")
            if not 0 <= stream < n:
                raise ValueError(f"stream must be from 0 to {n - 1}, and is {stream}")
            at = (slice(None), slice(stream, stream + 1))

        def change() -> None:
            for state in self._memory.layers:
                for part, initial in zip(state.parts, state.initial, strict=True):
                    part[at] = initial
                if state.repeated is not None:
                    state.repeated[at] = 0
            for array in self._memory.remembered:
                array[at] = 0

        self._with_rollback(change)

    def copy(self) -> Self:
        """Return an independent copy, in the same state and with the same weights."""
        other = type(self).__new__(type(self))
        other._layers, other._batch, other._stages = self._layers, self._batch, self._stages  # noqa: SLF001 - its class
        other._pack, other._unpack, other._dtype = self._pack, self._unpack, self._dtype  # noqa: SLF001
        other._build()  # noqa: SLF001
        other._memory.copy_from(self._memory.arrays)  # noqa: SLF001
        return other

    __copy__ = copy

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what `pickle` and `deepcopy` rebuild it from: its layers, the weights that it has read, its state."""
        arrays = [array.copy() for array in self._memory.arrays]
        arguments = type(self), self._layers, self._batch, self._pack, self._unpack
        return _restore, (*arguments, self._stages, self._dtype.name, arrays)

    def reload_weights(self) -> None:
        """Read the model's weights again, after training; the state stays."""
        other = type(self).__new__(type(self))
        vars(other).update(vars(self))
        other._read_weights()  # noqa: SLF001 - its own class
        other._build()  # noqa: SLF001
        other._memory.copy_from(self._memory.arrays)  # noqa: SLF001
        vars(self).update(vars(other))  # at once: all of it, or nothing

    def save(self, path: StrPath) -> None:
        """Write the state to a file, by convention ``….safetensors``; an existing one stays until it is complete.

        The file also holds the fingerprint of the model: types, sizes and options of its layers, dtype, and batch; not
        the layers' names, the values of weights, or options that only training uses.
        """
        from glasscell.stream.persistence import save_state  # noqa: PLC0415 - only where it is used

        save_state(path, self._memory, self._fingerprint())

    def load(self, path: StrPath) -> None:
        """Continue from a state that :meth:`save` wrote.

        Raises
        ------
        FileNotFoundError
            If the file does not exist.
        ValueError
            If the file is damaged, contains no state of a stream, or one of another model; the message names the
            differences. The state is unchanged.
        """
        from glasscell.stream.persistence import load_state  # noqa: PLC0415

        self._with_rollback(load_state(path, self._memory, self._fingerprint()))

    def _fingerprint(self) -> dict[str, Any]:
        from glasscell.stream.fingerprint import fingerprint  # noqa: PLC0415

        return fingerprint(self._layers, self._stages, self._dtype, self._batch)

    def __repr__(self) -> str:
        layers = ", ".join(map(repr, self._layers.values()))
        return f"Stream({layers}{'' if self._batch is None else f', batch={self._batch}'})"

    def _read_weights(self) -> None:
        single = self._batch is None
        stages = {name: _stage_for(name, layer, single=single) for name, layer in self._layers.items()}
        self._stages = {name: stage for name, stage in stages.items() if stage is not None}
        dtypes = [self._layers[name].dtype for name in self._stages if hasattr(self._layers[name], "dtype")]
        self._dtype: np.dtype[np.floating] = np.dtype(dtypes[0].type if dtypes else np.float32)  # as arrays have it

    def _build(self, size: int | None = None) -> None:
        n, stages = self._batch, list(self._stages.values())
        width = next((stage.input_size for stage in stages if stage.input_size is not None), None)
        if width is None:
            raise ValueError("the model cannot be streamed: none of its layers says how many features an input has")
        widths = [width]
        for stage in stages:
            widths += stage.block_rows(widths[-1])
        arena = Arena(sum(widths) + len(widths), n, self._dtype, size)
        builder = StreamBuilder(arena, width)
        # Views are made once. For users, a batch is rows; here it is columns.
        input_block = builder.x
        input_buffer: Array = input_block if n is None else input_block.T

        def raise_if_not_finite() -> None:
            check_finite("x", input_buffer, input_buffer)

        first = stages[0]
        if isinstance(first, LSTMStage) and first.standard and n is None:
            builder.raise_if_not_finite = raise_if_not_finite
        elif not isinstance(first, EmbeddingStage):
            builder.calls.append(finite_check(input_block, raise_if_not_finite))
        for name, stage in self._stages.items():
            builder.error_prefix = f"layer {name!r} cannot be streamed: "
            stage.build(builder)
        if arena.vector is None:
            self._build(arena.needed)
            return
        if builder.present is not None:
            raise ValueError(f"{builder.skip_reason}, and no layer behind it makes one answer of them")
        self._memory = StreamMemory(builder.recurrent, builder.remembered, n, self._dtype)
        self._vector, self._previous = arena.vector, arena.vector.copy()
        self._saved_states = [(array, np.empty_like(array)) for array in self._memory.arrays]
        self._inactive = np.zeros(n or 1, np.bool_)
        self._output_block: Array = builder.x
        self._active_output_block = np.zeros_like(builder.x)
        feature_axis = not isinstance(stages[-1], SqueezeStage)
        self._outputs = output_view(builder.x, n, feature_axis=feature_axis)
        self._active_outputs = output_view(self._active_output_block, n, feature_axis=feature_axis)
        self._calls = builder.calls
        if isinstance(first, EmbeddingStage):
            self._check_input = id_input_check(input_buffer, first.table, n, builder.id_mask)
        else:
            feature_axis = not isinstance(first, UnsqueezeStage)
            self._check_input = float_input_check(input_buffer, width, n, feature_axis=feature_axis)
        if sum(stage.state_writes for stage in stages) <= 1:
            self._step = make_step(self._check_input, self._calls, self._outputs)
        else:
            self._step = make_step_with_rollback(
                self._check_input, self._calls, self._outputs, self._vector, self._previous
            )
        # A context costs nothing, and an errstate around every push would. In it underflow is let through; invalid
        # operations, too: with finite inputs an overflow comes before them, and is reported.
        context = copy_context()
        context.run(np.seterr, under="ignore", invalid="ignore")
        self._run = context.run

    def _step_to_out(self, x: ArrayLike, out: Array | None, active: ArrayLike | None) -> Array:
        if out is not None:
            check_out(out, self._outputs)
        y = self._step(x) if active is None else self._step_active(x, active_mask(active, self._batch))
        if out is None:
            return y
        out[...] = y
        return out

    def _step_active(self, x: ArrayLike, active: Mask) -> Array:
        inactive = np.logical_not(active, self._inactive)
        self._check_input(x, inactive)
        self._with_rollback(self._run_calls_active)
        self._active_output_block[...] = 0
        np.copyto(self._active_output_block, self._output_block, where=active)
        return self._active_outputs

    def _run_calls_active(self) -> None:
        """Run the calls, and restore the states of inactive streams."""
        for array, saved in self._saved_states:
            saved[...] = array
        for call in self._calls:
            call()
        for array, saved in self._saved_states:
            np.copyto(array, saved, where=self._inactive)

    def _with_rollback(self, change: Callable[[], object]) -> None:
        """Change the state, and restore it if anything is raised meanwhile, also by a signal's handler."""
        self._previous[...] = self._vector
        try:
            change()
        except BaseException:
            self._vector[...] = self._previous  # one instruction: nothing can interrupt it
            raise


def _stage_for(name: str, layer: Any, *, single: bool) -> Stage | None:
    """Return the stage of a layer; None if it changes nothing outside training.

    Raises
    ------
    ValueError
        If the layer cannot be streamed, or has weights that are not finite.
    """
    prefix = f"layer {name!r} cannot be streamed: "
    if not hasattr(layer, "stream_stage"):
        raise TypeError(f"{prefix}a {type(layer).__name__} is not known to streams")
    for key, weight in {**getattr(layer, "parameters", {}), **getattr(layer, "statistics", {})}.items():
        if not np.isfinite(weight).all():
            raise ValueError(f"{prefix}{key} has NaN or infinite values")
    try:
        stage: Stage | None = layer.stream_stage(single=single)
    except ValueError as error:
        raise ValueError(f"{prefix}{error}") from None
    return stage


def _restore(
    cls: type[Stream[Any]],
    layers: dict[str, Any],
    batch: int | None,
    pack: Callable[..., Any],
    unpack: Callable[..., Any],
    stages: dict[str, Stage],
    dtype: str,
    arrays: list[Array],
) -> Stream[Any]:
    """Return a copied or unpickled stream."""
    stream = cls.__new__(cls)
    stream._layers, stream._batch, stream._pack, stream._unpack = layers, batch, pack, unpack  # noqa: SLF001 - of this
    stream._stages, stream._dtype = stages, np.dtype(dtype)  # noqa: SLF001 - module
    stream._build()  # noqa: SLF001
    stream._memory.copy_from(arrays)  # noqa: SLF001
    return stream
