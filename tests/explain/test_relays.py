"""Laws: a relay that is built by hand is found, and every share equals a run with that patch alone."""

from copy import deepcopy

import numpy as np
import pytest
from case_loops import loop_over
from known_models import HAND, READ, WRITE, T, make_relay

import glasscell as gc
from glasscell.core import cell
from glasscell.explain import relay
from glasscell.explain.sentences import relay_sentence


@pytest.fixture(scope="module")
def two_units():
    return make_relay()


def test_a_relay_of_two_units_is_found(two_units):
    result = relay(two_units.model, two_units.x, inputs=[(WRITE, 0)], outputs=[(READ, 0)], replacement="flip")
    carried = np.zeros((T, 3))
    carried[WRITE:HAND, 0] = carried[HAND : READ + 1, 1] = 1
    np.testing.assert_allclose(result.carried[0], carried, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.together[0], carried.sum(axis=1), rtol=0, atol=1e-12)
    edges = np.zeros((T, 3, 3))
    edges[WRITE, 0, 0] = edges[HAND - 1, 0, 1] = edges[HAND, 1, 1] = edges[HAND + 1, 1, 1] = 1
    np.testing.assert_allclose(result.edges[0], edges, rtol=0, atol=1e-12)
    assert [tuple(one) for one in result.handovers(0)] == [(HAND - 1, 0, 1, pytest.approx(1.0))]
    assert result.sentence(0) == "step 1, feature 0 is written into unit 0, handed to 1, and read at step 5"
    assert [tuple(one) for one in result.path(0)] == [
        (0, WRITE, HAND - 1, pytest.approx(1.0)),
        (1, HAND, READ, pytest.approx(1.0)),
    ]
    assert (result.written_at[0], result.read_at[0]) == (WRITE, READ)
    effect = 6 * np.tanh(np.tanh(2 * np.tanh(np.tanh(1))))  # y is 3 tanh(tanh(2 tanh(tanh(±1))))
    assert result.effect[0] == pytest.approx(effect, abs=1e-12)


def test_an_input_that_nothing_reads_carries_nothing(two_units):
    result = relay(two_units.model, two_units.x, inputs=[(2, 0)], outputs=[(READ, 0)], replacement="flip")
    assert not result.carried.any()
    assert result.path(0) == []
    assert result.effect[0] == 0
    assert result.sentence(0) == "step 2, feature 0 does not change its output"


def patched_by_hand(model, x, other, name, step, unit, **lengths):
    """Return c and the outputs of the run with one patch."""
    donor = next(layer for layer in model.trace(other, **lengths).layer if layer.name == name).c
    with model.intervene("c", patch=np.nan_to_num(donor), layer=name, units=[unit], steps=step):
        trace = model.trace(x, **lengths)
        return np.nan_to_num(next(layer for layer in trace.layer if layer.name == name).c), model(x, **lengths)


MODELS = {
    "stacked": lambda: gc.Sequential([gc.LSTM(2, 3, 2, dtype=np.float64), gc.Linear(3, 2, dtype=np.float64)]),
    "both directions": lambda: gc.Sequential(
        [gc.LSTM(2, 3, bidirectional=True, dtype=np.float64), gc.Linear(6, 2, dtype=np.float64)]
    ),
    "convolution": lambda: gc.Sequential(
        [
            gc.layers.Conv1D(2, 2, 3, padding="causal", dtype=np.float64),
            gc.LSTM(2, 3, dtype=np.float64),
            gc.layers.Conv1D(3, 2, 2, padding="causal", dtype=np.float64),
        ]
    ),
    "layer": lambda: gc.LSTM(2, 2, dtype=np.float64),
    "projection and peepholes": lambda: gc.LSTM(2, 4, proj_size=2, peepholes=True, dtype=np.float64),
}


