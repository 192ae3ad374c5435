"""Law: a CopyLSTM is its LSTM and its readout: backward is the derivative of forward, and PyTorch agrees with both."""

import numpy as np
import pytest
from case_loops import loop_over

from glasscell import LSTM, CopyLSTM, LSTMState
from glasscell.core.losses import binary_cross_entropy
from glasscell.models import TrainingBuffers
from glasscell.tasks import Copy, encode
from glasscell.weight_layouts.pytorch import to_torch

SHAPES = [  # mode, bits a step, layers, learned initial state
    ("recall", 1, 1, False),
    ("recall", 2, 2, True),
    ("echo", 2, 1, True),
    ("recall", 1, 3, False),
]


def random_model(rng, mode="recall", k=1, layers=1, learned=False, hidden_size=4, dtype=np.float64, width=4):
    """A model in which nothing is 0 or alike, biases and initial states included, and that answers 0 as often as 1."""
    task = Copy(width, mode, k, min_width=k, noise=0.2)
    model = CopyLSTM(hidden_size, task=task, num_layers=layers, learn_initial_state=learned, dtype=dtype)
    model.parameters.vector[:] = rng.normal(scale=0.7, size=model.parameters.vector.size)
    batch = task.validation_batch(dtype)
    logits, _, _ = model.forward(batch.inputs)
    model.parameters["readout.bias"][:] -= np.median(logits[batch.weights[..., 0] > 0], axis=0) + 1e-4  # no tie
    return model


def random_state(rng, model, B):
    return LSTMState(*rng.normal(scale=0.5, size=(2, model.lstm.num_layers, B, model.hidden_size)))


def numeric_gradient(f, array, step=1e-3):
    """By central differences of fourth order, one element after the other."""
    gradient = np.empty_like(array)
    for index in np.ndindex(array.shape):
        value, values = array[index], []
        for s in (step, -step, 2 * step, -2 * step):
            array[index] = value + s
            values.append(f())
        array[index] = value
        gradient[index] = (8 * (values[0] - values[1]) - (values[2] - values[3])) / (12 * step)
    return gradient


def assert_near(value, expected, tolerance):
    """Norm-wise."""
    assert value.shape == expected.shape
    assert np.linalg.norm(value - expected) <= tolerance * max(np.linalg.norm(expected), 1e-3)


@pytest.mark.parametrize("given", [True, False], ids=["state given", "no state"])
@pytest.mark.parametrize(("mode", "k", "layers", "learned"), SHAPES)
def test_backward_is_the_derivative_of_forward(mode, k, layers, learned, given, rng):
    model = random_model(rng, mode, k, layers, learned, hidden_size=3)
    x = rng.normal(size=(2, 5, k + 1))
    state = random_state(rng, model, 2) if given else None
    logits, final, tape = model.forward(x, state)
    d_logits, d_final = rng.normal(size=logits.shape), LSTMState(*rng.normal(size=(2, *final.h.shape)))
    dx, d_state, gradients = model.backward(tape, d_logits, d_final)

    def loss():
        logits, (h, c), _ = model.forward(x, state)
        return np.vdot(d_logits, logits) + np.vdot(d_final.h, h) + np.vdot(d_final.c, c)

    assert_near(dx, numeric_gradient(loss, x), 1e-8)
    for name, parameter in model.parameters.items():
        assert_near(gradients[name], numeric_gradient(loss, parameter), 1e-8)
    if given:
        assert_near(d_state.h, numeric_gradient(loss, state.h), 1e-8)
        assert_near(d_state.c, numeric_gradient(loss, state.c), 1e-8)
    if learned:
        for layer in range(layers):
            alone = 0 if given else 1
            np.testing.assert_allclose(gradients[f"lstm.initial_h_l{layer}"], alone * d_state.h[layer].sum(axis=0))
            np.testing.assert_allclose(gradients[f"lstm.initial_c_l{layer}"], alone * d_state.c[layer].sum(axis=0))


@pytest.mark.parametrize(("mode", "k", "layers", "learned"), SHAPES)
def test_loss_and_gradients_is_forward_loss_and_backward(mode, k, layers, learned, rng):
    model = random_model(rng, mode, k, layers, learned)
    for state in (None, random_state(rng, model, 7)):
        batch = model.task.batch(7, rng, np.float64)
        logits, final, tape = model.forward(batch.inputs, state)
        loss, d_logits = binary_cross_entropy(logits, batch.targets, batch.weights)
        _, _, expected = model.backward(tape, d_logits)
        in_columns = None if state is None else LSTMState(*(part.swapaxes(1, 2) for part in state))
        result = model.loss_and_gradients(batch, in_columns)
        assert result.loss == pytest.approx(loss, rel=1e-14)
        assert_near(result.gradients.vector, expected.vector, 1e-14)
        for part, expected_part in zip(result.tape.final_state, final, strict=True):
            np.testing.assert_array_equal(part.swapaxes(1, 2), expected_part)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_used_workspace_changes_no_bit(dtype, rng):
    model = random_model(rng, layers=2, learned=True, dtype=dtype)
    workspace = TrainingBuffers(model.parameters)
    for size in (3, 5, 5, 3):
        batch = model.task.batch(size, rng, dtype)
        alone, reused = model.loss_and_gradients(batch), model.loss_and_gradients(batch, None, workspace)
        assert alone.loss == reused.loss
        np.testing.assert_array_equal(alone.gradients.vector, reused.gradients.vector)
        np.testing.assert_array_equal(alone.tape.final_state, reused.tape.final_state)
    assert reused.gradients.vector.dtype == dtype


