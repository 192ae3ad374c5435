"""Names are views of one vector, in order and without gaps; initial values have their distribution."""

import numpy as np
import pytest

from glasscell.core.initializers import glorot_uniform, orthogonal, uniform
from glasscell.core.parameters import Parameters

SHAPES = {"lstm.kernel": (4, 3), "lstm.start": (2,), "readout.weight": (3, 2), "readout.bias": (3,)}
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


@pytest.fixture
def parameters(rng):
    size = sum(int(np.prod(shape)) for shape in SHAPES.values())
    return Parameters(SHAPES, FLOAT64, rng.normal(size=size))


def test_the_vector_contains_all_views_in_order(parameters):
    assert list(parameters) == list(SHAPES)
    assert len(parameters) == len(SHAPES)
    assert parameters.shapes == SHAPES
    np.testing.assert_array_equal(np.concatenate([view.ravel() for view in parameters.values()]), parameters.vector)


def test_views_share_memory_with_the_vector(parameters):
    for number, view in enumerate(parameters.values()):
        view[:] = number
    np.testing.assert_array_equal(parameters.vector, np.repeat([0, 1, 2, 3], [12, 2, 6, 3]))
    parameters.vector[:] = 7
    assert all((view == 7).all() for view in parameters.values())


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
def test_new_parameters_are_0(dtype):
    parameters = Parameters(SHAPES, dtype)
    assert parameters.vector.dtype == dtype
    np.testing.assert_array_equal(parameters.vector, np.zeros(23))


def test_an_existing_vector_is_used_without_a_copy(rng):
    vector = rng.normal(size=23)
    assert Parameters(SHAPES, FLOAT64, vector).vector is vector


@pytest.mark.parametrize("size", [0, 22, 24])
def test_a_vector_of_another_size_is_refused(size):
    with pytest.raises(ValueError, match=rf"\({size},\).*\(23,\)"):
        Parameters(SHAPES, FLOAT64, np.zeros(size))


def test_zeros_like_allocates_zeros(parameters):
    before = parameters.vector.copy()
    zeros = parameters.zeros_like()
    assert (zeros.shapes, zeros.vector.dtype) == (SHAPES, FLOAT64)
    np.testing.assert_array_equal(zeros.vector, np.zeros(23))
    zeros.vector[:] = 1
    np.testing.assert_array_equal(parameters.vector, before)


@pytest.mark.parametrize(("prefix", "names"), [("lstm.", ["kernel", "start"]), ("readout.", ["weight", "bias"])])
def test_a_subset_shares_memory_under_shorter_names(prefix, names, parameters):
    part = parameters.subset(prefix)
    assert list(part) == names
    for name in names:
        np.testing.assert_array_equal(part[name], parameters[prefix + name])
    part.vector[:] = np.arange(part.vector.size)
    np.testing.assert_array_equal(np.concatenate([parameters[prefix + n].ravel() for n in names]), part.vector)


def test_a_subset_without_names_is_empty(parameters):
    part = parameters.subset("embedding.")
    assert len(part) == 0
    assert part.vector.size == 0


def test_a_subset_that_is_not_contiguous_is_refused():
    with pytest.raises(ValueError, match=r"'a\.'.*side by side"):
        Parameters({"a.x": (1,), "b.x": (1,), "a.y": (1,)}, FLOAT64).subset("a.")


def test_an_unknown_name_is_a_key_error(parameters):
    with pytest.raises(KeyError, match="bias"):
        parameters["bias"]


def test_the_printed_form_names_every_shape(parameters):
    for text in (*SHAPES, *map(str, SHAPES.values()), "23 float64"):
        assert text in repr(parameters)


# First values


@pytest.mark.parametrize("bound", [0.1, 2.0])
def test_uniform_fills_its_bounds(bound, rng):
    values = uniform(rng, (200, 100), bound)
    assert values.shape == (200, 100)
    assert np.abs(values).max() <= bound
    assert values.max() > 0.99 * bound
    assert values.min() < -0.99 * bound
    assert abs(values.mean()) < 0.03 * bound
    assert values.var() == pytest.approx(bound**2 / 3, rel=0.05)


@pytest.mark.parametrize("shape", [(300, 100), (100, 300), (200, 200)])
def test_glorot_has_its_variance(shape, rng):
    values = glorot_uniform(rng, shape)
    assert values.shape == shape
    assert values.var() == pytest.approx(2 / sum(shape), rel=0.05)
    assert np.abs(values).max() <= np.sqrt(6 / sum(shape))


@pytest.mark.parametrize("size", [1, 2, 5, 40])
def test_orthogonal_is_orthogonal(size, rng):
    q = orthogonal(rng, size)
    np.testing.assert_allclose(q @ q.T, np.eye(size), rtol=0, atol=1e-13)


def test_orthogonal_is_uniformly_distributed(rng):
    """Over all rotations and reflections, each entry, the trace and the determinant are 0 on average."""
    draws = np.array([orthogonal(rng, 3) for _ in range(1000)])
    assert np.abs(draws.mean(axis=0)).max() < 4 * np.sqrt(1 / 3 / 1000)
    assert abs(np.trace(draws, axis1=1, axis2=2).mean()) < 4 / np.sqrt(1000)
    assert abs(np.linalg.det(draws).mean()) < 4 / np.sqrt(1000)


@pytest.mark.parametrize("draw", [lambda rng: uniform(rng, (3, 3), 1), lambda rng: orthogonal(rng, 3)])
def test_draws_differ_and_are_reproducible_from_the_seed(draw):
    one, two = np.random.default_rng(1), np.random.default_rng(1)
    first, second = draw(one), draw(one)
    assert not np.isin(first, second).any()
    np.testing.assert_array_equal(first, draw(two))


def test_parts_of_parts_are_views_of_the_whole():
    a, b, c = (
        Parameters({name: (size,)}, FLOAT64, np.full(size, 9.0)) for name, size in (("u", 1), ("v", 2), ("w", 3))
    )
    inner = Parameters.join({"b": b, "c": c}, FLOAT64)
    whole = Parameters.join({"a": a, "inner": inner}, FLOAT64)
    assert list(whole) == ["a.u", "inner.b.v", "inner.c.w"]
    np.testing.assert_array_equal(whole.vector, np.full(6, 9.0))
    whole.vector = np.arange(6.0)
    for part, values in ((a, [0]), (b, [1, 2]), (c, [3, 4, 5]), (inner, [1, 2, 3, 4, 5])):
        np.testing.assert_array_equal(part.vector, values)
        assert np.shares_memory(part.vector, whole.vector)
    np.testing.assert_array_equal(c["w"], [3, 4, 5])


def test_a_part_belongs_to_one_whole():
    part = Parameters({"u": (1,)}, FLOAT64)
    with pytest.raises(ValueError, match="'b' are a part of others already"):
        Parameters.join({"a": part, "b": part}, FLOAT64)
    Parameters.join({"a": part}, FLOAT64)  # nothing was joined before
    with pytest.raises(ValueError, match="'a' are a part of others already"):
        Parameters.join({"a": part}, FLOAT64)
