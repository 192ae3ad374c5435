"""Occlusion: what changes when a step, a feature or a window is replaced by a baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core.types import Array
from glasscell.explain.baselines import resolve_baseline
from glasscell.explain.model_inputs import ModelInputs
from glasscell.explain.quantities import Output, Quantity
from glasscell.validation import choice, positive_integer

Replaced: TypeAlias = Literal["step", "feature", "value"]
KINDS = ("step", "feature", "value")


@dataclass(frozen=True, repr=False)
class Occlusion:
    """The effects of replacing parts of the inputs. Without the axis B for a single sequence.

    Attributes
    ----------
    values : array of float64
        The effect of each replacement, output - outputs: with ``replace="step"`` (B, T - window + 1), by the first step
        of the window; with "feature" (B, F); with "value" (B, T - window + 1, F). 0 for windows after the end of a
        sequence.
    outputs : array of float64
        The quantity after each replacement, of the same shape.
    output, baseline_output : array (B,) of float64
        The quantity at x, and with all inputs replaced.
    replace : {"step", "feature", "value"}
    window : int
    valid : array (B, T) of bool
        The valid steps of x.
    """

    values: Array
    outputs: Array
    output: Array
    baseline_output: Array
    replace: Replaced
    window: int
    valid: NDArray[np.bool_]

    @property
    def by_step(self) -> Array:
        """The effect of each step, (B, T): the mean over the windows that contain it, summed over features.

        Raises
        ------
        ValueError
            If features were replaced at all steps.
        """
        if self.replace == "feature":
            raise ValueError("by_step needs replace='step' or 'value', got 'feature'")
        effects = self.values.sum(axis=-1) if self.replace == "value" else self.values
        n, window = effects.shape[-1], self.window
        total, count = np.zeros((*effects.shape[:-1], n + window - 1)), np.zeros(n + window - 1)
        for k in range(window):
            total[..., k : k + n] += effects
            count[k : k + n] += 1
        return np.where(self.valid, total / count, 0.0)

    @property
    def completeness_error(self) -> Array:
        """The absolute difference of the sum of all effects and output - baseline_output, (B,).

        It measures interactions between the replaced parts, and is 0 for a linear model with ``window=1``.
        """
        total = self.values.reshape(*self.output.shape, -1).sum(axis=-1)
        return np.asarray(np.abs(total - (self.output - self.baseline_output)))

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.values.shape))
        largest = np.abs(self.values).max()
        window = f", window {self.window}" if self.window > 1 else ""
        return f"Occlusion(by {self.replace}{window}, {shape}: largest effect {largest:.4g})"


def occlusion(
    model: Any,
    x: Any,
    *,
    output: Output,
    step: ArrayLike | None = None,
    replace: Replaced = "step",
    window: int = 1,
    baseline: Any = "zeros",
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> Occlusion:
    """Replace parts of the inputs by a baseline, and return by how much a quantity decreases.

    Zeiler & Fergus (2014), Visualizing and understanding convolutional networks, section 2.1 and figure 6. The model is
    run once for each replacement: no gradient is used, so saturation does not hide an effect; but an input whose
    information is also in another one has no effect alone.

    Parameters
    ----------
    model, x, output, step, baseline, lengths, mask
        As of :func:`glasscell.explain.integrated_gradients`.
    replace : {"step", "feature", "value"}
        All features of a step; a feature at all steps; or a feature of a step.
    window : int
        Number of consecutive steps that are replaced together, 1 to T; 1 with ``replace="feature"``.

    Returns
    -------
    Occlusion

    Raises
    ------
    TypeError, ValueError, IndexError
        If an argument does not fit the model, is out of range or not finite.
    """
    choice("replace", replace, KINDS)
    positive_integer("window", window)
    if replace == "feature" and window != 1:
        raise ValueError(f"window must be 1 for replace='feature', which replaces all steps, got {window}")
    inputs = ModelInputs(model, x, lengths, mask)
    if window > inputs.T:
        raise ValueError(f"window must be at most T = {inputs.T}, got {window}")
    quantity, start = Quantity(inputs, output, step), resolve_baseline(inputs, baseline)
    T, F, B = inputs.T, inputs.num_features, inputs.B
    count = F if replace == "feature" else (T - window + 1) * (F if replace == "value" else 1)
    valid = np.ones((T, B), np.bool_) if inputs.valid is None else inputs.valid
    original, results = quantity.value(inputs.outputs)[0], np.empty((count, B))
    for part in inputs.split(count):
        replaced = _replaced(replace, window, T, F, np.arange(part.start, part.stop))  # (n, T, F)
        where = replaced[:, :, inputs.features].transpose(1, 2, 0)[..., None]  # (T, F', n, 1)
        values = np.where(where, start[:, :, None], inputs.values[:, :, None])
        outputs = quantity.value(inputs.infer(values.reshape(*start.shape[:2], -1)))
        steps: NDArray[np.bool_] = np.logical_or.reduce(replaced, axis=2)  # (n, T)
        is_valid = (steps[:, :, None] & valid).any(axis=1)  # (n, B)
        results[part] = np.where(is_valid, outputs, original)

    def to_user(array: Array) -> Array:
        rows = array.T.reshape(B, -1, F) if replace == "value" else array.T
        return np.asarray(rows[0] if inputs.single else rows).copy()

    baseline_output = quantity.value(inputs.infer(start))[0]
    ends = [np.asarray(end[0] if inputs.single else end) for end in (original, baseline_output)]
    is_step = valid.T[0] if inputs.single else valid.T
    return Occlusion(to_user(original - results), to_user(results), ends[0], ends[1], replace, window, is_step.copy())


def _replaced(replace: Replaced, window: int, T: int, F: int, index: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return which numbers the replacements of these indices change, (n, T, F)."""
    if replace == "feature":
        return np.broadcast_to(np.arange(F) == index[:, None, None], (len(index), T, F))
    starts, feature = (index, None) if replace == "step" else (index // F, index % F)
    times = np.arange(T) - starts[:, None]
    in_window = np.broadcast_to(((times >= 0) & (times < window))[:, :, None], (len(index), T, F))
    return in_window if feature is None else in_window & (np.arange(F) == feature[:, None, None])
