"""The same name, shape and dtype return the same memory; another name or scope never does."""

import numpy as np
import pytest

from glasscell.core.buffers import ALIGN_MIN_BYTES, BufferPool

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def test_the_same_request_gets_the_same_array():
    buffers = BufferPool()
    array = buffers.get("a", (2, 3), FLOAT32)
    assert (array.shape, array.dtype) == ((2, 3), FLOAT32)
    assert buffers.get("a", (2, 3), FLOAT32) is array


def test_another_name_gets_other_memory():
    buffers = BufferPool()
    first, other = buffers.get("a", (2, 3), FLOAT32), buffers.get("b", (2, 3), FLOAT32)
    assert (other.shape, other.dtype) == ((2, 3), FLOAT32)
    assert not np.shares_memory(first, other)


@pytest.mark.parametrize(("shape", "dtype"), [((3, 2), FLOAT32), ((1, 3), FLOAT64), ((5,), FLOAT32), ((0, 4), FLOAT64)])
def test_another_shape_takes_the_memory_of_the_largest(shape, dtype):
    buffers = BufferPool()
    largest = buffers.get("a", (2, 3), FLOAT32)
    other = buffers.get("a", shape, dtype)
    assert (other.shape, other.dtype) == (shape, dtype)
    assert other.flags.c_contiguous
    assert np.shares_memory(largest, other) == bool(other.size)
    assert buffers.get("a", shape, dtype) is other
    again = buffers.get("a", (2, 3), FLOAT32)
    assert (again.shape, again.dtype) == ((2, 3), FLOAT32)
    assert np.shares_memory(largest, again)
    larger = buffers.get("a", (2, 3), FLOAT64)
    assert (larger.shape, larger.dtype) == ((2, 3), FLOAT64)
    assert not np.shares_memory(largest, larger)


def test_an_array_that_grows_has_memory_for_larger_ones():
    buffers = BufferPool()
    buffers.get("a", (10,), FLOAT32)
    grown = buffers.get("a", (12,), FLOAT32)
    assert np.shares_memory(grown, buffers.get("a", (3, 8), FLOAT32))
    assert not np.shares_memory(grown, buffers.get("a", (25,), FLOAT32))


def test_scopes_persist_and_share_no_memory():
    buffers = BufferPool()
    one, two = buffers.scope("one"), buffers.scope("two")
    assert buffers.scope("one") is one
    arrays = [place.get("a", (4,), FLOAT64) for place in (buffers, one, two)]
    assert not any(np.shares_memory(a, b) for a, b in zip(arrays, arrays[1:] + arrays[:1], strict=True))


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
@pytest.mark.parametrize("size", [ALIGN_MIN_BYTES, ALIGN_MIN_BYTES + 8, 3 * ALIGN_MIN_BYTES])
def test_large_arrays_are_aligned_to_a_cache_line(size, dtype):
    arrays = [BufferPool().get("a", (size // dtype.itemsize,), dtype) for _ in range(20)]
    for array in arrays:
        assert array.ctypes.data % 64 == 0
        array[:] = 1
        assert array.base is None or array.base.nbytes <= size + 128  # no more than a line is lost


def test_small_arrays_have_no_padding():
    assert BufferPool().get("a", (ALIGN_MIN_BYTES // 8,), FLOAT32).base is None


def test_views_of_steps_are_shared_by_arrays_of_other_lengths_in_the_same_memory():
    buffers, made = BufferPool(), []

    def steps(T, width=2):
        arrays = buffers.get("a", (T, width), FLOAT64), buffers.get("b", (T + 1, 3), FLOAT64)

        def views():
            made.append(T)
            return zip(*arrays, strict=False)

        result = buffers.views_of_steps("steps", arrays, T, views)
        assert len(result) >= T
        for views_of_step, *expected in zip(result, *arrays, strict=False):
            for view, array in zip(views_of_step, expected, strict=True):
                assert (view.shape, view.__array_interface__["data"]) == (
                    array.shape,
                    array.__array_interface__["data"],
                )

    for T in (4, 3, 0, 4, 2):
        steps(T)
    assert made == [4]
    steps(9)  # takes other memory
    for T in (4, 9, 5):
        steps(T)
    assert made == [4, 9]
    steps(5, width=3)
    steps(5)
    assert made == [4, 9, 5, 5]


def test_what_is_cached_is_made_again_for_other_arguments_only():
    buffers, made = BufferPool(), []

    def make(pool, *arguments):
        assert pool is buffers
        made.append(arguments)
        return [*arguments]

    first = buffers.cached("a", make, 1, 2)
    assert buffers.cached("a", make, 1, 2) is first
    assert buffers.cached("a", make, 1, 3) == [1, 3]
    assert buffers.cached("b", make, 1, 2) == [1, 2]
    assert made == [(1, 2), (1, 3), (1, 2)]


def test_what_is_cached_is_made_again_by_another_function():
    buffers = BufferPool()
    assert buffers.cached("a", lambda pool, n: [n], 1) == [1]
    assert buffers.cached("a", lambda pool, n: [-n], 1) == [-1]
