"""Φ and GELU have full relative accuracy, and activations match PyTorch's values and gradients."""

import math

import numpy as np
import pytest

from glasscell.core.activations import activation
from glasscell.core.normal import Workspace, gelu, normal_cdf, write_gelu


@pytest.mark.parametrize(("dtype", "low", "bound"), [(np.float64, -37.0, 2e-15), (np.float32, -13.0, 1e-9)])
def test_the_distribution_function_has_full_relative_accuracy(dtype, low, bound, rng):
    """Against the C library, whose argument -z / √2 is rounded: that error is multiplied by z² and corrected here."""
    z = np.concatenate([rng.normal(scale=2, size=6000), rng.uniform(low, 9, 4000), [0.0, -0.0, 1e-30]]).astype(dtype)
    x = -z.astype(np.float64) / math.sqrt(2)
    expected = np.array([math.erfc(value) / 2 for value in x])
    lost = (-z.astype(np.longdouble) / np.sqrt(np.longdouble(2)) - x).astype(np.float64)
    hazard = np.where(x > 0, 2 * x + 2, 2 * np.exp(-x * x))  # of erfc: -(its slope) / itself, at the most
    difference = np.abs(normal_cdf(z) / expected - 1)
    assert (difference <= bound + hazard * np.abs(lost)).all()


def test_the_limits_raise_no_error():
    largest = np.finfo(np.float64).max
    with np.errstate(all="raise", under="ignore"):
        np.testing.assert_array_equal(normal_cdf(np.array([-largest, -39.0, 9.0, largest])), [0, 0, 1, 1])
        np.testing.assert_array_equal(gelu(np.array([-largest, largest])), [0, largest])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_are_written_to_the_given_memory(dtype, rng):
    z = rng.normal(size=(3, 4)).astype(dtype)
    expected, work = gelu(z), Workspace.like(z)
    write_gelu(z, z, work)
    np.testing.assert_array_equal(z, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["Selu", "Silu", "Gelu", "GeluTanh"])
def test_values_and_gradients_match_pytorch(torch, name, dtype, rng):
    nn = torch.nn
    torch_module = {"Selu": nn.SELU(), "Silu": nn.SiLU(), "Gelu": nn.GELU(), "GeluTanh": nn.GELU(approximate="tanh")}[
        name
    ]
    z = np.concatenate([rng.normal(scale=3, size=1000), rng.uniform(-30, 30, 1000)]).astype(dtype)
    x = torch.tensor(z, requires_grad=True)
    expected = torch_module(x)
    expected.sum().backward()
    y = activation(name).function(z)
    bound = {np.float32: 3e-6, np.float64: 2e-14}[dtype] * (1 + np.abs(z))
    assert (np.abs(y - expected.detach().numpy()) <= bound).all()
    assert (np.abs(activation(name).derivative(z, y) - x.grad.numpy()) <= bound).all()


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 8193, 20_000])
def test_blocks_change_no_value(size, rng):
    z = rng.normal(size=(2, size)).astype(np.float32)
    y, strided = gelu(z), gelu(np.asfortranarray(z))
    assert y.shape == z.shape
    np.testing.assert_array_equal(strided, y)
    at = rng.integers(0, max(size, 1), min(size, 20))
    for k in at:
        np.testing.assert_array_equal(gelu(z[:, k]), y[:, k])
