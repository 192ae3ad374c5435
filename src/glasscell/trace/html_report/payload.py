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

from glasscell.core.blocking import norms
from glasscell.core.types import Array
from glasscell.escaping import escape
from glasscell.trace.data import LayerTrace, TraceData
from glasscell.trace.diagnostics import gradient_paths, half_life
from glasscell.trace.display import feature_names, printable
from glasscell.trace.loss import compute_loss

# Of arrays in base64: with the page itself a report stays below 3 MB.
MAX_BYTES = 2_100_000  # what happened inside, or what it is computed from
BYTES_BESIDE = 700_000  # inputs and outputs of a page that does not compute
COMPUTED = 200_000  # steps times units: the page computes them in half a second, in 40 MB
OF_A_WHOLE = (
    "The loss is that of a batch or of a longer sequence: shown is what these steps add to it, and its gradients."
)
SYMBOLS = ("i", "f", "o", "g", "c_prev", "c", "tanh_c", "h", "z")
OF_GRADIENTS = ("d_i", "d_f", "d_o", "d_g", "d_c", "d_tanh_c", "d_h", "d_z")


def payload_of(trace: TraceData) -> dict[str, Any]:
    """Convert a trace of one sequence to the payload of the report, as this module describes it.

    If every LSTM is standard, and its weights and inputs fit, the page is live. Otherwise the payload has the recorded
    values; if they do not fit, those of a selection of units and steps, with a note.

    Raises
    ------
    ValueError
        If the trace is not of one sequence with at least one step.
    """
    trace = trace.one()
    if not trace.T:
        raise ValueError("there is nothing to report of a sequence without steps")
    hinders = _static_reason(trace)
    payload = {
        "version": 1,
        "title": escape(trace.about.get("title", "An LSTM")),
        "notes": [],
        "live": not hinders,
        "dtype": str(trace.layer[0].f.dtype),
        "layers": _layers(trace, live=not hinders),
        "readout": None,
        "loss": trace.about.get("loss"),
        "loss_value": trace.loss,
        "share": 1.0,
        "x": array(trace.layer[0].x),  # what the first LSTM sees
        "outputs": None,
        "targets": array(trace.targets),
        "weights": array(_weights(trace)),
        "d_outputs": array(trace.d_outputs if trace.targets is None else None),
        "input_names": [*map(printable, feature_names(trace, "input_names", trace.layer[0].x.shape[-1], "x"))],
        "output_names": [*map(printable, feature_names(trace, "output_names", trace.outputs.shape[-1], "y"))],
        "step_names": [printable(str(name)) for name in trace.about.get("step_names") or []],
        "copy": trace.about.get("copy"),
        "unit_measures": {escape(layer.name): {"half_life": array(half_life(layer.f))} for layer in trace.layer},
        "static": None,
    }
    if hinders:
        return payload | _static_payload(trace, payload, hinders)
    if abs(_share(trace) - 1) > 1e-5:
        payload |= {"share": _share(trace), "notes": [OF_A_WHOLE]}
    if trace.readout is not None:
        payload["readout"] = {"weight": array(trace.readout.weight), "bias": array(trace.readout.bias)}
    return payload


def _static_reason(trace: TraceData) -> str:
    """Why the page cannot compute what is in a trace; nothing if it can."""
    if not trace.about.get("chain") or any(layer.options.unsupported("page") for layer in trace.layer):
        return "it is not a chain of plain LSTMs"
    if not all(_whole(layer) for layer in trace.layer):
        return "these are some steps of a longer sequence, with gradients and states that come from others"
    arrays: list[Any] = [layer.weights["kernel"] for layer in trace.layer]
    arrays += [trace.layer[0].x, trace.d_outputs if trace.targets is None else trace.targets]
    arrays += [] if trace.readout is None else [trace.readout.weight]
    if sum(part.nbytes for part in arrays if part is not None) * 4 / 3 > MAX_BYTES:
        return "its weights and inputs are too many for one page"
    if sum(layer.f.size for layer in trace.layer) > COMPUTED:
        return f"{trace.T} steps are too many for a page to compute at once"
    return ""


