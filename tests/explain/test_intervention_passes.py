"""Interventions act with lengths, masks, directions, layers, engines and options, and end with their block."""

import copy
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from case_loops import loop_over
from intervention_cases import SYMBOLS, B, H, I, T, cases, check_gradients, reference

import glasscell as gc
from glasscell.explain import Intervention, intervene, outputs_under, trace_under

LENGTHS = np.array([4, 6, 0])
MASK = np.array([[1, 0, 1, 1, 0, 1], [0, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0]], bool)
MIXED = [
    Intervention("f", scale=1.3, steps=slice(1, None)),
    Intervention("i", freeze=True, steps=[2, 3], units=[0, 2]),
    Intervention("c", clamp=(-0.4, 0.5), units=slice(2)),
    Intervention("z_g", add=0.4, steps=[0, 5]),
    Intervention("h", freeze=True, units=[1], steps=[3]),
    Intervention("x", freeze=True, units=[2], steps=[2, 4]),
    Intervention("o", patch=np.linspace(0, 1, T * H).reshape(T, H), steps=[1, 3], layer="l0"),
    Intervention("W_h", cut=True, units=[3], steps=slice(2, 5)),
]


def lstm(**options: Any) -> gc.LSTM:
    layer = gc.LSTM(I, H, **{"dtype": np.float64, "initializer": "uniform", "seed": 1} | options)
    rng = np.random.default_rng(8)
    for name, weights in layer.parameters.items():
        if not name.startswith("kernel"):
            weights[...] = rng.normal(size=weights.shape) * 0.4 + name.startswith("gain")
    return layer


def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.normal(size=shape) for shape in shapes]


def results(layer: gc.LSTM, *, given: dict[str, Any], seed: int | None = None) -> list[np.ndarray]:
    """Return everything that a forward and a backward pass compute."""
    x, dy = arrays((B, T, I), (B, T, layer.output_size))
    rng = None if seed is None else np.random.default_rng(seed)
    y, final, tape = layer.forward(x, **given, rng=rng)
    state = type(final)(*(np.cos(array) for array in final))
    dx, d_state, gradients = layer.backward(tape, dy, state)
    return [y, *final, dx, *d_state, gradients.vector]


@pytest.mark.parametrize("given", [{"lengths": LENGTHS}, {"mask": MASK}, {}], ids=["lengths", "mask", "all"])
@pytest.mark.parametrize("symbol", ["x", "z_f", "f", "c", "h"])
def test_steps_are_those_of_time_in_both_directions(symbol, given):
    layer, (x,) = lstm(bidirectional=True), arrays((B, T, I))
    valid = np.ones((B, T), bool) if not given else given.get("mask", np.arange(T) < LENGTHS[:, None])
    several = cases(symbol, units=[0, 2], steps=[0, 3, 4])
    for name in ("scale", "clamp", "freeze", "patch"):
        one = several[name]
        both = [replace(one, direction=direction) for direction in ("forward", "reverse")]
        with layer.intervene(*both):
            y = layer(x, **given)
        for b in range(B):
            for k, (suffix, turn) in enumerate({"l0": 1, "l0_reverse": -1}.items()):
                times, zero = np.flatnonzero(valid[b])[::turn], np.zeros((1, H))
                r = reference(layer.parameters[f"kernel_{suffix}"], x[b : b + 1], zero, zero, [one], times)
                np.testing.assert_allclose(y[b, times, k * H : (k + 1) * H], r["h"][0, times], rtol=0, atol=1e-12)


def test_a_direction_or_a_layer_is_chosen_by_number_direction_or_name():
    layer, (x,) = lstm(num_layers=2, bidirectional=True), arrays((B, T, I))

    def acted(**where: Any) -> list[str]:
        trace = trace_under(layer, Intervention("f", scale=0.5, **where), x)
        return [one.name for one in trace.layer if one.interventions]

    assert acted() == ["l0", "l0_reverse"]
    assert acted(layer=1) == acted(layer=-1) == ["l1", "l1_reverse"]
    assert (
        acted(layer=1, direction="reverse") == acted(layer="l1_reverse") == acted(layer="l1 reverse") == ["l1_reverse"]
    )
    assert acted(layer=None) == ["l0", "l0_reverse", "l1", "l1_reverse"]
    assert acted(layer=None, direction="forward") == ["l0", "l1"]


