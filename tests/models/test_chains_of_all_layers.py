"""Law: a model of any layers is the adjoint of itself, trains, and is the same from a file, a copy and in a model."""

import copy

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.layers import (
    AveragePooling1D,
    BatchNorm,
    Conv1D,
    Dropout,
    FinalState,
    Flatten,
    Function,
    GaussianDropout,
    GaussianNoise,
    LayerNorm,
    Masking,
    MaxPooling1D,
    Normalization,
    Pool,
    RepeatVector,
    Rescaling,
    SpatialDropout1D,
    Step,
)

B, T, I, H = 3, 9, 3, 4
D = {"dtype": np.float64}


def lstm(inputs):
    return gc.LSTM(inputs, H, **D)


CHAINS = {
    "classifier": lambda: [
        *(Normalization((0.1, -1.0, 2.0), (1.0, 2.0, 0.5)), Conv1D(I, 4, 3, **D), BatchNorm(4, **D), Function("Silu")),
        *(AveragePooling1D(2), SpatialDropout1D(0.2), lstm(4), FinalState(), LayerNorm(H, **D), gc.Linear(H, 2, **D)),
    ],
    "encoder and decoder": lambda: [
        *(Rescaling(0.5, 1.0), GaussianNoise(0.1), lstm(I), Step(-1), GaussianDropout(0.1), RepeatVector(5)),
        *(lstm(H), LayerNorm(H, gain=False, **D), gc.Linear(H, 2, **D), Function("GeluTanh")),
    ],
    "flat": lambda: [
        lstm(I),
        Conv1D(H, 2, 2, padding="causal", **D),
        Function("Gelu"),
        Flatten(),
        gc.Linear(18, 2, **D),
    ],
    "nested": lambda: [
        gc.Sequential([Conv1D(I, 4, 3, padding="same", **D), MaxPooling1D(3, 1, "same")], ["conv", "pool"]),
        gc.Sequential([gc.Sequential([lstm(4), Dropout(0.3)]), LayerNorm(H, **D), Pool("mean")]),
        gc.Linear(H, 2, **D),
    ],
}


