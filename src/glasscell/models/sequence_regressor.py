"""A regressor of sequences, or of their steps."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from glasscell.core.types import Seed
from glasscell.data.arrays import ArrayData
from glasscell.data.metrics import ScaledSquaredError
from glasscell.data.scaling import target_scale
from glasscell.layers import Normalization
from glasscell.models.sequence_model import Pooling, SequenceModel, numbers_of
from glasscell.validation import check_not_masked, positive_integer


class SequenceRegressor(SequenceModel):
    """An LSTM with a readout that estimates numbers for each sequence, or for each step.

    Layers: ``scaling`` (a Normalization of the inputs), ``noise``, ``lstm``, ``pooling``, ``dropout``, ``readout`` and
    ``output_scaling`` (an inverted Normalization). Outputs are in the units of the targets: (N, O), or (N, T, O) with
    ``per_step=True``. The default loss of training is the squared error in units of the targets' variance.

    Parameters
    ----------
    input_size : int
        I, the number of features per step.
    output_size : int
        O, the number of targets.
    hidden_size, num_layers, bidirectional, per_step, pooling, dropout, noise, dtype, seed
        As in :class:`SequenceClassifier`.
    scale : bool
        Whether inputs and targets are scaled to mean 0 and variance 1. The first :func:`glasscell.fit` estimates both
        from the training part alone; later ones keep them.

    Examples
    --------
    >>> import numpy as np
    >>> import glasscell as gc
    >>> rng = np.random.default_rng(0)
    >>> x = [rng.normal(size=(length, 2)) for length in rng.integers(3, 9, 40)]
    >>> y = [1000 + 50 * sequence[:, 0].mean() for sequence in x]
    >>> model = gc.SequenceRegressor(2, 1, hidden_size=8)
    >>> history = gc.fit(model, (x, y), updates=5)
    >>> model.predict(x).shape
    (40, 1)
    """

    def __init__(
        self,
        input_size: int,
        output_size: int = 1,
        hidden_size: int = 64,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        per_step: bool = False,
        pooling: Pooling = "last",
        dropout: float = 0.0,
        noise: float = 0.0,
        scale: bool = True,
        dtype: DTypeLike = np.float32,
        seed: Seed | None = 0,
    ) -> None:
        O = positive_integer("output_size", output_size)
        last = {"output_scaling": Normalization((0.0,) * O, (1.0,) * O, invert=True)} if scale else {}
        super().__init__(
            input_size,
            O,
            hidden_size,
            num_layers,
            bidirectional=bidirectional,
            per_step=per_step,
            pooling=pooling,
            dropout=dropout,
            noise=noise,
            scale=scale,
            dtype=dtype,
            seed=seed,
            after_readout=last,
        )

    def encode_targets(self, y: Any) -> Any:
        """Return targets with an axis of features; `fit` calls this for the targets of (x, y).

        Targets without one, (N,), or (N, T) and (T_n,) with ``per_step=True``, are accepted for one output.
        """
        check_not_masked("y", y)
        axes = 2 if self.per_step else 1
        if isinstance(y, np.ndarray) or not self.per_step:
            array = np.asarray(y)
            if array.dtype.kind not in "biuf":
                raise TypeError(f"y must be real numbers, got dtype {array.dtype}")
            array = array.astype(np.result_type(array.dtype, np.float32), copy=False)
            return array[..., None] if array.ndim == axes and self.output_size == 1 else array
        entries = [np.asarray(entry) for entry in y]
        return [entry[:, None] if entry.ndim == 1 and self.output_size == 1 else entry for entry in entries]

    def _adapt(self, data: ArrayData) -> None:
        targets = target_scale(data, self.output_size)
        super()._adapt(data)
        self._set_scaling("output_scaling", targets, invert=True)

    @property
    def training_defaults(self) -> dict[str, Any]:
        """Arguments of :func:`glasscell.fit` that suit the model; see docs/labels.md."""
        loss: Any = "squared_error"
        if self.scale:
            loss = ScaledSquaredError(tuple(np.ravel(self._layer("output_scaling").variance).tolist()))
        return super().training_defaults | {"loss": loss, "metrics": ("mean_absolute_error",)}

    @property
    def config(self) -> dict[str, Any]:
        """The arguments of the constructor, except dtype and seed, and the scaling."""
        config = super().config
        if "scaling" in config:
            config["output_scaling"] = numbers_of(self._layer("output_scaling"))
        return config

    def __repr__(self) -> str:
        sizes = f"{self.input_size}, {self.output_size}, {self.hidden_size}"
        return f"SequenceRegressor({sizes}, dtype={self.dtype})"
