"""Configuration of the general layer: activations, gates and weights."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from glasscell.core.activations import Activation, activation
from glasscell.core.cell import GATES
from glasscell.core.types import Array

LayerNorm = Literal["haste", "tflite", "contrib"]
CoupledGates = Literal["input", "forget"]


SIGMOID, TANH = activation("Sigmoid"), activation("Tanh")


@dataclass(frozen=True)
class CellConfig:
    """Configuration of a step. Peepholes and projections are used if their weights are present.

    Attributes
    ----------
    gate, candidate, output : Activation
        σ, τ and φ.
    coupled : "input" or "forget", optional
        Which of the two gates has weights: "input", f = 1 - i; "forget", i = 1 - f. Default: both.
    forget_gate : bool
        Whether f is computed. False: f = 1.
    clip : float, optional
        Bound on the absolute values of the pre-activations. Default: none.
    layer_norm : "haste", "tflite" or "contrib", optional
        Default: no layer normalisation.
    epsilon : float
        Added to the variances.
    """

    gate: Activation = SIGMOID
    candidate: Activation = TANH
    output: Activation = TANH
    coupled: CoupledGates | None = None
    clip: float | None = None
    layer_norm: LayerNorm | None = None
    epsilon: float = 1e-5
    forget_gate: bool = True

    @property
    def derived_gates(self) -> dict[str, str | None]:
        """The gates without weights: f → i if f = 1 - i, f → None if f = 1."""
        if self.coupled is not None:
            return {"f": "i"} if self.coupled == "input" else {"i": "f"}
        return {} if self.forget_gate else {"f": None}

    @property
    def gates(self) -> tuple[str, ...]:
        """The gates with weights, in the order of their blocks of H rows in the kernel."""
        return tuple(gate for gate in GATES if gate not in self.derived_gates)

    @property
    def peepholes(self) -> tuple[str, ...]:
        """The gates that can have a peephole, in the order of their blocks of H weights."""
        return self.gates[:-1]

    @property
    def normalises_cell(self) -> bool:
        """Whether the cell state is normalised, which couples its units."""
        return self.layer_norm in ("haste", "contrib")

    def activation_for(self, gate: str) -> Activation:
        """Return the activation of a gate or of the candidate."""
        return self.candidate if gate == "g" else self.gate

    def shapes(
        self, I: int, H: int, P: int | None = None, *, peepholes: bool = False, projection_bias: bool = False
    ) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of the weights of a layer. Default for P: no projection."""
        R = len(self.gates) * H
        shapes: dict[str, tuple[int, ...]] = {"kernel": (R, (P or H) + I + 1)}
        if peepholes:
            shapes["peepholes"] = (R - H,)
        if P is not None:
            shapes["projection"] = (P, H)
            if projection_bias:
                shapes["projection_bias"] = (P,)
        if self.layer_norm == "haste":
            shapes |= {"gain_x": (R,), "gain_h": (R,)}
        elif self.layer_norm:
            shapes["gain"] = (R,)
        if self.normalises_cell:
            shapes |= {"gain_c": (H,), "shift_c": (H,)}
        return shapes


class DropoutMasks(NamedTuple):
    """Masks of recurrent dropout and zoneout, as drawn in training or their expectation. Default: no effect."""

    recurrent: Array | float = 1.0  # (P, B)     r: 0 where h_{t-1} is dropped, 1 / (1 - rate) elsewhere
    new_h: Array | float = 1.0  # (T, P, B)  k_h: 0 where h keeps its value
    new_c: Array | float = 1.0  # (T, H, B)  k_c: 0 where c keeps its value

    def drop(self, h: Array) -> Array:
        """Return h_{t-1}, or its gradient, after recurrent dropout, which leaves the array as it is by default."""
        return h if isinstance(self.recurrent, float) and self.recurrent == 1 else self.recurrent * h

    @property
    def is_identity(self) -> bool:
        """Whether the masks have no effect."""
        r, k_h, k_c = self
        return isinstance(r, float) and isinstance(k_h, float) and isinstance(k_c, float) and r == k_h == k_c == 1