def test_models_number_their_layers_as_traces_do():
    seeds = {"dtype": np.float64}
    model = gc.Sequential(
        [gc.LSTM(I, H, 2, seed=1, **seeds), gc.LSTM(H, 5, seed=2, **seeds), gc.Linear(5, 2, **seeds)],
        names=["a", "b", "c"],
    )
    (x,) = arrays((B, T, I))
    for layer, name in enumerate(["a l0", "a l1", "b l0"]):
        by_number = outputs_under(model, Intervention("f", set=0.5, layer=layer), x)
        np.testing.assert_array_equal(by_number, outputs_under(model, Intervention("f", set=0.5, layer=name), x))
        trace = trace_under(model, Intervention("f", set=0.5, layer=layer), x)
        assert [one.name for one in trace.layer if one.interventions] == [name]
        np.testing.assert_array_equal(trace.layer[layer].f, 0.5)
        np.testing.assert_allclose(trace.outputs, by_number, rtol=1e-12)


def test_the_upper_layer_of_a_stack_reads_the_changed_outputs():
    layer, (x,), zero = lstm(num_layers=2), arrays((B, T, I)), np.zeros((B, H))
    first, second = Intervention("c", add=0.3, steps=[2]), Intervention("g", clamp=(-0.2, 0.2), layer=1)
    y = outputs_under(layer, [first, second], x)
    below = reference(layer.parameters["kernel_l0"], x, zero, zero, [first])["h"]
    above = reference(layer.parameters["kernel_l1"], below, zero, zero, [second])["h"]
    np.testing.assert_allclose(y, above, rtol=0, atol=1e-12)


@pytest.mark.parametrize("given", [{"lengths": LENGTHS}, {"mask": MASK}, {}], ids=["lengths", "mask", "all"])
@pytest.mark.parametrize(
    "execution", [{"recompute_every": 2}, {"memory_limit": 1.5e4}, {"engine": "numba"}, {"engine": "numpy"}]
)
def test_results_do_not_depend_on_how_the_layer_is_run(execution, given):
    if execution == {"engine": "numba"}:
        pytest.importorskip("numba")
    options = {"num_layers": 2, "bidirectional": True}
    interventions = [one for one in MIXED if one.symbol != "x"] + [
        Intervention("x", freeze=True, units=[2], steps=[2, 4])
    ]
    (x,) = arrays((B, T, I))

    def compute(layer: gc.LSTM) -> list[np.ndarray]:
        with intervene(layer, *interventions):
            return [*results(layer, given=given), layer(x, **given), *layer.infer(x, **given)[1]]

    expected, actual = compute(lstm(**options)), compute(lstm(**options, **execution))
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13)


