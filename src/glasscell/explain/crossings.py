"""The gradient on the cells of an LSTM, split by how often it crossed the recurrent weights, and by its origin.

Backpropagation through time is linear in the gradient that enters the layer from above, d_y. Its terms are products
along paths through time, each of which crosses W_h a number of times: where a gradient on the pre-activations of a step
becomes one on h of the step before. A backward pass with W_h = 0 leaves the paths that never cross it, along the cell;
the gradients on h that it would have handed on start the paths that cross W_h once more, and so forth. A path of n
crossings spans at least n steps, so T - 1 crossings are the most.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.norms import vector_norms
from glasscell.core.types import Array
from glasscell.explain.replayed_passes import (
    NO_HOOK,
    backward_through,
    cross_recurrent,
    hook_of,
    in_processing_order,
    interventions_on,
    replay,
)
from glasscell.recurrent.step_interventions import PassHook
from glasscell.trace.diagnostics import GradientPaths, gradient_paths, has_gradient_paths
from glasscell.trace.layer_trace import LayerTrace
from glasscell.trace.trace import Trace
from glasscell.validation import non_negative_integer, type_name

MAX_TAPE_VALUES = 1 << 24  # of the sequences that one pass computes together


class Crossings(NamedTuple):
    """Parts of the gradients on cells and inputs by number of crossings: (N + 2, T, H) and (N + 2, T, I).

    The entries are those of 0, 1, … N crossings, and of more than N. ``whole_c`` and ``whole_x`` are the gradients of
    one backward pass.
    """

    c: Array
    x: Array
    whole_c: Array
    whole_x: Array


class SourceSteps(NamedTuple):
    """Shares of dL/dc_t by the step s at which the gradient enters the layer, (T, T) each; [s, t].

    Attributes
    ----------
    norms : array
        Norm over the units of the part of dL/dc_t from step s. Norms of parts do not add up.
    shares : array
        The component of that part along dL/dc_t, divided by its norm: they add up to 1 over s, where dL/dc_t is not 0;
        a negative share opposes the whole.
    """

    norms: Array
    shares: Array

    def __repr__(self) -> str:
        T = len(self.norms)
        return f"SourceSteps({T} × {T} steps: at most {self.norms.max():.4g})"


@dataclass(frozen=True, repr=False)
class GradientFlow:
    """The split of the gradients of one layer. Without the axis B for a single sequence; 0 at invalid steps.

    Attributes
    ----------
    c : array (B, N + 2, T, H)
        Parts of dL/dc_t by the number of crossings of W_h: 0, 1, … N, and more than N.
    x : array (B, N + 2, T, I)
        Parts of dL/dx_t, of the layer's inputs.
    whole_c, whole_x : array (B, T, H) and (B, T, I)
        dL/dc_t and dL/dx_t, computed by one backward pass.
    local : GradientPaths or None
        dL/dc_t by its last edge, (B, T, H) each: from the output of the same step, along the cell, and through h and
        W_h; see :func:`glasscell.trace.diagnostics.gradient_paths`. None with normalised cells: not defined there.
    layer : str
        Name of the layer.
    """

    c: Array
    x: Array
    whole_c: Array
    whole_x: Array
    local: GradientPaths | None
    layer: str

    @property
    def crossings(self) -> int:
        """N: paths with more crossings are one part."""
        return int(self.c.shape[-3]) - 2

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the names of the parts: "0", "1", …, "more than N"."""
        return (*map(str, range(self.crossings + 1)), f"more than {self.crossings}")

    @property
    def norms(self) -> Array:
        """Euclidean norm over the units of each part of dL/dc_t, (B, N + 2, T). Norms of parts do not add up."""
        return vector_norms(self.c)

    @property
    def shares(self) -> Array:
        """The component of each part along dL/dc_t, divided by its norm, (B, N + 2, T).

        Shares add up to 1 over the parts, which may be above 1 or negative where parts cancel; those of a step with
        dL/dc_t = 0 are 0.
        """
        return _shares(self.c, self.whole_c[..., None, :, :])

    @property
    def completeness_error(self) -> float:
        """The largest absolute difference of Σ parts and the whole, relative to the largest value of the whole."""
        pairs = (self.c, self.whole_c), (self.x, self.whole_x)
        errors = [np.abs(parts.sum(axis=-3) - whole).max(initial=0) for parts, whole in pairs]
        scales = [np.abs(whole).max(initial=0) or 1.0 for _, whole in pairs]
        return max(float(error / scale) for error, scale in zip(errors, scales, strict=True))

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.whole_c.shape))
        return (
            f"GradientFlow({self.layer}, {shape}: {', '.join(self.labels)} crossings, "
            f"error {self.completeness_error:.2g})"
        )


