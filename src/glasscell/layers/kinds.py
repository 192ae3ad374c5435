"""The layers of a Sequential: which may follow which, and from and to their description in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from glasscell.layers.base import Layer
from glasscell.layers.batch_first import StatelessLayer
from glasscell.layers.registry import STATELESS, WITH_PARAMETERS, layer_class
from glasscell.layers.trainable import TrainableLayer

if TYPE_CHECKING:
    from glasscell.layers.base import Features
    from glasscell.layers.batch_first import ParameterLayer
    from glasscell.layers.embedding import Embedding
    from glasscell.layers.linear import Linear
    from glasscell.layers.lstm import LSTM

__all__ = ["STATELESS", "WITH_PARAMETERS", "Layer", "Stateless", "check_chain", "has_parameters", "input_size"]
Stateless = StatelessLayer
MAX_LAYERS = 4096  # of a model that is read from a file
NOUNS = {"sequence": "a sequence", "vector": "one vector for each sequence"}


def with_directions(names: Sequence[str], layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers, each FinalState with the directions of the LSTM before it."""
    result: list[Layer] = []
    origin: Features | None = None
    for name, layer in zip(names, layers, strict=True):
        if not isinstance(layer, Layer):
            raise TypeError(f"{name!r} is a {type(layer).__name__}, which is no layer of a Sequential")
        try:
            resolved: Any = layer.behind(origin)
        except ValueError as error:
            raise ValueError(f"{name!r} {error}") from None
        origin = resolved.output_origin(origin)
        result.append(resolved)
    return result


def check_chain(names: Sequence[str], layers: Sequence[Layer]) -> None:
    """Raise ValueError if a layer does not accept the outputs of the one before it."""
    features: int | None = None
    gives, before = "sequence", "the input"
    for k, (name, layer) in enumerate(zip(names, layers, strict=True)):
        if layer.position not in ("any", "first" if k == 0 else "", "last" if k == len(layers) - 1 else ""):
            noun = type(layer).__name__
            article = "an" if noun[0] in "AEIOU" else "a"
            raise ValueError(f"{name!r} is {article} {noun}, and only the {layer.position} layer can be one")
        if layer.takes not in ("any", gives):
            raise ValueError(f"{name!r} takes {NOUNS[layer.takes]}, and {before} gives {NOUNS[gives]}: {layer!r}")
        try:
            features = layer.output_features(features)
        except ValueError as error:
            raise ValueError(f"{name!r} {error}, and {before} gives {features}") from None
        gives = layer.gives if layer.gives != "same" else gives
        before = repr(name)


def input_size(layers: Sequence[Layer]) -> int | None:
    """Return the number of features that the first layer takes, as determined by any layer; None: undetermined."""
    for layer in layers:
        if layer.input_features is not None:
            return layer.input_features
        if not layer.keeps_feature_count:
            break
    return None


def has_parameters(layer: Layer) -> TypeGuard[LSTM | Linear | Embedding | ParameterLayer]:
    """Return whether a layer has parameters."""
    return isinstance(layer, TrainableLayer)


def layer_config(layer: Layer) -> dict[str, Any]:
    """Return the description of a layer in a file."""
    return {"kind": type(layer).__name__, **layer.config}


def layer_from_config(entry: Mapping[str, Any], dtype: np.dtype[np.floating], most: int) -> Layer:
    """Make the layer that a file describes.

    Raises
    ------
    ValueError
        For an unknown layer, and for one of more than `most` weights, before it is made.
    """
    options = {name: value for name, value in entry.items() if name != "kind"}
    cls: Any = layer_class(entry["kind"])
    layer: Layer = cls.from_config(options, dtype, most) if issubclass(cls, TrainableLayer) else cls(**options)
    return layer


def layers_from_config(entries: Sequence[Mapping[str, Any]], dtype: np.dtype[np.floating], most: int) -> list[Layer]:
    """Make the layers that a file describes.

    Raises
    ------
    ValueError
        For more than MAX_LAYERS layers, unknown ones, and for more than `most` weights in all.
    """
    if len(entries) > MAX_LAYERS:
        raise ValueError(f"there are {len(entries)} layers; at most {MAX_LAYERS} are read")
    layers: list[Layer] = []
    for entry in entries:
        layers.append(layer_from_config(entry, dtype, most))
        most -= layers[-1].parameters.vector.size if has_parameters(layers[-1]) else 0
    return layers
