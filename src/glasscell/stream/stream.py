"""The stream that a user holds: what is pushed, checked, given back, kept, saved and restored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.types import Array
from glasscell.stream.arena import Arena, Mask
from glasscell.stream.building import RecurrentState, Stage, StreamBuilder
from glasscell.stream.stages import FOR_TRAINING, EmbeddingStage, LSTMStage, is_atomic, kind_of, stage_for
from glasscell.stream.state import StreamState
from glasscell.validation import check_finite, finite_array, positive_integer, real_array

if TYPE_CHECKING:
    from glasscell.atomic_files import StrPath

State = TypeVar("State")
StatePair = tuple[Array, Array]
InputCheck = Callable[..., None]  # of what is pushed, and which streams of a batch it does not matter for
FILE_KIND = "Stream"  # of the file that a state is saved in


class Stream(Generic[State]):
    """A model that takes one step at a time. ``model.stream()`` makes it.

    Its outputs are those of ``model.forward`` over all that was pushed, to rounding; dropout and zoneout act as they do
    there without a generator. A model that gives one answer for a sequence gives that for the steps so far; the last
    step, mean and maximum are 0 before there is a valid step. A push allocates no array.

    Parameters
    ----------
    layers : mapping of str to layer
        Each takes what the one before gives.
    batch : int, optional
        n independent streams, that step together; without it one, whose arrays have no batch axis.
    pack, unpack : callable
        From the states (h, c) of all LSTMs to the form in which the model's ``forward`` gives them, and back.

    Notes
    -----
    The weights are read when the stream is made. Later training is not seen until :meth:`refresh`.

    A stream is for one thread at a time: a push into one that is just being pushed raises a RuntimeError. Any number of
    streams of one model may run in as many threads.

    The steps of a plain LSTM in a single stream are compiled by Numba where the layer's ``engine`` is "numba". A push
    then takes a third of the time at 32 units, two thirds at 128; the numbers are the same to rounding. All other
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
        pack: Callable[[Sequence[StatePair]], State],
        unpack: Callable[[State], Sequence[StatePair]],
    ) -> None:
        self._layers = dict(layers)
        self._batch = None if batch is None else positive_integer("batch", batch)
        self._pack, self._unpack = pack, unpack
        self._read_weights()
        self._build()
        self.reset()

    @property
    def batch(self) -> int | None:
        """n, the number of streams that step together; None for a single one without a batch axis."""
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
            Which streams of a batch have a step. The others keep their state, what stands in x for them does not
            matter, and their outputs are 0.

        Returns
        -------
        array (O,) or (n, O)
            `out`; without it a view, to be read only, of the stream's own memory, which **the next push overwrites**:
            copy what is to be kept.

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
        """The present state, a copy, in the form in which the model's ``forward`` takes and gives it.

        LSTM and CopyLSTM: LSTMState, h (L, P) and c (L, H), with a batch (L, n, P) and (L, n, H). Sequential: a tuple
        of such, one for each LSTM.

        Where other layers keep something too (poolings, windows over earlier steps), the tuple is a
        :class:`~glasscell.stream.StreamState`, which carries it.

        It can be set to such a state, also one of ``forward``; if it does not fit, an error is raised and the old one
        stays. From a state of ``forward`` those other layers start at 0, as in ``forward``.
        """
        states = self._pack([self._to_user_state(layers) for layers in self._kept])
        more = self._more()
        if not more:
            return states
        complete: Any = StreamState(cast("Iterable[Any]", states), [self._outside(array) for array in more])
        return cast("State", complete)

    @state.setter
    def state(self, state: State) -> None:
        columns, more = self._checked(state), self._more()
        given = getattr(state, "remembered", None)
        if given is not None and len(given) != len(more):
            raise ValueError(f"state.remembered must have {len(more)} arrays, got {len(given)}")
        kept = [
            self._checked_remembered(f"state.remembered[{k}]", value, more[k]) for k, value in enumerate(given or ())
        ]

        def change() -> None:
            self._set(columns)
            for array, value in zip(more, kept, strict=given is not None):
                array[...] = value

        self._with_rollback(change)

    def reset(self, stream: int | None = None) -> None:
        """Begin anew: from the learned initial state, or from 0.

        Parameters
        ----------
        stream : int, optional
            Which one of a batch, from 0; the others go on. Without it all of them.
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
            for kept in self._recurrent_arrays():
                kept.h[at], kept.c[at] = kept.start
                if kept.repeated is not None:
                    kept.repeated[at] = 0
            for array in self._remembered:
                array[at] = 0

        self._with_rollback(change)

    def fork(self) -> Self:
        """An independent copy, in the same state and with the same weights."""
        other = type(self).__new__(type(self))
        other._layers, other._batch, other._parts = self._layers, self._batch, self._parts  # noqa: SLF001 - its own class
        other._pack, other._unpack, other._dtype = self._pack, self._unpack, self._dtype  # noqa: SLF001
        other._build()  # noqa: SLF001
        other._copy_state(self._states())  # noqa: SLF001
        return other

    __copy__ = fork

    def __reduce__(self) -> tuple[Any, ...]:
        """What `pickle` and `deepcopy` make it from: its layers, the weights that it has read, and its state."""
        arrays = [array.copy() for array in self._states()]
        made = type(self), self._layers, self._batch, self._pack, self._unpack
        return _restored, (*made, self._parts, self._dtype.name, arrays)

    def refresh(self) -> None:
        """Read the model's weights again, after training; the state stays."""
        other = type(self).__new__(type(self))
        vars(other).update(vars(self))
        other._read_weights()  # noqa: SLF001 - its own class
        other._build()  # noqa: SLF001
        other._copy_state(self._states())  # noqa: SLF001
        vars(self).update(vars(other))  # at once: all of it, or nothing

    def save(self, path: StrPath) -> None:
        """Write the state to a file, by custom ``….safetensors``; the old file stays until the new one is complete.

        Beside it stands what model it is of: the kinds, sizes and options of its layers, dtype, and batch. Neither the
        layers' names nor the values of weights are part of that, nor what only training sees.
        """
        from glasscell import checkpoint  # noqa: PLC0415 - only where it is used
        from glasscell.stream.fingerprint import fingerprint  # noqa: PLC0415

        if not self._states():
            raise ValueError("there is nothing to save: no layer of the model keeps anything from step to step")
        arrays = {f"remembered.{k}": self._outside(array) for k, array in enumerate(self._remembered)}
        for k, layers in enumerate(self._kept):
            arrays[f"{k}.h"], arrays[f"{k}.c"] = self._to_user_state(layers)
            if layers[0].repeated is not None:
                arrays[f"{k}.repeated"] = self._stacked([kept.repeated for kept in layers if kept.repeated is not None])
        own = fingerprint(self._layers, self._dtype, self._batch)
        checkpoint.save(checkpoint.Checkpoint(FILE_KIND, own, arrays), path)

    def load(self, path: StrPath) -> None:
        """Go on from a state that :meth:`save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is damaged, no state of a stream, or one of another model; what differs is named. The state is
            unchanged.
        """
        from glasscell import checkpoint  # noqa: PLC0415
        from glasscell.escaping import one_line  # noqa: PLC0415
        from glasscell.stream.fingerprint import differences, fingerprint  # noqa: PLC0415

        kind, config, arrays = checkpoint.load(path)
        if kind != FILE_KIND:
            raise ValueError(f"{path} holds a {kind!r}; expected the state of a stream")
        found = differences(config, fingerprint(self._layers, self._dtype, self._batch))
        if found:
            raise ValueError(f"{path} holds the state of another model: {one_line('; '.join(found))}")
        expected = {f"{k}.{name}" for k, of in enumerate(self._kept) for name in ("h", "c", *_repeats(of))}
        expected |= {f"remembered.{k}" for k in range(len(self._remembered))}
        if arrays.keys() != expected:
            names = one_line(", ".join(sorted(arrays)))
            raise ValueError(f"{path} has {names}; expected {', '.join(sorted(expected))}")
        pairs = [(arrays[f"{k}.h"], arrays[f"{k}.c"]) for k in range(len(self._kept))]
        columns = self._checked_pairs(pairs, str(path))
        repeated = [
            self._columns(f"{path}: {k}.repeated", arrays[f"{k}.repeated"], of, "h") if _repeats(of) else None
            for k, of in enumerate(self._kept)
        ]
        remembered = [
            self._checked_remembered(f"{path}: remembered.{k}", arrays[f"remembered.{k}"], array)
            for k, array in enumerate(self._remembered)
        ]

        def change() -> None:
            self._set(columns)
            for array, value in zip(self._remembered, remembered, strict=True):
                array[...] = value
            for of, values in zip(self._kept, repeated, strict=True):
                for kept, value in zip(of, () if values is None else values, strict=values is not None):
                    if kept.repeated is not None:
                        kept.repeated[...] = value

        self._with_rollback(change)

    def __repr__(self) -> str:
        inside = ", ".join(map(repr, self._layers.values()))
        return f"Stream({inside}{'' if self._batch is None else f', batch={self._batch}'})"

    # What follows is how a stream is made.

    def _read_weights(self) -> None:
        layers = [(name, layer) for name, layer in self._layers.items() if kind_of(layer) not in FOR_TRAINING]
        self._parts = [stage_for(name, layer, single=self._batch is None) for name, layer in layers]
        dtypes = [layer.dtype for _, layer in layers if hasattr(layer, "dtype")]
        kind = dtypes[0].type if dtypes else np.float32
        self._dtype: np.dtype[np.floating] = np.dtype(kind)  # the one that arrays have: a copy has another

    def _build(self, size: int | None = None) -> None:
        n, parts, dtype = self._batch, self._parts, self._dtype
        width = _input_width(self._layers.values())
        widths = [width]
        for part in parts:
            widths += part.blocks(widths[-1])
        memory = Arena(sum(widths) + len(widths), n, dtype, size)
        building = StreamBuilder(memory, width)
        entrance = building.x
        # Views are taken once. Outside, a batch is rows; inside, columns.
        self._inlet: Array = entrance if n is None else entrance.T

        def refuse_not_finite() -> None:
            check_finite("x", self._inlet, self._inlet)

        if not isinstance(parts[0], EmbeddingStage):
            if isinstance(parts[0], LSTMStage) and parts[0].plain and n is None:
                building.guard = refuse_not_finite
            else:
                building.calls.append(_finite_check(entrance, refuse_not_finite))
        for part in parts:
            part.build(building)
        if memory.vector is None:
            self._build(memory.needed)
            return
        if building.present is not None:
            raise ValueError(f"{building.fewer}, and no layer behind it makes one answer of them")
        self._kept, self._remembered = building.kept, building.remembered
        states = self._states()
        self._memory, self._before = memory.vector, memory.vector.copy()
        self._of_inactive = [(array, np.empty_like(array)) for array in states]
        self._others = np.zeros(n or 1, np.bool_)
        self._of_active = np.zeros_like(building.x)
        self._columns_out: Array = building.x
        bare = kind_of(list(self._layers.values())[-1]) == "Squeeze"
        outlets = (_output_view(y, n, bare=bare) for y in (building.x, self._of_active))
        self._outlet, self._outlet_of_active = outlets
        self._calls = building.calls
        if isinstance(parts[0], EmbeddingStage):
            self._enter = self._id_input_check(parts[0], building.of_symbols)
        else:
            self._enter = self._float_input_check(width)
        if is_atomic(parts):
            self._step = _step(self._enter, self._calls, self._outlet)
        else:
            self._step = _guarded_step(self._enter, self._calls, self._outlet, self._memory, self._before)
        # A context of its own costs nothing, and an errstate around every push would. In it underflow is let through;
        # invalid operations, too: with finite inputs an overflow comes before them, and is reported.
        context = copy_context()
        context.run(np.seterr, under="ignore", invalid="ignore")
        self._run = context.run

    def _float_input_check(self, width: int) -> InputCheck:
        n, dtype, inlet = self._batch, self._dtype, self._inlet
        columns, zero = inlet.T, np.zeros((), dtype)
        shape: tuple[int, ...] = (width,) if n is None else (n, width)
        letters = "(I,)" if n is None else "(n, I)"
        if kind_of(next(iter(self._layers.values()))) == "Unsqueeze":
            shape, letters = shape[:-1], "()" if n is None else "(n,)"
            inlet = inlet.reshape(shape)
        ndarray = np.ndarray

        def enter(x: Any, others: Mask | None = None) -> None:
            if type(x) is not ndarray or x.dtype is not dtype or x.shape != shape:
                x, _ = real_array("x", x, dtype)
                if x.shape != shape:
                    raise ValueError(f"x has shape {x.shape}; expected {letters} = {shape}")
            inlet[...] = x
            if others is not None:
                np.copyto(columns, zero, where=others)

        return enter

    def _id_input_check(self, part: EmbeddingStage, own: Mask | None) -> InputCheck:
        n, inlet, table = self._batch, self._inlet, part.table
        shape = () if n is None else (n,)
        V = len(table)
        rows = np.empty(inlet.shape, self._dtype)

        def enter(x: Any, others: Mask | None = None) -> None:
            symbols = np.asarray(x)
            if symbols.dtype.kind == "f" and np.array_equal(symbols, np.trunc(symbols)):
                symbols = symbols.astype(np.int64)  # as Embedding.forward takes them
            if symbols.dtype.kind not in "iu":
                raise TypeError(f"symbols must be integers, and have dtype {symbols.dtype}")
            if symbols.shape != shape:
                expected = "one symbol" if n is None else f"(n,) = ({n},)"
                raise ValueError(f"x has shape {symbols.shape}; expected {expected}")
            if others is not None:
                symbols = np.where(others, symbols.dtype.type(0), symbols)
            if not (symbols.min() >= 0 and symbols.max() < V):
                raise ValueError(f"symbols must be from 0 to {V - 1}, and are {symbols.min()} to {symbols.max()}")
            np.take(table, symbols, axis=0, out=rows, mode="clip")
            inlet[...] = rows
            if own is not None:
                np.not_equal(symbols, 0, own)

        def enter_one(x: Any, others: Mask | None = None) -> None:
            del others
            if type(x) is int and 0 <= x < V:
                inlet[...] = table[x]
                if own is not None:
                    own[0] = x != 0
            else:
                enter(x)

        return enter if n is not None else enter_one

    # What follows is how a stream steps.

    def _step_to_out(self, x: ArrayLike, out: Array | None, active: ArrayLike | None) -> Array:
        if out is not None:
            self._check_out(out)
        y = self._step(x) if active is None else self._step_of_active(x, self._mask(active))
        if out is None:
            return y
        out[...] = y
        return out

    def _step_of_active(self, x: ArrayLike, active: Mask) -> Array:
        others = np.logical_not(active, self._others)
        self._enter(x, others)
        self._with_rollback(self._run_calls_of_active)
        self._of_active[...] = 0
        np.copyto(self._of_active, self._columns_out, where=active)
        return self._outlet_of_active

    def _run_calls_of_active(self) -> None:
        """Run the calls, and put the old states of the other streams back."""
        for array, saved in self._of_inactive:
            saved[...] = array
        for call in self._calls:
            call()
        for array, saved in self._of_inactive:
            np.copyto(array, saved, where=self._others)

    def _with_rollback(self, change: Callable[[], object]) -> None:
        """Change the state; whatever is raised meanwhile, also by a signal's handler, the old one comes back."""
        self._before[...] = self._memory
        try:
            change()
        except BaseException:
            self._memory[...] = self._before  # one instruction: nothing can interrupt it
            raise

    def _mask(self, active: ArrayLike) -> Mask:
        if self._batch is None:
            raise ValueError("active is for the streams of a batch: stream(batch=n)")
        mask = np.asarray(active)
        if mask.dtype != np.bool_:
            raise TypeError(f"active must be an array of bool, and has dtype {mask.dtype}")
        if mask.shape != (self._batch,):
            raise ValueError(f"active has shape {mask.shape}; expected (n,) = ({self._batch},)")
        return mask

    def _check_out(self, out: Array) -> None:
        kind = getattr(out, "dtype", type(out).__name__)
        if kind != self._dtype:
            raise TypeError(f"out must be an array of {self._dtype}, and is {kind}")
        if out.shape != self._outlet.shape:
            letters = "(O,)" if self._batch is None else "(n, O)"
            raise ValueError(f"out has shape {out.shape}; expected {letters} = {self._outlet.shape}")
        if not out.flags.writeable:
            raise ValueError("out cannot be written to")

    # What follows is about states.

    def _recurrent_arrays(self) -> list[RecurrentState]:
        return [kept for layers in self._kept for kept in layers]

    def _states(self) -> list[Array]:
        """All arrays that change from step to step and matter later."""
        return [array for kept in self._recurrent_arrays() for array in kept.arrays] + self._remembered

    def _more(self) -> list[Array]:
        """What is kept beside the states of LSTMs."""
        return self._remembered + [kept.repeated for kept in self._recurrent_arrays() if kept.repeated is not None]

    def _copy_state(self, old: Sequence[Array]) -> None:
        for array, value in zip(self._states(), old, strict=True):
            array[...] = value

    def _outside(self, columns: Array) -> Array:
        """From columns to (rows,) or (n, rows), a copy."""
        return columns.copy() if self._batch is None else columns.T.copy()

    def _checked_remembered(self, name: str, value: Array, like: Array) -> Array:
        columns = finite_array(name, value, self._dtype)
        shape = self._outside(like).shape
        if columns.shape != shape:
            raise ValueError(f"{name} has shape {columns.shape}; expected {shape}")
        return columns if self._batch is None else columns.T

    def _stacked(self, columns: Sequence[Array]) -> Array:
        """From columns to (L, rows) or (L, n, rows), a copy."""
        stacked: Array = np.stack(columns)
        return stacked if self._batch is None else stacked.swapaxes(1, 2).copy()

    def _to_user_state(self, layers: Sequence[RecurrentState]) -> StatePair:
        return self._stacked([kept.h for kept in layers]), self._stacked([kept.c for kept in layers])

    def _checked(self, state: State) -> list[StatePair]:
        pairs = list(self._unpack(state))
        if len(pairs) != len(self._kept):
            raise ValueError(f"state has {len(pairs)} entries; the model has {len(self._kept)} LSTMs")
        return self._checked_pairs(pairs, "state")

    def _checked_pairs(self, pairs: Sequence[StatePair], name: str) -> list[StatePair]:
        """In columns, each (L, rows) or (L, rows, n)."""
        columns: list[StatePair] = []
        for k, (pair, layers) in enumerate(zip(pairs, self._kept, strict=True)):
            of = name if len(pairs) == 1 else f"{name}[{k}]"
            try:
                h, c = pair
            except (TypeError, ValueError):
                raise TypeError(f"{of} must be a pair (h, c), and is a {type(pair).__name__}") from None
            columns.append((self._columns(f"{of}.h", h, layers, "h"), self._columns(f"{of}.c", c, layers, "c")))
        return columns

    def _columns(self, name: str, value: ArrayLike, layers: Sequence[RecurrentState], like: Literal["h", "c"]) -> Array:
        rows, n = len(getattr(layers[0], like)), self._batch
        array = finite_array(name, value, self._dtype)
        shape = (len(layers), rows) if n is None else (len(layers), n, rows)
        if array.shape != shape:
            letter = "P" if like == "h" and len(layers[0].h) != len(layers[0].c) else "H"
            letters = f"(L, {letter})" if n is None else f"(L, n, {letter})"
            raise ValueError(f"{name} has shape {array.shape}; expected {letters} = {shape}")
        return array if n is None else array.swapaxes(1, 2)

    def _set(self, columns: Sequence[StatePair]) -> None:
        for layers, (h, c) in zip(self._kept, columns, strict=True):
            for kept, of_h, of_c in zip(layers, h, c, strict=True):
                kept.h[...], kept.c[...] = of_h, of_c
        for array in self._more():  # as in forward: what was before the state is not known
            array[...] = 0


