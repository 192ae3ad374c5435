"""Law: a claim holds if the computations agree, fails if they do not, and never passes in silence."""

import sys
from types import ModuleType

import numpy as np
import pytest

import glasscell as gc
from glasscell.core import engines
from glasscell.core import lstm as core
from glasscell.layers import FinalState, Function
from glasscell.verify import Check, checks, differences, verify
from glasscell.verify.checks import MAX_BOUND, Measured, run_checks
from glasscell.verify.html import page

PEERS = ("torch", "onnx", "onnxruntime", "keras")


@pytest.fixture
def alone(monkeypatch):
    """As if nothing but NumPy were installed."""
    for name in [name for name in sys.modules if name.split(".")[0] in PEERS]:
        monkeypatch.delitem(sys.modules, name)
    for name in PEERS:
        monkeypatch.setitem(sys.modules, name, None)


def test_the_library_holds_without_peers_and_says_what_was_not_checked(alone):
    claims = verify()
    ours = [claim for claim in claims if claim.against in ("finite differences", "the cell page", "float64")]
    assert len(ours) == len(differences.FAMILIES) + 3
    assert all(claim.holds is True and claim.cases >= 3 for claim in ours), ours
    others = [claim for claim in claims if claim not in ours]
    assert {claim.against for claim in others} == {"PyTorch", "ONNX Runtime", "Keras"}
    assert all(claim.holds is None and claim.note.startswith("not installed") for claim in others)


def test_what_is_there_and_damaged_is_said_to_be(alone, monkeypatch):
    """It is not installed as it should be: no check passes in silence, and none ends the others."""
    for name in PEERS:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))  # empty, as after an installation that broke
    claims = [claim for claim in verify() if claim.against in ("PyTorch", "ONNX Runtime", "Keras")]
    assert claims
    assert all(claim.holds is None and "cannot be loaded" in claim.note for claim in claims), claims


def test_a_planted_bug_is_caught(alone, monkeypatch):
    real = core.backward

    def wrong(tape, *rest, **more):
        gradient = real(tape, *rest, **more)
        gradient.dkernel[0, 0] *= 1.001
        return gradient

    class Wrong(engines.NumPyEngine):
        backward = staticmethod(wrong)

    monkeypatch.setattr(engines, "select", lambda *_: Wrong())
    assert any(claim.holds is False for claim in verify())


def test_a_claim_with_nan_does_not_hold():
    [claim] = run_checks("x", [lambda e=e: {"e": Measured(e)} for e in (0.0, float("nan"), 1.0)], {"e": ("what", 2.0)})
    assert claim.cases == 3
    assert np.isnan(claim.error)
    assert claim.holds is False
    [none] = run_checks("x", [], {"e": ("what", 1.0)})
    assert none.holds is None


def test_a_bound_is_raised_by_measured_conditioning_alone_and_not_without_end():
    rows = {"e": ("what", 1e-6)}
    for errors, holds, bound, words in (
        ([Measured(1e-5, 1e-4)], True, 1e-4, "magnifies rounding: its bound is 1.0e-04 instead of 1e-06"),
        ([Measured(2e-4, 1e-4)], False, 1e-4, "magnifies rounding"),
        ([Measured(1e-7, 1e-9)], True, 1e-6, ""),
        ([Measured(1e-5, 1e-4), Measured(2e-6, 0.0)], False, 1e-6, ""),  # each case has its own bound
        ([Measured(1e-5, 1e-4), Measured(5e-1, 1.0)], True, 1e-4, "magnifies rounding"),
        ([Measured(1e-5, 1.0)], None, 1e-6, "rounding alone moves the result by up to 1e+00"),
    ):
        [claim] = run_checks("x", [lambda e=e: {"e": e} for e in errors], rows)
        assert (claim.holds, claim.bound) == (holds, bound)
        assert words in claim.note
        assert words or not claim.note
    assert MAX_BOUND <= 0.01


@pytest.fixture
def pytorch_alone(torch, monkeypatch):
    """As if of the other projects nothing but PyTorch were installed."""
    for name in [name for name in sys.modules if name.split(".")[0] in PEERS[1:]]:
        monkeypatch.delitem(sys.modules, name)
    for name in PEERS[1:]:
        monkeypatch.setitem(sys.modules, name, None)


def ill_conditioned(scale=1.2):
    """As a trained model of characters: large weights, and rounding is magnified."""
    model = gc.Sequential([gc.LSTM(8, 64, 2, seed=1), gc.Linear(64, 4)])
    model.parameters.vector[:] = np.random.default_rng(3).normal(size=model.parameters.vector.size) * scale
    return model


