"""Products have the right values, and the same bits, with tiles of every kind."""

import numpy as np
import pytest

from glasscell.core import lstm, numba_engine
from glasscell.core.buffers import BufferPool

pytest.importorskip("numba")

from glasscell.core.numba_engine import tiles
from glasscell.core.numba_engine.kernels import compile_kernels


@pytest.fixture(params=[False, True], ids=["small", "large"])
def large(request, monkeypatch):
    if request.param:
        monkeypatch.setattr(tiles, "LARGE_MATRIX", 0)
    return request.param


def passes(kernel, x, dh, engine):
    """Return the outputs and gradients of a pass, as copies."""
    buffers = BufferPool()
    tape = engine.forward(kernel, x, buffers=buffers)
    gradient = engine.backward(tape, dh, buffers=buffers)
    return [array.copy() for array in (tape.h, tape.c, *gradient)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batches_of_all_sizes(rng, large, dtype):
    for B in range(2, 37):
        H, I, T = int(rng.integers(1, 24)), int(rng.integers(1, 30)), 3
        kernel = rng.normal(size=(4 * H, H + I + 1)).astype(dtype)
        x, dh = (rng.normal(size=(T, rows, B)).astype(dtype) for rows in (I, H))
        for a, b in zip(passes(kernel, x, dh, numba_engine), passes(kernel, x, dh, lstm), strict=True):
            np.testing.assert_allclose(
                a, b, rtol=0, atol=(1e-4 if dtype == np.float32 else 1e-12) * (1 + np.abs(b).max())
            )


@pytest.mark.parametrize("B", [18, 37, 50, 61])
def test_the_tiles_of_a_slice_do_not_change_the_bits(rng, large, monkeypatch, B):
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


def test_nothing_is_written_beyond_the_last_column(rng):
    run = compile_kernels("f")
    W = rng.normal(size=(4 * 5, 5 + 3 + 1)).astype(np.float32)
    for B in range(2, 20):
        tape = lstm.Tape(BufferPool(), 2, 3, 5, B + 7, np.dtype(np.float32))
        for array in (tape.gates, tape.step_inputs, tape.tanh_c):
            array[:] = -7
        part = numba_engine.BatchSlice(0, B, B + 7)
        packed = numba_engine._pack_matrix(W, "W", BufferPool())
        tape.h_with_initial[0], tape.c_with_initial[0], tape.u[:, 5:] = 0, 0, 1
        run.forward(packed, *numba_engine._slice_views(tape, [part], BufferPool())[0])
        assert (tape.gates[:, :20, B:] == -7).all()
        assert (tape.tanh_c[..., B:] == -7).all()
        assert (tape.tanh_c[..., :B] != -7).all()
