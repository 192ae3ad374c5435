"""The explained quantity: one number for each sequence, and its gradient on the model's outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core.activations import softmax_terms
from glasscell.core.types import Array
from glasscell.data.labelled.labels import class_numbers
from glasscell.explain.model_inputs import ModelInputs
from glasscell.validation import type_name


@dataclass(frozen=True)
class ClassScore:
    """The output (logit) of a label, of a model with ``classes``.

    Parameters
    ----------
    label : label, or list of B labels
        One of the model's classes; a list has one for each sequence.
    """

    label: Any


@dataclass(frozen=True)
class LogProbability:
    """The natural logarithm of the probability, by a softmax over the outputs, of a class or of the next symbol.

    Parameters
    ----------
    target : label, symbol or int, or a list of B of them, optional
        Of a model with ``classes`` a label; with a ``vocabulary`` a symbol or its id; of other models the index of an
        output. Default: the symbol of the next step of x, which the last step does not have.
    """

    target: Any = None


OutputFunction: TypeAlias = "Callable[[Array], tuple[ArrayLike, ArrayLike]]"
Output: TypeAlias = "int | NDArray[np.integer[Any]] | str | ClassScore | LogProbability | OutputFunction"


class Quantity:
    """One number for each sequence, computed from the outputs of ``n`` copies of the batch.

    Parameters
    ----------
    inputs : ModelInputs
    output : Output
    step : int or array (B,), optional
        Of the outputs; negative values count from the end of each sequence. Default: the sum over all valid steps.

    Raises
    ------
    TypeError, ValueError, IndexError
        If the output, the step or the label does not exist.
    """

    def __init__(self, inputs: ModelInputs, output: Any, step: Any = None) -> None:
        self.inputs, self.function = inputs, output if callable(output) else None
        self.are_numbers = inputs.layers[-1].outputs == "numbers"
        y = self._with_all_axes(inputs.outputs)
        self.B, self.S, self.O = y.shape
        if self.function is not None:
            if step is not None:
                raise ValueError(f"step must be None for a function of all outputs, got {step!r}")
            self.value(inputs.outputs)  # raises for results of the wrong shape
            return
        self.steps = self._steps(step)
        self.is_log_probability = isinstance(output, LogProbability)
        if isinstance(output, str) and output == "sum":
            self.indices: NDArray[np.intp] | None = None
            return
        if isinstance(output, ClassScore):
            indices = self._labels(output.label)
        elif isinstance(output, LogProbability):
            indices = self._targets(output.target, step)
        else:
            indices = self._integers("output", output, self.O)
        self.indices = np.broadcast_to(indices.reshape(self.B, -1), (self.B, self.S))

    def value(self, outputs: Array) -> Array:
        """Return the values (n, B), in float64, of outputs (n·B, …)."""
        if self.function is not None:
            return self._call(outputs)[0]
        return self._of_rows(outputs)[0]

    def gradient(self, outputs: Array) -> Array:
        """Return the gradient of the values on outputs (n·B, …), of their shape."""
        if self.function is not None:
            return self._call(outputs)[1]
        return self._of_rows(outputs)[1].reshape(outputs.shape)

    def _of_rows(self, outputs: Array) -> tuple[Array, Array]:
        y = self._with_all_axes(outputs).reshape(-1, self.B, self.S, self.O).astype(np.float64)
        weights = self.steps[..., None]  # (B, S, 1)
        if self.indices is None:
            gradient = np.broadcast_to(weights, y.shape).astype(np.float64)
            return np.where(weights, y, 0).sum(axis=(-2, -1)), gradient
        chosen = self.indices[..., None] == np.arange(self.O)  # (B, S, O)
        if not self.is_log_probability:
            selected = chosen & weights
            gradient = np.broadcast_to(selected, y.shape).astype(np.float64)
            return np.where(selected, y, 0).sum(axis=(-2, -1)), gradient
        shifted, exponentials, total = softmax_terms(y)
        value = np.where(chosen & weights, shifted - np.log(total), 0).sum(axis=(-2, -1))
        return value, np.where(weights, chosen - exponentials / total, 0)

    def _call(self, outputs: Array) -> tuple[Array, Array]:
        """Call the user's function on the outputs of each copy of the batch."""
        assert self.function is not None  # noqa: S101 - the callers have checked
        single, values, gradients = self.inputs.single, [], []
        for rows in outputs.reshape(-1, *self.inputs.outputs.shape):
            y = rows[0] if single else rows
            result = self.function(y.copy())
            if not isinstance(result, tuple) or len(result) != 2:
                raise TypeError(f"output must return (value, gradient on the outputs), got {type_name(result)}")
            value, gradient = (np.asarray(part, np.float64) for part in result)
            shape = () if single else (self.B,)
            if value.shape != shape or gradient.shape != y.shape:
                raise ValueError(
                    f"output must return a value of shape {shape} and a gradient of shape {y.shape}, "
                    f"got {value.shape} and {gradient.shape}"
                )
            if not (np.isfinite(value).all() and np.isfinite(gradient).all()):
                raise ValueError("output must return a finite value and gradient, got NaN or infinity")
            values.append(value.reshape(self.B))
            gradients.append(gradient.reshape(rows.shape))
        return np.stack(values), np.concatenate(gradients)

    def _with_all_axes(self, outputs: Array) -> Array:
        """Return outputs as (N, S, O): S = 1 with one output per sequence, O = 1 for numbers."""
        y = outputs[..., None] if self.are_numbers else outputs
        return y if y.ndim == 3 else y[:, None]

    def _steps(self, step: Any) -> NDArray[np.bool_]:
        """Return which steps of the outputs count, (B, S)."""
        valid = np.ones((self.B, self.S), np.bool_)
        if self.inputs.outputs_valid is not None and self.inputs.num_steps is not None:
            valid = self.inputs.outputs_valid.T
        if step is None:
            return valid
        if self.inputs.num_steps is None:
            raise ValueError(f"step must be None for a model with one output per sequence, got {step!r}")
        steps = self._integers("step", step, self.S, signed=True)
        result = np.zeros_like(valid)
        for b, t in enumerate(steps):
            times = np.flatnonzero(valid[b])
            if t < 0 and t >= -len(times):
                result[b, times[t]] = True
            elif t >= 0 and valid[b, t]:
                result[b, t] = True
            else:
                raise IndexError(f"step must be one of the {len(times)} valid steps of sequence {b}, got {t}")
        return result

    def _integers(self, name: str, value: Any, size: int, *, signed: bool = False) -> NDArray[np.intp]:
        """Return integers (B,) below `size`, from one for all sequences or one for each."""
        array = np.asarray(value)
        if array.dtype.kind not in "iu":
            kinds = ", 'sum', a ClassScore, a LogProbability or a function" if name == "output" else ""
            raise TypeError(f"{name} must be an integer, or one for each sequence{kinds}, got {value!r:.100}")
        if array.shape not in ((), (self.B,)):
            raise ValueError(f"{name} must have shape () or (B,) = ({self.B},), got {array.shape}")
        low = -size if signed else 0
        if array.min() < low or array.max() >= size:
            raise IndexError(f"{name} must be from {low} to {size - 1}, got {value!r:.100}")
        return np.broadcast_to(array, (self.B,)).astype(np.intp)

    def _labels(self, label: Any) -> NDArray[np.intp]:
        classes = getattr(self.inputs.model, "classes", None)
        if classes is None:
            raise TypeError(f"ClassScore needs a model with classes, got {type_name(self.inputs.model)}")
        entries = label if isinstance(label, list | tuple | np.ndarray) else [label] * self.B
        numbers: NDArray[np.intp] = np.asarray(class_numbers(entries, classes, "label"), np.intp)
        if numbers.shape != (self.B,):
            raise ValueError(f"label must be one label, or one for each of {self.B} sequences, got {len(entries)}")
        return numbers

    def _targets(self, target: Any, step: Any) -> NDArray[np.intp]:
        """Return the index of the output whose probability is explained: (B,), or (B, S)."""
        model = self.inputs.model
        if target is None:
            return self._next_symbols(step)
        if hasattr(model, "classes"):
            return self._labels(target)
        if hasattr(model, "vocabulary"):
            entries = target if isinstance(target, list | tuple | np.ndarray) else [target] * self.B
            target = [_symbol_id(model.vocabulary, entry) if isinstance(entry, str) else entry for entry in entries]
        return self._integers("target", target, self.O)

    def _next_symbols(self, step: Any) -> NDArray[np.intp]:
        """Return the symbol after each step (B, S); leave the last step out of a sum over all steps."""
        inputs = self.inputs
        if inputs.kind != "ids" or self.S != inputs.T or inputs.layers[0].vocabulary_size != self.O:
            raise ValueError("target must be stated for a model that does not predict the next symbol of x")
        ids = np.atleast_2d(np.asarray(inputs.x)).astype(np.intp)
        following = np.zeros((self.B, self.S), np.intp)
        has_next = np.zeros((self.B, self.S), np.bool_)
        for b in range(self.B):
            times = np.arange(self.S) if inputs.valid is None else np.flatnonzero(inputs.valid[:, b])
            following[b, times[:-1]] = ids[b, times[1:]]
            has_next[b, times[:-1]] = True
        if step is not None and (self.steps & ~has_next).any():
            raise ValueError("target must be stated for the last step, after which x has no symbol")
        self.steps = self.steps & has_next
        return following


def _symbol_id(vocabulary: Any, symbol: str) -> int:
    """Return the id of a symbol of a vocabulary."""
    ids = vocabulary.encode(symbol, "target")
    if len(ids) != 1:
        raise ValueError(f"target must be one symbol of the vocabulary, got {symbol!r}, which is {len(ids)}")
    return int(ids[0])
