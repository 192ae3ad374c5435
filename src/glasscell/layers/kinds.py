"""The layers that a Sequential can have: by name, from and to what a file says of them, and which may follow which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from glasscell.layers.base import Layer as BaseLayer
from glasscell.layers.base import ParameterLayer, StatelessLayer
from glasscell.layers.convolution import Conv1D
from glasscell.layers.embedding import Embedding
from glasscell.layers.linear import Linear
from glasscell.layers.lstm import LSTM
from glasscell.layers.noise import GaussianDropout, GaussianNoise, SpatialDropout1D
from glasscell.layers.normalization import BatchNorm, LayerNorm, Normalization, Rescaling
from glasscell.layers.pooling import AveragePooling1D, MaxPooling1D
from glasscell.layers.reshaping import Flatten, RepeatVector, Squeeze, Unsqueeze
from glasscell.layers.stateless import Dropout, FinalState, Function, Masking, Pool, Step, SwapHalves
from glasscell.layers.trainable import TrainableLayer
from glasscell.recurrent.config import LSTMConfig

if TYPE_CHECKING:
    from typing_extensions import TypeIs

Stateless = StatelessLayer
Layer = LSTM | Linear | Embedding | BaseLayer
STATELESS: dict[str, type[StatelessLayer]] = {
    kind.__name__: kind
    for kind in (
        *(Function, Dropout, Step, FinalState, Pool, SwapHalves, Masking),
        *(Normalization, Rescaling, RepeatVector, Flatten, MaxPooling1D, AveragePooling1D, Unsqueeze, Squeeze),
        *(SpatialDropout1D, GaussianNoise, GaussianDropout),
    )
}
WITH_PARAMETERS: dict[str, type[LSTM | Linear | Embedding | ParameterLayer]] = {
    kind.__name__: kind for kind in (LSTM, Linear, Embedding, LayerNorm, BatchNorm, Conv1D)
}
NOUNS = {"sequence": "a sequence", "vector": "one vector for each sequence"}


# Behind these, features are still those of the LSTM before, each where it was.
POINTWISE = (
    *(Function, Dropout, SpatialDropout1D, GaussianNoise, GaussianDropout, Masking),
    *(BatchNorm, LayerNorm, Normalization, Rescaling),
)


def with_directions(names: Sequence[str], layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers, of which each FinalState has the directions of the LSTM before it."""
    found: list[Layer] = []
    options: LSTMConfig | None = None
    for name, given in zip(names, layers, strict=True):
        layer = given
        if isinstance(layer, FinalState):
            try:
                layer = layer.behind(options)
            except ValueError as error:
                raise ValueError(f"{name!r} {error}") from None
        if isinstance(layer, LSTM):
            options = layer.options
        elif not isinstance(layer, POINTWISE):
            options = None
        found.append(layer)
    return found


def check_chain(names: Sequence[str], layers: Sequence[Layer]) -> None:
    """Refuse layers of which one does not take what the one before gives."""
    features: int | None = None
    gives, before = "sequence", "the input"
    for k, (name, layer) in enumerate(zip(names, layers, strict=True)):
        if not isinstance(layer, Layer):
            raise TypeError(f"{name!r} is a {type(layer).__name__}, which is no layer of a Sequential")
        if isinstance(layer, Unsqueeze) and k > 0:
            raise ValueError(f"{name!r} is an Unsqueeze, and only the first layer can be one")
        if isinstance(layer, Squeeze) and k < len(layers) - 1:
            raise ValueError(f"{name!r} is a Squeeze, and only the last layer can be one")
        takes = layer.takes if isinstance(layer, BaseLayer) else "sequence" if isinstance(layer, LSTM) else "any"
        if takes not in ("any", gives):
            raise ValueError(f"{name!r} takes {NOUNS[takes]}, and {before} gives {NOUNS[gives]}: {layer!r}")
        if isinstance(layer, Embedding):
            if before != "the input":
                raise ValueError(f"{name!r} is an Embedding, and only the first layer can be one")
            features = layer.embedding_size
        elif isinstance(layer, LSTM | Linear):
            if features not in (None, layer.input_size):
                raise ValueError(f"{name!r} takes {layer.input_size} features, and {before} gives {features}")
            features = layer.output_size
        else:
            try:
                features = layer.output_features(features)
            except ValueError as error:
                raise ValueError(f"{name!r} {error}, and {before} gives {features}") from None
            gives = layer.gives if layer.gives != "same" else gives
        before = repr(name)


def input_size(layers: Sequence[Layer]) -> int | None:
    """Return how many features the first layer takes, as the first one with a size tells; None: none tells."""
    for layer in layers:
        if isinstance(layer, Unsqueeze):
            return 1
        size = None if isinstance(layer, Embedding) else getattr(layer, "input_size", getattr(layer, "size", None))
        if size is not None:
            return int(size)
        if isinstance(layer, Embedding | Flatten | RepeatVector) or (isinstance(layer, FinalState) and layer.halves):
            break
    return None


def has_parameters(layer: Layer) -> TypeIs[LSTM | Linear | Embedding | ParameterLayer]:
    """Whether a layer has parameters."""
    return isinstance(layer, TrainableLayer)


def layer_config(layer: Layer) -> dict[str, Any]:
    """What a file says of a layer."""
    return {"kind": type(layer).__name__, **layer.config}


def layer_from_config(entry: Mapping[str, Any], dtype: np.dtype[np.floating], most: int) -> Layer:
    """The layer that a file describes; one that would need more than `most` numbers is refused before it is made."""
    options = {name: value for name, value in entry.items() if name != "kind"}
    kind = entry["kind"]
    if kind in STATELESS:
        return STATELESS[kind](**options)
    if kind not in WITH_PARAMETERS:
        raise ValueError(f"there is no layer {kind!r}; known are {', '.join([*WITH_PARAMETERS, *STATELESS])}")
    return WITH_PARAMETERS[kind].from_config(options, dtype, most)
