"""Laws: gradients of an output equal finite differences of the equations, and of the model."""

import numpy as np
import pytest
from case_loops import loop_over
from explained_models import B, I, T, inputs_of, model_of, with_random_weights

import glasscell as gc
from glasscell import explain
from glasscell.core import cell

H, O = 4, 3
EPSILON = 1e-6


def small_model():
    return with_random_weights(
        gc.Sequential([gc.LSTM(I, H, dtype=np.float64), gc.Linear(H, O, dtype=np.float64)]), scale=0.7
    )


def run_changed(model, x, change):
    """The outputs (T, O), by the equations of `core.cell`, with change(t, quantities) applied at every step."""
    W = model.layers[0].parameters["kernel_l0"]
    weight, bias = model.layers[1].parameters["weight"], model.layers[1].parameters["bias"]
    h, c, outputs = np.zeros((H, 1)), np.zeros((H, 1)), []
    for t, row in enumerate(x):
        step = cell.step(W, row[:, None], h, c)
        gates = {name: getattr(step, name).copy() for name in "ifog"}
        change(t, gates)
        state = {"c": gates["f"] * c + gates["i"] * gates["g"]}
        change(t, state)
        c = state["c"]
        state = {"h": gates["o"] * np.tanh(c)}
        change(t, state)
        h = state["h"]
        outputs.append(weight @ h[:, 0] + bias)
    return np.array(outputs)


@pytest.mark.parametrize("symbol", list("ifogch"))
def test_gradients_on_states_and_gates_equal_finite_differences(symbol, rng):
    model, x = small_model(), rng.normal(size=(T, I))
    result = explain.output_gradients(model, x, output=1, step=4)
    np.testing.assert_allclose(result.output, run_changed(model, x, lambda t, values: None)[4, 1], atol=1e-12)
    expected = np.zeros((T, H))
    for t in range(T):
        for k in range(H):

            def change(time, values, amount, t=t, k=k):
                if time == t and symbol in values:
                    values[symbol][k] += amount

            ends = [run_changed(model, x, lambda *a, e=e: change(*a, e))[4, 1] for e in (EPSILON, -EPSILON)]
            expected[t, k] = (ends[0] - ends[1]) / (2 * EPSILON)
    np.testing.assert_allclose(result.arrays[symbol], expected, atol=1e-7)
    assert np.abs(expected[:5]).max(axis=1).min() > 1e-5 or symbol == "f"  # c_{-1} is 0
    assert not result.arrays[symbol][5:].any()


def test_names_and_shapes(rng):
    model, x = small_model(), rng.normal(size=(B, T, I))
    result = explain.output_gradients(model, x, output=0, step=-1)
    np.testing.assert_array_equal(result.c, result.arrays["c"])
    np.testing.assert_array_equal(result.h, result.arrays["h"])
    assert set("ifogchzxy") <= result.arrays.keys()
    assert result.arrays["z"].shape == (B, T, 4 * H)
    assert result.layer == "l0"
    np.testing.assert_array_equal(result.trace.layer[0].d_c, result.c)
    assert repr(result).startswith("OutputGradients(l0, 4×6×4: on ")
    gru = explain.output_gradients(model_of("gru"), x, output=0, step=-1)
    assert gru.arrays["n"].shape == (B, T, 4)
    with pytest.raises(ValueError, match="c must be a symbol of the layer; it has y, h, n, z, q, r, a, x"):
        _ = gru.c


@pytest.mark.parametrize("kind", ["layer", "gru", "rnn", "steps", "stacked", "final", "mean", "classifier", "masking"])
def test_the_gradient_on_the_inputs_is_that_of_gradient_times_input(kind, rng):
    model, x = model_of(kind), inputs_of(kind, rng)
    step = None if kind in ("final", "mean", "classifier") else -1
    lengths = np.array([T, 2, 4, 3])
    options = {"output": 1, "step": step, "lengths": lengths}
    inputs = explain.gradient_times_input(model, x, baseline=x - 1, **options)
    result = explain.output_gradients(model, x, layer=0, **options)
    if kind in {"stacked", "final"}:  # the inputs of both directions are the same
        reverse = explain.output_gradients(model, x, layer=1, **options)
        np.testing.assert_allclose(result.arrays["x"] + reverse.arrays["x"], inputs.values, atol=1e-12)
    elif kind != "classifier":  # which scales its inputs
        np.testing.assert_allclose(result.arrays["x"], inputs.values, atol=1e-12)
    for array in result.arrays.values():
        assert not array[np.arange(T) >= lengths[:, None]].any()
    for b, n in enumerate(lengths):
        alone = explain.output_gradients(model, x[b, :n], layer=0, output=1, step=step)
        for name, array in alone.arrays.items():
            np.testing.assert_allclose(result.arrays[name][b, :n], array, atol=1e-12)