def test_two_calls_share_no_memory(rng):
    model = random_model(rng)
    batch, other = model.task.batch(3, rng, np.float64), model.task.batch(3, rng, np.float64)
    results = [*model.forward(batch.inputs)[:2], model.loss_and_gradients(batch).gradients.vector]
    before = [np.array(result) for result in results]
    model.forward(other.inputs)
    model.loss_and_gradients(other)
    for result, value in zip(results, before, strict=True):
        np.testing.assert_array_equal(result, value)


def in_torch(torch, model):
    """An nn.LSTM and an nn.Linear with the model's weights."""
    lstm = torch.nn.LSTM(model.task.input_size, model.hidden_size, model.lstm.num_layers, batch_first=True)
    torch_model = torch.nn.ModuleDict(
        {"lstm": lstm, "readout": torch.nn.Linear(model.hidden_size, model.task.output_size)}
    )
    torch_model.to(torch.float64).load_state_dict(
        {name: torch.tensor(array) for name, array in model.to_torch().items()}
    )
    return torch_model


@pytest.mark.parametrize(("mode", "k", "layers"), [("recall", 1, 1), ("recall", 2, 2), ("echo", 2, 3)])
def test_loss_and_gradients_are_pytorchs(mode, k, layers, torch, rng):
    model = random_model(rng, mode, k, layers, hidden_size=6, width=8)
    batch = model.task.batch(16, rng, np.float64)
    torch_model = in_torch(torch, model)
    inputs, targets, weights = map(torch.tensor, batch[:3])
    logits = torch_model["readout"](torch_model["lstm"](inputs)[0])
    of_each = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    expected = (of_each * weights).sum() / (weights.sum() * k)
    expected.backward()

    loss, gradients, _ = model.loss_and_gradients(batch)
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    torch_gradients = {
        f"lstm.{name}": array for name, array in to_torch(gradients.subset("lstm."), model.lstm.options).items()
    }
    torch_gradients |= {name: gradients[name] for name in ("readout.weight", "readout.bias")}
    for name, parameter in torch_model.named_parameters():
        assert_near(torch_gradients[name.replace("bias_hh", "bias_ih")], parameter.grad.numpy(), 1e-9)


# copy


