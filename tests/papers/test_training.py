"""Law: the training of every kind of experiment runs in a tiny form, and its outcome is judged by its scores."""

import gzip
import struct
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import glasscell as gc
from glasscell.papers import (
    copying,
    digits,
    find,
    forget_gates,
    long_lags,
    music,
    original_rule,
    parity,
    reber,
    two_sequence,
    vectors,
)


def row(scores, seed=0, **setting):
    return {"setting": setting, "seed": seed, "status": "finished", "error": "", "seconds": 1.0, "scores": scores}


@pytest.mark.parametrize(
    "lag",
    [
        long_lags.ADDING,
        replace(long_lags.ORDER_OF_3, chrono=False),
        long_lags.PRODUCT,
        long_lags.LAST_SYMBOL,
    ],
    ids=["adding", "temporal order", "multiplication", "2c"],
)
def test_long_lags(lag):
    check_counts(replace(lag, sequences=40).train(0, quick=True, data=None))


@pytest.mark.parametrize("experiment", ["3a", "3b", "3c"])
def test_two_sequences(experiment):
    options = {"experiment": experiment, "informative": 3, "sequences": 200}
    check_counts(two_sequence.train_two_sequence(0, quick=True, data=None, **options))


def test_embedded_reber():
    check_counts(reber.train_embedded_reber(0, quick=True, data=None, strings=20))


def check_counts(scores):
    assert scores["criterion"] is scores["stopped"] is None
    assert 0 < scores["wrong"] <= scores["tested"]


@pytest.mark.parametrize(("wrong", "met"), [(21, True), (22, False)])
def test_the_fraction_of_wrong_sequences_is_judged(wrong, met):
    scores = {"criterion": 43_200, "stopped": 43_200, "wrong": wrong, "tested": 2560}
    assert find("two-sequence-3b").outcome([row(scores, informative=3)]).met is met


def test_networks_of_parity(rng):
    """Law: outputs of many networks at once are those of each network step by step; the known solution is correct."""
    batch = gc.tasks.Parity(5, 9).batch(20, rng)
    weights = np.array([[60, 0, 90, -60, 60, -90, 90], [1, -2, 3, 0.5, -1, 2, 1]], float)
    results = parity.outputs(weights, batch)
    for w, result in zip(weights, results, strict=True):
        for x, length, y in zip(batch.inputs[..., 0], batch.lengths, result, strict=True):
            hidden = output = 0.0
            for number in x[:length]:
                hidden = 1 / (1 + np.exp(-(w[0] * number + w[1] * hidden + w[2] * output + w[3])))
                output = 1 / (1 + np.exp(-(w[4] * number + w[5] * hidden + w[6] * output)))
            assert y == pytest.approx(output, abs=1e-12)


def test_parity_is_guessed():
    scores = parity.guess_parity(0, quick=True, data=None)
    assert scores == parity.guess_parity(0, quick=True, data=None)
    assert 0 < scores["trials"] <= parity.MOST_TRIALS
    missed = parity.guess_parity(0, quick=True, data=None, most_trials=1)
    assert missed["trials"] is None
    assert not parity.outcome([row(missed)]).met


@pytest.mark.parametrize(
    ("trials", "wrong", "met"),
    [((1600, 1600), 0, True), ((1599, 1600), 0, False), ((4200, 4201), 0, False), ((2000, 3000), 1, False)],
)
def test_trials_of_parity_are_judged(trials, wrong, met):
    rows = [row({"trials": number, "wrong": wrong, "tested": 100}) for number in trials]
    assert parity.outcome(rows).met is met


def test_copy_memory():
    rows = [
        row(
            copying.train_copy_memory(0, quick=False, data=None, forget_bias=bias, delay=5, hidden_size=4, updates=2),
            forget_bias=bias,
        )
        for bias in ("chrono", 1.0)
    ]
    scores = rows[0]["scores"]
    assert scores["baseline"] == pytest.approx(10 * np.log(8) / 25)
    assert not copying.outcome(rows).met
    rows[0]["scores"]["test_loss"], rows[1]["scores"]["test_loss"] = 0.08, 0.094
    assert copying.outcome(rows).met
    assert not copying.outcome(rows[1:]).met


