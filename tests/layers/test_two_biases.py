"""Law: an LSTM of PyTorch's, taken with both of its biases, trains as it would have trained there.

nn.LSTM adds two biases. They have the same gradient and each takes a step, so that a single bias with their sum follows
another path: half as far with SGD, and differently with weight decay or adaptive steps.
"""

import numpy as np
import pytest

import glasscell as gc
from glasscell.core.losses import squared_error
from glasscell.core.norms import clip_by_global_norm, clip_by_value
from glasscell.core.optimizers import SGD, Adam, AdamW, RMSProp

B, T, I, H, O, STEPS = 4, 6, 3, 5, 2, 25
OPTIMIZERS = {
    "SGD": (SGD(0.3), ("SGD", {"lr": 0.3})),
    "SGD, weight decay": (SGD(0.3, weight_decay=0.05), ("SGD", {"lr": 0.3, "weight_decay": 0.05})),
    "momentum": (SGD(0.1, momentum=0.9), ("SGD", {"lr": 0.1, "momentum": 0.9})),
    "momentum, weight decay": (
        SGD(0.1, momentum=0.9, weight_decay=0.05),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}),
    ),
    "Nesterov": (
        SGD(0.1, momentum=0.8, nesterov=True),
        ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True}),
    ),
    "Nesterov, weight decay": (
        SGD(0.1, momentum=0.8, nesterov=True, weight_decay=0.02),
        ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.02}),
    ),
    "RMSProp": (RMSProp(0.01, decay=0.9), ("RMSprop", {"lr": 0.01, "alpha": 0.9})),
    "RMSProp, all": (
        RMSProp(0.01, momentum=0.7, centered=True, weight_decay=0.03),
        ("RMSprop", {"lr": 0.01, "momentum": 0.7, "centered": True, "weight_decay": 0.03}),
    ),
    "Adam": (Adam(0.02), ("Adam", {"lr": 0.02})),
    "Adam, weight decay": (Adam(0.02, weight_decay=0.05), ("Adam", {"lr": 0.02, "weight_decay": 0.05})),
    "AdamW": (AdamW(0.02, weight_decay=0.2), ("AdamW", {"lr": 0.02, "weight_decay": 0.2})),
}
CLIPS = {"no clipping": {}, "norm": {"norm": 0.05}, "value": {"value": 0.01}, "both": {"value": 0.02, "norm": 0.03}}


def network(torch, rng):
    """LSTM → Linear of PyTorch's in float64, both biases of every direction random and different."""
    module = torch.nn.ModuleDict({"lstm": torch.nn.LSTM(I, H, 2, bidirectional=True, batch_first=True)})
    module["fc"] = torch.nn.Linear(2 * H, O)
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.from_numpy(rng.uniform(-0.5, 0.5, size=tuple(parameter.shape))))
    return module


def state_of(module):
    return {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}


def glasscell_model_of(state, biases):
    lstm = gc.LSTM.from_torch(state, prefix="lstm.", biases=biases)
    linear = gc.Linear(lstm.output_size, O, dtype=np.float64, seed=None)
    for name, view in linear.parameters.items():
        view[:] = state[f"fc.{name}"]
    return gc.Sequential([lstm, linear], ["lstm", "fc"])


def train_torch(torch, module, optimizer, x, targets, clip):
    kind, options = optimizer
    steps = getattr(torch.optim, kind)(module.parameters(), **options)
    losses = []
    for _ in range(STEPS):
        steps.zero_grad()
        loss = torch.nn.functional.mse_loss(
            module["fc"](module["lstm"](torch.from_numpy(x))[0]), torch.from_numpy(targets)
        )
        loss.backward()
        if "value" in clip:
            torch.nn.utils.clip_grad_value_(module.parameters(), clip["value"])
        if "norm" in clip:
            torch.nn.utils.clip_grad_norm_(module.parameters(), clip["norm"])
        steps.step()
        losses.append(loss.item())
    return losses


