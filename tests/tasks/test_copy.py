"""Law: what is shown can be read back exactly, and training never draws an integer that is held out."""

import math

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.tasks import Copy, decode, encode

WIDTHS = range(1, 65)
LAYOUTS = [("recall", 1), ("recall", 2), ("echo", 1), ("echo", 3)]


def random_integers(rng, width, size=100):
    """Both ends, and others evenly."""
    ends = [0, (1 << width) - 1]
    return ends + rng.integers(0, ends[1], size, np.uint64, endpoint=True).tolist()


def payloads(task, batch):
    """The bits of each sequence, read off what is shown without noise: where its silence or delimiter begins."""
    k = task.bits_per_step
    for inputs in batch.inputs:
        shown = inputs[(inputs[:, :k] != 0).all(axis=1), :k]
        assert set(np.unique(shown)) <= {-1, 1}
        yield (shown.ravel() > 0).astype(int)


# encode and decode


@loop_over("width", WIDTHS)
def test_decode_inverts_encode(width, rng):
    integers = random_integers(rng, width)
    bits = encode(integers, width)
    assert ["".join(map(str, row)) for row in bits] == [f"{n:0{width}b}" for n in integers]
    assert decode(bits).tolist() == integers
    for n in integers[:3]:
        assert encode(n, width).shape == (width,)
        assert decode(encode(n, width)) == n


def test_encode_of_the_documentation():
    assert encode(25, width=8).tolist() == [0, 0, 0, 1, 1, 0, 0, 1]
    assert encode([25, 7], width=8).tolist() == [[0, 0, 0, 1, 1, 0, 0, 1], [0, 0, 0, 0, 0, 1, 1, 1]]


def test_no_integers_are_no_bits():
    assert encode([], width=5).shape == (0, 5)
    assert decode(np.zeros((0, 5))).shape == (0,)


@loop_over(
    ("integers", "width", "error", "parts"),
    [
        (-1, 8, ValueError, ["-1", "negative", "2^8 - 1"]),
        (256, 8, ValueError, ["256", "8 bits", "255"]),
        ([3, 1 << 64], 64, ValueError, [str(1 << 64), "64 bits"]),
        (1.5, 8, TypeError, ["1.5", "integer"]),
        ([1, 2.0], 8, TypeError, ["2.0", "integer"]),
        ("25", 8, TypeError, ["'25'", "integer"]),
        (None, 8, TypeError, ["None", "integer"]),
        (1, 0, ValueError, ["width", "1 to 64", "0"]),
        (1, 65, ValueError, ["width", "1 to 64", "65"]),
        (1, True, TypeError, ["width", "True"]),
        (1, 8.0, TypeError, ["width", "8.0"]),
        (1, "8", TypeError, ["width", "'8'"]),
    ],
)
def test_encode_refuses(integers, width, error, parts):
    with pytest.raises(error) as caught:
        encode(integers, width)
    assert all(part in str(caught.value) for part in parts)


@loop_over(
    ("bits", "error", "parts"),
    [
        ([0, 2, 1], ValueError, ["0 and 1", "2", "(1,)"]),
        ([[0, 1], [-1, 1]], ValueError, ["0 and 1", "-1", "(1, 0)"]),
        ([0.5], ValueError, ["0 and 1", "0.5"]),
        ([float("nan")], ValueError, ["0 and 1", "nan"]),
        ("1101", TypeError, ["0 and 1", "'1101'"]),
        ([], ValueError, ["1 to 64", "0"]),
        ([0] * 65, ValueError, ["1 to 64", "65"]),
        (1, ValueError, ["(width,)", "got ()"]),
        ([[[0]]], ValueError, ["(n, width)", "got (1, 1, 1)"]),
    ],
)
def test_decode_refuses(bits, error, parts):
    with pytest.raises(error) as caught:
        decode(bits)
    assert all(part in str(caught.value) for part in parts)


@pytest.mark.parametrize("width", [np.int64(64), np.uint8(8), np.int8(7)])
def test_a_width_may_be_an_integer_of_numpys(width):
    most = (1 << int(width)) - 1
    assert decode(encode(most, width)) == most
    np.testing.assert_array_equal(Copy(width).held_out_integers(), Copy(int(width)).held_out_integers())


