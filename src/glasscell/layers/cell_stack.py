"""The base of RNN and GRU: a stack of recurrent layers whose state is one array, in one direction or both."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from glasscell.core.buffers import BufferPool
from glasscell.core.initializers import glorot_uniform, orthogonal, uniform
from glasscell.core.parameters import Parameters
from glasscell.core.time_order import TimeOrder, time_order
from glasscell.core.types import Array, Seed
from glasscell.layers.base import Features, LayerResult, Mask
from glasscell.layers.framework_weights import FrameworkWeights
from glasscell.layers.recurrent_layer import RecurrentLayer
from glasscell.layers.stack_interventions import Direction, StackInterventions
from glasscell.layers.trainable import LayerSeed, refuse_unknown_options
from glasscell.recurrent.config import MAX_LAYERS
from glasscell.recurrent.dropout import dropout_mask
from glasscell.recurrent.initialization import Initializer
from glasscell.recurrent.rnn_tape import RNNDirectionTape, RNNState, RNNStepGradients, RNNTape
from glasscell.validation import as_generator, boolean, choice, float_dtype, positive_integer, probability

if TYPE_CHECKING:
    from glasscell.stream.building import Stage
    from glasscell.trace.layer_trace import LayerTrace


class CellStack(FrameworkWeights, StackInterventions, RecurrentLayer):
    """A stack of recurrent layers without a cell state. A subclass chooses the equations of a step.

    Attributes
    ----------
    parameters : Parameters
        For each layer and direction the weights of ``cell.shapes``, with the suffix ``_l0``, ``_l0_reverse``, ….
    cell : module
        :mod:`glasscell.core.rnn` or :mod:`glasscell.core.gru`.
    cell_options : dict
        Keyword arguments of ``cell.forward``.
    gates : tuple of str
        The blocks of H rows in ``kernel``.
    directions : tuple of Direction
        Layer by layer, its forward direction and, if bidirectional, its reverse one.
    """

    state_type: ClassVar = RNNState
    tape_type: ClassVar = RNNTape
    traceable: ClassVar = True
    cell: ClassVar[Any]
    gates: ClassVar[tuple[str, ...]]
    cell_options: dict[str, Any]
    input_size: int

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        initializer: Initializer = "orthogonal",
        dtype: DTypeLike = np.float32,
        seed: LayerSeed = "default",
        parameters: Parameters | None = None,
        **unknown: Any,
    ) -> None:
        refuse_unknown_options(unknown, type(self), CellStack)
        self.input_size = positive_integer("input_size", input_size)
        self.hidden_size = positive_integer("hidden_size", hidden_size)
        self.num_layers = positive_integer("num_layers", num_layers)
        if num_layers > MAX_LAYERS:
            raise ValueError(f"num_layers must be at most {MAX_LAYERS}, got {num_layers}")
        self.bidirectional, self.bias = boolean("bidirectional", bidirectional), boolean("bias", bias)
        self.output_size = hidden_size * (2 if bidirectional else 1)
        self.dropout = probability("dropout", dropout)
        choice("initializer", initializer, ("orthogonal", "glorot", "uniform"))
        self._initializer = initializer
        self.dtype = float_dtype(dtype)
        self.directions = _directions(self.input_size, hidden_size, num_layers, bidirectional=bidirectional)
        shapes = self.shapes(**self.config)
        self._parameters = Parameters(shapes, self.dtype) if parameters is None else parameters
        self._interventions = {}
        self._begin(seed)

    @classmethod
    @abstractmethod
    def cell_shapes(cls, input_size: int, hidden_size: int, **options: Any) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of the weights of one direction, with a bias."""

    @classmethod
    def shapes(
        cls,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        **options: Any,
    ) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of the parameters."""
        del dropout
        shapes: dict[str, tuple[int, ...]] = {}
        for direction in _directions(input_size, hidden_size, num_layers, bidirectional=bidirectional):
            for name, shape in cls.cell_shapes(direction.input_size, hidden_size, **options).items():
                if bias:
                    shapes[f"{name}{direction.suffix}"] = shape
                elif name == "kernel":
                    shapes[f"{name}{direction.suffix}"] = (shape[0], shape[1] - 1)
        return shapes

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that make an equal layer, except dtype and seed; those with the default are omitted."""
        sizes = {"input_size": self.input_size, "hidden_size": self.hidden_size}
        values = {
            "num_layers": (self.num_layers, 1),
            "bidirectional": (self.bidirectional, False),
            "bias": (self.bias, True),
            "dropout": (self.dropout, 0.0),
        }
        return sizes | {name: value for name, (value, default) in values.items() if value != default}

    def cell_weights(self, suffix: str) -> dict[str, Array]:
        """Return the weights of one direction under core's names; with ``bias=False`` the biases are 0."""
        shapes = self.cell_shapes(1, self.hidden_size, **self._shape_options())
        if self.bias:
            return {name: self._parameters[f"{name}{suffix}"] for name in shapes}
        kernel = self._parameters[f"kernel{suffix}"]
        weights = {name: np.zeros(shape, self.dtype) for name, shape in shapes.items() if name != "kernel"}
        return {"kernel": np.concatenate([kernel, np.zeros((len(kernel), 1), self.dtype)], axis=1)} | weights

    def _shape_options(self) -> dict[str, Any]:
        """Return the options that :meth:`cell_shapes` depends on."""
        return {}

    def _draw(self, parameters: Parameters, seed: Seed | None) -> None:
        parameters.vector[:] = 0
        if seed is None:
            return
        rng, H = as_generator(seed), self.hidden_size
        if self._initializer == "uniform":
            for view in parameters.values():
                view[:] = uniform(rng, view.shape, H**-0.5)
            return
        for direction in self.directions:
            kernel = parameters[f"kernel{direction.suffix}"]
            for gate in kernel.reshape(-1, H, kernel.shape[1]):
                gate[:, :H] = orthogonal(rng, H) if self._initializer == "orthogonal" else glorot_uniform(rng, (H, H))
                gate[:, H : H + direction.input_size] = glorot_uniform(rng, (H, direction.input_size))

    @property
    def runs_backward(self) -> bool:
        """Whether an output depends on later steps."""
        return self.bidirectional

    @property
    def num_states(self) -> tuple[str, int]:
        """The letters and the number of layers and directions."""
        return "L·D" if self.bidirectional else "L", len(self.directions)

    @property
    def state_sizes(self) -> dict[str, tuple[str, int]]:
        """The letter and the number of rows of h."""
        return {"h": ("H", self.hidden_size)}

    def tape_shape(self, tape: RNNTape) -> tuple[int, int]:
        """Return (T, B)."""
        T, _, B = tape.layers[0].h.shape
        return T, B

    def valid_steps(self, tape: RNNTape) -> Mask | None:
        """Return the steps (B, T) that were processed; None: all."""
        order = tape.directions[0].order
        return None if order is None else (order.inverse < order.lengths).T

    def layer_traces(
        self, tape: RNNTape, step_gradients: Sequence[Any] | None = None, prefix: str = ""
    ) -> tuple[LayerTrace, ...]:
        """Return the trace of each layer and direction."""
        from glasscell.trace.cell_stacks import layer_traces  # noqa: PLC0415 - only where it is used

        return layer_traces(tape, step_gradients, prefix)

    def _check_tape(self, tape: RNNTape) -> None:
        super()._check_tape(tape)
        dtype = tape.layers[0].h.dtype
        if (tape.kind, tape.config, dtype) != (type(self).__name__, self.config, self.dtype):
            raise ValueError(f"tape must be of {self!r}, got that of a {tape.kind} {tape.config} in {dtype}")

    # Feature-major interface

    def forward_feature_major(
        self,
        x: Array,
        mask: Mask | None = None,
        state: RNNState | None = None,
        rng: np.random.Generator | None = None,
        buffers: BufferPool | None = None,
        keep_tape: bool = True,
    ) -> LayerResult:
        """Compute the outputs (T, D·H, B) of x (T, I, B), from a state (L·D, H, B); see :class:`Layer`.

        Without a tape `rng` is ignored.
        """
        buffers = buffers or BufferPool()
        passes: list[RNNDirectionTape] = []
        between: list[Array] = []
        final_states: list[Array] = []
        D = 2 if self.bidirectional else 1
        run = self.cell.forward if keep_tape else self.cell.forward_inference
        orders = [None if mask is None else time_order(mask, reverse=reverse) for reverse in (False, True)[:D]]
        for layer in range(self.num_layers):
            outputs: list[Array] = []
            for direction, order in zip(self.directions[layer * D : layer * D + D], orders, strict=True):
                h0 = 0.0 if state is None else state.h[len(final_states)]
                steps, lengths = _to_processing_order(x, order, direction), None if order is None else order.lengths
                weights, scope = self.cell_weights(direction.suffix), buffers.scope(direction.suffix)
                options = self.cell_options
                if self._interventions:
                    options = options | {"hook": self._pass_hook(len(final_states), steps, order)}
                tape = run(weights, steps, h0, lengths, scope, **options)
                if keep_tape:
                    passes.append(RNNDirectionTape(tape, order, direction.reverse))
                states = tape.h_with_initial if keep_tape else tape
                final_states.append(states[-1])
                outputs.append(_to_time_order(states[1:], order, direction))
            x = outputs[0] if D == 1 else np.concatenate(outputs, axis=1)
            if keep_tape and rng is not None and self.dropout and layer < self.num_layers - 1:
                between.append(np.asarray(dropout_mask(rng, self.dropout, x.shape, self.dtype)))
                x = x * between[-1]
        tape = RNNTape(tuple(passes), type(self).__name__, self.config, tuple(between)) if keep_tape else None
        return LayerResult(x, mask, RNNState(np.array(final_states)), tape)

    def backward_with_state(
        self,
        tape: RNNTape,
        d_outputs: Array,
        d_final_state: RNNState | None = None,
        gradients: Parameters | None = None,
        buffers: BufferPool | None = None,
        *,
        need_dx: bool = True,
        step_gradients: RNNStepGradients | None = None,
    ) -> tuple[Array, RNNState]:
        """Compute :meth:`backward` in core's layout, and overwrite `gradients`, if present.

        Returns the gradients on x (T, I, B), empty unless `need_dx`, and on the initial state (L·D, H, B).
        """
        buffers = buffers or BufferPool()
        D, H, dy = 2 if self.bidirectional else 1, self.hidden_size, d_outputs
        d_starts: list[Array] = []
        collected: RNNStepGradients = []
        for layer in reversed(range(self.num_layers)):
            dxs: list[Array] = []
            for k in reversed(range(layer * D, layer * D + D)):
                (steps, order, _), direction = tape.directions[k], self.directions[k]
                dh = dy if D == 1 else dy[:, (k % D) * H : (k % D + 1) * H]
                dh = _to_processing_order(dh, order, direction)  # a permutation: also the adjoint of _to_time_order
                dh_steps = None if step_gradients is None else np.empty(steps.h.shape, self.dtype)
                scope = BufferPool() if dh_steps is not None else buffers.scope(direction.suffix)  # the former is kept
                if steps.hook is not None:
                    steps.hook.begin_backward()
                d = self.cell.backward(
                    *(steps, dh, 0.0 if d_final_state is None else d_final_state.h[k], scope),
                    need_dx=need_dx or layer > 0,
                    dh_steps=dh_steps,
                )
                if gradients is not None:
                    self._write_gradients(d.dweights, gradients, direction.suffix)
                d_starts.insert(0, d.dh0)
                if dh_steps is not None:
                    collected.insert(0, self._step_gradients(steps, dh, dh_steps, d))
                dxs.append(_to_time_order(d.dx, order, direction) if len(d.dx) else d.dx)
            dy = dxs[0] if D == 1 else dxs[0] + dxs[1]
            if layer and tape.dropout_masks:
                dy = dy * tape.dropout_masks[layer - 1]
        if step_gradients is not None:
            step_gradients[:0] = collected
        return dy, RNNState(np.array(d_starts))

    def _write_gradients(self, dweights: Mapping[str, Array], gradients: Parameters, suffix: str) -> None:
        for name, d in dweights.items():
            if self.bias:
                gradients[f"{name}{suffix}"][:] = d
            elif name == "kernel":
                gradients[f"{name}{suffix}"][:] = d[:, :-1]

    @abstractmethod
    def _step_gradients(self, tape: Any, dy: Array, dh: Array, gradient: Any) -> Any:
        """Return a function that returns the gradients at every step by name."""

    # Models and streams

    def output_origin(self, origin: Features | None) -> Features:
        """Return the directions of the outputs."""
        del origin
        return Features("both" if self.bidirectional else "forward")

    def _stream_stage(self, *, single: bool) -> Stage:
        from glasscell.stream.rnn_stage import RNNStage  # noqa: PLC0415 - only where it is used

        if self.bidirectional:
            raise ValueError(
                "bidirectional=True, so its outputs depend on later steps; forward() runs it over a whole sequence"
            )
        weights = [self.cell_weights(direction.suffix) for direction in self.directions]
        interventions = [self.interventions(k) for k in range(len(self.directions))]
        return RNNStage(
            self.gates, weights, self.cell_options, single=single, interventions=interventions, run=self.cell.forward
        )

    def __repr__(self) -> str:
        config = self.config
        sizes = [str(config.pop("input_size")), str(config.pop("hidden_size"))]
        options = [f"{name}={value!r}" for name, value in config.items()]
        return f"{type(self).__name__}({', '.join([*sizes, *options])}, dtype={self.dtype})"


def _directions(input_size: int, hidden_size: int, num_layers: int, *, bidirectional: bool) -> tuple[Direction, ...]:
    D = 2 if bidirectional else 1
    return tuple(
        Direction(f"_l{layer}{'_reverse' * reverse}", hidden_size * D if layer else input_size, bool(reverse))
        for layer in range(num_layers)
        for reverse in range(D)
    )


def _to_processing_order(steps: Array, order: TimeOrder | None, direction: Direction) -> Array:
    """Reorder (T, rows, B) from time order; without an order, all steps are valid."""
    if order is not None:
        return order.to_processing_order(steps)
    return steps[::-1] if direction.reverse else steps


def _to_time_order(steps: Array, order: TimeOrder | None, direction: Direction) -> Array:
    """Reorder (T, rows, B) from processing order."""
    if order is not None:
        return order.to_time_order(steps)
    return steps[::-1] if direction.reverse else steps
