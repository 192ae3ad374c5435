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
