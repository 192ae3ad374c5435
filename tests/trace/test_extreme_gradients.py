"""Law: norms of very small and very large gradients are accurate: 0 or infinite only if the gradients are.

A gradient that halves at each of 120 steps ends at 1e-36: its squares leave float32 at 3e-23, and it does not.
"""

import warnings

import numpy as np
import pytest

import glasscell as gc
from glasscell.trace import diagnostics, terminal
from glasscell.trace.html_report.payload import payload_of

T, H = 120, 4


def halving(factor=0.5, **options):
    """An LSTM whose gradient on c is this factor times that of the next step: f, the rest almost shut."""
    lstm = gc.LSTM(1, H, seed=None, **options)
    kernel = lstm.parameters["kernel_l0"]
    kernel[H : 2 * H, -1] = np.log(factor / (1 - factor))
    kernel[2 * H : 3 * H, -1], kernel[3 * H :, -1] = 2.0, 0.5
    return lstm


def trace_of(size):
    d_outputs = np.zeros((T, H), np.float32)
    d_outputs[-1] = size
    return halving().trace(np.zeros((T, 1), np.float32), d_outputs=d_outputs)


def norms_of(array):
    return np.linalg.norm(array.astype(np.float64), axis=-1)


@pytest.mark.parametrize("size", [1.0, 1e20, 1e37])
def test_norms_are_those_of_float64(size):
    layer = trace_of(size).layer[0]
    found, expected = diagnostics.gradient_norms(layer), norms_of(layer.d_c)
    assert 0 < expected[0] < 1e-35 * size
    np.testing.assert_allclose(found.c, expected, rtol=1e-6)
    np.testing.assert_allclose(found.h, norms_of(layer.d_h), rtol=1e-6)
    np.testing.assert_allclose(found.x, norms_of(layer.d_x), rtol=1e-6)
    assert (found.c > 0).all()
    assert np.isfinite(found.c).all()


@pytest.mark.parametrize("size", [1.0, 1e20])
def test_all_views_have_the_same_norms(size):
    trace = trace_of(size)
    layer = trace.layer[0]
    recorder = gc.TraceRecorder(trace.x, symbols=["d_c"], trace_options={"d_outputs": trace.d_outputs})
    recorder.capture_frame(halving())
    np.testing.assert_allclose(recorder.frames[0].norms["c"], norms_of(layer.d_c), rtol=1e-5)
    assert np.isfinite(recorder.frames[0].norms["c"]).all()
    drawn = terminal.render(trace, symbols=["d_c"], color=False)
    assert f"{norms_of(layer.d_c).max():.2g}" in drawn
    assert "not finite" not in drawn
    assert payload_of(trace) is not None


def test_decay_is_measured_where_squares_underflow():
    """Over 600 steps the factor is 1e-181, whose square is 0 in float64, too."""
    layer = halving(dtype=np.float64).trace(np.zeros((600, 1))).layer[0]
    found = diagnostics.gradient_decay(layer).lstm
    np.testing.assert_allclose(np.log2(found[100:-1] / found[101:]), 1, rtol=1e-6)


def test_small_numbers_have_exponents():
    trace = trace_of(1e-20)
    drawn = terminal.render(trace, symbols=["d_c"], color=False)
    assert "e-21" in drawn or "e-20" in drawn
    assert " 0 '" not in drawn.split("d_c")[-1].split("to ")[-1]


@pytest.mark.parametrize("color", [False, True])
def test_an_overflowing_gradient_is_drawn_and_reported(color):
    """As `inspect` of 1,500 bits: from some step on the gradient itself leaves float32."""
    lstm = gc.LSTM(1, H, seed=None)
    kernel = lstm.parameters["kernel_l0"]
    kernel[: 3 * H, -1] = 5  # all gates are open, and around h = 0 a step multiplies gradients by 5
    kernel[3 * H :, :H] = 4 * np.eye(H)
    d_outputs = np.zeros((T, H), np.float32)
    d_outputs[-1] = 1
    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
        trace = lstm.trace(np.zeros((T, 1)), d_outputs=d_outputs)
        gradient = trace.layer[0].d_c
        bad = int((~np.isfinite(gradient).all(axis=1)).sum())
        assert 0 < bad < trace.T  # or this shows nothing
        drawn = terminal.render(trace, color=color)
        terminal.render(trace, symbols=["d_c", "d_x", "f"], color=color)
    assert f"the gradient is not finite at {bad} of {trace.T} steps: it overflows float32" in drawn