def test_frozen_values_are_held_over_the_blocks_of_inference():
    layer, x = lstm(), np.random.default_rng(2).normal(size=(2, 150, I))
    interventions = [Intervention(name, freeze=True, steps=slice(60, None)) for name in ("f", "x", "c")]
    with intervene(layer, *interventions):
        y, final, tape = layer.forward(x)
        inferred, inferred_final = layer.infer(x)
    np.testing.assert_allclose(inferred, y, rtol=0, atol=1e-13)
    np.testing.assert_allclose(inferred_final.c, final.c, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(tape.layers[0].f[60:], np.broadcast_to(tape.layers[0].f[59], (90, H, 2)))


OPTIONS: list[dict[str, Any]] = [
    {"peepholes": True},
    {"coupled": "input"},
    {"coupled": "forget"},
    {"forget_gate": False},
    {"clip": 0.2},
    {"layer_norm": "tflite"},
    {"layer_norm": "haste"},
    {"layer_norm": "contrib"},
    {"proj_size": 3, "projection_bias": True},
    {"zoneout": 0.2},
    {"zoneout_cell": 0.3},
    {"recurrent_bias": True, "learn_initial_state": True},
    {"bias": False, "gate_activation": "HardSigmoid", "candidate_activation": "Softsign", "output_activation": "Elu"},
    {"bidirectional": True, "merge": "multiply", "masked_outputs": "repeat"},
    {"reverse": True, "outputs_in": "processing"},
]


REFUSALS: list[tuple[str, dict[str, Any]]] = [
    ("f", {"coupled": "input"}),
    ("z_i", {"coupled": "forget"}),
    ("f", {"forget_gate": False}),
    ("c", {"layer_norm": "haste"}),
    ("c", {"layer_norm": "contrib"}),
    ("c", {"zoneout_cell": 0.1}),
    ("h", {"zoneout": 0.1}),
    ("h", {"proj_size": 2}),
]


def is_refused(symbol: str, options: dict[str, Any]) -> bool:
    """Return whether the symbol has no value for each unit."""
    name, value = next(iter(options.items()))
    if name in ("coupled", "forget_gate"):
        return symbol.removeprefix("z_") == ("i" if value == "forget" else "f")
    return any(symbol == one and name in other and value != "tflite" for one, other in REFUSALS)


@loop_over("options", OPTIONS, ids=str)
def test_gradients_with_each_option_equal_finite_differences(options):
    layer, (x,) = lstm(**options), arrays((B, T, I))
    given, weights = {"lengths": np.array([4, 6, 1])}, layer.parameters.vector.copy()
    for symbol in (*SYMBOLS, "W_h"):
        if is_refused(symbol, options):
            continue
        several = [Intervention("W_h", cut=True, units=[1], steps=[2, 3])]
        if symbol != "W_h":
            named = cases(symbol, units=[0, 2], steps=slice(1, 4))
            several = [Intervention(symbol, scale=0.7), named["freeze"], named["clamp"]]
        with layer.intervene(*several):
            y, final, tape = layer.forward(x, **given)
            dy = np.sin(np.arange(y.size)).reshape(y.shape)
            dx, _, gradients = layer.backward(tape, dy, final)

            def loss(a: dict[str, np.ndarray]) -> float:
                layer.parameters.vector[:] = a["weights"]
                outputs, (h, c) = layer.infer(a["x"], **given)
                return float(np.vdot(outputs, dy) + np.vdot(h, final.h) + np.vdot(c, final.c))  # noqa: B023

            check_gradients(loss, {"weights": weights, "x": x}, {"weights": gradients.vector, "x": dx})
        layer.parameters.vector[:] = weights


@loop_over(("symbol", "options"), REFUSALS)
def test_symbols_without_a_value_for_each_unit_are_refused(symbol, options):
    (name, value), layer = next(iter(options.items())), lstm(**options)
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        layer.intervene(symbol, scale=0.5)


def test_noise_of_training_is_drawn_as_without_interventions():
    """Masks depend on the generator alone: an intervention that changes nothing leaves every number."""
    for options in (
        {"dropout": 0.3, "num_layers": 2},
        {"input_dropout": 0.3, "recurrent_dropout": 0.4},
        {"zoneout": 0.3},
    ):
        layer = lstm(**options)
        expected = results(layer, given={}, seed=3)
        with layer.intervene("f", scale=1.0):
            actual = results(layer, given={}, seed=3)
        for one, other in zip(actual, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def test_nothing_remains_after_a_block_also_after_an_exception():
    for options in ({}, {"peepholes": True}, {"recompute_every": 2}, {"num_layers": 2, "bidirectional": True}):
        layer = lstm(**options)
        expected = results(layer, given={})
        runners = [direction.runner for direction in layer._directions]
        with pytest.raises(ValueError, match="finite"), intervene(layer, *MIXED):
            layer(np.full((B, T, I), np.nan))
        with intervene(layer, *MIXED):
            assert not np.array_equal(results(layer, given={})[0], expected[0])
        assert [direction.runner for direction in layer._directions] == runners
        for one, other in zip(results(layer, given={}), expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_backward_pass_is_under_the_interventions_of_its_forward_pass():
    for execution in ({}, {"recompute_every": 2}):
        layer, (x, dy) = lstm(**execution), arrays((B, T, I), (B, T, H))
        _, _, tape = layer.forward(x)
        expected = layer.backward(tape, dy)[2].vector
        with intervene(layer, *MIXED):
            np.testing.assert_allclose(layer.backward(tape, dy)[2].vector, expected, rtol=1e-12, atol=1e-14)
            _, _, under = layer.forward(x)
            d = layer.backward(under, dy)[2].vector
        np.testing.assert_array_equal(layer.backward(under, dy)[2].vector, d)  # twice, and after the block
        assert not np.allclose(d, expected)


def test_an_interrupted_backward_pass_leaves_nothing_for_the_next_one():
    for execution in ({}, {"recompute_every": 2}):
        layer, (x, dy) = lstm(**execution), arrays((B, T, I), (B, T, H))
        with layer.intervene("f", freeze=True, steps=slice(1, None)):
            _, _, tape = layer.forward(x)
        d = layer.backward(tape, dy)[2].vector
        steps: Any = tape.directions[0].tape
        hook = steps.hooks[0] if execution else steps.hook
        hook._carried["f"] = np.ones((H, B))  # as at an interrupt
        np.testing.assert_array_equal(layer.backward(tape, dy)[2].vector, d)


def test_a_gradient_passes_a_clamp_strictly_between_the_limits():
    layer = lstm()
    x = np.tile([-0.5, 0.25, 0.5], (1, T, 1))
    with layer.intervene("x", clamp=(-0.5, 0.5)):
        y, _, tape = layer.forward(x)
    np.testing.assert_allclose(y, layer(x), rtol=1e-12)
    dx = layer.backward(tape, np.ones_like(y))[0]
    assert not dx[..., [0, 2]].any()
    np.testing.assert_allclose(dx[..., 1], layer.backward(layer.forward(x)[2], np.ones_like(y))[0][..., 1], rtol=1e-12)


def test_blocks_nest_and_may_end_in_any_order():
    layer, (x,) = lstm(), arrays((B, T, I))
    scaled, limited = Intervention("f", scale=2.0), Intervention("f", clamp=(0.0, 0.8))
    alone = outputs_under(layer, limited, x)
    untouched = layer(x)
    with layer.intervene("f", scale=2.0):
        one = layer(x)
        with layer.intervene(scaled):  # an equal one
            np.testing.assert_array_equal(layer(x), outputs_under(layer, [], x))
            assert not np.array_equal(layer(x), one)
        np.testing.assert_array_equal(layer(x), one)
        with layer.intervene("f", clamp=(0.0, 0.8)):
            np.testing.assert_array_equal(layer(x), outputs_under(layer, [], x))
            both = layer(x)
        np.testing.assert_array_equal(layer(x), one)
    np.testing.assert_array_equal(both, outputs_under(layer, [scaled, limited], x))
    assert not np.array_equal(both, outputs_under(layer, [limited, scaled], x))
    first, second = layer.intervene(scaled), layer.intervene(limited)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    np.testing.assert_array_equal(layer(x), alone)
    second.__exit__(None, None, None)
    np.testing.assert_array_equal(layer(x), untouched)


def test_a_block_can_be_entered_again_also_inside_itself():
    layer, (x,) = lstm(), arrays((B, T, I))
    untouched, block = layer(x), layer.intervene("f", scale=0.5)
    with block:
        once = layer(x)
        with block:
            np.testing.assert_array_equal(layer(x), outputs_under(lstm(), [Intervention("f", scale=0.5)] * 2, x))
        np.testing.assert_array_equal(layer(x), once)
    np.testing.assert_array_equal(layer(x), untouched)
    with block as model:
        np.testing.assert_array_equal(model(x), once)
    np.testing.assert_array_equal(layer(x), untouched)


def test_copies_pickles_and_files_are_without_interventions(tmp_path):
    model = gc.Sequential([lstm(), gc.Linear(H, 2, dtype=np.float64, seed=2)])
    (x,) = arrays((B, T, I))
    expected, weights = model(x), model.parameters.vector.copy()
    with model.intervene("f", set=0.1):
        assert not np.array_equal(model(x), expected)
        copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]  # noqa: S301
        model.save(tmp_path / "model.safetensors")
        np.testing.assert_array_equal(model.parameters.vector, weights)
        for one in [*copies, gc.Sequential.load(tmp_path / "model.safetensors")]:
            np.testing.assert_array_equal(one(x), expected)
            assert one.layers[0]._directions[0].is_plain
        _, _, tape = pickle.loads(pickle.dumps(model.forward(x)))  # noqa: S301
        d = model.backward(model.forward(x)[2], expected)[2].vector
    np.testing.assert_array_equal(model.backward(tape, expected)[2].vector, d)


def test_training_is_under_interventions():
    """A unit that is cut off and whose h is 0 gets no gradient; the weights keep what was learned."""
    model = gc.Sequential([lstm(), gc.Linear(H, 2, dtype=np.float64, seed=2)])
    before = model.parameters["0.kernel_l0"].reshape(4, H, -1).copy()
    x, y = arrays((16, T, I), (16, T, 2))
    with model.intervene("h", set=0.0, units=[2]):
        gc.fit(model, (x, y), loss="squared_error", updates=3, batch_size=8, progress=False)
        inside = model.predict(x)
        np.testing.assert_allclose(inside, model(x), rtol=0, atol=1e-13)
    after = model.parameters["0.kernel_l0"].reshape(4, H, -1)
    np.testing.assert_array_equal(after[:, 2], before[:, 2])
    assert not np.array_equal(after[:, 1], before[:, 1])
    assert not np.array_equal(model.predict(x), inside)


def test_a_patch_from_a_trace_moves_what_a_pass_did_into_another():
    model = gc.Sequential([lstm(bidirectional=True), gc.Linear(2 * H, 2, dtype=np.float64, seed=2)])
    x, other = arrays((B, T, I), (B, T, I))
    trace = model.trace(other, lengths=[6, 6, 6])
    for symbol in ("h", "c", "z_o", "x"):
        y = outputs_under(model, Intervention(symbol, patch=trace), x)
        if symbol in ("h", "x"):
            np.testing.assert_allclose(y, model(other), rtol=0, atol=1e-12)
        else:
            assert not np.allclose(y, model(x))
        one = Intervention(symbol, patch=trace.layer[1], direction="reverse")
        both = [one, Intervention(symbol, patch=trace.layer[0], direction="forward")]
        np.testing.assert_allclose(outputs_under(model, both, x), y, rtol=0, atol=1e-13)
    single = model.trace(other[0])
    np.testing.assert_allclose(
        outputs_under(model, Intervention("h", patch=single), x), np.repeat(model(other[:1]), B, axis=0), atol=1e-12
    )
