"""Law: what enters is real, finite and of the right shape, or an error says what it was and should have been."""

from itertools import islice

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.validation import finite_array, float_dtype, from_feature_major, positive_integer, to_feature_major

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


@pytest.mark.parametrize("value", [1, 7, np.int64(3), np.uint8(3)])
def test_positive_integers_pass(value):
    result = positive_integer("hidden_size", value)
    assert result == value
    assert type(result) is int


@loop_over(
    ("value", "error"),
    [(0, ValueError), (-2, ValueError), *((value, TypeError) for value in (1.0, "3", None, True, np.float32(2)))],
)
def test_other_numbers_do_not(value, error):
    with pytest.raises(error, match=r"^hidden_size must be .*") as caught:
        positive_integer("hidden_size", value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, "float32", "f8", float])
def test_two_float_types_pass(dtype):
    assert float_dtype(dtype) == np.dtype(dtype)


@loop_over("dtype", [np.float16, np.longdouble, int, bool, complex, object, "U3"])
def test_other_types_do_not(dtype):
    with pytest.raises(TypeError, match="float32 or float64, got"):
        float_dtype(dtype)


@loop_over("value", [[[0, 1], [2, 3]], np.eye(2, dtype=bool), np.ones((2, 2), np.float16), np.ones((2, 2)), [], 3])
@loop_over("dtype", [FLOAT32, FLOAT64])
def test_real_numbers_become_arrays_of_the_dtype(value, dtype):
    array = finite_array("x", value, dtype)
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, np.asarray(value))


def test_an_array_of_the_dtype_is_not_copied():
    original = np.ones((2, 3), np.float32)
    assert finite_array("x", original, FLOAT32) is original


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_bad_number_is_named_and_the_others_counted(bad):
    values = np.zeros((2, 3, 4))
    values[1, 0, 2] = values[1, 2, 3] = bad
    with pytest.raises(ValueError, match=rf"^x must be finite in float64, got {bad} at index \(1, 0, 2\), 2 such"):
        finite_array("x", values, FLOAT64)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
@pytest.mark.parametrize("turned", [False, True])
def test_the_largest_numbers_pass_and_one_that_is_not_finite_does_not(turned, dtype):
    """However the array lies in memory."""
    values = np.full((3, 4, 5), np.finfo(dtype).max, dtype)
    values[::2] *= -1
    original = values.transpose(2, 0, 1)[:, ::2] if turned else values
    assert finite_array("x", original, dtype) is original
    original[-1, -1, -1] = np.nan
    with pytest.raises(ValueError, match="1 such values"):
        finite_array("x", original, dtype)


def test_a_number_too_large_for_float32_is_refused_there_and_only_there():
    finite_array("x", [1e300], FLOAT64)
    with pytest.raises(ValueError, match=r"finite in float32, got 1e\+300 at index \(0,\)"):
        finite_array("x", [1e300], FLOAT32)


@loop_over(
    ("value", "error"),
    [
        (["a", "b"], TypeError),
        ([1j], TypeError),
        ([None, 1], TypeError),
        ({"x": 1}, TypeError),
        (np.array(["2020-01-01"], "datetime64[D]"), TypeError),
        ([[1, 2], [3]], ValueError),
    ],
)
def test_what_is_no_array_of_real_numbers_is_refused(value, error):
    with pytest.raises(error, match=r"^x .*array of (real )?numbers"):
        finite_array("x", value, FLOAT64)


LONG = (7, 2000, 3)  # more than one block of from_feature_major, the last one shorter
WIDE = (4100, 3, 3)  # and features in blocks


@loop_over("shape", [(2, 5, 3), (0, 5, 3), (2, 0, 3), (1, 1, 3), (5, 3), (0, 3), LONG, WIDE])
def test_there_and_back_is_the_identity_in_a_copy(shape, rng):
    original = rng.normal(size=shape)
    columns, single = to_feature_major("x", original, 3, "I", FLOAT64)
    B, T, _ = (1, *shape)[-3:]
    assert columns.shape == (T, 3, B)
    assert single == (len(shape) == 2)
    for b, t in islice(np.ndindex(B, T), 1000):
        np.testing.assert_array_equal(columns[t, :, b], original[t] if single else original[b, t])
    back = from_feature_major(columns, single=single)
    np.testing.assert_array_equal(back, original)
    assert not np.shares_memory(back, original)
    assert back.flags.c_contiguous


@pytest.mark.parametrize("shape", [(2, 5, 4), (5, 4), (3,), (), (1, 2, 5, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"^x must have shape .* = 3 features, got ") as caught:
        to_feature_major("x", np.zeros(shape), 3, "I", FLOAT64)
    assert str(caught.value).startswith("x must have shape (B, T, I) or (T, I)")


@pytest.mark.parametrize(
    ("shape", "expected", "words"),
    [
        ((2, 5, 3), (2, 6, False), "(B, T, H) = (2, 6, 3)"),
        ((2, 5, 3), (3, 5, False), "(B, T, H) = (3, 5, 3)"),
        ((1, 5, 3), (1, 5, True), "(T, H) = (5, 3)"),
        ((5, 3), (1, 5, False), "(B, T, H) = (1, 5, 3)"),
    ],
)
def test_a_settled_shape_is_insisted_on(shape, expected, words):
    with pytest.raises(ValueError, match="must have shape") as caught:
        to_feature_major("dy", np.zeros(shape), 3, "H", FLOAT64, expected=expected)
    assert str(caught.value) == f"dy must have shape {words}, got {shape}"