@loop_over("layer", [0, -1])
@loop_over(
    ("kind", "ragged"),
    [(kind, ragged) for kind in MODELS for ragged in (False, True) if not (kind == "convolution" and ragged)],
)
def test_every_share_equals_a_run_with_that_patch_alone(kind, layer, ragged, rng):
    model = MODELS[kind]()
    model.parameters.vector[:] = rng.normal(size=model.parameters.vector.size)
    x = rng.normal(size=(7, 5, 2))
    lengths = {"lengths": np.array([5, 3, 4, 5, 2, 5, 4])} if ragged else {}
    result = relay(model, x, inputs=[1], outputs=[(3, 1)], replacement=x + 1, layer=layer, **lengths)
    rows = lengths.get("lengths", np.full(7, 5)) > 3
    assert result.sequences == [rows.sum()]
    x, lengths = x[rows], {name: value[rows] for name, value in lengths.items()}
    other = x.copy()
    other[:, 1] += 1
    trace, changed = model.trace(x, **lengths), model.trace(other, **lengths)
    c, c_other = (np.nan_to_num(one.layer[layer].c) for one in (trace, changed))
    assert result.layer == trace.layer[layer].name
    difference = changed.outputs[:, 3, 1] - trace.outputs[:, 3, 1]
    following = -1 if trace.layer[layer].reverse else 1
    for t in range(5):
        for unit in range(c.shape[-1]):
            c_patched, y = patched_by_hand(model, x, other, result.layer, t, unit, **lengths)
            share = ((y[:, 3, 1] - trace.outputs[:, 3, 1]) * np.sign(difference)).sum() / np.abs(difference).sum()
            assert result.carried[0, t, unit] == pytest.approx(share, abs=1e-12)
            if not 0 <= t + following < 5 or not result.carried[0, t].any():
                continue
            whole = (c_other - c)[:, t + following]
            product = ((c_patched - c)[:, t + following] * whole).sum(axis=0)
            square = (whole**2).sum(axis=0)
            moved = np.divide(product, square, out=np.zeros_like(product), where=square > 1e-20)
            expected = moved * result.carried[0, t + following]
            np.testing.assert_allclose(result.edges[0, t, unit], expected, rtol=0, atol=1e-12)


def test_shares_equal_the_cell_of_the_textbook(rng):
    """One sequence through `core/cell.py`, step by step, with c of one unit replaced."""
    model = gc.Sequential([gc.LSTM(2, 4, dtype=np.float64), gc.Linear(4, 1, dtype=np.float64)])
    model.parameters.vector[:] = rng.normal(size=model.parameters.vector.size)
    x = rng.choice([-1.0, 1.0], size=(1, 5, 2))
    W, readout = model.layers[0].parameters["kernel_l0"], model.layers[1]

    def run(inputs, patch=None):
        h, c, cells = np.zeros((4, 1)), np.zeros((4, 1)), []
        for t, u in enumerate(inputs[0]):
            step = cell.step(W, u[:, None], h, c)
            c, h = step.c, step.h
            if patch is not None and patch[0] == t:
                c = c.copy()
                c[patch[1]] = patch[2]
                h = step.o * np.tanh(c)
            cells.append(c)
        return (readout.parameters["weight"] @ h + readout.parameters["bias"][:, None]).item(), cells

    flipped = x.copy()
    flipped[0, 1, 0] *= -1
    (y, _), (y_other, donor) = run(x), run(flipped)
    result = relay(model, x, inputs=[(1, 0)], outputs=[(4, 0)], replacement=-x)
    for t in range(1, 5):
        for unit in range(4):
            patched, _ = run(x, (t, unit, donor[t][unit, 0]))
            assert result.carried[0, t, unit] == pytest.approx((patched - y) / (y_other - y), abs=1e-12)


def test_models_of_ids_and_of_one_vector(rng):
    model = gc.Sequential([gc.Embedding(5, 3), gc.LSTM(3, 4), gc.layers.FinalState(), gc.Linear(4, 2)])
    ids = rng.integers(5, size=(9, 4))
    result = relay(model, ids, inputs=[0, 2], outputs=[1], sequences=100)
    assert result.carried.shape == (2, 4, 4)
    np.testing.assert_allclose(result.carried[:, 3].sum(axis=1), result.together[:, 3], atol=0.5)
    assert (result.together[:, 3] > 0.2).all()
    assert result.read_at.tolist() == [-1, -1]
    assert result.sentence(0).endswith("and read by output 1")
    assert result.carried[1, :2].max() == 0
    assert (result.sequences.tolist(), len(result.labels)) == ([9, 9], 2)


