"""Law: the layers of real chains compute what PyTorch's do, and their backward pass is the adjoint of forward."""

from functools import partial

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.layers import (
    AveragePooling1D,
    BatchNorm,
    Conv1D,
    Flatten,
    GaussianDropout,
    GaussianNoise,
    LayerNorm,
    MaxPooling1D,
    Normalization,
    RepeatVector,
    Rescaling,
    SpatialDropout1D,
)
from glasscell.layers.batch_first import ParameterLayer

F = 6  # divisible by 2 and 3
MEAN, VARIANCE = (0.5, -1.0, 0.0, 3.0, 2.0, 0.1), (1.5, 0.2, 4.0, 1.0, 0.5, 2.0)
WINDOWS = [
    {},
    {"stride": 2},
    {"padding": "same"},
    {"padding": "same", "stride": 3},
    {"padding": (1, 2), "stride": 2},
]
CONVOLUTIONS = [
    *WINDOWS,
    {"padding": "causal", "dilation": 2},
    {"padding": "same", "dilation": 2, "groups": 2},
    {"groups": 3, "bias": False, "dilation": 3},
]
LAYERS = {
    "LayerNorm": partial(LayerNorm, F),
    "LayerNorm, no shift": partial(LayerNorm, F, epsilon=1e-2, shift=False),
    "LayerNorm, no gain": partial(LayerNorm, F, gain=False),
    "BatchNorm": partial(BatchNorm, F),
    "BatchNorm, no gain": partial(BatchNorm, F, epsilon=0.1, gain=False),
    "BatchNorm, bare": partial(BatchNorm, F, gain=False, shift=False),
    **{f"Conv1D {options}": partial(Conv1D, F, 12, 3, **options) for options in CONVOLUTIONS},
    "Conv1D of one step": partial(Conv1D, F, 2, 1),
}
STATELESS = {
    "Normalization": Normalization(MEAN, VARIANCE),
    "Normalization of all": Normalization(0.3, 2.5),
    "Normalization, inverse": Normalization(MEAN, VARIANCE, invert=True),
    "Rescaling": Rescaling(MEAN, VARIANCE),
    "Rescaling of all": Rescaling(0.1),
    "Flatten": Flatten(),
    **{f"MaxPooling1D {options}": MaxPooling1D(3, **options) for options in WINDOWS},
    **{f"AveragePooling1D {options}": AveragePooling1D(3, **options) for options in WINDOWS},
    "AveragePooling1D, padding counts": AveragePooling1D(4, 3, (2, 1), count_padding=True),
    "SpatialDropout1D": SpatialDropout1D(0.4),
    "GaussianNoise": GaussianNoise(0.4),
    "GaussianDropout": GaussianDropout(0.4),
}
ALL = [*LAYERS, *STATELESS, "RepeatVector"]


def layer_of(name, rng, dtype=np.float64):
    """With weights that are none of the defaults."""
    if name == "RepeatVector":
        return RepeatVector(4)
    if name in STATELESS:
        return STATELESS[name]
    layer = LAYERS[name](dtype=dtype)
    layer.parameters.vector[:] = rng.normal(size=layer.parameters.vector.size)
    for statistic in layer.statistics.values():
        statistic[:] = rng.uniform(0.3, 2, statistic.shape)
    return layer


def inputs_of(layer, rng, batch=3, T=8):
    """Numbers of which no two are nearly equal: so that a small step does not make another one the largest."""
    shape = (batch, F) if layer.takes == "vector" else (batch, T, F)
    return (rng.permutation(np.prod(shape)).reshape(shape) - np.prod(shape) / 2) * 0.05


def result(found):
    return found if isinstance(found, tuple) else (found, None)