def test_vector_copy():
    scores = vectors.train_vector_copy(0, quick=False, data=None, max_length=2, hidden_size=4, updates=2)
    assert {f"correct_prefix {length}" for length in (10, 20, 30, 50, 120)} <= scores.keys()
    assert not vectors.outcome([row(scores)]).met
    for length, prefix in zip((10, 20, 30, 50, 120), (10, 20, 16, 9, 2), strict=True):
        scores[f"correct_prefix {length}"], scores[f"bit_accuracy {length}"] = prefix, 1.0
    outcome = vectors.outcome([row(scores)])
    assert outcome.met
    assert "30: 16.0 vectors, 100.0% of bits" in outcome.figure


def test_continual_reber(monkeypatch):
    monkeypatch.setattr(reber, "QUICK_UPDATES", 4)
    monkeypatch.setattr(reber, "QUICK_STREAM", 100)
    rows = [
        row(reber.train_continual_reber(0, quick=True, data=None, forget_gate=gate), forget_gate=gate)
        for gate in (True, False)
    ]
    assert all(row["scores"]["rating"] == "failed" and row["scores"]["mean_cell"] > 0 for row in rows)
    assert not reber.continual_outcome(rows).met
    rows[0]["scores"]["rating"] = "perfect"
    assert reber.continual_outcome(rows).met
    assert reber.continual_outcome(rows).figure.startswith("with forget gates 1 of 1 perfect, 0 good")


def test_music(monkeypatch, tmp_path, rng):
    monkeypatch.setattr(music, "QUICK_UPDATES", 3)
    arrays = {}
    for part in ("train", "valid", "test"):
        steps = rng.random((30, 88)) < 0.1
        steps[:, [*range(6), *range(82, 88)]] = False
        arrays |= {f"{part}_len": [20, 10], f"{part}_bits": np.packbits(steps, axis=1)}
    (tmp_path / "music").mkdir()
    np.savez(tmp_path / "music" / "JSB_Chorales.npz", **arrays)
    experiment = find("jsb-chorales")
    assert experiment.missing_files(tmp_path) == []
    scores = experiment.train(0, quick=True, data=tmp_path)
    assert 0 < scores["test_nll"] < 70
    assert not experiment.outcome([row(scores)]).met
    assert experiment.outcome([row(scores | {"test_nll": 8.4})]).met
    with pytest.raises(ValueError, match=r"data must be the folder with music/JSB_Chorales\.npz, got None"):
        experiment.train(0, quick=True, data=None)


def test_digits(monkeypatch, tmp_path, rng):
    monkeypatch.setattr(digits, "QUICK_EPOCHS", 1)
    (tmp_path / "mnist").mkdir()
    for name, head, values in (
        (digits.IMAGES, struct.pack(">4i", 0x803, 50, 28, 28), rng.integers(0, 256, (50, 28, 28), np.uint8)),
        (digits.LABELS, struct.pack(">2i", 0x801, 50), np.arange(50, dtype=np.uint8) % 10),
    ):
        (tmp_path / name).write_bytes(gzip.compress(head + values.tobytes()))
    scores = digits.train_mnist_rows(0, quick=True, data=tmp_path)
    assert scores["tested"] == 10
    assert digits.outcome([row(scores)]).met is (scores["accuracy"] >= 0.97)
    with pytest.raises(ValueError, match="data must be the folder with mnist/"):
        digits.train_mnist_rows(0, quick=True, data=None)


@pytest.mark.parametrize(("solved", "met"), [((True, True), True), ((True, False), False)])
def test_the_rule_of_1997(solved, met):
    scores = {"sequences": 5000, "sequences_to_90_percent": -1, "wrong": 3, "squared_error": 0.01}
    outcome = original_rule.outcome([row({"solved": one, **scores}) for one in solved], rate=1.0)
    assert outcome.met is met
    assert outcome.figure.startswith(f"{sum(solved)} of 2 seeds after 5,000 sequences on average")
    assert outcome.figure.endswith("3 to 3 of 2560 wrong in the test, squared error 0.01 to 0.01")


