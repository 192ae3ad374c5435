"""Property: a check holds if the computations agree, fails if they differ, and is otherwise skipped with a reason."""

import sys
from types import ModuleType

import numpy as np
import pytest

import glasscell as gc
from glasscell.core import engines
from glasscell.core import lstm as core
from glasscell.layers import FinalState, Function
from glasscell.verify import Check, differences, iter_checks, verify
from glasscell.verify.checks import MAX_BOUND, Measured, run_checks
from glasscell.verify.html import page

LIBRARIES = ("torch", "onnx", "onnxruntime", "keras")


@pytest.fixture
def numpy_only(monkeypatch):
    """Hide all libraries but NumPy."""
    for name in [name for name in sys.modules if name.split(".")[0] in LIBRARIES]:
        monkeypatch.delitem(sys.modules, name)
    for name in LIBRARIES:
        monkeypatch.setitem(sys.modules, name, None)


def test_the_library_without_other_libraries(numpy_only):
    checks = verify()
    own_checks = [check for check in checks if check.reference in ("finite differences", "reference cell", "float64")]
    assert len(own_checks) == len(differences.FAMILIES) + 3
    assert all(check.holds is True and check.cases >= 3 for check in own_checks), own_checks
    others = [check for check in checks if check not in own_checks]
    assert {check.reference for check in others} == {"PyTorch", "ONNX Runtime", "Keras"}
    assert all(check.holds is None and check.note.startswith("not installed") for check in others)


def test_damaged_installations_are_reported(numpy_only, monkeypatch):
    """Skip the checks with a reason, and run the others."""
    for name in LIBRARIES:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))  # empty, as after a broken installation
    checks = [check for check in verify() if check.reference in ("PyTorch", "ONNX Runtime", "Keras")]
    assert checks
    assert all(check.holds is None and "cannot be loaded" in check.note for check in checks), checks


def test_a_planted_bug_fails(numpy_only, monkeypatch):
    real = core.backward

    def wrong(tape, *rest, **more):
        gradient = real(tape, *rest, **more)
        gradient.dkernel[0, 0] *= 1.001
        return gradient

    class Wrong(engines.NumPyEngine):
        backward = staticmethod(wrong)

    monkeypatch.setattr(engines, "select", lambda *_: Wrong())
    assert any(check.holds is False for check in verify())


def test_a_claim_with_nan_does_not_hold():
    [check] = run_checks("x", [lambda e=e: {"e": Measured(e)} for e in (0.0, float("nan"), 1.0)], {"e": ("what", 2.0)})
    assert check.cases == 3
    assert np.isnan(check.error)
    assert check.holds is False
    [none] = run_checks("x", [], {"e": ("what", 1.0)})
    assert none.holds is None


def test_only_measured_conditioning_raises_a_bound_up_to_a_limit():
    rows = {"e": ("what", 1e-6)}
    for errors, holds, bound, words in (
        ([Measured(1e-5, 1e-4)], True, 1e-4, "amplifies rounding: its bound is 1.0e-04 instead of 1e-06"),
        ([Measured(2e-4, 1e-4)], False, 1e-4, "amplifies rounding"),
        ([Measured(1e-7, 1e-9)], True, 1e-6, ""),
        ([Measured(1e-5, 1e-4), Measured(2e-6, 0.0)], False, 1e-6, ""),  # each case has its own bound
        ([Measured(1e-5, 1e-4), Measured(5e-1, 1.0)], True, 1e-4, "amplifies rounding"),
        ([Measured(1e-5, 1.0)], None, 1e-6, "rounding alone changes the result by up to 1e+00"),
    ):
        [check] = run_checks("x", [lambda e=e: {"e": e} for e in errors], rows)
        assert (check.holds, check.bound) == (holds, bound)
        assert words in check.note
        assert words or not check.note
    assert MAX_BOUND <= 0.01


@pytest.fixture
def pytorch_only(torch, monkeypatch):
    """Hide all other libraries but PyTorch."""
    for name in [name for name in sys.modules if name.split(".")[0] in LIBRARIES[1:]]:
        monkeypatch.delitem(sys.modules, name)
    for name in LIBRARIES[1:]:
        monkeypatch.setitem(sys.modules, name, None)


def ill_conditioned(scale=1.2):
    """Return a model with large weights, like a trained model of characters, which amplifies rounding."""
    model = gc.Sequential([gc.LSTM(8, 64, 2, seed=1), gc.Linear(64, 4)])
    model.parameters.vector[:] = np.random.default_rng(3).normal(size=model.parameters.vector.size) * scale
    return model


