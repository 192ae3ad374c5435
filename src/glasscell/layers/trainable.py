"""What layers with parameters share: parameters, how their first values are drawn, and files."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from abc import abstractmethod
from collections.abc import Mapping
from inspect import signature
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

import numpy as np

from glasscell.core.parameters import Parameters
from glasscell.core.types import Array, Seed
from glasscell.layers.base import Layer
from glasscell.validation import as_generator

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from glasscell.atomic_files import StrPath
    from glasscell.layers.summary import Summary

LayerSeed: TypeAlias = "Seed | Literal['default'] | None"
DEFAULT_SEED = 0


def is_default(seed: LayerSeed) -> TypeIs[Literal["default"]]:
    """Whether no seed was passed."""
    return isinstance(seed, str) and seed == "default"


class TrainableLayer(Layer):
    """A layer with parameters.

    A subclass sets ``dtype`` and ``_parameters`` in its constructor, and then calls ``_begin(seed)``.

    Attributes
    ----------
    seeded : bool
        Whether its constructor takes a ``seed``. Default: True.
    """

    seeded: ClassVar[bool] = True
    dtype: np.dtype[np.floating]
    _parameters: Parameters
    _default: dict[str, Any] | None  # the state of the generator that the weights were drawn from by default

    @property
    def parameters(self) -> Parameters:
        """The layer's weights. In a model they are a part of the model's vector."""
        return self._parameters

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The arguments that make an equal layer, except dtype and seed: plain JSON."""

    def initialize(self, seed: Seed | None, *, by_default: bool = False) -> None:
        """Draw first values; they replace the current ones.

        Parameters
        ----------
        seed : int, numpy.random.Generator or None
            None draws nothing: all weights are 0.
        by_default : bool
            Whether the user has passed no seed, so that a model that the layer is put in draws the weights from its
            seed.
        """
        rng = None if seed is None else as_generator(seed)
        self._default = {**rng.bit_generator.state} if by_default and rng is not None else None
        self._draw(self._parameters, rng)

    @property
    def drawn_by_default(self) -> bool:
        """Whether no seed was passed, and the weights are still those that were drawn without one."""
        if self._default is None:
            return False
        drawn, rng = self._parameters.zeros_like(), as_generator(DEFAULT_SEED)
        rng.bit_generator.state = self._default
        self._draw(drawn, rng)
        return np.array_equal(drawn.vector, self._parameters.vector)

    def save(self, path: StrPath) -> None:
        """Write the layer to a file, by custom ``….safetensors``; see :func:`glasscell.checkpoint.save`."""
        from glasscell import checkpoint  # noqa: PLC0415 - not paid for by `import glasscell`

        checkpoint.save(checkpoint.Checkpoint(type(self).__name__, self.config, self.named_weights()), path)

    def summary(self) -> Summary:
        """Return a table with one row: type and options, output features, parameters, bytes."""
        from glasscell.layers.summary import summarize  # noqa: PLC0415 - only where it is used

        vector, layer = self.parameters.vector, {type(self).__name__.lower(): self}
        return summarize(layer, vector.size, vector.nbytes, str(self.dtype))

    @classmethod
    def load(cls, path: StrPath) -> Self:
        """Read a layer that :meth:`save` wrote, of the dtype that it had; see :func:`glasscell.checkpoint.load`.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is truncated or damaged, of another kind, or does not fit together.
        """
        from glasscell import checkpoint  # noqa: PLC0415

        return checkpoint.load_as(cls.__name__, cls._from_weights, path)

    @classmethod
    def _from_weights(cls, config: dict[str, Any], weights: dict[str, Array]) -> Self:
        """Return the layer that the configuration and the weights of a file describe."""
        layer = cls.from_config(config, next(iter(weights.values())).dtype, sum(w.size for w in weights.values()))
        layer.load_named_weights(weights)
        return layer

    @classmethod
    def from_config(cls, config: Mapping[str, Any], dtype: np.dtype[np.floating], most: int) -> Self:
        """Make the layer that a file describes, of weights that are 0.

        Raises
        ------
        ValueError
            If it would need more than `most` numbers, before it is made.
        """
        kind: Any = cls
        too_many = f"a {cls.__name__} of these sizes needs more weights than there are: {dict(config)}"
        if config.get("num_layers", 1) > most:
            raise ValueError(too_many)
        shapes = kind.shapes(**config).values()
        if any(type(size) is not int or size < 1 for shape in shapes for size in shape):
            raise ValueError(f"a {cls.__name__} has sizes that are no positive integers: {dict(config)}")
        if sum(map(prod, shapes)) > most:
            raise ValueError(too_many)
        layer: Self = kind(**config, dtype=dtype, **({"seed": None} if cls.seeded else {}))
        return layer

    def _begin(self, seed: LayerSeed) -> None:
        """Draw the first values of a new layer."""
        self.initialize(DEFAULT_SEED if is_default(seed) else seed, by_default=is_default(seed))

    @abstractmethod
    def _draw(self, parameters: Parameters, seed: Seed | None) -> None:
        """Write first values into parameters of this layer's shapes: from a seed, or 0 without one."""

    def named_weights(self) -> dict[str, Array]:
        """Return a copy of the weights under the names that they have in files, PyTorch's where it has one."""
        return {name: view.copy() for name, view in self._parameters.items()}

    def load_named_weights(self, weights: Mapping[str, Array]) -> None:
        """Copy the weights of :meth:`named_weights` into the layer.

        Raises
        ------
        ValueError
            If names or shapes differ.
        """
        from glasscell.weight_layouts import check_shapes  # noqa: PLC0415

        check_shapes({name: array.shape for name, array in weights.items()}, self._parameters.shapes)
        for name, view in self._parameters.items():
            view[:] = weights[name]


def refuse_unknown_options(unknown: Mapping[str, Any], *classes: type) -> None:
    """Raise a TypeError for an unknown option of a layer, with the options of the first class and its bases."""
    for option in unknown:
        parameters = [parameter for kind in classes for parameter in signature(kind).parameters.values()]
        names = dict.fromkeys(p.name for p in parameters if p.kind != p.VAR_KEYWORD)
        raise TypeError(f"{classes[0].__name__} has no option {option!r}; it has {', '.join(names)}")