def train_glasscell(model, optimizer, x, targets, clip):
    state, losses = optimizer.init_state(model.parameters.vector), []
    for _ in range(STEPS):
        y, _, tape = model.forward(x)
        loss, dy = squared_error(y, targets)
        gradients = model.backward(tape, dy)[-1].vector
        if "value" in clip:
            clip_by_value(gradients, clip["value"])
        if "norm" in clip:
            clip_by_global_norm(gradients, clip["norm"])
        optimizer.update(model.parameters.vector, gradients, state)
        losses.append(loss)
    return losses


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_25_steps_are_pytorchs(name, clip, torch, rng):
    module = network(torch, rng)
    start = state_of(module)
    two, one = glasscell_model_of(start, "two"), glasscell_model_of(start, "one")
    x, targets = rng.normal(size=(B, T, I)), rng.normal(size=(B, T, O))
    optimizer, torch_optimizer = OPTIMIZERS[name]
    expected = train_torch(torch, module, torch_optimizer, x, targets, CLIPS[clip])
    np.testing.assert_allclose(train_glasscell(two, optimizer, x, targets, CLIPS[clip]), expected, rtol=0, atol=1e-8)
    after = state_of(module)
    assert two.to_torch().keys() == after.keys()
    for weight, array in two.to_torch().items():
        np.testing.assert_allclose(array, after[weight], rtol=0, atol=1e-8, err_msg=weight)
        assert np.abs(after[weight] - start[weight]).max() > 1e-5  # and it was trained
    # with one bias the computation is the same, and training is not: this test can see a difference
    np.testing.assert_allclose(one(x), glasscell_model_of(start, "two")(x), rtol=0, atol=1e-14)
    assert np.abs(np.subtract(train_glasscell(one, optimizer, x, targets, CLIPS[clip]), expected)).max() > 1e-6


def random_lstm(rng, **options):
    lstm = gc.LSTM(I, H, recurrent_bias=True, dtype=np.float64, **options)
    lstm.parameters.vector[:] = rng.normal(scale=0.5, size=lstm.parameters.vector.size)
    return lstm


def folded(lstm):
    """The LSTM with the sum of both biases as its one."""
    options = lstm.options.replace(recurrent_bias=False)
    other = gc.LSTM(**options.non_default(), dtype=np.float64, seed=None)
    for name, view in other.parameters.items():
        view[:] = lstm.parameters[name]
        if name.startswith("kernel"):
            view[:, -1] += lstm.parameters[name.replace("kernel", "recurrent_bias")]
    return other


VARIANTS = {
    "plain": {},
    "stack": {"num_layers": 2, "bidirectional": True},
    "projected": {"proj_size": 3, "peepholes": True, "learn_initial_state": True},
    "coupled": {"coupled": "input"},
    "normalised": {"layer_norm": "haste"},
    "segments": {"recompute_every": 2},
}


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize("name", VARIANTS)
def test_two_biases_equal_their_sum(name, engine, rng):
    if engine == "numba":
        pytest.importorskip("numba")
    lstm = random_lstm(rng, engine=engine, **VARIANTS[name])
    other = folded(lstm)
    x = rng.normal(size=(B, T, I))
    dy = rng.normal(size=(B, T, lstm.output_size))
    (y, _, tape), (expected, _, other_tape) = (layer.forward(x, lengths=[6, 0, 3, 5]) for layer in (lstm, other))
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(lstm(x), other(x), rtol=0, atol=1e-12)
    gradients, expected = lstm.backward(tape, dy)[-1], other.backward(other_tape, dy)[-1]
    for weight, gradient in expected.items():
        np.testing.assert_allclose(gradients[weight], gradient, rtol=0, atol=1e-12)
    for weight in gradients.keys() - expected.keys():
        kernel = gradients[weight.replace("recurrent_bias", "kernel")]
        np.testing.assert_array_equal(gradients[weight], kernel[:, -1])
        assert gradients[weight].any()


def test_every_view_of_two_biases_sees_their_sum(rng, tmp_path):
    lstm = random_lstm(rng, num_layers=2)
    other, x = folded(lstm), rng.normal(size=(T, I))
    stream = lstm.stream()
    np.testing.assert_allclose([stream.push(step).copy() for step in x], other(x), rtol=0, atol=1e-12)
    trace, expected = (layer.trace(x, d_outputs=np.ones((T, H))) for layer in (lstm, other))
    for one, another in zip(trace.layer, expected.layer, strict=True):
        for symbol in one.names:
            np.testing.assert_allclose(one.value(symbol), another.value(symbol), rtol=0, atol=1e-12)
    assert str(trace.equations(2, 1)) == str(expected.equations(2, 1))
    for ending in ("onnx", "keras"):
        pytest.importorskip({"onnx": "onnx", "keras": "h5py"}[ending])
        gc.convert.save(lstm, tmp_path / f"m.{ending}")
        np.testing.assert_allclose(gc.convert.load(tmp_path / f"m.{ending}")(x), other(x), rtol=0, atol=1e-12)


