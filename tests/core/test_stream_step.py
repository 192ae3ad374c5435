"""The compiled step of streams computes the equations, and compiles once."""

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.core.numba_engine import stream_step as compiled_step

BOUNDS = [(np.float32, 1e-6), (np.float64, 1e-12)]


def problem_of(rng, I, H, dtype):
    weight = (rng.normal(size=(I + 1 + H, 4 * H)) / np.sqrt(H)).astype(dtype)
    column, gates = rng.normal(size=I + 1 + H).astype(dtype), rng.normal(size=5 * H).astype(dtype)
    return weight, column, gates


@pytest.mark.parametrize(("dtype", "bound"), BOUNDS)
@pytest.mark.parametrize(("I", "H"), [(1, 1), (2, 3), (3, 3), (5, 8)])
def test_the_step_in_python_computes_the_equations(I, H, dtype, bound, rng):
    """Also without Numba: it is a function of Python, which Numba only makes quick."""
    weight, column, gates = problem_of(rng, I, H, dtype)
    z_i, z_f, z_o, z_g = (column.astype(float) @ weight).reshape(4, H)
    i, f, o = (1 / (1 + np.exp(z)) for z in (z_i, z_f, z_o))  # the rows of W have the minus
    c = f * gates[4 * H :] + i * np.tanh(z_g)
    assert compiled_step.make_step(np.dtype(dtype))(weight, column, gates, I)
    np.testing.assert_allclose(gates, np.concatenate([i, f, o, np.tanh(z_g), c]), rtol=0, atol=bound)
    np.testing.assert_allclose(column[I + 1 :], o * np.tanh(c), rtol=0, atol=bound)


@loop_over("bad", [np.nan, np.inf, -np.inf])
@loop_over("dtype", [np.float32, np.float64])
@np.errstate(over="ignore", invalid="ignore")
def test_a_refused_step_changes_no_state(bad, dtype, rng):
    step, (I, H) = compiled_step.make_step(np.dtype(dtype)), (3, 4)
    weight, column, gates = problem_of(rng, I, H, dtype)
    for k in range(I):
        weight[k] = 0  # a number that nothing is made of is looked at, too
        column[k], good = bad, column[k]
        before = column.copy(), gates[4 * H :].copy()
        assert not step(weight, column, gates, I)
        assert np.array_equal(column, before[0], equal_nan=True)
        assert np.array_equal(gates[4 * H :], before[1])
        column[k] = good
    column[0] = weight[0, 0] = np.finfo(dtype).max
    assert step(weight, column, gates, I)  # a sum that overflows, of finite numbers


@pytest.mark.skipif(find_spec("numba") is None, reason="pip install -e '.[jit]'")
def test_the_step_is_compiled_once_and_cached_on_disk(tmp_path):
    code = """if True:
        import numpy as np
        from glasscell.core.numba_engine.stream_step import compiled_step
        print(sum(compiled_step("f").stats.cache_hits.values()), end="")"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    runs = [
        subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True) for _ in range(2)
    ]
    assert [run.stdout for run in runs] == [b"0", b"1"]
