"""Passes of a traced LSTM layer that run again in float64, under its interventions, for splits of its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from glasscell.core import variants
from glasscell.core.layer_norm import NormalizedActivations, layer_norm_backward
from glasscell.core.linear import batched_matmul
from glasscell.core.step_gradients import StepGradients
from glasscell.core.types import Array
from glasscell.core.variants import DropoutMasks
from glasscell.explain.intervening import targets
from glasscell.recurrent.step_interventions import BoundIntervention, PassHook, StepIntervention
from glasscell.trace.layer_trace import LayerTrace
from glasscell.trace.trace import Trace

NO_HOOK = (
    "gradient flow of a trace must be of a layer without interventions, got {!r}: a trace has their descriptions "
    "alone; pass the model and x, within the block"
)


def interventions_on(model: Any, layer: LayerTrace) -> Sequence[StepIntervention]:
    """Return the interventions on a traced layer of a model, except those on x: those of a trace are after them."""
    if not layer.interventions:
        return ()
    if isinstance(model, Trace):
        raise ValueError(NO_HOOK.format(layer))  # noqa: TRY004 - a trace is valid without interventions
    acting = next(one.layer.interventions(one.k) for one in targets(model) if one.name == layer.name)
    return [one for one in acting if one.symbol != "x"]


def hook_of(interventions: Sequence[StepIntervention], trace: Trace, b: int, *, reverse: bool) -> PassHook | None:
    """Return the hook of the valid steps of sequence b of a trace."""
    if not interventions:
        return None
    steps = np.arange(trace.T) if trace.valid is None else np.flatnonzero(np.atleast_2d(trace.valid)[b])
    steps = steps[::-1] if reverse else steps
    bound = []
    for one in interventions:
        active, value = one.selects(steps)[:, None], one.value_in(np.dtype(np.float64))
        if one.operation == "patch":
            values = value[np.minimum(steps, len(value) - 1)][..., [b % value.shape[2]]]
            value = np.where(active[..., None], values, 0)
        bound.append(BoundIntervention(one, active, value))
    return PassHook(bound)


def replay(layer: LayerTrace, B: int, hook: PassHook | None) -> variants.Tape:
    """Run the steps of a layer of one sequence, B times side by side, in float64 and processing order."""
    options, first = layer.options, -1 if layer.reverse else 0
    for name, value in options.unsupported("trace").items():
        raise ValueError(f"gradient flow does not support an LSTM with {name}={value!r}")
    weights = {name: weight.astype(np.float64) for name, weight in layer.weights.items()}
    x = in_processing_order(layer, layer.x)[:, :, None].astype(np.float64)
    inputs = np.ascontiguousarray(np.broadcast_to(x, (*x.shape[:2], B)))
    h0, c0 = (state[first].astype(np.float64)[:, None] for state in (layer.h_prev, layer.c_prev))
    masks = DropoutMasks(1.0, 1.0 - options.zoneout, 1.0 - options.zoneout_cell)
    return variants.forward(
        options.cell_config, weights, inputs, h0, c0, masks, hook=None if hook is None else hook.restart()
    )


def backward_through(tape: variants.Tape, dh: Array) -> StepGradients:
    """Return the gradients at every step, from those on the outputs (T, P, B)."""
    if tape.hook is not None:
        tape.hook.begin_backward()
    dz = np.empty_like(tape.z)
    steps = StepGradients(dz, np.empty_like(dz), np.empty_like(tape.c), np.empty_like(tape.h), tape.x, dh)
    return steps._replace(dx=variants.backward(tape, dh, step_gradients=steps).dx)


def cross_recurrent(tape: variants.Tape, dz: Array) -> Array:
    """Return the gradient on each h from the pre-activations of the next step, through W_h: (T, P, B)."""
    da = dz
    if tape.h_norm is not None:
        da = layer_norm_backward(tape.h_norm, tape.column("gain_h") * dz)
    elif tape.gates_norm is not None:
        da, norm = np.empty_like(dz), tape.gates_norm
        for k, gate in enumerate(tape.config.gates):
            rows = tape.gate_rows(gate)
            gate_norm = NormalizedActivations(norm.values[:, rows], norm.scale[:, k : k + 1])
            da[:, rows] = layer_norm_backward(gate_norm, tape.column("gain")[rows] * dz[:, rows])
    d_h = np.zeros_like(tape.h)
    d_h[:-1] = batched_matmul(tape.kernel[:, : tape.P].T, da[1:])
    if tape.hook is not None:
        for t in range(1, tape.T):
            tape.hook.backward("W_h", t, d_h[t - 1])
    return d_h


def in_processing_order(layer: LayerTrace, array: Array) -> Array:
    """Return an array (T, rows) in processing order."""
    return array[::-1] if layer.reverse else array
