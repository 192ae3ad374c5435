"""Law: every sequence of a list reaches its batch with its values, whatever the dtypes of the others."""

import numpy as np
import pytest

import glasscell as gc


@pytest.mark.parametrize("first", [0, 1, 2])
def test_a_list_of_several_dtypes_keeps_every_value(first, rng):
    """The dtype of the batch does not depend on the sequence that comes first in it."""
    x = [rng.normal(size=(3, 1)), np.array([[1], [2], [3], [4]]), np.array([[True], [False]])]
    x = x[first:] + x[:first]
    y = [np.full((len(x[0]), 1), 7), *(rng.normal(size=(len(sequence), 1)) for sequence in x[1:])]
    (batch,) = gc.data.ArrayData(x, y).in_order(3, np.float64)
    for n, (sequence, target) in enumerate(zip(x, y, strict=True)):
        np.testing.assert_array_equal(batch.inputs[n, : len(sequence)], sequence)
        np.testing.assert_array_equal(batch.targets[n, : len(sequence)], target)


def test_integers_of_several_sizes_stay_whole():
    """Ids above 255 do not wrap around in the dtype of a shorter list, and an empty list is no floating-point one."""
    x = [[], np.array([1, 2], np.uint8), np.array([300, 70_000, 3])]
    (batch,) = gc.data.ArrayData(x, x).in_order(3, np.float32)
    assert batch.inputs.dtype.kind == "i"
    np.testing.assert_array_equal(batch.inputs, [[0, 0, 0], [1, 2, 0], [300, 70_000, 3]])


@pytest.mark.parametrize("as_array", [False, True], ids=["list", "array"])
def test_steps_are_stored_contiguously_whatever_the_layout_of_the_arrays(as_array, rng):
    """Law: a batch reads the steps of its sequences; in another layout, `take` would copy the whole data each time."""
    x, lengths = rng.normal(size=(3, 5, 4)), [5, 2, 4]
    columns = [np.asfortranarray(sequence[:n]) for sequence, n in zip(x, lengths, strict=True)]
    y, options = rng.normal(size=3), {"lengths": lengths} if as_array else {}
    data = gc.data.ArrayData(np.repeat(x, 2, axis=-1)[..., ::2] if as_array else columns, y, **options)
    batch = data.in_order(3, np.float64)[0]
    assert data._concatenated["x", np.dtype("float64")].steps.flags.c_contiguous
    for read, sequence in zip(batch.inputs, columns, strict=True):
        np.testing.assert_array_equal(read[: len(sequence)], sequence)
