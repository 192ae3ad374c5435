"""Law: the compiled loops give what those of ``lstm.py`` give, and each goes back from the tape of the other."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from glasscell import LSTM
from glasscell.core import engines, lstm
from glasscell.core.buffers import Buffers

WITHIN = {"float32": 2e-6, "float64": 1e-13}  # of the largest


@pytest.fixture(scope="module")
def compiled():
    """The engine, or a skipped test; with GLASSCELL_REQUIRE_NUMBA=1, or a failed one."""
    try:
        import numba  # noqa: F401, PLC0415 - optional
    except ImportError:
        if os.environ.get("GLASSCELL_REQUIRE_NUMBA"):
            pytest.fail("GLASSCELL_REQUIRE_NUMBA is set, and Numba is not installed")
        pytest.skip("Numba is not installed")
    from glasscell.core import compiled  # noqa: PLC0415

    return compiled


def given(rng, dtype, I, H, B, T, scale=0.3):
    """A kernel, inputs (T, I, B) that are not contiguous, and states."""
    kernel = (scale * rng.standard_normal((4 * H, H + I + 1))).astype(dtype)
    x = rng.standard_normal((B, T, I)).astype(dtype).transpose(1, 2, 0)
    return kernel, x, *rng.standard_normal((2, H, B)).astype(dtype)


def assert_same(ours, theirs, dtype):
    """Up to rounding, of the largest."""
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=WITHIN[dtype] * max(1, np.abs(b).max(initial=0)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("trial", range(60))
def test_both_engines_compute_the_same(compiled, rng, dtype, trial):
    I, H, B, T = (int(size) for size in rng.integers((1, 1, 0, 0), (9, 40, 9 if trial % 3 else 70, 30)))
    B = 1 if trial % 4 == 0 else B
    kernel, x, h0, c0 = given(rng, dtype, I, H, B, T)
    ours, theirs = compiled.forward(kernel, x, h0, c0), lstm.forward(kernel, x, h0, c0)
    names = ("i", "f", "o", "g", "c", "h", "tanh_c", "hiddens", "cells")
    assert_same([getattr(ours, name) for name in names], [getattr(theirs, name) for name in names], dtype)
    assert_same(compiled.outputs(kernel, x, h0, c0), (theirs.h, theirs.hiddens[-1], theirs.cells[-1]), dtype)
    dh, (dh_T, dc_T) = rng.standard_normal((T, H, B)).astype(dtype), rng.standard_normal((2, H, B)).astype(dtype)
    more = {"dc": rng.standard_normal((T, H, B)).astype(dtype) if trial % 2 else None, "need_dx": trial % 5 > 0}
    expected = lstm.backward(theirs, dh, dh_T, dc_T, **more)
    for tape in (ours, theirs):
        assert_same(compiled.backward(tape, dh, dh_T, dc_T, **more), expected, dtype)
    assert_same(lstm.backward(ours, dh, dh_T, dc_T, **more), expected, dtype)


@pytest.mark.parametrize("B", [1, 3])
def test_backward_is_the_derivative(compiled, rng, B):
    kernel, x, h0, c0 = given(rng, "float64", 3, 5, B, 7)
    dh, dh_T, dc_T = rng.normal(size=(7, 5, B)), *rng.normal(size=(2, 5, B))

    def loss(*at):
        tape = compiled.forward(*at)
        return (tape.h * dh).sum() + (tape.hiddens[-1] * dh_T).sum() + (tape.cells[-1] * dc_T).sum()

    at = (kernel, x, h0, c0)
    gradient = compiled.backward(compiled.forward(*at), dh, dh_T, dc_T)
    way = [rng.normal(size=a.shape) for a in at]
    e = 1e-4
    loss_at = [loss(*(a + k * e * d for a, d in zip(at, way, strict=True))) for k in (-2, -1, 1, 2)]
    slope = (loss_at[0] - 8 * loss_at[1] + 8 * loss_at[2] - loss_at[3]) / (12 * e)
    assert slope == pytest.approx(sum((g * d).sum() for g, d in zip(gradient, way, strict=True)), rel=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [0, 30, 1e4])
def test_saturated_and_shut_gates(compiled, rng, dtype, scale):
    """No overflow, no warning, and no value beyond 1."""
    kernel, x, h0, c0 = given(rng, dtype, 2, 9, 4, 5)
    kernel[:, -1] = scale * np.sign(kernel[:, -1])
    ours, theirs = compiled.forward(kernel, x, h0, c0), lstm.forward(kernel, x, h0, c0)
    assert_same((ours.h, ours.c), (theirs.h, theirs.c), dtype)
    assert np.abs(ours.h).max() <= 1
    dh = np.ones_like(ours.h)
    assert_same(compiled.backward(ours, dh), lstm.backward(theirs, dh), dtype)


def test_nan_stays_nan(compiled, rng):
    kernel, x, h0, c0 = given(rng, "float32", 2, 5, 3, 4)
    x = x.copy()
    x[1, 0, 2] = np.nan
    h = compiled.forward(kernel, x, h0, c0).h
    assert np.isnan(h[1:, :, 2]).all()
    assert not np.isnan(h[:, :, :2]).any()
    assert not np.isnan(h[0]).any()


def test_buffers_are_used_again(compiled, rng):
    buffers = Buffers()
    for _ in range(3):
        for T, B in ((5, 3), (9, 1), (5, 3)):
            kernel, x, h0, c0 = given(rng, "float64", 2, 6, B, T)
            dh = rng.normal(size=(T, 6, B))
            tape = compiled.forward(kernel, x, h0, c0, buffers)
            expected = lstm.backward(lstm.forward(kernel, x, h0, c0), dh)
            assert_same(compiled.backward(tape, dh, buffers=buffers), expected, "float64")


def test_threads(compiled, rng):
    cases = [given(rng, "float32", 4, 16, 3, 40) for _ in range(16)]
    expected = [compiled.forward(*one).h.copy() for one in cases]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(5):
            for h, other in zip(threads.map(lambda one: compiled.forward(*one).h, cases), expected, strict=True):
                np.testing.assert_array_equal(h, other)


def test_a_layer_runs_by_the_engine_that_it_is_told(compiled, rng):
    x, dy = rng.normal(size=(3, 6, 2)), rng.normal(size=(3, 6, 8))
    results = []
    for engine in ("numpy", "numba", None):
        layer = LSTM(2, 4, 2, bidirectional=True, engine=engine, dtype=np.float64)
        y, _, tape = layer.forward(x, lengths=[6, 2, 0])
        dx, _, gradients = layer.backward(tape, dy)
        results.append((y, dx, gradients.vector, layer.run(x)[0]))
    for other in results[1:]:
        assert_same(other, results[0], "float64")
    f32 = np.dtype(np.float32)
    assert engines.chosen("numpy", 2, 4, 1, f32) is engines.NUMPY
    assert engines.chosen("numba", 999, 999, 99, f32) is compiled
    assert engines.chosen(None, 8, 32, 32, f32) is compiled
    assert engines.chosen(None, 256, 512, 64, f32) is engines.NUMPY
