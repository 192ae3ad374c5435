"""Activation patching of the cell states of a layer: runs of many patches at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasscell.core.types import Array
from glasscell.data.batch import AnyArray
from glasscell.explain.activations import ForwardPass, run_forward, with_features
from glasscell.explain.intervening import intervene
from glasscell.explain.intervention import Intervention
from glasscell.explain.places import Output
from glasscell.explain.samples import Samples, rounding

MAX_ROWS = 4096  # of one forward pass: sequences times patched units


class Measured(NamedTuple):
    """Results of one input and one output, as in :class:`glasscell.explain.Relay`."""

    carried: Array  # (T, H)
    together: Array  # (T,)
    edges: Array  # (T, H, H)
    effect: float
    written_at: int
    read_at: int


class _Window(NamedTuple):
    """Steps of the sequences from `start` on, the states before them, and the output as it is numbered in them."""

    inputs: AnyArray
    lengths: NDArray[np.intp] | None
    states: Any
    start: int
    output: Output

    @property
    def T(self) -> int:
        """Number of steps."""
        return int(self.inputs.shape[1])

    def run(self, model: Any, copies: int) -> ForwardPass:
        """Run copies of the sequences at once."""
        x = np.tile(self.inputs, (copies, *[1] * (self.inputs.ndim - 1)))
        lengths = None if self.lengths is None else np.tile(self.lengths, copies)
        return run_forward(model, x, _tiled(self.states, copies), lengths)


def _tiled(states: Any, copies: int) -> Any:
    """Return states of copies of the sequences."""
    if states is None:
        return None
    if hasattr(states, "_fields"):
        return type(states)(*(np.tile(field, (1, copies, 1)) for field in states))
    return tuple(_tiled(state, copies) for state in states)


class Patching:
    """The patched runs of one input and one output.

    Parameters
    ----------
    model : layer or model
    batch : Samples
        N sequences.
    other : array
        The same sequences with the other input.
    output : Output
    layer : int
    """

    def __init__(self, model: Any, batch: Samples, other: AnyArray, output: Output, layer: int) -> None:
        self.model, self.batch, self.output, self.number = model, batch, output, layer
        clean = run_forward(model, batch.inputs, None, batch.lengths)
        has_steps = output.step is None or clean.outputs.shape[1] == batch.T  # outputs have the steps of the inputs
        self.is_causal = has_steps and not getattr(model, "runs_backward", False)
        changed = run_forward(model, other, None, batch.lengths)
        self.trace = clean.layer(layer)
        if "c" not in self.trace.names:
            raise ValueError(
                f"layer must be an LSTM, with cells c, got {self.trace.name} with {', '.join(self.trace.names)}"
            )
        self.c, self.c_other = (np.nan_to_num(run.layer(layer).value("c")) for run in (clean, changed))
        self.y, y_other = self._outputs(clean, output), self._outputs(changed, output)
        difference = y_other - self.y
        self.tolerance = rounding(np.concatenate([self.y, y_other]), model.dtype)
        self.sign = np.sign(np.where(np.abs(difference) > self.tolerance, difference, 0.0))
        self.total = float(np.abs(difference * self.sign).sum())

    def measure(self) -> Measured:
        """Patch each unit, and all together, at each step at which the cells change."""
        _, T, H = self.c.shape
        carried, together, edges = np.zeros((T, H)), np.zeros(T), np.zeros((T, H, H))
        tolerance = rounding(self.c.reshape(-1, H), self.model.dtype)
        changes: NDArray[np.bool_] = np.asarray((np.abs(self.c_other - self.c) > tolerance).any(axis=(0, 2)))
        steps = np.arange(T)[:: -1 if self.trace.reverse else 1]
        last = self.output.step
        is_used = np.ones(T, np.bool_)
        if last is not None and self.is_causal:
            is_used[last + 1 :] = False
        moves = {}
        for place, t in enumerate(steps):
            if not (changes[t] and is_used[t] and self.total):
                continue
            following = steps[place + 1] if place + 1 < T else None
            carried[t], together[t], moves[t] = self._patch(t, following)
        for place, t in enumerate(steps[:-1]):
            if t in moves:
                edges[t] = moves[t] * carried[steps[place + 1]]
        changing = steps[changes[steps]]
        written_at = int(changing[0]) if len(changing) else -1
        effect = self.total / self.sign.size
        return Measured(carried, together, edges, effect, written_at, -1 if last is None else last)

    def _patch(self, t: int, following: int | None) -> tuple[Array, float, Array]:
        """Return the shares of the units and of all together at a step, and the transfer to units at the next one."""
        N, _, H = self.c.shape
        window = self._window(t)
        at, shares, transfer = t - window.start, np.zeros(H + 1), np.zeros((H + 1, H))
        size = max(1, MAX_ROWS // N)
        for start in range(0, H + 1, size):
            units = np.arange(start, min(start + size, H + 1))
            is_patched = (np.arange(H) == units[:, None]) | (units[:, None] == H)  # H stands for all units
            values = np.zeros((len(units), N, window.T, H), self.c.dtype)
            values[:, :, at] = np.where(is_patched[:, None], self.c_other[:, t], self.c[:, t])
            patch = Intervention("c", patch=values.reshape(-1, window.T, H), layer=self.trace.name, steps=at)
            with intervene(self.model, patch):
                run = window.run(self.model, len(units))
            y = self._outputs(run, window.output).reshape(len(units), *self.y.shape)
            shares[units] = ((y - self.y) * self.sign).sum(axis=(1, 2)) / self.total
            if following is not None and following < window.start + window.T:
                c = np.nan_to_num(run.layer(self.number).value("c")).reshape(values.shape)
                transfer[units] = self._transfer(c[:, :, following - window.start], following)
        return shares[:H], float(shares[H]), transfer[:H]

    def _window(self, t: int) -> _Window:
        """Return the steps of a run with a patch at step t: those from t to the output, if that is equal, or all."""
        inputs, lengths, last = self.batch.inputs, self.batch.lengths, self.output.step
        whole = _Window(inputs, lengths, None, 0, self.output)
        if not (self.is_causal and t):
            return whole
        before = None if lengths is None else np.minimum(lengths, t)
        states = run_forward(self.model, inputs[:, :t], None, before).states
        stop = len(inputs[0]) if last is None else last + 1
        behind = None if lengths is None else np.clip(lengths - t, 0, stop - t)
        window = _Window(
            inputs[:, t:stop], behind, states, t, self.output._replace(step=None if last is None else last - t)
        )
        y = self._outputs(window.run(self.model, 1), window.output)  # differs if a layer reads several steps
        return window if (np.abs(y - self.y) <= self.tolerance).all() else whole

    def _transfer(self, c: Array, t: int) -> Array:
        """Return the least-squares factors of the changes of c (n, N, H) on the whole changes at step t, (n, H)."""
        whole = (self.c_other[:, t] - self.c[:, t]).astype(np.float64)
        square = np.square(whole).sum(axis=0)
        tolerance = len(whole) * np.square(rounding(self.c[:, t], self.model.dtype))
        product = ((c - self.c[:, t]) * whole).sum(axis=1)
        result: Array = np.divide(product, square, out=np.zeros_like(product), where=square > tolerance)
        return result

    def _outputs(self, run: ForwardPass, output: Output) -> Array:
        """Return the numbers of the output, (N, F) in float64."""
        outputs = with_features(self.model, run.outputs)
        columns = [outputs[index] for index in output.features(outputs.shape[-1])]
        return np.stack(columns, axis=1).astype(np.float64)
