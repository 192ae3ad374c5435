"""Every activation of the ONNX operator matches its formula and derivative, and no finite argument raises an error."""

import math
import pickle
from copy import deepcopy

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.core.activations import ACTIVATIONS, EXTRA_ACTIVATIONS, activation

DTYPES = [np.float32, np.float64]
FORMULAS = {  # of one number and the two parameters
    "Sigmoid": lambda z, *_: 1 / (1 + math.exp(-z)),
    "Tanh": lambda z, *_: (math.exp(z) - math.exp(-z)) / (math.exp(z) + math.exp(-z)),
    "Relu": lambda z, *_: max(0.0, z),
    "Affine": lambda z, a, b: a * z + b,
    "LeakyRelu": lambda z, a, _: z if z >= 0 else a * z,
    "ThresholdedRelu": lambda z, a, _: z if z > a else 0.0,
    "ScaledTanh": lambda z, a, b: a * math.tanh(b * z),
    "HardSigmoid": lambda z, a, b: max(0.0, min(1.0, a * z + b)),
    "Elu": lambda z, a, _: z if z >= 0 else a * (math.exp(z) - 1),
    "Softsign": lambda z, *_: z / (1 + abs(z)),
    "Softplus": lambda z, *_: math.log(1 + math.exp(z)),
    "Selu": lambda z, *_: 1.0507009873554805 * (z if z > 0 else 1.6732632423543772 * (math.exp(z) - 1)),
    "Silu": lambda z, *_: z / (1 + math.exp(-z)),
    "Gelu": lambda z, *_: z * math.erfc(-z / math.sqrt(2)) / 2,
    "GeluTanh": lambda z, *_: z * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))) / 2,
}
DEFAULTS = {  # as the ONNX operators of these names have them
    "Affine": (1.0, 0.0),
    "LeakyRelu": (0.01, None),
    "ThresholdedRelu": (1.0, None),
    "ScaledTanh": (1.0, 1.0),
    "HardSigmoid": (0.2, 0.5),
    "Elu": (1.0, None),
}
CASES = [(name, *DEFAULTS.get(name, (None, None))) for name in FORMULAS] + [
    ("Affine", -0.7, 0.3),
    ("LeakyRelu", 0.0, None),
    ("LeakyRelu", 1.7, None),
    ("ThresholdedRelu", -0.4, None),
    ("ThresholdedRelu", 0.0, None),
    ("ScaledTanh", 1.7159, 2 / 3),
    ("ScaledTanh", -0.8, -1.6),
    ("HardSigmoid", 0.3, 0.1),
    ("HardSigmoid", -0.6, 0.4),
    ("HardSigmoid", 0.25, 0.0),
    ("Elu", 2.5, None),
]
every_case = loop_over(("name", "alpha", "beta"), CASES)


def kinks(name, alpha, beta):
    """Where a function has a corner or a jump, or where its second derivative has one."""
    return {
        "Relu": [0.0],
        "LeakyRelu": [0.0],
        "ThresholdedRelu": [alpha],
        "HardSigmoid": [-(beta or 0) / (alpha or 1), (1 - (beta or 0)) / (alpha or 1)],
        "Elu": [0.0],
        "Softsign": [0.0],
        "Selu": [0.0],
    }.get(name, [])


def numbers(rng, name, alpha, beta, margin=1e-2):
    """Numbers of the usual sizes, on all sides of the kinks, but not near them."""
    z = np.concatenate([rng.normal(size=500), rng.uniform(-12, 12, size=500)])
    for kink in kinks(name, alpha, beta):
        z = z[np.abs(z - kink) > margin]
        assert (z > kink).any()
        assert (z < kink).any()
    return z


def test_every_activation_is_tested():
    assert set(FORMULAS) == {*ACTIVATIONS, *EXTRA_ACTIVATIONS}


@every_case
@loop_over("dtype", DTYPES)
def test_the_values_are_the_formulas(dtype, name, alpha, beta, rng):
    z = numbers(rng, name, alpha, beta).astype(dtype)
    expected = np.array([FORMULAS[name](float(v), alpha, beta) for v in z])
    bound = 4 * np.finfo(dtype).eps * (1 + np.abs(expected) + np.abs(z))
    assert (np.abs(activation(name, alpha, beta).function(z) - expected) <= bound).all()


@every_case
def test_the_derivative_is_the_slope(name, alpha, beta, slope, rng):
    activated, z = activation(name, alpha, beta), numbers(rng, name, alpha, beta)
    numeric = slope(lambda s: activated.function(z + s))
    np.testing.assert_allclose(activated.derivative(z, activated.function(z)), numeric, rtol=0, atol=1e-10)


