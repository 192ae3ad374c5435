"""Products have the right values, and the same bits, with tiles of every size."""

import numpy as np
import pytest

from glasscell.core import lstm, numba_engine
from glasscell.core.buffers import BufferPool

pytest.importorskip("numba")

from glasscell.core.numba_engine import Tape, is_rows, odd_lines, rows_of
from glasscell.core.numba_engine.kernels import compile_kernels


def passes(kernel, x, dh, engine):
    """Return the outputs and gradients of a pass, as copies."""
    buffers = BufferPool()
    tape = engine.forward(kernel, x, buffers=buffers)
    gradient = engine.backward(tape, dh, buffers=buffers)
    return [array.copy() for array in (tape.h, tape.c, *gradient)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batches_of_all_sizes(rng, dtype):
    for B in range(2, 37):
        H, I, T = int(rng.integers(1, 48)), int(rng.integers(1, 60)), 3
        kernel = rng.normal(size=(4 * H, H + I + 1)).astype(dtype)
        x, dh = (rng.normal(size=(T, rows, B)).astype(dtype) for rows in (I, H))
        for a, b in zip(passes(kernel, x, dh, numba_engine), passes(kernel, x, dh, lstm), strict=True):
            np.testing.assert_allclose(
                a, b, rtol=0, atol=(1e-4 if dtype == np.float32 else 1e-12) * (1 + np.abs(b).max())
            )


@pytest.mark.parametrize("B", [18, 37, 50, 61])
def test_the_tiles_of_a_slice_do_not_change_the_bits(rng, monkeypatch, B):
    monkeypatch.setattr(numba_engine, "MIN_PARALLEL_FLOPS", 0)
    kernel = rng.normal(size=(4 * 9, 9 + 5 + 1)).astype(np.float32)
    x, dh = (rng.normal(size=(4, rows, B)).astype(np.float32) for rows in (5, 9))
    results = []
    for threads in (1, 2, 3, 4):
        monkeypatch.setattr(numba_engine, "max_threads", lambda threads=threads: threads)
        results.append(passes(kernel, x, dh, numba_engine))
    for other in results[1:]:
        for a, b in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_neighbours_do_not_change_the_bits_of_a_sequence(rng, dtype):
    T, I, H, B = 3, 5, 21, 30
    kernel = rng.normal(size=(4 * H, H + I + 1)).astype(dtype)
    x, dh = (rng.normal(size=(T, rows, B)).astype(dtype) for rows in (I, H))
    h, c, _, *gradients = passes(kernel, x, dh, numba_engine)
    for selection in ([4, 29], [7, 0, 11], list(range(29, -1, -1))):
        *alone, _, dx, dh0, dc0 = passes(kernel, x[..., selection], dh[..., selection], numba_engine)
        for a, b in zip((*alone, dx, dh0, dc0), (h, c, *gradients), strict=True):
            np.testing.assert_array_equal(a, b[..., selection])


def test_nothing_is_written_beyond_the_last_unit_or_sequence(rng):
    run, kind = compile_kernels("f"), np.dtype(np.float32)
    T, I, H, b, further = 2, 3, 5, 4, 3
    W = rng.normal(size=(H + I + 1, 4 * H)).astype(kind)
    packed = np.full((-(-4 * H // run.sizes.lanes), H + I + 1, run.sizes.lanes), np.nan, kind)
    run.pack(W, packed)
    for rows in range(1, b + 1):
        gates, step_inputs, tanh_c = (
            np.full((steps, b, width + further), -7, kind)
            for steps, width in ((T + 1, 5 * H), (T + 1, 3 * H + 9), (T, H))
        )
        gates[0, :, 4 * H : 5 * H], step_inputs[..., 2 * H : 3 * H + I + 1] = 0, 1
        before = step_inputs.copy()
        z, u = gates[:T, :rows, : 4 * H], step_inputs[:T, :rows, 2 * H : 3 * H + I + 1]
        step_gates, products = (
            numba_engine._gates(array[:, :rows, : count * H], count) for array, count in ((gates, 5), (step_inputs, 3))
        )
        x = np.ones((T, rows, I), kind)
        run.forward(packed, x, x[:0], u, z, step_gates, products, tanh_c[:, :rows, :H], np.zeros(T, np.intp))
        for array in (gates, tanh_c):
            assert (array[:, rows:, : 4 * H] == -7).all()
        assert (gates[..., 5 * H :] == -7).all()
        assert (tanh_c[..., H:] == -7).all()
        assert (tanh_c[:, :rows, :H] != -7).all()
        np.testing.assert_array_equal(step_inputs[..., 3 * H :], before[..., 3 * H :])


def test_rows_have_any_source(rng):
    rows = rng.normal(size=(4, 3, 6)).transpose(0, 2, 1)
    assert is_rows(rows)
    assert np.shares_memory(rows_of(rows), rows)
    columns = np.ascontiguousarray(rows)
    assert not is_rows(columns)
    np.testing.assert_array_equal(rows_of(columns), rows_of(rows))
    assert rows_of(columns).strides[2] == rows.itemsize


@pytest.mark.parametrize(("count", "kind", "padded"), [(1, "f", 16), (16, "f", 16), (17, "f", 48), (9, "d", 24)])
def test_rows_have_an_odd_number_of_cache_lines(count, kind, padded):
    assert odd_lines(count, np.dtype(kind)) == padded


def test_both_engines_share_buffers(rng):
    kernel, x, dh = rng.normal(size=(4 * 6, 10)), rng.normal(size=(4, 3, 5)), rng.normal(size=(4, 6, 5))
    buffers = BufferPool()
    for engine in (lstm, numba_engine, lstm, numba_engine):
        tape = engine.forward(kernel, x, buffers=buffers)
        assert isinstance(tape, Tape) == (engine is numba_engine)
        gradient = engine.backward(tape, dh, buffers=buffers)
        for a, b in zip((tape.h, tape.c, *gradient), passes(kernel, x, dh, engine), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_tape_of_rows_is_copied_with_its_layout_or_without(rng):
    import copy  # noqa: PLC0415
    import pickle  # noqa: PLC0415

    kernel, x, dh = rng.normal(size=(4 * 6, 10)), rng.normal(size=(4, 3, 5)), rng.normal(size=(4, 6, 5))
    tape = numba_engine.forward(kernel, x)
    assert isinstance(tape, Tape)
    expected = [array.copy() for array in numba_engine.backward(tape, dh)]
    for other in (copy.deepcopy(tape), pickle.loads(pickle.dumps(tape))):  # noqa: S301 - our own
        for a, b in zip(numba_engine.backward(other, dh), expected, strict=True):
            np.testing.assert_array_equal(a, b)
