"""Convert a trace to the payload of a report: a dictionary that can be written as JSON.

An array is ``{"shape": [...], "type": "float32" or "float64", "data": base64 of little-endian numbers}``.

- ``version``: 1; ``title``; ``notes``: sentences for the top of the page; ``dtype``
- ``live``: whether the page computes. Then each direction of each layer has its weights.
- ``layers``: a list of ``name, input_size, hidden_size, merge, directions``; ``directions``: one, or two of a
  bidirectional layer, of ``name, reverse`` and, if live, arrays ``kernel`` (4H, H + I + 1), ``h0`` (H), ``c0`` (H)
- ``readout``: arrays ``weight`` (O, H), ``bias`` (O), or null
- ``x``: array (T, I), the input of the first LSTM; ``outputs``: array (T, O), null if live
- ``loss``: the name of one of :mod:`glasscell.core.losses`, ``targets``: array (T, O), or (T) of class numbers,
  ``weights``: array (T) or (T, O); or ``d_outputs``: array (T, O), the gradient of a loss on the outputs; each may be
  null
- ``loss_value``: the loss of the trace, or null; ``share``: the factor of the loss that the page computes, less than 1
  for one sequence of a batch
- ``input_names``, ``output_names``; ``step_names``: empty, or one per step
- ``embedded``: whether x are the vectors of an embedding
- ``copy``: ``mode, bits_per_step, bits`` of the copy task, or null
- ``unit_measures``: by the name of a direction, ``half_life``: array (H)
- ``static``: null if live, else ``steps``: array of the numbers of the T' selected steps, and ``directions``: by name,
  ``units``: array of the numbers of the H' selected units, and an array for each symbol that exists,
  ``i f o g c_prev c tanh_c h d_i d_f d_o d_g d_c d_tanh_c d_h`` (T', H') and ``z d_z`` (T', 4H'); h and d_h have the
  rows of a projection, (T', P). ``output``, ``cell`` and ``recurrent`` (T', H') are the parts of d_c, ``d_x_norm`` (T')
  is the norm of the gradient on x. All other arrays, x, outputs, …, are of the same T' steps; a model with one output
  per sequence has outputs and targets (O)
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasscell.core import losses
from glasscell.core.norms import vector_norms
from glasscell.core.types import Array
from glasscell.escaping import escape
from glasscell.trace.data import TraceData
from glasscell.trace.diagnostics import gradient_paths, half_life, has_gradient_paths
from glasscell.trace.display import escape_control_characters, feature_names
from glasscell.trace.layer_trace import LayerTrace

# Limits of arrays in base64: a report is smaller than 3 MB.
MAX_BYTES = 2_100_000  # of the quantities of layers, or of the weights and inputs of a live page
MAX_INPUT_OUTPUT_BYTES = 700_000  # of a static page
MAX_LIVE_VALUES = 200_000  # steps times units: computed in half a second, in 40 MB
PARTIAL_LOSS_NOTE = (
    "The loss and its gradients are the contribution of these steps to the loss of a batch or a longer sequence."
)
SYMBOLS = ("i", "f", "o", "g", "c_prev", "c", "tanh_c", "h", "z")
GRADIENTS = ("d_i", "d_f", "d_o", "d_g", "d_c", "d_tanh_c", "d_h", "d_z")


def payload_of(trace: TraceData) -> dict[str, Any]:
    """Convert a trace of one sequence to the payload of the report, as this module describes it.

    If every LSTM is standard, and its weights and inputs fit, the page is live. Otherwise the payload has the recorded
    values; if they do not fit, those of a selection of units and steps, with a note.

    Raises
    ------
    ValueError
        If the trace is not of one sequence with at least one step.
    """
    trace = trace.require_single_sequence()
    for layer in trace.layer:
        if layer.state != "c":
            raise ValueError(f"a report needs LSTMs, got {layer!r}: use plot(), equations() or trace.terminal.render()")
    if not trace.T:
        raise ValueError("a report needs at least one step, got a sequence without steps")
    reason = static_reason(trace)
    payload = {
        "version": 1,
        "title": escape(trace.about.get("title", "An LSTM")),
        "notes": [],
        "live": not reason,
        "dtype": str(trace.layer[0].f.dtype),
        "layers": _layers(trace, live=not reason),
        "readout": None,
        "loss": trace.about.get("loss"),
        "loss_value": trace.loss,
        "share": 1.0,
        "x": array(trace.layer[0].x),  # input of the first LSTM
        "outputs": None,
        "targets": array(trace.targets),
        "weights": array(_weights(trace)),
        "d_outputs": array(trace.d_outputs if trace.targets is None else None),
        "input_names": [
            *map(escape_control_characters, feature_names(trace, "input_names", trace.layer[0].x.shape[-1], "x"))
        ],
        "output_names": [
            *map(escape_control_characters, feature_names(trace, "output_names", trace.outputs.shape[-1], "y"))
        ],
        "step_names": [escape_control_characters(str(name)) for name in trace.about.get("step_names") or []],
        "embedded": trace.x.dtype.kind in "iu",
        "copy": trace.about.get("copy"),
        "unit_measures": {escape(layer.name): {"half_life": array(half_life(layer.f))} for layer in trace.layer},
        "static": None,
    }
    if reason:
        return payload | _static_payload(trace, payload, reason)
    if abs(_share(trace) - 1) > 1e-5:
        payload |= {"share": _share(trace), "notes": [PARTIAL_LOSS_NOTE]}
    if trace.readout is not None:
        payload["readout"] = {"weight": array(trace.readout.weight), "bias": array(trace.readout.bias)}
    return payload


def static_reason(trace: TraceData) -> str:
    """Return why the page cannot recompute a trace, "" if it can."""
    if under := "; ".join(f"{layer.name}: {text}" for layer in trace.layer for text in layer.interventions):
        return f"they are those under interventions ({escape(under)})"
    if not trace.about.get("chain") or any(layer.options.unsupported("page") for layer in trace.layer):
        return "the model is not a stack of standard LSTMs"
    if not all(_is_complete(layer) for layer in trace.layer):
        return "these steps are a part of a longer sequence, and depend on states and gradients of other steps"
    arrays: list[Any] = [layer.weights["kernel"] for layer in trace.layer]
    arrays += [trace.layer[0].x, trace.d_outputs if trace.targets is None else trace.targets]
    arrays += [] if trace.readout is None else [trace.readout.weight]
    if sum(a.nbytes for a in arrays if a is not None) * 4 / 3 > MAX_BYTES:
        return "the weights and inputs are too large"
    if sum(layer.f.size for layer in trace.layer) > MAX_LIVE_VALUES:
        return f"{trace.T} steps with {trace.layer[0].H} units are too many"
    return ""


def _static_payload(trace: TraceData, payload: dict[str, Any], reason: str) -> dict[str, Any]:
    """Return the entries of the payload that differ for a static page."""
    static, steps, notes = _static_values(trace)
    x = trace.layer[0].x[steps].astype(np.float32)
    columns = max(1, MAX_INPUT_OUTPUT_BYTES // 2 * 3 // 4 // x[:, :1].nbytes)
    if columns < x.shape[1]:
        notes.append(f"The first {columns} of {x.shape[1]} inputs are shown.")
    outputs, output_notes = _static_outputs(trace, steps)
    notes = [f"This page has recorded values and does not recompute them: {reason}.", *notes, *output_notes]
    changed = {"notes": notes, "static": static, "x": array(x[:, :columns])}
    changed |= {"input_names": payload["input_names"][:columns]}
    if payload["step_names"]:
        changed["step_names"] = [payload["step_names"][t] for t in steps]
    return changed | outputs


def _static_outputs(trace: TraceData, steps: NDArray[np.intp]) -> tuple[dict[str, Any], list[str]]:
    """Return outputs, targets and weights at these steps, or None for each, with a note of the reason."""
    timeless, O = bool(trace.about.get("timeless")), trace.outputs.shape[-1]
    arrays: dict[str, NDArray[Any] | None] = {
        "outputs": trace.outputs,
        "targets": trace.targets,
        "d_outputs": trace.d_outputs if trace.targets is None else None,
        "weights": _weights(trace),
    }
    for name, values in arrays.items():
        if values is not None:
            selected = values if timeless else values[steps]
            arrays[name] = selected.astype(np.float32) if selected.dtype.kind == "f" else selected  # class numbers
    notes = []
    if timeless and trace.outputs.ndim != 1:
        notes.append(f"The outputs, {trace.outputs.shape}, do not belong to these steps and are not shown.")
    elif sum(values.nbytes for values in arrays.values() if values is not None) * 4 / 3 > MAX_INPUT_OUTPUT_BYTES // 2:
        notes.append(f"The {O} outputs are too large to be shown.")
    if notes:
        return dict.fromkeys(arrays) | {"loss": None, "output_names": []}, notes
    return {name: array(values) for name, values in arrays.items()}, notes


def array(values: NDArray[Any] | None) -> dict[str, Any] | None:
    """Return an array as base64 of little-endian float32, or of float64 for all other types; None for None."""
    if values is None:
        return None
    dtype = np.dtype("<f4") if values.dtype == np.float32 else np.dtype("<f8")
    data = b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode("ascii")
    return {"shape": list(values.shape), "type": "float32" if dtype.itemsize == 4 else "float64", "data": data}


def _layers(trace: TraceData, *, live: bool) -> list[dict[str, Any]]:
    """Return the layers with one or two directions each; with weights and initial states if the page is live."""
    layers: list[dict[str, Any]] = []
    for layer in trace.layer:
        direction: dict[str, Any] = {"name": escape(layer.name), "reverse": layer.reverse}
        if live:
            first = -1 if layer.reverse else 0
            states = {"h0": array(layer.h_prev[first]), "c0": array(layer.c_prev[first])}
            direction |= {"kernel": array(layer.weights["kernel"])} | states
        if layer.options.bidirectional and layer.reverse:
            layers[-1]["directions"].append(direction)
            continue
        sizes = {"input_size": layer.x.shape[-1], "hidden_size": layer.H, "merge": layer.options.merge}
        layers.append({"name": escape(layer.name), "directions": [direction], **sizes})
    return layers


def _static_values(trace: TraceData) -> tuple[dict[str, Any], NDArray[np.intp], list[str]]:
    """Return the values of the units and steps that fit, the numbers of these steps, and notes."""
    gradients = GRADIENTS if trace.has_gradients else ()
    rows = len(SYMBOLS + gradients) + 3 * (1 + bool(gradients)) + 3 * bool(gradients)  # z has four; parts of d_c
    max_values = MAX_BYTES * 3 // 4 // 4 // (rows * len(trace.layer))  # of a symbol with H rows
    interval = max(1, -(-trace.T // max(1, int(np.sqrt(max_values)))))
    steps = np.arange(0, trace.T, interval)
    notes = [] if interval == 1 else [f"One of {interval} steps is shown, of {trace.T} in total."]
    H = trace.layer[0].H
    number = min(H, max(1, max_values // len(steps)))
    if number < H:
        notes.append(f"The {number} of {H} units with the largest standard deviation of the cell state are shown.")
    directions = {}
    for layer in trace.layer:
        units = np.sort(np.argsort(-layer.c.std(axis=0), kind="stable")[:number])
        directions[escape(layer.name)] = {"units": array(units)} | {
            name: array(_select(layer, name, steps, units)) for name in SYMBOLS + gradients if name in layer.names
        }
        if gradients:
            directions[escape(layer.name)] |= _gradient_paths(layer, steps, units)
    return {"steps": array(steps), "directions": directions}, steps, notes


def _gradient_paths(layer: LayerTrace, steps: NDArray[np.intp], units: NDArray[np.intp]) -> dict[str, Any]:
    """Return the norm of the gradient on x and, if they are defined, the parts of the gradient on c."""
    result = {"d_x_norm": array(vector_norms(layer.d_x[steps]))}
    if not has_gradient_paths(layer):
        return result
    parts = gradient_paths(layer)._asdict()
    return result | {name: array(part[steps][:, units].astype(np.float32)) for name, part in parts.items()}


def _select(layer: LayerTrace, name: str, steps: NDArray[np.intp], units: NDArray[np.intp]) -> Array:
    values = layer.value(name)[steps]
    if name in ("z", "d_z"):
        rows = (np.arange(len(layer.gates))[:, None] * layer.H + units).ravel()
        values = values[:, rows]
    elif values.shape[-1] == layer.H:  # h of a projection has other rows
        values = values[:, units]
    return values.astype(np.float32)


def _is_complete(layer: LayerTrace) -> bool:
    """Return whether states and gradients of all steps come from these steps: the trace is not a slice."""
    steps = slice(None, None, -1) if layer.reverse else slice(None)
    h, h_prev = layer.h[steps], layer.h_prev[steps]
    last = 0 if layer.reverse else -1
    is_contiguous = np.array_equal(h_prev[1:], h[:-1])
    return is_contiguous and (not layer.has_gradients or np.array_equal(layer.d_h[last], layer.d_y[last]))


def _share(trace: TraceData) -> float:
    """Return the ratio of the gradients of the trace to those of the loss of its steps; below 1 for part of a batch."""
    if trace.targets is None or trace.d_outputs is None:
        return 1.0
    loss: Any = getattr(losses, trace.about["loss"])
    _, d_steps = loss(trace.outputs, trace.targets, trace.weights)
    d_steps, d_trace = d_steps.ravel().astype(np.float64), trace.d_outputs.ravel().astype(np.float64)
    return float(d_steps @ d_trace / (d_steps @ d_steps)) if d_steps.any() else 1.0


def _weights(trace: TraceData) -> Array | None:
    """Return the weights of the loss, (T,), or (T, O) if they differ between the outputs of a step."""
    if trace.weights is None or trace.about.get("timeless"):
        return None
    weights = trace.weights.reshape(trace.T, -1)
    return weights[:, 0] if (weights == weights[:, :1]).all() else weights
