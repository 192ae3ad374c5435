"""Law: a claim holds if the computations agree, fails if they do not, and never passes in silence."""

import sys
from types import ModuleType

import numpy as np
import pytest

import glasscell as gc
from glasscell.core import engines
from glasscell.core import lstm as core
from glasscell.layers import FinalState, Function
from glasscell.verify import Claim, checks, differences, verify
from glasscell.verify.claims import claims_of
from glasscell.verify.page import page

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

    class Wrong(engines.NumPy):
        backward = staticmethod(wrong)

    monkeypatch.setattr(engines, "chosen", lambda *_: Wrong())
    assert any(claim.holds is False for claim in verify())


def test_a_claim_with_nan_does_not_hold():
    [claim] = claims_of(
        "x", [lambda: {"e": 0.0}, lambda: {"e": float("nan")}, lambda: {"e": 1.0}], {"e": ("what", 2.0)}
    )
    assert claim.cases == 3
    assert np.isnan(claim.error)
    assert claim.holds is False
    [none] = claims_of("x", [], {"e": ("what", 1.0)})
    assert none.holds is None


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
def test_a_model_is_verified_against_pytorch(name, torch):
    of_torch = [claim for claim in checks(MODELS[name](), (2, 5)) if claim.against == "PyTorch"]
    has = name not in ("variant", "kinked")
    assert len(of_torch) == 4
    assert all(claim.holds is (True if has else None) for claim in of_torch), of_torch
    if not has:
        assert "nn.LSTM has no" in of_torch[0].note


def test_the_page_escapes_what_it_is_given():
    claims = [
        Claim("<a>", "b & c", 3, 1e-9, 1e-8),
        Claim("x", "y", 0, None, 1.0, "not <installed>"),
        Claim("x", "y", 1, 2.0, 1.0),
    ]
    text = page(claims, "<script>alert(1)</script>")
    assert "<script>" not in text
    assert "&lt;a&gt;" in text
    assert "b &amp; c" in text
    assert "not &lt;installed&gt;" in text
    assert "1 hold, 1 fail, 1 could not be checked" in text
    assert "http" not in text.replace("http-equiv", "")
