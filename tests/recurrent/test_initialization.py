"""Chrono initialization draws the biases of Tallec & Ollivier (2018), and does not change the other weights."""

import numpy as np
import pytest
from case_loops import loop_over

from glasscell import LSTM

I, H = 3, 40
KINDS = {
    "standard": {},
    "two layers, both directions": {"num_layers": 2, "bidirectional": True},
    "two biases": {"recurrent_bias": True},
    "uniform, two biases": {"recurrent_bias": True, "initializer": "uniform"},
    "layer norm, peepholes": {"layer_norm": "haste", "peepholes": True},
    "float32": {"dtype": np.float32},
}


def lstm(**options):
    return LSTM(I, H, **{"dtype": np.float64, **options})


def biases(layer, suffix):
    """The effective bias of each gate, H each: the sum of both where a layer has two."""
    bias = layer.options.kernel(layer.parameters, suffix)[:, -1]
    return dict(zip(layer.options.cell_config.gates, bias.reshape(-1, H), strict=True))


@pytest.mark.parametrize("options", KINDS.values(), ids=list(KINDS))
def test_biases_are_the_logarithms_of_the_time_scales(options):
    layer = lstm(forget_bias="chrono", chrono_steps=100, seed=3, **options)
    for suffix, _, _ in layer.options.directions:
        b = biases(layer, suffix)
        time_scales = np.exp(b["f"])
        assert 1 <= time_scales.min() < 20
        assert 80 < time_scales.max() <= 99
        assert np.unique(time_scales).size == H
        np.testing.assert_array_equal(b["i"], -b["f"])


def test_directions_and_layers_draw_different_time_scales():
    layer = lstm(forget_bias="chrono", chrono_steps=100, num_layers=2, bidirectional=True)
    drawn = [biases(layer, suffix)["f"] for suffix, _, _ in layer.options.directions]
    assert np.unique(np.concatenate(drawn)).size == 4 * H


@pytest.mark.parametrize("options", KINDS.values(), ids=list(KINDS))
def test_all_other_weights_are_those_without_it(options):
    chrono = lstm(forget_bias="chrono", chrono_steps=100, seed=3, **options).parameters
    other = lstm(forget_bias=0.0, seed=3, **options).parameters
    for name in chrono:
        a, b = chrono[name].copy(), other[name].copy()
        if name.startswith("kernel"):
            a[: 2 * H, -1] = b[: 2 * H, -1] = 0
        if name.startswith("recurrent_bias"):
            a[: 2 * H] = b[: 2 * H] = 0
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("coupled", "gate", "sign"), [("input", "i", -1), ("forget", "f", 1)])
def test_coupled_gates_forget_at_the_drawn_rates(coupled, gate, sign, rng):
    """f / (1 - f) = u: a unit keeps the share 1 - 1 / (1 + u) of its cell in each step."""
    layer = lstm(forget_bias="chrono", chrono_steps=50, coupled=coupled, seed=1)
    u = np.exp(sign * biases(layer, "_l0")[gate])
    assert 1 <= u.min() < u.max() <= 49
    f = layer.forward(np.zeros((1, I)))[2].layers[0].f[0, :, 0]
    np.testing.assert_allclose(f, 1 - 1 / (1 + u), rtol=1e-12)


def test_the_time_scales_are_uniform():
    H, number_of_layers = 500, 40
    layers = [
        LSTM(1, H, forget_bias="chrono", chrono_steps=11, initializer="uniform", seed=seed)
        for seed in range(number_of_layers)
    ]
    b_f = np.concatenate([layer.parameters["kernel_l0"][H : 2 * H, -1] for layer in layers]).astype(float)
    counts, _ = np.histogram(np.exp(b_f), bins=np.linspace(1, 10, 10))
    assert counts.sum() == 20_000
    assert np.abs(counts / 20_000 - 1 / 9).max() < 0.01


def test_the_same_seed_draws_the_same_biases():
    one, same, other = (lstm(forget_bias="chrono", chrono_steps=9, seed=seed).parameters.vector for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_a_layer_without_a_seed_is_0():
    assert not lstm(forget_bias="chrono", chrono_steps=9, seed=None).parameters.vector.any()


@pytest.mark.parametrize("forget_bias", [-3.0, 0.0, 1.0])
def test_a_forget_bias_has_no_effect_without_forget_gates(forget_bias):
    layer = lstm(forget_gate=False, forget_bias=forget_bias)
    assert not layer.parameters["kernel_l0"][:, -1].any()


@loop_over(
    ("options", "error", "words"),
    [
        ({"forget_bias": "crono"}, TypeError, "forget_bias must be a number or 'chrono', got 'crono'"),
        ({"forget_bias": None}, TypeError, "forget_bias must be a number or 'chrono', got None"),
        ({"forget_bias": "chrono"}, ValueError, "chrono_steps must be the longest dependency in steps .*, got None"),
        ({"forget_bias": "chrono", "chrono_steps": 2}, ValueError, "chrono_steps must be at least 3, got 2"),
        ({"forget_bias": "chrono", "chrono_steps": 0}, ValueError, "chrono_steps must be at least 1"),
        ({"forget_bias": "chrono", "chrono_steps": 9.5}, TypeError, "chrono_steps must be an integer"),
        ({"chrono_steps": 9}, ValueError, "chrono_steps must be None unless forget_bias='chrono', got 9"),
        ({"forget_bias": "chrono", "chrono_steps": 9, "bias": False}, ValueError, "bias must be True for"),
        (
            {"forget_bias": "chrono", "chrono_steps": 9, "forget_gate": False},
            ValueError,
            "forget_gate must be True for",
        ),
        (
            {"forget_bias": "chrono", "chrono_steps": 9, "gate_activation": "HardSigmoid"},
            ValueError,
            "gate_activation must be 'Sigmoid' for forget_bias='chrono', got 'HardSigmoid'",
        ),
    ],
)
def test_bad_values_are_refused(options, error, words):
    with pytest.raises(error, match=words):
        lstm(**options)
