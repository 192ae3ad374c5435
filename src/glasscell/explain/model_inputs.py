"""A model as a differentiable function of the numbers that its inputs become. Private to the package.

These are the inputs themselves or, for ids, the vectors of an Embedding or a FeatureEmbedding in front. The valid steps
are those of the inputs to be explained: a baseline and the points between them keep the masks of every layer, also of a
:class:`~glasscell.layers.Masking`, whose mask depends on the values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core.layouts import first_axis_last, last_axis_first
from glasscell.core.types import Array
from glasscell.explain.padding import is_ragged, pad_sequences
from glasscell.validation import as_array, prepare_inputs, type_name

MAX_SEQUENCE_STEPS = 1 << 14  # steps of all sequences of one pass: larger problems are computed in parts
MAX_OUTPUT_VALUES = 1 << 22  # outputs of one pass, such as the logits of a large vocabulary


class ModelInputs:
    """The inputs to be explained, and the model from there on.

    Parameters
    ----------
    model : Model or RecurrentLayer
    x : array (B, T, I) or (T, I); ids (B, T) or (T,); bits (n,) of a CopyLSTM; text of a LanguageModel
        Or a list of arrays (T_n, I) or ids (T_n,) of different lengths.
    lengths, mask : array, optional
        The valid steps, as in :meth:`glasscell.Sequential.forward`.

    Attributes
    ----------
    x : array
        The inputs as the model takes them.
    values : array (T, F, B)
        The numbers that are explained: features, or vectors of symbols, 0 at invalid steps.
    features : array (F,) of int
        The feature of the results that each of them belongs to: with a FeatureEmbedding, the column of x.
    valid : array (T, B) of bool, or None
        The valid steps of the inputs.
    outputs_valid : array (S, B) of bool, or None
        The valid steps of the outputs.
    single : bool
        Whether x has no batch axis.
    outputs : array (B, …)
        The outputs for x.

    Raises
    ------
    TypeError, ValueError
        If the model has no layers, its inputs have no gradient, or x does not fit, is not finite or has no step.
    """

    def __init__(self, model: Any, x: Any, lengths: ArrayLike | None = None, mask: ArrayLike | None = None) -> None:
        self.model, self.layers = model, layers_of(model)
        self.names = list(getattr(model, "names", ["0"]))
        self.kind: str = self.layers[0].inputs
        self.has_id_columns = hasattr(self.layers[0], "segments")
        self._check_gradient()
        if is_ragged(x):
            if mask is not None:
                raise ValueError("mask must be None for a list of sequences of different lengths")
            x, lengths = pad_sequences(x, lengths)
        self.is_payload = hasattr(model, "task") and not isinstance(x, str | bytes) and as_array("x", x).ndim == 1
        self.x = self.as_model_inputs("x", x)
        size = _input_size(self.layers)
        prepared, self.valid, self.single = prepare_inputs(
            self.x, lengths, mask, size, model.dtype, self.kind, copy=True
        )
        if not prepared.size:
            raise ValueError(f"x must have at least one step, got shape {np.shape(self.x)}")
        self.T, self.B = prepared.shape[0], prepared.shape[-1]
        self._masks: list[NDArray[np.bool_] | None] = []
        self.values = self.lookup("x", prepared)
        self.features = np.arange(self.values.shape[1])
        if self.has_id_columns:
            columns = [
                np.full(target.stop - target.start, source.start) if column is not None else np.r_[source]
                for column, source, target in self.layers[0].segments()
            ]
            self.features = np.concatenate(columns)
        self.outputs = self.infer(self.values).copy()
        self.outputs_valid = self._masks[-1]
        self.num_steps = self.outputs.shape[1] if self._has_time(self.outputs) else None  # S; None: one per sequence
        self._check_order_of_outputs()

    def as_model_inputs(self, name: str, x: Any) -> NDArray[Any]:
        """Return inputs as the model takes them: bits and text are encoded by its task and its vocabulary."""
        if isinstance(x, str | bytes):
            if not hasattr(self.model, "vocabulary"):
                raise TypeError(f"{name} must be an array for a model without a vocabulary, got text")
            ids: NDArray[Any] = self.model.vocabulary.encode(x, name)
            return ids
        array = as_array(name, x)
        if self.is_payload and array.ndim == 1:
            payload = self.model.task.validate_payload(x)
            inputs: NDArray[Any] = self.model.task.make_batch([payload[None]], self.model.dtype).inputs[0]
            return inputs
        return array

    def lookup(self, name: str, prepared: Any) -> Array:
        """Return the numbers (T, F, B) of inputs in core's layout, which are ids (T, B), numbers (T, B) or features."""
        if self.kind == "ids":
            result = self._embed(_check_ids(name, prepared, self.layers[0].vocabulary_size))
        elif self.has_id_columns:
            for column, (V, _) in self.layers[0].columns.items():
                _check_ids(f"column {column} of {name}", prepared[:, column], V)
            result = self._embed(prepared)
        else:
            result = prepared[:, None] if self.kind == "numbers" else prepared
        return result if self.valid is None else np.where(self.valid[:, None], result, result.dtype.type(0))

    def infer(self, values: Array) -> Array:
        """Return the outputs (n·B, …) for values (T, F, n·B) of n copies of the batch."""
        return last_axis_first(self._run(values, keep_tapes=False)[0])

    def run(self, values: Array) -> tuple[Array, list[Any]]:
        """Return the outputs of :meth:`infer`, and the tapes of a backward pass."""
        y, tapes = self._run(values, keep_tapes=True)
        return last_axis_first(y), tapes

    def gradient(self, tapes: list[Any], d_outputs: Array) -> Array:
        """Return the gradient on the values, from that on the outputs (n·B, …): the adjoint of :meth:`run`."""
        d: Any = np.ascontiguousarray(first_axis_last(d_outputs.astype(self.model.dtype)))
        first = self._first_layer
        for layer, name, tape in reversed(list(zip(self.layers[first:], self.names[first:], tapes, strict=True))):
            if layer.stateful:
                d, _ = layer.backward_with_state(tape, d, None, None, None, need_dx=True)
            else:
                d = layer.backward_feature_major(tape, d, None, None, True)
            if d is None:
                raise ValueError(f"model must have a gradient on its inputs; layer {name!r} has none")
        result: Array = d[:, None] if self.kind == "numbers" else d
        return result

    def split(self, repeats: int) -> list[slice]:
        """Return the parts of this number of copies of the sequences, each of which one pass computes."""
        size = max(1, min(MAX_SEQUENCE_STEPS // (self.T * self.B), MAX_OUTPUT_VALUES // self.outputs.size))
        return [slice(start, min(start + size, repeats)) for start in range(0, repeats, size)]

    def to_user(self, values: Array) -> Array:
        """Return shares (T, F, B) by feature, (B, T, features) or (T, features); 0 at invalid steps."""
        if self.has_id_columns:
            values = (np.arange(self.num_features)[:, None] == self.features).astype(values.dtype) @ values
        if self.valid is not None:
            values = np.where(self.valid[:, None], values, values.dtype.type(0))
        return values[..., 0].copy() if self.single else last_axis_first(values).copy()

    def user_mask(self, repeats: int = 1) -> NDArray[np.bool_] | None:
        """Return the valid steps (repeats·B, T) of a batch; None: all."""
        return None if self.valid is None else np.tile(self.valid.T, (repeats, 1))

    @property
    def num_features(self) -> int:
        """Number of features of results."""
        return int(self.features[-1]) + 1

    @property
    def _first_layer(self) -> int:
        return 1 if self.kind == "ids" or self.has_id_columns else 0

    def _embed(self, symbols: Any) -> Array:
        """Return the vectors (T, F, B) that the first layer looks up; the first call, for x, records its mask."""
        result = self.layers[0].forward_feature_major(symbols, self.valid, None, None, None, keep_tape=False)
        if not self._masks:
            self._masks.append(result.mask)
            self.valid = None if result.mask is None or result.mask.all() else result.mask
        return np.array(result.outputs, order="C")

    def _run(self, values: Array, *, keep_tapes: bool) -> tuple[Array, list[Any]]:
        """Run the layers. The first run, of x, records the mask after each layer; all others use these masks."""
        x, tapes, first = values, list[Any](), self._first_layer
        if self.kind == "numbers":
            x = values[:, 0]
        records, repeats = len(self._masks) <= first, values.shape[-1] // self.B
        mask = self._masks[0] if first else self.valid
        for k, layer in enumerate(self.layers[first:], start=first):
            tiled = mask if mask is None or repeats == 1 else np.tile(mask, (1, repeats))
            x, output_mask, _, tape = layer.forward_feature_major(x, tiled, None, None, None, keep_tape=keep_tapes)
            tapes.append(tape)
            if records:
                self._masks.append(output_mask)
            mask = self._masks[k]
        if not np.isfinite(x).all():
            raise ValueError(f"outputs of the model must be finite, got {x[~np.isfinite(x)][0]}")
        return x, tapes

    def _has_time(self, outputs: Array) -> bool:
        """Return whether outputs (B, …) have an axis of time."""
        return outputs.ndim == (2 if self.layers[-1].outputs == "numbers" else 3)

    def _check_gradient(self) -> None:
        for name, layer in list(zip(self.names, self.layers, strict=True))[1:]:
            columns = getattr(layer, "columns", None)
            if columns:
                raise ValueError(
                    f"model must have a gradient on all features; columns {[*columns]} of layer {name!r} are ids: "
                    "explain a model of the layers behind it"
                )

    def _check_order_of_outputs(self) -> None:
        """Raise ValueError for outputs that begin with padding: the mask is that of the inputs."""
        options = [getattr(layer, "options", None) for layer in self.layers]
        in_processing_order = any(getattr(entry, "outputs_in", "time") == "processing" for entry in options)
        if in_processing_order and self.num_steps and self.outputs_valid is not None and not self.outputs_valid.all():
            raise ValueError("lengths and mask must be None for outputs_in='processing', which begin with padding")


def layers_of(model: Any) -> list[Any]:
    """Return the layers of a model, or a recurrent layer as the only one.

    Raises
    ------
    TypeError
        If it is neither.
    """
    layers = [] if isinstance(model, type) else list(getattr(model, "layers", [model]))
    if not layers or not all(hasattr(layer, "forward_feature_major") for layer in layers):
        raise TypeError(f"model must be a model of layers or a recurrent layer, got {type_name(model)}")
    return layers


def _check_ids(name: str, ids: Any, V: int) -> NDArray[Any]:
    """Return ids, if all are integers from 0 to V - 1."""
    symbols = np.asarray(ids)
    if symbols.dtype.kind == "f" and np.array_equal(symbols, np.trunc(symbols)):
        symbols = symbols.astype(np.int64)
    if symbols.dtype.kind not in "iu":
        raise TypeError(f"{name} must be ids, got dtype {symbols.dtype}")
    if symbols.min(initial=0) < 0 or symbols.max(initial=0) >= V:
        raise ValueError(f"{name} must be ids from 0 to {V - 1}, got {symbols.min()} to {symbols.max()}")
    return symbols


def _input_size(layers: list[Any]) -> int | None:
    """Return the number of input features that a layer determines; None: any."""
    for layer in layers:
        if layer.input_features is not None:
            return int(layer.input_features)
        if not layer.keeps_feature_count:
            break
    return None
