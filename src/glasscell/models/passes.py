"""The passes of a model through its layers: forward and backward, of users, of traces and of a training."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar
from weakref import ref

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from glasscell.core.buffers import BufferPool
from glasscell.core.layouts import FIRST_AXIS_LAST, LAST_AXIS_FIRST
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array
from glasscell.data.batch import AnyArray, Batch
from glasscell.layers.base import Mask
from glasscell.layers.kinds import has_parameters, input_size
from glasscell.layers.recurrent_layer import RecurrentLayer
from glasscell.models.model import Model
from glasscell.models.protocol import ForwardPass, SequentialTape, States
from glasscell.models.tied_parameters import GradientSubsets, gradient_subsets
from glasscell.validation import finite_array, from_feature_major, prepare_inputs


class LayerPasses(Model):
    """The passes of a :class:`~glasscell.models.Sequential`, layer by layer, on arrays in core's layout.

    ``_forward`` and ``_backward`` validate arrays of users first. ``train_forward``, ``train_backward`` and ``infer``
    take batches: they are the methods of :class:`glasscell.models.protocol.Trainable`.
    """

    tape_type: ClassVar[type[SequentialTape]] = SequentialTape
    _cached_subsets: tuple[ref[Parameters], GradientSubsets] | None = None

    def _prepare_passes(self) -> None:
        """Determine once what each pass needs to know of the layers."""
        self._size = input_size(self._layers)
        self._input_features = [layer.input_features for layer in self._layers]
        self._stateful = [layer for layer in self._layers if isinstance(layer, RecurrentLayer)]
        self._trainable = [has_parameters(layer) for layer in self._layers]
        self._first_trainable = [*self._trainable, True].index(True)

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
        d = np.ascontiguousarray(d[..., None] if single else d.transpose(FIRST_AXIS_LAST[d.ndim]))
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
        d = d_outputs.transpose(FIRST_AXIS_LAST[d_outputs.ndim])
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
            yield name, x.transpose(LAST_AXIS_FIRST[x.ndim])

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
        return ForwardPass(y.transpose(LAST_AXIS_FIRST[y.ndim]), tuple(final), tape)


def batch_to_feature_major(batch: Batch, kind: str, size: int | None, dtype: DTypeLike) -> tuple[AnyArray, Mask | None]:
    """Check the inputs of a batch; return them, of `dtype` unless they are ids, and their mask, in core's layout."""
    x = batch.inputs
    if x.ndim != (3 if kind == "features" else 2) or not (kind != "features" or size in (None, x.shape[2])):
        expected = f"(B, T, I) with I = {size}" if kind == "features" else "(B, T)"
        raise ValueError(f"x must have shape {expected}, got {x.shape}")
    is_integer = x.dtype.kind in "iu"
    if not is_integer and (kind == "ids" or x.dtype != dtype):
        raise TypeError(f"x must have dtype {'int' if kind == 'ids' else dtype}, got {x.dtype}")
    x, mask = x.transpose(FIRST_AXIS_LAST[x.ndim]), None
    if batch.lengths is not None:
        mask = np.arange(len(x))[:, None] < batch.lengths
        mask = None if mask.all() else mask
    return x.astype(dtype) if is_integer and kind != "ids" else x, mask
