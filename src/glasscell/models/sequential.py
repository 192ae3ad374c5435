"""A chain of layers: what models of other projects become here."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

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
from glasscell.layers import LSTM, Embedding, LayerSeed, Linear, LSTMState, LSTMTape
from glasscell.layers.base import Mask, ParameterLayer, StatelessLayer
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
from glasscell.layers.reshaping import Squeeze, Unsqueeze
from glasscell.layers.trainable import DEFAULT_SEED, is_default
from glasscell.models import layer_passes
from glasscell.models.protocol import ForwardPass, States
from glasscell.validation import as_generator, finite_array, positive_integer, real_array, step_mask
from glasscell.weight_layouts import check_shapes
from glasscell.weight_layouts.pytorch import from_torch, to_torch

if TYPE_CHECKING:
    from glasscell.core.step_gradients import StepGradientsByLayer
    from glasscell.stream import Stream
    from glasscell.trace.trace import Trace

__all__ = ["Layer", "Sequential", "SequentialTape", "Stateless", "has_parameters", "layer_config", "layer_from_config"]
MAX_LAYERS = 4096  # of a model that is read from a file


class SequentialTape(NamedTuple):
    """What :meth:`Sequential.forward` computed: a tape a layer.

    Attributes
    ----------
    layers : tuple
        What each layer keeps for its backward pass; an :class:`~glasscell.layers.LSTMTape` for an LSTM.
    states : tuple of LSTMState
        The final state of each LSTM.
    """

    layers: tuple[Any, ...]
    states: tuple[LSTMState, ...]


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
        """The model's answer to x: the outputs of :meth:`forward`, without a tape. Several threads may ask at once."""
        return self._forward_layers(x, None, lengths, mask, None, keep=False)[0]

    def forward(
        self,
        x: ArrayLike,
        states: Sequence[LSTMState | None] | None = None,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        rng: np.random.Generator | None = None,
    ) -> tuple[Array, tuple[LSTMState, ...], SequentialTape]:
        """Run sequences through all layers.

        Parameters
        ----------
        x : array (B, T, I) or (T, I); (B, T) or (T,) if the first layer is an Embedding, of integers, or an Unsqueeze
        states : sequence of LSTMState, optional
            Initial states, one for each LSTM.
        lengths, mask : array, optional
            Which steps belong to the sequences, as in :meth:`glasscell.LSTM.forward`.
        rng : numpy.random.Generator, optional
            For training: dropout and zoneout are drawn from it.

        Returns
        -------
        outputs : array
        states : tuple of LSTMState
            After the last step, one for each LSTM.
        tape : SequentialTape
            For :meth:`backward`, and for looking at.
        """
        return self._forward_layers(x, states, lengths, mask, rng, keep=True)

    def _forward_layers(
        self,
        x: ArrayLike,
        states: Sequence[LSTMState | None] | None,
        lengths: ArrayLike | None,
        mask: ArrayLike | None,
        rng: np.random.Generator | None,
        *,
        keep: bool,
    ) -> tuple[Array, tuple[LSTMState, ...], SequentialTape]:
        """:meth:`forward`; unless `keep`, the LSTMs leave no tape."""
        count = sum(isinstance(layer, LSTM) for layer in self.layers)
        given = [None] * count if states is None else list(states)
        if len(given) != count:
            raise ValueError(f"states has {len(given)} entries; the model has {count} LSTMs")
        y, own = self._prepare_inputs(x, lengths, mask)
        try:
            return self._through_layers(y, given, own, rng, keep=keep)
        except ValueError:  # where weights are not finite, a layer finds that its inputs are not
            self.parameters.check_finite()
            raise

    def _through_layers(
        self,
        y: Any,
        given: Sequence[LSTMState | None],
        own: Mask | None,
        rng: np.random.Generator | None,
        *,
        keep: bool,
    ) -> tuple[Array, tuple[LSTMState, ...], SequentialTape]:
        tapes: list[Any] = []
        finals: list[LSTMState] = []
        tape: Any
        for layer in self.layers:
            if isinstance(layer, LSTM):
                start, tape = given[len(finals)], None
                if keep:
                    y, final, tape = layer.forward(y, start, mask=own, rng=rng)
                else:
                    y, final = layer.run(y, start, mask=own)
                finals.append(final)
            elif isinstance(layer, Embedding):
                if layer.mask_zero:
                    own = (np.asarray(y) != 0) if own is None else own & (np.asarray(y) != 0)
                y, tape = layer.forward(y)
            elif isinstance(layer, Linear):
                y, tape = _mapped(layer, y)
            else:
                x_of_layer, mask_of_layer = y, own
                y, tape = layer.forward(y, own, rng)
                own = layer.output_mask(x_of_layer, mask_of_layer)
            tapes.append(tape)
        return y, tuple(finals), SequentialTape(tuple(tapes), tuple(finals))

    def _prepare_inputs(
        self, x: ArrayLike, lengths: ArrayLike | None, mask: ArrayLike | None
    ) -> tuple[Any, Mask | None]:
        """What is given, checked, with 0 where a sequence has no step; and the mask (B, T) or (T,)."""
        ids, bare = isinstance(self.layers[0], Embedding), isinstance(self.layers[0], Embedding | Unsqueeze)
        if bare:
            array = np.asarray(x) if ids else real_array("x", x, self.dtype)[0]
            time = array.shape
            expected = "(B, T) or (T,)"
        else:
            array = real_array("x", x, self.dtype)[0]
            time = array.shape[:-1]
            expected = "(B, T, I) or (T, I)"
        if len(time) not in (1, 2):
            raise ValueError(f"x has shape {array.shape}; expected {expected}")
        single = len(time) == 1
        T, B = time[-1], 1 if single else time[0]
        valid = step_mask(lengths, mask, B, T, single=single)
        if valid is None:
            return (array if ids else finite_array("x", x, self.dtype)), None
        own: Mask = valid[:, 0] if single else valid.T
        array = np.where(own if array.ndim == len(time) else own[..., None], array, array.dtype.type(0))
        return (array if ids else finite_array("x", array, self.dtype)), own

    def backward(
        self,
        tape: SequentialTape,
        d_outputs: ArrayLike,
        d_states: Sequence[LSTMState | None] | None = None,
        *,
        every: StepGradientsByLayer | None = None,
    ) -> tuple[Array | None, tuple[LSTMState, ...], Parameters]:
        """The gradient of a loss with respect to all that :meth:`forward` used.

        Parameters
        ----------
        tape : SequentialTape
        d_outputs : array
            Gradient on the outputs, of their shape.
        d_states : sequence of LSTMState, optional
            Gradients on the final states, one for each LSTM.
        every : list, optional
            Filled with the gradients at every step, one for each pass of each LSTM.

        Returns
        -------
        d_inputs : array, or None behind an Embedding
        d_states : tuple of LSTMState
            Gradients on the initial states.
        gradients : Parameters
        """
        if not isinstance(tape, SequentialTape):
            raise TypeError(f"tape must be what Sequential.forward returned, got a {type(tape).__name__}")
        gradients = self.parameters.zeros_like()
        of_finals = [None] * len(tape.states) if d_states is None else list(d_states)
        starts: list[LSTMState] = []
        dy: Array | None = finite_array("d_outputs", d_outputs, self.dtype)
        for name, layer, one in reversed(list(zip(self.names, self.layers, tape.layers, strict=True))):
            assert dy is not None  # only an Embedding, which comes first, gives none  # noqa: S101
            of_layer: Parameters | None = None
            if isinstance(layer, LSTM):
                of_steps: StepGradientsByLayer | None = None if every is None else []
                dy, start, of_layer = layer.backward(one, dy, of_finals.pop(), every=of_steps)
                if every is not None and of_steps is not None:
                    every[:0] = of_steps
                starts.insert(0, start)
            elif isinstance(layer, Embedding):
                of_layer = layer.backward(one, dy)
                dy = None
            elif isinstance(layer, Linear):
                dy, of_layer = _mapped_backward(layer, one, dy)
            elif isinstance(layer, ParameterLayer):
                dy, of_layer = layer.backward(one, dy)
            elif isinstance(layer, StatelessLayer):
                dy = layer.backward(one, dy)
            if of_layer is not None:
                gradients.subset(f"{name}.").vector[:] = of_layer.vector
        return dy, tuple(starts), gradients

    # Training: the methods of glasscell.models.protocol.Trainable

    training_defaults: ClassVar[Mapping[str, Any]] = {}

    @property
    def runs_backward(self) -> bool:
        """Whether an output depends on later steps, because an LSTM runs back in time."""
        return layer_passes.runs_backward(self.layers)

    def train_forward(
        self, batch: Batch, states: States | None, buffers: BufferPool, rng: np.random.Generator | None
    ) -> ForwardPass:
        """Run a batch with a tape; states are those of the LSTMs, feature-major."""
        self._check_batch(batch)
        return layer_passes.forward(self.names, self.layers, batch, states, buffers, rng, keep_tape=True)

    def train_backward(
        self, tape: layer_passes.LayerTapes, d_outputs: Array, gradients: Parameters, buffers: BufferPool
    ) -> None:
        """Write the gradient on every parameter into `gradients`."""
        layer_passes.backward(self.names, self.layers, tape, d_outputs, gradients, buffers)

    def infer(self, batch: Batch, states: States | None, buffers: BufferPool) -> ForwardPass:
        """Run a batch without a tape and without dropout."""
        self._check_batch(batch)
        return layer_passes.forward(self.names, self.layers, batch, states, buffers, None, keep_tape=False)

    def _check_batch(self, batch: Batch) -> None:
        """Raise an error for inputs of another shape or dtype than the first layer takes."""
        ids, bare = isinstance(self.layers[0], Embedding), isinstance(self.layers[0], Embedding | Unsqueeze)
        x, size = batch.inputs, input_size(self.layers)
        if x.ndim != (2 if bare else 3) or not (bare or size in (None, x.shape[2])):
            expected = "(B, T)" if bare else f"(B, T, I) with I = {size}"
            raise ValueError(f"x must have shape {expected}, got {x.shape}")
        if x.dtype != self.dtype if not ids else x.dtype.kind not in "iu":
            raise TypeError(f"x must have dtype {'int' if ids else self.dtype}, got {x.dtype}")

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
            per_step = outputs.ndim > 2 or (outputs.ndim == 2 and isinstance(self.layers[-1], Squeeze))
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
        states: Sequence[LSTMState | None] | None = None,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        **about: Any,
    ) -> Trace:
        """Everything that happens in the model's LSTMs: every gate and state and, with a target, every gradient.

        Parameters
        ----------
        x : array
            As :meth:`forward` takes it.
        y : array, optional
            Targets of the outputs; class numbers, without the last axis, for "categorical_cross_entropy".
        loss : {"squared_error", "binary_cross_entropy", "categorical_cross_entropy"}
        weights : array, broadcasts to y, optional
            How much each answer counts.
        d_outputs : array, optional
            Instead of y: the gradient of any loss on the outputs.
        states, lengths, mask
            As :meth:`forward` takes them.
        **about
            For the views: ``title``, and lists of ``input_names``, ``output_names`` and ``step_names``.

        Returns
        -------
        glasscell.trace.Trace

        Raises
        ------
        ValueError
            If there is no LSTM in the model, or something has a shape that does not fit.
        """
        from glasscell.trace.capture import TraceTargets, capture  # noqa: PLC0415
        from glasscell.trace.data import Readout  # noqa: PLC0415 - only where it is used

        lstms = [k for k, layer in enumerate(self.layers) if isinstance(layer, LSTM)]
        if not lstms:
            raise ValueError("there is no LSTM in this model to look into")
        last, readout = self.layers[-1], None
        if isinstance(last, Linear) and lstms[-1] == len(self.layers) - 2:
            bias = last.parameters["bias"] if last.bias else np.zeros(last.output_size, self.dtype)
            readout = Readout(last.parameters["weight"].copy(), bias.copy())
        prefixes = [f"{self.names[k]} " if len(lstms) > 1 else "" for k in lstms]
        model = self._with_features()
        if model is not self:  # the views show features
            bare_input, bare_output = isinstance(self.layers[0], Unsqueeze), isinstance(last, Squeeze)
            x = np.asarray(x)[..., None] if bare_input else x
            y, weights, d_outputs = (_with_axis(value) if bare_output else value for value in (y, weights, d_outputs))
        asked, about = (
            TraceTargets(y, loss, weights, d_outputs),
            {"title": _trace_title(self), "chain": _is_lstm_stack(self), **about},
        )

        shape = np.shape(x)
        T = (shape if isinstance(self.layers[0], Embedding) else shape[:-1])[-1]

        def tapes_of(tape: SequentialTape) -> list[tuple[str, LSTMTape]]:
            for k in lstms:
                steps = tape.layers[k].directions[0].tape.T
                if steps != T:
                    raise ValueError(
                        f"a trace has one axis of time, and {self.names[k]!r} takes {steps} steps for the {T} of x: "
                        "trace a model of the layers behind the one that changes the number of steps"
                    )
            return [(name, tape.layers[k]) for name, k in zip(prefixes, lstms, strict=True)]

        steps = {"lengths": lengths, "mask": mask}
        return capture(model, tapes_of, x, asked, about, readout, states=states, **steps)

    def _with_features(self) -> Sequential | _WithFeatures:
        """The model, or what is it with an axis of features at both ends."""
        bare = isinstance(self.layers[0], Unsqueeze) or isinstance(self.layers[-1], Squeeze)
        return _WithFeatures(self) if bare else self

    def stream(self, batch: int | None = None) -> Stream[tuple[LSTMState, ...]]:
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
        return Stream(layers, batch, _states, list)

    def to_torch(self) -> dict[str, Array]:
        """A copy of the weights under the names that a PyTorch module of the same attributes has for them."""
        weights: dict[str, Array] = {}
        for name, layer in zip(self.names, self.layers, strict=True):
            if isinstance(layer, LSTM):
                own = to_torch(layer.parameters, layer.options)
            elif isinstance(layer, ParameterLayer):
                own = layer.to_torch()
            else:
                own = {key: array.copy() for key, array in layer.parameters.items()} if has_parameters(layer) else {}
            weights |= {f"{name}.{key}": array for key, array in own.items()}
        return weights

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
        given = {name: array.shape for name, array in weights.items()}
        check_shapes(given, {name: array.shape for name, array in model.to_torch().items()})
        of_layers: dict[str, dict[str, Array]] = {name: {} for name in model.names}
        for key, array in weights.items():
            name = key.rpartition(".")[0]
            while name not in of_layers:  # every weight has the name of a layer in front: that has been checked
                name = name.rpartition(".")[0]
            of_layers[name][key.removeprefix(f"{name}.")] = array
        for own, layer in zip(of_layers.values(), model.layers, strict=True):
            if isinstance(layer, LSTM):
                from_torch(own, layer.parameters, layer.options)
            elif isinstance(layer, ParameterLayer):
                layer.load_torch(own)
            elif has_parameters(layer):
                for key, view in layer.parameters.items():
                    view[:] = own[key]
        return model

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