# The split


@loop_over("seed", range(3))
@loop_over("width", range(1, 11))
def test_the_shuffle_is_a_bijection(width, seed):
    task, every = Copy(width, seed=seed), np.arange(1 << width, dtype=np.uint64)
    ranks = task._permute(every, width)
    np.testing.assert_array_equal(np.sort(ranks), every)
    np.testing.assert_array_equal(task._unpermute(ranks, width), every)
    np.testing.assert_array_equal(task._permute(task._unpermute(every, width), width), every)


@pytest.mark.parametrize("width", [11, 33, 63, 64])
def test_the_shuffle_has_an_inverse_at_large_widths(width, rng):
    task, integers = Copy(width), np.array(random_integers(rng, width, 1000), np.uint64)
    ranks = task._permute(integers, width)
    assert ranks.max() < 1 << width
    np.testing.assert_array_equal(task._unpermute(ranks, width), integers)
    np.testing.assert_array_equal(task._permute(task._unpermute(integers, width), width), integers)


@loop_over("width", WIDTHS)
def test_training_draws_no_held_out_integer(width, rng):
    task = Copy(width, noise=0)
    for batch in (task.batch(300, rng), task.validation_batch()):
        drawn = decode(list(payloads(task, batch)))
        assert len(drawn) == len(batch.inputs)
        assert not task.is_held_out(drawn).any()
    held_out = task.held_out_integers(300)
    assert held_out.size
    assert task.is_held_out(held_out).all()


@loop_over("share", [0.01, 0.2, 0.5, 0.99])
@loop_over("width", [1, 2, 8, 11])
def test_held_out_integers_are_all_that_training_never_draws(width, share):
    task = Copy(width, held_out=share)
    every = np.arange(1 << width)
    held_out = every[task.is_held_out(every)]
    assert 0 < held_out.size < every.size
    assert abs(held_out.size - share * every.size) <= 1
    assert sorted(task.held_out_integers().tolist()) == held_out.tolist()
    assert [n for n in every.tolist() if task.is_held_out(n)] == held_out.tolist()


@pytest.mark.parametrize("share", [0.05, 0.2, 0.9])
@pytest.mark.parametrize("width", [16, 40, 64])
def test_the_share_that_is_held_out(width, share, rng):
    held_out = Copy(width, held_out=share).is_held_out(random_integers(rng, width, 20_000))
    assert held_out.mean() == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("width", [4, 12, 20, 25, 64])
def test_held_out_integers_are_the_same_each_time(width):
    task = Copy(width)
    integers = task.held_out_integers()
    assert integers.size == len(set(integers.tolist())) == min(4096, round(0.2 * 2**width))
    np.testing.assert_array_equal(integers, Copy(width).held_out_integers())
    assert set(integers.tolist()) != set(Copy(width, seed=1).held_out_integers().tolist())
    assert task.held_out_integers(3).size == 3
    np.testing.assert_array_equal(task.held_out_batch().inputs, task.make_batch([encode(integers, width)]).inputs)
    assert task.held_out_batch(2).inputs.shape[0] == 2


def test_the_split_is_made_at_each_width():
    task = Copy(6, min_width=3)
    every = np.arange(8)
    np.testing.assert_array_equal(task.is_held_out(every, 3), Copy(3).is_held_out(every))
    assert task.is_held_out(every, 3).sum() == 2


# The layout


def test_recall_by_hand():
    inputs, targets, weights = Copy(4).make_batch([[[1, 0, 1, 1]]])[:3]
    assert inputs[0].T.tolist() == [[1, -1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0, 0]]
    assert targets[0].T.tolist() == [[0, 0, 0, 0, 0, 1, 0, 1, 1]]
    assert weights[0].T.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1, 1]]


def test_echo_by_hand():
    inputs, targets, weights = Copy(4, "echo").make_batch([[[1, 0, 1, 1]]])[:3]
    assert inputs[0].T.tolist() == [[1, -1, 1, 1], [0, 0, 0, 0]]
    assert targets[0].T.tolist() == [[1, 0, 1, 1]]
    assert weights[0].T.tolist() == [[1, 1, 1, 1]]


