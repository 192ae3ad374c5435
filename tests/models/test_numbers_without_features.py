"""Law: a model of (B, T) numbers, or whose outputs are (B, T) or (B,), is the one with an axis of one feature there."""

import copy

import numpy as np
import pytest

import glasscell as gc
from glasscell.layers import LSTM, FinalState, Function, Linear, Masking, Pool, Squeeze, Unsqueeze
from glasscell.models import Sequential

B, T, H = 3, 5, 4
CHAINS = {
    "of steps": lambda: [LSTM(1, H, seed=1, dtype=np.float64), Linear(H, 1, seed=2, dtype=np.float64)],
    "of one answer": lambda: [
        *(LSTM(1, H, seed=1, dtype=np.float64), FinalState(), Linear(H, 1, seed=2, dtype=np.float64)),
        Function("Sigmoid"),
    ],
    "masked": lambda: [Masking(0.5), LSTM(1, H, seed=1, dtype=np.float64), Pool(), Linear(H, 1, dtype=np.float64)],
}


def both(name):
    """The model of numbers, and the one of features."""
    return Sequential([Unsqueeze(), *CHAINS[name](), Squeeze()]), Sequential(CHAINS[name]())


@pytest.fixture(params=CHAINS)
def models(request):
    return both(request.param)


def test_outputs_and_gradients(models, rng):
    bare, usual = models
    for shape in ((B, T), (T,)):
        x = rng.normal(size=shape)
        y, _, tape = bare.forward(x)
        of_usual, _, usual_tape = usual.forward(x[..., None])
        np.testing.assert_array_equal(y, of_usual[..., 0])
        np.testing.assert_array_equal(bare(x), usual(x[..., None])[..., 0])
        d = rng.normal(size=y.shape)
        d_x, _, gradients = bare.backward(tape, d)
        d_usual, _, of_gradients = usual.backward(usual_tape, d[..., None])
        np.testing.assert_array_equal(d_x, d_usual[..., 0])
        np.testing.assert_array_equal(gradients.vector, of_gradients.vector)


def test_sequences_of_different_lengths(models, rng):
    bare, usual = models
    x, lengths = rng.normal(size=(B, T)), [5, 1, 3]
    np.testing.assert_array_equal(bare(x, lengths=lengths), usual(x[..., None], lengths=lengths)[..., 0])


@pytest.mark.parametrize("batch", [None, 3])
def test_streams_take_and_give_numbers(models, batch, rng):
    bare, usual = models
    stream, of_usual = bare.stream(batch), usual.stream(batch)
    for _ in range(4):
        x = rng.normal(size=() if batch is None else (batch,))
        y = stream.push(x)
        np.testing.assert_array_equal(y, of_usual.push(x[..., None])[..., 0], strict=True)
        assert y.shape == x.shape
    if batch is None:
        assert stream.push(0.25).shape == ()
        with pytest.raises(ValueError, match=r"x must have shape \(\) = \(\), got \(1,\)"):
            stream.push([0.25])
    else:
        np.testing.assert_array_equal(stream.push([1.0, 2, 3], active=[True, False, True])[1], 0)
        out = np.empty(batch)
        assert stream.push([1.0, 2, 3], out) is out


def test_a_trace_has_features_at_both_ends(models, rng):
    """Its views show them; targets are given as the model gives its outputs."""
    bare, usual = models
    x = rng.normal(size=T)
    y = rng.normal(size=bare(x).shape)
    one, other = bare.trace(x, y), usual.trace(x[:, None], y[..., None])
    assert one.x.shape == (T, 1)
    assert one.loss == other.loss
    np.testing.assert_array_equal(one.outputs, other.outputs)
    np.testing.assert_array_equal(one.layer[0].d_z, other.layer[0].d_z)
    assert bare.trace(rng.normal(size=(B, T))).x.shape == (B, T, 1)


def test_files_and_copies(models, rng, tmp_path):
    bare, _ = models
    x = rng.normal(size=(B, T))
    bare.save(tmp_path / "m.safetensors")
    for again in (gc.load(tmp_path / "m.safetensors"), copy.deepcopy(bare)):
        np.testing.assert_array_equal(again(x), bare(x))
    bare.stream().save(tmp_path / "s.safetensors")
    bare.stream().load(tmp_path / "s.safetensors")


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([LSTM(1, 1), Unsqueeze()], "'1' is an Unsqueeze, and only the first layer can be one"),
        ([Squeeze(), LSTM(1, 1)], "'0' is a Squeeze, and only the last layer can be one"),
        ([LSTM(1, 2), Squeeze()], "'1' takes 1 feature, and '0' gives 2"),
        ([Unsqueeze(), LSTM(2, 1)], "'1' takes 2 features, and '0' gives 1"),
    ],
)
def test_what_does_not_fit_is_refused(layers, words):
    with pytest.raises(ValueError, match=words):
        Sequential(layers)


def test_inputs_of_another_shape(models, rng):
    bare, _ = models
    with pytest.raises(ValueError, match=r"x must have shape \(B, T\) or \(T,\), got \(3, 5, 1\)"):
        bare(rng.normal(size=(B, T, 1)))
    with pytest.raises(ValueError, match="x must be finite"):
        bare(np.full((B, T), np.nan))