def test_outputs_with_other_steps(rng):
    """Output 1 of a pooling over pairs of steps is that of steps 2 and 3."""
    lstm = gc.LSTM(2, 3, seed=1, dtype=np.float64)
    model = gc.Sequential([lstm, gc.layers.AveragePooling1D(2)], seed=None)
    x = rng.normal(size=(6, 6, 2))
    other = x.copy()
    other[:, 1] = 0.5
    result = relay(model, x, inputs=[1], outputs=[(1, 0)], replacement=0.5)
    difference = (model(other) - model(x))[:, 1, 0]
    for t in range(6):
        for unit in range(3):
            _, y = patched_by_hand(model, x, other, "l0", t, unit)
            share = ((y - model(x))[:, 1, 0] * np.sign(difference)).sum() / np.abs(difference).sum()
            assert result.carried[0, t, unit] == pytest.approx(share, abs=1e-12)
    assert np.abs(result.carried[0, 4:]).max() < 1e-12
    assert np.abs(result.carried[0, 3]).max() > 0.01


def test_passes_may_be_small(trained, monkeypatch):
    whole = relay(trained, trained.task)
    monkeypatch.setattr("glasscell.explain.patching.MAX_ROWS", 16 * 3)  # three units at once
    parts = relay(trained, trained.task)
    np.testing.assert_allclose(parts.carried, whole.carried, rtol=0, atol=1e-5)
    np.testing.assert_allclose(parts.together, whole.together, rtol=0, atol=1e-5)
    np.testing.assert_allclose(parts.edges, whole.edges, rtol=0, atol=1e-4)


def test_an_input_without_weights_does_not_change_the_cells(two_units, rng):
    x = np.concatenate([two_units.x, rng.normal(size=(64, T, 1))], axis=2)
    lstm = gc.LSTM(5, 3, dtype=np.float64)
    kernel = two_units.model.layers[0].parameters["kernel_l0"]
    lstm.parameters["kernel_l0"][:] = np.insert(kernel, 7, 0.0, axis=1)
    result = relay(gc.Sequential([lstm], seed=None), x, inputs=[(1, 4)], outputs=[5], replacement=0.0)
    assert result.written_at.tolist() == [-1]
    assert result.sentence(0) == "step 1, feature 4 does not change the cells"
    assert not result.edges.any()


def test_models_of_numbers(rng):
    layers = [gc.layers.Unsqueeze(), gc.LSTM(1, 3, seed=2, dtype=np.float64), gc.Linear(3, 1, dtype=np.float64)]
    model = gc.Sequential(layers, seed=None)
    numbers = gc.Sequential([*map(deepcopy, layers), gc.layers.Squeeze()], seed=None)
    x = rng.normal(size=(5, 4))
    options = {"inputs": [1], "replacement": 0.5}
    first = relay(numbers, x, outputs=[3], **options)
    np.testing.assert_array_equal(first.carried, relay(model, x, outputs=[(3, 0)], **options).carried)
    assert first.together[0, 1] > 0.5


def test_a_trained_model_hands_its_bits_on(trained):
    result = relay(trained, trained.task)
    assert result.labels == tuple(f"bit {k}" for k in range(4))
    assert result.written_at.tolist() == [0, 1, 2, 3]
    assert result.read_at.tolist() == [5, 6, 7, 8]
    for k in range(4):
        assert (result.together[k, k : 6 + k] > 0.5).all()
        assert not result.together[k, :k].any()
        assert not result.together[k, 6 + k :].any()
        assert result.sentence(k).startswith(f"bit {k} is written into unit")
        assert result.sentence(k).endswith(f"and read at step {5 + k}")
    assert repr(result) == (
        "Relay(4 inputs × 9 steps × 16 units: c of l0; 16 of all 16 inputs of Copy(width=4), with those of training)"
    )


def test_results_do_not_depend_on_the_order_of_the_sequences(two_units, rng):
    order = rng.permutation(64)
    options = {"inputs": [(WRITE, 0)], "outputs": [(READ, 0)], "replacement": "flip", "sequences": 20}
    first = relay(two_units.model, two_units.x, **options)
    second = relay(two_units.model, two_units.x[order], **options)
    np.testing.assert_allclose(second.carried, first.carried, atol=1e-12)
    assert first.sequences == [20]


