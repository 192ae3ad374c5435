"""25 updates of each adaptive optimiser match PyTorch's, and an update does not modify the gradient."""

import numpy as np
import pytest

import glasscell as gc

CASES = {
    "AMSGrad": (gc.AMSGrad(0.01), "Adam", {"lr": 0.01, "amsgrad": True}),
    "AMSGrad, decay": (gc.AMSGrad(0.02, weight_decay=0.1), "Adam", {"lr": 0.02, "amsgrad": True, "weight_decay": 0.1}),
    "NAdam": (gc.NAdam(), "NAdam", {}),
    "NAdam, decay": (
        gc.NAdam(0.01, beta1=0.8, momentum_decay=0.02, weight_decay=0.1),
        "NAdam",
        {"lr": 0.01, "betas": (0.8, 0.999), "momentum_decay": 0.02, "weight_decay": 0.1},
    ),
    "Adagrad": (gc.Adagrad(), "Adagrad", {}),
    "Adagrad, decay": (
        gc.Adagrad(0.1, learning_rate_decay=0.05, initial_square=0.3, weight_decay=0.1),
        "Adagrad",
        {"lr": 0.1, "lr_decay": 0.05, "initial_accumulator_value": 0.3, "weight_decay": 0.1},
    ),
    "Adadelta": (gc.Adadelta(), "Adadelta", {}),
    "Adadelta, decay": (
        gc.Adadelta(0.5, decay=0.8, weight_decay=0.1),
        "Adadelta",
        {"lr": 0.5, "rho": 0.8, "weight_decay": 0.1},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_25_updates_match_pytorch(name, rng, torch):
    optimizer, torch_name, options = CASES[name]
    matrix, vector = rng.normal(size=(6, 6)), rng.normal(size=6)
    weights = torch.tensor(vector, requires_grad=True)
    torch_optimizer = getattr(torch.optim, torch_name)([weights], **options)
    start, state = vector.copy(), optimizer.init_state(vector)
    for update in range(25):
        scale = 10.0 if update == 7 else 1.0  # a peak, which AMSGrad remembers
        gradient = scale * np.tanh(matrix @ vector)
        before = gradient.copy()
        optimizer.update(vector, gradient, state)
        np.testing.assert_array_equal(gradient, before)
        weights.grad = scale * torch.tanh(torch.tensor(matrix) @ weights.detach())
        torch_optimizer.step()
        np.testing.assert_allclose(vector, weights.detach().numpy(), rtol=0, atol=1e-8)
    assert abs(vector - start).max() > 1e-3


@pytest.mark.parametrize("kind", [gc.AMSGrad, gc.NAdam, gc.Adagrad, gc.Adadelta])
def test_updates_preserve_float32_and_the_rate_applies_to_one_update(kind, rng):
    vector, gradient = rng.normal(size=(2, 5)).astype(np.float32)
    same, state = vector.copy(), kind().init_state(vector)
    kind().update(vector, gradient, state, learning_rate=0.0)
    np.testing.assert_array_equal(vector, same)
    kind().update(vector, gradient, state, learning_rate=0.1)
    assert vector.dtype == np.float32
    assert (vector != same).all()
    assert {array.dtype for name, array in state.items() if array.ndim} == {np.dtype(np.float32)}


@pytest.mark.parametrize("kind", [gc.AMSGrad, gc.NAdam, gc.Adagrad, gc.Adadelta])
def test_values_out_of_range_are_refused(kind):
    with pytest.raises(ValueError, match=f"{kind.__name__}: learning_rate must be in"):
        kind(learning_rate=-1.0)
    with pytest.raises(TypeError, match=f"{kind.__name__}: epsilon must be a number"):
        kind(epsilon="small")


@pytest.mark.parametrize("name", ["beta1", "beta2"])
@pytest.mark.parametrize("kind", [gc.AMSGrad, gc.NAdam])
def test_a_mean_that_never_forgets_is_refused(kind, name):
    for value in (1.0, 1.5):
        with pytest.raises(ValueError, match=rf"{kind.__name__}: {name} must be in .*{value}"):
            kind(**{name: value})
