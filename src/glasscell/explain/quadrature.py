"""Points and weights on the line from a baseline to the inputs: more points where the outputs of the model bend most.

A trained recurrent model can change from one answer to another within a hundredth of that line. With points that do not
depend on the model, the integral of the gradient over such a line is then off by tenths.
"""

from __future__ import annotations

import numpy as np

from glasscell.core.norms import vector_norms
from glasscell.core.types import Array
from glasscell.explain.model_inputs import ModelInputs

PANEL_POINTS = 8  # of the Gauss–Legendre rule on each panel
UNIFORM_SHARE = 0.1  # of the density of panels, which does not depend on the model


def path_quadrature(inputs: ModelInputs, start: Array, steps: int) -> tuple[Array, Array]:
    """Return points in [0, 1] and their weights, (steps, B) each, for the line from `start` (T, F, B) to the inputs.

    A composite Gauss–Legendre rule: panels of up to 8 points, whose ends have equal integrals of the square root of the
    curvature of the outputs between them, by second differences of 2·steps + 1 forward passes: the density of knots of
    de Boor (1973), Good approximation by splines with variable knots.
    """
    count = -(-steps // PANEL_POINTS)
    edges = np.tile(np.array([[0.0], [1.0]]), inputs.B)
    if count > 1:
        edges = _equal_parts(_density(inputs, start, 2 * steps), count)
    sizes = [len(part) for part in np.array_split(np.arange(steps), count)]
    rules = {size: np.polynomial.legendre.leggauss(size) for size in {*sizes}}
    alphas, weights = [], []
    for low, high, size in zip(edges[:-1], edges[1:], sizes, strict=True):
        nodes, rule_weights = (array[:, None] for array in rules[size])
        alphas.append(low + (high - low) * (nodes + 1) / 2)
        weights.append((high - low) * rule_weights / 2)
    return np.concatenate(alphas), np.concatenate(weights)


def points_on_path(inputs: ModelInputs, start: Array, alphas: Array) -> Array:
    """Return the numbers (T, F, n·B) at the points alphas (n, B) of the line from `start` to the inputs."""
    origin = start.astype(np.float64)
    points = origin[:, :, None] + alphas * (inputs.values - origin)[:, :, None]  # (T, F, n, B)
    return np.asarray(points.reshape(*start.shape[:2], -1), inputs.values.dtype)


def _density(inputs: ModelInputs, start: Array, intervals: int) -> Array:
    """Return the density of panels in equal intervals of the line, (intervals, B), of sum 1."""
    grid = np.linspace(0, 1, intervals + 1)
    bends, last = [], np.zeros((0, inputs.B, inputs.outputs[0].size))
    for part in inputs.split(len(grid)):
        alphas = np.repeat(grid[part, None], inputs.B, axis=1)
        y = inputs.infer(points_on_path(inputs, start, alphas)).reshape(len(alphas), *inputs.outputs.shape)
        if inputs.outputs_valid is not None and inputs.num_steps is not None:
            valid = inputs.outputs_valid.T.reshape(*inputs.outputs.shape[:2], *[1] * (y.ndim - 3))
            y = np.where(valid, y, y.dtype.type(0))
        last = np.concatenate([last, y.reshape(*y.shape[:2], -1)])
        bends.append(vector_norms(np.diff(last, 2, axis=0)))
        last = last[-2:]
    bend = np.concatenate(bends)  # at the inner points of the grid
    density = np.sqrt((np.concatenate([bend[:1], bend]) + np.concatenate([bend, bend[-1:]])) / 2)
    total = density.sum(axis=0)
    density = np.divide(density, total, out=np.full_like(density, 1 / intervals), where=total > 0)
    return np.asarray((1 - UNIFORM_SHARE) * density + UNIFORM_SHARE / intervals)


def _equal_parts(density: Array, count: int) -> Array:
    """Return the ends of this number of panels with equal integrals of the density, (count + 1, B)."""
    grid, shares = np.linspace(0, 1, len(density) + 1), np.linspace(0, 1, count + 1)
    integral = np.concatenate([np.zeros((1, density.shape[1])), np.cumsum(density, axis=0)])
    edges = np.stack([np.interp(shares, column / column[-1], grid) for column in integral.T], axis=1)
    edges[0], edges[-1] = 0, 1
    return edges
