"""The arrays of a trace: layers, inputs, outputs, targets and gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from glasscell.core.types import Array
from glasscell.escaping import escape
from glasscell.trace.layer_trace import LayerTrace, check_index, index_time, sequence_length

ARRAYS = ("x", "outputs", "targets", "weights", "d_outputs", "d_x", "valid")
METADATA_KEYS = ("title", "input_names", "output_names", "step_names", "copy", "chain")


@dataclass(frozen=True)
class Readout:
    """The affine map from the outputs of the last layer to those of the model: ``weight`` (O, H), ``bias`` (O,)."""

    weight: Array
    bias: Array


@dataclass(frozen=True, repr=False)
class TraceData:
    """All quantities of a model in one pass: ``trace.layer[0].f`` are the forget gates of the first layer, (T, H).

    ``trace[t]`` is one step, ``trace[a:b]`` a range of steps, ``trace.unit(k)`` one unit of the last layer, and
    ``trace.sequence(b)`` one sequence of a batch.

    Attributes
    ----------
    layer : tuple of LayerTrace
        From the first layer to the last; with two directions, forward and reverse of each layer in turn.
    x : array (T, I)
        Input of the model; class numbers (T,) for an Embedding.
    outputs : array (T, O)
        Output of the model.
    targets, weights : array, optional
        Targets and weights of the loss, of the same shape.
    loss : float, optional
        Value of the loss.
    d_outputs, d_x : array, optional
        Gradients of the loss on outputs and inputs. Class numbers have no gradient.
    readout : Readout, optional
        The affine map after the last layer, if the model has one.
    valid : array (B, T) of bool, optional
        The valid steps of a batch. Default: all.
    about : dict
        Metadata that can be written as JSON: title, names of inputs, outputs and steps, the loss, the task.
    axes : str
        ``"BT"``; ``"T"`` for a single sequence, ``""`` for one step.
    """

    layer: tuple[LayerTrace, ...]
    x: NDArray[Any]
    outputs: Array
    targets: NDArray[Any] | None = None
    weights: Array | None = None
    loss: float | None = None
    d_outputs: Array | None = None
    d_x: Array | None = None
    readout: Readout | None = None
    valid: NDArray[np.bool_] | None = None
    about: dict[str, Any] = field(default_factory=dict)
    axes: str = "T"

    @property
    def T(self) -> int:
        """Number of steps."""
        return sequence_length(self.x, self.axes)

    @property
    def has_gradients(self) -> bool:
        """Whether gradients exist: the trace has a target."""
        return self.d_outputs is not None

    def __getitem__(self, t: int | slice) -> Self:
        index, axes = index_time(self.axes + "R", t, self.T)
        layers = tuple(layer[t] for layer in self.layer)
        arrays = {name: index(array) for name, array in self._in_time()}
        about = {name: value for name, value in self.about.items() if name != "copy"}  # describes all steps
        if about.get("step_names") is not None and isinstance(t, slice):
            about = about | {"step_names": about["step_names"][t]}
        return replace(self, layer=layers, axes=axes.removesuffix("R"), about=about, **arrays)

    def unit(self, k: int, layer: int = -1) -> LayerTrace:
        """Return one unit: ``trace.unit(3).c`` is its cell state, (T,)."""
        return self.get_layer(layer).unit(k)

    def get_layer(self, layer: int) -> LayerTrace:
        """Return a layer by number; negative numbers count from the last layer."""
        check_index("layer", layer, len(self.layer))
        return self.layer[layer]

    def sequence(self, b: int) -> Self:
        """Return one sequence of a batch, with its valid steps."""
        if "B" not in self.axes:
            raise ValueError("sequence() needs the trace of a batch, got that of one sequence")
        check_index("sequence", b, len(self.x))
        steps = np.arange(self.T) if self.valid is None else np.flatnonzero(self.valid[b])
        time_arrays = dict(self._in_time())
        selection = {name: array[b, steps] for name, array in time_arrays.items() if name != "valid"}
        for name in ("outputs", "targets", "weights", "d_outputs"):
            array = getattr(self, name)
            if array is not None and name not in time_arrays:
                selection[name] = array[b]
        layers = tuple(layer.sequence(b, steps) for layer in self.layer)
        about = self.about
        if about.get("step_names") is not None:
            about = about | {"step_names": [about["step_names"][t] for t in steps]}
        return replace(self, layer=layers, axes=self.axes.replace("B", ""), valid=None, about=about, **selection)

    def require_single_sequence(self) -> Self:
        """Return the trace itself if it is of one sequence.

        Raises
        ------
        ValueError
            If it is of a batch or of one step.
        """
        if self.axes == "T":
            return self
        kind = "a batch: choose trace.sequence(0)" if "B" in self.axes else "one step"
        raise ValueError(f"trace must be of one sequence, got {kind}")

    def _in_time(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield the arrays with a time axis, by name."""
        names = {"x", "d_x", "valid"} if self.about.get("timeless") else {*ARRAYS}
        for name in ARRAYS:
            array = getattr(self, name)
            if name in names and array is not None:
                yield name, array

    def __repr__(self) -> str:
        loss = "" if self.loss is None else f", loss {self.loss:.4g}"
        layers = ", ".join(f"{escape(layer.name)} {'×'.join(map(str, layer.h.shape))}" for layer in self.layer)
        return f"Trace({escape(self.about.get('title', ''))}: {layers}{loss})"

    def to_dict(self) -> dict[str, Any]:
        """Return a copy of everything: arrays by name, and in ``layers`` the arrays of each layer by symbol."""
        arrays = {name: getattr(self, name) for name in ARRAYS}
        layers = [
            {"name": layer.name, "weights": {name: w.copy() for name, w in layer.weights.items()}} | layer.to_dict()
            for layer in self.layer
        ]
        copies = {name: array.copy() for name, array in arrays.items() if array is not None}
        return copies | {"loss": self.loss, "layers": layers, "about": dict(self.about)}
