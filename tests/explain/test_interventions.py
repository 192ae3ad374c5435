"""An intervention changes what the equations say, forward and backward, and nothing once its block has ended."""

from typing import Any

import numpy as np
import pytest
from intervention_cases import STEPS, SYMBOLS, UNITS, B, H, I, T, cases, check_gradients, reference

import glasscell as gc
from glasscell.explain import Intervention, intervene


def layer(**options: Any) -> gc.LSTM:
    return gc.LSTM(I, H, dtype=np.float64, initializer="uniform", seed=1, **options)


@pytest.fixture
def data() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    shapes = {"x": (B, T, I), "h": (1, B, H), "c": (1, B, H), "dy": (B, T, H), "dh": (1, B, H), "dc": (1, B, H)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def states(data: dict[str, np.ndarray], *names: str) -> gc.LSTMState:
    return gc.LSTMState(*(data[name] for name in names))


def check_against_reference(lstm: gc.LSTM, data: dict[str, np.ndarray], interventions: list[Intervention]) -> None:
    x, h, c = data["x"], data["h"], data["c"]
    expected = reference(lstm.parameters["kernel_l0"], x, h[0], c[0], interventions)
    with intervene(lstm, *interventions):
        y, final, tape = lstm.forward(x, states(data, "h", "c"))
        trace = lstm.trace(x, d_outputs=data["dy"], state=states(data, "h", "c"))
        inferred, inferred_final = lstm.infer(x, states(data, "h", "c"))
    for actual in (y, inferred):
        np.testing.assert_allclose(actual, expected["h"], rtol=0, atol=1e-12)
    for state in (final, inferred_final):
        np.testing.assert_allclose(state.h[0], expected["final h"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(state.c[0], expected["final c"], rtol=0, atol=1e-12)
    for name in ("x", "z", "i", "f", "o", "g", "c", "h"):
        np.testing.assert_allclose(trace.layer[0].value(name), expected[name], rtol=0, atol=1e-12, err_msg=name)
    assert trace.layer[0].interventions == tuple(one.description() for one in interventions)
    dx, d_state, gradients = lstm.backward(tape, data["dy"], states(data, "dh", "dc"))  # after the block

    def loss(a: dict[str, np.ndarray]) -> float:
        r = reference(a["kernel"], a["x"], a["h"][0], a["c"][0], interventions)
        total = np.vdot(r["h"], data["dy"]) + np.vdot(r["final h"], data["dh"]) + np.vdot(r["final c"], data["dc"])
        return float(total)

    arguments = {"kernel": lstm.parameters["kernel_l0"].copy(), "x": x, "h": h, "c": c}
    actual_gradients = {"kernel": gradients["kernel_l0"], "x": dx, "h": d_state.h, "c": d_state.c}
    check_gradients(loss, arguments, actual_gradients)


@pytest.mark.parametrize("operation", list(cases("f")))
@pytest.mark.parametrize("symbol", SYMBOLS)
def test_operations_equal_the_reference_and_finite_differences(symbol, operation, data):
    check_against_reference(layer(), data, [cases(symbol)[operation]])
    check_against_reference(layer(), data, [cases(symbol, units=UNITS, steps=STEPS)[operation]])


@pytest.mark.parametrize("where", [{}, {"units": [1]}, {"units": [0, 3], "steps": [2, 4]}])
def test_cut_units_are_not_read(where, data):
    check_against_reference(layer(), data, [Intervention("W_h", cut=True, **where)])


def test_without_interventions_the_reference_is_core_cell(data):
    check_against_reference(layer(), data, [])


def test_interventions_on_one_symbol_act_in_their_order(data):
    first = Intervention("f", scale=2.0, steps=[1, 3])
    others = [Intervention("f", clamp=(0.2, 0.9)), Intervention("f", freeze=True, units=[1, 2], steps=[3, 4])]
    check_against_reference(layer(), data, [first, *others, Intervention("c", add=0.5), Intervention("c", scale=0.9)])
    check_against_reference(layer(), data, [*others, first])