@loop_over(
    ("name", "alpha", "beta", "at", "flat"),
    [
        ("Relu", None, None, 0, 0),
        ("LeakyRelu", 0.2, None, 0, 0.2),
        ("ThresholdedRelu", 1.5, None, 1.5, 0),
        ("HardSigmoid", 0.25, 0.5, -2, 0),
        ("HardSigmoid", 0.25, 0.5, 2, 0),
        ("Elu", 0.5, None, 0, 0.5),
        ("Selu", None, None, 0, 1.0507009873554805 * 1.6732632423543772),
    ],
)
@loop_over("dtype", DTYPES)
def test_at_a_kink_the_derivative_is_that_of_the_flat_side(dtype, name, alpha, beta, at, flat):
    activated, z = activation(name, alpha, beta), np.array([at], dtype)
    assert activated.derivative(z, activated.function(z)) == dtype(flat)


def test_a_value_equal_to_the_threshold_is_not_above_it():
    activated, z = activation("ThresholdedRelu", 1.5), np.array([1.5, np.nextafter(1.5, 2)])
    np.testing.assert_array_equal(activated.function(z), [0, z[1]])


@every_case
def test_float32_is_close_to_float64(name, alpha, beta, rng):
    """In values and derivatives; at the same numbers, so that only the arithmetic is another."""
    activated, z = activation(name, alpha, beta), numbers(rng, name, alpha, beta).astype(np.float32)
    exact = z.astype(np.float64)
    for result, expected in [
        (activated.function(z), activated.function(exact)),
        (activated.derivative(z, activated.function(z)), activated.derivative(exact, activated.function(exact))),
    ]:
        assert np.abs(result - expected).max() <= 1e-6 * np.abs(expected).max()


@every_case
@loop_over("dtype", DTYPES)
def test_shape_and_dtype_are_preserved_and_inputs_unchanged(dtype, name, alpha, beta, rng):
    activated = activation(name, alpha, beta)
    for shape in [(), (0,), (3,), (2, 0, 4), (2, 3, 4)]:
        z = rng.normal(size=shape).astype(dtype)
        before = z.copy()
        a = activated.function(z)
        kept = np.array(a)
        d = activated.derivative(z, a)
        assert (a.shape, a.dtype) == (d.shape, d.dtype) == (shape, np.dtype(dtype))
        np.testing.assert_array_equal(z, before)
        np.testing.assert_array_equal(a, kept)


@every_case
@loop_over("dtype", DTYPES)
def test_finite_arguments_raise_no_floating_point_error(dtype, name, alpha, beta):
    """But for the underflow, which is let through where these are called."""
    info, activated = np.finfo(dtype), activation(name, alpha, beta)
    sizes = [0, info.smallest_subnormal, info.tiny, info.eps, 1, 20, 100, 1e3, 1e4, 1e30, info.max / dtype(8)]
    z = np.array([sign * dtype(size) for size in sizes for sign in (1, -1)])
    with np.errstate(all="raise", under="ignore"):
        a = activated.function(z)
        d = activated.derivative(z, a)
    assert np.isfinite(a).all()
    assert np.isfinite(d).all()


@loop_over(
    ("name", "low", "high"),
    [
        ("Sigmoid", 0, 1),
        ("Tanh", -1, 1),
        ("Relu", 0, np.inf),
        ("LeakyRelu", -np.inf, np.inf),
        ("ThresholdedRelu", 0, np.inf),
        ("ScaledTanh", -1, 1),
        ("HardSigmoid", 0, 1),
        ("Elu", -1, np.inf),
        ("Softsign", -1, 1),
        ("Softplus", 0, np.inf),
        ("Silu", 0, np.inf),
        ("Gelu", 0, np.inf),
        ("GeluTanh", 0, np.inf),
    ],
)
@loop_over("dtype", DTYPES)
def test_limits(dtype, name, low, high):
    far = np.finfo(dtype).max / dtype(8)
    below, above = activation(name).function(np.array([-far, far]))
    assert below == pytest.approx(low, rel=1e-6) if np.isfinite(low) else below < -far / 1000
    assert above == pytest.approx(high, rel=1e-6) if np.isfinite(high) else above == far


# By other people


@pytest.mark.parametrize("name", sorted({*ACTIVATIONS, "Selu"} - {"Affine", "ScaledTanh"}))
@pytest.mark.parametrize("with_defaults", [True, False])
def test_values_match_the_onnx_operator(with_defaults, name, rng):
    """Affine and ScaledTanh are no operators of their own any more."""
    helper = pytest.importorskip("onnx.helper", reason="onnx is not installed")
    reference = pytest.importorskip("onnx.reference", reason="onnx is not installed")
    arguments = [(key, value) for key, value in zip(("alpha", "beta"), DEFAULTS.get(name, ()), strict=False) if value]
    parameters = {} if with_defaults else {key: value * 1.25 for key, value in arguments}
    z = (3 * rng.normal(size=200)).astype(np.float32)
    expected = reference.ReferenceEvaluator(helper.make_node(name, ["z"], ["a"], **parameters)).run(None, {"z": z})[0]
    np.testing.assert_allclose(activation(name, **parameters).function(z), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "alpha", "beta"), [case for case in CASES if case[0] in ACTIVATIONS])
