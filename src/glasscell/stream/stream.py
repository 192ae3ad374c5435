"""The public stream: input validation, steps, state access, copies, save and load."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.types import Array
from glasscell.stream.building import Stage
from glasscell.stream.runner import StepRunner
from glasscell.stream.state import StreamState
from glasscell.stream.stream_memory import StateParts
from glasscell.validation import positive_integer

if TYPE_CHECKING:
    from glasscell.atomic_files import StrPath

State = TypeVar("State")


class Stream(Generic[State]):
    """A model that processes one step per call. ``model.stream()`` creates it.

    Its outputs are those of ``model.forward`` over all steps so far, to rounding; dropout is not applied, and
    zoneout uses its mean, as in ``forward`` without `rng`. A model that returns one vector for a sequence returns that
    for the steps so far; the last step, mean and maximum are 0 before the first valid step. A push allocates no array.

    Parameters
    ----------
    layers : mapping of str to layer
        In order. ``stream_stage(single=...)`` of each returns a :class:`~glasscell.stream.building.Stage`, or None if
        the layer changes nothing outside training.
    batch : int, optional
        n independent streams that step together. Default: one, whose arrays have no batch axis.
    pack, unpack : callable
        From the states of all recurrent layers to the form in which the model's ``forward`` returns them, and back.

    Notes
    -----
    The weights are read when the stream is created. :meth:`reload_weights` reads them again, after training.

    A stream is for one thread at a time: a push during a push raises a RuntimeError. Several streams of one model may
    run in several threads.

    The steps of a standard LSTM in a single stream are compiled by Numba if the layer's ``engine`` is "numba". A
    push then takes a third of the time at 32 units, two thirds at 128; the numbers are the same to rounding. All other
    streams, and batches, run on NumPy.

    If a push raises an exception, also that of Ctrl-C or of a signal's handler, the state is the one before or after
    the step.

    The treatment of overflow (``numpy.errstate``) is read when the stream is created; underflow is ignored.

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
        self._stages, self._dtype = _read_weights(self._layers, self._batch)
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
            Finite. An array of the model's dtype is fastest.
        out : array (O,) or (n, O), optional
            Array of the model's dtype for the outputs.
        active : array (n,) of bool, optional
            Which streams of a batch have a step. Inactive streams keep their state, ignore x, and output 0.

        Returns
        -------
        array (O,) or (n, O)
            `out`. Default: a read-only view of the stream's memory, which **the next push overwrites**.

        Raises
        ------
        TypeError, ValueError
            If the width is wrong, values are not real and finite, or ids are out of range. The state is unchanged.
        """
        if out is None and active is None:
            return self._run(self._step, x)
        return self._run(self._runner.step_to_out, x, out, active)

    @property
    def state(self) -> State:
        """A copy of the state, in the form in which the model's ``forward`` takes and returns it.

        LSTM and CopyLSTM: LSTMState, h (L, P) and c (L, H), with a batch (L, n, P) and (L, n, H). RNN and GRU:
        RNNState, h (L, H) or (L, n, H). Sequential: a tuple of one state per recurrent layer. If other layers keep
        arrays too (pooling, windows over earlier steps), the tuple is a :class:`~glasscell.stream.StreamState`, which
        contains them.

        It can be set to such a state, also one from ``forward``, which starts the other layers at 0 as ``forward``
        does. If the value does not fit, an error is raised and the state is unchanged.
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
        entries, other = list(self._unpack(state)), memory.other_arrays
        if len(entries) != len(memory.recurrent):
            expected = f"one entry per recurrent layer, {len(memory.recurrent)}"
            raise ValueError(f"state must have {expected}, got {len(entries)}")
        states = memory.from_user_states(entries, "state")
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

        self._runner.with_rollback(change)

    def reset(self, stream: int | None = None, *, state: State | None = None) -> None:
        """Restart from an initial state.

        Parameters
        ----------
        stream : int, optional
            Index of one stream of a batch; the others continue. Default: all.
        state : state, optional
            Of all streams, in the form of :attr:`state`, such as a :func:`~glasscell.explain.rest_state`. Default: the
            learned initial state, or 0.
        """
        if state is not None:
            if stream is not None:
                raise ValueError(f"stream must be None with a state, which is that of all streams, got {stream}")
            self.state = state
            return
        index: Any = ...
        if stream is not None:
            n = self._batch
            if isinstance(stream, bool) or not isinstance(stream, int | np.integer):
                raise TypeError(f"stream must be an integer, got {stream!r}")
            if n is None:
                raise ValueError(f"stream must be None for a single stream, got {stream}; a batch is model.stream(n)")
            if not 0 <= stream < n:
                raise ValueError(f"stream must be from 0 to {n - 1}, got {stream}")
            index = (slice(None), slice(stream, stream + 1))

        def change() -> None:
            for layer in self._memory.layers:
                for part, initial in zip(layer.parts, layer.initial, strict=True):
                    part[index] = initial
                if layer.repeated is not None:
                    layer.repeated[index] = 0
            for array in self._memory.remembered:
                array[index] = 0

        self._runner.with_rollback(change)

    def snapshot(self) -> Callable[[], None]:
        """Return a function that restores the present state, for changes of several streams that belong together."""
        return self._runner.snapshot()

    def copy(self) -> Self:
        """Return an independent copy, in the same state and with the same weights."""
        other = type(self).__new__(type(self))
        other.__setstate__(self.__getstate__())
        return other

    __copy__ = copy

    def reload_weights(self) -> None:
        """Read the model's weights again, after training. The state stays."""
        attributes, arrays = self.__getstate__()
        attributes["_stages"], attributes["_dtype"] = _read_weights(self._layers, self._batch)
        other = type(self).__new__(type(self))
        other.__setstate__((attributes, arrays))
        vars(self).update(vars(other))  # one call: an interrupt leaves the old weights or the new ones

    def __getstate__(self) -> tuple[dict[str, Any], list[Array]]:
        """Return the layers, the stages with the weights that were read, and copies of the state's arrays."""
        names = ("_layers", "_batch", "_pack", "_unpack", "_stages", "_dtype")
        return {name: vars(self)[name] for name in names}, [array.copy() for array in self._memory.arrays]

    def __setstate__(self, state: tuple[dict[str, Any], list[Array]]) -> None:
        """Rebuild the stream from :meth:`__getstate__`, for copy and pickle."""
        attributes, arrays = state
        vars(self).update(attributes)
        self._build()
        self._memory.copy_from(arrays)

    def save(self, path: StrPath) -> None:
        """Write the state to a file, by convention ``….safetensors``, which replaces an existing one when complete.

        The file also holds the fingerprint of the model: types, sizes and options of its layers, dtype, and batch. The
        layers' names, the values of weights, and options that only training uses do not matter.
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
            If the file is damaged, or does not contain the state of a stream of this model; the message names the
            differences. The state is unchanged.
        """
        from glasscell.stream.persistence import load_state  # noqa: PLC0415

        self._runner.with_rollback(load_state(path, self._memory, self._fingerprint()))

    def _fingerprint(self) -> dict[str, Any]:
        from glasscell.stream.fingerprint import fingerprint  # noqa: PLC0415

        return fingerprint(self._layers, self._stages, self._dtype, self._batch)

    def __repr__(self) -> str:
        layers = ", ".join(map(repr, self._layers.values()))
        return f"Stream({layers}{'' if self._batch is None else f', batch={self._batch}'})"

    def _build(self) -> None:
        self._runner = runner = StepRunner(self._stages, self._batch, self._dtype)
        self._memory, self._run, self._step = runner.memory, runner.run, runner.step  # a push looks up few attributes


