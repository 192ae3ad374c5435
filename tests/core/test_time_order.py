"""Valid steps are processed in their order and restored to their positions; the two mappings are adjoint."""

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.core.time_order import gather_final, mask_from_lengths, scatter_add_final, time_order

DTYPES = [np.float32, np.float64]
ROWS = 3
SHAPES = [(0, 3), (1, 1), (1, 4), (5, 1), (6, 5), (40, 3), (4, 0), (0, 0)]  # (T, B)
KINDS = ["ends", "gaps", "all", "none", "mixed"]
every_mask = loop_over("kind", KINDS)
every_shape = loop_over(("T", "B"), SHAPES)
every_direction = loop_over("reverse", [False, True])


def random_mask(rng, kind, T, B):
    """Steps up to an end, steps here and there, all, none; or of each kind some."""
    masks = {
        "ends": np.arange(T)[:, None] < rng.integers(0, T + 1, size=B),
        "gaps": rng.random((T, B)) < 0.6,
        "all": np.ones((T, B), bool),
        "none": np.zeros((T, B), bool),
    }
    masks["mixed"] = np.choose(rng.integers(0, 4, size=B), list(masks.values()))
    return masks[kind]


def own_times(mask, reverse):
    """For each sequence the times of its steps, in the order in which they are processed."""
    times = [[t for t in range(len(mask)) if mask[t, b]] for b in range(mask.shape[1])]
    return [list(reversed(first_tape)) for first_tape in times] if reverse else times


def last_processed(mask, reverse, t, b):
    """Which of its steps a sequence has processed last when it is past time t; None before the first."""
    seen = [s for s in range(len(mask)) if mask[s, b] and (s >= t if reverse else s <= t)]
    return len(seen) - 1 if seen else None


@every_direction
@every_mask
@every_shape
def test_the_order_is_that_of_the_valid_steps(T, B, kind, reverse, rng):
    mask = random_mask(rng, kind, T, B)
    made = time_order(mask, reverse=reverse)
    assert made.time_index.shape == made.inverse.shape == made.steps_done.shape == (T, B)
    assert made.valid.shape == (T, 1, B)
    for b, times in enumerate(own_times(mask, reverse)):
        assert made.lengths[b] == len(times)
        assert list(made.time_index[: len(times), b]) == times
        assert sorted(made.time_index[:, b]) == list(range(T))
        assert list(made.inverse[made.time_index[:, b], b]) == list(range(T))
        assert list(made.valid[:, 0, b]) == [k < len(times) for k in range(T)]
        assert [n - 1 if n else None for n in made.steps_done[:, b]] == [
            last_processed(mask, reverse, t, b) for t in range(T)
        ]


@every_direction
@every_mask
@every_shape
def test_steps_are_moved_to_their_positions(T, B, kind, reverse, rng):
    """There, back, and back with the last output repeated: number by number, with NaN wherever nothing belongs."""
    mask, dtype = random_mask(rng, kind, T, B), DTYPES[rng.integers(2)]
    made = time_order(mask, reverse=reverse)
    sequences, steps = rng.normal(size=(2, T, ROWS, B)).astype(dtype)
    there, back, repeated = np.zeros((3, T, ROWS, B))
    for b, times in enumerate(own_times(mask, reverse)):
        for k, t in enumerate(times):
            there[k, :, b], back[t, :, b] = sequences[t, :, b], steps[k, :, b]
        for t in range(T):
            k = last_processed(mask, reverse, t, b)
            if k is not None:
                repeated[t, :, b] = steps[k, :, b]
    sequences[~np.repeat(mask[:, None], ROWS, axis=1)] = np.nan
    steps[~np.repeat(made.valid, ROWS, axis=1)] = np.nan
    for result, expected in [
        (made.to_processing_order(sequences), there),
        (made.to_time_order(steps), back),
        (made.to_time_order(steps, repeat=True), repeated),
    ]:
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, expected)


@every_direction
@every_mask
@every_shape
def test_reordering_and_restoring_returns_the_sequence(T, B, kind, reverse, rng):
    mask = random_mask(rng, kind, T, B)
    made = time_order(mask, reverse=reverse)
    sequences, steps = rng.normal(size=(2, T, ROWS, B))
    np.testing.assert_array_equal(
        made.to_time_order(made.to_processing_order(sequences)), np.where(mask[:, None], sequences, 0)
    )
    np.testing.assert_array_equal(made.to_processing_order(made.to_time_order(steps)), np.where(made.valid, steps, 0))
    np.testing.assert_array_equal(
        made.to_processing_order(made.to_time_order(steps, repeat=True)), np.where(made.valid, steps, 0)
    )