@loop_over("training", [False, True])
@loop_over("name", ALL)
def test_backward_is_the_adjoint(name, training, rng):
    """In inputs and parameters at once, by differences of fourth order, to 1e-8."""
    layer = layer_of(name, rng)
    x = inputs_of(layer, rng)

    def forward(x):
        return layer.forward(x, None, np.random.default_rng(1) if training else None)

    y, tape = forward(x)
    dy = rng.normal(size=y.shape)
    dx, gradients = result(layer.backward(tape, dy))
    weights = layer.parameters.vector.copy() if isinstance(layer, ParameterLayer) else np.zeros(0)
    along_x, along_weights = rng.normal(size=x.shape), rng.normal(size=weights.shape)

    def loss(s):
        if weights.size:
            layer.parameters.vector[:] = weights + s * along_weights
        return (dy * forward(x + s * along_x)[0]).sum()

    h = 1e-3
    measured = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h)
    own = (dx * along_x).sum() + (0 if gradients is None else gradients.vector @ along_weights)
    assert own == pytest.approx(measured, rel=1e-8, abs=1e-8)


@loop_over("name", ALL)
def test_a_batch_equals_its_sequences(name, rng):
    layer = layer_of(name, rng)
    x = inputs_of(layer, rng)
    y, tape = layer.forward(x)
    dy = rng.normal(size=y.shape)
    dx, gradients = result(layer.backward(tape, dy))
    total = None if gradients is None else gradients.zeros_like()
    for b in range(len(x)):
        alone, tape = layer.forward(x[b])
        np.testing.assert_allclose(alone, y[b], rtol=0, atol=1e-14)
        dx_alone, of_alone = result(layer.backward(tape, dy[b]))
        np.testing.assert_allclose(dx_alone, dx[b], rtol=0, atol=1e-13)
        if total is not None:
            total.vector[:] += of_alone.vector
    if total is not None:
        np.testing.assert_allclose(total.vector, gradients.vector, rtol=0, atol=1e-12)


@loop_over("dtype", [np.float32, np.float64])
@loop_over("name", ALL)
def test_dtype_is_preserved_and_inputs_are_not_modified(name, dtype, rng):
    layer = layer_of(name, rng, dtype)
    x = inputs_of(layer, rng).astype(dtype)
    before = x.copy()
    for generator in (None, rng):
        y, tape = layer.forward(x, None, generator)
        dx, gradients = result(layer.backward(tape, np.ones_like(y)))
        assert y.dtype == dx.dtype == dtype
        assert dx.shape == x.shape
        assert gradients is None or gradients.vector.dtype == dtype
    np.testing.assert_array_equal(x, before)


@loop_over("T", [0, 1, 2])
@loop_over("name", [name for name in ALL if "1D" in name or name == "Flatten"])
def test_short_sequences(name, T, rng):
    """Shorter than a window: no outputs, unless there is padding; and no warning."""
    layer = layer_of(name, rng)
    y, tape = layer.forward(inputs_of(layer, rng, T=T))
    assert np.isfinite(y).all()
    dx, _ = result(layer.backward(tape, np.ones_like(y)))
    assert dx.shape == (3, T, F)
    assert np.isfinite(dx).all()


# By PyTorch


@pytest.fixture
def compared(torch):
    """Values and gradients of one of ours, and of the same in PyTorch, whose time is the last axis if so wished."""

    def compared(layer, torch_function, x, weights=(), time_last=False):
        tensors = [torch.tensor(array, requires_grad=True) for array in (x, *weights)]
        inputs = tensors[0].transpose(1, 2) if time_last else tensors[0]
        expected = torch_function(inputs, *tensors[1:])
        expected = expected.transpose(1, 2) if time_last else expected
        y, tape = layer.forward(x)
        np.testing.assert_allclose(y, expected.detach().numpy(), rtol=0, atol=1e-13)
        dy = np.random.default_rng(2).normal(size=y.shape)
        expected.backward(torch.tensor(dy))
        dx, gradients = result(layer.backward(tape, dy))
        np.testing.assert_allclose(dx, tensors[0].grad.numpy(), rtol=0, atol=1e-12)
        for own, tensor in zip(() if gradients is None else gradients.values(), tensors[1:], strict=True):
            np.testing.assert_allclose(own, tensor.grad.numpy(), rtol=0, atol=1e-12)

    return compared


@pytest.mark.parametrize("options", [{}, {"shift": False}, {"gain": False, "shift": False}, {"epsilon": 0.1}])
def test_layer_norm_is_pytorchs(options, torch, compared, rng):
    layer = LayerNorm(F, dtype=np.float64, **options)
    layer.parameters.vector[:] = rng.normal(size=layer.parameters.vector.size)
    weights = list(layer.parameters.values())

    def torch_function(x, *weights):
        return torch.nn.functional.layer_norm(x, (F,), *weights, eps=layer.epsilon)

    compared(layer, torch_function, inputs_of(layer, rng), weights)


