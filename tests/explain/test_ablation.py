"""An ablation is the metric of an evaluation, computed without and under each intervention."""

import json

import numpy as np
import pytest

import glasscell as gc
from glasscell.data.arrays import ArrayData
from glasscell.data.batch import Batch
from glasscell.explain import (
    Intervention,
    ablation,
    intervene,
    outputs_under,
    scaled_gates,
    step_interventions,
    unit_interventions,
)

I, H, T, N = 3, 4, 6, 11


@pytest.fixture(scope="module")
def model() -> gc.Sequential:
    layers = [gc.LSTM(I, H, dtype=np.float64, initializer="uniform", seed=1), gc.Linear(H, 2, dtype=np.float64, seed=2)]
    return gc.Sequential(layers)


@pytest.fixture(scope="module")
def data() -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(3)
    lengths = rng.integers(2, T + 1, N)
    return [rng.normal(size=(n, I)) for n in lengths], [rng.normal(size=(n, 2)) for n in lengths]


LIST = [
    Intervention("f", set=0.0),
    [Intervention("f", scale=0.5), Intervention("c", add=0.3)],
    Intervention("h", freeze=True, steps=1),
]


def mean_squared_error(model: gc.Sequential, group: list[Intervention], x: list, y: list) -> float:
    squares = [(outputs_under(model, group, x_n) - y_n) ** 2 for x_n, y_n in zip(x, y, strict=True)]
    return float(np.concatenate(squares).mean())


def test_values_are_the_metric_under_each_intervention(model, data):
    x, y = data
    before = model(x[0])
    for given, size in ((data, 256), (data, 2), (ArrayData(x, y), 3)):
        table = ablation(model, given, "mean_squared_error", interventions=LIST, batch_size=size)
        np.testing.assert_allclose(table.baseline, mean_squared_error(model, [], x, y), rtol=1e-12)
        for k, group in enumerate(LIST):
            expected = mean_squared_error(model, group if isinstance(group, list) else [group], x, y)
            np.testing.assert_allclose(table.values[k], expected, rtol=1e-12)
        np.testing.assert_allclose(table.differences, table.values - table.baseline)
        assert table.sequences == N
        assert table.labels == (
            "f set to 0.0",
            "f scaled by 0.5 and c plus 0.3",
            "h held at its previous value at step 1",
        )
    np.testing.assert_array_equal(model(x[0]), before)


def test_metrics_are_those_of_training(model, data):
    x, _ = data
    one = [Intervention("o", set=0.5)]

    def largest(outputs, batch):
        return float(np.abs(outputs).max()), 1.0

    table = ablation(model, data, largest, interventions=one)
    assert table.metric == "largest"
    np.testing.assert_allclose(
        table.values[0], max(np.abs(outputs_under(model, one, row)).max() for row in x), rtol=1e-12
    )
    loss = ablation(model, data, "squared_error", interventions=one)
    mean = ablation(model, data, "mean_squared_error", interventions=one)
    np.testing.assert_allclose(loss.values / mean.values, loss.baseline / mean.baseline, rtol=1e-12)


def test_data_of_a_task_are_those_that_training_never_draws():
    task, model = gc.tasks.Copy(width=4), gc.CopyLSTM(hidden_size=8, seed=0)
    one = [Intervention("f", scale=0.5)]
    table = ablation(model, task, interventions=one)
    assert (table.metric, table.sequences) == ("bit_accuracy", len(task.held_out_integers()))
    assert table.baseline == model.evaluate(task.held_out_batch())["bit_accuracy"]
    with intervene(model, *one):
        assert table.values[0] == model.evaluate(task.held_out_batch())["bit_accuracy"]
    everything = ablation(model, task, "sequence_accuracy", interventions=one, which="all")
    assert everything.sequences == 16
    loss = ablation(model, task, "loss", interventions=one)
    np.testing.assert_allclose(loss.baseline, model.evaluate(task.held_out_batch())["loss"], rtol=1e-6)
    adding = gc.tasks.Adding()
    regressor = gc.Sequential([gc.LSTM(2, 4), gc.layers.FinalState(), gc.Linear(4, 1)])
    assert ablation(regressor, adding, "mean_squared_error", interventions=one).sequences == 2560


