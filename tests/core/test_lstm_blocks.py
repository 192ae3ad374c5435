"""NumPy's engine divides the steps into blocks within limits of memory, and products of enough columns."""

import numpy as np
import pytest

from glasscell.core import lstm
from glasscell.core.buffers import BufferPool

T, I = 12, 3


def tape_of(rng, H, B, dtype=np.float64):
    kernel, x = rng.normal(size=(4 * H, H + I + 1)).astype(dtype), rng.normal(size=(T, I, B)).astype(dtype)
    return lstm.forward(kernel, x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("H", "B"), [(4, 3), (5, 1), (8, 2)])
@pytest.mark.parametrize("steps", [0.5, 1.5, 4.5, 30])
def test_the_gates_of_a_block_are_within_the_limit(steps, H, B, dtype, monkeypatch, rng):
    """As many steps as it allows, or one."""
    tape = tape_of(rng, H, B, dtype)
    monkeypatch.setattr(lstm, "BLOCK_BYTES", int(steps * tape.gates[0].nbytes))
    lengths = [len(views) for views, _ in lstm._forward_blocks(BufferPool(), tape)]
    length = min(T, max(1, int(steps)))
    assert lengths == [length] * (T // length)


@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize(("steps", "columns"), [(0.5, 1), (0.5, 7), (1.5, 6), (2.5, 5), (2.5, 11), (4.5, 1), (99, 99)])
@pytest.mark.parametrize("B", [1, 2, 3])
def test_the_factors_of_a_block_are_within_the_limit_and_products_have_enough_columns(
    B, steps, columns, fits, monkeypatch, rng
):
    """Products of weights that do not fit in the cache have four times as many columns: there are fewer additions.

    They are whole blocks. Dz of each block is copied next to that of the others of a product, except for one sequence,
    whose steps are adjacent as they are.
    """
    tape = tape_of(rng, 5, B)
    monkeypatch.setattr(lstm, "BLOCK_BYTES", int(steps * tape.gates[0, : 4 * tape.H].nbytes))
    monkeypatch.setattr(lstm, "MIN_GEMM_COLUMNS", columns)
    monkeypatch.setattr(lstm, "L2_WEIGHTS", tape.kernel.size - (not fits))
    plan = lstm._BackwardPlan(BufferPool(), tape)
    block, wanted = min(T, max(1, int(steps))), columns * (1 if fits else 4)
    whole = next(n for n in range(block, 1000, block) if n * B >= wanted)
    assert plan.gemm_steps == min(T, whole)
    assert plan.block_steps == (plan.gemm_steps if B == 1 else block)
    assert (plan.dz_columns is plan.dz_block) == (plan.block_steps == plan.gemm_steps)
    for array, length in ((plan.dz_block, plan.block_steps), (plan.dz_columns, plan.gemm_steps)):
        assert array.shape == (length, 4 * tape.H, B)
