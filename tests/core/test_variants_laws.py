"""Law: results of the general layer depend on their own sequence and steps only, and share no memory."""

import numpy as np
import pytest
from case_loops import loop_over
from variant_problems import (
    DTYPES,
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
    own_steps,
    some,
)

from glasscell.core import variants
from glasscell.core.activations import activation
from glasscell.core.buffers import BufferPool
from glasscell.core.variants import CellConfig, DropoutMasks


@pytest.mark.parametrize("layer_norm", NORMS)
def test_results_permute_with_the_batch(layer_norm, rng):
    p = some(rng, layer_norm=layer_norm, ragged=True)
    new = rng.permutation(p.x.shape[-1])

    def permuted(value):
        return value[..., new] if isinstance(value, np.ndarray) else value

    other = Problem(
        p.variant, p.weights, *map(permuted, p[2:5]), DropoutMasks(*map(permuted, p.noise)), *map(permuted, p[6:])
    )
    tape, other_tape = forward(p), forward(other)
    assert_near(
        {"h": other_tape.h, "c_with_initial": other_tape.c_with_initial},
        {"h": permuted(tape.h), "c_with_initial": permuted(tape.c_with_initial)},
        1e-12,
    )
    expected = by_name(backward(p, tape))
    expected |= {name: permuted(expected[name]) for name in ("x", "h0", "c0")}
    assert_near(by_name(backward(other, other_tape)), expected, 1e-11)


@loop_over("layer_norm", NORMS)
@loop_over("at", [0, 1, 3])
def test_two_halves_with_carried_state_equal_the_whole(at, layer_norm, rng):
    p = some(rng, layer_norm=layer_norm, ragged=False)

    def half(part):
        noise = [share[part] if isinstance(share, np.ndarray) else share for share in p.noise[1:]]
        return p._replace(x=p.x[part], dh=p.dh[part], dc=p.dc[part], noise=DropoutMasks(p.noise.recurrent, *noise))

    one, two = half(slice(at)), half(slice(at, None))
    first_tape = forward(one)
    two = two._replace(h0=first_tape.h_with_initial[-1], c0=first_tape.c_with_initial[-1])
    second_tape, whole = forward(two), forward(p)
    assert_near(
        {name: np.concatenate([getattr(first_tape, name), getattr(second_tape, name)]) for name in ("z", "h", "c")},
        {name: getattr(whole, name) for name in ("z", "h", "c")},
        1e-12,
    )
    late = backward(two, second_tape)
    early = backward(one._replace(dh_end=late.dh0, dc_end=late.dc0), first_tape)
    together = {name: early.dweights[name] + late.dweights[name] for name in p.weights}
    together |= {"x": np.concatenate([early.dx, late.dx]), "h0": early.dh0, "c0": early.dc0}
    assert_near(together, by_name(backward(p, whole)), 1e-11)


@pytest.mark.parametrize("layer_norm", NORMS)
def test_later_steps_have_no_influence(layer_norm, rng):
    p = some(rng, smallest=(6, 2, 3, 2, 3), layer_norm=layer_norm, ragged=False)
    tape = forward(p)
    other = p.x.copy()
    other[3:] = rng.normal(size=other[3:].shape)
    other_tape = forward(p._replace(x=other))
    assert_equal({"h": tape.h[:3], "c": tape.c[:3]}, {"h": other_tape.h[:3], "c": other_tape.c[:3]})
    dh, dc = p.dh.copy(), p.dc.copy()
    dh[3:] = dc[3:] = 0
    gradient = variants.backward(tape, dh, dc=dc)
    assert not gradient.dx[3:].any()


