"""Property: weights are unchanged after conversion to PyTorch's names and back, and PyTorch has the same outputs."""

import numpy as np
import pytest
from case_loops import loop_over

from glasscell import LSTM, LSTMState
from glasscell.weight_layouts.pytorch import from_torch, to_torch

SIZES = [(3, 4, 1, False), (1, 1, 1, False), (2, 5, 3, False), (3, 4, 2, True)]  # I, H, L, learned initial state


def random_lstm(rng, I=3, H=4, L=2, learned=False):
    lstm = LSTM(I, H, L, learn_initial_state=learned, dtype=np.float64)
    lstm.parameters.vector[:] = rng.normal(scale=0.5, size=lstm.parameters.vector.size)
    return lstm


@pytest.mark.parametrize(("I", "H", "L", "learned"), SIZES)
def test_to_torch_and_back(I, H, L, learned, rng):
    lstm, other = random_lstm(rng, I, H, L, learned), random_lstm(rng, I, H, L, learned)
    from_torch(to_torch(lstm.parameters, lstm.options), other.parameters, other.options)
    np.testing.assert_array_equal(other.parameters.vector, lstm.parameters.vector)


@pytest.mark.parametrize(("I", "H", "L", "learned"), SIZES)
def test_from_torch_and_back(I, H, L, learned, rng):
    """The first bias becomes the sum of both."""
    lstm = random_lstm(rng, I, H, L, learned)
    weights = {name: rng.normal(size=array.shape) for name, array in to_torch(lstm.parameters, lstm.options).items()}
    from_torch(weights, lstm.parameters, lstm.options)
    for name, array in to_torch(lstm.parameters, lstm.options).items():
        if name.startswith("bias_ih"):
            expected = weights[name] + weights[name.replace("ih", "hh")]
        else:
            expected = np.zeros(4 * H) if name.startswith("bias_hh") else weights[name]
        np.testing.assert_array_equal(array, expected)


def test_the_order_of_gates():
    """Glasscell has the rows i f o g and the columns h, x, bias; PyTorch has the rows i f g o."""
    lstm = LSTM(1, 1, dtype=np.float64)
    lstm.parameters["kernel_l0"][:] = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]]
    weights = to_torch(lstm.parameters, lstm.options)
    assert weights["weight_hh_l0"].tolist() == [[1], [4], [10], [7]]
    assert weights["weight_ih_l0"].tolist() == [[2], [5], [11], [8]]
    assert weights["bias_ih_l0"].tolist() == [3, 6, 12, 9]
    assert weights["bias_hh_l0"].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_to_torch_returns_copies_of_the_same_dtype(dtype):
    lstm = LSTM(2, 3, learn_initial_state=True, dtype=dtype)
    before = lstm.parameters.vector.copy()
    for array in to_torch(lstm.parameters, lstm.options).values():
        assert array.dtype == dtype
        array[:] = 99
    np.testing.assert_array_equal(lstm.parameters.vector, before)


@pytest.mark.parametrize(("I", "H", "L"), [(3, 4, 1), (2, 5, 3)])
@pytest.mark.parametrize("direction", ["to torch", "from torch"])
def test_pytorch_has_the_same_outputs(direction, I, H, L, torch, rng):
    lstm, module = random_lstm(rng, I, H, L), torch.nn.LSTM(I, H, L, batch_first=True).to(torch.float64)
    if direction == "to torch":
        module.load_state_dict(
            {name: torch.tensor(array) for name, array in to_torch(lstm.parameters, lstm.options).items()}
        )
    else:
        weights = {name: rng.normal(size=tensor.shape) for name, tensor in module.state_dict().items()}
        module.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
        from_torch(weights, lstm.parameters, lstm.options)
    x, state = rng.normal(size=(4, 6, I)), LSTMState(*rng.normal(size=(2, L, 4, H)))
    y, final, _ = lstm.forward(x, state)
    torch_y, torch_final = module(torch.tensor(x), tuple(map(torch.tensor, state)))
    for a, b in zip((y, *final), (torch_y, *torch_final), strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=0, atol=1e-12)


def test_all_kinds_of_tensors(torch, rng):
    """Accept parameters, dtypes that NumPy does not support, and PyTorch's names of dtypes."""
    module = torch.nn.LSTM(3, 4, bidirectional=True)
    weights = {name: tensor.detach().numpy() for name, tensor in module.named_parameters()}
    lstm = LSTM.from_torch(dict(module.named_parameters()), dtype=torch.float64, device="cpu")
    assert lstm.dtype == np.float64
    np.testing.assert_array_equal(lstm.to_torch()["weight_hh_l0_reverse"], weights["weight_hh_l0_reverse"])
    half = LSTM.from_torch(module.bfloat16().state_dict())
    assert half.dtype == np.float32
    np.testing.assert_allclose(half.to_torch()["weight_ih_l0"], weights["weight_ih_l0"], rtol=2**-8, atol=0)
    with pytest.raises(TypeError, match=r"must be a mapping, got a module: LSTM; pass module\.state_dict\(\)"):
        LSTM.from_torch(module)


@loop_over(
    ("changes", "words"),
    [
        ({"weight_hh_l1": None}, ["'weight_hh_l1'", "(16, 4)", "missing"]),
        ({"bias_hh_l0": None}, ["'bias_hh_l0'", "(16,)", "missing"]),
        ({"initial_h_l0": None}, ["'initial_h_l0'", "(4,)", "missing"]),
        ({"weight_ih_l0": np.zeros((16, 4))}, ["'weight_ih_l0'", "(16, 4)", "(16, 3)"]),
        ({"bias_ih_l1": np.zeros((16, 1))}, ["'bias_ih_l1'", "(16, 1)", "(16,)"]),
        ({"weight_ih_l2": np.zeros((16, 4))}, ["'weight_ih_l2'", "(16, 4)", "does not belong"]),
        ({"weight_hr_l0": np.zeros((2, 4))}, ["'weight_hr_l0'", "(2, 4)", "does not belong"]),
    ],
)
def test_unfitting_weights_are_named_and_change_nothing(changes, words, rng):
    lstm = random_lstm(rng, learned=True)
    before = lstm.parameters.vector.copy()
    weights = {name: np.ones_like(array) for name, array in to_torch(lstm.parameters, lstm.options).items()} | changes
    with pytest.raises(ValueError, match="the weight") as caught:
        from_torch({name: array for name, array in weights.items() if array is not None}, lstm.parameters, lstm.options)
    assert all(word in str(caught.value) for word in words)
    np.testing.assert_array_equal(lstm.parameters.vector, before)
