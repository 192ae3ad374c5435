"""A classifier of sequences, or of their steps."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from glasscell.core.activations import softmax_terms
from glasscell.core.types import Array, Seed
from glasscell.data.labelled.labels import Label, check_classes, class_numbers
from glasscell.data.predictions import largest_output
from glasscell.models.sequence_model import Pooling, SequenceModel
from glasscell.validation import check_not_masked

if TYPE_CHECKING:
    from glasscell.trace.trace import Trace


class SequenceClassifier(SequenceModel):
    """An LSTM with a readout that chooses one of several classes for each sequence, or for each step.

    Layers: ``scaling`` (a Normalization of the inputs), ``noise``, ``lstm``, ``pooling``, ``dropout``, ``readout``.
    Outputs are logits (N, K), or (N, T, K) with ``per_step=True``.

    Parameters
    ----------
    input_size : int
        I, the number of features per step.
    classes : int or sequence of labels
        K, for classes 0 to K - 1; or their labels, in order: text, numbers, truth values or None.
    hidden_size, num_layers : int
        H, and the number of LSTM layers.
    bidirectional : bool
        Whether the LSTM also reads the sequences from the end. Such a model has no stream.
    per_step : bool
        Whether there is one label per step. Default: one per sequence.
    pooling : {"last", "mean", "max"}
        How the hidden states become one vector: the final state of each direction, or the mean or largest value of
        each unit over the valid steps.
    dropout : float
        In [0, 1): in training, between the LSTM layers and before the readout.
    noise : float
        Standard deviation of the noise that is added to the scaled inputs in training. It lets a model rely on many
        features instead of a few, which helps most where there are few sequences.
    scale : bool
        Whether the inputs are scaled to mean 0 and variance 1. The first :func:`glasscell.fit` estimates both from the
        training part alone; later ones keep them.
    dtype : float32 or float64
    seed : int or numpy.random.Generator, optional
        None draws nothing: all weights are 0.

    Attributes
    ----------
    classes : list of labels

    Examples
    --------
    >>> import numpy as np
    >>> import glasscell as gc
    >>> rng = np.random.default_rng(0)
    >>> x = [rng.normal(size=(length, 2)) for length in rng.integers(3, 9, 40)]
    >>> labels = ["up" if sequence.sum() > 0 else "down" for sequence in x]
    >>> model = gc.SequenceClassifier(2, ["down", "up"], hidden_size=8)
    >>> history = gc.fit(model, (x, labels), updates=5)
    >>> len(model.classify(x)), model.predict_proba(x).shape
    (40, (40, 2))
    """

    def __init__(
        self,
        input_size: int,
        classes: int | Sequence[Any],
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
        self.classes: list[Label] = check_classes(classes)
        super().__init__(
            input_size,
            len(self.classes),
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
        )

    def classify(self, x: Any, *, batch_size: int = 256, lengths: ArrayLike | None = None) -> Any:
        """Return the most probable label of each sequence, or of each step.

        Parameters
        ----------
        x : array (N, T, I), list of N arrays (T_n, I), or array (T, I) of one sequence
        batch_size : int
            Sequences at a time.
        lengths : array (N,) of int, optional
            Lengths of sequences in an array. Default: T.

        Returns
        -------
        list of N labels; with ``per_step=True`` a list of N lists of labels
            For one sequence (T, I) its label, or the list of its labels.

        Raises
        ------
        ValueError
            If an output is NaN, such as of weights that are.
        """
        outputs, single = self._outputs(x, batch_size, lengths)
        if not self.per_step:
            labels: list[Any] = [self.classes[k] for k in largest_output(outputs)]
        else:
            ends = [len(entry) for entry in outputs] if lengths is None else np.asarray(lengths).tolist()
            labels = [
                [self.classes[k] for k in largest_output(entry[:end])] for entry, end in zip(outputs, ends, strict=True)
            ]
        return labels[0] if single else labels

    def predict_proba(self, x: Any, *, batch_size: int = 256, lengths: ArrayLike | None = None) -> Any:
        """Return the probability of each class, in the order of :attr:`classes`.

        Parameters
        ----------
        x, batch_size, lengths
            As in :meth:`classify`.

        Returns
        -------
        array (N, K); with ``per_step=True`` (N, T, K), or a list of arrays (T_n, K) for a list
            For one sequence (T, I): (K,), or (T, K).
        """
        outputs, single = self._outputs(x, batch_size, lengths)
        result = [_softmax(entry) for entry in outputs] if isinstance(outputs, list) else _softmax(outputs)
        return result[0] if single else result

    def _outputs(self, x: Any, batch_size: int, lengths: ArrayLike | None) -> tuple[Any, bool]:
        """Return logits of sequences, and whether x was one sequence without a batch axis."""
        check_not_masked("x", x)
        single = hasattr(x, "__array__") and np.ndim(x) == 2
        return self.predict(np.asarray(x)[None] if single else x, batch_size=batch_size, lengths=lengths), single

    def trace(self, x: ArrayLike, y: Any = None, *, loss: str = "categorical_cross_entropy", **options: Any) -> Trace:
        """Record every gate and state and, with labels, every gradient; outputs are named by the classes.

        Parameters
        ----------
        x : array (T, I) or (B, T, I)
        y : label, or sequence of labels, optional
            Of the sequence or, with ``per_step=True``, of its steps; for each sequence of a batch.
        loss, **options
            As in :meth:`glasscell.Sequential.trace`.

        Returns
        -------
        glasscell.trace.Trace

        Examples
        --------
        >>> trace = SequenceClassifier(2, ["down", "up"], 8).trace(np.zeros((5, 2)), "up")
        >>> trace.layer[0].d_c.shape
        (5, 8)
        """
        if y is not None:
            y = self.encode_targets([y])[0] if np.ndim(x) == 2 else np.asarray(self.encode_targets(y))
        return super().trace(x, y, loss=loss, **({"output_names": list(map(str, self.classes))} | options))

    def encode_targets(self, y: Any) -> Any:
        """Return labels as class numbers; `fit` calls this for the labels of (x, y)."""
        return class_numbers(y, self.classes)

    @property
    def training_defaults(self) -> dict[str, Any]:
        """Arguments of :func:`glasscell.fit` that suit the model; see docs/labels.md."""
        return super().training_defaults | {"loss": "categorical_cross_entropy", "metrics": ("accuracy",)}

    @property
    def config(self) -> dict[str, Any]:
        """The arguments of the constructor, except dtype and seed, and the scaling."""
        return {**super().config, "classes": list(self.classes)}

    @classmethod
    def _from_arguments(cls, arguments: dict[str, Any], dtype: np.dtype[Any]) -> Self:
        classes, K = arguments["classes"], arguments.pop("output_size")
        if not isinstance(classes, list) or len(classes) != K:
            raise ValueError(f"classes must be a list of {K} labels, got {classes!r:.100}")
        return super()._from_arguments(arguments, dtype)

    def __repr__(self) -> str:
        return f"SequenceClassifier({self.input_size}, {self.classes!r:.100}, {self.hidden_size}, dtype={self.dtype})"


def _softmax(logits: Array) -> Array:
    _, exponentials, total = softmax_terms(logits)
    result: Array = exponentials / total
    return result
