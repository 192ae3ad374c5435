"""One step of an LSTM layer and its derivatives, unit by unit, for the rules that go forward in time.

The step is that of :mod:`glasscell.core.variants`, with all options that do not mix units. Within a step, the cell
ĉ = f ∘ c_prev + i ∘ g of a unit depends on the pre-activations z of that unit alone, and so does the value
m = o ∘ φ(ĉ), which is h or is projected to it::

    ∂ĉ/∂z_g = i τ'(z_g)           ∂ĉ/∂z_i = g σ'(z_i)      ∂ĉ/∂z_f = c_prev σ'(z_f)      ∂ĉ/∂c_prev = f
    ∂m/∂z_o = φ(ĉ) σ'(z_o)        ∂m/∂ĉ = o φ'(ĉ)

With f = 1 - i, ∂ĉ/∂i is g - c_prev; with i = 1 - f, ∂ĉ/∂f is c_prev - g. A pre-activation that is clipped has the
derivative 0. What z reads (h_prev, x, and c_prev or ĉ through a peephole) differs between the rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from glasscell.core import variants
from glasscell.core.types import Array
from glasscell.recurrent.config import LSTMConfig


class UnitDerivatives(NamedTuple):
    """Derivatives of a step, (H, B) each, of a unit's quantities with respect to others of the same unit."""

    c_by_z: dict[str, Array]  # of ĉ, by the gates i, f and the candidate g that have weights
    c_by_c: Array  # of ĉ by c_prev, peepholes excluded
    m_by_z: Array  # of m by the pre-activation of the output gate
    m_by_c: Array  # of m by ĉ, the peephole excluded


def weights_of(options: LSTMConfig, parameters: Mapping[str, Array], suffix: str) -> dict[str, Array]:
    """Return the weights of one layer under core's names; without a bias, its column is 0."""
    weights = {name: parameters[name + suffix] for name in options.shapes_of(1)}
    weights["kernel"] = kernel = options.kernel(parameters, suffix)
    if not options.bias:
        weights["kernel"] = np.concatenate([kernel, np.zeros_like(kernel[:, :1])], axis=1)
    return weights


# equation: lstm-step-tangent
def unit_derivatives(tape: variants.Tape) -> UnitDerivatives:
    """Return the derivatives of the only step of a tape."""
    config, c_prev, phi = tape.config, tape.c_with_initial[0], tape.output[0]
    i, f, o, g = tape.i[0], tape.f[0], tape.o[0], tape.g[0]
    c_by_gate = {"i": g, "f": c_prev, "g": i}
    for gate, source in config.derived_gates.items():
        by_derived = c_by_gate.pop(gate)
        if source is not None:
            c_by_gate[source] = c_by_gate[source] - by_derived
    values = {"i": i, "f": f, "g": g}
    return UnitDerivatives(
        c_by_z={gate: by * _slope(tape, gate, values[gate]) for gate, by in c_by_gate.items()},
        c_by_c=f,
        m_by_z=phi * _slope(tape, "o", o),
        m_by_c=o * config.output.derivative(tape.output_activation_input[0], phi),
    )


def _slope(tape: variants.Tape, gate: str, value: Array) -> Array:
    """Return the derivative of a gate, or of the candidate, by its pre-activation before clipping."""
    z, clip = tape.z[0, tape.gate_rows(gate)], tape.config.clip
    slope = tape.config.activation_for(gate).derivative(z, value)
    return slope if clip is None else slope * (np.abs(z) < clip)
