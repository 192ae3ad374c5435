"""Initial weights of an LSTM."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from glasscell.core.initializers import glorot_uniform, orthogonal, uniform
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array, Seed
from glasscell.recurrent.config import LSTMConfig
from glasscell.validation import as_generator, choice, finite_number, positive_integer

Initializer: TypeAlias = Literal["orthogonal", "glorot", "uniform"]
ForgetBias: TypeAlias = float | Literal["chrono"]
UNIFORM = ("peepholes", "projection", "projection_bias", "recurrent_bias")  # drawn by initializer="uniform" only
MIN_CHRONO_STEPS = 3  # with fewer, U(1, T - 1) is empty or a single number


class Initialization(NamedTuple):
    """How to draw the weights of an LSTM: the arguments of :class:`glasscell.LSTM` of these names."""

    initializer: Initializer = "orthogonal"
    forget_bias: float | str = 1.0  # a number, or "chrono"
    chrono_steps: int | None = None

    def check(self, options: LSTMConfig) -> None:
        """Raise an error for values that are invalid, or invalid for an LSTM with these options."""
        if self.forget_bias != "chrono":
            if not isinstance(self.forget_bias, int | float | np.integer | np.floating):
                raise TypeError(f"forget_bias must be a number or 'chrono', got {self.forget_bias!r}")
            finite_number("forget_bias", self.forget_bias)
            if self.chrono_steps is not None:
                raise ValueError(f"chrono_steps must be None unless forget_bias='chrono', got {self.chrono_steps!r}")
            return
        if self.chrono_steps is None:
            raise ValueError("chrono_steps must be the longest dependency in steps for forget_bias='chrono', got None")
        if positive_integer("chrono_steps", self.chrono_steps) < MIN_CHRONO_STEPS:
            raise ValueError(f"chrono_steps must be at least {MIN_CHRONO_STEPS}, got {self.chrono_steps}")
        gate = options.cell_config.gate
        for name, value, valid in (
            ("bias", options.bias, options.bias),
            ("forget_gate", options.forget_gate, options.forget_gate),
            ("gate_activation", gate.name, gate.name == "Sigmoid"),
        ):
            if not valid:
                rule = "'Sigmoid'" if name == "gate_activation" else "True"
                raise ValueError(f"{name} must be {rule} for forget_bias='chrono', got {value!r}")


def initialize(options: LSTMConfig, parameters: Parameters, initialization: Initialization, seed: Seed | None) -> None:
    """Write initial values into the parameters of an LSTM; 0 if `seed` is None.

    Gains are 1; shifts and initial states 0. Peepholes are 0, too, except with initializer="uniform".
    """
    initializer, forget_bias, chrono_steps = initialization
    choice("initializer", initializer, ("orthogonal", "glorot", "uniform"))
    if seed is None:
        for view in parameters.values():
            view[:] = 0
        return
    rng = as_generator(seed)
    H = options.hidden_size
    for name, view in parameters.items():
        kind = name.rsplit("_l", 1)[0]
        if kind == "kernel":
            _kernel(options, view, initializer, rng)
        elif kind == "projection" and initializer != "uniform":
            view[:] = orthogonal(rng, *view.shape) if initializer == "orthogonal" else glorot_uniform(rng, view.shape)
        elif initializer == "uniform" and kind in UNIFORM:
            view[:] = uniform(rng, view.shape, H**-0.5)
        else:
            view[:] = kind.startswith("gain")
        if kind == "kernel" and options.bias and not isinstance(forget_bias, str):
            _add_forget_bias(options, view, forget_bias)
    if forget_bias == "chrono":
        assert chrono_steps is not None  # checked  # noqa: S101
        for suffix, _, _ in options.directions:
            biases = [parameters[f"kernel{suffix}"][:, -1]]
            if options.recurrent_bias:
                biases.append(parameters[f"recurrent_bias{suffix}"])
            _set_chrono_bias(options, biases, chrono_steps, rng)


def _add_forget_bias(options: LSTMConfig, kernel: Array, forget_bias: float) -> None:
    """Add it to the bias of the forget gate; subtract it from that of the input gate where f = 1 - i."""
    H, gates = options.hidden_size, options.cell_config.gates
    gate = options.cell_config.derived_gates.get("f", "f")
    if gate is None:
        return
    sign = 1 if gate == "f" else -1
    rows = slice(gates.index(gate) * H, (gates.index(gate) + 1) * H)
    kernel[rows, -1] += sign * forget_bias


def _set_chrono_bias(options: LSTMConfig, biases: list[Array], chrono_steps: int, rng: np.random.Generator) -> None:
    """Set b_f = log u and b_i = -b_f, with u from U(1, T - 1) for each unit: Tallec & Ollivier (2018).

    Where one of the two gates is 1 minus the other, only the bias of the other exists. `biases` add up; all but the
    first are set to 0 in these rows.
    """
    H, gates = options.hidden_size, options.cell_config.gates
    b_f = np.log(rng.uniform(1.0, chrono_steps - 1.0, H))
    for gate, value in (("f", b_f), ("i", -b_f)):
        if gate in gates:
            rows = slice(gates.index(gate) * H, (gates.index(gate) + 1) * H)
            for k, bias in enumerate(biases):
                bias[rows] = 0 if k else value


def _kernel(options: LSTMConfig, kernel: Array, initializer: Initializer, rng: np.random.Generator) -> None:
    H, P = options.hidden_size, options.state_size
    if initializer == "uniform":
        kernel[:] = uniform(rng, kernel.shape, H**-0.5)
        return
    weights = kernel[:, :-1] if options.bias else kernel
    if options.bias:
        kernel[:, -1] = 0
    I = weights.shape[1] - P
    for start in range(0, len(kernel), H):
        rows = slice(start, start + H)
        weights[rows, :P] = orthogonal(rng, H, P) if initializer == "orthogonal" else glorot_uniform(rng, (H, P))
        weights[rows, P:] = glorot_uniform(rng, (H, I))
