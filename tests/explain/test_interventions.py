"""An intervention changes what the equations say, forward and backward, and nothing once its block has ended."""

import sys
import threading
from typing import Any

import numpy as np
import pytest
from intervention_cases import STEPS, SYMBOLS, UNITS, B, H, I, T, cases, check_gradients, reference

import glasscell as gc
from glasscell.explain import Intervention, intervene, outputs_under


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


def test_numbers_of_units_are_in_the_order_of_the_units():
    lstm, x = layer(), np.random.default_rng(0).normal(size=(B, T, I))
    for operation, values in {"scale": [0.5, 2.0], "set": [0.1, 0.9], "add": [0.3, -0.2]}.items():
        single = [
            Intervention("f", **{operation: value}, units=unit) for unit, value in zip((3, 1), values, strict=True)
        ]
        expected = outputs_under(lstm, single, x)
        for units in ([3, 1], [-1, 1], np.array([3, 1]), slice(3, 0, -2)):
            one = Intervention("f", **{operation: values}, units=units)
            np.testing.assert_array_equal(outputs_under(lstm, one, x), expected)
    limits = Intervention("f", clamp=([0.6, 0.2], [0.7, 0.3]), units=[2, 0])
    single = [Intervention("f", clamp=(0.6, 0.7), units=2), Intervention("f", clamp=(0.2, 0.3), units=0)]
    np.testing.assert_array_equal(outputs_under(lstm, limits, x), outputs_under(lstm, single, x))
    patch = np.random.default_rng(1).normal(size=(T, H))  # all rows: in their own order
    by_patch = [outputs_under(lstm, Intervention("c", patch=patch, units=units), x) for units in ([3, 0], [0, 3])]
    np.testing.assert_array_equal(*by_patch)


def test_arrays_that_change_during_a_block_do_not_change_it():
    lstm, x = layer(), np.random.default_rng(0).normal(size=(B, T, I))
    scale, low, steps, patch = np.full(H, 0.5), np.zeros(H), np.ones(T, bool), np.ones((T, H))
    several = [Intervention("f", scale=scale, steps=steps), Intervention("g", clamp=(low, None))]
    with lstm.intervene(*several, Intervention("o", patch=patch, steps=[1])):
        expected = lstm(x)
        scale[:], low[:], steps[:], patch[:] = 3.0, 0.9, False, 0.0
        np.testing.assert_array_equal(lstm(x), expected)


def test_nothing_remains_after_blocks_of_several_threads():
    model = layer(num_layers=2, bidirectional=True)
    interval = sys.getswitchinterval()

    def enter_and_leave() -> None:
        for _ in range(150):
            with model.intervene("f", scale=0.5, layer=None):
                pass

    threads = [threading.Thread(target=enter_and_leave) for _ in range(4)]
    try:
        sys.setswitchinterval(1e-6)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert [model.interventions(k) for k in range(4)] == [()] * 4


@pytest.mark.parametrize("interrupted", range(1, 9))
def test_nothing_remains_after_an_interrupt_of_a_block(monkeypatch, interrupted):
    """Each of the 8 calls that change a layer is interrupted: 4 at the beginning of the block, 4 at its end."""
    model, calls, set_interventions = layer(num_layers=2, bidirectional=True), [], gc.LSTM.set_interventions

    def interrupt(self: gc.LSTM, k: int, interventions: Any) -> None:
        calls.append(k)
        if len(calls) == interrupted:
            raise KeyboardInterrupt
        set_interventions(self, k, interventions)

    monkeypatch.setattr(gc.LSTM, "set_interventions", interrupt)
    with pytest.raises(KeyboardInterrupt), model.intervene("f", scale=0.5, layer=None):
        pass
    assert [model.interventions(k) for k in range(4)] == [()] * 4
