"""The step of a layer or model as a map of one vector: the states of all recurrent layers, in float64.

    s_t = F(s_{t-1}, x_t)          s: h and c of each layer, from the input upwards

F and its Jacobian ∂F/∂s are computed by the layers' forward and backward passes over one step, with all options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core.types import Array
from glasscell.trace.layer_trace import check_index
from glasscell.trace.trace import Trace
from glasscell.validation import finite_array, positive_integer, prepare_inputs

MAX_VALUES = 1 << 22  # of the arrays of one backward pass that computes Jacobians
BLOCK_STEPS = 256  # of a trajectory that are run at a time
CONSTANT_OPERATIONS = ("scale", "set", "clamp", "add")  # of interventions: they make a step no function of more than s
ROWS_PER_STATE = 16  # of the arrays that a pass keeps, for each component of the state


class Part(NamedTuple):
    """One array of the state: its recurrent layer in the model, stacked layer, field, and components in s."""

    layer: int
    stacked: int
    field: str
    rows: slice


class StepMap:
    """The map F of a recurrent layer, or of a model up to its last recurrent layer.

    Parameters
    ----------
    model : recurrent layer or Sequential
        LSTM, GRU, RNN, or a model with at least one of them. Weights are copied, and so are the interventions under
        which it runs.

    Attributes
    ----------
    size : int
        n, the number of components of s.
    parts : dict of str to slice
        The components of each array of the state, such as ``l0.h`` and ``l0.c``; with several recurrent layers the name
        of the layer comes first.
    initial : array (n,)
        The learned initial state, or 0.

    Raises
    ------
    TypeError
        If `model` is no recurrent layer and has no layers.
    ValueError
        If it has no recurrent layer, one that runs backward, another layer that reads several steps, or an
        intervention that is not the same at all steps.
    """

    def __init__(self, model: Any) -> None:
        layers, names = _layers_of(model)
        self._pack: Callable[[Sequence[Any]], Any] = getattr(model, "_pack_states", lambda states: states[0])
        self._unpack: Callable[[Any], Sequence[Any]] = getattr(model, "_unpack_states", lambda state: [state])
        self.dtype: np.dtype[Any] = model.dtype
        self._kind = layers[0].inputs
        self._features: int | None = getattr(model, "_size", layers[0].input_features)
        self.layers = [_in_float64(layer) for layer in layers]
        self._recurrent = [k for k, layer in enumerate(layers) if layer.stateful]
        self._parts: list[Part] = []
        self.parts: dict[str, slice] = {}
        self.size = 0
        for layer in self._recurrent:
            for stacked in range(layers[layer].num_states[1]):
                for field, (_, rows) in layers[layer].state_sizes.items():
                    name = f"{names[layer]} " * (len(self._recurrent) > 1) + f"l{stacked}.{field}"
                    self.parts[name] = slice(self.size, self.size + rows)
                    self._parts.append(Part(layer, stacked, field, self.parts[name]))
                    self.size += rows
        self.initial = self._initial_state()

    # The map

    def step(self, states: Array, x: NDArray[Any]) -> Array:
        """Return F(s, x) for states (N, n) and columns of inputs, (1, I, N) or (1, N)."""
        return self._run(x, states.T)[0].T

    def jacobians(self, states: Array, x: NDArray[Any]) -> Array:
        """Return ∂F/∂s, (N, n, n), at states (N, n) and columns of inputs, (1, I, N) or (1, N)."""
        N, n = states.shape
        result = np.empty((N, n, n))
        length = max(1, MAX_VALUES // (n * n * ROWS_PER_STATE))
        for start in range(0, N, length):
            block = slice(start, start + length)
            count = len(states[block])
            _, tapes = self._run(np.repeat(x[..., block], n, axis=-1), np.repeat(states[block].T, n, axis=1))
            d_states = self._run_backward(tapes, np.tile(np.eye(n), (1, count)))
            result[block] = d_states.T.reshape(count, n, n)
        return result

    def trajectory(self, state: Array, x: NDArray[Any]) -> Array:
        """Return the states (T + 1, n), the initial one first, of inputs (T, I, 1) or (T, 1)."""
        T = len(x)
        states = np.empty((T + 1, self.size))
        states[0] = state
        for start in range(0, T, BLOCK_STEPS):
            block = x[start : start + BLOCK_STEPS]
            _, tapes = self._run(block, states[start][:, None])
            traces = {k: self.layers[k].layer_traces(tapes[k]) for k in self._recurrent}
            for part in self._parts:
                values = getattr(traces[part.layer][part.stacked], part.field)
                states[start + 1 : start + 1 + len(block), part.rows] = values[0]
        return states

    def source(self, index: int) -> tuple[tuple[int, int], str]:
        """Return a layer, as in ``trace.layer``: its keys in the model, and the label of its parts, such as ``l0``."""
        labels = {
            (part.layer, part.stacked): name.rpartition(".")[0]
            for name, part in zip(self.parts, self._parts, strict=True)
        }
        check_index("layer", index, len(labels))
        return list(labels.items())[index]

    def keep_gate(self, state: Array, x: NDArray[Any], source: tuple[int, int]) -> Array | None:
        """Return the gates that scale the previous state of a layer, (T, H), along a trajectory; None: it has none."""
        _, tapes = self._run(x, state[:, None])
        layer, stacked = source
        trace = self.layers[layer].layer_traces(tapes[layer])[stacked]
        return trace.value(trace.keep_gate)[0] if trace.keep_gate else None

    def _run(self, x: NDArray[Any], states: Array) -> tuple[Array, list[Any]]:
        """Run x (T, I, M) or (T, M) from states (n, M); return the final states and the tapes of all layers."""
        mask: NDArray[np.bool_] | None = None
        final, tapes = np.empty_like(states), []
        with np.errstate(over="ignore", invalid="ignore"):
            for k, layer in enumerate(self.layers):
                if layer.stateful and mask is not None:
                    if not mask.all():
                        raise ValueError("x must have no masked step: it does not change the state")
                    mask = None
                initial = self._state_of(k, states) if layer.stateful else None
                x, mask, state, tape = layer.forward_feature_major(x, mask, initial)
                tapes.append(tape)
                if layer.stateful:
                    self._write(final, k, state)
        return final, tapes

    def _run_backward(self, tapes: Sequence[Any], d_final: Array) -> Array:
        """Return the gradients (n, M) on the states before the step, from those on the states after it."""
        d_states = np.empty_like(d_final)
        first, d_x = self._recurrent[0], None
        with np.errstate(over="ignore", invalid="ignore"):
            for k in reversed(range(first, len(self.layers))):
                layer = self.layers[k]
                if not layer.stateful:
                    d_x = layer.backward_feature_major(tapes[k], d_x)
                    continue
                if d_x is None:
                    d_x = np.zeros((1, layer.output_size, d_final.shape[1]))
                d_x, state = layer.backward_with_state(tapes[k], d_x, self._state_of(k, d_final), need_dx=k > first)
                self._write(d_states, k, state)
        return d_states

    def _parts_of(self, layer: int) -> Iterator[Part]:
        return (part for part in self._parts if part.layer == layer)

    def _state_of(self, layer: int, states: Array) -> Any:
        """Return the state of a recurrent layer in core's layout."""
        fields: dict[str, list[Array]] = {}
        for part in self._parts_of(layer):
            fields.setdefault(part.field, []).append(states[part.rows])
        return self.layers[layer].state_type(**fields)

    def _write(self, states: Array, layer: int, state: Any) -> None:
        for part in self._parts_of(layer):
            states[part.rows] = getattr(state, part.field)[part.stacked]

    def _initial_state(self) -> Array:
        initial = np.empty((self.size, 1))
        for k in self._recurrent:
            layer = self.layers[k]
            self._write(initial, k, layer.forward_feature_major(np.empty((0, layer.input_size, 1))).state)
        return initial[:, 0]

    # Inputs

    def constant_input(self, name: str, x: ArrayLike) -> NDArray[Any]:
        """Return one input, (I,) or a number, as (1, I, 1) or (1, 1)."""
        array = np.asarray(x) if self._kind == "ids" else finite_array(name, x, np.dtype(np.float64))
        self._check_input(name, array, 1 if self._kind == "features" else 0)
        return self._sequence(array[None])

    def constant_inputs(self, name: str, x: ArrayLike) -> tuple[list[NDArray[Any]], int | None]:
        """Return the constant input of each sequence, as :meth:`constant_input`, and B; None without a batch axis."""
        axes = 1 if self._kind == "features" else 0
        array = np.asarray(x)
        if array.ndim == axes + 1 and array.dtype.kind in "biuf":
            return [self.constant_input(name, row) for row in array], len(array)
        return [self.constant_input(name, x)], None

    def input_sequence(self, x: ArrayLike, steps: int | None) -> NDArray[Any]:
        """Return one sequence, or `steps` times a constant input, as (T, I, 1) or (T, 1)."""
        array = np.asarray(x) if self._kind == "ids" else finite_array("x", x, np.dtype(np.float64))
        axes = 2 if self._kind == "features" else 1
        if array.ndim == axes - 1:
            if steps is None:
                raise ValueError("steps must be passed with a constant x, got None")
            constant = self.constant_input("x", array)
            return np.repeat(constant, positive_integer("steps", steps), axis=0)
        self._check_input("x", array, axes)
        if steps is not None:
            raise ValueError(f"steps must be None for a sequence x, got {steps!r}")
        if not len(array):
            raise ValueError("x must have at least one step, got none")
        return self._sequence(array)

    def _check_input(self, name: str, array: NDArray[Any], axes: int) -> None:
        """Raise ValueError unless the input has this number of axes, and the features of the model."""
        has_features = self._kind == "features"
        if array.ndim == axes and not (has_features and self._features not in (None, array.shape[-1])):
            return
        if not axes:
            raise ValueError(f"{name} must be one {self._kind.removesuffix('s')}, got shape {array.shape}")
        letters = ["T"] * (axes - has_features) + ["I"] * has_features
        size = f" with I = {self._features}" if has_features and self._features is not None else ""
        raise ValueError(f"{name} must have shape ({', '.join(letters)}{',' * (axes == 1)}){size}, got {array.shape}")

    def _sequence(self, array: NDArray[Any]) -> NDArray[Any]:
        x, _, _ = prepare_inputs(array, None, None, self._features, np.dtype(np.float64), self._kind)
        return np.asarray(x)

    # States of users

    def to_user(self, states: Array) -> Any:
        """Return s (n,), or (B, n), as the model's ``forward`` takes it, in the model's dtype."""
        packed = []
        for k in self._recurrent:
            fields: dict[str, list[Array]] = {}
            for part in self._parts_of(k):
                fields.setdefault(part.field, []).append(states[..., part.rows].astype(self.dtype))
            packed.append(self.layers[k].state_type(**{name: np.stack(arrays) for name, arrays in fields.items()}))
        return self._pack(packed)

    def from_user(self, name: str, state: Any, B: int | None = None) -> Array:
        """Return a user's state as s (n,), or of B sequences as (B, n). Default: the initial state."""
        single, count = B is None, 1 if B is None else B
        states = np.repeat(self.initial[:, None], count, axis=1)
        if state is not None:
            entries = list(self._unpack(state))
            if len(entries) != len(self._recurrent):
                expected = f"one entry per recurrent layer, {len(self._recurrent)}"
                raise ValueError(f"{name} must have {expected}, got {len(entries)}")
            for k, entry in zip(self._recurrent, entries, strict=True):
                if entry is not None:
                    self._write(states, k, self.layers[k].state_to_feature_major(name, entry, count, single=single))
        return states[:, 0] if single else states.T

    def from_trace(self, name: str, trace: Trace) -> Array:
        """Return the states after all valid steps of a trace of the model, (N, n)."""
        sources = list(dict.fromkeys((part.layer, part.stacked) for part in self._parts))
        if len(trace.layer) != len(sources):
            raise ValueError(f"{name} must be a trace of the model with {len(sources)} layers, got {len(trace.layer)}")
        traces = dict(zip(sources, trace.layer, strict=True))
        columns = []
        for label, part in zip(self.parts, self._parts, strict=True):
            layer, size = traces[part.layer, part.stacked], part.rows.stop - part.rows.start
            values = layer.value(part.field)
            if values.shape[-1:] != (size,) or "R" not in layer.axes:
                raise ValueError(f"{name} must be a trace of the model with {label} of {size} units, got {layer!r}")
            columns.append(values.reshape(-1, size))
        states = np.concatenate(columns, axis=1).astype(np.float64)
        return states[np.isfinite(states).all(axis=1)]