def test_batches_that_continue_keep_the_state(model, data):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 2 * T, I)), rng.normal(size=(2, 2 * T, 2))
    whole = Batch(x, y)
    parts = [whole.window(0, T), whole.window(T, 2 * T)]
    one = [Intervention("f", scale=0.5), Intervention("c", add=0.1)]
    tables = [ablation(model, given, "mean_squared_error", interventions=one) for given in (whole, parts)]
    np.testing.assert_allclose(tables[0].values, tables[1].values, rtol=1e-12)
    layer = gc.LSTM(I, 2, dtype=np.float64, seed=1)
    tables = [ablation(layer, given, "mean_squared_error", interventions=one) for given in (whole, parts)]
    np.testing.assert_allclose(tables[0].values, tables[1].values, rtol=1e-12)


def test_units_and_symbols(model, data):
    entries = unit_interventions(model, symbols=("i", "h"))
    table = ablation(model, data, "mean_squared_error", interventions=entries)
    values = table.values.reshape(2, H)
    for k, symbol in enumerate(("i", "h")):
        for unit in range(H):
            expected = mean_squared_error(model, [Intervention(symbol, set=0.0, units=unit)], *data)
            np.testing.assert_allclose(values[k, unit], expected, rtol=1e-12)
    assert [one.symbol for one in unit_interventions(model)] == ["i"] * H + ["f"] * H + ["o"] * H + ["g"] * H
    assert len(unit_interventions(model, units=[1, 3])) == 8
    both = gc.LSTM(I, H, 2, bidirectional=True)
    assert [one.layer for one in unit_interventions(both, layer=1, symbols=["f"], units=0)] == ["l1", "l1_reverse"]


def test_the_mean_is_that_of_the_valid_steps(model, data):
    x, _ = data
    steps = {name: np.concatenate([model.trace(row).layer[0].value(name) for row in x]) for name in ("f", "z", "x")}
    for symbol, mean in (
        ("f", steps["f"].mean(0)),
        ("z_o", steps["z"][:, 2 * H : 3 * H].mean(0)),
        ("x", steps["x"].mean(0)),
    ):
        entries = unit_interventions(model, data, symbols=[symbol], value="mean")
        np.testing.assert_allclose([one.set for one in entries], mean, rtol=1e-12)
        at_steps = step_interventions(model, [1, 4], data, symbol=symbol, value="mean", units=[0, 2])
        assert [one.steps for one in at_steps] == [1, 4]
        np.testing.assert_allclose(at_steps[0].set, mean[[0, 2]], rtol=1e-12)
    copies, task = gc.CopyLSTM(hidden_size=4, seed=0), gc.tasks.Copy(width=3)
    (first, *_) = unit_interventions(copies, task, symbols=["f"], value="mean", which="all")
    everything = task.make_batch([[[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]])
    np.testing.assert_allclose(first.set, copies.trace(everything.inputs).layer[0].f[..., 0].mean(), rtol=1e-5)
    with pytest.raises(ValueError, match="data must be passed for the mean"):
        unit_interventions(model, value="mean")


def test_steps_and_curves(model):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(N, T, I)), rng.normal(size=(N, T, 2))
    table = ablation(model, data, "mean_squared_error", interventions=step_interventions(model, T))
    for t in range(T):
        y = outputs_under(model, Intervention("h", set=0.0, steps=t), data[0])
        np.testing.assert_allclose(table.values[t], ((y - data[1]) ** 2).mean(), rtol=1e-12)
    curve = ablation(model, data, "mean_squared_error", interventions=scaled_gates([1.0, 0.9, 0.0]))
    np.testing.assert_allclose(curve.values[0], curve.baseline, rtol=1e-12)
    y = outputs_under(model, Intervention("f", set=0.0), data[0])
    np.testing.assert_allclose(curve.values[2], ((y - data[1]) ** 2).mean(), rtol=1e-12)
    assert curve.labels == ("f scaled by 1.0", "f scaled by 0.9", "f scaled by 0.0")
    stack = gc.LSTM(I, 2, 2, dtype=np.float64)
    assert ablation(stack, data, "mean_squared_error", interventions=scaled_gates([0.5])).labels == (
        "l0, l1: f scaled by 0.5",
    )


