"""An engine named by the user is used; otherwise the sizes select one."""

import subprocess
import sys
from inspect import signature

import numpy as np
import pytest

from glasscell.core import engines, lstm
from glasscell.core.lstm import negate_sigmoid_rows

F4 = np.dtype(np.float32)


def test_a_named_engine_is_used():
    assert engines.select("numpy", 8, 32, 4, F4) is engines.NUMPY
    pytest.importorskip("numba")
    for H, B in ((32, 1), (4096, 1)):  # where it is faster, and where it is not
        assert engines.select("numba", 8, H, B, F4) is not engines.NUMPY


@pytest.mark.parametrize("name", ["forward", "backward", "forward_inference"])
def test_engines_take_the_arguments_that_are_stated_for_all(name):
    """Also `ended`, if they skip the steps after the ends of sequences."""
    numba_engine = pytest.importorskip("glasscell.core.numba_engine")
    _, *stated = signature(getattr(engines.Engine, name)).parameters.values()
    for engine in (engines.NUMPY, numba_engine):
        taken = signature(getattr(engine, name)).parameters.values()
        assert [(p.name, p.kind, p.default) for p in taken if p.name != "ended"] == [
            (p.name, p.kind, p.default) for p in stated
        ]


def test_the_default_is_the_faster_engine():
    pytest.importorskip("numba")
    assert engines.select(None, 8, 32, 4, F4) is not engines.NUMPY
    assert engines.select(None, 8, 256, 4, F4) is not engines.NUMPY
    assert engines.select(None, 8, 4096, 1, F4) is engines.NUMPY


def test_inference_and_streams_use_numba_on_request():
    pytest.importorskip("numba")
    for name, is_compiled in ((None, False), ("numpy", False), ("numba", True)):
        assert (engines.select_for_inference(name, 8, 32, 4, F4) is not engines.NUMPY) == is_compiled
        assert engines.uses_numba_for_streams(name) == is_compiled


def test_updates_use_numba_if_it_is_installed(monkeypatch):
    assert not engines.compiles_updates("numpy")
    assert engines.compiles_updates("numba")
    for installed in (True, False):
        monkeypatch.setattr(engines, "is_installed", lambda _, installed=installed: installed)
        monkeypatch.setattr(engines, "_usable", lambda: True)
        engines.compiles_updates.cache_clear()
        assert engines.compiles_updates(None) == installed
    engines.compiles_updates.cache_clear()


def test_without_numba_the_default_is_numpy(monkeypatch):
    monkeypatch.setattr(engines, "is_installed", lambda _: False)
    monkeypatch.setattr(engines, "_compiled", lambda: pytest.fail("the compiled engine is imported"))
    assert engines.select(None, 8, 32, 4, F4) is engines.NUMPY


def test_an_unusable_numba_warns_and_numpy_is_used(monkeypatch):
    def refuse(name):
        raise ImportError("Numba needs NumPy 2.4 or less. Got NumPy 9.9.")

    monkeypatch.setattr(engines, "is_installed", lambda _: True)
    monkeypatch.setattr(engines, "_import", refuse)
    engines._usable.cache_clear()
    engines.compiles_updates.cache_clear()
    with pytest.warns(UserWarning, match=r"cannot be imported.*NumPy 9\.9"):
        assert engines.select(None, 8, 32, 4, F4) is engines.NUMPY
    assert not engines.compiles_updates(None)
    engines._usable.cache_clear()
    engines.compiles_updates.cache_clear()


PROGRAM = """if True:
    import sys
    imported, *_ = sys.argv[1:]
    if imported == "numba":
        import numba
    import numpy as np, glasscell as gc
    from hashlib import sha256
    x = np.random.default_rng(0).normal(size=(4, 20, 3)).astype("f4")
    lstm, model = gc.LSTM(3, 16, seed=1), gc.CopyLSTM(hidden_size=16, seed=0)
    stream = lstm.stream()
    gc.fit(model, gc.tasks.Copy(4), 3, batch_size=8)
    arrays = [lstm.infer(x)[0], *(stream.push(row).copy() for row in x[0]), lstm.forward(x)[0], model.parameters.vector]
    print(sha256(b"".join(array.tobytes() for array in arrays)).hexdigest(), end="")
"""


def test_other_imports_change_no_bit():
    pytest.importorskip("numba")
    answers = [
        subprocess.run([sys.executable, "-c", PROGRAM, imported], check=True, capture_output=True).stdout
        for imported in ("nothing", "numba")
    ]
    assert answers[0] == answers[1] != b""


@pytest.mark.parametrize(
    ("K", "T", "B", "by_columns"),
    [(8, 2, 1, True), (9, 2, 1, False), (7, 2, 1, True), (8, 2, 2, False), (8, 2, 0, False)],
)
def test_weights_are_transposed_for_enough_steps(K, T, B, by_columns):
    W = negate_sigmoid_rows(np.ones((4, K), np.float32), T, B)
    assert W.flags.f_contiguous == by_columns


def test_large_weights_are_not_transposed(monkeypatch):
    monkeypatch.setattr(lstm, "L2_WEIGHTS", 32)
    assert negate_sigmoid_rows(np.ones((4, 8)), 9, 1).flags.f_contiguous
    assert not negate_sigmoid_rows(np.ones((4, 9)), 9, 1).flags.f_contiguous
