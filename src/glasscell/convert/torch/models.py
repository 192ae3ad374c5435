"""State dicts of PyTorch as models: which layers they are of, as far as names and shapes tell."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from glasscell.convert.codec import common_dtype, part_of
from glasscell.core.typing import Array
from glasscell.layers import LSTM, Embedding, FinalState, Linear, Step
from glasscell.models.sequential import Layer, Sequential

Take = Literal["every step", "last step", "final state"]


def model_of(state_dict: Mapping[str, Any], *, take: Take = "every step") -> LSTM | Sequential:
    """The model whose weights a state dict has.

    Parameters
    ----------
    state_dict : mapping of name to array
        Of an ``nn.LSTM`` alone, or of a module whose attributes are, in this order, perhaps an ``nn.Embedding``, LSTMs
        and ``nn.Linear``.
    take : {"every step", "last step", "final state"}
        What a state dict does not say: what the linear maps behind the last LSTM see. "last step" is ``y[:, -1]``;
        "final state" is ``h_n[-1]``, or both directions' side by side.

    Returns
    -------
    LSTM or Sequential
        An LSTM if there is nothing else.

    Raises
    ------
    ValueError
        Weights that belong to no such layer, or do not fit, by name.
    """
    weights = part_of(state_dict)
    if "weight_ih_l0" in weights:
        return LSTM.from_torch(weights)
    groups: dict[str, dict[str, Array]] = {}
    for name, array in weights.items():
        prefix, _, key = name.rpartition(".")
        groups.setdefault(prefix, {})[key] = array
    dtype = common_dtype(weights)
    layers = {name: _layer(name, group, groups, dtype) for name, group in groups.items()}
    if not any(isinstance(layer, LSTM) for layer in layers.values()):
        raise ValueError(f"there is no LSTM among the weights {', '.join(weights)}")
    chain = list(_with_readout(layers, take))
    return Sequential([layer for _, layer in chain], [name for name, _ in chain])


def _layer(
    name: str, group: dict[str, Array], groups: dict[str, dict[str, Array]], dtype: np.dtype[np.floating]
) -> Layer:
    """The layer of the weights of one module."""
    if "weight_ih_l0" in group:
        try:
            return LSTM.from_torch(group, dtype=dtype)
        except ValueError as error:
            raise ValueError(f"in {name!r}: {error}") from None
    weight = group.get("weight")
    if weight is None or weight.ndim != 2 or group.keys() - {"weight", "bias"}:
        raise ValueError(
            f"the weights {', '.join(f'{name}.{key}' for key in group)} are of no layer that can be read here"
        )
    layer: Embedding | Linear
    if "bias" not in group and _is_table(name, weight, groups):
        layer = Embedding(*weight.shape, dtype=dtype)
    else:
        O, I = weight.shape
        if "bias" in group and group["bias"].shape != (O,):
            raise ValueError(f"the weight '{name}.bias' has shape {group['bias'].shape}; expected ({O},)")
        layer = Linear(I, O, bias="bias" in group, dtype=dtype)
    for key, view in layer.parameters.items():
        view[:] = group[key]
    return layer


def _is_table(name: str, weight: Array, groups: dict[str, dict[str, Array]]) -> bool:
    """Whether a matrix without a bias is looked up: it comes first, and what comes next takes its columns."""
    if name != next(iter(groups)) or len(groups) < 2:
        return False
    after = list(groups.values())[1].get("weight_ih_l0")
    if after is None:
        return False
    fits = weight.shape[1] == after.shape[1]
    return fits and (weight.shape[0] != after.shape[1] or "emb" in name.lower())


def _with_readout(layers: dict[str, Layer], take: Take) -> Iterator[tuple[str, Layer]]:
    """The layers, and behind the last LSTM what is taken of its outputs."""
    last = [name for name, layer in layers.items() if isinstance(layer, LSTM)][-1]
    for name, layer in layers.items():
        yield name, layer
        if name == last and isinstance(layer, LSTM) and take != "every step":
            final = FinalState("both") if layer.options.bidirectional else FinalState("forward")
            yield "take", Step(-1) if take == "last step" else final
