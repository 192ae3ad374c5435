"""A chain of layers: what models of other projects become here."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike

from glasscell import checkpoint
from glasscell.atomic_files import StrPath
from glasscell.checkpoint import Checkpoint
from glasscell.core.buffers import BufferPool
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array
from glasscell.data.batch import Batch
from glasscell.escaping import escape, one_line
from glasscell.layers.base import Mask
from glasscell.layers.kinds import (
    Layer,
    Stateless,
    check_chain,
    has_parameters,
    input_size,
    layer_config,
    layer_from_config,
    with_directions,
)
from glasscell.layers.recurrent_layer import RecurrentLayer
from glasscell.layers.trainable import DEFAULT_SEED, LayerSeed, is_default
from glasscell.models.protocol import ForwardPass, States
from glasscell.validation import (
    as_generator,
    check_finite,
    finite_array,
    from_feature_major,
    positive_integer,
    real_array,
    step_mask,
)
from glasscell.weight_layouts import check_shapes

if TYPE_CHECKING:
    from glasscell.stream import Stream
    from glasscell.trace.trace import Trace

__all__ = ["Layer", "Sequential", "SequentialTape", "Stateless", "has_parameters", "layer_config", "layer_from_config"]
MAX_LAYERS = 4096  # of a model that is read from a file


_SUBSETS: WeakKeyDictionary[Parameters, dict[tuple[str, ...], list[Parameters | None]]] = WeakKeyDictionary()


class SequentialTape(NamedTuple):
    """Record of a forward pass.

    Attributes
    ----------
    layers : tuple
        Tape of each layer; an :class:`~glasscell.layers.LSTMTape` for an LSTM.
    states : tuple
        Final state of each recurrent layer; empty in training.
    shape : tuple of int
        Shape of the outputs in core's layout.
    unbatched : bool
        Whether the input was one sequence without a batch axis.
    """

    layers: tuple[Any, ...]
    states: tuple[Any, ...]
    shape: tuple[int, ...]
    unbatched: bool


class Sequential:
    """Layers, each of which takes what the one before gives.

    Parameters
    ----------
    layers : sequence of layers of :mod:`glasscell.layer_traces`, or of Sequentials
        Of one dtype. Their parameters become parts of the model's: a layer can be in one model, and in it once; for
        another one pass a copy, ``copy.deepcopy(layer)``. A Sequential is replaced by its layers, each called
        ``outer.inner``; it keeps working, with the same weights.
    names : sequence of str, optional
        What each layer is called in ``parameters`` and files, as attributes of a module would be in PyTorch; without
        them their numbers, "0", "1", ….
    seed : int or numpy.random.Generator, optional
        One generator draws the first weights of all layers that were made without a seed of their own, one after the
        other: each layer alone would draw from seed 0, and equal layers would start with equal weights. Layers made
        with ``seed=``, loaded, or changed since they were made keep their weights. None keeps those of all. Default: 0,
        and in another Sequential drawn anew from that one's seed.

    Attributes
    ----------
    parameters : Parameters
        One vector: ``0.kernel_l0``, …, of the names of the layers.

    Examples
    --------
    >>> import numpy as np
    >>> from glasscell.layers import FinalState
    >>> model = Sequential([LSTM(3, 16), FinalState(), Linear(16, 2)], names=["encoder", "last", "head"])
    >>> model(np.zeros((5, 7, 3))).shape
    (5, 2)
    """

    def __init__(
        self,
        layers: Sequence[Layer | Sequential],
        names: Sequence[str] | None = None,
        *,
        seed: LayerSeed = "default",
    ) -> None:
        if not isinstance(layers, Sequence) or isinstance(names, Layer | Sequential):  # type: ignore[redundant-expr] # a wrong call
            raise TypeError("layers must be one list of layers, Sequential([a, b]): pass one list")
        given = tuple(layers)
        called = tuple(map(str, range(len(given)))) if names is None else tuple(names)
        if not given:
            raise ValueError("a model needs a layer")
        if len(called) != len(given) or len(set(called)) != len(called) or "" in called:
            raise ValueError(f"{len(given)} layers need as many different names, and these are {called}")
        inside = [
            of.inside(name) if isinstance(of, Sequential) else {name: of}
            for name, of in zip(called, given, strict=True)
        ]
        self.names = tuple(name for one in inside for name in one)
        self._layers = tuple(with_directions(self.names, [layer for one in inside for layer in one.values()]))
        self._check()
        _check_free(called, given)
        owned = [layer for layer in self.layers if has_parameters(layer)]
        dtypes = {layer.parameters.vector.dtype for layer in owned}
        if len(dtypes) > 1:
            raise ValueError(f"the layers are of different dtypes: {', '.join(sorted(map(str, dtypes)))}")
        self.dtype: np.dtype[np.floating] = dtypes.pop() if dtypes else np.dtype(np.float32)
        by_default = is_default(seed)
        rng = None if seed is None else as_generator(DEFAULT_SEED if by_default else seed)
        for layer in owned:
            if rng is not None and layer.drawn_by_default:
                layer.initialize(rng, by_default=by_default)
        parts = {
            name: of.parameters
            for name, of in zip(called, given, strict=True)
            if isinstance(of, Sequential) or has_parameters(of)
        }
        self._parameters = Parameters.join(parts, self.dtype)
        self._size = input_size(self._layers)
        self._input_features = [layer.input_features for layer in self._layers]
        self._stateful = [layer for layer in self._layers if isinstance(layer, RecurrentLayer)]
        self._first_trainable = next(
            (k for k, layer in enumerate(self._layers) if has_parameters(layer)), len(self._layers)
        )

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, from the input upwards."""
        return self._layers

    @property
    def parameters(self) -> Parameters:
        """The weights of all layers."""
        return self._parameters

    def inside(self, name: str) -> dict[str, Layer]:
        """Return the layers under the names that they have in a model in which this one is called `name`."""
        return {f"{name}.{own}": layer for own, layer in zip(self.names, self.layers, strict=True)}

    def _check(self) -> None:
        in_order = sorted(f"{name}." for name in self.names)  # what begins with a name follows it at once
        for name, following in pairwise(in_order):
            if following.startswith(name):
                raise ValueError(f"the name {name[:-1]!r} is the beginning of another layer's")
        check_chain(self.names, self.layers)

    def __call__(self, x: ArrayLike, *, lengths: ArrayLike | None = None, mask: ArrayLike | None = None) -> Array:
        """Return the outputs of :meth:`forward`, without a tape. Several threads may run one model at once."""
        return self._forward(x, None, lengths, mask, None, keep_tape=False)[0]

    def forward(
        self,
        x: ArrayLike,
        states: Any = None,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        rng: np.random.Generator | None = None,
    ) -> tuple[Array, Any, SequentialTape]:
        """Run sequences through all layers.

        Parameters
        ----------
        x : array (B, T, I) or (T, I)
            (B, T) or (T,) if the first layer takes numbers or ids: an Unsqueeze, or an Embedding.
        states : sequence of states, optional
            Initial states, one for each recurrent layer. Default, also for an entry that is None: those of the layers.
        lengths, mask : array, optional
            The valid steps, as in :meth:`glasscell.LSTM.forward`.
        rng : numpy.random.Generator, optional
            For training: dropout and zoneout are drawn from it.

        Returns
        -------
        outputs : array
        states : tuple of states
            After the last step, one for each recurrent layer, such as :class:`~glasscell.LSTMState`.
        tape : SequentialTape
            For :meth:`backward`.
        """
        return self._forward(x, states, lengths, mask, rng, keep_tape=True)

    def _forward(
        self,
        x: ArrayLike,
        states: Any,
        lengths: ArrayLike | None,
        mask: ArrayLike | None,
        rng: np.random.Generator | None,
        *,
        keep_tape: bool,
    ) -> tuple[Array, Any, SequentialTape]:
        if rng is not None and not isinstance(rng, np.random.Generator):
            raise TypeError(f"rng must be a numpy.random.Generator, and is {rng!r}")
        columns, valid, single = self._prepare_inputs(x, lengths, mask, copy=keep_tape)
        B = columns.shape[-1]
        y, final, tapes = self._run_layers(
            columns, valid, self._states_to_feature_major("states", states, B, single=single), rng, None,
            check=True, keep_tape=keep_tape,
        )  # fmt: skip
        final = [layer.state_to_user(state, single=single) for layer, state in zip(self._stateful, final, strict=True)]
        if keep_tape:
            tapes = [
                tape._replace(unbatched=single) if layer.stateful else tape
                for layer, tape in zip(self._layers, tapes, strict=True)
            ]
        outputs = _to_user(y, single=single)
        return outputs, self._pack_states(final), SequentialTape(tuple(tapes), tuple(final), y.shape, single)

    def _run_layers(
        self,
        x: Array,
        mask: Mask | None,
        states: Sequence[Any] | None,
        rng: np.random.Generator | None,
        buffers: BufferPool | None,
        *,
        check: bool,
        keep_tape: bool,
    ) -> tuple[Array, list[Any], list[Any]]:
        """Return outputs, final states and tapes, in core's layout; `check` that numbers between layers are finite."""
        tapes: list[Any] = []
        final_states: list[Any] = []
        for k, (name, layer) in enumerate(zip(self.names, self._layers, strict=True)):
            size = self._input_features[k]
            if size is not None and x.ndim > 1 and x.shape[-2] != size and layer.inputs == "features":
                raise ValueError(f"layer {name!r} must get {size} features, got {x.shape[-2]}")
            if check and k and not np.isfinite(x).all():
                self.parameters.check_finite()
                raise ValueError(f"the inputs of layer {name!r} must be finite, got {x[~np.isfinite(x)][0]}")
            state = states[len(final_states)] if layer.stateful and states is not None else None
            scope = None if buffers is None else buffers.scope(name)
            x, mask, state, tape = layer.forward_feature_major(x, mask, state, rng, scope, keep_tape)
            tapes.append(tape)
            if layer.stateful:
                final_states.append(state)
        return x, final_states, tapes

    def _prepare_inputs(
        self, x: ArrayLike, lengths: ArrayLike | None, mask: ArrayLike | None, *, copy: bool
    ) -> tuple[Any, Mask | None, bool]:
        """Return the inputs in core's layout, 0 at invalid steps; the mask (T, B); whether there was no batch axis."""
        kind = self._layers[0].inputs
        array = np.asarray(x) if kind == "ids" else real_array("x", x, self.dtype)[0]
        time = array.shape[:-1] if kind == "features" else array.shape
        size = self._size
        if len(time) not in (1, 2) or (kind == "features" and size not in (None, array.shape[-1])):
            shapes = "(B, T, I) or (T, I)" if kind == "features" else "(B, T) or (T,)"
            features = f" with I = {size} features" if size is not None and kind == "features" else ""
            raise ValueError(f"x has shape {array.shape}; expected {shapes}{features}")
        single = len(time) == 1
        if single:
            array = array[None]
        valid = step_mask(lengths, mask, 1 if single else time[0], time[-1], single=single)
        columns = np.moveaxis(array, 0, -1)
        if valid is not None:
            steps = valid[:, None] if kind == "features" else valid
            columns = np.where(steps, columns, array.dtype.type(0))
        if kind != "ids":
            values = np.moveaxis(columns, -1, 0)
            check_finite("x", values[0] if single else values, np.asarray(x))
        return np.array(columns, order="C") if copy else columns, valid, single

    def _states_to_feature_major(self, name: str, states: Any, B: int, *, single: bool) -> list[Any] | None:
        """Return the states of the recurrent layers in core's layout; None: no state was passed."""
        if states is None:
            return None
        values = list(self._unpack_states(states))
        if len(values) != len(self._stateful):
            raise ValueError(f"{name} has {len(values)} entries; the model has {len(self._stateful)} recurrent layers")
        return [
            None if state is None else layer.state_to_feature_major(name, state, B, single=single)
            for layer, state in zip(self._stateful, values, strict=True)
        ]

    def _pack_states(self, states: Sequence[Any]) -> Any:
        """Return the states of all recurrent layers as :meth:`forward` does."""
        return tuple(states)

    def _unpack_states(self, states: Any) -> Sequence[Any]:
        """Return the entries of what :meth:`_pack_states` returned."""
        return states  # type: ignore[no-any-return]

    def backward(
        self,
        tape: SequentialTape,
        d_outputs: ArrayLike,
        d_states: Any = None,
        *,
        step_gradients: list[Any] | None = None,
    ) -> tuple[Array | None, Any, Parameters]:
        """Compute the gradients of a loss on everything that :meth:`forward` used. The tape may be used again.

        Parameters
        ----------
        tape : SequentialTape
        d_outputs : array
            Gradient on the outputs, of their shape.
        d_states : sequence of states, optional
            Gradients on the final states, one for each recurrent layer.
        step_gradients : list, optional
            Extended by the gradients at every step, one entry for each layer and direction of the traceable layers.

        Returns
        -------
        d_inputs : array, or None if the inputs are ids
        d_states : tuple of states
            Gradients on the initial states.
        gradients : Parameters
        """
        if not isinstance(tape, SequentialTape):
            raise TypeError(f"tape must be what Sequential.forward returned, got a {type(tape).__name__}")
        shape, single = tape.shape, tape.unbatched
        d = finite_array("d_outputs", d_outputs, self.dtype)
        expected = shape[:-1] if single else (shape[-1], *shape[:-1])
        if d.shape != expected:
            raise ValueError(f"d_outputs has shape {d.shape}; expected {expected}, that of the outputs")
        columns = np.ascontiguousarray(d[..., None] if single else np.moveaxis(d, 0, -1))
        d_final = self._states_to_feature_major("d_states", d_states, shape[-1], single=single)
        gradients = self.parameters.zeros_like()
        dx, d_initial = self._run_layers_backward(
            tape.layers, columns, d_final, gradients, None, step_gradients=step_gradients
        )
        initial = [
            layer.state_to_user(state, single=single) for layer, state in zip(self._stateful, d_initial, strict=True)
        ]
        return None if dx is None else _to_user(dx, single=single), self._pack_states(initial), gradients

    def _run_layers_backward(
        self,
        tapes: Sequence[Any],
        d_outputs: Array,
        d_states: Sequence[Any] | None,
        gradients: Parameters,
        buffers: BufferPool | None,
        first: int = 0,
        *,
        need_dx: bool = True,
        step_gradients: list[Any] | None = None,
    ) -> tuple[Array | None, list[Any]]:
        """Run the layers from the last to the `first`; return the gradients on its inputs and on the initial states."""
        parts = self._subsets(gradients)
        d: Array | None = d_outputs
        d_initial: list[Any] = []
        remaining = len(self._stateful)
        for k in range(len(self._layers) - 1, first - 1, -1):
            assert d is not None  # only the first layer can take ids, which have no gradient  # noqa: S101
            layer, need_dx_here = self._layers[k], need_dx or k > first
            scope = None if buffers is None else buffers.scope(self.names[k])
            if not layer.stateful:
                d = layer.backward_feature_major(tapes[k], d, parts[k], scope, need_dx_here)
                continue
            remaining -= 1
            d_state = None if d_states is None else d_states[remaining]
            steps: list[Any] | None = None if step_gradients is None or not layer.traceable else []
            recurrent: Any = layer
            d, state = recurrent.backward_with_state(
                tapes[k], d, d_state, parts[k], scope, need_dx=need_dx_here, step_gradients=steps
            )
            d_initial.insert(0, state)
            if step_gradients is not None and steps is not None:
                step_gradients[:0] = steps
        return d, d_initial

    def _subsets(self, gradients: Parameters) -> list[Parameters | None]:
        """Return the gradients of each layer, found once for each set of gradients."""
        subsets = _SUBSETS.setdefault(gradients, {})
        result = subsets.get(self.names)
        if result is None:
            result = subsets[self.names] = [
                gradients.subset(f"{name}.") if has_parameters(layer) else None
                for name, layer in zip(self.names, self._layers, strict=True)
            ]
        return result

    # Training: the methods of glasscell.models.protocol.Trainable

    @property
    def training_defaults(self) -> Mapping[str, Any]:
        """Arguments of :func:`glasscell.fit` that suit the model, for those that are not passed: none."""
        return {}

    @property
    def runs_backward(self) -> bool:
        """Whether an output depends on later steps, because a layer runs back in time."""
        return any(layer.runs_backward for layer in self._layers)

    def train_forward(
        self, batch: Batch, states: States | None, buffers: BufferPool, rng: np.random.Generator | None
    ) -> ForwardPass:
        """Run a batch with a tape; states are those of the recurrent layers, in core's layout."""
        return self._run_batch(batch, states, buffers, rng, keep_tape=True)

    def train_backward(
        self, tape: SequentialTape, d_outputs: Array, gradients: Parameters, buffers: BufferPool
    ) -> None:
        """Write the gradient on every parameter into `gradients`."""
        if not isinstance(tape, SequentialTape):
            raise TypeError(f"tape must be the tape of a forward pass, got {type(tape).__name__}")
        columns = np.moveaxis(d_outputs, 0, -1)
        self._run_layers_backward(tape.layers, columns, None, gradients, buffers, self._first_trainable, need_dx=False)

    def infer(self, batch: Batch, states: States | None, buffers: BufferPool) -> ForwardPass:
        """Run a batch without a tape and without dropout."""
        return self._run_batch(batch, states, buffers, None, keep_tape=False)

    def _run_batch(
        self,
        batch: Batch,
        states: States | None,
        buffers: BufferPool,
        rng: np.random.Generator | None,
        *,
        keep_tape: bool,
    ) -> ForwardPass:
        self._check_batch(batch)
        x, mask = np.moveaxis(batch.inputs, 0, -1), None
        if batch.lengths is not None:
            mask = np.arange(len(x))[:, None] < batch.lengths
            mask = None if mask.all() else mask
        y, final, tapes = self._run_layers(x, mask, states, rng, buffers, check=False, keep_tape=keep_tape)
        tape = SequentialTape(tuple(tapes), (), y.shape, False) if keep_tape else None
        return ForwardPass(np.moveaxis(y, -1, 0), tuple(final), tape)

    def _check_batch(self, batch: Batch) -> None:
        """Raise an error for inputs of another shape or dtype than the first layer takes."""
        x, kind, size = batch.inputs, self._layers[0].inputs, self._size
        if x.ndim != (3 if kind == "features" else 2) or not (kind != "features" or size in (None, x.shape[2])):
            expected = f"(B, T, I) with I = {size}" if kind == "features" else "(B, T)"
            raise ValueError(f"x must have shape {expected}, got {x.shape}")
        if x.dtype.kind not in "iu" if kind == "ids" else x.dtype != self.dtype:
            raise TypeError(f"x must have dtype {'int' if kind == 'ids' else self.dtype}, got {x.dtype}")

    def predict(self, x: Any, *, batch_size: int = 256, lengths: ArrayLike | None = None) -> Any:
        """Compute the outputs for any number of sequences, in batches.

        Parameters
        ----------
        x : array (N, T, I) or ids (N, T); or a list of N arrays (T_n, I) or (T_n,)
        batch_size : int
            Sequences at a time. Sequences of a list are grouped by length.
        lengths : array (N,) of int, optional
            Lengths of sequences in an array. Default: T.

        Returns
        -------
        array (N, ...), or for a list of sequences with one output per step a list of N arrays (T_n, ...)
        """
        from glasscell.data.arrays import ArrayData  # noqa: PLC0415 - not paid for by `import glasscell`

        size = positive_integer("batch_size", batch_size)
        data = ArrayData(x, np.zeros(len(x), np.int64), lengths=lengths)
        found: list[Any] = [None] * len(data)
        buffers, per_step = BufferPool(), False
        for rows, batch in data.by_length(size, self.dtype):
            outputs = self.infer(batch, None, buffers).outputs
            per_step = outputs.ndim > 2 or (outputs.ndim == 2 and self._layers[-1].outputs == "numbers")
            for row, k in enumerate(rows):
                found[int(k)] = outputs[row, : data.lengths[k]].copy() if per_step else outputs[row].copy()
        if per_step and not isinstance(data.x, list):
            T = data.x.shape[1]
            found = [np.pad(y, [(0, T - len(y)), *[(0, 0)] * (y.ndim - 1)]) for y in found]
        return found if per_step and isinstance(data.x, list) else np.stack(found)

    def trace(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        *,
        loss: str = "squared_error",
        weights: ArrayLike | None = None,
        d_outputs: ArrayLike | None = None,
        states: Any = None,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        **metadata: Any,
    ) -> Trace:
        """Record every gate and state of the model's recurrent layers and, with a target, every gradient.

        Parameters
        ----------
        x : array
            As in :meth:`forward`.
        y : array, optional
            Targets of the outputs; class numbers, without the last axis, for "categorical_cross_entropy".
        loss : {"squared_error", "binary_cross_entropy", "categorical_cross_entropy"}
        weights : array, broadcasts to y, optional
            Weight of each target in the loss.
        d_outputs : array, optional
            Instead of y: the gradient of any loss on the outputs.
        states, lengths, mask
            As in :meth:`forward`.
        **metadata
            For the views: ``title``, and lists of ``input_names``, ``output_names`` and ``step_names``.

        Returns
        -------
        glasscell.trace.Trace

        Raises
        ------
        ValueError
            If no layer can be traced, or a shape does not fit.
        """
        from glasscell.models.tracing import trace_sequential  # noqa: PLC0415 - only where it is used
        from glasscell.trace.capture import TraceTargets  # noqa: PLC0415

        targets = TraceTargets(y, loss, weights, d_outputs)
        return trace_sequential(self, x, targets, metadata, states=states, lengths=lengths, mask=mask)

    def stream(self, batch: int | None = None) -> Stream[Any]:
        """Make a stream, which takes one step at a time: see :class:`glasscell.stream.Stream`.

        A model that gives one answer for a sequence gives, after each step, the answer for the steps so far.

        Parameters
        ----------
        batch : int, optional
            n independent streams, that step together; without it one, whose arrays have no batch axis.

        Raises
        ------
        ValueError
            If a layer needs steps that have not come yet (an LSTM that runs back in time, "same" padding, Flatten), or
            gives another number of steps than it takes without a layer that makes one answer of them.
        """
        from glasscell.stream import Stream  # noqa: PLC0415 - only where it is used

        layers = dict(zip(self.names, self.layers, strict=True))
        return Stream(layers, batch, self._states_of_stream, self._unpack_states)

    def _states_of_stream(self, states: Sequence[Sequence[Array]]) -> Any:
        """Return the states of a stream, from the arrays of each recurrent layer."""
        return self._pack_states(
            [layer.state_type(*arrays) for layer, arrays in zip(self._stateful, states, strict=True)]
        )

    def to_torch(self) -> dict[str, Array]:
        """Return a copy of the weights under the names that a PyTorch module of the same attributes has for them."""
        return {
            f"{name}.{key}": array
            for name, layer in zip(self.names, self.layers, strict=True)
            if has_parameters(layer)
            for key, array in layer.named_weights().items()
        }

    @property
    def config(self) -> dict[str, Any]:
        """What a file says of the layers."""
        return {"names": list(self.names), "layers": [layer_config(layer) for layer in self.layers]}

    def save(self, path: StrPath) -> None:
        """Write the model to a file, by custom ``….safetensors``; see :func:`glasscell.checkpoint.save`."""
        checkpoint.save(Checkpoint(type(self).__name__, self.config, self.to_torch()), path)

    @classmethod
    def load(cls, path: StrPath) -> Self:
        """Read a model that :meth:`save` wrote; see :func:`glasscell.checkpoint.load`."""
        kind, config, weights = checkpoint.load(path)
        if kind != cls.__name__:
            raise ValueError(f"{path} holds a {kind!r}; expected a {cls.__name__!r}")
        try:
            return cls.from_weights(config, weights)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"{path} does not fit together: {one_line(error)}") from None

    @classmethod
    def from_weights(cls, config: Mapping[str, Any], weights: Mapping[str, Array]) -> Self:
        """From what :attr:`config` and :meth:`to_torch` gave."""
        dtype = next(iter(weights.values())).dtype
        remaining = sum(array.size for array in weights.values())
        if len(config["layers"]) > MAX_LAYERS:
            raise ValueError(f"there are {len(config['layers'])} layers; at most {MAX_LAYERS} are read")
        layers: list[Layer] = []
        for entry in config["layers"]:
            layers.append(layer_from_config(entry, dtype, remaining))
            remaining -= layers[-1].parameters.vector.size if has_parameters(layers[-1]) else 0
        model = cls(layers, config["names"], seed=None)
        model._load_named_weights(weights)
        return model

    def _load_named_weights(self, weights: Mapping[str, Array]) -> None:
        """Copy weights under the names of :meth:`to_torch` into the layers, if all of them have the right shape."""
        shapes = {name: array.shape for name, array in weights.items()}
        check_shapes(shapes, {name: array.shape for name, array in self.to_torch().items()})
        by_layer: dict[str, dict[str, Array]] = {name: {} for name in self.names}
        for key, array in weights.items():
            name = key.rpartition(".")[0]
            while name not in by_layer:  # every weight has the name of a layer in front: that has been checked
                name = name.rpartition(".")[0]
            by_layer[name][key.removeprefix(f"{name}.")] = array
        for layer, layer_weights in zip(self.layers, by_layer.values(), strict=True):
            if has_parameters(layer):
                layer.load_named_weights(layer_weights)

    def __repr__(self) -> str:
        named = zip(map(escape, self.names), self.layers, strict=True)
        inside = "".join(f"\n    {name}: {layer!r}" for name, layer in named)
        return f"Sequential({inside}\n)"


def _check_free(names: Sequence[str], given: Sequence[Layer | Sequential]) -> None:
    """Refuse a layer whose weights are, or would be, in two places of one or two vectors."""
    advice, seen = "pass a copy, copy.deepcopy(layer)", dict[int, str]()
    for name, of in zip(names, given, strict=True):
        if not isinstance(of, Sequential) and not has_parameters(of):
            continue
        first = seen.setdefault(id(of), name)
        if first != name:
            raise ValueError(f"{name!r} must be a layer of its own, and is the same as {first!r}: {advice}")
        if of.parameters.is_part:
            raise ValueError(f"{name!r} must be in no other model, and its weights are a part of one: {advice}")


def _to_user(columns: Array, *, single: bool) -> Array:
    """Return a copy of an array in core's layout, batch first, or without a batch axis."""
    if columns.ndim == 3:
        return from_feature_major(columns, single=single)
    return (columns[..., 0] if single else np.moveaxis(columns, -1, 0)).copy()
