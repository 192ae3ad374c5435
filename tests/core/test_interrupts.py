"""After an exception at any point, from Ctrl-C or a signal handler, the next pass is undisturbed.

These tests make a few interrupts; ``benchmarks/interrupts.py`` makes thousands.
"""

import gc as garbage
import signal
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

import glasscell as gc
from glasscell.core import numba_engine, products

if not hasattr(signal, "setitimer"):
    pytest.skip("there are no signals of POSIX here", allow_module_level=True)

FILE = Path(__file__).parents[2] / "benchmarks" / "interrupts.py"
ENGINES = ["numpy", pytest.param("numba", marks=pytest.mark.skipif(find_spec("numba") is None, reason="no Numba"))]


@pytest.fixture(scope="module")
def script():
    spec = spec_from_file_location("interrupts", FILE)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    for module in (numba_engine, products):
        monkeypatch.setattr(module, "max_threads", lambda: 2)


@pytest.fixture(autouse=True)
def no_collections():
    """Collect no garbage: Python only reports an exception in a callback of a collection, or of a weak reference to it.

    JAX has callbacks of the first kind, Numba of the second.
    """
    garbage.collect()
    garbage.disable()
    yield
    garbage.enable()


@pytest.mark.parametrize("engine", ENGINES)
def test_passes_and_training_after_interrupts_are_undisturbed(script, engine, rng):
    interrupts = script.Interrupts(rng)
    for name, subject in (script.passes(engine, rng) | script.training(engine)).items():
        assert script.trial(subject, interrupts, 12) == [], name
    assert interrupts.raised >= 48


@pytest.mark.parametrize("engine", ENGINES)
def test_an_interrupted_push_is_complete_or_has_no_effect(script, engine, rng):
    interrupts = script.Interrupts(rng)
    for name, subject in script.streams(engine, rng).items():
        assert script.trial(subject, interrupts, 30) == [], name


@pytest.mark.parametrize("batch", [None, 3])
def test_a_push_that_fails_at_any_point_leaves_the_state(batch, rng):
    """Each call of the step fails in turn; those before it have changed part of the state."""
    x = rng.normal(size=(5, *(() if batch is None else (batch,)), 3)).astype(np.float32)
    stream = gc.Sequential([gc.LSTM(3, 4, 2), gc.LSTM(4, 5, layer_norm="haste"), gc.Linear(5, 2)]).stream(batch)
    fork = stream.copy()
    for row in x:
        for k, call in enumerate(stream._runner.calls):

            def fail(call=call):
                call()
                raise KeyboardInterrupt

            stream._runner.calls[k] = fail
            active = None if batch is None or k % 2 else np.arange(batch) != 1
            with pytest.raises(KeyboardInterrupt):
                stream.push(row) if active is None else stream.push(row, active=active)
            stream._runner.calls[k] = call
        np.testing.assert_array_equal(stream.push(row), fork.push(row))
    assert len(stream._runner.calls) > 10


@pytest.mark.parametrize("optimizer", [gc.SGD(momentum=0.9), gc.RMSProp(), gc.Adam(engine="numpy"), gc.AdamW()])
def test_an_update_that_fails_midway_changes_no_weight(optimizer):
    class Failing(type(optimizer)):
        def update(self, vector, *others):
            super().update(vector, *others)
            if update_fails:
                vector[: len(vector) // 2] = 0
                raise KeyboardInterrupt

    model, update_fails = gc.CopyLSTM(hidden_size=8), False
    optimizer = Failing(**vars(optimizer))
    before = model.parameters.vector.copy()
    gc.fit(model, gc.tasks.Copy(4), 1, batch_size=4, optimizer=optimizer)
    after, update_fails = model.parameters.vector.copy(), True
    assert not np.array_equal(before, after)
    with pytest.raises(KeyboardInterrupt):
        gc.fit(model, gc.tasks.Copy(4), 1, batch_size=4, optimizer=optimizer)
    np.testing.assert_array_equal(model.parameters.vector, after)


def test_the_trial_observes_interrupts(script, rng):
    """What leaves its work half done is found out."""
    total = np.zeros(1)

    def half_done():
        total[0] += 1
        for _ in range(20_000):
            pass
        total[0] -= 1

    subject = script.Subject(half_done, lambda: "half done" if total[0] else None, lambda: [total.copy()])
    assert "half done" in script.trial(subject, script.Interrupts(rng), 5)