def test_the_table_as_text_and_as_json(model, data):
    named = {"no memory": Intervention("f", set=0.0), "frozen": LIST[2]}
    table = ablation(model, data, "mean_squared_error", interventions=named)
    lines = repr(table).splitlines()
    assert lines[0] == f"Ablation: mean_squared_error {table.baseline:.4g} without interventions, {N} sequences"
    assert lines[1].split() == ["intervention", "value", "difference"]
    assert lines[2].split() == ["no", "memory", f"{table.values[0]:.4g}", f"{table.differences[0]:+.4g}"]
    content = json.loads(json.dumps(table.to_dict()))
    assert content["labels"] == ["no memory", "frozen"]
    assert content["differences"] == table.differences.tolist()
    long = ablation(model, data, "mean_squared_error", interventions=[*unit_interventions(model), *LIST, *LIST])
    assert len(long) == 22
    assert len(set(long.labels)) == 22
    text = repr(long)
    assert text.endswith("and 2 with smaller differences")
    assert long.labels[np.abs(long.differences).argmax()] in text.splitlines()[2]


def test_bad_input_is_one_error(model, data):
    one = [Intervention("f", set=0.0)]
    for arguments, error, message in (
        ((data,), ValueError, "metric must be passed for data that have none of their own"),
        ((data, "speed"), ValueError, "metric must be of accuracy, .*, 'loss', or a function, got 'speed'"),
        ((data, "loss"), ValueError, "for data without a loss, got 'loss'"),
        ((data, 3), TypeError, "metrics must be names or functions"),
        ((3, "accuracy"), TypeError, r"data must be a task, \(x, y\), or batches, got an int"),
        (([], "accuracy"), ValueError, "data must have at least one sequence, got none"),
        (([3], "accuracy"), TypeError, "batches of a task must be glasscell.data.Batch"),
        (("text", "accuracy"), TypeError, "data must be a task"),
    ):
        with pytest.raises(error, match=message):
            ablation(model, *arguments, interventions=one)
    for interventions, error, message in (
        ([], ValueError, "interventions must be at least one, got none"),
        (3, TypeError, "interventions must be a sequence or a mapping, got an int"),
        (["f"], TypeError, "interventions must be Intervention objects"),
        ([3], TypeError, "interventions must be Intervention objects, got an int"),
        ([Intervention("f", set=0.0, units=9)], ValueError, "units must be from -4 to 3 for f, got 9"),
    ):
        with pytest.raises(error, match=message):
            ablation(model, data, "mean_squared_error", interventions=interventions)
    with pytest.raises(ValueError, match="which must be 'held_out' for data other than a copy task"):
        ablation(model, data, "mean_squared_error", interventions=one, which="all")
    with pytest.raises(ValueError, match="which must be 'held_out' for more than 12 bits"):
        ablation(gc.CopyLSTM(4), gc.tasks.Copy(width=20), interventions=one, which="all")
    with pytest.raises(ValueError, match=r"scales must have shape \(n,\)"):
        scaled_gates(0.5)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        step_interventions(model, 0)
    for call, error, message in (
        (lambda: step_interventions(model, True), TypeError, "steps must be an integer, got True"),
        (lambda: step_interventions(model, 1.5), TypeError, "steps must be an integer, got 1.5"),
        (lambda: step_interventions(model, 2, value="median"), TypeError, "value must be a number or 'mean', got 'med"),
        (lambda: unit_interventions(model, value=None), TypeError, "value must be a number or 'mean', got None"),
        (lambda: unit_interventions(model, value=np.ones(4)), TypeError, "value must be a number or 'mean', got arr"),
        (lambda: unit_interventions(model, value=np.nan), ValueError, "value must be finite, got nan"),
        (lambda: unit_interventions(model, symbols="fo"), TypeError, "symbols must be a sequence of symbols, got 'fo'"),
    ):
        with pytest.raises(error, match=message):
            call()
