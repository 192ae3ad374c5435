"""Law: values and all gradients of RNN and GRU are PyTorch's, and weights go there and back."""

import numpy as np
import pytest

import glasscell as gc
from glasscell import RNNState

B, T, I, H = 4, 7, 3, 5
KINDS = {"tanh": ("RNN", {}), "relu": ("RNN", {"nonlinearity": "relu"}), "gru": ("GRU", {})}
STACKS = [
    {"num_layers": num_layers, "bidirectional": bidirectional, "bias": bias}
    for num_layers in (1, 2)
    for bidirectional in (False, True)
    for bias in (True, False)
]


def names_of(options):
    return "-".join(f"{name}={value}" for name, value in options.items())


def gradient_of(name, shape, gradients, kind):
    """The gradient on one of PyTorch's parameters, among ours."""
    which, suffix = name[: name.index("_l")], name[name.index("_l") :]
    kernel = gradients[f"kernel{suffix}"]
    if which == "bias_hh" and kind == "GRU":
        return np.concatenate([kernel[: 2 * H, -1], gradients[f"recurrent_bias{suffix}"]])
    if which == "weight_ih":
        return kernel[:, H : H + shape[1]]
    return kernel[:, :H] if which == "weight_hh" else kernel[:, -1]


@pytest.mark.parametrize("padded", [False, True], ids=["", "lengths"])
@pytest.mark.parametrize("options", STACKS, ids=names_of)
@pytest.mark.parametrize("name", KINDS)
def test_values_and_gradients(name, options, padded, torch, rng):
    kind, cell_options = KINDS[name]
    torch_layer = getattr(torch.nn, kind)(I, H, batch_first=True, **cell_options, **options).double()
    layer = getattr(gc, kind).from_torch(torch_layer.state_dict(), **cell_options)
    D, L = (2 if options["bidirectional"] else 1), options["num_layers"]
    x, h0 = rng.normal(size=(B, T, I)), rng.normal(size=(L * D, B, H))
    dy, dh = rng.normal(size=(B, T, D * H)), rng.normal(size=(L * D, B, H))
    lengths = [7, 3, 5, 1] if padded else None

    torch_x, torch_h0 = (torch.tensor(array, requires_grad=True) for array in (x, h0))
    rnn = torch.nn.utils.rnn
    packed = rnn.pack_padded_sequence(torch_x, lengths, True, False) if padded else torch_x
    torch_y, torch_h = torch_layer(packed, torch_h0)
    if padded:
        torch_y, _ = rnn.pad_packed_sequence(torch_y, True)
    ((torch_y * torch.tensor(dy)).sum() + (torch_h * torch.tensor(dh)).sum()).backward()

    y, state, tape = layer.forward(x, RNNState(h0), lengths=lengths)
    dx, d_state, gradients = layer.backward(tape, dy, RNNState(dh))
    pairs = [(y, torch_y), (state.h, torch_h), (dx, torch_x.grad), (d_state.h, torch_h0.grad)]
    for key, parameter in torch_layer.named_parameters():
        pairs.append((gradient_of(key, parameter.shape, gradients, kind), parameter.grad))
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected.detach().numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", STACKS, ids=names_of)
@pytest.mark.parametrize("name", KINDS)
def test_weights_go_there_and_back(name, options, torch, rng):
    kind, cell_options = KINDS[name]
    layer = getattr(gc, kind)(I, H, **cell_options, **options, initializer="uniform", seed=4)
    torch_layer = getattr(torch.nn, kind)(I, H, batch_first=True, **cell_options, **options)
    torch_layer.load_state_dict({key: torch.tensor(array) for key, array in layer.to_torch().items()})
    x = rng.normal(size=(B, T, I)).astype(np.float32)
    np.testing.assert_allclose(layer(x), torch_layer(torch.tensor(x))[0].detach().numpy(), atol=1e-6)
    back = getattr(gc, kind).from_torch(torch_layer.state_dict(), **cell_options)
    np.testing.assert_array_equal(back.parameters.vector, layer.parameters.vector)
    inside = {f"encoder.{key}": value for key, value in torch_layer.state_dict().items()}
    again = getattr(gc, kind).from_torch(inside, prefix="encoder.", **cell_options, dropout=0.1)
    np.testing.assert_array_equal(again.parameters.vector, layer.parameters.vector)


def test_weights_that_do_not_fit_are_refused_by_name(torch):
    lstm, gru = torch.nn.LSTM(I, H).state_dict(), torch.nn.GRU(I, H, 2).state_dict()
    with pytest.raises(ValueError, match=r"weight_hh_l0' must have shape \(3H, H\) of a GRU, got \(20, 5\)"):
        gc.GRU.from_torch(lstm)
    with pytest.raises(ValueError, match=r"\(1H, H\)|\(H, H\) of an RNN"):
        gc.RNN.from_torch(gru)
    with pytest.raises(ValueError, match=r"'weight_ih_l0' is missing; .*prefix='a.'"):
        gc.GRU.from_torch({f"a.{key}": value for key, value in gru.items()})
    with pytest.raises(ValueError, match="num_layers must be 2, as the weights have it, got 3"):
        gc.GRU.from_torch(gru, num_layers=3)
    with pytest.raises(ValueError, match=r"'bias_hh_l1' .* is missing"):
        gc.GRU.from_torch({key: value for key, value in gru.items() if key != "bias_hh_l1"})
    with pytest.raises(ValueError, match="NaN or infinite"):
        gc.GRU.from_torch({**gru, "bias_hh_l1": gru["bias_hh_l1"] * float("nan")})
    with pytest.raises(ValueError, match=r"PyTorch's nn.GRU has no reset_after=False"):
        gc.GRU(I, H, reset_after=False).to_torch()