def test_quantities_of_text_and_labels_and_numbers(rng):
    text = model_of("text")
    result = explain.output_gradients(text, "badcafe", output=explain.LogProbability("c"), step=5)
    attributed = explain.gradient_times_input(text, "badcafe", output=explain.LogProbability("c"), step=5)
    vectors = text.layers[0].parameters["weight"][text.vocabulary.encode("badcafe")]
    first = explain.output_gradients(text, "badcafe", output=explain.LogProbability("c"), step=5, layer=0)
    np.testing.assert_allclose(first.arrays["x"] * vectors, attributed.values, atol=1e-12)
    assert result.layer == "l1"
    numbers, x = model_of("numbers"), inputs_of("numbers", rng)
    result = explain.output_gradients(numbers, x, output=0, step=3)
    expected = explain.gradient_times_input(numbers, x, output=0, step=3, baseline=x - 1)
    np.testing.assert_allclose(result.arrays["x"], expected.values, atol=1e-12)
    copy = with_random_weights(gc.CopyLSTM(5, task=gc.tasks.Copy(3), dtype=np.float64))
    bits = explain.output_gradients(copy, [1, 0, 1], output=0, step=5)
    assert bits.c.shape == (7, 5)


# Matrices


@loop_over("kind", ["steps", "stacked", "final", "gru", "numbers", "text"])
@loop_over("lengths", [None, [T, 2, 4, 3]])
def test_a_matrix_has_the_norms_of_the_gradients_of_its_outputs(kind, lengths, rng):
    model, x = model_of(kind), inputs_of(kind, rng)
    valid = np.arange(T) < np.array(lengths or [T] * B)[:, None]
    y = model(x)
    has_time = kind != "final"
    O = 1 if kind == "numbers" else y.shape[-1]
    matrix = explain.output_gradient_matrix(model, x, lengths=lengths)
    one = explain.output_gradient_matrix(model, x, output=0, lengths=lengths, symbol="h", layer=0)
    assert matrix.norms.shape == (B, T if has_time else 1, T)
    assert matrix.symbol == ("h" if kind == "gru" else "c")
    for s in [0, 3] if has_time else [0]:
        for b in range(B):
            if not valid[b, s]:
                assert not matrix.norms[b, s].any()
                continue
            options = {"step": s if has_time else None}
            sequence = x[b, valid[b]]
            each = [explain.output_gradients(model, sequence, output=j, **options) for j in range(O)]
            state = [result.h if kind == "gru" else result.c for result in each]
            expected = np.sqrt(sum((array**2).sum(axis=-1) for array in state))
            np.testing.assert_allclose(matrix.norms[b, s, valid[b]], expected, atol=1e-12)
            first = explain.output_gradients(model, sequence, output=0, layer=0, **options)
            np.testing.assert_allclose(one.norms[b, s, valid[b]], np.linalg.norm(first.h, axis=-1), atol=1e-12)


def test_no_output_depends_on_later_steps_of_a_forward_layer(rng):
    matrix = explain.output_gradient_matrix(small_model(), rng.normal(size=(T, I)))
    assert not np.triu(matrix.norms, 1).any()
    assert np.diag(matrix.norms).min() > 0
    assert repr(matrix).startswith("GradientMatrix(‖∂y(s)/∂c(t)‖, l0, 6×6: at most ")


def test_large_matrices_are_computed_in_parts(rng, monkeypatch):
    model, x = small_model(), rng.normal(size=(B, T, I))
    whole = explain.output_gradient_matrix(model, x)
    monkeypatch.setattr("glasscell.explain.model_inputs.MAX_SEQUENCE_STEPS", 4 * B * T)
    np.testing.assert_allclose(explain.output_gradient_matrix(model, x).norms, whole.norms, atol=1e-14)


@loop_over(
    ("arguments", "error", "message"),
    [
        ({"output": O}, IndexError, "output must be from 0 to 2, got 3"),
        ({"output": "c"}, TypeError, "output must be an integer, got 'c'"),
        ({"output": explain.ClassScore("c")}, TypeError, "output must be an integer, got ClassScore"),
        ({"layer": 1}, IndexError, "layer must be from -1 to 0, got 1"),
        ({"symbol": "q"}, ValueError, "symbol must be one of 'y', 'h'"),
        ({"x": np.ones((T, 2))}, ValueError, "x must have shape"),
        ({"x": np.ones((0, I))}, ValueError, "x must have at least one step"),
        ({"x": np.full((T, I), np.inf)}, ValueError, "x must be finite"),
    ],
)
def test_wrong_arguments_raise_one_clear_error(arguments, error, message):
    with pytest.raises(error, match=message):
        explain.output_gradient_matrix(small_model(), **({"x": np.ones((T, I))} | arguments))


def test_a_model_without_a_layer_to_trace_raises_one_clear_error():
    with pytest.raises(ValueError, match="there is no LSTM in this model to look into"):
        explain.output_gradients(gc.Sequential([gc.Linear(I, 2)]), np.ones((T, I)), output=0, step=0)
    with pytest.raises(IndexError, match="layer must be from -1 to 0, got 4"):
        explain.output_gradients(small_model(), np.ones((T, I)), output=0, step=0, layer=4)
