"""Vectors for the columns of ids among numeric features."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from glasscell.core.parameters import Parameters
from glasscell.core.types import Array, Seed
from glasscell.layers.base import Mask
from glasscell.layers.batch_first import ParameterLayer
from glasscell.layers.embedding import add_rows
from glasscell.layers.trainable import LayerSeed
from glasscell.validation import as_generator, float_dtype, integer, positive_integer

if TYPE_CHECKING:
    from glasscell.stream.building import Stage

Columns: TypeAlias = "Mapping[int, tuple[int, int]] | Sequence[Sequence[int]]"


class FeatureEmbedding(ParameterLayer):
    """Each id among the features replaced by a trained vector; the numeric features between them stay.

    Parameters
    ----------
    num_features : int
        F, the columns of the inputs.
    columns : mapping of int to (int, int)
        The columns that hold ids 0 … V - 1, each with V and the number E of features of its vectors. Files have
        triples (column, V, E), which are accepted too.
    dtype : float32 or float64
        Ids are numbers of this type: V is at most 2²⁴ in float32.
    seed : int or numpy.random.Generator, optional
        Vectors start normal with variance 1, as in :class:`Embedding`. None draws nothing: all are 0. Default: 0, and
        in a :class:`glasscell.Sequential` drawn from the model's seed.

    Attributes
    ----------
    parameters : Parameters
        ``table_3`` (V, E) for column 3.

    Examples
    --------
    >>> import numpy as np
    >>> layer = FeatureEmbedding(3, {1: (10, 4)})  # a number, an id, a number
    >>> layer(np.array([[0.5, 7, 2.0]])).shape
    (1, 6)
    """

    def __init__(
        self, num_features: int, columns: Columns, *, dtype: DTypeLike = np.float32, seed: LayerSeed = "default"
    ) -> None:
        self.input_size = self.num_features = positive_integer("num_features", num_features)
        self.dtype = float_dtype(dtype)
        self.columns = _columns(num_features, columns, self.dtype)
        sizes = sum(E for _, E in self.columns.values())
        self.output_size = num_features - len(self.columns) + sizes
        self._parameters = Parameters(self.shapes(num_features, self.columns), self.dtype)
        self.statistics = {}
        self._begin(seed)

    @staticmethod
    def shapes(num_features: int, columns: Columns) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of the parameters."""
        del num_features
        return {f"table_{column}": (V, E) for column, V, E in _triples(columns)}

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that make an equal layer, except dtype and seed: plain JSON."""
        return {"num_features": self.num_features, "columns": [[k, V, E] for k, (V, E) in self.columns.items()]}

    def _draw(self, parameters: Parameters, seed: Seed | None) -> None:
        rng = None if seed is None else as_generator(seed)
        for view in parameters.values():
            view[:] = 0 if rng is None else rng.standard_normal(view.shape)

    def forward(
        self, x: ArrayLike, mask: Mask | None = None, rng: np.random.Generator | None = None
    ) -> tuple[Array, Any]:
        """From (..., F) to (..., F'), with F' = F - number of id columns + the sum of their E.

        Raises
        ------
        ValueError
            If an id is not an integer from 0 to V - 1.
        """
        del mask, rng
        array = self._inputs(x)
        ids = {column: self._ids(array, column) for column in self.columns}
        parts = [
            array[..., source] if column is None else self.parameters[f"table_{column}"][ids[column]]
            for column, source, _ in self.segments()
        ]
        return np.concatenate(parts, axis=-1), (ids, array.shape)

    def backward(self, tape: Any, d_outputs: Array) -> tuple[Array, Parameters]:
        """Compute the gradients on x, 0 in the columns of ids, and on the tables."""
        ids, shape = tape
        gradients, dx = self.parameters.zeros_like(), np.zeros(shape, d_outputs.dtype)
        for column, source, target in self.segments():
            if column is None:
                dx[..., source] = d_outputs[..., target]
            else:
                add_rows(gradients[f"table_{column}"], ids[column], d_outputs[..., target])
        return dx, gradients

    def segments(self) -> Iterator[tuple[int | None, slice, slice]]:
        """Yield, from the first feature to the last, the id column or None, and its place in inputs and outputs."""
        start = target = 0
        for column, (_, E) in self.columns.items():
            if column > start:
                yield None, slice(start, column), slice(target, target + column - start)
                target += column - start
            yield column, slice(column, column + 1), slice(target, target + E)
            start, target = column + 1, target + E
        if start < self.num_features:
            yield None, slice(start, self.num_features), slice(target, self.output_size)

    def _ids(self, x: Array, column: int) -> NDArray[np.int64]:
        values, V = x[..., column], self.columns[column][0]
        with np.errstate(invalid="ignore"):  # NaN and infinity become an integer that differs
            ids: NDArray[np.int64] = values.astype(np.int64)
        wrong = (ids != values) | (ids < 0) | (ids >= V)
        if wrong.any():
            raise ValueError(f"column {column} of x must hold ids from 0 to {V - 1}, got {values[wrong][0]}")
        return ids

    def __repr__(self) -> str:
        return f"FeatureEmbedding({self.num_features}, {self.columns}, dtype={self.dtype})"

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream."""
        from glasscell.stream.feature_embedding_stage import FeatureEmbeddingStage  # noqa: PLC0415 - only there

        del single
        tables = {column: self.parameters[f"table_{column}"].copy() for column in self.columns}
        return FeatureEmbeddingStage(list(self.segments()), tables, self.input_size, self.output_size)


def _triples(columns: Columns) -> list[tuple[int, int, int]]:
    """Return (column, V, E) of each id column."""
    if isinstance(columns, Mapping):
        return [(column, *sizes) for column, sizes in columns.items()]
    return [(column, V, E) for column, V, E in columns]


def _columns(num_features: int, columns: Columns, dtype: np.dtype[np.floating]) -> dict[int, tuple[int, int]]:
    """Return the id columns in order.

    Raises
    ------
    TypeError, ValueError
        If there is none, one is repeated or outside the features, a size is not positive, or V is not exact in `dtype`.
    """
    result: dict[int, tuple[int, int]] = {}
    largest = 2 ** (np.finfo(dtype).nmant + 1)
    for column, V, E in sorted(_triples(columns)):
        if not 0 <= integer("column", column) < num_features or column in result:
            raise ValueError(f"columns must be different numbers from 0 to {num_features - 1}, got {column}")
        if positive_integer("V", V) > largest:
            raise ValueError(f"V must be at most {largest} in {dtype}, got {V}")
        result[column] = V, positive_integer("E", E)
    if not result:
        raise ValueError("columns must name at least one column of ids, got none")
    return result