@pytest.mark.parametrize("model", [ill_conditioned, lambda: ill_conditioned().layers[0]], ids=["chain", "lstm"])
def test_an_ill_conditioned_model_holds(model, pytorch_only):
    checks = [check for check in verify(model(), (2, 12)) if check.reference not in ("Keras", "ONNX Runtime")]
    assert all(check.holds for check in checks), checks
    raised = [check for check in checks if check.note]
    assert any(check.bound > 1e-5 and check.error > 5e-6 for check in raised)  # such that the fixed bound fails
    assert all("amplifies rounding" in check.note for check in raised)
    assert all(check.bound <= 1e-7 for check in checks if "32" not in check.label)


def test_checks_are_skipped_if_float32_has_no_correct_digits(pytorch_only):
    checks = list(iter_checks(ill_conditioned(scale=3.0).layers[0], (2, 40)))
    of_float32 = [check for check in checks if "float32" in check.label and check.reference in ("float64", "PyTorch")]
    assert of_float32
    assert all(check.holds is None and "rounding alone changes the result" in check.note for check in of_float32)


PLANTED = {  # function of the engine: relative error
    "forward": 1e-3,
    "backward": 1e-2,
}


@pytest.mark.parametrize("where", PLANTED)
@pytest.mark.parametrize("only_float32", [False, True])
def test_a_planted_bug_in_an_ill_conditioned_model_fails(where, only_float32, pytorch_only, monkeypatch):
    """Plant the bug in both dtypes, or in float32 alone: the error does not raise its bound."""
    size = PLANTED[where]

    def forward(kernel, x, h, c, *rest, **more):
        changed = kernel.dtype == np.float32 or not only_float32
        return core.forward(kernel * kernel.dtype.type(1 + size * changed), x, h, c, *rest, **more)

    def backward(tape, *rest, **more):
        gradient = core.backward(tape, *rest, **more)
        if tape.kernel.dtype == np.float32 or not only_float32:
            gradient.dkernel[...] *= 1 + size
        return gradient

    class Wrong(engines.NumPyEngine):
        pass

    setattr(Wrong, where, staticmethod({"forward": forward, "backward": backward}[where]))
    monkeypatch.setattr(engines, "select", lambda *_: Wrong())
    checks = [
        check for check in iter_checks(ill_conditioned(), (2, 12)) if check.reference not in ("Keras", "ONNX Runtime")
    ]
    assert any(check.holds is False for check in checks), checks
    assert not only_float32 or all(check.holds for check in checks if "32" not in check.label)


def test_the_step_of_a_difference_fits_the_curvature():
    for k in (1.0, 1e2, 1e4, 1e6):
        value, uncertainty = differences.finite_difference(lambda s, k=k: float(np.sin(k * s + 0.3)) / k, 1.0)
        assert abs(value - np.cos(0.3)) <= max(16 * uncertainty, 1e-8)
        assert uncertainty < 1e-5
    value, uncertainty = differences.finite_difference(lambda s: abs(s - 3e-8) + 1.0, 1.0, non_smooth=True)
    assert uncertainty > 1e-3 or abs(value + 1) < 1e-6


MODELS = {
    "lstm": lambda: gc.LSTM(3, 5, 2, bidirectional=True),
    "variant": lambda: gc.LSTM(3, 5, peepholes=True, layer_norm="tflite", proj_size=2, learn_initial_state=True),
    "non_smooth": lambda: gc.LSTM(3, 5, candidate_activation="Relu", clip=1.0),
    "copy": lambda: gc.CopyLSTM(hidden_size=6),
    "chain": lambda: gc.Sequential([gc.LSTM(3, 4), FinalState(), gc.Linear(4, 2), Function("Softmax")]),
    "words": lambda: gc.Sequential([gc.Embedding(9, 3), gc.LSTM(3, 4), gc.Linear(4, 2)]),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_verified(name, numpy_only):
    model = MODELS[name]()
    before = model.parameters.vector.copy()
    checks = verify(model, (2, 5))
    assert all(check.holds is not False for check in checks), checks
    assert checks[0].reference == "finite differences"
    assert checks[0].holds
    np.testing.assert_array_equal(model.parameters.vector, before)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_verified_against_pytorch(name, pytorch_only):
    of_torch = [check for check in iter_checks(MODELS[name](), (2, 5)) if check.reference == "PyTorch"]
    has = name not in ("variant", "non_smooth")
    assert len(of_torch) == 4
    assert all(check.holds is (True if has else None) for check in of_torch), of_torch
    if not has:
        assert "nn.LSTM does not support" in of_torch[0].note


def test_the_page_escapes_text():
    checks = [
        Check("<a>", "b & c", 3, 1e-9, 1e-8),
        Check("x", "y", 0, None, 1.0, "not <installed>"),
        Check("x", "y", 1, 2.0, 1.0),
    ]
    text = page(checks, "<script>alert(1)</script>")
    assert "<script>" not in text
    assert "&lt;a&gt;" in text
    assert "b &amp; c" in text
    assert "not &lt;installed&gt;" in text
    assert "1 hold, 1 fail, 1 skipped" in text
    assert "http" not in text.replace("http-equiv", "")
