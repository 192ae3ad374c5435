"""Layers that a file of weights holds, by name, without the computation that joins them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from glasscell.core.typing import Array
from glasscell.layers import LSTM, Embedding, Linear

MAX_LISTED = 40  # names in one message


@dataclass(frozen=True)
class Matrix:
    """A matrix of weights without a bias: PyTorch's ``nn.Embedding``, or its ``nn.Linear(bias=False)``.

    A file holds the same for both.

    Attributes
    ----------
    array : array (V, E), or (O, I)
        Vectors of V symbols as an Embedding, or weights from I to O features as a Linear.
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


WeightedLayer: TypeAlias = LSTM | Linear | Embedding | Matrix


class LayerSet(dict[str, WeightedLayer]):
    """Layers by the names of their modules, in the order of the file.

    The order is no computation: a module may call its parts in any order, with anything between them.

    Attributes
    ----------
    other : dict of str to str
        Modules and tensors of the file that are none of these layers, and what they are: "a GRU", "weight (8, 1, 3)".
    settings : str
        What is assumed of the layers beyond their weights, "" if nothing is.
    """

    def __init__(
        self, layers: Mapping[str, WeightedLayer] | None = None, other: Mapping[str, str] | None = None, settings: str = ""
    ) -> None:
        super().__init__(layers or {})
        self.other = dict(other or {})
        self.settings = settings

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """float64 if any of the weights is, and otherwise float32."""
        arrays = (layer.array if isinstance(layer, Matrix) else layer.parameters.vector for layer in self.values())
        return np.result_type(np.float32, *(array.dtype for array in arrays))

    def __repr__(self) -> str:
        lines = [f"{name}: {layer!r}" for name, layer in self.items()]
        lines += [f"{name}: {words}, not read" for name, words in self.other.items()]
        return "LayerSet({})".format("".join(f"\n    {line}" for line in lines) + "\n" * bool(lines))


def describe(layers: LayerSet) -> str:
    """Return the layers with their sizes, and what else there is, in one line."""
    entries = [f"{printable(name)} ({sizes_of(layer)})" for name, layer in layers.items()]
    entries += [f"{printable(name)} ({words})" for name, words in layers.other.items()]
    left = len(entries) - MAX_LISTED
    return ", ".join(entries[:MAX_LISTED]) + (f" and {left} more" if left > 0 else "")


def sizes_of(layer: WeightedLayer) -> str:
    """Return the kind and the sizes of a layer: "LSTM 3 → 5"."""
    if isinstance(layer, Matrix):
        return "Matrix {} × {}".format(*layer.array.shape)
    if isinstance(layer, Embedding):
        return f"Embedding {layer.vocabulary_size} → {layer.embedding_size}"
    more = ""
    if isinstance(layer, LSTM):
        more = f", {layer.num_layers} layers" if layer.num_layers > 1 else ""
        more += ", bidirectional" if layer.options.bidirectional else ""
    return f"{type(layer).__name__} {layer.input_size} → {layer.output_size}{more}"


def printable(name: str) -> str:
    """Return a name from a file without characters that a terminal would act on."""
    return name if name.isprintable() and len(name) <= 200 else repr(name[:200])[1:-1]
