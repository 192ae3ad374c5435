"""The trace of an LSTM layer in one direction: every quantity by its symbol in the equations, read from a tape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self, overload

import numpy as np
from numpy.typing import NDArray

from glasscell.core import linear, lstm_tape, variants
from glasscell.core.step_gradients import StepGradients, StepGradientsByLayer
from glasscell.core.time_order import TimeOrder
from glasscell.core.types import Array
from glasscell.recurrent.checkpointing import NO_GATES, CheckpointedTape
from glasscell.recurrent.config import LSTMConfig

if TYPE_CHECKING:
    from glasscell.recurrent.tape import LSTMTape

STATE_SYMBOLS = ("x", "h_prev", "c_prev", "z", "i", "f", "o", "g", "c", "tanh_c", "h")
GRADIENT_SYMBOLS = ("d_y", "d_h", "d_tanh_c", "d_c", "d_z", "d_x")
Loader = Callable[[str], Array]  # from a symbol to its array


class TracedQuantity:
    """A quantity of a layer, documented by its equation: an array (T, rows), or (B, T, rows) for a batch."""

    def __init__(self, equation: str) -> None:
        self.__doc__ = equation

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, layer: None, owner: type) -> Self: ...
    @overload
    def __get__(self, layer: LayerTrace, owner: type) -> Array: ...
    def __get__(self, layer: LayerTrace | None, owner: type) -> Self | Array:
        """Return the array of a layer."""
        return self if layer is None else layer.value(self.name)


class LayerTrace:
    """The quantities of one layer in one direction, in time order; read only.

    For an LSTM other than the standard one, :mod:`glasscell.core.variants` defines the symbols. Invalid steps of a
    batch are NaN.

    Attributes
    ----------
    name : str
        Such as ``l0`` or ``l1_reverse``; prefixed by the name of the LSTM if a model has several.
    options : LSTMConfig
        The configuration of the whole LSTM.
    reverse : bool
        Whether it processes the steps from the last to the first.
    weights : dict of str to array
        By the names of :mod:`glasscell.core`: ``kernel`` (R, P + I + 1) has columns for h_{t-1}, x_t and the bias, and
        H rows for each of the gates i f o g.
    names : tuple of str
        The symbols that exist; gradients exist only with a target.
    interventions : tuple of str
        Descriptions of the interventions under which the layer ran: then the arrays have the values that acted, and are
        not related by the equations alone. The gradient on a symbol is that on the value that acted, but d_z is the
        one on z as computed from h_{t-1} and x_t, d_x the one on the input before the intervention.
    """

    default_symbols: ClassVar[tuple[str, ...]] = ("i", "f", "o", "g", "c")  # of overviews
    state: ClassVar[str] = "c"  # orders the units of overviews; the gradient whose norm they show is that on it
    gate_symbols: ClassVar[tuple[str, ...]] = ("i", "f", "o")
    keep_gate: ClassVar[str] = "f"  # the share of the state that a step keeps; "": no gate
    gate_rows: ClassVar[tuple[str, ...]] = ("z", "d_z")  # with H rows for each gate
    symbol_names: ClassVar[Mapping[str, str]] = {}  # different from those of an LSTM

    x = TracedQuantity("x_t: input of the layer, (T, I)")
    h_prev = TracedQuantity("h_{t-1}: previous hidden state, (T, P)")
    c_prev = TracedQuantity("c_{t-1}: previous cell state, (T, H)")
    z = TracedQuantity("z = W [h_{t-1}; x_t; 1]: pre-activations, (T, R), H rows per gate")
    i = TracedQuantity("i = σ(z_i): input gate, (T, H)")
    f = TracedQuantity("f = σ(z_f): forget gate, (T, H)")
    o = TracedQuantity("o = σ(z_o): output gate, (T, H)")
    g = TracedQuantity("g = tanh(z_g): candidate, (T, H)")
    c = TracedQuantity("c_t = f ∘ c_{t-1} + i ∘ g: cell state, (T, H)")
    tanh_c = TracedQuantity("tanh c_t: tanh of the cell state, (T, H)")
    h = TracedQuantity("h_t = o ∘ tanh c_t: hidden state, (T, P)")

    d_y = TracedQuantity("dL/dy_t: the part of dL/dh_t from the loss or the next layer, (T, P)")
    d_h = TracedQuantity("dL/dh_t: total gradient on the hidden state, (T, P)")
    d_o = TracedQuantity("dL/do = dL/dh ∘ tanh c, (T, H)")
    d_tanh_c = TracedQuantity("dL/dtanh c = dL/dh ∘ o, (T, H)")
    d_c = TracedQuantity("dL/dc_t = dL/dtanh c ∘ (1 - tanh² c) + f_{t+1} ∘ dL/dc_{t+1}, (T, H)")
    d_i = TracedQuantity("dL/di = dL/dc ∘ g, (T, H)")
    d_f = TracedQuantity("dL/df = dL/dc ∘ c_{t-1}, (T, H)")
    d_g = TracedQuantity("dL/dg = dL/dc ∘ i, (T, H)")
    d_z = TracedQuantity("dL/dz: gradient on a gate times the derivative of its activation, (T, R)")
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
        interventions: tuple[str, ...] = (),
    ) -> None:
        self.name, self.options, self.reverse, self.axes = name, options, reverse, axes
        self.interventions = interventions
        self.weights, self.names = dict(weights), names
        self._compute, self._cache = compute, dict[str, Array]()

    @property
    def has_gradients(self) -> bool:
        """Whether gradients exist: the trace has a target."""
        return "d_z" in self.names

    @property
    def intervened(self) -> set[str]:
        """The symbols on which an intervention acted."""
        return {text.split(" ")[0] for text in self.interventions}

    @property
    def gates(self) -> tuple[str, ...]:
        """The gates in the order of their H rows in z and in the kernel."""
        return self.options.gates

    @property
    def H(self) -> int:
        """Number of units."""
        return self.options.hidden_size

    @property
    def T(self) -> int:
        """Number of steps."""
        return sequence_length(self.x, self.axes)

    def rows(self, I: int, *, gradients: bool) -> dict[str, int]:
        """Return the number of rows of each symbol, of a layer with I inputs."""
        names = [*STATE_SYMBOLS, *((*GRADIENT_SYMBOLS, *(f"d_{gate}" for gate in self.gates)) if gradients else ())]
        P, R = self.options.state_size, len(self.gates) * self.H
        rows = {"x": I, "d_x": I, "z": R, "d_z": R} | dict.fromkeys(("h", "h_prev", "d_y", "d_h"), P)
        return {name: rows.get(name, self.H) for name in names}

    def weight_shapes(self, I: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the weights, of a layer with I inputs."""
        return self.options.shapes_of(I)

    def value(self, name: str) -> Array:
        """Return the array of a symbol.

        Raises
        ------
        ValueError
            If the symbol does not exist, or is a gradient and the trace has no target.
        """
        if name not in self.names:
            if name.startswith("d_") and isinstance(vars(LayerTrace).get(name), TracedQuantity):
                if self.has_gradients:
                    raise ValueError(f"{name} does not exist: the gate {name[2:]} has no weights in this LSTM")
                raise ValueError(f"{name} needs a target, as in model.trace(x, y)")
            raise ValueError(f"symbol must be one of {', '.join(self.names)}, got {name!r}")
        if name not in self._cache:
            array = np.asarray(self._compute(name)).view()
            array.flags.writeable = False
            self._cache[name] = array
        return self._cache[name]

    def gate(self, name: str, gate: str) -> Array:
        """Return the columns of ``z`` or ``d_z`` of one gate: ``layer.gate("z", "f")``, (T, H)."""
        if gate not in self.gates:
            raise ValueError(f"gate must be one of {', '.join(self.gates)}, got {gate!r}")
        k = self.gates.index(gate)
        return self.value(name)[..., k * self.H : (k + 1) * self.H]

    def __getitem__(self, t: int | slice) -> LayerTrace:
        return self._map(*index_time(self.axes, t, self.T))

    def unit(self, k: int) -> LayerTrace:
        """Return one unit: its gates, states and gradients, (T,), and z, (T, 4). Arrays without units stay whole."""
        check_index("unit", k, self.H)
        H, R = self.H, len(self.gates) * self.H

        def values_of_unit(name: str) -> Array:
            array = self.value(name)
            if name in ("x", "d_x") or array.shape[-1] not in (H, R):
                return array
            return array[..., k] if array.shape[-1] == H else array[..., k % H :: H]

        return self._replace(values_of_unit, self.axes.replace("R", ""))

    def sequence(self, b: int, steps: NDArray[np.intp]) -> LayerTrace:
        """Return these steps of one sequence of a batch."""
        return self._map(lambda array: array[b, steps], self.axes.replace("B", ""))

    def _map(self, function: Callable[[Array], Array], axes: str) -> LayerTrace:
        return self._replace(lambda name: function(self.value(name)), axes)

    def _replace(self, compute: Loader, axes: str) -> LayerTrace:
        about: dict[str, Any] = {"reverse": self.reverse, "interventions": self.interventions}
        return type(self)(self.name, self.options, self.weights, self.names, compute, axes, **about)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the arguments for `pickle` and `deepcopy`: every array, because loaders cannot be pickled."""
        values = {name: self.value(name) for name in self.names}
        about = self.axes, self.reverse, self.interventions
        return _restore, (type(self), self.name, self.options, self.weights, values, *about)

    def to_dict(self) -> dict[str, Array]:
        """Return a copy of every array, by symbol."""
        return {name: self.value(name).copy() for name in self.names}

    def __repr__(self) -> str:
        shape, under = "×".join(map(str, self.h.shape)), "".join(f"; {text}" for text in self.interventions)
        return f"{type(self).__name__}({self.name!r}, {shape}: {', '.join(self.names)}{under})"


def _restore(
    cls: type[LayerTrace],
    name: str,
    options: LSTMConfig,
    weights: dict[str, Array],
    values: dict[str, Array],
    axes: str,
    reverse: bool,
    interventions: tuple[str, ...] = (),
) -> LayerTrace:
    about: dict[str, Any] = {"reverse": reverse, "interventions": interventions}
    return cls(name, options, weights, tuple(values), values.__getitem__, axes, **about)


def check_index(name: str, index: int, size: int) -> None:
    """Raise an error unless an index is an integer in range; negative numbers count from the end."""
    if isinstance(index, bool) or not isinstance(index, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {index!r}")
    if not -size <= index < size:
        raise IndexError(f"{name} must be from {-size} to {size - 1}, got {index}")


def sequence_length(array: NDArray[Any], axes: str) -> int:
    """Return T of an array with these axes."""
    if "T" not in axes:
        raise ValueError("trace must have a time axis, got one step")
    return int(array.shape[axes.index("T")])


def index_time(axes: str, t: int | slice, T: int) -> tuple[Callable[[Any], Any], str]:
    """Return a function that selects a step, or a slice of steps, of arrays with these axes; and the resulting axes."""
    leading = (slice(None),) * axes.index("T")
    if isinstance(t, slice):
        return lambda array: array[(*leading, t)], axes
    check_index("step", t, T)
    return lambda array: array[(*leading, t)], axes.replace("T", "")


def layer_traces(
    tape: LSTMTape, step_gradients: StepGradientsByLayer | None, prefix: str = ""
) -> tuple[LayerTrace, ...]:
    """Return one trace per layer and direction of an LSTM."""
    options = tape.options
    names, axes = _names(options.gates, gradients=step_gradients is not None), "TR" if tape.unbatched else "BTR"
    traces = []
    for k, (direction, (suffix, _, reverse)) in enumerate(zip(tape.directions, options.directions, strict=True)):
        direction_tape = direction.tape
        if isinstance(direction_tape, CheckpointedTape):
            raise ValueError(NO_GATES)  # noqa: TRY004 - the user called with an option
        gradients = None if step_gradients is None else step_gradients[k]
        compute = TapeReader(direction_tape, tape, direction.order, gradients, reverse=reverse)
        weights = (
            {"kernel": direction_tape.kernel} if isinstance(direction_tape, lstm_tape.Tape) else direction_tape.weights
        )
        hook: Any = getattr(direction_tape, "hook", None)
        about: dict[str, Any] = {"reverse": reverse, "interventions": () if hook is None else hook.texts}
        traces.append(LayerTrace(f"{prefix}{suffix[1:]}", options, weights, names, compute, axes, **about))
    return tuple(traces)


@cache
def _names(gates: tuple[str, ...], *, gradients: bool) -> tuple[str, ...]:
    return STATE_SYMBOLS + ((*GRADIENT_SYMBOLS, *(f"d_{gate}" for gate in gates)) if gradients else ())


class TapeReader:
    """Reads the arrays of a layer from its tape, and from its step gradients, which are computed on first access."""

    def __init__(
        self,
        direction_tape: lstm_tape.Tape | variants.Tape,
        tape: LSTMTape,
        order: TimeOrder | None,
        gradients: Callable[[], StepGradients] | None,
        *,
        reverse: bool,
    ) -> None:
        self.tape, self.options, self.order, self.gradients = direction_tape, tape.options, order, gradients
        self.reverse, self.single = reverse, tape.unbatched

    def __call__(self, name: str) -> Array:
        """Return the array of a symbol in time order."""
        steps = self._gradients(name[2:]) if name.startswith("d_") else self._states(name)
        return to_time_order(steps, self.order, reverse=self.reverse, single=self.single)

    def _states(self, name: str) -> Array:
        """Return a gate or a state in processing order, (T, rows, B)."""
        if name in ("h_prev", "c_prev"):
            return self.tape.h_with_initial[:-1] if name == "h_prev" else self.tape.c_with_initial[:-1]
        if name == "z" and isinstance(self.tape, lstm_tape.Tape):
            return linear.batched_matmul(self.tape.kernel, self.tape.u)
        array: Array = getattr(self.tape, name)
        return array

    def _gradients(self, name: str) -> Array:
        """Return the gradient on a symbol in processing order, (T, rows, B)."""
        assert self.gradients is not None  # otherwise the trace has no gradient symbols  # noqa: S101
        gradients, gates = self.gradients(), self.options.gates
        if name in gates:
            k, H = gates.index(name), self.tape.H
            return gradients.da[:, k * H : (k + 1) * H]
        if name == "tanh_c":
            return _output_activation_gradient(self.tape, gradients.dh, self.options.zoneout) * self.tape.o
        array: Array = getattr(gradients, f"d{name}")
        return array


def _output_activation_gradient(tape: lstm_tape.Tape | variants.Tape, dh: Array, zoneout: float) -> Array:
    """Return the gradient on o ∘ tanh c: backward through zoneout and the projection."""
    d = dh * dh.dtype.type(1 - zoneout)
    if isinstance(tape, lstm_tape.Tape):
        return d
    if tape.hook is not None:  # dh is the gradient on the h that acted
        for t in reversed(range(tape.T)):
            tape.hook.backward("h", t, d[t])
    if "projection" not in tape.weights:
        return d
    return linear.batched_matmul(tape.weights["projection"].T, d)


def to_time_order(steps: Array, order: TimeOrder | None, *, reverse: bool, single: bool) -> Array:
    """Return (T, rows, B) in processing order as (T, rows) or (B, T, rows) in time order; invalid steps are NaN."""
    if order is not None:
        valid = (order.inverse < order.lengths)[:, None, :]
        steps = np.where(valid, order.to_time_order(steps), steps.dtype.type(np.nan))
    elif reverse:
        steps = steps[::-1]
    return steps[:, :, 0] if single else steps.transpose(2, 0, 1)