def _read_weights(layers: Mapping[str, Any], batch: int | None) -> tuple[dict[str, Stage], np.dtype[np.floating]]:
    """Return the stages, which hold copies of the weights, and the dtype. Default: float32."""
    built = {name: _stage_for(name, layer, single=batch is None) for name, layer in layers.items()}
    stages = {name: stage for name, stage in built.items() if stage is not None}
    dtypes = [layers[name].dtype for name in stages if hasattr(layers[name], "dtype")]
    return stages, np.dtype(dtypes[0] if dtypes else np.float32)


def _stage_for(name: str, layer: Any, *, single: bool) -> Stage | None:
    """Return the stage of a layer; None if it changes nothing outside training.

    Raises
    ------
    ValueError
        If the layer cannot be streamed, or has weights that are not finite.
    """
    prefix = f"layer {name!r} cannot be streamed: "
    if not hasattr(layer, "stream_stage"):
        raise TypeError(f"{prefix}{type(layer).__name__} has no stream_stage()")
    for key, weight in {**getattr(layer, "parameters", {}), **getattr(layer, "statistics", {})}.items():
        if not np.isfinite(weight).all():
            raise ValueError(f"{prefix}{key} has NaN or infinite values")
    try:
        stage: Stage | None = layer.stream_stage(single=single)
    except ValueError as error:
        raise ValueError(f"{prefix}{error}") from None
    return stage
