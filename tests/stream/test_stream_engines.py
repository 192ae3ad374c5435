"""Property: streams of both engines have equal outputs. Numba is imported only if a model needs it."""

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.stream.standard_step import standard_step, standard_step_compiled

needs_numba = pytest.mark.skipif(find_spec("numba") is None, reason="pip install -e '.[jit]'")
BOUNDS = [(np.float32, 1e-6), (np.float64, 1e-12)]


@pytest.fixture(autouse=True)
def engine():
    """Keep the selection of the engine unchanged."""


def step_builders(stream):
    """Return the function that built the step of each layer of the first stage."""
    return next(iter(stream._stages.values())).step_builders


@needs_numba
@loop_over(("dtype", "bound"), BOUNDS)
@loop_over(("I", "H", "L"), [(1, 1, 1), (2, 2, 1), (3, 5, 2), (8, 16, 1), (4, 17, 3), (6, 64, 1), (9, 131, 2)])
def test_both_engines_equal_forward(I, H, L, dtype, bound, rng):
    x = rng.normal(size=(60, I)).astype(dtype)
    for name, step in (("numpy", standard_step), ("numba", standard_step_compiled)):
        model = gc.LSTM(I, H, L, dtype=dtype, initializer="uniform", engine=name)
        stream = model.stream()
        assert step_builders(stream) == [step] * L
        y, state, _ = gc.LSTM(I, H, L, dtype=dtype, initializer="uniform", engine="numpy").forward(x)
        pushed = np.array([stream.push(row).copy() for row in x])
        np.testing.assert_allclose(pushed, y, rtol=0, atol=bound)
        for a, b in zip(stream.state, state, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=bound)


@needs_numba
def test_a_state_moves_between_engines(rng, tmp_path):
    x = rng.normal(size=(10, 3)).astype(np.float32)
    streams = [gc.LSTM(3, 7, num_layers=2, engine=name).stream() for name in ("numpy", "numba")]
    for source, other in (streams, streams[::-1]):
        source.reset()
        for row in x[:5]:
            source.push(row)
        other.state = source.state
        fork = other.copy()
        assert step_builders(fork) == step_builders(other) != step_builders(source)
        source.save(tmp_path / "state.safetensors")
        fork.load(tmp_path / "state.safetensors")
        for row in x[5:]:
            expected, y, y_fork = (stream.push(row) for stream in (source, other, fork))
            np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6)
            np.testing.assert_array_equal(y_fork, y)


def test_a_default_stream_does_not_import_numba():
    code = """if True:
        import sys, glasscell as gc
        gc.LSTM(3, 4).stream().push([1, 2, 3])
        assert "numba" not in sys.modules"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


@needs_numba
def test_batches_and_lstms_with_options_use_numpy(rng):
    x = rng.normal(size=(4, 3)).astype(np.float32)
    several = gc.LSTM(3, 5, engine="numba").stream(4)
    assert step_builders(several) == [standard_step]
    np.testing.assert_allclose(several.push(x)[0], gc.LSTM(3, 5, engine="numba").stream().push(x[0]), atol=1e-6)
    other = gc.LSTM(3, 5, peepholes=True, engine="numba")
    np.testing.assert_allclose(other.stream().push(x[0]), other.forward(x[:1])[0][0], atol=1e-6)
