"""Law: after an exception at any moment, of Ctrl-C or a signal's handler, the next pass is as if there had been none.

These are a few interrupts; ``benchmarks/interrupts.py`` makes thousands.
"""

import signal
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

from glasscell.core import compiled

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
    monkeypatch.setattr(compiled, "allowed", lambda: 2)


@pytest.mark.parametrize("engine", ENGINES)
def test_passes_and_training_after_interrupts_are_undisturbed(script, engine, rng):
    interrupts = script.Interrupts(rng)
    for name, subject in (script.passes(engine, rng) | script.training(engine)).items():
        assert script.trial(subject, interrupts, 25) == [], name
    assert interrupts.raised >= 100


def test_an_interrupt_is_seen_by_the_trial(script, rng):
    """What leaves its work half done is found out."""
    total = np.zeros(1)

    def half_done():
        total[0] += 1
        for _ in range(20_000):
            pass
        total[0] -= 1

    subject = script.Subject(half_done, lambda: "half done" if total[0] else None, lambda: [total.copy()])
    assert "half done" in script.trial(subject, script.Interrupts(rng), 5)
