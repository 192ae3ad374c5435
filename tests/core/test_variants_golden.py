"""The general layer matches Haste, TensorFlow Lite and TensorFlow's cells to their stored precision."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest

from glasscell.core import lstm, time_order, variants
from glasscell.core.variants import CellConfig, DropoutMasks

FOLDER = Path(__file__).parents[2].parent / "shared" / "conformance"


@functools.cache
def cases(case_set):
    """The cases of a set by name: (attributes, arrays in float64); none where the set is not there."""
    if not (FOLDER / f"{case_set}.npz").is_file():
        return {}
    described = json.loads((FOLDER / f"{case_set}.json").read_text(encoding="utf-8"))["cases"]
    with np.load(FOLDER / f"{case_set}.npz") as arrays:
        return {
            case["name"]: (case["attrs"], {k: arrays[f"{case['name']}/{k}"].astype(np.float64) for k in case["arrays"]})
            for case in described
        }


def each_of(case_set, count):
    """A test for each case of a set; where the set is not there, one that says so."""
    names = list(cases(case_set)) or [
        pytest.param("", marks=pytest.mark.skip(f"the set {case_set} is not next to the repository"))
    ]
    assert len(names) in (1, count)
    return pytest.mark.parametrize("name", names)


def case_of(case_set, name):
    """One case, or a skipped test."""
    if not cases(case_set):
        pytest.skip(f"the set {case_set} is not next to the repository")
    return cases(case_set)[name]


def blocks(array, expected, new_order="ifog"):
    """From their order of the gates on the last axis to ours."""
    of_gate = dict(zip(expected, np.split(array, len(expected), axis=-1), strict=True))
    return np.concatenate([of_gate[gate] for gate in new_order], axis=-1)


def kernel_of(recurrent, inputs, bias, order, new_order="ifog"):
    """From matrices whose rows are what comes in: ours, whose columns are."""
    return blocks(np.concatenate([recurrent, inputs, bias[None]]), order, new_order).T


def columns(array):
    """The batch last."""
    return np.ascontiguousarray(array.swapaxes(-2, -1))


# Haste, with the gradients of everything


def haste(name):
    attrs, a = cases("haste_run")[name]
    weights = {"kernel": kernel_of(a["recurrent_kernel"], a["kernel"], a["bias"], "igfo")}
    if attrs["layer_norm"]:
        gain_x, gain_h = blocks(a["gamma"], "igfo")
        weights |= {"gain_x": gain_x, "gain_h": gain_h, "gain_c": a["gamma_h"], "shift_c": a["beta_h"]}
    share = columns(a["zoneout_mask"]) if "zoneout_mask" in a else 1.0 if attrs["training"] else 1 - attrs["zoneout"]
    variant = CellConfig(layer_norm="haste" if attrs["layer_norm"] else None, epsilon=attrs["layer_norm_eps"])
    tape = variants.forward(
        variant, weights, columns(a["x"]), columns(a["h0"]), columns(a["c0"]), DropoutMasks(new_h=share)
    )
    return a, tape


def assert_is_haste(result, expected):
    np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-12)


def expected_gradient(a):
    expected = {"kernel": kernel_of(a["grad/recurrent_kernel"], a["grad/kernel"], a["grad/bias"], "igfo")}
    if "gamma" in a:
        gain_x, gain_h = blocks(a["grad/gamma"], "igfo")
        expected |= {"gain_x": gain_x, "gain_h": gain_h, "gain_c": a["grad/gamma_h"], "shift_c": a["grad/beta_h"]}
    return expected


@each_of("haste_run", 8)
def test_values_and_gradients_match_haste(name):
    a, tape = haste(name)
    assert_is_haste(columns(tape.h), a["h"])
    assert_is_haste(columns(tape.c), a["c"])
    gradient = variants.backward(tape, columns(a["gh"]), dc=columns(a["gc"]))
    expected = expected_gradient(a)
    assert gradient.dweights.keys() == expected.keys()
    for weight, value in expected.items():
        assert_is_haste(gradient.dweights[weight], value)
    for result, argument in [(gradient.dx, "x"), (gradient.dh0, "h0"), (gradient.dc0, "c0")]:
        assert_is_haste(columns(result), a[f"grad/{argument}"])


def test_the_standard_layer_matches_haste():
    _, a = case_of("haste_run", "lstm_plain")
    kernel = kernel_of(a["recurrent_kernel"], a["kernel"], a["bias"], "igfo")
    tape = lstm.forward(kernel, columns(a["x"]), columns(a["h0"]), columns(a["c0"]))
    gradient = lstm.backward(tape, columns(a["gh"]), dc=columns(a["gc"]))
    assert_is_haste(columns(tape.h), a["h"])
    assert_is_haste(columns(tape.c), a["c"])
    assert_is_haste(gradient.dkernel, expected_gradient(a)["kernel"])
    for result, name in [(gradient.dx, "x"), (gradient.dh0, "h0"), (gradient.dc0, "c0")]:
        assert_is_haste(columns(result), a[f"grad/{name}"])


# TensorFlow Lite


@each_of("tflite_golden", 11)
def test_outputs_match_tensorflow_lite(name):
    attrs, a = cases("tflite_golden")[name]
    variant = CellConfig(
        coupled="forget" if attrs["cifg"] else None,
        layer_norm="tflite" if attrs["layer_norm"] else None,
        epsilon=1e-8,
    )
    assert attrs["cell_clip"] == attrs["proj_clip"] == 0

    def stacked(key, gates=variant.gates):
        return np.concatenate([a[f"{key}_{'c' if gate == 'g' else gate}"] for gate in gates])

    weights = {"kernel": np.concatenate([stacked("R"), stacked("W"), stacked("b")[:, None]], axis=1)}
    if attrs["peephole"]:
        weights["peepholes"] = stacked("P", variant.peepholes)
    if attrs["projection"]:
        weights["projection"] = a["W_proj"]
    if attrs["projection_bias"]:
        weights["projection_bias"] = a["b_proj"]
    if attrs["layer_norm"]:
        weights["gain"] = stacked("ln")
    x = a["X"].transpose(1, 2, 0)  # from (B, T, I)
    compared = set()
    for output, reverse in [("Y", False), ("Y_fw", False), ("Y_bw", True)]:
        if output not in a:
            continue
        order = time_order.time_order(np.ones((len(x), x.shape[2]), bool), reverse=reverse)
        tape = variants.forward(variant, weights, order.to_processing_order(x))
        result = order.to_time_order(tape.h).transpose(2, 0, 1)
        np.testing.assert_allclose(result, a[output], rtol=0, atol=attrs["tolerance_abs"])
        compared.add(output)
    assert compared == {output for output in a if output.startswith("Y")}


# TensorFlow's cells: one step each


def compare(result, expected, attrs):
    """Batch first."""
    tolerance = {"rtol": attrs.get("tolerance_rtol", 0), "atol": attrs.get("tolerance_atol", 0)}
    np.testing.assert_allclose(result.T, expected, **tolerance)


def bias_of(a, attrs, order, H, key="bias"):
    """With what their cell adds to the forget gate."""
    bias = a.get(key, np.zeros(len(order) * H)).copy()
    bias[order.index("f") * H :][:H] += attrs.get("forget_bias", 0.0)
    return bias


def one_step(variant, weights, x, h, c):
    return variants.forward(variant, weights, x.T[None], h.T, c.T)


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("basic_lstm_2layer_stack", CellConfig()),
        ("layernorm_basic_lstm_2layer_stack", CellConfig(layer_norm="contrib", epsilon=1e-12)),
    ],
)
def test_two_stacked_cells_match_tensorflow(name, variant):
    """Their forget bias is added behind the normalisation, as the bias is."""
    attrs, a = case_of("tf_cell_golden", name)
    x, H = a["x"], 2
    for layer in ("layer0", "layer1"):
        inputs, recurrent = np.split(a[f"{layer}/kernel"], [2])
        bias = bias_of(a, attrs, "igfo", H, f"{layer}/bias")
        weights = {"kernel": kernel_of(recurrent, inputs, bias, "igfo")}
        if variant.layer_norm:
            weights |= {"gain": np.ones(4 * H), "gain_c": np.ones(H), "shift_c": np.zeros(H)}
        tape = one_step(variant, weights, x, a[f"{layer}/h"], a[f"{layer}/c"])
        compare(tape.h[0], a[f"expected/{layer}/h"], attrs)
        compare(tape.c[0], a[f"expected/{layer}/c"], attrs)
        x = tape.h[0].T
    compare(x.T, a["expected/y"], attrs)


def test_coupled_gates_match_tensorflow():
    attrs, a = case_of("tf_cell_golden", "coupled_input_forget_cell")
    inputs, recurrent = np.split(a["kernel"], [4])
    kernel = kernel_of(recurrent, inputs, bias_of(a, attrs, "gfo", 2), "gfo", "fog")
    tape = one_step(CellConfig(coupled="forget"), {"kernel": kernel}, a["x"], a["h"], a["c"])
    compare(tape.h[0], a["expected/h"], attrs)
    compare(tape.c[0], a["expected/c"], attrs)


def test_peepholes_match_tensorflow():
    """Their bias holds the 1 of the forget gate already; their recurrent kernel meets a hidden state of 0."""
    attrs, a = case_of("tf_cell_golden", "tfa_peephole_cell_onehot")
    kernel = kernel_of(np.zeros((5, 20)), a["kernel"], a["bias"], "ifgo")
    weights = {"kernel": kernel, "peepholes": np.concatenate([a[f"P_{gate}"] for gate in "ifo"])}
    tape = one_step(CellConfig(), weights, a["x"], a["h"], a["c"])
    compare(tape.h[0], a["expected/h"], attrs)


def test_layer_normalisation_matches_tensorflow():
    """It normalises the products as Haste does, but then keeps the normalised cell, which Haste only shows."""
    attrs, a = case_of("tf_cell_golden", "tfa_layernorm_cell_I3")
    kernel = kernel_of(a["recurrent_kernel"], a["kernel"], a["bias"], "ifgo")
    weights = {
        "kernel": kernel,
        "gain_x": np.ones(8),
        "gain_h": np.ones(8),
        "gain_c": np.ones(2),
        "shift_c": np.zeros(2),
    }
    variant = CellConfig(layer_norm="haste", epsilon=attrs["norm_epsilon"])
    tape = one_step(variant, weights, a["x"], a["h"], a["c"])
    compare(tape.h[0], a["expected/h"], attrs)
    compare(tape.output_activation_input[0], a["expected/c"], attrs)
