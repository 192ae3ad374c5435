"""Inference without a tape returns the same bits as the forward pass, in NumPy's engine."""

import numpy as np
from case_loops import loop_over

from glasscell.core import lstm, lstm_inference
from glasscell.core.buffers import BufferPool

SHAPES = [(0, 3, 4, 2), (1, 3, 4, 2), (7, 3, 4, 1), (7, 3, 4, 5), (30, 1, 8, 1), (2, 2, 1, 3), (5, 4, 3, 0)]


@loop_over("dtype", [np.float32, np.float64])
@loop_over(("T", "I", "H", "B"), SHAPES)
def test_outputs_and_final_state_match_the_tape(T, I, H, B, dtype, rng):
    kernel, x = rng.normal(size=(4 * H, H + I + 1)).astype(dtype), rng.normal(size=(T, I, B)).astype(dtype)
    h0, c0 = rng.normal(size=(2, H, B)).astype(dtype)
    for start in ((), (h0,), (h0, c0), (0.5, 0.25)):
        tape, (h, final_h, final_c) = (
            lstm.forward(kernel, x, *start),
            lstm_inference.forward_inference(kernel, x, *start),
        )
        assert (h.shape, h.dtype, final_c.dtype) == ((T, H, B), dtype, dtype)
        np.testing.assert_array_equal(h, tape.h)
        np.testing.assert_array_equal(final_h, tape.h_with_initial[-1])
        np.testing.assert_array_equal(final_c, tape.c_with_initial[-1])


def test_reused_buffers_change_no_result_and_arguments_are_not_modified(rng):
    kernel, x, buffers = rng.normal(size=(16, 8)), rng.normal(size=(6, 3, 2)), BufferPool()
    before = kernel.copy(), x.copy()
    expected = [part.copy() for part in lstm_inference.forward_inference(kernel, x)]
    for _ in range(3):
        lstm_inference.forward_inference(rng.normal(size=(16, 8)), rng.normal(size=(6, 3, 2)), 1.0, 1.0, buffers)
        for part, known in zip(lstm_inference.forward_inference(kernel, x, buffers=buffers), expected, strict=True):
            np.testing.assert_array_equal(part, known)
    np.testing.assert_array_equal(kernel, before[0])
    np.testing.assert_array_equal(x, before[1])