def test_both_biases_are_kept_in_files_and_with_pytorchs_names(rng, tmp_path):
    lstm = random_lstm(rng, num_layers=2, bidirectional=True)
    weights = lstm.to_torch()
    again = gc.LSTM.from_torch(weights, biases="two")
    np.testing.assert_array_equal(again.parameters.vector, lstm.parameters.vector)
    assert again.options == lstm.options
    for gate, k in {"i": 0, "f": 1, "g": 2, "o": 3}.items():  # in PyTorch's order
        own = "ifog".index(gate)
        expected = lstm.parameters["recurrent_bias_l1_reverse"][own * H : (own + 1) * H]
        np.testing.assert_array_equal(weights["bias_hh_l1_reverse"][k * H : (k + 1) * H], expected)
    lstm.save(tmp_path / "m.safetensors")
    loaded = gc.load(tmp_path / "m.safetensors")
    assert loaded.options == lstm.options
    np.testing.assert_array_equal(loaded.parameters.vector, lstm.parameters.vector)
    chain = gc.Sequential([lstm])
    chain.save(tmp_path / "chain.safetensors")
    np.testing.assert_array_equal(gc.load(tmp_path / "chain.safetensors").parameters.vector, chain.parameters.vector)


def test_the_default_is_one_bias(rng):
    weights = random_lstm(rng).to_torch()
    lstm = gc.LSTM.from_torch(weights)
    assert not lstm.options.recurrent_bias
    np.testing.assert_array_equal(lstm.to_torch()["bias_hh_l0"], 0)
    np.testing.assert_array_equal(lstm.to_torch()["bias_ih_l0"], weights["bias_ih_l0"] + weights["bias_hh_l0"])


def test_first_values_of_a_second_bias():
    for initializer, drawn in (("orthogonal", False), ("glorot", False), ("uniform", True)):
        lstm = gc.LSTM(3, 4, recurrent_bias=True, initializer=initializer)
        assert bool(lstm.parameters["recurrent_bias_l0"].any()) == drawn


def test_biases_that_do_not_exist_are_refused(rng):
    with pytest.raises(ValueError, match="recurrent_bias is a second bias, and bias=False has none"):
        gc.LSTM(3, 4, bias=False, recurrent_bias=True)
    with pytest.raises(ValueError, match="biases must be one of 'one', 'two', got 'three'"):
        gc.LSTM.from_torch(random_lstm(rng).to_torch(), biases="three")
    plain = gc.LSTM(3, 4, bias=False)
    assert gc.LSTM.from_torch(plain.to_torch(), biases="two").options == plain.options  # there is nothing to be two


def test_files_of_pytorch_are_read_with_two_biases(rng, tmp_path):
    from safetensors.numpy import save_file  # noqa: PLC0415

    lstm = random_lstm(rng)
    gc.convert.save(lstm, tmp_path / "m.pt")
    save_file({f"rnn.{name}": array for name, array in lstm.to_torch().items()}, tmp_path / "m.safetensors")
    for name in ("m.pt", "m.safetensors"):
        for biases, two in (("two", True), ("one", False), (None, False)):
            other = gc.convert.load(tmp_path / name, biases=biases)
            assert other.options.recurrent_bias == two
            if two:
                np.testing.assert_array_equal(other.parameters.vector, lstm.parameters.vector)
    lstm.save(tmp_path / "two_biases.safetensors")
    with pytest.raises(ValueError, match="biases is for weights alone"):
        gc.convert.load(tmp_path / "two_biases.safetensors", biases="two")
    with pytest.raises(ValueError, match=r"biases is for .*\.pt"):
        gc.convert.load(tmp_path / "m.onnx", biases="two")