def at_each_step(x: NDArray[Any]) -> NDArray[Any]:
    """Return the inputs of one sequence, (T, I, 1) or (T, 1), as columns, (1, I, T) or (1, T)."""
    return x.swapaxes(0, -1)


def repeat_columns(x: NDArray[Any], N: int) -> NDArray[Any]:
    """Return a constant input, (1, I, 1) or (1, 1), as N columns."""
    return np.broadcast_to(x, (*x.shape[:-1], N))


def _layers_of(model: Any) -> tuple[list[Any], list[str]]:
    """Return the layers up to the last recurrent one, and their names, if one step of them is a map of their state."""
    is_layer = getattr(model, "stateful", False)
    layers: list[Any] = [model] if is_layer else list(getattr(model, "layers", ()))
    names: list[str] = ["layer"] if is_layer else list(getattr(model, "names", ()))
    if not layers or len(layers) != len(names) or not all(hasattr(layer, "stateful") for layer in layers):
        raise TypeError(f"model must be a recurrent layer or a Sequential, got {type(model).__name__}")
    recurrent = [k for k, layer in enumerate(layers) if layer.stateful]
    if not recurrent:
        raise ValueError("model must have a recurrent layer, got none")
    layers, names = layers[: recurrent[-1] + 1], names[: recurrent[-1] + 1]
    for name, layer in zip(names, layers, strict=True):
        label = "model" if is_layer else f"layer {name!r}"
        if layer.runs_backward:
            raise ValueError(f"{label} must run forward in time only, got {layer!r}")
        if layer.stateful:
            _check_recurrent(label, layer)
        elif layer.takes != "any" and not layer.pointwise:
            raise ValueError(f"{label} must compute each step from that step alone, got {layer!r}")
    return layers, names


