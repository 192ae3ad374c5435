"""Property: weights of a state dict of PyTorch are found, checked by name, and returned with the same names."""

import numpy as np
import pytest
from case_loops import loop_over
from comparison import assert_near

from glasscell import LSTM


@pytest.fixture
def module(torch):
    torch.manual_seed(1)
    return torch.nn.LSTM(3, 4, 2, bidirectional=True, proj_size=2)


@pytest.fixture
def weights(module):
    return {name: weight.numpy().copy() for name, weight in module.state_dict().items()}


def test_weights_in_a_larger_state_dict_are_selected_by_prefix(torch, rng):
    class Tagger(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = torch.nn.LSTM(3, 4)
            self.encoder_2 = torch.nn.LSTM(4, 5, 2)
            self.head = torch.nn.Linear(5, 2)

    tagger = Tagger()
    state_dict = tagger.state_dict()
    first, second = (LSTM.from_torch(state_dict, prefix=prefix) for prefix in ("encoder.", "encoder_2."))
    x = rng.normal(size=(1, 6, 3)).astype(np.float32)
    h, _ = tagger.encoder(torch.tensor(x).transpose(0, 1))
    y, _ = tagger.encoder_2(h)
    got = second.forward(first.forward(x)[0])[0]
    np.testing.assert_allclose(got, y.detach().transpose(0, 1).numpy(), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"prefix must begin the name of a weight, one of encoder\.weight_ih_l0, "):
        LSTM.from_torch(state_dict, prefix="decoder.")
    with pytest.raises(ValueError, match=r"'weight_ih_l0' is missing; the weights are encoder\.weight_ih_l0, "):
        LSTM.from_torch(state_dict)
    with pytest.raises(ValueError, match=r"'weight_ih_l0' is missing; the weights are weight, bias"):
        LSTM.from_torch(state_dict, prefix="head.")


def test_tensors_and_arrays_are_the_same(module, weights):
    of_tensors, of_arrays = LSTM.from_torch(module.state_dict()), LSTM.from_torch(weights)
    of_lists = LSTM.from_torch({name: weight.tolist() for name, weight in weights.items()}, dtype="float32")
    np.testing.assert_array_equal(of_tensors.parameters.vector, of_arrays.parameters.vector)
    np.testing.assert_array_equal(of_tensors.parameters.vector, of_lists.parameters.vector)


def test_from_torch_copies_the_weights(weights):
    lstm = LSTM.from_torch(weights)
    before = lstm.parameters.vector.copy()
    for array in (*weights.values(), *lstm.to_torch().values()):
        array[...] = np.nan
    np.testing.assert_array_equal(lstm.parameters.vector, before)


class Strange:
    """Object that NumPy cannot convert to an array."""

    def __array__(self, *_, **__):
        raise TypeError("of another kind")


def test_weights_that_are_no_arrays_are_refused_by_name(weights):
    with pytest.raises(TypeError, match=r"the weight 'weight_hh_l0' must be an array: of another kind"):
        LSTM.from_torch(weights | {"weight_hh_l0": Strange()})


def test_the_default_dtype_is_that_of_the_weights(torch, module, weights):
    assert LSTM.from_torch(weights).dtype == np.float32
    assert LSTM.from_torch(module.double().state_dict()).dtype == np.float64
    assert LSTM.from_torch(weights | {"bias_ih_l0": weights["bias_ih_l0"].astype(np.float64)}).dtype == np.float64
    assert LSTM.from_torch(weights, dtype=np.float64).dtype == np.float64
    half = LSTM.from_torch(module.half().state_dict())
    assert half.dtype == np.float32
    np.testing.assert_array_equal(half.to_torch()["weight_hh_l1"], weights["weight_hh_l1"].astype(np.float16))


def test_a_projection_of_0_is_none(torch):
    state_dict = torch.nn.LSTM(3, 4).state_dict()
    assert LSTM.from_torch(state_dict, proj_size=0).options.proj_size is None
    assert LSTM.from_torch(state_dict, proj_size=None).options.proj_size is None


def test_options_that_agree_with_the_weights_are_accepted(weights):
    told = {"input_size": 3, "hidden_size": 4, "num_layers": 2, "bidirectional": True, "bias": True, "proj_size": 2}
    assert LSTM.from_torch(weights, **told).options == LSTM.from_torch(weights).options


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"input_size": 4}, "input_size must be 3, as the weights, got 4"),
        ({"hidden_size": 3}, "hidden_size must be 4, as the weights, got 3"),
        ({"num_layers": 1}, "num_layers must be 2, as the weights, got 1"),
        ({"bidirectional": False}, "bidirectional must be True, as the weights, got False"),
        ({"bias": False}, "bias must be True, as the weights, got False"),
        ({"proj_size": 3}, "proj_size must be 2, as the weights, got 3"),
        ({"proj_size": 0}, "proj_size must be 2, as the weights, got 0"),
    ],
)
def test_options_that_contradict_the_weights_are_refused(told, words, weights):
    with pytest.raises(ValueError, match=words):
        LSTM.from_torch(weights, **told)