@pytest.mark.parametrize("name", ["BatchNorm", "BatchNorm, bare"])
def test_batch_norm_is_pytorchs_at_inference(name, torch, compared, rng):
    layer = layer_of(name, rng)
    mean, variance = (torch.tensor(layer.statistics[key]) for key in ("running_mean", "running_var"))

    def torch_function(x, *weights):
        return torch.nn.functional.batch_norm(x, mean, variance, *weights, training=False, eps=layer.epsilon)

    compared(layer, torch_function, inputs_of(layer, rng), list(layer.parameters.values()), time_last=True)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("padding", "dilation", "groups"), [(0, 1, 1), (1, 1, 2), (3, 2, 3), (0, 3, 1)])
def test_convolution_is_pytorchs(stride, padding, dilation, groups, torch, compared, rng):
    options = {"stride": stride, "dilation": dilation, "groups": groups}
    layer = Conv1D(F, 12, 3, padding=(padding, padding), dtype=np.float64, **options)
    layer.parameters.vector[:] = rng.normal(size=layer.parameters.vector.size)
    torch_function = partial(torch.nn.functional.conv1d, padding=padding, **options)
    compared(layer, torch_function, inputs_of(layer, rng, T=11), list(layer.parameters.values()), time_last=True)


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("padding", [0, 1])
def test_pooling_is_pytorchs(size, stride, padding, torch, compared, rng):
    functional, pads = torch.nn.functional, "valid" if padding == 0 else (padding, padding)
    x = rng.normal(size=(3, 11, F))
    torch_function = partial(functional.max_pool1d, kernel_size=size, stride=stride, padding=padding)
    compared(MaxPooling1D(size, stride, pads), torch_function, x, time_last=True)
    for counted in (False, True):
        layer = AveragePooling1D(size, stride, pads, count_padding=counted)
        sizes = {"kernel_size": size, "stride": stride, "padding": padding}
        torch_function = partial(functional.avg_pool1d, count_include_pad=counted, **sizes)
        compared(layer, torch_function, x, time_last=True)


# What they refuse, and what they say


@loop_over("name", [name for name in ALL if "Conv1D" in name or "Pooling1D" in name or name == "Flatten"])
def test_padded_steps_are_refused_by_default(name, rng):
    layer = layer_of(name, rng)
    x, mask = inputs_of(layer, rng), np.ones((3, 8), bool)
    np.testing.assert_array_equal(layer.forward(x, mask)[0], layer.forward(x)[0])
    mask[1, 6:] = False
    with pytest.raises(ValueError, match="must get sequences without padding, got masked steps; ignore_mask=True"):
        layer.forward(x, mask)
    config = layer.config | {"ignore_mask": True}
    ignoring = type(layer)(**config, **({"dtype": np.float64} if isinstance(layer, ParameterLayer) else {}))
    if isinstance(layer, ParameterLayer):
        ignoring.load_torch(layer.to_torch())
    np.testing.assert_array_equal(ignoring.forward(x, mask)[0], layer.forward(x)[0])
    assert ignoring.output_mask(x, mask) is None


@loop_over("name", ALL)
def test_a_config_creates_an_equal_layer(name, rng):
    layer = layer_of(name, rng)
    if not isinstance(layer, ParameterLayer):
        assert type(layer)(**layer.config) == layer
        return
    again = type(layer)(**layer.config, dtype=np.float64)
    again.load_torch(layer.to_torch())
    x = inputs_of(layer, rng)
    np.testing.assert_array_equal(again.forward(x)[0], layer.forward(x)[0])
    assert repr(again) == repr(layer)