def _states(pairs: Sequence[LSTMState]) -> tuple[LSTMState, ...]:
    """The states of all LSTMs, as a stream has them."""
    return tuple(pairs)


class _WithFeatures:
    """A model with an axis of one feature where its inputs or outputs have none."""

    def __init__(self, model: Sequential) -> None:
        self.model = model
        self.inputs, self.outputs = isinstance(model.layers[0], Unsqueeze), isinstance(model.layers[-1], Squeeze)

    def forward(self, x: Any, **given: Any) -> tuple[Array, tuple[LSTMState, ...], SequentialTape]:
        y, states, tape = self.model.forward(x[..., 0] if self.inputs else x, **given)
        return (y[..., None] if self.outputs else y), states, tape

    def backward(
        self, tape: SequentialTape, d_outputs: Any, *, every: StepGradientsByLayer | None = None
    ) -> tuple[Any, Any, Any]:
        d = np.asarray(d_outputs)
        d_x, d_states, gradients = self.model.backward(tape, d[..., 0] if self.outputs else d, every=every)
        return d_x[..., None] if self.inputs and d_x is not None else d_x, d_states, gradients


def _with_axis(value: ArrayLike | None) -> Any:
    """A target, or weights of it, with an axis of one feature."""
    return value if value is None else np.asarray(value)[..., None]


def _trace_title(model: Sequential) -> str:
    return " → ".join(repr(layer) for layer in model.layers)


def _is_lstm_stack(model: Sequential) -> bool:
    """Whether it is nothing but LSTMs, and perhaps a readout."""
    *first, last = model.layers
    return all(isinstance(layer, LSTM) for layer in first) and isinstance(last, LSTM | Linear)


def _mapped(layer: Linear, x: Array) -> tuple[Array, Array]:
    """A Linear takes sequences: (B, F) is one of B steps to it, and (F,) one of a single step."""
    y, tape = layer.forward(np.atleast_2d(x))
    return y if x.ndim > 1 else y[0], tape


def _mapped_backward(layer: Linear, tape: Array, dy: Array) -> tuple[Array, Parameters]:
    dx, gradients = layer.backward(tape, np.atleast_2d(dy))
    return dx if dy.ndim > 1 else dx[0], gradients
