"""Law: the compiled step is NumPy's step; it is taken where it is asked for, and unasked only where Numba is there."""

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

import glasscell as gc
from glasscell.core import compiled_step
from glasscell.stream.memory import aligned
from glasscell.stream.plain import plain_step, plain_step_compiled

needs_numba = pytest.mark.skipif(find_spec("numba") is None, reason='pip install "glasscell[jit]"')
BOUNDS = [(np.float32, 1e-6), (np.float64, 1e-12)]


@pytest.fixture(autouse=True)
def engine():
    """The engine is chosen as always."""


def taken(stream):
    """Which step each layer of the first part takes."""
    return stream._parts[0].plain_steps


@needs_numba
@pytest.mark.parametrize(("dtype", "bound"), BOUNDS)
@pytest.mark.parametrize(
    ("I", "H", "L"), [(1, 1, 1), (2, 2, 1), (3, 5, 2), (8, 16, 1), (4, 17, 3), (6, 64, 1), (9, 131, 2)]
)
def test_both_engines_give_what_forward_gives(I, H, L, dtype, bound, rng):
    x = rng.normal(size=(60, I)).astype(dtype)
    for name, step in (("numpy", plain_step), ("numba", plain_step_compiled)):
        model = gc.LSTM(I, H, L, dtype=dtype, initializer="uniform", engine=name)
        stream = model.stream()
        assert taken(stream) == [step] * L
        y, state, _ = gc.LSTM(I, H, L, dtype=dtype, initializer="uniform", engine="numpy").forward(x)
        pushed = np.array([stream.push(row).copy() for row in x])
        np.testing.assert_allclose(pushed, y, rtol=0, atol=bound)
        for a, b in zip(stream.state, state, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=bound)


def problem_of(rng, I, H, dtype):
    weight = aligned((I + 1 + H, 4 * H), np.dtype(dtype))
    weight[:] = rng.normal(size=weight.shape) / np.sqrt(H)
    column, gates = rng.normal(size=I + 1 + H).astype(dtype), rng.normal(size=5 * H).astype(dtype)
    return weight, column, gates


@pytest.mark.parametrize(("dtype", "bound"), BOUNDS)
@pytest.mark.parametrize(("I", "H"), [(1, 1), (2, 3), (3, 3), (5, 8)])
def test_the_step_in_python_is_that_of_the_equations(I, H, dtype, bound, rng):
    """Also without Numba: it is a function of Python, which Numba only makes quick."""
    weight, column, gates = problem_of(rng, I, H, dtype)
    z_i, z_f, z_o, z_g = (column.astype(float) @ weight).reshape(4, H)
    i, f, o = ((1 + np.tanh(z)) / 2 for z in (z_i, z_f, z_o))
    c = f * gates[4 * H :] + i * np.tanh(z_g)
    assert compiled_step.step_of(np.dtype(dtype))(weight, column, gates, I)
    np.testing.assert_allclose(gates, np.concatenate([i, f, o, np.tanh(z_g), c]), rtol=0, atol=bound)
    np.testing.assert_allclose(column[I + 1 :], o * np.tanh(c), rtol=0, atol=bound)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@np.errstate(over="ignore", invalid="ignore")
def test_a_step_that_is_refused_changes_no_state(bad, dtype, rng):
    step, (I, H) = compiled_step.step_of(np.dtype(dtype)), (3, 4)
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


@needs_numba
def test_a_state_goes_from_one_engine_to_the_other(rng, tmp_path):
    x = rng.normal(size=(10, 3)).astype(np.float32)
    streams = [gc.LSTM(3, 7, num_layers=2, engine=name).stream() for name in ("numpy", "numba")]
    for one, other in (streams, streams[::-1]):
        one.reset()
        for row in x[:5]:
            one.push(row)
        other.state = one.state
        fork = other.fork()
        assert taken(fork) == taken(other) != taken(one)
        one.save(tmp_path / "state")
        fork.load(tmp_path / "state")
        for row in x[5:]:
            expected, y, of_fork = (stream.push(row) for stream in (one, other, fork))
            np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6)
            np.testing.assert_array_equal(of_fork, y)


def test_what_is_asked_for_is_taken_and_else_what_is_faster(monkeypatch):
    small, large = (np.zeros((n, 4 * n), np.float32) for n in (64, 512))
    monkeypatch.setitem(sys.modules, "numba", sys)
    assert compiled_step.chosen(None, small)
    assert not compiled_step.chosen(None, large)  # BLAS has several cores
    for weight in (small, large):
        assert compiled_step.chosen("numba", weight)
        assert not compiled_step.chosen("numpy", weight)
    monkeypatch.delitem(sys.modules, "numba")
    assert not compiled_step.chosen(None, small)


def test_a_stream_does_not_import_numba_unasked():
    code = """if True:
        import sys, glasscell as gc
        gc.LSTM(3, 4).stream().push([1, 2, 3])
        assert "numba" not in sys.modules"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


@needs_numba
def test_the_step_is_compiled_once_and_kept_on_disk(tmp_path):
    code = """if True:
        import numpy as np
        from glasscell.core.compiled_step import compiled_step
        print(sum(compiled_step("f").stats.cache_hits.values()), end="")"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    runs = [
        subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True) for _ in range(2)
    ]
    assert [run.stdout for run in runs] == [b"0", b"1"]


@needs_numba
def test_a_batch_and_another_kind_of_layer_stay_with_numpy(rng):
    x = rng.normal(size=(4, 3)).astype(np.float32)
    several = gc.LSTM(3, 5, engine="numba").stream(4)
    assert taken(several) == [plain_step]
    np.testing.assert_allclose(several.push(x)[0], gc.LSTM(3, 5, engine="numba").stream().push(x[0]), atol=1e-6)
    other = gc.LSTM(3, 5, peepholes=True, engine="numba")
    np.testing.assert_allclose(other.stream().push(x[0]), other.forward(x[:1])[0][0], atol=1e-6)