def model_of(name, rng):
    """With weights and statistics that are none of the defaults."""
    model = gc.Sequential(CHAINS[name]())
    model.parameters.vector[:] = rng.normal(scale=0.5, size=model.parameters.vector.size)
    for layer in model.layers:
        for statistic in getattr(layer, "statistics", {}).values():
            statistic[:] = rng.uniform(0.3, 2, statistic.shape)
    return model


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", CHAINS)
def test_backward_is_the_adjoint(name, training, rng):
    model, x = model_of(name, rng), rng.normal(size=(B, T, I))

    def forward(x):
        return model.forward(x, rng=np.random.default_rng(5) if training else None)

    y, _, tape = forward(x)
    dy = rng.normal(size=y.shape)
    dx, _, gradients = model.backward(tape, dy)
    weights, along = model.parameters.vector.copy(), rng.normal(size=model.parameters.vector.size)
    along_x = rng.normal(size=x.shape)

    def loss(s):
        model.parameters.vector[:] = weights + s * along
        return (dy * forward(x + s * along_x)[0]).sum()

    h = 1e-4
    measured = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h)
    assert gradients.vector @ along + (dx * along_x).sum() == pytest.approx(measured, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("name", CHAINS)
def test_a_file_and_a_copy_are_the_same_model(name, rng, tmp_path):
    model, x = model_of(name, rng), rng.normal(size=(B, T, I))
    model.save(tmp_path / "model.safetensors")
    for other in (gc.Sequential.load(tmp_path / "model.safetensors"), copy.deepcopy(model)):
        np.testing.assert_array_equal(other(x), model(x))
        assert repr(other) == repr(model)
        assert other.config == model.config
        other.parameters.vector[:] *= 1.5
        assert not np.array_equal(other(x), model(x))
    for b in range(B):
        np.testing.assert_allclose(model(x[b]), model(x)[b], rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", CHAINS)
def test_it_learns(name, rng):
    """Noise and all; running statistics stay as they are."""
    model, x = model_of(name, rng), rng.normal(size=(16, T, I))
    statistics = [
        (array, array.copy()) for layer in model.layers for array in getattr(layer, "statistics", {}).values()
    ]
    optimizer, losses = gc.Adam(0.02), []
    state = optimizer.init_state(model.parameters.vector)
    for _ in range(60):
        y, _, tape = model.forward(x, rng=rng)
        losses.append(((y - 0.7) ** 2).mean())
        _, _, gradients = model.backward(tape, 2 * (y - 0.7) / y.size)
        optimizer.update(model.parameters.vector, gradients.vector, state)
    assert losses[-1] < 0.7 * losses[0]
    assert all((array == before).all() for array, before in statistics)


def test_a_model_in_a_model_computes_what_its_layers_do(rng):
    model, x = model_of("nested", rng), rng.normal(size=(B, T, I))
    assert model.names == ("0.conv", "0.pool", "1.0.0", "1.0.1", "1.1", "1.2", "2")
    flat = gc.Sequential([copy.deepcopy(layer) for layer in model.layers], seed=None)
    np.testing.assert_array_equal(flat(x), model(x))
    assert model.to_torch().keys() >= {"0.conv.weight", "1.0.0.weight_ih_l0", "1.1.weight", "2.bias"}


def test_a_model_in_a_model_keeps_working_with_the_same_weights(rng):
    inner = gc.Sequential([Conv1D(I, 4, 3, **D), Function("Relu")])
    middle = gc.Sequential([inner, lstm(4)], ["front", "lstm"])
    model = gc.Sequential([middle, FinalState(), gc.Linear(H, 1, **D)])
    x = rng.normal(size=(B, T, I))
    for changed in (model, middle, inner):
        changed.parameters.vector[:] = rng.normal(size=changed.parameters.vector.size)
        h, _ = model.layers[2].infer(inner(x))
        np.testing.assert_array_equal(middle(x), h)
        np.testing.assert_allclose(model(x), model.layers[4].forward(h[:, -1])[0], rtol=0, atol=1e-14)
        np.testing.assert_array_equal(model.parameters["0.front.0.weight"], inner.parameters["0.weight"])


@loop_over(
    ("layers", "words"),
    [
        (
            lambda: [gc.LSTM(3, 4), FinalState(), gc.LSTM(4, 4)],
            "'2' takes a sequence, and '1' gives one vector for each",
        ),
        (lambda: [gc.LSTM(3, 4), Step(), Step()], "'2' takes a sequence, and '1' gives one vector"),
        (lambda: [gc.LSTM(3, 4), Flatten(), Conv1D(4, 4, 2)], "'2' takes a sequence, and '1' gives one vector"),
        (lambda: [RepeatVector(3)], "'0' takes one vector for each sequence, and the input gives a sequence"),
        (lambda: [gc.LSTM(3, 4), LayerNorm(5)], "'1' takes 5 features, and '0' gives 4"),
        (lambda: [gc.LSTM(3, 4), Rescaling((1.0, 2.0))], "'1' takes 2 features, and '0' gives 4"),
        (lambda: [Conv1D(3, 5, 2), MaxPooling1D(), gc.LSTM(3, 4)], "'2' takes 3 features, and '1' gives 5"),
    ],
)
def test_layers_that_do_not_fit_are_refused(layers, words):
    with pytest.raises(ValueError, match=words):
        gc.Sequential(layers())


def test_what_becomes_of_the_mask(rng):
    """Padding never matters, or is refused by the layer that cannot pass it over."""
    x = rng.normal(size=(2, T, I))
    lengths = [T, 5]
    kept = gc.Sequential([Rescaling(2.0), BatchNorm(I, **D), lstm(I), LayerNorm(H, **D), Pool("max")])
    np.testing.assert_allclose(kept(x, lengths=lengths)[1], kept(x[1, :5]), rtol=0, atol=1e-14)
    masked = gc.Sequential([Masking(), Conv1D(I, 4, 2, **D), lstm(4)])
    np.testing.assert_array_equal(masked(x).shape, (2, T - 1, H))
    for model in (masked, gc.Sequential([MaxPooling1D(), lstm(I)]), gc.Sequential([lstm(I), Flatten()])):
        with pytest.raises(ValueError, match="must get sequences without padding, got masked steps; ignore_mask=True"):
            model(x, lengths=lengths)
        model(x, lengths=[T, T])


def test_a_trace_has_one_axis_of_time(rng):
    x = rng.normal(size=(T, I))
    same = gc.Sequential([Conv1D(I, 4, 3, padding="same", **D), lstm(4), LayerNorm(H, **D), gc.Linear(H, 1, **D)])
    assert same.trace(x, np.ones((T, 1))).has_gradients
    for layers in ([Conv1D(I, 4, 3, **D), lstm(4)], [lstm(I), FinalState(), RepeatVector(4), lstm(H)]):
        with pytest.raises(ValueError, match=f"a trace has one axis of time, and '.' takes . steps for the {T} of x"):
            gc.Sequential(layers).trace(x)
