"""Law: Linear maps every step, and its gradients are the derivatives."""

import numpy as np
import pytest
from comparison import assert_equal, assert_near
from layer_cases import B, H, I, T, numerical_gradient

from glasscell.layers import Linear


@pytest.mark.parametrize("shape", [(B, T), (1, 1), (T,), (0, T), (B, 0), (0,)], ids=str)
def test_linear_maps_every_step_and_its_gradient_is_the_derivative(shape, rng):
    linear = Linear(I, H, dtype=np.float64)
    linear.parameters.vector[:] = rng.normal(size=linear.parameters.vector.size)
    x, dy = rng.normal(size=(*shape, I)), rng.normal(size=(*shape, H))
    y, tape = linear.forward(x)
    np.testing.assert_allclose(y, x @ linear.parameters["weight"].T + linear.parameters["bias"], rtol=0, atol=1e-13)
    dx, gradients = linear.backward(tape, dy)

    def loss():
        return np.vdot(dy, linear.forward(x)[0])

    for name, parameter in linear.parameters.items():
        assert_near(gradients[name], numerical_gradient(loss, parameter), 1e-8)
    assert_near(dx, numerical_gradient(loss, x), 1e-8)


def test_linear_keeps_its_own_copy(rng):
    linear = Linear(I, H, dtype=np.float64)
    x, dy = rng.normal(size=(B, T, I)), rng.normal(size=(B, T, H))
    y, tape = linear.forward(x)
    dx, gradients = linear.backward(tape, dy)
    kept = dx.copy(), gradients.vector.copy()
    x[:] = y[:] = np.nan
    again, gradients_again = linear.backward(tape, dy)
    assert_equal([dx, gradients.vector, again, gradients_again.vector], [*kept, *kept])


def test_linear_starts_from_glorot_and_no_bias():
    linear = Linear(30, 60, dtype=np.float64)
    assert linear.parameters["weight"].var() == pytest.approx(2 / 90, rel=0.1)
    assert not linear.parameters["bias"].any()