def test_a_unit_is_handed_what_it_carries_after_the_step_of_writing():
    carried = np.zeros((3, 4))
    carried[0], carried[1, [0, 2]] = (0.9, 0.2, 0.3, 0.0), (0.8, 0.4)  # unit 1: at the step of writing only
    assert relay_sentence("bit 0", carried, 0, 2, "step 2") == (
        "bit 0 is written into unit 0, handed to 2, and read at step 2"
    )
    assert relay_sentence("bit 0", carried[:1], 0, 0, "step 0") == "bit 0 is written into unit 0 and read at step 0"


def test_sentences_follow_their_rules():
    carried = np.zeros((6, 9))
    carried[1, [4, 2, 7]] = 0.5, 0.26, 0.2  # 7 has less than half
    carried[2, 7], carried[3, 5], carried[4, [1, 0]] = 0.3, 0.09, (0.9, 0.2)  # 5 carries less than 10 %
    assert relay_sentence("bit 1", carried, 1, 4, "step 4") == (
        "bit 1 is written into units 4 and 2, handed to 7, 1 and 0, and read at step 4"
    )
    assert relay_sentence("bit 1", carried, 1, 3, "step 3") == (
        "bit 1 is written into units 4 and 2, handed to 7, and read at step 3"
    )
    assert relay_sentence("bit 1", carried[:, :6], 1, 2, "step 2") == (
        "bit 1 is written into units 4 and 2 and read at step 2"
    )
    assert relay_sentence("bit 1", carried[::-1], 4, 1, "step 1") == (  # the reverse direction
        "bit 1 is written into units 4 and 2, handed to 7, 1 and 0, and read at step 1"
    )
    half = np.array([[0.4, 0.2, 0.1, 0.1], [0.0, 0.0, 0.1, 0.1]])  # exactly half, exactly 10 %
    assert relay_sentence("bit 0", half, 0, 1, "step 1") == (
        "bit 0 is written into units 0 and 1, handed to 2 and 3, and read at step 1"
    )
    four = np.zeros((2, 6))
    four[0] = four[1] = 0.2, 0.3, 0.25, 0.0, 0.15, 0.1
    assert relay_sentence("bit 0", four, 0, 1, "step 1") == (
        "bit 0 is written into units 1, 2 and 0, handed to 4 and 5, and read at step 1"
    )
    spread = np.full((2, 30), 0.03)
    assert relay_sentence("bit 0", spread, 0, 1, "step 1") == (
        "bit 0 is written into many units, each with less than 10%, and read at step 1"
    )
    many = np.eye(12)[[0, 1, 2, 3, 4, 5, 6]] * np.arange(12)[::-1] / 12
    assert relay_sentence("x", many, 0, -1, "output 3") == (
        "x is written into unit 0, handed to 1, 2, 3 and 4, and read by output 3"
    )
    assert relay_sentence("x", many, -1, 3, "step 3") == "x does not change the cells"


@loop_over(
    ("arguments", "message"),
    [
        ({"outputs": None}, "outputs must be passed, one for each input or one for all"),
        ({"inputs": [0, 1, 2], "outputs": [1, 2]}, "one for each of the 3 inputs, or one for all, got 2"),
        ({"layer": 1}, "layer must be from -1 to 0, the number of one of l0, got 1"),
        ({"sequences": 0}, "sequences must be at least 1, got 0"),
        (
            {"lengths": np.full(64, 3)},
            "x must have sequences with both step 1, feature 0 and step 5, output 0, got none",
        ),
        ({"inputs": [(0, 1)]}, "a data set with one class"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(two_units, arguments, message):
    options = {"inputs": [(WRITE, 0)], "outputs": [(READ, 0)], "replacement": "flip"} | arguments
    with pytest.raises(ValueError, match=message):
        relay(two_units.model, two_units.x, **options)


def test_the_layer_must_be_an_lstm(rng):
    with pytest.raises(ValueError, match="layer must be an LSTM, with cells c, got l0 with x, h_prev"):
        relay(gc.GRU(2, 3), rng.normal(size=(4, 5, 2)), inputs=[0], outputs=[3], replacement=0.0)