@loop_over("layer_norm", NORMS)
@loop_over("names", [("Sigmoid", "Tanh"), ("Relu", "Affine"), ("Softplus",)])
def test_steps_after_the_end_have_no_effect(names, layer_norm, rng):
    """A sequence that ends early is one without the steps behind: outputs, states, and all gradients."""
    p = some(rng, names=names, smallest=(5, 2, 3, 2, 4), layer_norm=layer_norm, ragged=True)
    p.lengths[:2] = 0, 3
    tape = forward(p)
    whole = by_name(backward(p, tape))
    assert not whole["x"][~np.repeat(own_steps(p), p.x.shape[1], axis=1)].any()
    alone = {name: np.zeros_like(array) for name, array in whole.items()}
    for b, length in enumerate(p.lengths):

        def cut(value, b=b, length=length):
            """Sequence b alone, as long as it is."""
            if not isinstance(value, np.ndarray):
                return value
            return value[..., b : b + 1] if value.ndim < 3 else value[:length, :, b : b + 1]

        sequence_problem = Problem(
            p.variant, p.weights, *map(cut, p[2:5]), DropoutMasks(*map(cut, p.noise)), None, *map(cut, p[7:])
        )
        tape_b = forward(sequence_problem)
        states = {"h": tape.h_with_initial[: length + 1, :, b], "c": tape.c_with_initial[: length + 1, :, b]}
        assert_near(states, {"h": tape_b.h_with_initial[..., 0], "c": tape_b.c_with_initial[..., 0]}, 1e-11)
        for states_after_end in (tape.h_with_initial[length:, :, b], tape.c_with_initial[length:, :, b]):
            np.testing.assert_array_equal(
                states_after_end, np.broadcast_to(states_after_end[0], states_after_end.shape)
            )
        for name, array in by_name(backward(sequence_problem, tape_b)).items():
            if name == "x":
                alone[name][:length, :, b] = array[..., 0]
            elif name in ("h0", "c0"):
                alone[name][:, b] = array[:, 0]
            else:
                alone[name] += array
    assert_near(whole, alone, 1e-10)