@loop_over(
    ("make", "error", "words"),
    [
        (lambda: LayerNorm(0), ValueError, "size must be at least 1"),
        (lambda: LayerNorm(3, epsilon=0), ValueError, "epsilon must be finite and above 0"),
        (lambda: BatchNorm(3, gain=1), TypeError, "gain must be True or False"),
        (lambda: Conv1D(3, 4, 2, groups=2), ValueError, "groups must divide input_size 3 and output_size 4, got 2"),
        (lambda: Conv1D(3, 4, 2, padding="full"), ValueError, r"padding must be 'valid', 'same', 'causal' or \(before"),
        (lambda: Conv1D(3, 4, 2, padding=(1, -1)), ValueError, r"padding must be .*got \(1, -1\)"),
        (lambda: Conv1D(3, 4, 2, padding=2), ValueError, "padding must be .*got 2"),
        (lambda: Conv1D(3, 4, 0), ValueError, "kernel_size must be at least 1"),
        (lambda: MaxPooling1D(2, padding="causal"), ValueError, "padding must be 'valid', 'same' or"),
        (lambda: MaxPooling1D(2, padding=(2, 0)), ValueError, "padding must be below pool_size = 2"),
        (lambda: AveragePooling1D(0), ValueError, "pool_size must be at least 1"),
        (lambda: Normalization((1, 2), (1, 2, 3)), ValueError, "mean and variance must have one length, got 2 and 3"),
        (lambda: Normalization(0, -1), ValueError, "variance must be at least 0, got -1"),
        (lambda: Rescaling([1, np.nan]), ValueError, "scale must be a finite number, or one for each feature"),
        (lambda: Rescaling("2"), TypeError, "scale must be an array of real numbers"),
        (lambda: RepeatVector(2.0), TypeError, "times must be an integer"),
        (lambda: SpatialDropout1D(1), ValueError, "rate must be at least 0 and below 1"),
        (lambda: GaussianNoise(-1), ValueError, "deviation must be finite and at least 0, got -1"),
        (lambda: LayerNorm(3).forward(np.ones((2, 4))), ValueError, r"x must have shape .* with F = 3, got \(2, 4\)"),
        (lambda: Conv1D(3, 4, 2).forward(np.ones(3)), ValueError, r"x must have shape \(T, F\), \(B, T, F\)"),
        (lambda: Rescaling((1, 2)).forward(np.ones((2, 3))), ValueError, "x must have 2 features, got 3"),
        (lambda: LayerNorm(3).load_torch({"weight": 1}), ValueError, "weights must be bias, weight, got weight"),
        (
            lambda: LayerNorm(3, shift=False).load_torch({"weight": 1}),
            ValueError,
            r"weight must have shape \(3,\), got",
        ),
        (lambda: LayerNorm(1, shift=False).load_torch({"weight": [np.inf]}), ValueError, "weight must be finite"),
    ],
)
def test_bad_arguments_are_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_negative_variance_is_refused():
    layer = BatchNorm(2)
    layer.statistics["running_var"][1] = -1
    with pytest.raises(ValueError, match="running_var must be at least 0"):
        layer.forward(np.ones((3, 2)))
    weights, fresh = layer.to_torch() | {"weight": np.full(2, 7.0)}, BatchNorm(2)
    with pytest.raises(ValueError, match="running_var must be at least 0"):
        fresh.load_torch(weights)
    assert (fresh.parameters["gain"] == 1).all()


def test_running_statistics_are_no_parameters_and_training_does_not_change_them():
    layer = BatchNorm(2)
    assert list(layer.parameters) == ["gain", "shift"]
    before = {name: array.copy() for name, array in layer.statistics.items()}
    layer.forward(np.arange(12.0).reshape(2, 3, 2), None, np.random.default_rng(0))
    assert all((layer.statistics[name] == array).all() for name, array in before.items())


def test_noise_has_the_specified_distribution(rng):
    x = np.ones((200, 50, 4))
    noise = GaussianNoise(0.5).forward(x, None, rng)[0]
    assert noise.std() == pytest.approx(0.5, rel=0.02)
    assert noise.mean() == pytest.approx(1, abs=0.02)
    factor = GaussianDropout(0.2).forward(x, None, rng)[0]
    assert factor.std() == pytest.approx(0.5, rel=0.02)  # √(0.2 / 0.8)
    dropped = SpatialDropout1D(0.25).forward(x, None, rng)[0]
    assert (dropped == dropped[:, :1]).all()  # a feature at all steps, or at none
    assert set(np.unique(dropped)) == {0, 4 / 3}
    assert (dropped == 0).mean() == pytest.approx(0.25, abs=0.05)
