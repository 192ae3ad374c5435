"""The arrays of a trace: every quantity of every layer, direction and step, by its symbol in the equations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from glasscell.core.types import Array
from glasscell.escaping import escape
from glasscell.recurrent.config import LSTMConfig

ARRAYS = ("x", "outputs", "targets", "weights", "d_outputs", "d_x", "valid")
METADATA_KEYS = ("title", "input_names", "output_names", "step_names", "copy", "chain")
STATE_SYMBOLS = ("x", "h_prev", "c_prev", "z", "i", "f", "o", "g", "c", "tanh_c", "h")
GRADIENT_SYMBOLS = ("d_y", "d_h", "d_tanh_c", "d_c", "d_z", "d_x")
Loader = Callable[[str], Array]  # the array of a symbol


class TracedQuantity:
    """A quantity of a layer, with the equation that makes it: an array (T, rows), or (B, T, rows) of a batch."""

    def __init__(self, equation: str) -> None:
        self.__doc__ = equation

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, layer: None, owner: type) -> Self: ...
    @overload
    def __get__(self, layer: LayerTrace, owner: type) -> Array: ...
    def __get__(self, layer: LayerTrace | None, owner: type) -> Self | Array:
        """The array of a layer."""
        return self if layer is None else layer.value(self.name)


class LayerTrace:
    """One layer in one direction, in the order of time; read only.

    In an LSTM of another kind than the plain one, symbols mean what they mean in :mod:`glasscell.core.variants`. Where
    a sequence of a batch has no step there is NaN.

    Attributes
    ----------
    name : str
        Such as ``l0``, ``l1_reverse``, or with the name of the LSTM in front where a model has several.
    options : LSTMConfig
        Of the whole LSTM.
    reverse : bool
        Whether it runs from the last step to the first.
    weights : dict of str to array
        Under core's names: ``kernel`` (R, P + I + 1) has columns for h_{t-1}, x_t and the bias, and rows for the gates
        i f o g, H each.
    names : tuple of str
        The symbols that there are: those of gradients only if there was a target.
    """

    x = TracedQuantity("x_t: what the layer sees, (T, I)")
    h_prev = TracedQuantity("h_{t-1}: what it said before, (T, P)")
    c_prev = TracedQuantity("c_{t-1}: what it remembered, (T, H)")
    z = TracedQuantity("z = W [h_{t-1}; x_t; 1]: what gates and candidate are a function of, (T, R), H rows a gate")
    i = TracedQuantity("i = σ(z_i): the input gate, what to write, (T, H)")
    f = TracedQuantity("f = σ(z_f): the forget gate, what to keep, (T, H)")
    o = TracedQuantity("o = σ(z_o): the output gate, what to show, (T, H)")
    g = TracedQuantity("g = tanh(z_g): the candidate, what could be written, (T, H)")
    c = TracedQuantity("c_t = f ∘ c_{t-1} + i ∘ g: the cell state, (T, H)")
    tanh_c = TracedQuantity("tanh c_t: the cell as it is shown, (T, H)")
    h = TracedQuantity("h_t = o ∘ tanh c_t: the hidden state, (T, P)")

    d_y = TracedQuantity("what of dL/dh_t comes from outside the layer: from the loss or the layer above, (T, P)")
    d_h = TracedQuantity("dL/dh_t, from everything that used it, (T, P)")
    d_o = TracedQuantity("dL/do = dL/dh ∘ tanh c, (T, H)")
    d_tanh_c = TracedQuantity("dL/dtanh c = dL/dh ∘ o, (T, H)")
    d_c = TracedQuantity("dL/dc_t = dL/dtanh c ∘ (1 - tanh² c) + f_{t+1} ∘ dL/dc_{t+1}, (T, H)")
    d_i = TracedQuantity("dL/di = dL/dc ∘ g, (T, H)")
    d_f = TracedQuantity("dL/df = dL/dc ∘ c_{t-1}, (T, H)")
    d_g = TracedQuantity("dL/dg = dL/dc ∘ i, (T, H)")
    d_z = TracedQuantity("dL/dz: each of these times the slope of its activation, (T, R)")
    d_x = TracedQuantity("dL/dx_t = W_xᵀ dL/dz, (T, I)")

    def __init__(
        self,
        name: str,
        options: LSTMConfig,
        weights: Mapping[str, Array],
        names: tuple[str, ...],
        compute: Loader,
        axes: str = "TR",
        *,
        reverse: bool = False,
    ) -> None:
        self.name, self.options, self.reverse, self.axes = name, options, reverse, axes
        self.weights, self.names = dict(weights), names
        self._compute, self._known = compute, dict[str, Array]()

    @property
    def has_gradients(self) -> bool:
        """Whether there was a target."""
        return "d_z" in self.names

    @property
    def gates(self) -> tuple[str, ...]:
        """The order of the blocks of H rows in z and in the kernel."""
        return self.options.cell_config.gates

    @property
    def H(self) -> int:
        """Units."""
        return self.options.hidden_size

    @property
    def T(self) -> int:
        """Steps."""
        return sequence_length(self.f, self.axes)

    def value(self, name: str) -> Array:
        """The array of a symbol."""
        if name not in self.names:
            if name.startswith("d_") and isinstance(vars(LayerTrace).get(name), TracedQuantity):
                if self.has_gradients:
                    raise ValueError(f"there is no {name}: the gate {name[2:]} has no weights in this LSTM")
                raise ValueError(f"there is no {name}: gradients need a target, as in model.trace(x, y)")
            raise ValueError(f"there is no {name!r}; known are {', '.join(self.names)}")
        if name not in self._known:
            array = np.asarray(self._compute(name)).view()
            array.flags.writeable = False
            self._known[name] = array
        return self._known[name]

    def of_gate(self, name: str, gate: str) -> Array:
        """The rows of ``z`` or ``d_z`` of one gate: ``layer.of_gate("z", "f")``, (T, H)."""
        if gate not in self.gates:
            raise ValueError(f"there is no z of {gate!r}; this layer has those of {', '.join(self.gates)}")
        k = self.gates.index(gate)
        return self.value(name)[..., k * self.H : (k + 1) * self.H]

    def __getitem__(self, t: int | slice) -> LayerTrace:
        return self._mapped(*index_time(self.axes, t, self.T))

    def unit(self, k: int) -> LayerTrace:
        """One unit: its gates, states and gradients, (T,); z (T, 4). What is not of units stays whole."""
        check_index("unit", k, self.H)
        H, R = self.H, len(self.gates) * self.H

        def own(name: str) -> Array:
            array = self.value(name)
            if name in ("x", "d_x") or array.shape[-1] not in (H, R):
                return array
            return array[..., k] if array.shape[-1] == H else array[..., k % H :: H]

        return self._with(own, self.axes.replace("R", ""))

    def sequence(self, b: int, steps: NDArray[np.intp]) -> LayerTrace:
        """One sequence of a batch, and of it these steps."""
        return self._mapped(lambda array: array[b, steps], self.axes.replace("B", ""))

    def _mapped(self, change: Callable[[Array], Array], axes: str) -> LayerTrace:
        return self._with(lambda name: change(self.value(name)), axes)

    def _with(self, compute: Loader, axes: str) -> LayerTrace:
        return LayerTrace(self.name, self.options, self.weights, self.names, compute, axes, reverse=self.reverse)

    def __reduce__(self) -> tuple[Any, ...]:
        """What `pickle` and `deepcopy` make it from: every array, as functions that compute them stay behind."""
        given = self.name, self.options, self.weights, {name: self.value(name) for name in self.names}
        return _restored, (*given, self.axes, self.reverse)

    def to_dict(self) -> dict[str, Array]:
        """A copy of every array, by symbol."""
        return {name: self.value(name).copy() for name in self.names}

    def __repr__(self) -> str:
        return f"LayerTrace({self.name!r}, {'×'.join(map(str, self.f.shape))}: {', '.join(self.names)})"


def _restored(
    name: str,
    options: LSTMConfig,
    weights: dict[str, Array],
    values: dict[str, Array],
    axes: str,
    reverse: bool,
) -> LayerTrace:
    return LayerTrace(name, options, weights, tuple(values), values.__getitem__, axes, reverse=reverse)


@dataclass(frozen=True)
class Readout:
    """The linear map from the outputs of the last LSTM to those of the model: ``weight`` (O, H), ``bias`` (O,)."""

    weight: Array
    bias: Array


@dataclass(frozen=True, repr=False)
class TraceData:
    """What happened inside a model: ``trace.layer[0].f`` are the forget gates of the first layer, (T, H).

    ``trace[t]`` is one step, ``trace[a:b]`` are some, ``trace.unit(k)`` is one unit of the last layer, and
    ``trace.sequence(b)`` one sequence of a batch.

    Attributes
    ----------
    layer : tuple of LayerTrace
        From the input upwards; with two directions forward and reverse of each layer in turn.
    x : array (T, I)
        What the model was given; class numbers (T,) in front of an Embedding.
    outputs : array (T, O)
        What it answered.
    targets, weights : array, optional
        What it was to answer, and how much each answer counts; of the same shape.
    loss : float, optional
    d_outputs, d_x : array, optional
        Gradients of the loss on outputs and inputs. On class numbers there is none.
    readout : Readout, optional
        If the outputs are a linear map of the last LSTM's.
    valid : array (B, T) of bool, optional
        Which steps the sequences of a batch have. Default: all.
    about : dict
        What is not numbers, and can be written as JSON: title, names of inputs, outputs and steps, the loss, the task.
    axes : str
        ``"BT"``, or ``"T"`` of a single sequence, ``""`` of one step.
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
        """Steps."""
        return sequence_length(self.x, self.axes)

    @property
    def has_gradients(self) -> bool:
        """Whether there was a target."""
        return self.d_outputs is not None

    def __getitem__(self, t: int | slice) -> Self:
        change, axes = index_time(self.axes + "R", t, self.T)
        layers = tuple(layer[t] for layer in self.layer)
        arrays = {name: change(array) for name, array in self._in_time()}
        about = {name: value for name, value in self.about.items() if name != "copy"}  # which is of all steps
        if about.get("step_names") is not None and isinstance(t, slice):
            about = about | {"step_names": about["step_names"][t]}
        return replace(self, layer=layers, axes=axes.removesuffix("R"), about=about, **arrays)

    def unit(self, k: int, layer: int = -1) -> LayerTrace:
        """One unit: ``trace.unit(3).c`` is its cell, (T,)."""
        return self.get_layer(layer).unit(k)

    def get_layer(self, layer: int) -> LayerTrace:
        """The layer of this number; from the end if it is negative."""
        check_index("layer", layer, len(self.layer))
        return self.layer[layer]

    def sequence(self, b: int) -> Self:
        """One sequence of a batch, with the steps that it has."""
        if "B" not in self.axes:
            raise ValueError("this is the trace of one sequence; there is no batch to choose from")
        check_index("sequence", b, len(self.x))
        steps = np.arange(self.T) if self.valid is None else np.flatnonzero(self.valid[b])
        in_time = dict(self._in_time())
        chosen = {name: array[b, steps] for name, array in in_time.items() if name != "valid"}
        for name in ("outputs", "targets", "weights", "d_outputs"):
            array = getattr(self, name)
            if array is not None and name not in in_time:
                chosen[name] = array[b]
        layers = tuple(layer.sequence(b, steps) for layer in self.layer)
        about = self.about
        if about.get("step_names") is not None:
            about = about | {"step_names": [about["step_names"][t] for t in steps]}
        return replace(self, layer=layers, axes=self.axes.replace("B", ""), valid=None, about=about, **chosen)

    def one(self) -> Self:
        """Itself, if it is of one sequence with its steps: what can be drawn."""
        if self.axes == "T":
            return self
        what = "a batch: choose one of it, trace.sequence(0)" if "B" in self.axes else "one step alone"
        raise ValueError(f"this needs the trace of one sequence, and was given that of {what}")

    def _in_time(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """The arrays that have an axis of time."""
        names = {"x", "d_x", "valid"} if self.about.get("timeless") else {*ARRAYS}
        for name in ARRAYS:
            array = getattr(self, name)
            if name in names and array is not None:
                yield name, array

    def __repr__(self) -> str:
        loss = "" if self.loss is None else f", loss {self.loss:.4g}"
        layers = ", ".join(f"{escape(layer.name)} {'×'.join(map(str, layer.f.shape))}" for layer in self.layer)
        return f"Trace({escape(self.about.get('title', ''))}: {layers}{loss})"

    def to_dict(self) -> dict[str, Any]:
        """A copy of everything: arrays by name, and under ``layers`` those of each layer, by symbol."""
        arrays = {name: getattr(self, name) for name in ARRAYS}
        layers = [
            {"name": layer.name, "weights": {name: w.copy() for name, w in layer.weights.items()}} | layer.to_dict()
            for layer in self.layer
        ]
        copies = {name: array.copy() for name, array in arrays.items() if array is not None}
        return copies | {"loss": self.loss, "layers": layers, "about": dict(self.about)}


def check_index(name: str, index: int, size: int) -> None:
    """Refuse what is out of range; negative numbers count from the end."""
    if isinstance(index, bool) or not isinstance(index, int | np.integer):
        raise TypeError(f"{name} must be an integer, and is {index!r}")
    if not -size <= index < size:
        raise IndexError(f"{name} {index} is out of range; there are {size}, from 0 to {size - 1}")


def sequence_length(array: NDArray[Any], axes: str) -> int:
    """T of an array of these axes."""
    if "T" not in axes:
        raise ValueError("this is one step already: it has no steps")
    return int(array.shape[axes.index("T")])


def index_time(axes: str, t: int | slice, T: int) -> tuple[Callable[[Any], Any], str]:
    """How to take a step, or some, from an array of these axes; and the axes then."""
    before = (slice(None),) * axes.index("T")
    if isinstance(t, slice):
        return lambda array: array[(*before, t)], axes
    check_index("step", t, T)
    return lambda array: array[(*before, t)], axes.replace("T", "")
