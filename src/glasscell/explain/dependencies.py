"""Dependency: by how much each output changes when one input is replaced, exactly and by the Jacobian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core.layouts import first_axis_last
from glasscell.core.types import Array
from glasscell.data.batch import AnyArray
from glasscell.explain.activations import BATCH_SIZE, blocks, with_features
from glasscell.explain.model_inputs import ModelInputs
from glasscell.explain.places import (
    Input,
    Output,
    Places,
    Replacement,
    Replacer,
    has_output,
    num_symbols,
    read_inputs,
    read_outputs,
)
from glasscell.explain.samples import Samples, Which, read_samples
from glasscell.validation import positive_integer

MAX_BACKWARD_PASSES = 4096  # of one block of sequences


@dataclass(frozen=True, eq=False, repr=False)
class Dependency:
    """Mean change of each output when one input is replaced.

    Attributes
    ----------
    outputs, inputs : tuple of str
        Names of the J outputs and the K inputs.
    exact : array (J, K)
        Mean of abs(y(x') - y(x)), where x' is x with the input replaced: by forward passes.
    linear : array (J, K)
        Mean of abs(∂y/∂x · (x' - x)): by backward passes. Where it differs from `exact`, the model is not linear
        between both inputs.
    output_places, input_places : tuple
        Step and feature of each.
    count : array (J, K) of int
        Number of sequences that have both; means over none are NaN.
    replacement : str
        Name of the rule, or "value".
    source : str
        Where the sequences come from.
    """

    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    exact: Array
    linear: Array
    output_places: tuple[Output, ...]
    input_places: tuple[Input, ...]
    count: NDArray[np.intp]
    replacement: str
    source: str

    def strongest(self) -> NDArray[np.intp]:
        """Return the input that each output depends on most, (J,), by `exact`."""
        strongest: NDArray[np.intp] = np.where(np.isnan(self.exact), -1.0, self.exact).argmax(axis=1)
        return strongest

    def __repr__(self) -> str:
        J, K = self.exact.shape
        return f"Dependency({J} outputs × {K} inputs, replacement {self.replacement!r}: {self.source})"


def dependency(
    model: Any,
    x: Any,
    *,
    inputs: Places | None = None,
    outputs: Places | None = None,
    replacement: Replacement = None,
    which: Which | None = None,
    lengths: ArrayLike | None = None,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
) -> Dependency:
    """Return by how much each output depends on each input: by replacing it, and by the Jacobian.

    The exact part is occlusion of single inputs, Zeiler & Fergus (2014), by another value instead of 0; the linear part
    is the first-order term of the same change. Outputs are those of the model, such as logits.

    Parameters
    ----------
    model : layer or model
        With a layer that can be traced.
    x, which, lengths, batch_size
        As in :func:`decodability`.
    inputs : sequence of int or (step, feature), optional
        Inputs to replace: a step with all its features, or one feature. Default: the bits of a copy task, or each step.
    outputs : sequence of int or (step, output), optional
        Outputs; of a step the mean over its features. For models with one vector per sequence, numbers of outputs.
        Default: the outputs of the bits of a copy task; all steps; or all outputs of a vector.
    replacement : "flip", "mean", "other", number or array, optional
        "flip": the other one of two values, such as of a bit. "mean": the mean of the input over the sequences.
        "other", for ids: a symbol drawn once for each symbol, never the same one. A number, id, or array that
        broadcasts to the inputs. Default: "flip" for a copy task, "other" for ids.
    seed : int
        Of the other symbols.

    Returns
    -------
    Dependency

    Raises
    ------
    TypeError, ValueError
        If an input or output does not exist, has no two values to flip, or if the replacement does not fit.

    Examples
    --------
    >>> import glasscell as gc
    >>> model = gc.CopyLSTM(8, task=gc.tasks.Copy(width=4))  # not trained
    >>> result = gc.explain.dependency(model, model.task)
    >>> result.exact.shape, result.outputs[3], result.inputs[3]
    ((4, 4), 'step 8, output 0', 'step 3, feature 0')
    """
    size = positive_integer("batch_size", batch_size)
    samples = read_samples(model, x, None, lengths, which, needs_labels=False)
    replacer = Replacer(samples, replacement, num_symbols(model), seed)
    input_places = read_inputs(samples, inputs)
    replaced = [replacer(place) for place in input_places]
    totals: Any = 0
    for rows in blocks(len(samples), size):
        batch = samples.rows(rows)
        function = ModelInputs(model, batch.inputs, batch.lengths)
        clean = with_features(model, function.outputs)
        output_places = read_outputs(samples, outputs, clean.shape)
        seen = _seen(batch.valid, function.outputs_valid, input_places, output_places)  # (N, J, K)
        others = [changed[rows] for changed in replaced]
        exact = [_exact(model, batch, clean, other, output_places) for other in others]
        linear = _linear(function, clean.shape, output_places, others)
        parts = np.stack([np.stack(exact, axis=2), linear, np.ones_like(linear)])  # (3, N, J, K)
        totals = totals + np.where(seen, parts, 0.0).sum(axis=1)
    count = totals[2]
    exact_mean, linear_mean = np.divide(totals[:2], count, out=np.full(totals[:2].shape, np.nan), where=count > 0)
    return Dependency(
        tuple(place.name for place in output_places),
        tuple(place.name for place in input_places),
        exact_mean,
        linear_mean,
        tuple(output_places),
        tuple(input_places),
        count.astype(np.intp),
        replacer.rule,
        samples.source,
    )


def _seen(
    valid: NDArray[np.bool_], outputs_valid: NDArray[np.bool_] | None, inputs: list[Input], outputs: list[Output]
) -> NDArray[np.bool_]:
    """Return which sequences have the steps of both, (N, J, K), from valid steps (N, T) and those of outputs (S, N)."""
    by_input = np.stack([valid[:, place.step] for place in inputs], axis=1)
    by_output = np.stack([has_output(outputs_valid, place, len(valid)) for place in outputs], axis=1)
    result: NDArray[np.bool_] = by_output[:, :, None] & by_input[:, None, :]
    return result


def _exact(model: Any, batch: Samples, clean: Array, other: AnyArray, outputs: list[Output]) -> Array:
    """Return abs(y(x') - y(x)) of each output, (N, J)."""
    changed = with_features(model, model(other, lengths=batch.lengths))
    change = np.abs(changed.astype(np.float64) - clean)
    columns = [[change[index] for index in place.features(change.shape[-1])] for place in outputs]
    return np.stack([np.mean(column, axis=0) for column in columns], axis=1)


def _linear(function: ModelInputs, shape: tuple[int, ...], outputs: list[Output], others: list[AnyArray]) -> Array:
    """Return abs(∂y/∂x · (x' - x)) of each output and replaced input, (N, J, K)."""
    places = [place.features(shape[-1]) for place in outputs]
    passes = sum(map(len, places))
    if passes > MAX_BACKWARD_PASSES:
        raise ValueError(f"outputs must be at most {MAX_BACKWARD_PASSES} numbers, one backward pass each, got {passes}")
    changes = [
        function.lookup("x", first_axis_last(other)).astype(np.float64) - function.values for other in others
    ]  # (T, F, N)
    _, tapes = function.run(function.values)
    result = np.zeros((function.B, len(outputs), len(others)))
    for j, features in enumerate(places):
        for index in features:
            d_outputs = np.zeros(shape)
            d_outputs[index] = 1
            gradient = function.gradient(tapes, d_outputs.reshape(function.outputs.shape))
            for k, change in enumerate(changes):
                result[:, j, k] += np.abs((gradient * change).sum(axis=(0, 1))) / len(features)
    return result