def _static_payload(trace: TraceData, payload: dict[str, Any], hinders: str) -> dict[str, Any]:
    """What differs in the payload of a page that only shows: values, of some units and steps if need be."""
    static, steps, left_out = _static(trace)
    x = trace.layer[0].x[steps].astype(np.float32)
    columns = max(1, BYTES_BESIDE // 2 * 3 // 4 // x[:, :1].nbytes)
    if columns < x.shape[1]:
        left_out.append(f"Of {x.shape[1]} inputs the first {columns} are shown.")
    answers, unsaid = _answers(trace, steps)
    notes = [f"This page shows what happened, and does not recompute it: {hinders}.", *left_out, *unsaid]
    changed = {"notes": notes, "static": static, "x": array(x[:, :columns])}
    changed |= {"input_names": payload["input_names"][:columns]}
    if payload["step_names"]:
        changed["step_names"] = [payload["step_names"][t] for t in steps]
    return changed | answers


def _answers(trace: TraceData, steps: NDArray[np.intp]) -> tuple[dict[str, Any], list[str]]:
    """Outputs and what was asked of them at these steps; or none, and why."""
    timeless, O = bool(trace.about.get("timeless")), trace.outputs.shape[-1]
    answers: dict[str, NDArray[Any] | None] = {
        "outputs": trace.outputs,
        "targets": trace.targets,
        "d_outputs": trace.d_outputs if trace.targets is None else None,
        "weights": _weights(trace),
    }
    for name, values in answers.items():
        if values is not None:
            some = values if timeless else values[steps]
            answers[name] = some.astype(np.float32) if some.dtype.kind == "f" else some  # not class numbers
    unsaid = []
    if timeless and trace.outputs.ndim != 1:
        unsaid.append(f"The outputs, {trace.outputs.shape}, are not of these steps, and not shown.")
    elif sum(values.nbytes for values in answers.values() if values is not None) * 4 / 3 > BYTES_BESIDE // 2:
        unsaid.append(f"The {O} outputs are too many to be shown.")
    if unsaid:
        return dict.fromkeys(answers) | {"loss": None, "output_names": []}, unsaid
    return {name: array(values) for name, values in answers.items()}, unsaid


def array(values: NDArray[Any] | None) -> dict[str, Any] | None:
    """``{"shape", "type", "data"}``: base64 of little-endian float32 or float64, which all other numbers become."""
    if values is None:
        return None
    dtype = np.dtype("<f4") if values.dtype == np.float32 else np.dtype("<f8")
    data = b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode("ascii")
    return {"shape": list(values.shape), "type": "float32" if dtype.itemsize == 4 else "float64", "data": data}


def _layers(trace: TraceData, *, live: bool) -> list[dict[str, Any]]:
    """Layer by layer, with one way or two; weights and initial states where the page computes."""
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


def _static(trace: TraceData) -> tuple[dict[str, Any], NDArray[np.intp], list[str]]:
    """The values themselves, of as many units and steps as fit; which steps these are; and what is left out."""
    gradients = OF_GRADIENTS if trace.has_gradients else ()
    rows = len(SYMBOLS + gradients) + 3 * (1 + bool(gradients)) + 3 * bool(gradients)  # z has four; parts of d_c
    most = MAX_BYTES * 3 // 4 // 4 // (rows * len(trace.layer))  # numbers of a symbol of H rows
    every = max(1, -(-trace.T // max(1, int(np.sqrt(most)))))
    steps = np.arange(0, trace.T, every)
    notes = [] if every == 1 else [f"Of {trace.T} steps every {every}th is shown."]
    H = trace.layer[0].H
    number = min(H, max(1, most // len(steps)))
    if number < H:
        notes.append(f"Of {H} units the {number} whose cells change most are shown.")
    of_directions = {}
    for layer in trace.layer:
        units = np.sort(np.argsort(-layer.c.std(axis=0), kind="stable")[:number])
        of_directions[escape(layer.name)] = {"units": array(units)} | {
            name: array(_some(layer, name, steps, units)) for name in SYMBOLS + gradients if name in layer.names
        }
        if gradients:
            of_directions[escape(layer.name)] |= _gradient_paths(layer, steps, units)
    return {"steps": array(steps), "directions": of_directions}, steps, notes


def _gradient_paths(layer: LayerTrace, steps: NDArray[np.intp], units: NDArray[np.intp]) -> dict[str, Any]:
    """Return the parts of the gradient on c, where a cell has a separate path, and the norm of that on x."""
    back = {"d_x_norm": array(norms(layer.d_x[steps]))}
    if layer.options.cell_config.normalises_cell:
        return back
    parts = gradient_paths(layer)._asdict()
    return back | {name: array(part[steps][:, units].astype(np.float32)) for name, part in parts.items()}


def _some(layer: LayerTrace, name: str, steps: NDArray[np.intp], units: NDArray[np.intp]) -> Array:
    values = layer.value(name)[steps]
    if name in ("z", "d_z"):
        rows = (np.arange(len(layer.gates))[:, None] * layer.H + units).ravel()
        values = values[:, rows]
    elif values.shape[-1] == layer.H:  # not the h of a projection, which has other rows
        values = values[:, units]
    return values.astype(np.float32)


def _whole(layer: LayerTrace) -> bool:
    """Whether each step goes on from the one before it, and no gradient comes from a step that is not there."""
    steps = slice(None, None, -1) if layer.reverse else slice(None)
    h, h_prev = layer.h[steps], layer.h_prev[steps]
    last = 0 if layer.reverse else -1
    goes_on = np.array_equal(h_prev[1:], h[:-1])
    return goes_on and (not layer.has_gradients or np.array_equal(layer.d_h[last], layer.d_y[last]))


def _share(trace: TraceData) -> float:
    """What the loss of these steps counts for in the loss whose gradients there are: that of a batch, it may be."""
    if trace.targets is None or trace.d_outputs is None:
        return 1.0
    _, own, _, _ = compute_loss(trace.about["loss"], trace.outputs, trace.targets, trace.weights)
    own, of_whole = own.ravel().astype(np.float64), trace.d_outputs.ravel().astype(np.float64)
    return float(own @ of_whole / (own @ own)) if own.any() else 1.0


def _weights(trace: TraceData) -> Array | None:
    """How much each answer counts, (T,); or, if that is not the same of all outputs of a step, (T, O)."""
    if trace.weights is None or trace.about.get("timeless"):
        return None
    of_outputs = trace.weights.reshape(trace.T, -1)
    return of_outputs[:, 0] if (of_outputs == of_outputs[:, :1]).all() else of_outputs
