"""Law: outputs, states and gradients of an LSTM equal PyTorch's."""

import numpy as np
import pytest
from comparison import assert_near
from layer_cases import B, H, I, T, each_stack, everything, random_lstm, random_state

from glasscell.layers import LSTM, LSTMState


def torch_lstm(torch, lstm, rng):
    """The same stack in PyTorch, in float64: gates i f g o, and two biases that add up."""
    module = torch.nn.LSTM(lstm.input_size, lstm.hidden_size, lstm.num_layers, batch_first=True, dtype=torch.float64)
    for layer in range(lstm.num_layers):
        W_ih, W_hh, bias = torch_layout(lstm.parameters[f"kernel_l{layer}"].astype(np.float64))
        second_bias = rng.normal(size=bias.shape)
        weights = {"weight_ih": W_ih, "weight_hh": W_hh, "bias_ih": bias - second_bias, "bias_hh": second_bias}
        for name, weight in weights.items():
            getattr(module, f"{name}_l{layer}").data = torch.tensor(weight)
    return module


def torch_layout(kernel):
    H = len(kernel) // 4
    rows = kernel[np.r_[0 : 2 * H, 3 * H : 4 * H, 2 * H : 3 * H]]
    return rows[:, H:-1], rows[:, :H], rows[:, -1]


def torch_results(torch, lstm, rng, x, state, dy, dstate):
    """What `everything` returns, from PyTorch and in its layout: values, and gradients."""
    module = torch_lstm(torch, lstm, rng)
    leaf = [torch.tensor(array.astype(np.float64), requires_grad=True) for array in (x, *state)]
    y, final = module(leaf[0], (leaf[1], leaf[2]))
    upstream = [torch.tensor(array.astype(np.float64)) for array in (dy, *dstate)]
    sum((d * out).sum() for d, out in zip(upstream, (y, *final), strict=True)).backward()
    names = [f"{name}_l{k}" for k in range(lstm.num_layers) for name in ("weight_ih", "weight_hh", "bias_ih")]
    weights = [getattr(module, name) for name in names]
    return [tensor.detach().numpy() for tensor in (y, *final)], [tensor.grad.numpy() for tensor in leaf + weights]


@each_stack
@pytest.mark.parametrize(
    ("dtype", "scale", "forward_bound", "gradient_bound"),
    [
        (np.float64, 1, 1e-9, 1e-9),
        (np.float64, 30, 1e-9, 1e-9),
        (np.float32, 1, 1e-6, 5e-6),
        (np.float32, 30, 5e-6, 5e-5),
    ],
)
@pytest.mark.parametrize(("B", "T", "I", "H"), [(1, 10, 1, 8), (3, 20, 2, 5), (20, 30, 6, 16)])
def test_values_and_gradients_are_pytorchs(
    num_layers, dtype, scale, forward_bound, gradient_bound, B, T, I, H, torch, rng
):
    """Weights of ±1/√H, and with 30 times that for inputs and biases of the first layer, which saturates most gates."""
    lstm = LSTM(I, H, num_layers, initializer="uniform", dtype=dtype, seed=rng)
    lstm.parameters["kernel_l0"][:, H:] *= scale
    x, dy = rng.normal(size=(B, T, I)).astype(dtype), rng.normal(size=(B, T, H)).astype(dtype)
    state, dstate = (LSTMState(*rng.normal(size=(2, num_layers, B, H)).astype(dtype)) for _ in range(2))
    values, gradients = torch_results(torch, lstm, rng, x, state, dy, dstate)

    y, h, c, dx, dh, dc, *dkernels = everything(lstm, x, state, dy, dstate)
    for result, reference in zip((y, h, c), values, strict=True):
        assert result.shape == reference.shape
        assert np.abs(result - reference).max() <= forward_bound * max(1, np.abs(reference).max())  # c may be large
    gradients_in_torch_layout = [dx, dh, dc, *(part for dkernel in dkernels for part in torch_layout(dkernel))]
    for result, reference in zip(gradients_in_torch_layout, gradients, strict=True):
        assert_near(result, reference, gradient_bound, same_dtype=False)  # the reference is of float64


def test_a_learned_start_is_pytorchs_expanded_one(torch, rng):
    lstm = random_lstm(rng, num_layers=2)
    x, dy, dstate = rng.normal(size=(B, T, I)), rng.normal(size=(B, T, H)), random_state(rng)
    module = torch_lstm(torch, lstm, rng)
    start = [
        torch.tensor(np.array([lstm.parameters[f"initial_{s}_l{k}"] for k in range(2)]), requires_grad=True)
        for s in "hc"
    ]
    y, final = module(torch.tensor(x), tuple(s[:, None].expand(-1, B, -1).contiguous() for s in start))
    upstream = zip((dy, *dstate), (y, *final), strict=True)
    sum((torch.tensor(d) * out).sum() for d, out in upstream).backward()

    outputs, _, tape = lstm.forward(x)
    _, _, gradients = lstm.backward(tape, dy, dstate)
    assert_near(outputs, y.detach().numpy(), 1e-9)
    for s, leaf in zip("hc", start, strict=True):
        assert_near(np.array([gradients[f"initial_{s}_l{k}"] for k in range(2)]), leaf.grad.numpy(), 1e-9)