@pytest.mark.parametrize(("mode", "k", "layers", "learned"), SHAPES)
def test_copy_is_the_sign_of_the_logits(mode, k, layers, learned, rng):
    model, answers = random_model(rng, mode, k, layers, learned), []
    for n in (k, 2 * k, 4 * k, 7 * k):
        bits = rng.integers(2, size=(16, n))
        copied = model.copy(bits)
        for row, back in zip(bits, copied, strict=True):
            logits, _, _ = model.forward(model.task.make_batch([row[None]], np.float64).inputs[0])
            answer = logits[n // k + 1 :] if mode == "recall" else logits
            np.testing.assert_array_equal(back, answer.ravel() > 0)
            np.testing.assert_array_equal(model.copy(row.tolist()), back)
        answers.extend(copied.ravel())
    assert 0 < np.mean(answers) < 1


@pytest.mark.parametrize("mode", ["recall", "echo"])
@pytest.mark.parametrize("shape", [(0,), (0, 4), (3, 0), (1, 4)])
def test_copy_keeps_the_shape(shape, mode, rng):
    assert random_model(rng, mode, 2).copy(np.ones(shape)).shape == shape


@loop_over(
    ("bits", "error", "parts"),
    [
        ([0, 2], ValueError, ["0 and 1", "2", "(1,)"]),
        ([[0, 1], [0, np.nan]], ValueError, ["0 and 1", "nan", "(1, 1)"]),
        ([0, 0.5], ValueError, ["0 and 1", "0.5"]),
        ("01", TypeError, ["0 and 1", "'01'"]),
        ([0, 1, 1], ValueError, ["(3,)", "(B, n)", "bits_per_step = 2"]),
        (1, ValueError, ["()", "(n,)"]),
        ([[[0, 1]]], ValueError, ["(1, 1, 2)", "(B, n)"]),
    ],
)
def test_copy_refuses(bits, error, parts, rng):
    with pytest.raises(error) as caught:
        random_model(rng, k=2).copy(bits)
    assert all(part in str(caught.value) for part in parts)


@pytest.mark.parametrize("width", [None, 3, 7])
def test_copy_integers_is_copy_in_binary(width, rng):
    model = random_model(rng)
    bits = 4 if width is None else width
    integers = list(range(1 << bits))
    expected = [int("".join(map(str, row)), 2) for row in model.copy(encode(integers, bits)).tolist()]
    assert model.copy_integers(integers, width).tolist() == expected
    assert model.copy_integers(5, width) == expected[5]
    assert expected != integers


def test_copy_integers_refuses_what_does_not_fit(rng):
    model = random_model(rng)
    with pytest.raises(ValueError, match="must fit in 4 bits, from 0 to 15, got 16"):
        model.copy_integers([3, 16])
    with pytest.raises(ValueError, match="got the negative -1"):
        model.copy_integers(-1)
    assert 0 <= model.copy_integers(16, width=5) < 32


@pytest.mark.parametrize(("mode", "k", "layers", "learned"), SHAPES)
def test_evaluate_is_the_score_of_each_sequence(mode, k, layers, learned, rng):
    model = random_model(rng, mode, k, layers, learned, width=4 * k)
    batch = model.task.batch(40, rng, np.float64)
    batch.targets[::2] = (model.forward(batch.inputs)[0] > 0)[::2]  # so that some sequences are right
    losses, bits, exact = [], [], []
    for inputs, targets, weights in zip(batch.inputs, batch.targets, batch.weights, strict=True):
        logits, _, _ = model.forward(inputs)
        asked = weights[:, 0] > 0
        z, y = logits[asked], targets[asked]
        losses.extend(np.logaddexp(0, np.where(y > 0, -z, z)).ravel())
        right = (z > 0) == (y > 0)
        bits.extend(right.ravel())
        exact.append(right.all())
    scores = model.evaluate(batch)
    assert scores == pytest.approx(
        {"loss": np.mean(losses), "bit_accuracy": np.mean(bits), "sequence_accuracy": np.mean(exact)}, rel=1e-12
    )
    assert 0 < scores["bit_accuracy"] < 1
    assert 0 < scores["sequence_accuracy"] < 1


# Making one


def test_prepare_for_takes_a_task_that_fits(rng):
    model, task = random_model(rng, k=2), Copy(16, "echo", 2)
    model.bind_task(task)
    assert model.task is task


def test_bind_task_raises_for_another_number_of_bits_per_step(rng):
    model = random_model(rng, k=2)
    task = model.task
    with pytest.raises(ValueError, match=r"4 bits per step, the model has 2"):
        model.bind_task(Copy(8, bits_per_step=4))
    with pytest.raises(TypeError, match=r"must be a tasks.Copy, got a str"):
        model.bind_task("recall")
    assert model.task is task


@pytest.mark.parametrize(("width", "k"), [(3, 1), (8, 2)])
def test_four_units_a_bit_unless_asked_for_otherwise(width, k):
    assert CopyLSTM(task=Copy(width, bits_per_step=k)).hidden_size == 4 * width
    assert CopyLSTM(5, task=Copy(width, bits_per_step=k)).hidden_size == 5


@loop_over(
    ("options", "error"),
    [
        ({"hidden_size": 0}, ValueError),
        ({"hidden_size": 2.0}, TypeError),
        ({"hidden_size": True}, TypeError),
        ({"num_layers": 0}, ValueError),
        ({"initializer": "zeros"}, ValueError),
        ({"dtype": np.float16}, TypeError),
    ],
)
def test_a_bad_option_is_named(options, error):
    with pytest.raises(error, match=next(iter(options))):
        CopyLSTM(**options)


@pytest.mark.parametrize("initializer", ["orthogonal", "glorot", "uniform"])
def test_a_seed_decides_the_weights(initializer):
    options = {"num_layers": 2, "initializer": initializer}
    first, again, other = (CopyLSTM(5, seed=seed, **options).parameters for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.vector, again.vector)
    for name in first:
        if name != "readout.bias":
            assert (first[name] != other[name]).any()
    gates = first["lstm.kernel_l0"].reshape(4, 5, -1)
    assert all((gates[a, :, :-1] != gates[b, :, :-1]).all() for a in range(4) for b in range(a))


def test_the_learned_initial_state_is_where_a_pass_starts(rng):
    model = random_model(rng, layers=2, learned=True)
    x = rng.normal(size=(3, 4, 2))
    start = [
        np.stack([np.tile(model.parameters[f"lstm.initial_{part}_l{layer}"], (3, 1)) for layer in (0, 1)])
        for part in "hc"
    ]
    learned, _, _ = model.forward(x)
    given, _, _ = model.forward(x, LSTMState(*start))
    zero, _, _ = model.forward(x, LSTMState(*np.zeros((2, 2, 3, 4))))
    np.testing.assert_array_equal(learned, given)
    assert np.abs(learned - zero).max() > 1e-3


def test_the_layers_see_the_models_one_vector(rng):
    model = random_model(rng, layers=2)
    assert isinstance(model.lstm, LSTM)
    assert [*model.parameters] == ["lstm.kernel_l0", "lstm.kernel_l1", "readout.weight", "readout.bias"]
    model.parameters.vector[:] = np.arange(model.parameters.vector.size)
    np.testing.assert_array_equal(
        np.concatenate([model.lstm.parameters.vector, model.readout.parameters.vector]), model.parameters.vector
    )
