"""The base of models with one output per sequence, or one per step: scaled inputs, an LSTM, pooling, and a readout."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Mapping
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from glasscell.core.types import Array
from glasscell.data.arrays import ArrayData
from glasscell.data.scaling import FeatureScale, input_scale
from glasscell.layers import LSTM, Dropout, FinalState, GaussianNoise, Linear, Normalization, Pool, Seed
from glasscell.layers.base import Layer
from glasscell.models.sequential import Sequential
from glasscell.validation import as_generator, boolean, choice, non_negative_number, positive_integer, probability

Pooling: TypeAlias = Literal["last", "mean", "max"]

BATCHES_PER_EPOCH = 8  # of small data: batches are a fraction of the data, within the limits of the batch size
SMALLEST_BATCH, LARGEST_BATCH = 8, 32


class SequenceModel(Sequential):
    """Common part of :class:`SequenceClassifier` and :class:`SequenceRegressor`, which describe the arguments."""

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int,
        num_layers: int,
        *,
        bidirectional: bool,
        per_step: bool,
        pooling: Pooling,
        dropout: float,
        noise: float,
        scale: bool,
        dtype: DTypeLike,
        seed: Seed | None,
        after_readout: Mapping[str, Layer] | None = None,
    ) -> None:
        I, O = positive_integer("input_size", input_size), positive_integer("output_size", output_size)
        H, L = positive_integer("hidden_size", hidden_size), positive_integer("num_layers", num_layers)
        choice("pooling", pooling, ("last", "mean", "max"))
        self.bidirectional, self.per_step = boolean("bidirectional", bidirectional), boolean("per_step", per_step)
        self.pooling, self.scale = pooling, boolean("scale", scale)
        self.dropout, self.noise = probability("dropout", dropout), non_negative_number("noise", noise)
        if self.per_step and pooling != "last":
            raise ValueError(f"pooling must be left out for per_step=True, which has one output per step: {pooling!r}")
        rng = None if seed is None else as_generator(seed)
        lstm = LSTM(I, H, L, bidirectional=bidirectional, dropout=dropout if L > 1 else 0.0, dtype=dtype, seed=rng)
        layers: dict[str, Layer] = {}
        if scale:
            layers["scaling"] = Normalization((0.0,) * I, (1.0,) * I)
        if noise:
            layers["noise"] = GaussianNoise(self.noise)
        layers["lstm"] = lstm
        if not per_step:
            layers["pooling"] = FinalState() if pooling == "last" else Pool(pooling)
        if dropout:
            layers["dropout"] = Dropout(dropout)
        layers["readout"] = Linear(lstm.output_size, O, dtype=dtype, seed=rng)
        layers |= after_readout or {}
        super().__init__(list(layers.values()), list(layers), seed=None)
        self.input_size, self.output_size = I, O
        self.is_adapted = False

    @property
    def lstm(self) -> LSTM:
        """The LSTM."""
        return self._layer("lstm")  # type: ignore[no-any-return] # the constructor puts it there

    @property
    def readout(self) -> Linear:
        """The map from its hidden states to outputs."""
        return self._layer("readout")  # type: ignore[no-any-return]

    @property
    def hidden_size(self) -> int:
        """H."""
        return self.lstm.hidden_size

    def _layer(self, name: str) -> Any:
        return self._layers[self.names.index(name)]

    def _replace_layer(self, name: str, layer: Layer) -> None:
        """Put another layer without parameters in the place of the one of this name."""
        self._layers = tuple(layer if k == name else old for k, old in zip(self.names, self._layers, strict=True))

    # Training

    def adapt(self, data: Any) -> None:
        """Estimate the scaling from the training data, unless it has been: `fit` calls this before the first update.

        Parameters
        ----------
        data : ArrayData
            The training part alone.

        Raises
        ------
        TypeError, ValueError
            If the model scales and the data are not an ArrayData, or cannot be scaled.
        """
        if isinstance(data, ArrayData) and data.per_step != self.per_step:
            kind = "step" if self.per_step else "sequence"
            raise ValueError(
                f"y must have one entry per {kind} for per_step={self.per_step}, got another number of them"
            )
        if self.is_adapted or not self.scale:
            return
        if not isinstance(data, ArrayData):
            raise TypeError(
                f"data must be (x, y) or ArrayData, from which the scaling is estimated, got a {type(data).__name__}: "
                "pass scale=False to the constructor, or call adapt with an ArrayData first"
            )
        self._adapt(data)
        self.is_adapted = True

    def _adapt(self, data: ArrayData) -> None:
        self._set_scaling("scaling", input_scale(data, self.input_size), invert=False)

    def _set_scaling(self, name: str, scale: FeatureScale, *, invert: bool) -> None:
        self._replace_layer(name, Normalization(scale.mean, scale.variance, invert))

    @property
    def training_defaults(self) -> dict[str, Any]:
        """Arguments of :func:`glasscell.fit` that suit the model; see docs/labels.md."""
        from glasscell.core.optimizers import Adam  # noqa: PLC0415 - only training needs it

        recipe: dict[str, Any] = {"updates": 1500, "batch_size": LARGEST_BATCH, "optimizer": Adam(0.005)}
        return recipe | {"schedule": "warmup_cosine", "clip_norm": 1.0}

    def training_defaults_for(self, data: Any) -> dict[str, Any]:
        """Return :attr:`training_defaults` with a batch size for the number of sequences of an ArrayData."""
        defaults = self.training_defaults
        if isinstance(data, ArrayData):
            defaults["batch_size"] = min(max(len(data) // BATCHES_PER_EPOCH, SMALLEST_BATCH), LARGEST_BATCH)
        return defaults

    # Files

    @property
    def config(self) -> dict[str, Any]:
        """The arguments of the constructor, except dtype and seed, and the scaling."""
        scaling = {"scaling": numbers_of(self._layer("scaling"))} if self.scale and self.is_adapted else {}
        return {
            "input_size": self.input_size,
            "output_size": self.output_size,
            "hidden_size": self.hidden_size,
            "num_layers": self.lstm.num_layers,
            "bidirectional": self.bidirectional,
            "per_step": self.per_step,
            "pooling": self.pooling,
            "dropout": self.dropout,
            "noise": self.noise,
            "scale": self.scale,
            **scaling,
        }

    @classmethod
    def from_weights(cls, config: Mapping[str, Any], weights: Mapping[str, Array]) -> Self:
        """Return the model that :attr:`config` and :meth:`to_torch` describe."""
        from glasscell.weight_layouts import check_lstm_sizes  # noqa: PLC0415 - only where it is used

        arguments = dict(config)
        scalings = {name: arguments.pop(name) for name in ("scaling", "output_scaling") if name in arguments}
        check_lstm_sizes(arguments, weights, 1 + boolean("bidirectional", arguments.get("bidirectional")))
        shapes = {name: array.shape for name, array in weights.items()}
        for size, name, axis in (("input_size", "lstm.weight_ih_l0", 1), ("output_size", "readout.weight", 0)):
            if arguments.get(size) != shapes.get(name, (None, None))[axis]:
                raise ValueError(f"{size} must be that of {name!r}, got {arguments.get(size)!r}")
        model = cls._from_arguments(arguments, np.dtype(next(iter(weights.values())).dtype))
        expected = {"scaling", "output_scaling"} & {*model.names}
        if scalings and scalings.keys() < expected:
            raise ValueError(f"the configuration must have {' and '.join(sorted(expected))}, or none of them")
        for name, numbers in scalings.items():
            model._restore_scaling(name, numbers)  # noqa: SLF001 - of this class
        model._load_named_weights(weights)  # noqa: SLF001
        return model

    @classmethod
    def _from_arguments(cls, arguments: dict[str, Any], dtype: np.dtype[Any]) -> Self:
        """Return a model of these arguments, all of whose weights are 0."""
        return cls(**arguments, dtype=dtype, seed=None)

    def _restore_scaling(self, name: str, numbers: Any) -> None:
        """Set the scaling of a file."""
        if name not in self.names:
            raise ValueError(f"{name} must be absent from the configuration of this model")
        layer = Normalization(tuple(numbers["mean"]), tuple(numbers["variance"]), name != "scaling")
        size = self.input_size if name == "scaling" else self.output_size
        if layer.size != size:
            raise ValueError(f"{name} must have {size} features, got {layer.size}")
        self._replace_layer(name, layer)
        self.is_adapted = True


def numbers_of(layer: Normalization) -> dict[str, Any]:
    """Return mean and variance as JSON."""
    return {"mean": np.ravel(layer.mean).tolist(), "variance": np.ravel(layer.variance).tolist()}
