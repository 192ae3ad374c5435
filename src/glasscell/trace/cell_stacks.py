"""Traces of RNN and GRU: their quantities, read from a tape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from glasscell.core.types import Array
from glasscell.recurrent.config import MAX_LAYERS
from glasscell.trace.layer_trace import LayerTrace, TracedQuantity, to_time_order
from glasscell.validation import boolean, choice, positive_integer, probability

if TYPE_CHECKING:
    from glasscell.recurrent.rnn_tape import RNNDirectionTape, RNNTape
    from glasscell.trace.equation_terms import Equation


def _nonlinearity(name: str, value: Any) -> None:
    choice(name, value, ("tanh", "relu"))


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(("input_size", "hidden_size", "num_layers"), positive_integer),
    **dict.fromkeys(("bidirectional", "bias"), boolean),
    "dropout": probability,
}


@dataclass(frozen=True)
class CellStackOptions:
    """The configuration of a whole RNN or GRU.

    Attributes
    ----------
    kind : {"RNN", "GRU"}
    config : dict
        The arguments of the layer, without those that are the default.
    """

    kind: str
    config: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Raise an error for a kind, an option or a value that does not exist, such as from a file."""
        choice("kind", self.kind, tuple(CLASSES))
        checks = CHECKS | ({"nonlinearity": _nonlinearity} if self.kind == "RNN" else {"reset_after": boolean})
        for name, value in self.config.items():
            if name not in checks:
                raise ValueError(f"option must be one of {', '.join(checks)}, got {name!r}")
            checks[name](name, value)
        if self.num_layers > MAX_LAYERS:
            raise ValueError(f"num_layers must be at most {MAX_LAYERS}, got {self.num_layers}")

    @property
    def input_size(self) -> int:
        """Return I."""
        return int(self.config["input_size"])

    @property
    def hidden_size(self) -> int:
        """Return H."""
        return int(self.config["hidden_size"])

    @property
    def num_layers(self) -> int:
        """Return L."""
        return int(self.config.get("num_layers", 1))

    @property
    def num_directions(self) -> int:
        """Return D."""
        return 2 if self.config.get("bidirectional", False) else 1

    @property
    def output_size(self) -> int:
        """Return D·H."""
        return self.num_directions * self.hidden_size

    @property
    def directions(self) -> list[tuple[str, int, bool]]:
        """Return the suffix of the weights, the number of inputs, and whether it is reverse, of each direction."""
        return [
            (f"_l{k}{'_reverse' * reverse}", self.output_size if k else self.input_size, bool(reverse))
            for k in range(self.num_layers)
            for reverse in range(self.num_directions)
        ]

    def non_default(self) -> dict[str, Any]:
        """Return the options for a file."""
        return {"kind": self.kind, **self.config}

    @property
    def cell_config(self) -> Any:
        """Raise ValueError: the layer has no options of an LSTM."""
        raise ValueError(f"this view shows the cell state of an LSTM, which {_article(self.kind)} does not have")

    def unsupported(self, _: str) -> dict[str, Any]:
        """Raise ValueError: the layer has no options of an LSTM."""
        return dict(self.cell_config)