def test_proj_size_without_projection_weights_is_refused(torch):
    with pytest.raises(ValueError, match="proj_size must be None, as the weights, got 2"):
        LSTM.from_torch(torch.nn.LSTM(3, 4).state_dict(), proj_size=2)


def test_an_unknown_option_is_refused(weights):
    with pytest.raises(TypeError, match="no option 'batch_second'"):
        LSTM.from_torch(weights, batch_second=True)


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0"])
def test_missing_weights_of_the_first_layer_are_refused(name, weights):
    del weights[name]
    with pytest.raises(ValueError, match=f"the weight '{name}' is missing; the weights are "):
        LSTM.from_torch(weights)


@pytest.mark.parametrize(
    "name", ["weight_hh_l1", "weight_ih_l1", "bias_hh_l0", "weight_hr_l1_reverse", "weight_ih_l1_reverse"]
)
def test_missing_weights_are_refused_by_name(name, weights):
    del weights[name]
    with pytest.raises(ValueError, match=rf"the weight '{name}' \(.*\) is missing"):
        LSTM.from_torch(weights)


@pytest.mark.parametrize("name", ["weight_hh_l0_back", "gamma", "bias_hh_l2"])
def test_surplus_weights_are_refused_by_name(name, weights):
    with pytest.raises(ValueError, match=rf"the weight '{name}' \(3,\) does not belong to this model"):
        LSTM.from_torch(weights | {name: np.zeros(3, np.float32)})


def test_an_incomplete_layer_is_refused(weights):
    with pytest.raises(ValueError, match=r"the weight 'weight_hh_l2' \(16, 2\) is missing"):
        LSTM.from_torch(weights | {"weight_ih_l2": np.zeros((16, 4), np.float32)})


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("weight_ih_l1", (16, 3), r"'weight_ih_l1' must have shape \(16, 4\), got \(16, 3\)"),
        ("weight_hr_l0", (4, 2), r"'weight_hr_l0' must have shape \(2, 4\), got \(4, 2\)"),
        ("bias_hh_l0_reverse", (1, 16), r"'bias_hh_l0_reverse' must have shape \(16,\), got \(1, 16\)"),
        ("weight_ih_l0", (15, 3), r"'weight_ih_l0' must have shape \(4H, I\), got \(15, 3\)"),
        ("weight_ih_l0", (0, 3), r"'weight_ih_l0' must have shape \(4H, I\), got \(0, 3\)"),
        ("weight_ih_l0", (48,), r"'weight_ih_l0' must be a matrix, got shape \(48,\)"),
        ("weight_hh_l0", (16,), r"'weight_hh_l0' must be a matrix, got shape \(16,\)"),
    ],
)
def test_weights_of_another_shape_are_refused_by_name(name, shape, words, weights):
    with pytest.raises(ValueError, match=words):
        LSTM.from_torch(weights | {name: np.zeros(shape, np.float32)})