def gradient_flow(
    model: Any, x: Any = None, y: ArrayLike | None = None, *, layer: int = -1, crossings: int = 4, **options: Any
) -> GradientFlow:
    """Split the gradients of an LSTM layer by the number of crossings of its recurrent weights.

    With 0 crossings a gradient came along the cell alone, the constant error carousel of Hochreiter & Schmidhuber
    (1997). :func:`~glasscell.trace.diagnostics.gradient_paths` splits by the last edge only: its part "along the cell"
    includes gradients that crossed W_h at later steps.

    Parameters
    ----------
    model : Model, LSTM, or Trace
        A trace has gradients, and x and y are left out.
    x, y : array
        As of the model's ``trace``.
    layer : int
        Index in ``trace.layer``: with two directions, forward and reverse of each layer in turn.
    crossings : int
        N, 0 or more: the largest number of crossings that has a part.
    **options
        Of the model's ``trace``: ``d_outputs`` instead of y, ``loss``, ``weights``, ``lengths``, ``mask``.

    Returns
    -------
    GradientFlow
        In float64. Crossings are those within the layer; the gradient that arrives from the layers above is its source.
        Under interventions, the parts are those of the gradients on the values that acted.

    Raises
    ------
    TypeError, ValueError, IndexError
        If there is no target or step, the layer does not exist, it is not an LSTM, or a trace is under interventions:
        it has their descriptions alone, so that the model and x must be passed, within the block.
    """
    non_negative_integer("crossings", crossings)
    trace = _trace_with_gradients(model, x, y, options)
    acting = interventions_on(model, trace.get_layer(layer))
    sequences = [trace] if trace.axes == "T" else [trace.sequence(b) for b in range(len(trace.x))]
    traced = [sequence.get_layer(layer) for sequence in sequences]
    split = [
        _split(entry, crossings, hook_of(acting, trace, b, reverse=entry.reverse)) for b, entry in enumerate(traced)
    ]
    local = None
    if has_gradient_paths(traced[0]):
        paths = [gradient_paths(entry) for entry in traced]
        local = GradientPaths(*(_join(trace, parts) for parts in zip(*paths, strict=True)))
    c, x_parts, whole_c, whole_x = (_join(trace, parts) for parts in zip(*split, strict=True))
    return GradientFlow(c, x_parts, whole_c, whole_x, local, traced[0].name)


def split_by_crossings(layer: LayerTrace, crossings: int = 4) -> Crossings:
    """Split the gradients of a layer of one sequence by the number of crossings; see :func:`gradient_flow`.

    Parameters
    ----------
    layer : LayerTrace
        With gradients, and without interventions.
    crossings : int
    """
    if layer.interventions:
        raise ValueError(NO_HOOK.format(layer))
    return _split(layer, crossings, None)


def _split(layer: LayerTrace, crossings: int, hook: PassHook | None) -> Crossings:
    """Split the gradients of a layer by crossings, under the interventions of a hook."""
    if not layer.T:
        empty, H, I = (crossings + 2, 0), layer.H, layer.x.shape[-1]
        return Crossings(np.zeros((*empty, H)), np.zeros((*empty, I)), np.zeros((0, H)), np.zeros((0, I)))
    source: Array = in_processing_order(layer, layer.d_y)[..., None].astype(np.float64)
    tape = replay(layer, 1, hook)
    cut = copy(tape)
    kernel = tape.kernel.copy()
    kernel[:, : tape.P] = 0
    cut.weights = tape.weights | {"kernel": kernel}
    whole = backward_through(tape, source)
    parts_c: list[Array] = []
    parts_x: list[Array] = []
    for _ in range(crossings + 1):
        part = backward_through(cut, source)
        parts_c.append(part.dc)
        parts_x.append(part.dx)
        source = cross_recurrent(tape, part.dz)
    rest = backward_through(tape, source)
    c, x = np.stack([*parts_c, rest.dc]), np.stack([*parts_x, rest.dx])
    return Crossings(*(_to_time(layer, array[..., 0]) for array in (c, x, whole.dc, whole.dx)))