def _restored(
    kind: type[Stream[Any]],
    layers: dict[str, Any],
    batch: int | None,
    pack: Callable[..., Any],
    unpack: Callable[..., Any],
    parts: list[Stage],
    dtype: str,
    arrays: list[Array],
) -> Stream[Any]:
    """A copied or pickled stream."""
    stream = kind.__new__(kind)
    stream._layers, stream._batch, stream._pack, stream._unpack = layers, batch, pack, unpack  # noqa: SLF001 - of this
    stream._parts, stream._dtype = parts, np.dtype(dtype)  # noqa: SLF001 - module
    stream._build()  # noqa: SLF001
    stream._copy_state(arrays)  # noqa: SLF001
    return stream


def _output_view(columns: Array, batch: int | None, *, bare: bool) -> Array:
    """Columns as (O,), or as rows of a batch (n, O); if bare, as () or (n,): a view, to be read only."""
    view = columns[0] if bare and batch is not None else columns.view() if batch is None else columns.T
    view = view.reshape(()) if bare and batch is None else view
    view.flags.writeable = False
    return view


def _step(enter: InputCheck, calls: Sequence[Callable[[], object]], y: Array) -> Callable[[Any], Array]:
    """The step itself. What it needs is bound here: no attribute is looked up while it runs."""
    if len(calls) == 1:
        (only,) = calls

        def step(x: Any) -> Array:
            enter(x)
            only()
            return y

    else:

        def step(x: Any) -> Array:
            enter(x)
            for call in calls:
                call()
            return y

    return step


