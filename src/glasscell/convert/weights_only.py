"""Files of weights alone: what of a model they cannot hold.

A state dict of PyTorch and a ``.weights.h5`` of Keras hold tensors by name, and neither the order of layers nor those
without weights. Both lists here are of what such a file does hold: a layer or option that is not in them is reported.
"""

from collections.abc import Sequence

import numpy as np

from glasscell.atomic_files import StrPath
from glasscell.convert.operations import FINALS, is_operation
from glasscell.layers import LSTM, RNN, Dropout, Embedding, FinalState, Function, Linear, Pool, RepeatVector, Step
from glasscell.layers.cell_stack import CellStack
from glasscell.layers.kinds import has_parameters
from glasscell.layers.noise import GaussianDropout, GaussianNoise, SpatialDropout1D
from glasscell.models import Sequential
from glasscell.models.sequential import Layer

# Layers that compute nothing outside training.
TRAINING_ONLY = (Dropout, SpatialDropout1D, GaussianNoise, GaussianDropout)

# Options of an LSTM that the shapes of its weights show, and the values where a sequence has no step, which no layer
# sees. PyTorch's nn.LSTM supports no others that change what it computes.
HELD_BY_KERAS_WEIGHTS = {"input_size", "hidden_size", "num_layers", "bidirectional", "bias", "masked_outputs"}


def not_held(chain: LSTM | Sequential, *, keras: bool = False) -> list[str]:
    """Return the layers, and the settings of layers, that a file of weights alone cannot hold.

    Parameters
    ----------
    chain : LSTM or Sequential
    keras : bool
        Whether it is a ``.weights.h5`` of Keras. Default: a state dict of PyTorch, which is written for no LSTM that
        nn.LSTM does not support.

    Returns
    -------
    list of str
        "layer 'last' (Step)", "layer 'norm' (LayerNorm: epsilon)".
    """
    if isinstance(chain, LSTM):
        return [f"layer 'lstm' (LSTM: {', '.join(names)})"] if (names := _settings(chain, keras=keras)) else []
    found = []
    for name, layer in zip(chain.names, chain.layers, strict=True):
        if not has_parameters(layer):
            found += [] if isinstance(layer, TRAINING_ONLY) else [f"layer {name!r} ({kind_of(layer)})"]
        elif names := _settings(layer, keras=keras):
            found.append(f"layer {name!r} ({kind_of(layer)}: {', '.join(names)})")
    return found


def check_weights_only(path: StrPath, lost: Sequence[str], *, weights_only: bool) -> None:
    """Raise an error if a file cannot hold the model, unless its weights alone are to be written."""
    if lost and not weights_only:
        raise ValueError(
            f"{path} would hold weights only, without {', '.join(lost)}; weights_only=True writes the weights"
        )


def kind_of(layer: Layer) -> str:
    """Return the kind of a layer: the name of its class, or of its activation."""
    return layer.name if isinstance(layer, Function) else type(layer).__name__


def check_finite_weights(model: LSTM | Sequential) -> None:
    """Raise ValueError if a weight or a statistic of a model is NaN or infinite, by its name."""
    arrays = dict(model.parameters.items())
    if isinstance(model, Sequential):
        for name, layer in zip(model.names, model.layers, strict=True):
            arrays |= {f"{name}.{key}": array for key, array in getattr(layer, "statistics", {}).items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"weights must be finite, got NaN or infinite values in {name!r}")


def architecture_of(chain: LSTM | Sequential) -> str | None:
    """Return the computation of a model as `architecture` states it; None if it has a layer without a name there."""
    if isinstance(chain, LSTM):
        return "lstm"
    items = [_item(name, layer) for name, layer in zip(chain.names, chain.layers, strict=True)]
    modules = {name for name, layer in zip(chain.names, chain.layers, strict=True) if has_parameters(layer)}
    items = [f"operation:{item}" if item in modules and is_operation(item) else item for item in items]
    return ",".join(item for item in items if item) if None not in items else None


def _settings(layer: Layer, *, keras: bool) -> list[str]:
    """Return the settings of a layer with weights that the weights do not show."""
    if isinstance(layer, LSTM):
        if not keras:
            return []
        declared, changed = layer.options.declared, layer.options.non_default()
        return [name for name in changed if name not in HELD_BY_KERAS_WEIGHTS and not declared[name].training_only]
    if isinstance(layer, Embedding):
        return ["mask_zero"] if layer.mask_zero else []
    if isinstance(layer, RNN):
        return [] if keras and layer.nonlinearity == "tanh" else ["nonlinearity"]
    if isinstance(layer, Linear | CellStack):  # of a GRU with biases, their number shows reset_after
        return ["reset_after"] if keras and not layer.bias and "reset_after" in layer.config else []
    shapes = {"input_size", "output_size", "kernel_size", "size", "bias", "gain", "shift"}
    return [name for name in getattr(layer, "config", {}) if name not in shapes]


def _item(name: str, layer: Layer) -> str | None:
    """Return one layer as an item of an architecture; "" if it computes nothing outside training."""
    item: str | None = None
    if isinstance(layer, TRAINING_ONLY):
        item = ""
    elif isinstance(layer, Embedding):
        item = None if layer.mask_zero else f"{name}:embedding"
    elif isinstance(layer, Linear) and not layer.bias:
        item = f"{name}:linear"
    elif isinstance(layer, RNN):
        item = f"{name}:{layer.nonlinearity}"
    elif isinstance(layer, LSTM | CellStack | Linear):
        item = f"module:{name}" if is_operation(name) else name
    elif isinstance(layer, Step):
        item = {-1: "last", 0: "first"}.get(layer.index, f"step:{layer.index}")
    elif isinstance(layer, Pool):
        item = layer.how
    elif isinstance(layer, RepeatVector):
        item = f"repeat:{layer.times}"
    elif isinstance(layer, Function):
        parameters = [value for value in (layer.alpha, layer.beta) if value is not None]
        item = ":".join([layer.name.lower(), *map(repr, parameters)])
    elif isinstance(layer, FinalState):
        of_two = (how for how, fields in FINALS.items() if layer == FinalState("both", **fields))
        how = "" if layer == FinalState("forward") else next(of_two, None)
        item = None if how is None else f"final:{how}".removesuffix(":")
    return item