def test_values_and_derivatives_match_pytorch(name, alpha, beta, torch, rng):
    """Of the others PyTorch has fewer digits: test_normal.py has its values with bounds of their own."""
    F = torch.nn.functional
    expected = {
        "Sigmoid": torch.sigmoid,
        "Tanh": torch.tanh,
        "Relu": F.relu,
        "Affine": lambda z: alpha * z + beta,
        "LeakyRelu": lambda z: F.leaky_relu(z, alpha),
        "ThresholdedRelu": lambda z: F.threshold(z, alpha, 0),
        "ScaledTanh": lambda z: alpha * torch.tanh(beta * z),
        "HardSigmoid": lambda z: torch.clamp(alpha * z + beta, 0, 1),
        "Elu": lambda z: F.elu(z, alpha),
        "Softsign": F.softsign,
        "Softplus": F.softplus,
    }[name]
    result = activation(name, alpha, beta)
    z = numbers(rng, name, alpha, beta)
    z_torch = torch.tensor(z, requires_grad=True)
    a_torch = expected(z_torch)
    a_torch.sum().backward()
    np.testing.assert_allclose(result.function(z), a_torch.detach().numpy(), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(result.derivative(z, result.function(z)), z_torch.grad.numpy(), rtol=1e-12, atol=1e-15)


# By name


@loop_over("name", FORMULAS)
def test_names_are_case_insensitive_and_specs_are_canonical(name):
    for spelling in (name, name.lower(), name.upper()):
        assert activation(spelling).spec == (name, *DEFAULTS.get(name, (None, None)))


@every_case
def test_an_activation_can_be_rebuilt_from_its_spec(name, alpha, beta, rng):
    activated = activation(name, alpha, beta)
    again, z = activation(*activated.spec), rng.normal(size=20)
    assert activated.spec == again.spec == (name, alpha, beta)
    np.testing.assert_array_equal(again.function(z), activated.function(z))


@loop_over("name", DEFAULTS)
def test_a_numpy_parameter_does_not_determine_the_dtype(name, rng):
    activated = activation(name, *(None if value is None else np.float64(0.5) for value in DEFAULTS[name]))
    z = rng.normal(size=20).astype(np.float32)
    assert activated.function(z).dtype == activated.derivative(z, activated.function(z)).dtype == np.float32


def test_one_parameter_may_be_set_alone():
    assert activation("HardSigmoid", beta=0.1).spec == ("HardSigmoid", 0.2, 0.1)
    assert activation("Affine", 3).spec == ("Affine", 3.0, 0.0)


@pytest.mark.parametrize("name", ["Swish", "", None, 3, "Relu6"])
def test_an_unknown_name_is_refused_with_a_list_of_names(name):
    with pytest.raises(ValueError, match=f"no activation {name!r}; known are Sigmoid, Tanh, .*Softplus"):
        activation(name)


@loop_over(
    ("name", "parameter"),
    [(name, "alpha") for name in FORMULAS if name not in DEFAULTS]
    + [(name, "beta") for name in FORMULAS if DEFAULTS.get(name, (None, None))[1] is None],
)
@loop_over("value", [0.0, 0.5])
def test_an_unexpected_parameter_is_refused(value, name, parameter):
    with pytest.raises(ValueError, match=f"{name} has no {parameter}, and {value} was given"):
        activation(name.lower(), **{parameter: value})


@loop_over("value", [np.nan, np.inf, -np.inf])
@loop_over("parameter", ["alpha", "beta"])
def test_a_parameter_must_be_finite(parameter, value):
    with pytest.raises(ValueError, match=f"{parameter} of the activation Affine must be finite"):
        activation("Affine", **{parameter: value})


@pytest.mark.parametrize("value", ["1", True, [1.0], 1j])
def test_a_parameter_must_be_a_number(value):
    with pytest.raises(TypeError, match="alpha of the activation Elu must be a number, got "):
        activation("Elu", value)


@loop_over("name", [*ACTIVATIONS, *EXTRA_ACTIVATIONS])
def test_copies_compute_the_same(name, rng):
    original, z = activation(name), rng.normal(size=9)
    for copied in (pickle.loads(pickle.dumps(original)), deepcopy(original)):  # noqa: S301 - written in this line
        assert copied.spec == original.spec
        a = copied.function(z)
        np.testing.assert_array_equal(a, original.function(z))
        np.testing.assert_array_equal(copied.derivative(z, a), original.derivative(z, a))