def test_layers_with_a_gap_between_them(weights):
    gap = {name.replace("_l1", "_l7"): weight for name, weight in weights.items()}
    with pytest.raises(ValueError, match=r"weights must be those of the layers 0 to 7, got \[0, 7\]"):
        LSTM.from_torch(gap)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(bad, weights):
    weights["weight_hh_l1"][0, 0] = bad
    with pytest.raises(ValueError, match="'weight_hh_l1' has NaN or infinite values"):
        LSTM.from_torch(weights)


def test_weights_that_are_not_numbers(weights):
    with pytest.raises(TypeError, match="'weight_hh_l1' must be an array of real numbers"):
        LSTM.from_torch(weights | {"weight_hh_l1": np.full((16, 2), "a")})
    with pytest.raises(TypeError, match="state_dict must be a mapping of names to arrays, got list"):
        LSTM.from_torch(list(weights.values()))


@loop_over(
    ("option", "value"),
    [
        ("peepholes", True),
        ("coupled", "input"),
        ("coupled", "forget"),
        ("forget_gate", False),
        ("clip", 3.0),
        ("gate_activation", "HardSigmoid"),
        ("candidate_activation", "Relu"),
        ("output_activation", "Relu"),
        ("layer_norm", "haste"),
        ("zoneout", 0.1),
        ("zoneout_cell", 0.1),
        ("reverse", True),
    ],
)
def test_options_that_pytorch_does_not_support_are_refused(option, value):
    with pytest.raises(ValueError, match=f"PyTorch's nn.LSTM does not support {option}="):
        LSTM(3, 4, **{option: value}).to_torch()


def test_a_combination_that_pytorch_does_not_support_is_refused():
    with pytest.raises(ValueError, match="does not support merge='sum'"):
        LSTM(3, 4, bidirectional=True, merge="sum").to_torch()
    with pytest.raises(ValueError, match="does not support projection_bias=True"):
        LSTM(3, 4, proj_size=2, projection_bias=True).to_torch()
    for P in (4, 5):
        with pytest.raises(ValueError, match=f"proj_size must be below hidden_size = 4 .*, got {P}"):
            LSTM(3, 4, proj_size=P).to_torch()


@pytest.mark.parametrize("bidirectional", [False, True])
def test_learned_initial_states_keep_their_names(bidirectional, torch, rng):
    """nn.LSTM does not have it: the initial state is an argument, hx."""
    lstm = LSTM(3, 4, 2, bidirectional=bidirectional, learn_initial_state=True, proj_size=2, dtype=np.float64)
    lstm.parameters.vector[:] = rng.normal(size=lstm.parameters.vector.size)
    weights = lstm.to_torch()
    for options in ({}, {"learn_initial_state": True}):  # the names tell
        again = LSTM.from_torch(weights, **options)
        np.testing.assert_array_equal(again.parameters.vector, lstm.parameters.vector)
    with pytest.raises(ValueError, match="learn_initial_state must be True, as the weights, got False"):
        LSTM.from_torch(weights, learn_initial_state=False)
    with pytest.raises(ValueError, match="the weight 'initial_c_l0"):
        LSTM.from_torch({name: array for name, array in weights.items() if not name.startswith("initial_c")})

    suffixes = [suffix for suffix, _, _ in lstm.options.directions]
    start = [torch.tensor(np.array([weights.pop(f"initial_{s}{suffix}") for suffix in suffixes])) for s in "hc"]
    module = torch.nn.LSTM(3, 4, 2, bidirectional=bidirectional, proj_size=2, dtype=torch.float64)
    module.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    x = rng.normal(size=(6, 3))
    y, _ = module(torch.tensor(x), tuple(start))
    assert_near(lstm.forward(x)[0], y.detach().numpy(), 1e-12)
