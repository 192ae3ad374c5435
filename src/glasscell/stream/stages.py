"""From layers to calls: what each kind of layer does in a step, and which kinds a stream cannot have.

A part holds its own copy of a layer's weights, as the calls want them. It is read only, so that streams can share it;
:meth:`build` gives the calls of one stream, on that stream's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from glasscell.core import engines
from glasscell.core.activations import activation
from glasscell.core.types import Array
from glasscell.stream.arena import Call
from glasscell.stream.building import RecurrentState, Stage, StreamBuilder, only_where
from glasscell.stream.reductions import LastPart, PoolPart, refusal
from glasscell.stream.scaling import BatchNormPart, FixedPart, LayerNormPart
from glasscell.stream.standard_step import negate_sigmoid_rows, standard_step, standard_step_compiled
from glasscell.stream.ufunc_calls import activation_calls, as_matmul_operand, matmul_call, softmax_calls
from glasscell.stream.variant_step import VariantStep
from glasscell.stream.windows import ConvolutionPart, PoolingPart

if TYPE_CHECKING:
    from glasscell.layers import LSTM, Dropout, Embedding, Function, Linear, Masking, SwapHalves
    from glasscell.recurrent.config import LSTMConfig


class LSTMStage:
    """A stack of LSTM layers in the direction of time."""

    def __init__(self, name: str, layer: LSTM, *, single: bool) -> None:
        options = layer.options
        if options.bidirectional or options.reverse:
            what = "bidirectional=True" if options.bidirectional else "reverse=True"
            raise ValueError(
                f"layer {name!r} cannot be streamed: {what}, so its outputs depend on steps that have not come yet; "
                "forward() runs it over a whole sequence"
            )
        for option, value in options.unsupported("stream").items():
            raise ValueError(f"layer {name!r} cannot be streamed: a step of it does not compute {option}={value!r}")
        self.options, self.plain = options, options.plain
        self.layers = [
            self._weights(layer.parameters, suffix, options) | self._start(layer.parameters, suffix, options)
            for suffix, _, _ in options.ways
        ]
        P, H = options.state_size, options.hidden_size
        kernels = [negate_sigmoid_rows(weights["kernel"], H) for weights in self.layers] if self.plain else []
        self.kernels = [as_matmul_operand(np.concatenate([W[:, P:], W[:, :P]], axis=1), single=single) for W in kernels]
        engine = layer.execution.engine
        self.plain_steps = [
            standard_step_compiled if single and engines.uses_numba_for_streams(engine) else standard_step
            for W in self.kernels
        ]

    @staticmethod
    def _weights(parameters: Any, suffix: str, options: LSTMConfig) -> dict[str, Array]:
        weights = {name: parameters[name + suffix].copy() for name in options.shapes_of(1)}
        weights["kernel"] = options.kernel(parameters, suffix).copy()
        if not options.bias:
            kernel = weights["kernel"]
            weights["kernel"] = np.concatenate([kernel, np.zeros_like(kernel[:, :1])], axis=1)
        return weights

    @staticmethod
    def _start(parameters: Any, suffix: str, options: LSTMConfig) -> dict[str, Array]:
        if options.learn_initial_state:
            return {f"initial_{name}": parameters[f"initial_{name}{suffix}"].copy() for name in "hc"}
        dtype = parameters.vector.dtype
        return {"initial_h": np.zeros(options.state_size, dtype), "initial_c": np.zeros(options.hidden_size, dtype)}

    def blocks(self, width: int) -> list[int]:
        """h, and with a mask the outputs, of each layer."""
        del width
        return [self.options.state_size] * 2 * self.options.num_layers

    def build(self, building: StreamBuilder) -> None:
        """Add its calls."""
        building.kept.append([self._layer(building, k) for k in range(self.options.num_layers)])

    def _layer(self, building: StreamBuilder, k: int) -> RecurrentState:
        memory, weights, own = building.memory, self.layers[k], building.own
        h = memory.block(self.options.state_size)
        column = memory.last_two_blocks_with_bias_row()
        calls: list[Call]
        if self.plain:
            guard = None if building.calls else building.guard
            step, c = self.plain_steps[k](self.kernels[k], column, h, memory, guard)
            calls = [step]
        else:
            shares = 1 - self.options.zoneout, 1 - self.options.zoneout_cell
            general = VariantStep(self.options.variant, weights, shares, column, h, memory)
            calls, c = general.calls, general.c
        shape = (-1,) if memory.batch is None else (-1, 1)
        start = weights["initial_h"].reshape(shape), weights["initial_c"].reshape(shape)
        repeated = None
        building.x = h
        if own is not None:
            building.x = out = memory.block(len(h))
            calls = only_where(own, [h, c], calls)
            if self.options.masked_outputs == "repeat":
                repeated = memory.room(len(h))
                calls += [partial(np.copyto, repeated, h, where=own), partial(np.copyto, out, repeated)]
            else:
                calls += [partial(out.fill, 0), partial(np.copyto, out, h, where=own)]
        building.calls += calls
        return RecurrentState(h, c, start, repeated)


class LinearStage:
    """An affine map: one product, since the column ends with 1."""

    def __init__(self, name: str, layer: Linear, *, single: bool) -> None:
        del name
        weight = layer.parameters["weight"]
        bias = layer.parameters["bias"] if layer.bias else np.zeros_like(weight[:, 0])
        self.weight = as_matmul_operand(np.concatenate([weight, bias[:, None]], axis=1), single=single)
        self.output_size = len(weight)

    def blocks(self, width: int) -> list[int]:
        """Its outputs."""
        del width
        return [self.output_size]

    def build(self, building: StreamBuilder) -> None:
        """Add its call."""
        column = building.memory.last_block_with_bias_row()
        building.x = building.memory.block(self.output_size)
        building.calls.append(matmul_call(self.weight, column, building.x))


class ActivationStage:
    """An activation, or a softmax over the features."""

    def __init__(self, name: str, layer: Function, *, single: bool) -> None:
        del name, single
        self.function = layer

    def blocks(self, width: int) -> list[int]:
        """As wide as its inputs."""
        return [width]

    def build(self, building: StreamBuilder) -> None:
        """Add its calls."""
        of, x = self.function, building.x
        building.x = y = building.memory.block(len(x))
        if of.name in ("Softmax", "LogSoftmax"):
            building.calls += softmax_calls(x, y, log=of.name == "LogSoftmax")
        else:
            building.calls += [partial(np.copyto, y, x), *activation_calls(activation(of.name, of.alpha, of.beta), y)]


class SwapHalvesStage:
    """The halves of the features in the other order."""

    def __init__(self, name: str, layer: SwapHalves, *, single: bool) -> None:
        del name, layer, single

    def blocks(self, width: int) -> list[int]:
        """As wide as its inputs."""
        return [width]

    def build(self, building: StreamBuilder) -> None:
        """Add its calls."""
        x = building.x
        half = len(x) // 2
        building.x = y = building.memory.block(len(x))
        rest = len(x) - half
        building.calls += [partial(np.copyto, y[half:], x[:rest]), partial(np.copyto, y[:half], x[rest:])]


class DropoutStage:
    """Nothing: there is no noise outside training."""

    def __init__(self, name: str, layer: Dropout, *, single: bool) -> None:
        del name, layer, single

    def blocks(self, width: int) -> list[int]:
        """None."""
        del width
        return []

    def build(self, building: StreamBuilder) -> None:
        """Add nothing."""


class MaskingStage:
    """A step whose features all have this value is none: the layers behind keep their state."""

    def __init__(self, name: str, layer: Masking, *, single: bool) -> None:
        del name, single
        self.value = layer.value

    def blocks(self, width: int) -> list[int]:
        """As wide as its inputs."""
        return [width]

    def build(self, building: StreamBuilder) -> None:
        """Add its calls."""
        memory, x, before = building.memory, building.x, building.own
        different, building.own = np.empty(x.shape, np.bool_), memory.mask()
        own = building.own
        building.x = y = memory.block(len(x))
        building.calls += [
            partial(np.not_equal, x, np.array(self.value, x.dtype), different),
            partial(np.logical_or.reduce, different, axis=0, out=own, keepdims=memory.batch is None),
            *([] if before is None else [partial(np.logical_and, own, before, own)]),
            partial(y.fill, 0),
            partial(np.copyto, y, x, where=own),
        ]


class EmbeddingStage:
    """A row of a table for each symbol. Symbols are checked and looked up at the door."""

    def __init__(self, name: str, layer: Embedding, *, single: bool) -> None:
        del name, single
        self.table = layer.parameters["weight"].copy()
        self.mask_zero = layer.mask_zero

    def blocks(self, width: int) -> list[int]:
        """None: its outputs are what enters."""
        del width
        return []

    def build(self, building: StreamBuilder) -> None:
        """Add a mask, if 0 is padding; the entrance writes it."""
        if self.mask_zero:
            building.own = building.of_symbols = building.memory.mask()


FOR_TRAINING = ("Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout")  # nothing outside training
STAGES: dict[str, Callable[..., Stage]] = {
    "LSTM": LSTMStage,
    "Linear": LinearStage,
    "Embedding": EmbeddingStage,
    "Function": ActivationStage,
    "SwapHalves": SwapHalvesStage,
    **dict.fromkeys((*FOR_TRAINING, "Unsqueeze", "Squeeze"), DropoutStage),  # an axis is added or removed at the ends
    "Masking": MaskingStage,
    "Step": LastPart,
    "FinalState": LastPart,
    "Pool": PoolPart,
    "LayerNorm": LayerNormPart,
    "BatchNorm": BatchNormPart,
    "Normalization": FixedPart,
    "Rescaling": FixedPart,
    "Conv1D": ConvolutionPart,
    "MaxPooling1D": PoolingPart,
    "AveragePooling1D": PoolingPart,
    "RepeatVector": refusal("gives several steps for one"),
    "Flatten": refusal("joins all steps of a sequence, of which one is there at a time"),
}
# What they call raises no overflow. Only behind a mask has a LastPart a state, and a mask is made by another part.
WITHOUT_STATE = (LinearStage, SwapHalvesStage, DropoutStage, EmbeddingStage, LastPart)


def kind_of(layer: object) -> str:
    """The name under which a layer is known: its class's, or that of the one that it is derived from."""
    names = [kind.__name__ for kind in type(layer).__mro__]
    return next((name for name in names if name in STAGES), names[0])