def test_two_bits_a_step_by_hand():
    inputs, targets, weights = Copy(4, bits_per_step=2).make_batch([[[1, 0, 1, 1]]])[:3]
    assert inputs[0].tolist() == [[1, -1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert targets[0].tolist() == [[0, 0], [0, 0], [0, 0], [1, 0], [1, 1]]
    assert weights[0].T.tolist() == [[0, 0, 0, 1, 1]]


def test_a_shorter_sequence_by_hand():
    inputs, targets, weights = Copy(2).make_batch([[[1]], [[0, 1]]])[:3]
    assert inputs[0].T.tolist() == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0]]
    assert targets[0].T.tolist() == [[0, 0, 1, 0, 0]]
    assert weights[0].T.tolist() == [[0, 0, 1, 0, 0]]
    assert inputs[1].T.tolist() == [[-1, 1, 0, 0, 0], [0, 0, 1, 0, 0]]
    assert targets[1].T.tolist() == [[0, 0, 0, 0, 1]]
    assert weights[1].T.tolist() == [[0, 0, 0, 1, 1]]


@pytest.mark.parametrize(("mode", "k"), LAYOUTS)
def test_answers_inverts_present(mode, k, rng):
    task = Copy(12, mode, k)
    for n in (k, 2 * k, 5 * k):  # also lengths that training does not have
        bits = rng.integers(2, size=(7, n))
        batch = task.make_batch([bits])
        logits = np.where(batch.weights > 0, 2 * batch.targets - 1, rng.normal(size=batch.targets.shape))
        np.testing.assert_array_equal(task.decode_outputs(logits, n), bits)


@pytest.mark.parametrize(("mode", "k"), LAYOUTS)
def test_lengths_are_mixed(mode, k, rng):
    task = Copy(3 * k, mode, k, min_width=k, noise=0)
    batch = task.batch(200, rng)
    lengths = set()
    for bits, inputs, targets, weights in zip(payloads(task, batch), *batch[:3], strict=True):
        n = len(bits)
        lengths.add(n)
        assert not task.is_held_out(decode(bits), n)
        alone = task.make_batch([bits[None]])
        T = alone.inputs.shape[1]
        for part, of_alone in zip((inputs, targets, weights), alone[:3], strict=True):
            np.testing.assert_array_equal(part[:T], of_alone[0])
            assert not part[T:].any()
    assert lengths == {k, 2 * k, 3 * k}


@pytest.mark.parametrize("min_width", [None, 3])
@pytest.mark.parametrize("mode", ["recall", "echo"])
def test_noise_is_on_the_bits_of_training_alone(mode, min_width):
    quiet, noisy = (Copy(9, mode, 3, min_width, noise) for noise in (0, 0.3))
    without, batch = (task.batch(500, np.random.default_rng(5)) for task in (quiet, noisy))
    noise = batch.inputs - without.inputs
    is_bit = (without.inputs != 0) & (np.arange(4) < 3)
    assert (noise[is_bit] != 0).mean() > 0.99
    assert not noise[~is_bit].any()
    assert noise[is_bit].std() == pytest.approx(0.3, rel=0.05)
    assert noise[is_bit].mean() == pytest.approx(0, abs=0.02)
    np.testing.assert_array_equal(batch.targets, without.targets)
    np.testing.assert_array_equal(batch.weights, without.weights)
    for of_evaluation in (noisy.validation_batch(), noisy.held_out_batch()):
        assert set(np.unique(of_evaluation.inputs)) <= {-1, 0, 1}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batches_have_the_dtype_asked_for(dtype, rng):
    task = Copy(5, min_width=2, noise=0.1)
    for batch in (task.batch(4, rng, dtype), task.validation_batch(dtype), task.held_out_batch(dtype=dtype)):
        assert {part.dtype for part in batch[:3]} == {np.dtype(dtype)}