class CellStackTrace(LayerTrace):
    """One layer of an RNN or a GRU in one direction, in time order; read only. See :class:`LayerTrace`."""

    state: ClassVar = "h"
    quantities: ClassVar[tuple[str, ...]]  # forward
    gradients: ClassVar[tuple[str, ...]]
    options: Any

    @property
    def H(self) -> int:
        """Number of units."""
        size: int = self.options.hidden_size
        return size

    def value(self, name: str) -> Array:
        """Return the array of a symbol; see :meth:`LayerTrace.value`."""
        if name not in self.names:
            if name in self.gradients:
                raise ValueError(f"{name} needs a target, as in model.trace(x, y)")
            kind = _article(self.options.kind)
            raise ValueError(f"symbol must be one of {', '.join(self.names)} of {kind}, got {name!r}")
        return super().value(name)

    def rows(self, I: int, *, gradients: bool) -> dict[str, int]:
        """Return the number of rows of each symbol."""
        names = self.quantities + (self.gradients if gradients else ())
        all_gates = dict.fromkeys(("a", "d_a"), 3 * self.H) | dict.fromkeys(("x", "d_x"), I)
        return {name: all_gates.get(name, self.H) for name in names}

    def weight_shapes(self, I: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the weights of I inputs."""
        H = self.options.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"kernel": (len(self.gates) * H, H + I + 1)}
        recurrent = self.options.kind == "GRU" and self.options.config.get("reset_after", True)
        return shapes | ({"recurrent_bias": (H,)} if recurrent else {})

    def equations(self, t: int, k: int) -> tuple[tuple[Equation, ...], tuple[Equation, ...]]:
        """Return the equations of a step and a unit, forward and, with a target, backward."""
        from glasscell.trace.cell_equations import equations_of  # noqa: PLC0415 - views are imported on first use

        return equations_of(self, t, k)


class RNNTrace(CellStackTrace):
    """One layer of an RNN in one direction; equations in :mod:`glasscell.core.rnn`."""

    x = TracedQuantity("x_t: input of the layer, (T, I)")
    h_prev = TracedQuantity("h_{t-1}: previous hidden state, (T, H)")
    z = TracedQuantity("z = W [h_{t-1}; x_t; 1]: pre-activations, (T, H)")
    h = TracedQuantity("h_t = tanh(z), or max(0, z): hidden state, (T, H)")
    d_y = TracedQuantity("dL/dy_t: the part of dL/dh_t from the loss or the next layer, (T, H)")
    d_h = TracedQuantity("dL/dh_t = dL/dy_t + W_hᵀ dL/dz_{t+1}, (T, H)")
    d_z = TracedQuantity("dL/dz = dL/dh ∘ (1 - h²), or dL/dh ∘ [h > 0], (T, H)")
    d_x = TracedQuantity("dL/dx_t = W_xᵀ dL/dz, (T, I)")

    default_symbols: ClassVar = ("z", "h")
    gate_symbols: ClassVar = ()
    keep_gate: ClassVar = ""
    gate_rows: ClassVar = ()
    quantities: ClassVar = ("x", "h_prev", "z", "h")
    gradients: ClassVar = ("d_y", "d_h", "d_z", "d_x")

    @property
    def gates(self) -> tuple[str, ...]:
        """The only block of rows of the kernel."""
        return ("h",)


class GRUTrace(CellStackTrace):
    """One layer of a GRU in one direction; equations in :mod:`glasscell.core.gru`."""

    x = TracedQuantity("x_t: input of the layer, (T, I)")
    h_prev = TracedQuantity("h_{t-1}: previous hidden state, (T, H)")
    a = TracedQuantity("a: pre-activations of r, z and n, (T, 3H)")
    r = TracedQuantity("r = σ(a_r): reset gate, (T, H)")
    z = TracedQuantity("z = σ(a_z): update gate: h_t has the share z of h_{t-1}, (T, H)")
    q = TracedQuantity("q = U_n [h_{t-1}; 1], which r scales; r ∘ h_{t-1} with reset_after=False, (T, H)")
    n = TracedQuantity("n = tanh(a_n), a_n = W_n [x_t; 1] + r ∘ q, or W_n [x_t; 1] + U_n q: candidate, (T, H)")
    h = TracedQuantity("h_t = (1 - z) ∘ n + z ∘ h_{t-1}: hidden state, (T, H)")
    d_y = TracedQuantity("dL/dy_t: the part of dL/dh_t from the loss or the next layer, (T, H)")
    d_h = TracedQuantity("dL/dh_t: total gradient on the hidden state, (T, H)")
    d_n = TracedQuantity("dL/dn = dL/dh ∘ (1 - z), (T, H)")
    d_z = TracedQuantity("dL/dz = dL/dh ∘ (h_{t-1} - n): gradient on the update gate, (T, H)")
    d_q = TracedQuantity("dL/dq = dL/da_n ∘ r; U_nᵀ dL/da_n with reset_after=False, (T, H)")
    d_r = TracedQuantity("dL/dr = dL/da_n ∘ q; dL/dq ∘ h_{t-1} with reset_after=False, (T, H)")
    d_a = TracedQuantity("dL/da: gradient on a gate times the derivative of its activation, (T, 3H)")
    d_x = TracedQuantity("dL/dx_t = W_xᵀ dL/da, (T, I)")

    default_symbols: ClassVar = ("r", "z", "n", "h")
    gate_symbols: ClassVar = ("r", "z")
    keep_gate: ClassVar = "z"
    gate_rows: ClassVar = ("a", "d_a")
    symbol_names: ClassVar = {
        "r": "reset gate",
        "z": "update gate",
        "n": "candidate",
        "q": "recurrent part of the candidate",
        "a": "pre-activation",
    }
    quantities: ClassVar = ("x", "h_prev", "a", "r", "z", "q", "n", "h")
    gradients: ClassVar = ("d_y", "d_h", "d_n", "d_z", "d_q", "d_r", "d_a", "d_x")

    @property
    def gates(self) -> tuple[str, ...]:
        """The gates in the order of their H rows in a and in the kernel."""
        return ("r", "z", "n")


CLASSES: dict[str, type[CellStackTrace]] = {"RNN": RNNTrace, "GRU": GRUTrace}


def layer_traces(
    tape: RNNTape,
    step_gradients: Sequence[Callable[[], dict[str, Array]]] | None,
    prefix: str = "",
) -> tuple[CellStackTrace, ...]:
    """Return the trace of each layer and direction of an RNN or a GRU."""
    options: Any = CellStackOptions(tape.kind, tape.config)
    cls = CLASSES[tape.kind]
    names = cls.quantities + (cls.gradients if step_gradients is not None else ())
    result = []
    for k, (direction_tape, (suffix, _, reverse)) in enumerate(zip(tape.directions, options.directions, strict=True)):
        gradients = None if step_gradients is None else step_gradients[k]
        compute = _Loader(direction_tape, gradients, single=tape.unbatched)
        axes, hook = "TR" if tape.unbatched else "BTR", direction_tape.tape.hook
        about: dict[str, Any] = {"reverse": reverse, "interventions": getattr(hook, "texts", ())}
        result.append(cls(f"{prefix}{suffix[1:]}", options, direction_tape.tape.weights, names, compute, axes, **about))
    return tuple(result)


class _Loader:
    """Reads a symbol from a tape, or from the gradients at every step."""

    def __init__(
        self,
        direction_tape: RNNDirectionTape,
        step_gradients: Callable[[], dict[str, Array]] | None,
        *,
        single: bool,
    ) -> None:
        self.direction_tape, self.step_gradients, self.single = direction_tape, step_gradients, single
        self.computed: dict[str, Array] | None = None

    def __call__(self, name: str) -> Array:
        """Return the array of a symbol in time order."""
        if not name.startswith("d_"):
            return self._to_time_order(getattr(self.direction_tape.tape, name))
        if self.computed is None:
            assert self.step_gradients is not None  # otherwise the trace has no gradient symbols  # noqa: S101
            self.computed = self.step_gradients()
        return self._to_time_order(self.computed[name[2:]])

    def _to_time_order(self, steps: Array) -> Array:
        direction = self.direction_tape
        return to_time_order(steps, direction.order, reverse=direction.reverse, single=self.single)


def _article(kind: str) -> str:
    return f"an {kind}" if kind == "RNN" else f"a {kind}"
