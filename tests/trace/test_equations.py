"""Law: printed equations are correct: the value of the right-hand side is the left-hand side."""

import math
import re

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc

KINDS = {
    "plain": {},
    "peepholes": {"peepholes": True, "proj_size": 3},
    "coupled": {"coupled": "input", "zoneout_cell": 0.1},
    "forget": {"coupled": "forget", "zoneout": 0.25},
    "no forget gate": {"forget_gate": False},
    "clipped": {"clip": 0.5},
    "haste": {"layer_norm": "haste"},
    "tflite": {"layer_norm": "tflite"},
    "contrib": {"layer_norm": "contrib"},
    "activations": {"gate_activation": "HardSigmoid", "output_activation": "Softsign"},
}


def traced(kind, rng, **given):
    lstm = gc.LSTM(3, 5, dtype=np.float64, **KINDS[kind])
    lstm.parameters.vector[:] = rng.normal(size=lstm.parameters.vector.size) * 0.8
    return lstm.trace(rng.normal(size=(6, 3)), rng.normal(size=(6, lstm.output_size)), **given)


def worked_out(numbers, layer):
    """What a calculator makes of it."""
    clip = layer.options.clip
    names = {
        "σ": lambda z: 1 / (1 + math.exp(-z)),
        "tanh": math.tanh,
        "clip": lambda z: max(-clip, min(clip, z)),
        "HardSigmoid": lambda z: max(0.0, min(1.0, 0.2 * z + 0.5)),
        "Softsign": lambda z: z / (1 + abs(z)),
    }
    text = numbers.replace("−", "-").replace("·", "*").replace("²", "**2")
    return eval(text, {"__builtins__": {}}, names)  # noqa: S307 - text of our own


@loop_over("kind", KINDS)
@loop_over("t", [0, 3, 5])
def test_both_sides_of_an_equation_are_equal(kind, t, rng):
    trace = traced(kind, rng)
    layer, worked = trace.layer[0], 0
    equations = trace.equations(t, 2)
    for one in equations.forward + equations.backward:
        if "N(" in one.numbers:
            continue
        worked += 1
        terms = [
            abs(float(n.replace("−", "-"))) for n in re.findall(r"(?<![\w.])−?\d+\.?\d*(?:e[−+]?\d+)?", one.numbers)
        ]
        assert worked_out(one.numbers, layer) == pytest.approx(one.value, rel=2e-3, abs=5e-4 * sum(terms)), str(one)
    assert worked >= 15


@loop_over("kind", KINDS)
def test_values_equal_those_of_the_trace(kind, rng):
    trace = traced(kind, rng)
    layer, equations = trace.layer[0], trace.equations(3, 2)
    found = {one.left: one.value for one in equations.forward + equations.backward}
    constant = {gate for gate, source in layer.options.cell_config.derived_gates.items() if source is None}
    assert {"i", "f", "o", "g", "c"} - constant <= found.keys()
    for name, value in found.items():
        if name.startswith(("z_", "d_z_")):
            expected = layer.gate(name[:-2], name[-1])[3, 2]
        elif name in ("m", "ĉ", "d_m"):
            continue
        else:
            expected = layer.value(name)[3, 2]
        assert value == pytest.approx(expected, rel=1e-12), name


def test_a_standard_step_has_its_equations_in_three_formats(rng):
    equations = traced("plain", rng).equations(-1, -1)
    assert equations.title == "step 5, unit 4 of l0"
    assert [one.left for one in equations.forward] == ["z_i", "i", "z_f", "f", "z_o", "o", "z_g", "g", "c", "h"]
    assert [one.left for one in equations.backward] == ["d_h", "d_o", "d_tanh_c", "d_c", "d_i", "d_f", "d_g"] + [
        f"d_z_{gate}" for gate in "ifog"
    ]
    assert "c = f·c_prev + i·g = " in str(equations)
    assert r"c &= f\cdot c_{t-1} + i\cdot g = " in equations.latex
    assert r"\partial c &= \partial \tanh c\cdot (1 - \tanh^2 c) + f_{t+1}\cdot \partial c_{t+1} = " in equations.latex
    assert equations.latex.count(r"\begin{align*}") == 2
    assert equations._repr_html_().count("<tr>") == 21
    assert "−" not in equations.latex
    assert "_" not in re.sub("<[^>]*>", "", equations.html)


def test_without_a_target_there_is_no_backward_view(rng):
    lstm = gc.LSTM(3, 5)
    equations = lstm.trace(np.ones((2, 3))).equations(0, 0)
    assert equations.backward == ()
    assert "backward" not in equations.text
    assert equations.latex.count("align*") == 2


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ((6, 0), "step must be from -6 to 5, got 6"),
        ((0, 5), "unit must be from -5 to 4, got 5"),
        ((0, 0, 1), "layer must be"),
    ],
)
def test_invalid_indices_raise_an_error(where, message, rng):
    with pytest.raises(IndexError, match=message):
        traced("plain", rng).equations(*where)