@pytest.mark.parametrize("model", [ill_conditioned, lambda: ill_conditioned().layers[0]], ids=["chain", "lstm"])
def test_an_ill_conditioned_model_is_no_wrong_one(model, pytorch_alone):
    claims = [claim for claim in verify(model(), (2, 12)) if claim.against not in ("Keras", "ONNX Runtime")]
    assert all(claim.holds for claim in claims), claims
    raised = [claim for claim in claims if claim.note]
    assert any(claim.bound > 1e-5 and claim.error > 5e-6 for claim in raised)  # such that the fixed bound fails
    assert all("magnifies rounding" in claim.note for claim in raised)
    assert all(claim.bound <= 1e-7 for claim in claims if "32" not in claim.what)


def test_a_model_of_which_float32_says_nothing_is_not_said_to_hold(pytorch_alone):
    claims = list(checks(ill_conditioned(scale=3.0).layers[0], (2, 40)))
    of_float32 = [claim for claim in claims if "float32" in claim.what and claim.against in ("float64", "PyTorch")]
    assert of_float32
    assert all(claim.holds is None and "rounding alone moves the result" in claim.note for claim in of_float32)


PLANTED = {  # an error, the engine's function that has it, and how large it is
    "forward": 1e-3,
    "backward": 1e-2,
}


@pytest.mark.parametrize("where", PLANTED)
@pytest.mark.parametrize("only_float32", [False, True])
def test_a_planted_bug_in_an_ill_conditioned_model_is_caught(where, only_float32, pytorch_alone, monkeypatch):
    """In both types, and in float32 alone: where the bound is raised, it is not raised by the error."""
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
    claims = [claim for claim in checks(ill_conditioned(), (2, 12)) if claim.against not in ("Keras", "ONNX Runtime")]
    assert any(claim.holds is False for claim in claims), claims
    assert not only_float32 or all(claim.holds for claim in claims if "32" not in claim.what)


def test_the_step_of_a_difference_fits_how_fast_a_function_bends():
    for k in (1.0, 1e2, 1e4, 1e6):
        value, uncertainty = differences.finite_difference(lambda s, k=k: float(np.sin(k * s + 0.3)) / k, 1.0)
        assert abs(value - np.cos(0.3)) <= max(16 * uncertainty, 1e-8)
        assert uncertainty < 1e-5
    value, uncertainty = differences.finite_difference(lambda s: abs(s - 3e-8) + 1.0, 1.0, kinked=True)
    assert uncertainty > 1e-3 or abs(value + 1) < 1e-6


MODELS = {
    "lstm": lambda: gc.LSTM(3, 5, 2, bidirectional=True),
    "variant": lambda: gc.LSTM(3, 5, peepholes=True, layer_norm="tflite", proj_size=2, learn_initial_state=True),
    "kinked": lambda: gc.LSTM(3, 5, candidate_activation="Relu", clip=1.0),
    "copy": lambda: gc.CopyLSTM(hidden_size=6),
    "chain": lambda: gc.Sequential([gc.LSTM(3, 4), FinalState(), gc.Linear(4, 2), Function("Softmax")]),
    "words": lambda: gc.Sequential([gc.Embedding(9, 3), gc.LSTM(3, 4), gc.Linear(4, 2)]),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_verified(name, alone):
    model = MODELS[name]()
    before = model.parameters.vector.copy()
    claims = verify(model, (2, 5))
    assert all(claim.holds is not False for claim in claims), claims
    assert claims[0].against == "finite differences"
    assert claims[0].holds
    np.testing.assert_array_equal(model.parameters.vector, before)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_verified_against_pytorch(name, pytorch_alone):
    of_torch = [claim for claim in checks(MODELS[name](), (2, 5)) if claim.against == "PyTorch"]
    has = name not in ("variant", "kinked")
    assert len(of_torch) == 4
    assert all(claim.holds is (True if has else None) for claim in of_torch), of_torch
    if not has:
        assert "nn.LSTM has no" in of_torch[0].note


def test_the_page_escapes_what_it_is_given():
    claims = [
        Check("<a>", "b & c", 3, 1e-9, 1e-8),
        Check("x", "y", 0, None, 1.0, "not <installed>"),
        Check("x", "y", 1, 2.0, 1.0),
    ]
    text = page(claims, "<script>alert(1)</script>")
    assert "<script>" not in text
    assert "&lt;a&gt;" in text
    assert "b &amp; c" in text
    assert "not &lt;installed&gt;" in text
    assert "1 hold, 1 fail, 1 could not be checked" in text
    assert "http" not in text.replace("http-equiv", "")