def test_a_seed_decides_the_batch():
    task = Copy(16, noise=0.1)
    first, again, other = (task.batch(9, np.random.default_rng(seed)) for seed in (1, 1, 2))
    for a, b in zip(first[:3], again[:3], strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first.targets != other.targets).any()


def test_the_validation_batch_is_always_the_same():
    task = Copy(16, min_width=2, noise=0.1)
    first, again, other = task.validation_batch(), task.validation_batch(), Copy(16, min_width=2, seed=1)
    np.testing.assert_array_equal(first.inputs, again.inputs)
    assert len(first.inputs) == 64
    assert (first.inputs != other.validation_batch().inputs).any()


def test_a_batch_of_no_sequences(rng):
    for part, features in zip(Copy(4).batch(0, rng)[:3], (2, 1, 1), strict=True):
        assert part.shape == (0, 9, features)


# The guesser without memory


@pytest.mark.parametrize(("width", "k", "min_width"), [(3, 1, None), (8, 1, None), (6, 2, None), (6, 2, 2), (5, 1, 1)])
def test_the_memoryless_predictor_of_recall_knows_the_frequency_of_ones(width, k, min_width):
    task = Copy(width, "recall", k, min_width, held_out=0.4)
    ones, steps = np.zeros(k), 0.0
    for length in range(min_width or width, width + 1, k):  # training draws every length equally often
        training = [
            [int(bit) for bit in f"{n:0{length}b}"] for n in range(1 << length) if not task.is_held_out(n, length)
        ]
        ones += np.reshape(training, (len(training), -1, k)).sum(axis=(0, 1)) / len(training)
        steps += length / k
    p = ones / steps
    bits = encode(task.held_out_integers(), width).reshape(-1, k)
    expected = -np.where(bits, np.log(p), np.log(1 - p)).mean()
    assert task.memoryless_baseline_loss(task.held_out_batch()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("width", [16, 64])
def test_the_memoryless_predictor_of_recall_has_the_loss_of_a_coin(width):
    task = Copy(width)
    assert task.memoryless_baseline_loss(task.held_out_batch()) == pytest.approx(math.log(2), abs=0.01)


@pytest.mark.parametrize(("width", "k", "min_width"), [(4, 1, None), (8, 4, None), (6, 2, 2), (64, 1, None)])
def test_echo_needs_no_memory(width, k, min_width):
    task = Copy(width, "echo", k, min_width)
    assert task.memoryless_baseline_loss(task.held_out_batch()) == 0
    assert task.memoryless_baseline_loss(task.validation_batch()) == 0


# Options


@loop_over(
    ("options", "error", "parts"),
    [
        ({"width": 0}, ValueError, ["width", "1 to 64", "0"]),
        ({"width": 65}, ValueError, ["width", "1 to 64", "65"]),
        ({"width": 8.0}, TypeError, ["width", "8.0"]),
        ({"width": True}, TypeError, ["width", "True"]),
        ({"mode": "foo"}, ValueError, ["mode", "'foo'", "'recall'", "'echo'"]),
        ({"bits_per_step": 3}, ValueError, ["multiple", "3", "8"]),
        ({"bits_per_step": 0}, ValueError, ["bits_per_step", "0"]),
        ({"bits_per_step": 2, "min_width": 3}, ValueError, ["min_width", "multiple", "2", "3"]),
        ({"min_width": 9}, ValueError, ["min_width", "at most", "8", "9"]),
        ({"min_width": 0}, ValueError, ["min_width", "0"]),
        ({"noise": -0.1}, ValueError, ["noise", "-0.1"]),
        ({"noise": math.nan}, ValueError, ["noise", "nan"]),
        ({"noise": math.inf}, ValueError, ["noise", "inf"]),
        ({"held_out": 0}, ValueError, ["held_out", "0"]),
        ({"held_out": 1}, ValueError, ["held_out", "1"]),
        ({"held_out": math.nan}, ValueError, ["held_out", "nan"]),
    ],
)
def test_copy_refuses(options, error, parts):
    with pytest.raises(error) as caught:
        Copy(**({"width": 8} | options))
    assert all(part in str(caught.value) for part in parts)
