"""Law: the general layer preserves its dtype, raises no floating-point error, and accepts any masks."""

import numpy as np
import pytest
from case_loops import loop_over
from variant_problems import (
    ALL,
    DTYPES,
    GATES,
    NORMS,
    Problem,
    Random,
    arguments,
    arrays_of,
    assert_equal,
    assert_near,
    backward,
    by_name,
    forward,
    some,
)

from glasscell.core import variants
from glasscell.core.activations import activation
from glasscell.core.variants import CellConfig, DropoutMasks


def test_the_tape_is_independent_of_the_arguments(rng):
    p = some(rng)
    tape = forward(p)
    gradient = by_name(backward(p, tape))
    for array in arguments(p).values():
        array[:] = np.nan
    assert_equal(by_name(backward(p, tape)), gradient)


@loop_over("k", range(44))
def test_float32_is_preserved_and_close_to_float64(k, rng):
    """In all that the tape holds and all gradients: a sum with one float64 would show in the dtype."""
    draw = Random(rng, np.float32)
    smallest = (1, 1, 3, 1, 1 + 15 * (k // 4 % 2))
    p = draw.problem((ALL[k % 11], "Sigmoid", "Tanh"), smallest=smallest, layer_norm=NORMS[k % 4], **GATES[k // 4 % 4])
    print(p.variant, sorted(p.weights), p.noise, p.lengths)
    tape = forward(p)
    gradient = by_name(backward(p, tape))
    assert {array.dtype for array in (*arrays_of(tape).values(), *gradient.values())} == {np.dtype(np.float32)}

    def exact(value):
        if isinstance(value, dict):
            return {name: exact(of_name) for name, of_name in value.items()}
        return value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype == np.float32 else value

    exact_problem = Problem(p.variant, *map(exact, p[1:5]), DropoutMasks(*map(exact, p.noise)), *map(exact, p[6:]))
    exact_tape = forward(exact_problem)
    assert_near({"h": tape.h, "c": tape.c}, {"h": exact_tape.h, "c": exact_tape.c}, 5e-6)
    assert_near(gradient, by_name(backward(exact_problem, exact_tape)), 5e-5, floor=0.01)


@loop_over("dtype", DTYPES)
@loop_over("layer_norm", NORMS)
@loop_over("size", [1e-30, 1e4, 1e15])
def test_inputs_of_usual_size_raise_no_floating_point_error(size, layer_norm, dtype, rng):
    """Up to the root of the largest number, since a variance is a square."""
    p = some(rng, names=("Sigmoid", "Tanh", "HardSigmoid", "Softsign"), layer_norm=layer_norm, dtype=dtype)
    p.x[:] *= dtype(size)
    with np.errstate(all="raise"):
        tape = forward(p)
        gradient = backward(p, tape)
    assert all(np.isfinite(array).all() for array in (tape.h, tape.c, *by_name(gradient).values()))


def test_gradients_after_the_end_reach_the_final_state(rng, slope):
    """There the state stays as it is: a gradient on it, or on the last of all, is one on the state at the end."""
    T, I, H, B = 5, 2, 3, 4
    variant, lengths = CellConfig(activation("Softplus"), layer_norm="haste"), np.array([3, 5, 0, 1])
    weights = {name: rng.normal(size=shape) for name, shape in variant.shapes(I, H, peepholes=True).items()}
    x, dh, dc = (rng.normal(size=(T, rows, B)) for rows in (I, H, H))
    h0, c0, dh_T, dc_T = rng.normal(size=(4, H, B))
    along_h, along_c = rng.normal(size=(2, H, B))

    def loss(s):
        tape = variants.forward(variant, weights, x, h0 + s * along_h, c0 + s * along_c, lengths=lengths)
        return (
            (dh * tape.h).sum()
            + (dc * tape.c).sum()
            + (dh_T * tape.h_with_initial[-1]).sum()
            + (dc_T * tape.c_with_initial[-1]).sum()
        )

    gradient = variants.backward(variants.forward(variant, weights, x, h0, c0, lengths=lengths), dh, dh_T, dc_T, dc)
    expected = (gradient.dh0 * along_h).sum() + (gradient.dc0 * along_c).sum()
    np.testing.assert_allclose(slope(loss), expected, rtol=1e-8)


@pytest.mark.parametrize("share", [0, 1, np.float64(0.3), np.float32(0.3), np.array(0.3)])
def test_masks_may_be_any_number_and_preserve_the_dtype(share, rng):
    weights = {"kernel": rng.normal(size=(12, 6)).astype(np.float32)}
    x = rng.normal(size=(4, 2, 2)).astype(np.float32)
    noise = variants.DropoutMasks(new_h=share, new_c=share)
    tape = variants.forward(CellConfig(), weights, x, masks=noise)
    gradient = variants.backward(tape, np.ones_like(tape.h), np.float64(1.0), np.ones((3, 2)))
    for array in (tape.h, tape.c, gradient.dx, gradient.dh0, gradient.dc0, gradient.dweights["kernel"]):
        assert array.dtype == np.float32


def test_masks_may_change_after_the_forward_pass(rng):
    weights, x = {"kernel": rng.normal(size=(12, 6))}, rng.normal(size=(4, 2, 2))
    mask = rng.integers(0, 2, (4, 3, 2)).astype(float)
    tape = variants.forward(CellConfig(), weights, x, masks=variants.DropoutMasks(new_h=mask))
    before = variants.backward(tape, np.ones_like(tape.h)).dx
    mask[:] = 7
    np.testing.assert_array_equal(variants.backward(tape, np.ones_like(tape.h)).dx, before)
