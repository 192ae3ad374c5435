"""A model of layers in sequence."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar
from weakref import ref

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.buffers import BufferPool
from glasscell.core.layouts import first_axis_last, last_axis_first
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array
from glasscell.data.batch import Batch
from glasscell.layers.base import Mask
from glasscell.layers.kinds import Layer, Stateless, has_parameters, input_size
from glasscell.layers.recurrent_layer import RecurrentLayer
from glasscell.layers.trainable import LayerSeed
from glasscell.models import assembly
from glasscell.models.batch_inputs import batch_to_feature_major
from glasscell.models.model import Model
from glasscell.models.protocol import ForwardPass, SequentialTape, States
from glasscell.models.tied_parameters import GradientSubsets, gradient_subsets
from glasscell.validation import finite_array, from_feature_major, prepare_inputs

__all__ = ["Layer", "Sequential", "SequentialTape", "Stateless"]


class Sequential(Model):
    """A model of layers, each of which takes the outputs of the one before.

    Parameters
    ----------
    layers : sequence of layers of :mod:`glasscell.layers`, or of Sequentials
        Of one dtype. The model's vector holds their parameters, so a layer can be in one model, and in it once; pass
        ``copy.deepcopy(layer)`` to another one. A Sequential is replaced by its layers, each with the name
        ``outer.inner``; it keeps working, with the same weights.
    names : sequence of str, optional
        The names of the layers in ``parameters`` and files, as attributes of a module have them in PyTorch. Default:
        their numbers, "0", "1", ….
    ties : mapping of str to str, optional
        Parameters that share one array with an equally shaped parameter of another layer, such as
        ``{"2.weight": "0.weight"}`` for the table of an Embedding(V, E) and the weight of a Linear(E, V). Gradients on
        the array add up. Default: none.
    seed : int or numpy.random.Generator, optional
        One generator draws the first weights of all layers that were made without a seed, one after the other:
        separately, each would draw from seed 0, and equal layers would start with equal weights. Layers made with
        ``seed=``, loaded, or changed since then keep their weights. None keeps those of all. Default: 0; another
        Sequential that contains this one draws them from its seed.

    Examples
    --------
    >>> import numpy as np
    >>> from glasscell.layers import LSTM, FinalState, Linear
    >>> model = Sequential([LSTM(3, 16), FinalState(), Linear(16, 2)], names=["encoder", "last", "head"])
    >>> model(np.zeros((5, 7, 3))).shape
    (5, 2)
    """

    tape_type: ClassVar[type[SequentialTape]] = SequentialTape
    _cached_subsets: tuple[ref[Parameters], GradientSubsets] | None = None

    def __init__(
        self,
        layers: Sequence[Layer | Sequential],
        names: Sequence[str] | None = None,
        *,
        ties: Mapping[str, str] | None = None,
        seed: LayerSeed = "default",
    ) -> None:
        if not isinstance(layers, Sequence) or isinstance(names, Layer | Model):  # type: ignore[redundant-expr] # a wrong call
            raise TypeError("layers must be one list of layers, Sequential([a, b]): pass one list")
        entries = dict(zip(assembly.names_of(layers, names), layers, strict=True))
        flat = assembly.flatten(entries)
        self.names, self._layers = tuple(flat), tuple(flat.values())
        self._parameters = assembly.join_parameters(entries, flat, seed, ties or {})
        self.dtype = self._parameters.vector.dtype
        self.ties: dict[str, str] = dict(ties or {})
        for name, entry in entries.items():
            if isinstance(entry, Sequential):
                self.ties |= {f"{name}.{tied}": f"{name}.{source}" for tied, source in entry.ties.items()}
        self._size = input_size(self._layers)
        self._input_features = [layer.input_features for layer in self._layers]
        self._stateful = [layer for layer in self._layers if isinstance(layer, RecurrentLayer)]
        self._trainable = [has_parameters(layer) for layer in self._layers]
        self._first_trainable = [*self._trainable, True].index(True)

    def __call__(
        self,
        x: ArrayLike,
        states: Any = None,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> Array:
        """Return the outputs of :meth:`forward`, without a tape. Several threads may run one model at once."""
        return self._forward(x, states, lengths, mask, keep_tape=False)[0]

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
        outputs, final, tape = self._forward(x, states, lengths, mask, rng)
        user_states = self._states_to_user(final, single=tape.unbatched)
        return outputs, self._pack_states(user_states), tape._replace(states=user_states)

    def _forward(
        self,
        x: ArrayLike,
        states: Any = None,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        rng: np.random.Generator | None = None,
        *,
        keep_tape: bool = True,
    ) -> tuple[Array, list[Any], SequentialTape]:
        """Return outputs, final states in core's layout, and the tape without them."""
        if rng is not None and not isinstance(rng, np.random.Generator):
            raise TypeError(f"rng must be a numpy.random.Generator, and is {rng!r}")
        kind = self._layers[0].inputs
        x_feature_major, valid, single = prepare_inputs(x, lengths, mask, self._size, self.dtype, kind, copy=keep_tape)
        initial = None
        if states is not None:
            initial = self._states_to_feature_major("states", states, x_feature_major.shape[-1], single=single)
        y, final, tapes = self._run_layers(x_feature_major, valid, initial, rng, None, check=True, keep_tape=keep_tape)
        if keep_tape:
            pairs = zip(self._layers, tapes, strict=True)
            tapes = [tape._replace(unbatched=single) if layer.stateful else tape for layer, tape in pairs]
        return from_feature_major(y, single=single), final, self.tape_type(tuple(tapes), (), y.shape, single)

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
        for k, (name, layer, size) in enumerate(zip(self.names, self._layers, self._input_features, strict=True)):
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

    def backward(
        self,
        tape: SequentialTape,
        d_outputs: ArrayLike,
        d_final_states: Any = None,
        *,
        step_gradients: list[Any] | None = None,
    ) -> tuple[Array | None, Any, Parameters]:
        """Compute the gradients of a loss on everything that :meth:`forward` used. The tape may be used again.

        Parameters
        ----------
        tape : SequentialTape
        d_outputs : array
            Gradient on the outputs, of their shape.
        d_final_states : sequence of states, optional
            Gradients on the final states, one for each recurrent layer.
        step_gradients : list, optional
            Extended by the gradients at every step, one entry for each layer and direction of the traceable layers.

        Returns
        -------
        d_inputs : array, or None if the inputs are ids
        d_initial_states : tuple of states
            Gradients on the initial states.
        gradients : Parameters
        """
        if not isinstance(tape, SequentialTape):
            raise TypeError(f"tape must be what Sequential.forward returned, got a {type(tape).__name__}")
        gradients = self.parameters.zeros_like()
        dx, d_initial = self._backward(tape, d_outputs, d_final_states, gradients, step_gradients=step_gradients)
        return dx, self._pack_states(self._states_to_user(d_initial, single=tape.unbatched)), gradients

    def _backward(
        self,
        tape: SequentialTape,
        d_outputs: ArrayLike,
        d_final_states: Any = None,
        gradients: Parameters | None = None,
        *,
        step_gradients: list[Any] | None = None,
    ) -> tuple[Array | None, list[Any]]:
        """Return the gradients on x, and on the initial states in core's layout; overwrite `gradients`, if present."""
        shape, single = tape.shape, tape.unbatched
        d = finite_array("d_outputs", d_outputs, self.dtype)
        expected = shape[:-1] if single else (shape[-1], *shape[:-1])
        if d.shape != expected:
            raise ValueError(f"d_outputs has shape {d.shape}; expected {expected}, that of the outputs")
        d = np.ascontiguousarray(d[..., None] if single else first_axis_last(d))
        d_final = None
        if d_final_states is not None:
            d_final = self._states_to_feature_major("d_final_states", d_final_states, shape[-1], single=single)
        dx, d_initial = self._run_layers_backward(tape.layers, d, d_final, gradients, step_gradients=step_gradients)
        return None if dx is None else from_feature_major(dx, single=single), d_initial

    def _run_layers_backward(
        self,
        tapes: Sequence[Any],
        d_outputs: Array,
        d_final_states: Sequence[Any] | None,
        gradients: Parameters | None,
        buffers: BufferPool | None = None,
        first: int = 0,
        *,
        need_dx: bool = True,
        step_gradients: list[Any] | None = None,
    ) -> tuple[Array | None, list[Any]]:
        """Run the layers from the last to the `first`; return the gradients on its inputs and on the initial states."""
        parts, tied_gradients = self._subsets(gradients)
        d: Array | None = d_outputs
        d_initial: list[Any] = []
        remaining_states = list(d_final_states or ())
        for k in range(len(self._layers) - 1, first - 1, -1):
            assert d is not None  # only the first layer can take ids, which have no gradient  # noqa: S101
            layer: Any = self._layers[k]
            need = need_dx or k > first
            scope = None if buffers is None else buffers.scope(self.names[k])
            if not layer.stateful:
                d = layer.backward_feature_major(tapes[k], d, parts[k], scope, need)
                continue
            d_state = remaining_states.pop() if remaining_states else None
            steps: list[Any] | None = None if step_gradients is None or not layer.traceable else []
            d, state = layer.backward_with_state(
                tapes[k], d, d_state, parts[k], scope, need_dx=need, step_gradients=steps
            )
            d_initial.insert(0, state)
            if step_gradients is not None and steps is not None:
                step_gradients[:0] = steps
        for shared, gradient in tied_gradients:
            shared[...] += gradient
        return d, d_initial

    def _subsets(self, gradients: Parameters | None) -> GradientSubsets:
        """Return the gradients of each layer, determined once for each set of gradients that is used again."""
        if gradients is None:
            return [None] * len(self._layers), []
        cached = self._cached_subsets
        if cached is not None and cached[0]() is gradients:
            return cached[1]
        if self.ties:
            result = gradient_subsets(gradients, self._layers, self.names, self.ties)
        else:
            pairs = zip(self.names, self._trainable, strict=True)
            result = [gradients.subset(f"{name}.") if trainable else None for name, trainable in pairs], []
        self._cached_subsets = ref(gradients), result
        return result

    def as_sequential(self) -> Sequential:
        """Return the model or, of a subclass, a Sequential with copies of the same layers, names and ties."""
        if type(self) is Sequential:
            return self
        return Sequential([deepcopy(layer) for layer in self.layers], self.names, ties=self.ties, seed=None)

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes for copies and `pickle`: all but the cache."""
        return {name: value for name, value in vars(self).items() if name != "_cached_subsets"}

    # Training: the methods of glasscell.models.protocol.Trainable

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
        d = first_axis_last(d_outputs)
        self._run_layers_backward(tape.layers, d, None, gradients, buffers, self._first_trainable, need_dx=False)

    def infer(self, batch: Batch, states: States | None, buffers: BufferPool) -> ForwardPass:
        """Run a batch without a tape and without dropout."""
        return self._run_batch(batch, states, buffers, None, keep_tape=False)

    def layer_outputs(self, batch: Batch, states: States | None) -> Iterator[tuple[str, Array]]:
        """Yield the name and the outputs (B, T, features) or (B, features) of each layer, without dropout."""
        x, mask = batch_to_feature_major(batch, self._layers[0].inputs, self._size, self.dtype)
        remaining = list(states or ())
        for name, layer in zip(self.names, self._layers, strict=True):
            state = remaining.pop(0) if layer.stateful and remaining else None
            x, mask, _, _ = layer.forward_feature_major(x, mask, state, None, None, keep_tape=False)
            yield name, last_axis_first(x)

    def _run_batch(
        self,
        batch: Batch,
        states: States | None,
        buffers: BufferPool,
        rng: np.random.Generator | None,
        *,
        keep_tape: bool,
    ) -> ForwardPass:
        x, mask = batch_to_feature_major(batch, self._layers[0].inputs, self._size, self.dtype)
        y, final, tapes = self._run_layers(x, mask, states, rng, buffers, check=False, keep_tape=keep_tape)
        tape = SequentialTape(tuple(tapes), (), y.shape, False) if keep_tape else None
        return ForwardPass(last_axis_first(y), tuple(final), tape)