@every_direction
@every_mask
@every_shape
def test_the_mappings_are_adjoint(T, B, kind, reverse, rng):
    """⟨A s, y⟩ = ⟨s, Aᵀ y⟩ for all three ways."""
    made = time_order(random_mask(rng, kind, T, B), reverse=reverse)
    s, y = rng.normal(size=(2, T, ROWS, B))
    for one, other in [
        (np.vdot(made.to_processing_order(s), y), np.vdot(s, made.to_time_order(y))),
        (np.vdot(made.to_time_order(s), y), np.vdot(s, made.to_time_order_backward(y))),
        (np.vdot(made.to_time_order(s, repeat=True), y), np.vdot(s, made.to_time_order_backward(y, repeat=True))),
    ]:
        assert one == pytest.approx(other, rel=1e-12, abs=1e-12)


@loop_over("dtype", DTYPES)
@loop_over("repeat", [False, True])
@every_direction
@every_mask
def test_the_adjoint_preserves_dtype_and_ignores_gradients_of_invalid_steps(kind, reverse, repeat, dtype, rng):
    mask = random_mask(rng, kind, 7, 6)
    made = time_order(mask, reverse=reverse)
    d_time = rng.normal(size=(7, ROWS, 6)).astype(dtype)
    has_output = made.steps_done > 0 if repeat else mask
    with_nan = np.where(has_output[:, None], d_time, dtype(np.nan))
    result = made.to_time_order_backward(with_nan, repeat=repeat)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, made.to_time_order_backward(d_time, repeat=repeat))
    np.testing.assert_array_equal(np.where(made.valid, 0, result), 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@every_direction
def test_padding_has_no_effect(bad, reverse, rng):
    mask = random_mask(rng, "mixed", 8, 9)
    made = time_order(mask, reverse=reverse)
    values = rng.normal(size=(8, ROWS, 9))
    padded_in_time, padded_behind = np.where(mask[:, None], values, bad), np.where(made.valid, values, bad)
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(made.to_processing_order(padded_in_time), made.to_processing_order(values))
        for repeat in (False, True):
            np.testing.assert_array_equal(
                made.to_time_order(padded_behind, repeat=repeat), made.to_time_order(values, repeat=repeat)
            )


@every_direction
@every_mask
def test_reversed_time_is_the_other_direction(kind, reverse, rng):
    mask, sequences = random_mask(rng, kind, 7, 6), rng.normal(size=(7, ROWS, 6))
    one, other = time_order(mask, reverse=reverse), time_order(mask[::-1], reverse=not reverse)
    np.testing.assert_array_equal(one.to_processing_order(sequences), other.to_processing_order(sequences[::-1]))
    for repeat in (False, True):
        np.testing.assert_array_equal(
            one.to_time_order(sequences, repeat=repeat), other.to_time_order(sequences, repeat=repeat)[::-1]
        )


@every_direction
@every_mask
def test_gaps_are_skipped(kind, reverse, rng):
    """A sequence with gaps is processed like one without, of the same steps."""
    mask, sequences = random_mask(rng, kind, 7, 6), rng.normal(size=(7, ROWS, 6))
    closed = np.zeros_like(sequences)
    for b, times in enumerate(own_times(mask, reverse=False)):
        closed[: len(times), :, b] = sequences[times, :, b]
    without = time_order(mask_from_lengths(mask.sum(axis=0), 7), reverse=reverse)
    np.testing.assert_array_equal(
        time_order(mask, reverse=reverse).to_processing_order(sequences), without.to_processing_order(closed)
    )


@every_direction
def test_arguments_are_not_modified_and_results_are_new(reverse, rng):
    made = time_order(np.ones((4, 2), bool), reverse=reverse)
    arguments = rng.normal(size=(4, ROWS, 2))
    before = arguments.copy()
    for way in (made.to_processing_order, made.to_time_order, made.to_time_order_backward):
        way(arguments)[:] = np.nan
    for way in (made.to_time_order, made.to_time_order_backward):
        way(arguments, repeat=True)[:] = np.nan
    np.testing.assert_array_equal(arguments, before)


# Lengths and ends


@pytest.mark.parametrize(("lengths", "T"), [([0, 2, 3], 3), ([], 4), ([0, 0], 0), ([1], 1)])
def test_the_mask_of_lengths(lengths, T):
    mask = mask_from_lengths(np.array(lengths, np.intp), T)
    assert mask.shape == (T, len(lengths))
    assert mask.dtype == bool
    for b, length in enumerate(lengths):
        assert list(mask[:, b]) == [True] * length + [False] * (T - length)


@every_shape
def test_the_final_state_is_that_after_the_last_valid_step(T, B, rng):
    lengths, states = rng.integers(0, T + 1, size=B), rng.normal(size=(T + 1, ROWS, B))
    ends = gather_final(states, lengths)
    assert ends.shape == (ROWS, B)
    for b in range(B):
        np.testing.assert_array_equal(ends[:, b], states[lengths[b], :, b])


@every_shape
def test_scatter_add_final_is_the_adjoint_of_gather_final(T, B, rng):
    lengths, states = rng.integers(0, T + 1, size=B), rng.normal(size=(T + 1, ROWS, B))
    d_end, gradient = rng.normal(size=(ROWS, B)), np.zeros((T, ROWS, B))
    d_first = scatter_add_final(gradient, d_end, lengths)
    pulled_back = np.concatenate([d_first[None], gradient])
    assert np.vdot(gather_final(states, lengths), d_end) == pytest.approx(
        np.vdot(states, pulled_back), rel=1e-12, abs=1e-12
    )


@pytest.mark.parametrize("dtype", DTYPES)
@every_shape
def test_scatter_add_final_adds_to_existing_values(T, B, dtype, rng):
    """And takes one number for all, or one for each row."""
    lengths, before = rng.integers(0, T + 1, size=B), rng.normal(size=(T, ROWS, B)).astype(dtype)
    for d_end in (0.5, rng.normal(size=(ROWS, 1)).astype(dtype), rng.normal(size=(ROWS, B)).astype(dtype)):
        whole = np.broadcast_to(np.asarray(d_end, dtype), (ROWS, B))
        gradient = before.copy()
        d_first = scatter_add_final(gradient, d_end, lengths)
        assert gradient.dtype == d_first.dtype == dtype
        assert d_first.shape == (ROWS, B)
        for b, length in enumerate(lengths):
            expected = before[:, :, b].copy()
            expected[length - 1 : length] += whole[:, b]
            np.testing.assert_array_equal(gradient[:, :, b], expected)
            np.testing.assert_array_equal(d_first[:, b], 0 if length else whole[:, b])


@pytest.mark.parametrize("reverse", [False, True])
def test_is_in_order_tells_whether_anything_would_change(reverse, rng):
    order = time_order(mask_from_lengths(np.array([3, 1, 4]), 5), reverse=reverse)
    sequences = rng.normal(size=(5, 2, 3))
    assert not order.is_in_order(sequences)
    ordered = time_order(order.mask, reverse=False).to_processing_order(sequences)
    assert order.is_in_order(ordered) == (not reverse)
    ordered[4, 0, 0] = np.nan
    assert not order.is_in_order(ordered)


def test_a_step_after_a_masked_one_is_the_first_to_be_processed():
    order = time_order(np.array([[False], [True]]), reverse=False)
    np.testing.assert_array_equal(order.time_index, [[1], [0]])


@pytest.mark.parametrize("reverse", [False, True])
def test_sequences_that_have_ended_are_counted_if_lengths_ascend(reverse):
    order = time_order(mask_from_lengths(np.array([0, 2, 2, 4]), 4), reverse=reverse)
    assert order.ended is not None
    np.testing.assert_array_equal(order.ended, [1, 1, 3, 3])
    for lengths in ([3, 2], [3]):
        assert time_order(mask_from_lengths(np.array(lengths), 4), reverse=reverse).ended is None


@pytest.mark.parametrize("limit", [1, 8, 17, 1 << 13])
def test_steps_are_gathered_in_as_few_blocks_as_the_limit_allows(limit, rng, monkeypatch):
    """A block is of one step or more."""
    monkeypatch.setattr("glasscell.core.time_order.GATHER_BLOCK", limit)
    sizes, take = [], np.take

    def watched(*arguments, out, **options):
        sizes.append(out.size)
        return take(*arguments, out=out, **options)

    mask = rng.uniform(size=(7, 2)) < 0.6
    steps = rng.normal(size=(7, 4, 2))
    expected = np.flatnonzero(mask[:, 1])
    order = time_order(mask, reverse=False)
    monkeypatch.setattr(np, "take", watched)
    moved = order.to_processing_order(steps)
    np.testing.assert_array_equal(moved[: len(expected), :, 1], steps[expected, :, 1])
    length = min(7, max(1, limit // 8))
    assert sizes == [8 * n for n in [length] * (7 // length) + [7 % length] * (7 % length > 0)]
