"""Distributions of initial weights."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from math import sqrt

import numpy as np

from glasscell.core.types import Array


def uniform(rng: np.random.Generator, shape: tuple[int, ...], bound: float) -> Array:
    """Draw uniformly from [-bound, bound]; PyTorch's nn.LSTM has the bound 1/√H."""
    return rng.uniform(-bound, bound, shape)


def glorot_uniform(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Draw uniformly with variance 2 / (rows + columns): Glorot & Bengio (2010), equation 16."""
    return uniform(rng, shape, sqrt(6 / max(1, sum(shape))))


def orthogonal(rng: np.random.Generator, rows: int, columns: int | None = None) -> Array:
    """Draw a matrix with an orthonormal shorter side, uniformly distributed: Saxe et al. (2014), Mezzadri (2007).

    A square matrix, the default, is a rotation or reflection.
    """
    columns = rows if columns is None else columns
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.copysign(1, np.diag(r))
    return q if rows >= columns else q.T