def _check_recurrent(label: str, layer: Any) -> None:
    if not layer.traceable:
        raise ValueError(f"{label} must be an LSTM, a GRU or an RNN, got a {type(layer).__name__}")
    unsupported = getattr(getattr(layer, "options", None), "unsupported", None)
    for name, value in unsupported("trace").items() if unsupported else ():
        raise ValueError(f"{label} must have no {name}={value!r}: its Jacobian is not supported")


def _in_float64(layer: Any) -> Any:
    """Return a copy of a layer with parameters, in float64 and run by NumPy; other layers as they are."""
    if not hasattr(layer, "named_weights"):
        return layer
    weights: Mapping[str, Array] = layer.named_weights()
    for name, weight in weights.items():
        if not np.isfinite(weight).all():
            raise ValueError(f"weights must be finite, got {name} with NaN or infinite values")
    options: dict[str, Any] = {"seed": None} if layer.seeded else {}
    if hasattr(layer, "execution"):
        options["engine"] = "numpy"
    copy = type(layer)(**layer.config, dtype=np.float64, **options)
    copy.load_named_weights({name: weight.astype(np.float64) for name, weight in weights.items()})
    if hasattr(layer, "set_interventions"):
        for k in range(layer.num_states[1]):
            for one in (interventions := layer.interventions(k)):
                if one.operation not in CONSTANT_OPERATIONS or one.steps is not None:
                    operations = ", ".join(CONSTANT_OPERATIONS)
                    raise ValueError(f"interventions must act at all steps, by {operations} or cut, got {one.text}")
            copy.set_interventions(k, interventions)
    return copy
