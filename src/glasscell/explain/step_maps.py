"""The step of a layer or model as a map of one vector: the states of all recurrent layers, in float64.

    s_t = F(s_{t-1}, x_t)          s: h and c of each layer, from the input upwards

F and its Jacobian ∂F/∂s are computed by the layers' forward and backward passes over one step, with all options.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasscell.core.types import Array
from glasscell.explain.layer_jacobians import recurrent_jacobian, stateless_jacobian
from glasscell.explain.step_inputs import StepInputs
from glasscell.explain.step_layers import from_layer_state, in_float64, layers_of, state_parts, to_layer_state
from glasscell.trace.layer_trace import check_index
from glasscell.trace.trace import Trace

MAX_VALUES = 1 << 22  # of the arrays of one pass that computes Jacobians
BLOCK_STEPS = 256  # of a trajectory that are run at a time
ROWS_PER_STATE = 16  # of the arrays that a pass keeps, for each component of the state


class Source(NamedTuple):
    """One stacked layer: its recurrent layer in the model, its number there, and the components of its fields in s."""

    layer: int
    stacked: int
    fields: dict[str, slice]


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
    sources : list of Source
        The stacked layers, in the order of ``trace.layer``.
    parts : dict of str to slice
        The components of each array of the state, such as ``l0.h`` and ``l0.c``; with several recurrent layers the name
        of the layer comes first.
    inputs : StepInputs
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
        layers, names = layers_of(model)
        self._pack: Callable[[Sequence[Any]], Any] = getattr(model, "_pack_states", lambda states: states[0])
        self._unpack: Callable[[Any], Sequence[Any]] = getattr(model, "_unpack_states", lambda state: [state])
        self.dtype: np.dtype[Any] = model.dtype
        self.inputs = StepInputs(layers[0].inputs, getattr(model, "_size", layers[0].input_features))
        self.layers = [in_float64(layer) for layer in layers]
        self.sources: list[Source] = []
        self.parts: dict[str, slice] = {}
        self.size = 0
        self._rows: dict[int, slice] = {}  # of each recurrent layer in s
        recurrent = [k for k, layer in enumerate(layers) if layer.stateful]
        for k in recurrent:
            start = self.size
            for part in state_parts(layers[k]):
                rows = slice(start + part.rows.start, start + part.rows.stop)
                if not self.sources or self.sources[-1][:2] != (k, part.stacked):
                    self.sources.append(Source(k, part.stacked, {}))
                self.sources[-1].fields[part.field] = rows
                self.parts[f"{names[k]} " * (len(recurrent) > 1) + f"l{part.stacked}.{part.field}"] = rows
                self.size = rows.stop
            self._rows[k] = slice(start, self.size)
        self.initial = self._initial_state()

    # The map

    def step(self, states: Array, x: NDArray[Any]) -> Array:
        """Return F(s, x) for states (N, n) and columns of inputs, (1, I, N) or (1, N)."""
        return self._run(x, states.T)[0].T

    def jacobians(self, states: Array, x: NDArray[Any]) -> Array:
        """Return ∂F/∂s, (N, n, n), at states (N, n) and columns of inputs, (1, I, N) or (1, N)."""
        N, n = states.shape
        result = np.zeros((N, n, n))
        length = max(1, MAX_VALUES // (n * n * ROWS_PER_STATE))
        for start in range(0, N, length):
            block = slice(start, start + length)
            self._write_jacobians(states[block].T, x[..., block], result[block])
        return result

    def _write_jacobians(self, states: Array, x: NDArray[Any], result: Array) -> None:
        """Write ∂F/∂s, (N, n, n), at states (n, N): layer by layer, by the chain rule."""
        x_by_state: Array | None = None  # derivative of the inputs of a layer, (N, features, n); None: 0
        with np.errstate(over="ignore", invalid="ignore"):
            for k, layer in enumerate(self.layers):
                rows = self._rows.get(k)
                if rows is None:
                    y = layer.forward_feature_major(x).outputs
                    if x_by_state is not None:
                        x_by_state = stateless_jacobian(layer, x, y.shape[1]) @ x_by_state
                else:
                    y, _, _, tape = layer.forward_feature_major(x, None, to_layer_state(layer, states[rows]))
                    jacobian = recurrent_jacobian(layer, tape, x, states[rows])
                    if x_by_state is not None:
                        result[:, rows] = jacobian.by_input @ x_by_state
                    result[:, rows, rows] += jacobian.by_state
                    *_, last = (source for source in self.sources if source.layer == k)
                    x_by_state = result[:, last.fields["h"]]
                x = y

    def trajectory(self, state: Array, x: NDArray[Any]) -> Array:
        """Return the states (T + 1, n), the initial one first, of inputs (T, I, 1) or (T, 1)."""
        T = len(x)
        states = np.empty((T + 1, self.size))
        states[0] = state
        for start in range(0, T, BLOCK_STEPS):
            block = x[start : start + BLOCK_STEPS]
            _, tapes = self._run(block, states[start][:, None])
            traces = {k: self.layers[k].layer_traces(tapes[k]) for k in self._rows}
            for source in self.sources:
                for field, rows in source.fields.items():
                    values = getattr(traces[source.layer][source.stacked], field)
                    states[start + 1 : start + 1 + len(block), rows] = values[0]
        return states

    def source(self, index: int) -> Source:
        """Return a layer, as in ``trace.layer``."""
        check_index("layer", index, len(self.sources))
        return self.sources[index]

    def keep_gate(self, state: Array, x: NDArray[Any], source: Source) -> Array | None:
        """Return the gates that scale the previous state of a layer, (T, H), along a trajectory; None: it has none."""
        _, tapes = self._run(x, state[:, None])
        trace = self.layers[source.layer].layer_traces(tapes[source.layer])[source.stacked]
        return trace.value(trace.keep_gate)[0] if trace.keep_gate else None

    def _run(self, x: NDArray[Any], states: Array) -> tuple[Array, list[Any]]:
        """Run x (T, I, M) or (T, M) from states (n, M); return the final states and the tapes of all layers."""
        mask: NDArray[np.bool_] | None = None
        final, tapes = np.empty_like(states), []
        with np.errstate(over="ignore", invalid="ignore"):
            for k, layer in enumerate(self.layers):
                rows = self._rows.get(k)
                if rows is not None and mask is not None:
                    if not mask.all():
                        raise ValueError("x must have no masked step: it does not change the state")
                    mask = None
                initial = None if rows is None else to_layer_state(layer, states[rows])
                x, mask, state, tape = layer.forward_feature_major(x, mask, initial)
                tapes.append(tape)
                if rows is not None:
                    final[rows] = from_layer_state(layer, state)
        return final, tapes

    def _initial_state(self) -> Array:
        initial = np.empty((self.size, 1))
        for k, rows in self._rows.items():
            layer = self.layers[k]
            state = layer.forward_feature_major(np.empty((0, layer.input_size, 1))).state
            initial[rows] = from_layer_state(layer, state)
        return initial[:, 0]

    # States of users

    def to_user(self, states: Array) -> Any:
        """Return s (n,), or (B, n), as the model's ``forward`` takes it, in the model's dtype."""
        packed, single = [], states.ndim == 1
        for k, rows in self._rows.items():
            layer = self.layers[k]
            state = layer.state_to_user(to_layer_state(layer, np.atleast_2d(states).T[rows]), single=single)
            packed.append(layer.state_type(*(field.astype(self.dtype) for field in state)))
        return self._pack(packed)

    def from_user(self, name: str, state: Any, B: int | None = None) -> Array:
        """Return a user's state as s (n,), or of B sequences as (B, n). Default: the initial state."""
        single, count = B is None, 1 if B is None else B
        states = np.repeat(self.initial[:, None], count, axis=1)
        if state is not None:
            entries = list(self._unpack(state))
            if len(entries) != len(self._rows):
                expected = f"one entry per recurrent layer, {len(self._rows)}"
                raise ValueError(f"{name} must have {expected}, got {len(entries)}")
            for (k, rows), entry in zip(self._rows.items(), entries, strict=True):
                if entry is not None:
                    layer = self.layers[k]
                    arrays = layer.state_to_feature_major(name, entry, count, single=single)
                    states[rows] = from_layer_state(layer, arrays)
        return states[:, 0] if single else states.T

    def from_trace(self, name: str, trace: Trace) -> Array:
        """Return the states after all valid steps of a trace of the model, (N, n)."""
        expected = f"{name} must be a trace of the model"
        if len(trace.layer) != len(self.sources):
            raise ValueError(f"{expected} with {len(self.sources)} layers, got {len(trace.layer)}")
        columns = np.empty((trace.layer[0].h[..., 0].size, self.size))
        for source, layer in zip(self.sources, trace.layer, strict=True):
            for field, rows in source.fields.items():
                values, size = layer.value(field), rows.stop - rows.start
                if values.shape[-1:] != (size,) or "R" not in layer.axes:
                    raise ValueError(f"{expected} with {field} of {size} units, got {layer!r}")
                columns[:, rows] = values.reshape(-1, size)
        return columns[np.isfinite(columns).all(axis=1)]
