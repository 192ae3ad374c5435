"""A vector for each symbol, looked up in a table."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from glasscell.core.buffers import BufferPool
from glasscell.core.linear import in_rows
from glasscell.core.parameters import Parameters
from glasscell.core.types import Array, Seed
from glasscell.layers.base import LayerResult, Mask
from glasscell.layers.trainable import LayerSeed, TrainableLayer
from glasscell.validation import as_generator, boolean, finite_array, float_dtype, positive_integer

if TYPE_CHECKING:
    from glasscell.stream.building import Stage

Ids = NDArray[np.integer[Any]]


class Embedding(TrainableLayer):
    """Symbols 0 … V - 1 as vectors.

    Parameters
    ----------
    vocabulary_size : int
        V.
    embedding_size : int
        E, the features of a vector.
    mask_zero : bool
        Whether the symbol 0 is padding: layers behind see no step there.
    dtype : float32 or float64
    seed : int or numpy.random.Generator, optional
        Vectors start normal with variance 1, as in PyTorch. None draws nothing: all are 0, to be loaded. Default: 0,
        and in a :class:`glasscell.Sequential` drawn from the model's seed.

    Attributes
    ----------
    parameters : Parameters
        ``weight`` (V, E).
    """

    position: ClassVar = "first"
    inputs: ClassVar = "ids"

    def __init__(
        self,
        vocabulary_size: int,
        embedding_size: int,
        *,
        mask_zero: bool = False,
        dtype: DTypeLike = np.float32,
        seed: LayerSeed = "default",
    ) -> None:
        self.vocabulary_size = positive_integer("vocabulary_size", vocabulary_size)
        self.embedding_size = positive_integer("embedding_size", embedding_size)
        self.mask_zero = boolean("mask_zero", mask_zero)
        self.dtype = float_dtype(dtype)
        self._parameters = Parameters(self.shapes(vocabulary_size, embedding_size), self.dtype)
        self._begin(seed)

    @staticmethod
    def shapes(vocabulary_size: int, embedding_size: int, *, mask_zero: bool = False) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of the parameters."""
        del mask_zero
        return {"weight": (vocabulary_size, embedding_size)}

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that make an equal layer, except dtype and seed."""
        sizes = {"vocabulary_size": self.vocabulary_size, "embedding_size": self.embedding_size}
        return sizes | {"mask_zero": self.mask_zero}

    def _draw(self, parameters: Parameters, seed: Seed | None) -> None:
        weight = parameters["weight"]
        weight[:] = 0 if seed is None else as_generator(seed).standard_normal(weight.shape)

    def __call__(self, ids: ArrayLike) -> Array:
        """Return the outputs of :meth:`forward`, without a tape."""
        return self.forward(ids)[0]

    def forward(self, ids: ArrayLike) -> tuple[Array, Ids]:
        """Look symbols up.

        Parameters
        ----------
        ids : array of int, any shape

        Returns
        -------
        vectors : array (..., E)
        tape : array
            For :meth:`backward`: the symbols.

        Raises
        ------
        TypeError, ValueError
            If a symbol is not an integer from 0 to V - 1.
        """
        symbols = self._check_symbols(ids)
        return self.parameters["weight"][symbols], symbols

    def _check_symbols(self, ids: ArrayLike) -> Ids:
        """Return the symbols as integers, if all of them are in the table."""
        symbols = np.asarray(ids)
        if symbols.dtype.kind == "f" and np.array_equal(symbols, np.trunc(symbols)):
            symbols = symbols.astype(np.int64)  # what some formats keep symbols as
        if symbols.dtype.kind not in "iu":
            raise TypeError(f"symbols must be integers, got dtype {symbols.dtype}")
        if symbols.size and not (symbols.min() >= 0 and symbols.max() < self.vocabulary_size):
            low, high = symbols.min(), symbols.max()
            shown = f"{low}" if low == high else f"{low} to {high}"
            raise ValueError(f"symbols must be from 0 to {self.vocabulary_size - 1}, got {shown}")
        return symbols

    def backward(self, tape: Ids, d_outputs: ArrayLike) -> tuple[None, Parameters]:
        """Compute the gradients.

        Parameters
        ----------
        tape : array
            From :meth:`forward`.
        d_outputs : array (..., E)

        Returns
        -------
        d_inputs : None
            Symbols do not have a gradient.
        gradients : Parameters
        """
        d = finite_array("d_outputs", d_outputs, self.dtype)
        if d.shape != (*tape.shape, self.embedding_size):
            raise ValueError(f"d_outputs must have shape {(*tape.shape, self.embedding_size)}, got {d.shape}")
        gradients = self.parameters.zeros_like()
        add_rows(gradients["weight"], tape, d)
        return None, gradients

    @property
    def input_features(self) -> None:
        """Return None: symbols do not have features."""
        return

    @property
    def keeps_feature_count(self) -> bool:
        """Return False."""
        return False

    def output_features(self, features: int | None) -> int:
        """Return E."""
        del features
        return self.embedding_size

    def output_mask(self, x: Array, mask: Mask | None) -> Mask | None:
        """Return the mask of the vectors of symbols x: with ``mask_zero``, without the symbols 0."""
        if not self.mask_zero:
            return mask
        nonzero: Mask = np.asarray(x) != 0
        return nonzero if mask is None else mask & nonzero

    def forward_feature_major(
        self,
        x: Array,
        mask: Mask | None = None,
        state: Any = None,
        rng: np.random.Generator | None = None,
        buffers: BufferPool | None = None,
        keep_tape: bool = True,
    ) -> LayerResult:
        """Look up symbols (T, B): vectors (T, E, B), each of which lies side by side in memory."""
        del state, rng
        symbols, table = self._check_symbols(x), self.parameters["weight"]
        vectors = (buffers or BufferPool()).get("vectors", (*symbols.shape, self.embedding_size), self.dtype)
        np.take(table, symbols, axis=0, out=vectors, mode="clip")  # they are in range; "raise" would make a copy
        return LayerResult(vectors.swapaxes(-1, -2), self.output_mask(x, mask), None, symbols if keep_tape else None)

    def backward_feature_major(
        self,
        tape: Any,
        d_outputs: Array,
        gradients: Parameters | None = None,
        buffers: BufferPool | None = None,
        need_dx: bool = True,
    ) -> None:
        """Overwrite `gradients` with the gradient on the table, and return None: symbols do not have a gradient."""
        del need_dx
        if gradients is not None:
            gradients.vector[:] = 0
            buffers = buffers or BufferPool()
            add_rows(gradients["weight"], tape, in_rows(d_outputs, buffers).swapaxes(-2, -1), buffers)

    def __repr__(self) -> str:
        masked = ", mask_zero=True" if self.mask_zero else ""
        return f"Embedding({self.vocabulary_size}, {self.embedding_size}{masked}, dtype={self.dtype})"

    def stream_stage(self, *, single: bool) -> Stage:
        """Return the stage of a stream."""
        from glasscell.stream.stages import EmbeddingStage  # noqa: PLC0415 - only where it is used

        del single
        return EmbeddingStage(self.parameters["weight"], mask_zero=self.mask_zero)


def add_rows(table: Array, symbols: Ids, rows: Array, buffers: BufferPool | None = None) -> None:
    """Add to each row of a table the rows of its symbol: sorted by symbol, so that each is a sum of a block."""
    flat, rows = symbols.reshape(-1), rows.reshape(-1, rows.shape[-1])
    if not flat.size:
        return
    order = np.argsort(flat, kind="stable")
    ordered = flat[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    ends = np.append(starts[1:], len(flat))
    is_single = ends - starts == 1
    singles = starts[is_single]
    table[ordered[singles]] += rows[order[singles]]
    ordered_rows = (buffers or BufferPool()).get("ordered rows", rows.shape, rows.dtype)
    rows = np.take(rows, order, axis=0, out=ordered_rows, mode="clip")  # "raise" would make a copy
    for start, end in zip(starts[~is_single].tolist(), ends[~is_single].tolist(), strict=True):
        table[ordered[start]] += np.add.reduce(rows[start:end], axis=0)  # `np.add.reduceat` takes ten times as long
