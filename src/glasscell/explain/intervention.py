"""The description of an intervention: an operation on a symbol of a layer, at some units and steps."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core.types import Array
from glasscell.trace.layer_trace import LayerTrace
from glasscell.trace.trace import Trace
from glasscell.validation import boolean, choice, finite_array, integer, real_array

Selection: TypeAlias = "int | slice | ArrayLike | None"

LSTM_SYMBOLS = ("x", "z_i", "z_f", "z_o", "z_g", "i", "f", "o", "g", "c", "h", "W_h")
RNN_SYMBOLS = ("x", "z", "h", "W_h")
GRU_SYMBOLS = ("x", "a_r", "a_z", "r", "z", "q", "a_n", "n", "h", "W_h")
SYMBOLS = tuple(dict.fromkeys([*LSTM_SYMBOLS, *RNN_SYMBOLS, *GRU_SYMBOLS]))
OPERATIONS = ("scale", "set", "clamp", "add", "freeze", "patch", "cut")
DOUBLE = np.dtype(np.float64)
LIMIT = 2**63  # of numbers of steps


@dataclass(frozen=True, eq=False, repr=False)
class Intervention:
    """An operation on a symbol of a recurrent layer, at some units and steps.

    Within a step the equations are computed in their order, and each intervention acts as soon as its symbol has been
    computed: all that is computed from it later has the changed value. An intervention on a value of a computation,
    instead of on its inputs, is that of Pearl (2009), Causality, chapter 3; `patch` is activation patching, Vig et al.
    (2020), "Investigating gender bias in language models using causal mediation analysis".

    Parameters
    ----------
    symbol : str
        Of an LSTM: "x" (the input of the layer), "z_i", "z_f", "z_o", "z_g" (the arguments of the activations), the
        gates and the candidate "i", "f", "o", "g", the states "c" and "h", or "W_h" (the recurrent weights). Of an RNN
        "x", "z", "h" and "W_h"; of a GRU "x", "a_r", "a_z", "a_n" (the arguments of the activations), "r", "z", "q",
        "n", "h" and "W_h", as in :mod:`glasscell.core.gru`: the state that a gate scales is read as well if W_h is cut.
    scale : float or array (n,)
        Multiply the value. Arrays have one number for each of the n units, in the order of `units`.
    set : float or array (n,)
        Replace the value.
    clamp : (low, high)
        Limit the value; one of them may be None: no limit. A gradient passes strictly between the limits only.
    add : float or array (n,)
        Add to the value.
    freeze : bool
        Hold the value of the step that was processed before. At the first step: the initial state for "c" and "h", no
        effect otherwise, so that the first step alone is an error.
    patch : Trace, LayerTrace, or array (T, rows) or (B, T, rows)
        Replace the value by that of another pass at the same step; without B the same for all sequences. An array has
        all rows of the symbol. No gradient passes.
    cut : bool
        For "W_h": the recurrent weights are 0; with `units`, h of these units is not read by any unit. Peepholes and
        the cell state are not affected.
    layer : int or str, optional
        Number of the recurrent layer, from the input upwards over all recurrent layers of the model, or the name of one
        in ``model.trace``, such as "l0" or "l0_reverse". None: all. Default: 0.
    direction : {"forward", "reverse"}, optional
        Default: both, if the layer has both.
    units : int, list, slice or bool mask, optional
        Rows of the symbol: features for "x", units otherwise. Default: all.
    steps : int, list, slice or bool mask, optional
        Steps of the sequence in time order, from 0, also in the reverse direction. A slice may reach beyond the end. At
        least one must be a step of a sequence of the pass. Default: all.

    Raises
    ------
    TypeError, ValueError
        If there is not exactly one operation, or an argument is not valid. What depends on the model is checked by
        :func:`glasscell.explain.intervene`.

    Examples
    --------
    >>> Intervention("f", scale=0.9, units=[3], steps=slice(8, None))
    Intervention('f', scale=0.9, units=[3], steps=slice(8, None, None))
    """

    symbol: str
    scale: Any = None
    set: Any = None
    clamp: tuple[Any, Any] | None = None
    add: Any = None
    freeze: bool = False
    patch: Trace | LayerTrace | ArrayLike | None = None
    cut: bool = False
    layer: int | str | None = 0
    direction: Literal["forward", "reverse"] | None = None
    units: Selection = None
    steps: Selection = None

    def __post_init__(self) -> None:
        """Raise an error for arguments that are not valid for any model."""
        choice("symbol", self.symbol, SYMBOLS)
        boolean("freeze", self.freeze)
        boolean("cut", self.cut)
        operations = self._operations()
        if len(operations) != 1:
            got = " and ".join(operations) or "none"
            raise ValueError(f"an intervention must have exactly one of {', '.join(OPERATIONS)}, got {got}")
        if (self.symbol == "W_h") != self.cut:
            raise ValueError(
                f"cut must be True for 'W_h', and for no other symbol, got {operations[0]} of {self.symbol!r}"
            )
        choice("direction", self.direction, ("forward", "reverse", None))
        if self.layer is not None and not isinstance(self.layer, str):
            integer("layer", self.layer)
        self._check_operation()
        _check_steps(self.steps)

    @property
    def operation(self) -> str:
        """The name of the operation."""
        return self._operations()[0]

    def _operations(self) -> list[str]:
        switches = {"freeze": self.freeze, "cut": self.cut}
        return [name for name in OPERATIONS if switches.get(name, getattr(self, name) is not None)]

    def _check_operation(self) -> None:
        for name in ("scale", "set", "add"):
            value = getattr(self, name)
            if value is not None and _numbers(name, value).ndim > 1:
                raise ValueError(f"{name} must be a number or have one for each unit, got shape {np.shape(value)}")
        if self.clamp is not None:
            if np.ndim(np.asarray(self.clamp, object)) == 0 or len(self.clamp) != 2:
                raise TypeError(f"clamp must be a pair (low, high), got {self.clamp!r:.100}")
            low, high = self.limits()
            if low.ndim and high.ndim and low.shape != high.shape:
                raise ValueError(f"clamp must have limits of one shape, got {low.shape} and {high.shape}")
            if not (low.ndim < 2 and high.ndim < 2 and np.all(low <= high)):
                raise ValueError(f"clamp must have low <= high, got {self.clamp!r:.100}")
            if all(limit is None for limit in self.clamp):
                raise ValueError(f"clamp must have at least one limit, got {self.clamp!r}")
        if self.patch is not None and not isinstance(self.patch, Trace | LayerTrace):
            shape = real_array("patch", self.patch, DOUBLE)[0].shape
            if len(shape) not in (2, 3) or 0 in shape:
                raise ValueError(f"patch must be a trace or have shape (T, rows) or (B, T, rows), got {shape}")

    def limits(self) -> tuple[Array, Array]:
        """Return the limits of `clamp`."""
        assert self.clamp is not None  # noqa: S101
        low, high = self.clamp
        return (
            np.array(-np.inf) if low is None else _numbers("low", low),
            np.array(np.inf) if high is None else _numbers("high", high),
        )

    def description(self) -> str:
        """Return the operation in words, such as "f scaled by 0.9 in units [3] at steps from 8 on"."""
        value = getattr(self, self.operation)
        if self.operation in ("freeze", "patch", "cut"):
            text = {"freeze": "held at its previous value", "patch": "patched", "cut": "cut"}[self.operation]
        else:
            text = {"scale": "scaled by", "set": "set to", "clamp": "limited to", "add": "plus"}[self.operation]
            text = f"{text} {_short(_rounded(value))}"
        return f"{self.symbol} {text}{_where('in unit', self.units)}{_where('at step', self.steps)}"

    def __repr__(self) -> str:
        defaults = {field.name: field.default for field in fields(self)}
        values = {name: getattr(self, name) for name in defaults if name != "symbol"}
        texts = [f"{name}={_short(value)}" for name, value in values.items() if value is not defaults[name]]
        texts = [text for text in texts if text != "layer=0"]
        return f"Intervention({', '.join([repr(self.symbol), *texts])})"


def _numbers(name: str, value: ArrayLike) -> Array:
    """Return finite numbers; truth values are none."""
    array = finite_array(name, value, DOUBLE)
    if np.asarray(value).dtype == np.bool_:
        raise TypeError(f"{name} must be a number or have one for each unit, got {value!r:.100}")
    return array


def _where(text: str, selection: Selection) -> str:
    """Return the units or steps of a description."""
    if selection is None:
        return ""
    if isinstance(selection, slice):
        start, stop, step = selection.start or 0, selection.stop, selection.step or 1
        end = "on" if stop is None else f"to before {stop}"
        return f" {text}s from {start} {end}{'' if step == 1 else f' in steps of {step}'}"
    return f" {text}{'s' if np.ndim(np.asarray(selection)) else ''} {_short(selection)}"


def _rounded(value: Any) -> Any:
    """Return a value with numbers of six significant digits: 0.9 instead of 0.8999999999999999."""
    if isinstance(value, list | tuple):
        return type(value)(map(_rounded, value))
    if isinstance(value, np.ndarray):
        return np.reshape([_rounded(number) for number in value.flat], value.shape) if value.size <= 8 else value
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}")
    return value


def _short(value: Any) -> str:
    """Return a value as text of at most 60 characters; a long array as its shape."""
    if isinstance(value, np.ndarray):
        value = value.tolist() if value.size <= 8 else f"array of shape {value.shape}"
        return value if isinstance(value, str) else repr(value)
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def select_units(units: Selection, rows: int, symbol: str) -> NDArray[np.intp]:
    """Return the numbers of the selected rows in the order of `units`, each once.

    Raises
    ------
    TypeError, ValueError
        If a row does not exist, a mask has another length, or none is selected.
    """
    numbers: NDArray[np.intp] = np.arange(rows)
    if units is None:
        return numbers
    if isinstance(units, slice):
        _check_slice("units", units)
        selected = numbers[units]
    else:
        array = _as_array("units", units)
        if array.dtype == np.bool_:
            if array.shape != (rows,):
                raise ValueError(f"units must be a mask of the {rows} rows of {symbol}, got shape {array.shape}")
            selected = np.flatnonzero(array)
        elif array.dtype.kind not in "iu" or array.ndim > 1:
            raise TypeError(f"units must be an integer, integers, a slice or a mask, got {units!r:.100}")
        else:
            outside = array[(array < -rows) | (array >= rows)]
            if outside.size:
                raise ValueError(f"units must be from {-rows} to {rows - 1} for {symbol}, got {outside.flat[0]}")
            selected = np.array(list(dict.fromkeys((array.reshape(-1) % rows).tolist())), np.intp)
    if not len(selected):
        raise ValueError(f"units must select at least one of the {rows} rows of {symbol}, got {units!r:.100}")
    return selected


def _check_steps(steps: Selection) -> None:
    if steps is None:
        return
    if isinstance(steps, slice):
        _check_slice("steps", steps)
        for name in ("start", "stop", "step"):
            value = getattr(steps, name)
            if value is not None and value < (name == "step"):
                raise ValueError(
                    f"{name} of steps must be at least {int(name == 'step')}, got {value}: count from the first step"
                )
        if steps.stop is not None and steps.stop <= (steps.start or 0):
            raise ValueError(f"steps must select at least one step, got {steps!r}")
        return
    array = _as_array("steps", steps)
    if array.dtype == np.bool_ and array.ndim == 1:
        if not array.any():
            raise ValueError(f"steps must select at least one step, got {steps!r:.100}")
        return
    if array.dtype.kind not in "iu" or array.ndim > 1 or not array.size:
        raise TypeError(f"steps must be an integer, integers, a slice or a mask, got {steps!r:.100}")
    if array.min() < 0:
        raise ValueError(f"steps must be 0 or more, got {array.min()}: count from the first step")
    if array.max() >= LIMIT:
        raise ValueError(f"steps must be below 2^63, got {array.max()}")


def _check_slice(name: str, selection: slice) -> None:
    """Raise an error unless the parts of a slice are None or integers, and the step is not 0."""
    for part in ("start", "stop", "step"):
        value = getattr(selection, part)
        if value is not None and not -LIMIT <= integer(f"{part} of {name}", value) < LIMIT:
            raise ValueError(f"{part} of {name} must be from -2^63 to below 2^63, got {value}")
    if name == "units" and selection.step == 0:
        raise ValueError("step of units must not be 0, got 0")


def _as_array(name: str, selection: Selection) -> NDArray[Any]:
    """Return integers or a mask as an array."""
    try:
        return np.asarray(selection)
    except ValueError:  # rows of different lengths
        raise TypeError(f"{name} must be an integer, integers, a slice or a mask, got {selection!r:.100}") from None


def select_steps(steps: Selection) -> Any:
    """Return checked steps as a slice, a new array of numbers or a new mask; None for all."""
    if steps is None or isinstance(steps, slice):
        return steps
    array = np.atleast_1d(np.array(steps))
    return array if array.dtype == np.bool_ else array.astype(np.intp)


def symbol_values(layer: LayerTrace, symbol: str) -> Array:
    """Return the values of a symbol of interventions in a trace."""
    head, _, gate = symbol.partition("_")
    return layer.gate(head, gate) if gate in layer.gates and symbol not in layer.names else layer.value(symbol)