@pytest.mark.parametrize("forget_gate", [False, True])
def test_the_rule_of_2000(forget_gate):
    train = forget_gates.train_original_reber
    scores = train(0, quick=True, data=None, forget_gate=forget_gate, decay=0.99, streams=3)
    assert scores == train(0, quick=True, data=None, forget_gate=forget_gate, decay=0.99, streams=3)
    assert (scores["rating"], scores["streams"], scores["limit"]) == ("failed", 3, forget_gates.QUICK_LENGTH)


def test_streams_of_the_rule_of_2000_are_strings_of_the_grammar(rng):
    """Law: windows of a stream continue one another, and what follows is allowed."""
    streams = forget_gates.Streams(rng, 2500)
    windows = list(streams.stream())
    assert [len(inputs) for inputs, _ in windows] == [100, 1000, 1000, 400]
    inputs, targets = (np.concatenate(arrays) for arrays in zip(*windows, strict=True))
    assert (targets[:-1][inputs[1:] == 1] == 1).all()
    assert (inputs[0] == np.eye(7)[0]).all()
    assert not np.array_equal(inputs, np.concatenate([window for window, _ in streams.stream()]))


def test_a_stream_is_trained_until_its_first_error(rng):
    network = forget_gates.make_network(rng, forget_gate=True)
    windows = list(forget_gates.Streams(rng, 2000).stream())
    first = network.parameters.vector.copy()
    length = forget_gates.train_stream(network, iter(windows), None)
    np.testing.assert_array_equal(network.parameters.vector, first)
    assert length < 100
    assert forget_gates.train_stream(network, iter(windows), 0.5) >= 0
    assert (network.parameters.vector != first).any()


def test_a_training_stream_ends_where_the_rate_is_lost(rng):
    train = partial(forget_gates.train_stream, tolerance=2.0)  # no output is an error
    network, streams = forget_gates.make_network(rng, forget_gate=True), forget_gates.Streams(rng, 4000)
    assert network.parameters.vector.size == 424
    assert train(network, streams.stream(), 0.5) == 4000
    assert train(network, streams.stream(), 0.5, 0.99) == 2100  # 0.5 · 0.99²¹⁰⁰ = 3.4e-10
    assert 0.5 * 0.99**2100 < forget_gates.LOWEST_RATE < 0.5 * 0.99**1100
    assert train(network, streams.stream(), None, 0.99) == 4000


def test_a_check_ends_with_the_first_error(rng):
    network, streams = forget_gates.make_network(rng, forget_gate=True), forget_gates.Streams(rng, 500)
    assert 0 <= forget_gates.error_free_length(network, streams) < 100
    assert forget_gates.error_free_length(network, streams, tolerance=2.0) == 500 * forget_gates.CHECK_STREAMS


@pytest.mark.parametrize("forget_gate", [False, True])
def test_the_states_of_a_stream_are_those_of_a_loop_of_steps(forget_gate, rng):
    network = forget_gates.make_network(rng, forget_gate=forget_gate)
    seed, states = int(rng.integers(1000)), []
    measured = forget_gates.largest_states(network, forget_gates.Streams(np.random.default_rng(seed), 1500))
    network.reset()
    for inputs, _ in forget_gates.Streams(np.random.default_rng(seed), 1500).stream():
        for x in inputs:
            network.push(x)
        states.append(np.abs(network.s).max())
    np.testing.assert_allclose(measured, states, atol=0.0006)
    assert len(measured) == 3


def test_the_outcome_of_the_rule_of_2000():
    ratings = {(True, 1.0): "good", (True, 0.99): "perfect", (False, 1.0): "failed", (False, 0.99): "failed"}
    rows = [
        row(
            {"rating": one, "mean_length": 42.0, "state_after_10000": 3.0 if gate else 9000.0},
            forget_gate=gate,
            decay=decay,
        )
        for (gate, decay), one in ratings.items()
    ]
    outcome = forget_gates.outcome(rows)
    assert outcome.met
    assert outcome.figure.startswith("with forget gates 0 of 1 perfect, 1 good; with")
    assert "without forget gates 0 of 1 perfect, 0 good, mean length of the others 42" in outcome.figure
    assert outcome.figure.endswith("median of the networks: 3.0 with forget gates; 9,000.0 without them")
    rows[2]["scores"]["rating"] = "good"
    assert not forget_gates.outcome(rows).met