@pytest.mark.parametrize("layer_norm", NORMS)
def test_values_in_the_padding_have_no_effect(layer_norm, rng):
    p = some(rng, smallest=(6, 2, 3, 2, 4), layer_norm=layer_norm, ragged=True)
    p.lengths[:2] = 0, 3
    other = p._replace(x=np.where(own_steps(p), p.x, 100 * rng.normal(size=p.x.shape)))
    tape, other_tape = forward(p), forward(other)
    assert_near({"h": other_tape.h, "c": other_tape.c}, {"h": tape.h, "c": tape.c}, 1e-13)
    assert_near(by_name(backward(other, other_tape)), by_name(backward(p, tape)), 1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_unbounded_activations_do_not_overflow_after_the_end(dtype, rng):
    """Without the ends the same weights take the states beyond all numbers."""
    draw = Random(rng, dtype)
    variant = CellConfig(*map(activation, ("Relu", "Affine", "Affine")))
    weights = {"kernel": draw.uniform(0.3, 0.8, 12, 6)}
    x, lengths = draw.uniform(0, 1, 30, 2, 4), np.array([0, 1, 2, 3])
    with pytest.warns(RuntimeWarning):
        variants.forward(variant, weights, x)
    valid = np.arange(30)[:, None, None] < lengths
    assert_nothing_is_out_of_bounds(variant, weights, np.where(valid, x, dtype(0)), lengths)


@pytest.mark.parametrize("peepholes", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_large_state_does_not_overflow_after_the_end(dtype, peepholes):
    """It is a number, and its square, which another step would need, is none."""
    variant = CellConfig(activation("Relu"))
    weights = {name: np.ones(shape, dtype) for name, shape in variant.shapes(1, 1, peepholes=peepholes).items()}
    large = np.full((1, 2), np.sqrt(np.finfo(dtype).max) * dtype(10))
    x, lengths = np.zeros((3, 1, 2), dtype), np.array([0, 0])
    assert_nothing_is_out_of_bounds(variant, weights, x, lengths, large)


def assert_nothing_is_out_of_bounds(variant, weights, x, lengths, state=0.0):
    with np.errstate(all="raise"):
        tape = variants.forward(variant, weights, x, state, state, lengths=lengths)
        dh = np.where(np.arange(len(x))[:, None, None] < lengths, np.ones_like(tape.h), tape.dtype.type(0))
        gradient = variants.backward(tape, dh, dc=dh)
    assert np.isfinite(tape.h_with_initial).all()
    assert np.isfinite(tape.c_with_initial).all()
    assert all(np.isfinite(array).all() for array in by_name(gradient).values())


def test_backward_is_linear_in_the_gradients_on_the_outputs(rng):
    p = some(rng)
    tape, names = forward(p), ("dh", "dc", "dh_end", "dc_end")
    other = p._replace(**{name: rng.normal(size=getattr(p, name).shape) for name in names})
    both = p._replace(**{name: 2 * getattr(p, name) - getattr(other, name) for name in names})
    one, two = by_name(backward(p, tape)), by_name(backward(other, tape))
    assert_near(by_name(backward(both, tape)), {name: 2 * one[name] - two[name] for name in one}, 1e-11)


def test_gradients_on_outputs_and_states_are_optional(rng):
    p = some(rng, ragged=False)
    tape = forward(p)
    zeros = p._replace(dc=np.zeros_like(p.dc), dh_end=np.zeros_like(p.dh_end), dc_end=np.zeros_like(p.dc_end))
    assert_equal(by_name(variants.backward(tape, p.dh)), by_name(backward(zeros, tape)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layer_norm", NORMS)
def test_zero_steps_return_the_state_and_its_gradient(layer_norm, dtype, rng):
    p = some(rng, layer_norm=layer_norm, ragged=False, noise=False, dtype=dtype)
    p = p._replace(x=p.x[:0], dh=p.dh[:0], dc=p.dc[:0])
    tape = forward(p)
    assert_equal({"h": tape.h_with_initial, "c": tape.c_with_initial}, {"h": p.h0[None], "c": p.c0[None]})
    zeros = {name: np.zeros_like(weight) for name, weight in p.weights.items()}
    assert_equal(by_name(backward(p, tape)), {**zeros, "x": p.x, "h0": p.dh_end, "c0": p.dc_end})


@pytest.mark.parametrize("layer_norm", NORMS)
def test_an_empty_batch_has_zero_gradients(layer_norm, rng):
    p = some(rng, layer_norm=layer_norm, noise=False)
    none = [value[..., :0] if isinstance(value, np.ndarray) else value for value in p[2:]]
    p = Problem(p.variant, p.weights, *none)
    gradient = backward(p, forward(p))
    zeros = {name: np.zeros_like(weight) for name, weight in p.weights.items()}
    assert_equal(by_name(gradient), {**zeros, "x": p.x, "h0": p.h0, "c0": p.c0})


def test_a_pass_reads_nothing_of_an_earlier_pass_in_the_same_buffers(poison, rng):
    """All memory is NaN before every pass."""
    buffers, draw = BufferPool(), Random(rng)
    for _ in range(20):
        p = draw.problem(smallest=(0, 1, 2, 1, draw.one_of(0, 14)))
        tape = forward(p)
        poison(buffers)
        assert_equal(by_name(backward(p, tape, buffers)), by_name(backward(p, tape)))


@pytest.mark.parametrize("layer_norm", NORMS)
def test_arguments_and_the_tape_are_not_modified(layer_norm, rng):
    p = some(rng, layer_norm=layer_norm)
    noise = [share for share in p.noise if isinstance(share, np.ndarray)]
    given = [*arguments(p).values(), *noise, p.dh, p.dc, p.dh_end, p.dc_end]
    for array in given if p.lengths is None else [*given, p.lengths]:
        array.flags.writeable = False
    tape = forward(p)
    for array in arrays_of(tape).values():
        array.flags.writeable = False
    first = by_name(backward(p, tape))
    assert_equal(by_name(backward(p, tape)), first)


def test_earlier_results_never_change(rng):
    p, other = some(rng), some(rng)
    tape = forward(p)
    gradient = by_name(backward(p, tape))
    before = arrays_of(tape) | {f"d{name}": array for name, array in gradient.items()}
    kept = {name: array.copy() for name, array in before.items()}
    backward(other, forward(other))
    backward(p, tape)
    backward(p, forward(p))
    assert_equal(before, kept)


@pytest.mark.parametrize(("coupled", "source"), [("input", "i"), ("forget", "f")])
def test_a_coupled_gate_follows_a_gate_that_a_hook_changes(coupled, source, rng):
    class Hook:
        def apply(self, symbol, t, value, *_):
            if symbol == source:
                value[:] = 0.25 + 0.5 * t

    kernel, x = rng.normal(size=(12, 4 + 2 + 1)), rng.normal(size=(2, 2, 3))
    tape = variants.forward(CellConfig(coupled=coupled), {"kernel": kernel}, x, hook=Hook())
    gates = {"i": tape.i, "f": tape.f}
    for t, value in enumerate((0.25, 0.75)):
        for gate, expected in ((source, value), ("f" if source == "i" else "i", 1 - value)):
            np.testing.assert_array_equal(gates[gate][t], np.full((4, 3), expected))
