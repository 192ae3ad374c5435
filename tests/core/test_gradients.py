"""Step gradients match the reference cell with either engine, and for the general layer their definition."""

import numpy as np
import pytest

from glasscell.core import engines, lstm, variants
from glasscell.core.cell import step, step_backward
from glasscell.core.step_gradients import StepGradients, compute_step_gradients
from glasscell.core.variants import CellConfig

ENGINES = ["numpy", "numba"]
SHAPES = [(7, 3, 5, 4), (300, 2, 6, 1), (40, 3, 20, 40), (1, 3, 4, 2), (0, 3, 4, 2), (70, 20, 90, 33)]


def of_the_page(kernel, tape, dy, dh, dc, dc_steps):
    rows = []
    for t in reversed(range(tape.T)):
        d_h, d_c = dh + dy[t], dc + dc_steps[t]
        back = step_backward(kernel, step(kernel, tape.x[t], tape.h_with_initial[t], tape.c_with_initial[t]), d_h, d_c)
        da = np.concatenate([back.di, back.df, back.do, back.dg])
        rows.insert(0, StepGradients(back.dz, da, back.dc, d_h, back.dx, dy[t]))
        dh, dc = back.dh_prev, back.dc_prev
    return rows


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("T", "I", "H", "B"), SHAPES)
def test_step_gradients_match_the_reference_cell(T, I, H, B, engine, rng):
    if engine == "numba":
        pytest.importorskip("numba")
    run = engines.select(engine, I, H, B, np.dtype(np.float64))
    kernel, x = rng.normal(size=(4 * H, H + I + 1)) / np.sqrt(H + I), rng.normal(size=(T, I, B))
    dy, dc_steps, (dh_T, dc_T) = rng.normal(size=(T, H, B)), rng.normal(size=(T, H, B)), rng.normal(size=(2, H, B))
    tape, dz = run.forward(kernel, x), np.full((T, 4 * H, B), np.nan)
    d = run.backward(tape, dy, dh_T, dc_T, dc=dc_steps, dz_steps=dz)
    values = compute_step_gradients(tape, dz, d.dx, dy, dh_T, dc_T, dc_steps)
    for t, page in enumerate(of_the_page(kernel, tape, dy, dh_T, dc_T, dc_steps)):
        for name, expected, part in zip(StepGradients._fields, page, values, strict=True):
            np.testing.assert_allclose(part[t], expected, rtol=0, atol=1e-12, err_msg=f"{name} at step {t}")
    without = run.backward(tape, dy, dh_T, dc_T, dc=dc_steps)
    np.testing.assert_allclose(d.dkernel, without.dkernel, rtol=1e-12, atol=1e-12)


def test_arguments_are_not_modified(rng):
    kernel, x, dy, dc = rng.normal(size=(16, 8)), *(rng.normal(size=(5, n, 2)) for n in (3, 4, 4))
    tape, dz = lstm.forward(kernel, x), np.empty((5, 16, 2))
    d = lstm.backward(tape, dy, dc=dc, dz_steps=dz)
    before = [part.copy() for part in (dy, dc, dz)]
    compute_step_gradients(tape, dz, d.dx, dy, dc=dc)
    for part, known in zip((dy, dc, dz), before, strict=True):
        np.testing.assert_array_equal(part, known)


def test_the_general_layer_matches_the_standard_one(rng):
    T, I, H, B = 6, 3, 4, 2
    kernel, x, dy = rng.normal(size=(4 * H, H + I + 1)), rng.normal(size=(T, I, B)), rng.normal(size=(T, H, B))
    dh_T, dc_T = rng.normal(size=(2, H, B))
    tape, dz = lstm.forward(kernel, x), np.empty((T, 4 * H, B))
    d = lstm.backward(tape, dy, dh_T, dc_T, dz_steps=dz)
    expected = compute_step_gradients(tape, dz, d.dx, dy, dh_T, dc_T)
    every_step = StepGradients(*(np.full((T, n, B), np.nan) for n in (4 * H, 4 * H, H, H)), dx=dy, dy=dy)
    variants.backward(variants.forward(CellConfig(), {"kernel": kernel}, x), dy, dh_T, dc_T, step_gradients=every_step)
    for name in ("dz", "da", "dc", "dh"):
        np.testing.assert_allclose(getattr(every_step, name), getattr(expected, name), rtol=0, atol=1e-12, err_msg=name)


def test_the_default_gradient_on_the_final_state_is_0_and_underflow_no_error(rng):
    kernel, x, dy = rng.normal(size=(16, 8)), rng.normal(size=(5, 3, 2)), np.full((5, 4, 2), 1e-300)
    tape, dz = lstm.forward(kernel, x), np.empty((5, 16, 2))
    d = lstm.backward(tape, dy, dz_steps=dz)
    smaller, faint = dz * 1e-10, dy * 1e-15
    with np.errstate(all="raise"):
        values = compute_step_gradients(tape, smaller, d.dx, faint)
    assert np.isfinite(values.da).all()
    for part, zero in zip(
        compute_step_gradients(tape, dz, d.dx, dy), compute_step_gradients(tape, dz, d.dx, dy, 0.0, 0.0), strict=True
    ):
        np.testing.assert_array_equal(part, zero)
        assert np.abs(part).max() < 1e-200
