"""Attribution: the share of each input in one number that a model computes, with a check of its completeness."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.types import Array
from glasscell.explain.baselines import resolve_baseline
from glasscell.explain.model_inputs import ModelInputs
from glasscell.explain.quadrature import path_quadrature, points_on_path
from glasscell.explain.quantities import Output, Quantity
from glasscell.validation import positive_integer

TOLERANCE = 1e-3  # of the completeness error, relative to the difference of the outputs where that is above 1


@dataclass(frozen=True, repr=False)
class Attribution:
    """The share of each input in a quantity. Without the axis B for a single sequence.

    Attributes
    ----------
    values : array (B, T, F) of float64
        In the unit of the quantity; 0 at invalid steps. F are the features or, for a model of ids, those of the vector
        of a symbol.
    output, baseline_output : array (B,) of float64
        The quantity at x, and at the baseline.
    method : str
    steps : int
        Number of points on the path from the baseline to x at which the gradient was computed.
    """

    values: Array
    output: Array
    baseline_output: Array
    method: str
    steps: int

    @property
    def by_step(self) -> Array:
        """The share of each step or symbol, (B, T): the sum over the features."""
        return np.asarray(self.values.sum(axis=-1))

    @property
    def completeness_error(self) -> Array:
        """The absolute difference of Σ values and output - baseline_output, (B,), in the unit of the quantity."""
        return np.asarray(np.abs(self.values.sum(axis=(-2, -1)) - (self.output - self.baseline_output)))

    @property
    def is_complete(self) -> bool:
        """Whether the completeness error is at most 1e-3 of every sequence.

        Relative to the difference of the outputs, if that is above 1.
        """
        bound = TOLERANCE * np.maximum(1, np.abs(self.output - self.baseline_output))
        return bool((self.completeness_error <= bound).all())

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.values.shape))
        many = self.output.ndim > 0
        values = "" if many else f"output {self.output:.4g}, baseline {self.baseline_output:.4g}, "
        error = f"{'largest ' * many}completeness error {self.completeness_error.max():.2g}"
        return f"Attribution({self.method}, {shape}: {values}{error}{'' if self.is_complete else ', above 1e-3'})"


def integrated_gradients(
    model: Any,
    x: Any,
    *,
    output: Output,
    step: ArrayLike | None = None,
    baseline: Any = "zeros",
    steps: int = 64,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> Attribution:
    """Attribute the difference of a quantity at x and at a baseline to the inputs.

    Sundararajan, Taly & Yan (2017), Axiomatic attribution for deep networks, equation 1: each input gets its difference
    from the baseline times the mean of its gradient on the straight line from the baseline x' to x,
    (x - x') ∫₀¹ ∂F(x' + α (x - x'))/∂x dα. The attributions add up to the difference of the outputs (completeness),
    which is checked. The integral is a composite Gauss–Legendre quadrature with panels of 8 points, shorter where the
    outputs bend most along the line: see :mod:`glasscell.explain.quadrature`.

    Parameters
    ----------
    model : Model or RecurrentLayer
    x : array (B, T, I) or (T, I)
        Or ids (B, T) or (T,), whose attributions are those of the vectors of the model's Embedding; bits (n,) of a
        CopyLSTM; text of a LanguageModel. A list of arrays (T_n, I) or ids (T_n,) of different lengths is a batch that
        is padded at the ends.
    output : int, array (B,) of int, "sum", ClassScore, LogProbability, or callable
        The explained quantity: an output by its index, the sum of all outputs, the score of a label, the log
        probability of a class or symbol; or a function that takes the outputs, as the model returns them, and returns
        its value, (B,) or () for a single sequence, and its gradient on the outputs.
    step : int or array (B,) of int, optional
        The step of the output; negative values count from the end of each sequence. Default: the sum over all valid
        steps, or the only output of a model with one per sequence.
    baseline : "zeros", number, or array
        (I,), (T, I) or (B, T, I), such as :func:`mean_input` of the data, or another sequence. For ids: "zeros" for
        vectors of 0, a symbol or an id for all steps, ids (T,) or (B, T), text, or vectors (E,), (T, E) or (B, T, E).
        Default: zeros.
    steps : int
        Number of points of the quadrature. Each is one forward and one backward pass; above 8, twice as many forward
        passes find the panels.
    lengths, mask : array, optional
        The valid steps, as in the model's ``forward``. Masks are those of x, also at the baseline.

    Returns
    -------
    Attribution

    Warns
    -----
    RuntimeWarning
        If the completeness error is above 1e-3: pass more steps.

    Raises
    ------
    TypeError, ValueError, IndexError
        If an argument does not fit the model, is out of range or not finite, or the inputs have no gradient.
    """
    positive_integer("steps", steps)
    inputs = ModelInputs(model, x, lengths, mask)
    quantity, start = Quantity(inputs, output, step), resolve_baseline(inputs, baseline)
    mean_gradient = _integrate(inputs, quantity, start, *path_quadrature(inputs, start, steps))
    result = _attribution(inputs, quantity, start, mean_gradient, "integrated gradients", steps)
    if not result.is_complete:
        worst = float(result.completeness_error.max())
        warnings.warn(
            f"the completeness error is {worst:.2g} with steps={steps}: pass more steps", RuntimeWarning, stacklevel=2
        )
    return result


def gradient_times_input(
    model: Any,
    x: Any,
    *,
    output: Output,
    step: ArrayLike | None = None,
    baseline: Any = "zeros",
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> Attribution:
    """Multiply the gradient of a quantity at x by the difference of x from a baseline.

    Shrikumar et al. (2016), Not just a black box: the first-order estimate of what each input contributes. It is exact
    for a linear model only: the completeness error is a measure of how far the model is from that. Where gates and
    sigmoids are saturated, gradients vanish although the input matters; :func:`integrated_gradients` does not have this
    fault.

    Parameters
    ----------
    model, x, output, step, baseline, lengths, mask
        As of :func:`integrated_gradients`.

    Returns
    -------
    Attribution
    """
    inputs = ModelInputs(model, x, lengths, mask)
    quantity, start = Quantity(inputs, output, step), resolve_baseline(inputs, baseline)
    gradient = _integrate(inputs, quantity, start, *np.ones((2, 1, inputs.B)))
    return _attribution(inputs, quantity, start, gradient, "gradient times input", 1)


def _integrate(inputs: ModelInputs, quantity: Quantity, start: Array, alphas: Array, weights: Array) -> Array:
    """Return Σ_k w_k ∂F/∂x at x' + α_k (x - x'), (T, F, B) in float64, for α and w (n, B)."""
    total = np.zeros(inputs.values.shape)
    for part in inputs.split(len(alphas)):
        outputs, tapes = inputs.run(points_on_path(inputs, start, alphas[part]))
        gradient = inputs.gradient(tapes, quantity.gradient(outputs)).reshape(*total.shape[:2], -1, inputs.B)
        total += np.einsum("nb,tfnb->tfb", weights[part], gradient, dtype=np.float64)
    return total


def _attribution(
    inputs: ModelInputs, quantity: Quantity, start: Array, gradient: Array, method: str, steps: int
) -> Attribution:
    """Return the gradient times the difference from the baseline, with the quantity at both ends."""
    values = inputs.to_user((inputs.values.astype(np.float64) - start.astype(np.float64)) * gradient)
    ends = [quantity.value(inputs.outputs)[0], quantity.value(inputs.infer(start))[0]]
    output, baseline_output = (end[0] if inputs.single else end for end in ends)
    return Attribution(values, np.asarray(output), np.asarray(baseline_output), method, steps)