def gradient_sources(
    model: Any, x: Any = None, y: ArrayLike | None = None, *, layer: int = -1, **options: Any
) -> SourceSteps:
    """Return how much of dL/dc_t comes from the gradient that enters the layer at step s, for all s and t.

    For the last recurrent layer of a model with one output per step, that is the output of step s. For a lower layer it
    is what the layers above return at step s.

    Parameters
    ----------
    model, x, y, layer, **options
        As of :func:`gradient_flow`, with one sequence.

    Returns
    -------
    SourceSteps
    """
    trace = _trace_with_gradients(model, x, y, options).require_single_sequence()
    entry = trace.get_layer(layer)
    parts, whole = source_parts(entry, hook_of(interventions_on(model, entry), trace, 0, reverse=entry.reverse))
    return SourceSteps(vector_norms(parts), _shares(parts, whole))


def source_parts(layer: LayerTrace, hook: PassHook | None = None) -> tuple[Array, Array]:
    """Return the parts (T, T, H) of dL/dc_t by the step at which the gradient enters the layer, and dL/dc_t (T, H)."""
    if layer.interventions and hook is None:
        raise ValueError(NO_HOOK.format(layer))
    T, H, d_y = layer.T, layer.H, in_processing_order(layer, layer.d_y).astype(np.float64)
    parts: Array = np.empty((T, T, H))
    size = max(1, MAX_TAPE_VALUES // max(1, T * 12 * H))
    for start in range(0, T, size):
        steps = np.arange(start, min(T, start + size))
        source = np.zeros((*d_y.shape, len(steps)))
        source[steps, :, steps - start] = d_y[steps]
        dc: Array = backward_through(replay(layer, len(steps), hook), source).dc
        parts[steps] = dc.transpose(2, 0, 1)
    whole: Array = backward_through(replay(layer, 1, hook), d_y[..., None]).dc[..., 0]
    ordered = _to_time(layer, parts)
    return (ordered[::-1] if layer.reverse else ordered), _to_time(layer, whole)


def _trace_with_gradients(model: Any, x: Any, y: ArrayLike | None, options: dict[str, Any]) -> Trace:
    """Return the trace of a model, or the trace itself."""
    if isinstance(model, Trace):
        if x is not None or y is not None or options:
            raise TypeError("x, y and options must be left out for a trace, which has them")
        trace = model
    else:
        if not hasattr(model, "trace"):
            raise TypeError(f"model must be a model with trace, or a Trace, got {type_name(model)}")
        if x is None:
            raise TypeError("x must be passed with a model")
        trace = model.trace(x, y, **options)
    if not trace.has_gradients:
        raise ValueError("the gradient needs a target: pass y or d_outputs")
    if "T" not in trace.axes or not trace.T or not len(trace.x):
        raise ValueError("x must have at least one step, got none")
    for entry in trace.layer:
        if entry.state != "c":
            raise ValueError(f"model must be of LSTMs, whose cells have a gradient; layer {entry.name} has no cell")
    return trace


def _to_time(layer: LayerTrace, array: Array) -> Array:
    """Return an array (…, T, rows) in processing order in that of time."""
    return np.ascontiguousarray(array[..., ::-1, :] if layer.reverse else array)


def _join(trace: Trace, parts: tuple[Array, ...]) -> Array:
    """Return arrays (…, T_b, rows) of sequences as (B, …, T, rows), 0 at invalid steps; of one sequence as it is."""
    if trace.axes == "T":
        return parts[0]
    first = parts[0]
    result = np.zeros((len(parts), *first.shape[:-2], trace.T, first.shape[-1]), first.dtype)
    for b, part in enumerate(parts):
        steps = np.arange(trace.T) if trace.valid is None else np.flatnonzero(trace.valid[b])
        result[b][..., steps, :] = part
    return result


def _shares(parts: Array, whole: Array) -> Array:
    """Return ⟨part, whole⟩ / ‖whole‖² over the last axis; 0 where the whole is 0."""
    size = (whole * whole).sum(axis=-1)
    products = (parts * whole).sum(axis=-1)
    result: Array = np.divide(products, size, out=np.zeros_like(products), where=size > 0)
    return result
