"""Assembly of a Sequential: nested models are replaced by their layers, weights are drawn, tied and joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from glasscell.core.parameters import Parameters
from glasscell.layers.kinds import Layer, check_chain, has_parameters, with_directions
from glasscell.layers.trainable import DEFAULT_SEED, LayerSeed, is_default
from glasscell.models.tied_parameters import TiedParameters, separate_parameters
from glasscell.validation import as_generator

if TYPE_CHECKING:
    from glasscell.models.model import Model


def names_of(layers: Sequence[Layer | Model], names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the entries of a model. Default: their numbers.

    Raises
    ------
    ValueError
        If there is no entry, or a name is missing, empty or repeated.
    """
    result = tuple(map(str, range(len(layers)))) if names is None else tuple(names)
    if not layers:
        raise ValueError("a model needs a layer")
    if len(result) != len(layers) or len(set(result)) != len(result) or "" in result:
        raise ValueError(f"{len(layers)} layers need as many different names, and these are {result}")
    return result


def flatten(entries: Mapping[str, Layer | Model]) -> dict[str, Layer]:
    """Return all layers by name, those of nested models as ``outer.inner``, and check that they fit together."""
    layers: dict[str, Layer] = {}
    for name, entry in entries.items():
        if isinstance(entry, Layer):
            layers[name] = entry
        elif hasattr(entry, "inside"):
            layers |= entry.inside(name)
        else:
            raise TypeError(f"{name!r} is a {type(entry).__name__}, which is no layer of a Sequential")
    in_order = sorted(f"{name}." for name in layers)  # names that begin with a name follow it at once
    for prefix, following in pairwise(in_order):
        if following.startswith(prefix):
            raise ValueError(f"the name {prefix[:-1]!r} is the beginning of another layer's")
    names = tuple(layers)
    resolved = with_directions(names, tuple(layers.values()))
    check_chain(names, resolved)
    return dict(zip(names, resolved, strict=True))


def join_parameters(
    entries: Mapping[str, Layer | Model], layers: Mapping[str, Layer], seed: LayerSeed, ties: Mapping[str, str]
) -> Parameters:
    """Draw first weights, share tied arrays, and join all parameters in one vector.

    Parameters
    ----------
    entries : mapping of str to layer or model
        The arguments of the model.
    layers : mapping of str to layer
        All layers, from :func:`flatten`.
    seed : int, numpy.random.Generator, None or "default"
    ties : mapping of str to str
        Parameters of the entries, each with the one whose array it shares.
    """
    _check_free(entries)
    _untie_copies(entries)
    trainable: list[Any] = [layer for layer in layers.values() if has_parameters(layer)]
    dtypes = {layer.parameters.vector.dtype for layer in trainable}
    if len(dtypes) > 1:
        raise ValueError(f"the layers are of different dtypes: {', '.join(sorted(map(str, dtypes)))}")
    by_default = is_default(seed)
    rng = None if seed is None else as_generator(DEFAULT_SEED if by_default else seed)
    for layer in trainable:
        if rng is not None and layer.drawn_by_default:
            layer.initialize(rng, by_default=by_default)
    separate = _tie_layers(entries, layers, ties)
    parts = {
        name: separate.get(name, entry.parameters)
        for name, entry in entries.items()
        if not isinstance(entry, Layer) or has_parameters(entry)
    }
    return Parameters.join(parts, dtypes.pop() if dtypes else np.dtype(np.float32))


def _tie_layers(
    entries: Mapping[str, Layer | Model], layers: Mapping[str, Layer], ties: Mapping[str, str]
) -> dict[str, Parameters]:
    """Tie parameters; return those that are not shared, for each layer with tied ones."""
    trainable: Mapping[str, Any] = layers
    sources: dict[str, dict[str, tuple[str, str]]] = {}
    for tied, source in ties.items():
        (name, key), (source_name, source_key) = _split(layers, tied), _split(layers, source)
        if source in ties or name == source_name or _is_tied(layers[source_name], source_key):
            raise ValueError(f"ties must name a parameter of another layer that is not tied itself, got {source!r}")
        if name not in entries:
            raise ValueError(f"ties must be from layers that are in no inner model, got {tied!r}: exchange the sides")
        if layers[name].stateful:
            raise ValueError(f"ties must be between layers without a state, got {tied!r} of {layers[name]!r}")
        shape, expected = trainable[name].parameters[key].shape, trainable[source_name].parameters[source_key].shape
        if shape != expected:
            raise ValueError(f"tied parameter {tied!r} must have shape {expected}, that of its source, got {shape}")
        sources.setdefault(name, {})[key] = source_name, source_key
    separate = {name: separate_parameters(trainable[name].parameters, keys) for name, keys in sources.items()}
    for name, keys in sources.items():
        shared = {key: (separate.get(s, trainable[s].parameters), source_key) for key, (s, source_key) in keys.items()}
        parameters = TiedParameters(separate[name], shared, trainable[name].parameters)
        trainable[name]._parameters = parameters  # noqa: SLF001 - the layer keeps no views
    return separate


def _is_tied(layer: Any, key: str) -> bool:
    """Return whether an inner model has tied a parameter of a layer."""
    return isinstance(layer.parameters, TiedParameters) and layer.parameters.is_shared(key)


def _untie_copies(entries: Mapping[str, Layer | Model]) -> None:
    """Let copies of tied layers, which belong to no model, have all of their parameters for themselves."""
    layers: list[Any] = [entry for entry in entries.values() if isinstance(entry, Layer) and has_parameters(entry)]
    for layer in layers:
        if isinstance(layer.parameters, TiedParameters):
            layer._parameters = copy(layer.parameters)  # noqa: SLF001 - the layer keeps no views


def _split(layers: Mapping[str, Layer], parameter: str) -> tuple[str, str]:
    """Return the layer's name and the parameter's name in it."""
    name, _, key = parameter.rpartition(".")
    layer = layers.get(name)
    if layer is None or not has_parameters(layer) or key not in layer.parameters:
        raise ValueError(f"ties must be between parameters of the model, got {parameter!r}")
    return name, key


def _check_free(entries: Mapping[str, Layer | Model]) -> None:
    """Raise an error for a layer whose weights are, or would be, in two places of one or two vectors."""
    advice, seen = "pass a copy, copy.deepcopy(layer)", dict[int, str]()
    for name, entry in entries.items():
        if isinstance(entry, Layer) and not has_parameters(entry):
            continue
        first = seen.setdefault(id(entry), name)
        if first != name:
            raise ValueError(f"{name!r} must be a separate layer, got the same as {first!r}: {advice}")
        if entry.parameters.is_part:
            raise ValueError(f"{name!r} must be in no other model, got weights that are a part of one: {advice}")
