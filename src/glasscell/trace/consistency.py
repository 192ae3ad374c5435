"""Validate traces from files, so that every view can display them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasscell.core import losses
from glasscell.trace.data import ARRAYS, METADATA_KEYS, TraceData
from glasscell.trace.layer_trace import LayerTrace
from glasscell.validation import choice


def check(trace: TraceData) -> None:
    """Raise an error unless all arrays, names and options of a trace are consistent.

    Raises
    ------
    ValueError
        If a type, shape or value is invalid; the message names it.
    """
    if trace.axes not in ("BT", "T", "B", ""):
        raise ValueError(f"axes must be 'BT', 'T', 'B' or '', got {trace.axes!r}")
    if not trace.layer:
        raise ValueError("layer must have at least one entry, got none")
    lead = trace.layer[0].x.shape[: len(trace.axes)]  # (B, T) without the missing axes
    _check_valid(trace, lead)
    for layers in _lstms(trace.layer):
        for layer, (_, I, _) in zip(layers, layers[0].options.directions, strict=True):
            _check_layer(layer, I, lead, trace)
    _check_about(trace.about)
    _check_arrays(trace, lead)
    _check_names(trace, lead)
    if trace.about.get("chain"):
        _check_chain(trace)


def _check_valid(trace: TraceData, lead: tuple[int, ...]) -> None:
    valid = trace.valid
    if valid is not None and ("B" not in trace.axes or valid.dtype != np.bool_ or valid.shape != lead):
        raise ValueError(f"valid must be bool of shape {lead}, of a batch, got {valid.dtype} of shape {valid.shape}")


def _lstms(layers: Sequence[LayerTrace]) -> Iterator[Sequence[LayerTrace]]:
    """Yield the layers and directions of each LSTM, in the order of its configuration."""
    start = 0
    while start < len(layers):
        options = layers[start].options
        lstm_layers = layers[start : start + options.num_layers * options.num_directions]
        prefix = layers[start].name.removesuffix(options.directions[0][0][1:])
        expected = [(f"{prefix}{suffix[1:]}", reverse) for suffix, _, reverse in options.directions]
        if [(layer.name, layer.reverse) for layer in lstm_layers] != expected:
            raise ValueError(f"the layers from {layers[start].name!r} on are not those of its LSTM")
        if any(layer.options != options for layer in lstm_layers):
            raise ValueError(f"the layers from {layers[start].name!r} on have different options")
        yield lstm_layers
        start += len(lstm_layers)


def _check_layer(layer: LayerTrace, I: int, lead: tuple[int, ...], trace: TraceData) -> None:
    if layer.axes != trace.axes + "R":
        raise ValueError(f"axes of layer {layer.name!r} must be {trace.axes + 'R'!r}, got {layer.axes!r}")
    _check_shapes(f"weights of layer {layer.name!r}", _shapes(layer.weights), layer.weight_shapes(I))
    for name, weight in layer.weights.items():
        _check_float(f"{name} of layer {layer.name!r}", weight, trace.outputs.dtype)
        _check_finite(f"{name} of layer {layer.name!r}", weight, None)
    expected = {name: (*lead, rows) for name, rows in layer.rows(I, gradients=trace.has_gradients).items()}
    values = {name: layer.value(name) for name in layer.names}
    _check_shapes(f"symbols of layer {layer.name!r}", _shapes(values), expected)
    for name, array in values.items():
        _check_float(f"{name} of layer {layer.name!r}", array, trace.outputs.dtype)
        if not name.startswith("d_"):  # gradients may overflow: views display a note
            _check_finite(f"{name} of layer {layer.name!r}", array, trace.valid)


def _check_arrays(trace: TraceData, lead: tuple[int, ...]) -> None:
    """Check inputs, outputs, targets, and their gradients."""
    x, outputs, O = trace.x, trace.outputs, trace.outputs.shape[-1:]
    timeless = bool(trace.about.get("timeless"))
    if x.dtype.kind not in "biuf" or x.shape[: len(lead)] != lead or x.ndim - len(lead) not in (0, 1):
        raise ValueError(f"x must be numbers of shape {lead} or {lead} + (features,), got {x.dtype} of shape {x.shape}")
    if x.dtype.kind == "f":
        _check_finite("x", x, trace.valid)
    sequences = lead[: trace.axes.count("B")]
    expected = (*(sequences if timeless else lead), *O)
    if outputs.shape != expected or not O or not O[0]:
        raise ValueError(f"outputs must have the shape {expected}, got {outputs.shape}")
    _check_float("outputs", outputs, outputs.dtype)
    _check_finite("outputs", outputs, None)
    if trace.targets is None and (trace.weights is not None or trace.loss is not None or trace.about.get("loss")):
        raise ValueError("targets must exist with a loss or weights, got none")
    if trace.targets is not None:
        if trace.d_outputs is None or type(trace.loss) is not float or not math.isfinite(trace.loss):
            raise ValueError("loss and d_outputs must exist with targets, got none")
        _check_targets(trace, trace.targets)
    if trace.d_outputs is not None:
        _check_shapes("d_outputs", {"d_outputs": trace.d_outputs.shape}, {"d_outputs": outputs.shape})
        _check_float("d_outputs", trace.d_outputs, outputs.dtype)
        _check_finite("d_outputs", trace.d_outputs, None)
    if trace.d_x is not None:
        if trace.d_x.shape != x.shape or not trace.has_gradients:
            raise ValueError(f"d_x must have the shape {x.shape} of x, got {trace.d_x.shape}")
        _check_float("d_x", trace.d_x, outputs.dtype)
    if trace.readout is not None:
        weight, bias = trace.readout.weight, trace.readout.bias
        width = trace.layer[-1].options.output_size
        shapes = {"readout.weight": weight.shape, "readout.bias": bias.shape}
        _check_shapes("readout", shapes, {"readout.weight": (*O, width), "readout.bias": O})
        for name, array in (("readout.weight", weight), ("readout.bias", bias)):
            _check_float(name, array, outputs.dtype)
            _check_finite(name, array, None)


def _check_targets(trace: TraceData, targets: NDArray[Any]) -> None:
    """Raise an error for targets and weights that the loss does not accept."""
    loss, weights = trace.about.get("loss"), trace.weights
    choice("loss", loss, losses.LOSSES)
    are_classes = loss == "categorical_cross_entropy"
    expected = trace.outputs.shape[:-1] if are_classes else trace.outputs.shape
    if targets.shape != expected or (are_classes and targets.dtype.kind not in "iu"):
        raise ValueError(f"targets of {loss} must have the shape {expected}, got {targets.dtype} of {targets.shape}")
    if not are_classes:
        _check_float("targets", targets, trace.outputs.dtype)
        _check_finite("targets", targets, None)
    if weights is not None:
        _check_shapes("weights", {"weights": weights.shape}, {"weights": targets.shape})
        _check_float("weights", weights, trace.outputs.dtype)
        _check_finite("weights", weights, None)
    function: Any = getattr(losses, str(loss))
    with np.errstate(all="ignore"):
        function(trace.outputs, targets, weights)


def _check_about(about: dict[str, Any]) -> None:
    if unknown := about.keys() - {*METADATA_KEYS, "loss", "timeless"}:
        raise ValueError(f"about must have known entries, got {', '.join(sorted(unknown))}")
    for name in ("chain", "timeless"):
        if type(about.get(name, False)) is not bool:
            raise ValueError(f"{name} must be True or False, got {about[name]!r}")
    if isinstance(about.get("title"), dict | list):
        raise ValueError("title must be text")  # noqa: TRY004 - of a file, not of a call
    copy = about.get("copy")
    if copy is not None:
        match copy:
            case {"mode": "recall" | "echo", "bits_per_step": int(k), "bits": str(bits)} if k > 0 and len(copy) == 3:
                if not (bits and set(bits) <= {"0", "1"} and len(bits) % k == 0):
                    raise ValueError(f"bits of the copy task must be 0 and 1, {k} per step")
            case _:
                raise ValueError("copy must have a mode, bits_per_step and bits")


def _check_names(trace: TraceData, lead: tuple[int, ...]) -> None:
    """Check the number of names of inputs, outputs and steps, and the layout of the copy task."""
    about, x, O = trace.about, trace.x, trace.outputs.shape[-1]
    features = trace.layer[0].x.shape[-1]
    sizes = {"input_names": {features, *x.shape[len(lead) :]}, "output_names": {O}, "step_names": {*lead[-1:]}}
    for key, expected in sizes.items():
        names = about.get(key)
        if names is None or (key == "step_names" and "T" not in trace.axes):
            continue
        if not isinstance(names, list | tuple | str) or any(isinstance(name, dict | list) for name in names):
            raise ValueError(f"{key} must be a list of names")
        if {len(names)} != expected:
            raise ValueError(f"{key} must have {expected.pop()} names, got {len(names)}")
    copy = about.get("copy")
    if copy is not None:
        k, steps = copy["bits_per_step"], len(copy["bits"]) // copy["bits_per_step"]
        T = 2 * steps + 1 if copy["mode"] == "recall" else steps
        I = k + (copy["mode"] == "recall")
        fits = trace.axes == "T" and x.shape == (T, I) and k == O and not about.get("timeless")
        if not fits or about.get("loss") != "binary_cross_entropy":
            raise ValueError("arrays must have the shapes of the copy task")


def _check_chain(trace: TraceData) -> None:
    """Check that each LSTM has the output size of the previous one as its input size, and the sizes of the readout."""
    width = trace.layer[0].options.input_size
    for layers in _lstms(trace.layer):
        options = layers[0].options
        if options.input_size != width:
            raise ValueError(f"input_size of layer {layers[0].name!r} must be {width}, got {options.input_size}")
        width = options.output_size
    if trace.about.get("timeless") or (trace.readout is None and trace.outputs.shape[-1] != width):
        raise ValueError("outputs must be those of the last layer")


def _shapes(arrays: Any) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def _check_shapes(label: str, shapes: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]) -> None:
    for name in sorted({*shapes, *expected}):
        if shapes.get(name) != expected.get(name):
            missing = "none"
            raise ValueError(
                f"{label}: {name} must have the shape {expected.get(name, missing)}, got {shapes.get(name, missing)}"
            )


def _check_float(label: str, array: NDArray[Any], dtype: np.dtype[Any]) -> None:
    if array.dtype != dtype or dtype not in (np.float32, np.float64):
        raise ValueError(f"{label} must be float32 or float64, the dtype of the outputs, got {array.dtype}")


def _check_finite(label: str, array: NDArray[Any], valid: NDArray[np.bool_] | None) -> None:
    """Raise ValueError for NaN or infinite values, except at invalid steps."""
    if not np.isfinite(array if valid is None else array[valid]).all():
        raise ValueError(f"{label} must be finite")


def arrays_of(trace: TraceData) -> dict[str, NDArray[Any]]:
    """Return the arrays of a trace, except those of its layers, by name."""
    arrays = {name: getattr(trace, name) for name in ARRAYS}
    if trace.readout is not None:
        arrays |= {"readout.weight": trace.readout.weight, "readout.bias": trace.readout.bias}
    return {name: array for name, array in arrays.items() if array is not None}