def _guarded_step(
    enter: InputCheck, calls: Sequence[Callable[[], object]], y: Array, memory: Array, before: Array
) -> Callable[[Any], Array]:
    """As :func:`_step`; whatever a call raises, the memory is that of before."""

    def step(x: Any) -> Array:
        enter(x)
        before[...] = memory
        try:
            for call in calls:
                call()
        except BaseException:
            memory[...] = before
            raise
        return y

    return step


def _finite_check(entrance: Array, refuse: Callable[[], None]) -> Callable[[], None]:
    """Times 0, NaN and infinity are NaN, and so is any sum that they are part of; for finite numbers it is 0."""
    values = entrance.reshape(-1)
    zeros, dot = np.zeros_like(values), np.dot

    def check() -> None:
        if dot(values, zeros):  # NaN is true
            refuse()

    return check


def _input_width(layers: Any) -> int:
    """Features of the inputs, as the first layer that has a size says."""
    for layer in layers:
        if kind_of(layer) == "Unsqueeze":
            return 1
        for name in ("input_size", "embedding_size", "size"):
            if getattr(layer, name, None) is not None:
                return int(getattr(layer, name))
    raise ValueError("the model cannot be streamed: none of its layers says how many features an input has")


def _repeats(layers: Sequence[RecurrentState]) -> tuple[str, ...]:
    return () if layers[0].repeated is None else ("repeated",)
