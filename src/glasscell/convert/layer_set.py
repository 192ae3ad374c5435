"""Layers of a file of weights, by name, without their computation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from glasscell.core.types import Array
from glasscell.escaping import escape
from glasscell.layers import LSTM, Embedding, Linear
from glasscell.layers.batch_first import ParameterLayer
from glasscell.layers.cell_stack import CellStack

MAX_LISTED = 40  # names in one message


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix of weights without a bias: PyTorch's ``nn.Embedding``, or its ``nn.Linear(bias=False)``.

    Both have the same content in a file.

    Attributes
    ----------
    array : array (V, E), or (O, I)
        Vectors of V ids as an Embedding, or weights from I to O features as a Linear.
    """

    array: Array

    def embedding(self) -> Embedding:
        """Return the matrix as a table of vectors."""
        layer = Embedding(*self.array.shape, dtype=self.array.dtype, seed=None)
        layer.parameters["weight"][:] = self.array
        return layer

    def linear(self) -> Linear:
        """Return the matrix as a linear map without a bias."""
        O, I = self.array.shape
        layer = Linear(I, O, bias=False, dtype=self.array.dtype, seed=None)
        layer.parameters["weight"][:] = self.array
        return layer

    def __repr__(self) -> str:
        return "Matrix({}, {})".format(*self.array.shape)


class Other(NamedTuple):
    """A module or tensor whose layer is not determined by weights alone.

    Attributes
    ----------
    description : str
        "an RNN", or "weight (8, 1, 3), bias (8,)".
    weights : dict of str to array
        Its tensors, by their names in the module.
    """

    description: str
    weights: dict[str, Any]


WeightedLayer: TypeAlias = LSTM | CellStack | Linear | Embedding | ParameterLayer | Matrix


class LayerSet(dict[str, WeightedLayer]):
    """Layers by the names of their modules, in the order of the file.

    The order is not the computation: a module may call its submodules in any order, with other operations between.

    Attributes
    ----------
    other : dict of str to Other
        Other modules of the file.
    without_weights : tuple of str
        Layers that the file names without weights, such as activations.
    """

    def __init__(
        self,
        layers: Mapping[str, WeightedLayer],
        other: Mapping[str, Other] | None = None,
        without_weights: Sequence[str] = (),
    ) -> None:
        super().__init__(layers)
        self.other = dict(other or {})
        self.without_weights = tuple(without_weights)

    def __repr__(self) -> str:
        lines = [f"{name}: {layer!r}" for name, layer in self.items()]
        lines += [f"{name}: {other.description}, not read" for name, other in self.other.items()]
        lines += [f"{name}: no weights" for name in self.without_weights]
        return "LayerSet({})".format("".join(f"\n    {line}" for line in lines) + "\n" * bool(lines))


def describe(layers: LayerSet) -> str:
    """Describe all layers and other modules in one line."""
    entries = [f"{printable(name)} ({sizes_of(layer)})" for name, layer in layers.items()]
    entries += [f"{printable(name)} ({other.description})" for name, other in layers.other.items()]
    entries += [f"{printable(name)} (no weights)" for name in layers.without_weights]
    omitted = len(entries) - MAX_LISTED
    return ", ".join(entries[:MAX_LISTED]) + (f" and {omitted} more" if omitted > 0 else "")


def sizes_of(layer: WeightedLayer) -> str:
    """Describe the type and sizes of a layer: "LSTM 3 → 5"."""
    if isinstance(layer, Matrix):
        return "matrix without a bias {} × {}".format(*layer.array.shape)
    if isinstance(layer, Embedding):
        return f"Embedding {layer.vocabulary_size} → {layer.embedding_size}"
    more = ""
    if isinstance(layer, LSTM | CellStack):
        bidirectional = layer.options.bidirectional if isinstance(layer, LSTM) else layer.bidirectional
        more = f", {layer.num_layers} layers" if layer.num_layers > 1 else ""
        more += ", bidirectional" if bidirectional else ""
    return f"{type(layer).__name__} {layer.input_size} → {layer.output_size}{more}"


def shapes_of(weights: Mapping[str, Any]) -> str:
    """Describe tensors by their shapes: "weight (8, 1, 3), bias (8,)"."""
    entries = [f"{printable(name)} {np.shape(array)}" for name, array in weights.items()]
    return ", ".join(entries[:6]) + (f" and {len(entries) - 6} more" if len(entries) > 6 else "")


def printable(name: str) -> str:
    """Return a name from a file with control characters escaped."""
    return escape(name[:200])


def dtype_of(layers: Mapping[str, WeightedLayer]) -> np.dtype[np.floating]:
    """Return float64 if any of the weights is, and otherwise float32."""
    arrays = (layer.array if isinstance(layer, Matrix) else layer.parameters.vector for layer in layers.values())
    return np.result_type(np.float32, *(array.dtype for array in arrays))