def stage_for(name: str, layer: object, *, single: bool) -> Stage:
    """The part of a layer.

    Raises
    ------
    ValueError
        If it cannot be streamed, or has weights that are not finite.
    """
    kind = kind_of(layer)
    if kind not in STAGES:
        raise TypeError(f"layer {name!r} cannot be streamed: a {kind} is not known to streams")
    arrays = {**getattr(layer, "parameters", {}), **getattr(layer, "statistics", {})}
    for of, weight in arrays.items():
        if not np.isfinite(weight).all():
            raise ValueError(f"layer {name!r} cannot be streamed: {of} has NaN or infinite values")
    return STAGES[kind](name, layer, single=single)


def is_atomic(parts: Sequence[Stage]) -> bool:
    """Return whether a step changes the whole state or nothing, whatever is raised meanwhile, without further help.

    One plain layer does. A mask puts old values back after it, and what comes after another layer can fail.
    """
    lstms = [part for part in parts if isinstance(part, LSTMStage)]
    return (
        all(isinstance(part, (LSTMStage, *WITHOUT_STATE)) for part in parts)
        and all(part.plain and part.options.num_layers == 1 for part in lstms)
        and len(lstms) <= 1
        and not any(part.mask_zero for part in parts if isinstance(part, EmbeddingStage))
    )
