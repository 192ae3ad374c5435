"""What both estimators share: arguments, training with `fit`, and continued training."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from math import ceil
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from glasscell.core.optimizers import Adam
from glasscell.core.types import Array
from glasscell.data.arrays import ArrayData
from glasscell.data.sample_weights import check_sample_weights
from glasscell.estimators.sequences import Sequences, read_sequences
from glasscell.models.sequence_model import SequenceModel
from glasscell.training import History, Training, TrainingOptions, fit
from glasscell.training.schedules import constant
from glasscell.validation import boolean, check_not_masked, positive_integer, positive_number

LARGEST_SEED = 2**31 - 1
LARGEST_BATCH = 64  # smaller data are one batch
SHORTEST_INTERVAL = 20  # updates between evaluations: an epoch of small data is one update, after which little differs


class Examples(NamedTuple):
    """Sequences with targets and, unless all are 1, weights."""

    sequences: Sequences
    targets: NDArray[Any]
    weights: NDArray[np.float64] | None

    def rows(self, rows: NDArray[np.intp]) -> Examples:
        """Return some of them."""
        x, weights = self.sequences, self.weights
        chosen = x[rows] if isinstance(x, np.ndarray) else [x[k] for k in rows]
        return Examples(chosen, self.targets[rows], None if weights is None else weights[rows])

    def data(self, validation: ArrayData | None = None) -> ArrayData:
        """Return the data for a training."""
        return ArrayData(self.sequences, self.targets, sample_weights=self.weights, validation=validation)


class LSTMEstimator(BaseEstimator):
    """Base class of the estimators: subclasses read targets, and make the model."""

    model_: SequenceModel
    history_: History
    n_iter_: int
    _optimizer_states: Any

    def __init__(
        self,
        hidden_size: int = 64,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        pooling: str = "last",
        dropout: float = 0.0,
        noise: float = 0.0,
        scale: bool = True,
        updates: int | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.pooling = pooling
        self.dropout = dropout
        self.noise = noise
        self.scale = scale
        self.updates = updates
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def _fit(self, X: Any, y: Any, sample_weight: ArrayLike | None) -> Self:
        """Train a new model or, with `warm_start`, the one that exists."""
        with self._unchanged_by_errors():
            continues = boolean("warm_start", self.warm_start) and hasattr(self, "model_")
            examples, held_out = self._read(X, y, sample_weight, reset=not continues), None
            self._check_targets(examples)
            if not continues:
                self._start()
            if boolean("early_stopping", self.early_stopping):
                examples, held_out = self._split(examples)
            if not continues:
                self.model_ = self._new_model(examples)
            options = self._options(examples, updates=self.updates, epochs=self.epochs)
            if held_out is not None:
                epoch = ceil(len(examples.targets) / positive_integer("batch_size", options["batch_size"]))
                options |= {"patience": positive_integer("patience", self.patience)}
                options |= {"evaluate_every": max(epoch, SHORTEST_INTERVAL)}
            data = self._weighted(examples).data(held_out and self._weighted(held_out).data())
            self.history_ = fit(self.model_, data, **options)
            self.n_iter_ = self.history_.updates
        return self

    def _partial_fit(self, X: Any, y: Any, sample_weight: ArrayLike | None, classes: ArrayLike | None = None) -> Self:
        """Make one pass over the data, with the optimiser's state of the previous call."""
        with self._unchanged_by_errors():
            is_first = not hasattr(self, "model_")
            examples = self._read(X, y, sample_weight, reset=is_first, classes=classes)
            if is_first:
                self._start()
                self.model_ = self._new_model(examples)
            options = TrainingOptions(**self._options(examples, epochs=1, schedule=constant()))
            training = Training(self.model_, self._weighted(examples).data(), options)
            if self._optimizer_states is not None:
                training.optimizer_states = self._optimizer_states
            self.history_ = training.run()
            self._optimizer_states = training.optimizer_states
            self.n_iter_ += self.history_.updates
        return self

    @contextmanager
    def _unchanged_by_errors(self) -> Iterator[None]:
        """Restore attributes and weights after an error; an interrupt keeps the weights of the last update."""
        before, model = dict(vars(self)), getattr(self, "model_", None)
        weights = None if model is None else model.parameters.vector.copy()
        # Training changes these and the weights in place.
        states, rng = deepcopy(before.get("_optimizer_states")), deepcopy(before.get("_rng"))
        try:
            yield
        except Exception:
            self.__dict__.clear()
            self.__dict__.update(before)
            if model is not None and rng is not None:
                model.parameters.vector[:] = weights
                self._optimizer_states = states
                self._rng.bit_generator.state = rng.bit_generator.state
            raise

    def _start(self) -> None:
        """Begin the training of a new model."""
        self._rng = np.random.default_rng(check_random_state(self.random_state).randint(LARGEST_SEED))
        self._optimizer_states = None
        self.n_iter_ = 0

    def _read(
        self, X: Any, y: Any, sample_weight: ArrayLike | None, *, reset: bool, classes: ArrayLike | None = None
    ) -> Examples:
        """Return the sequences with a weight above 0, their targets and weights."""
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        sequences = read_sequences(self, X, reset=reset)
        check_not_masked("y", y)
        targets = self._read_targets(y)
        check_consistent_length(sequences, targets)
        weights = (
            None if sample_weight is None else check_sample_weights(sample_weight, len(sequences), "sample_weight")
        )
        examples = Examples(sequences, self._encode(targets, reset=reset, classes=classes), weights)
        return examples if weights is None or weights.all() else examples.rows(np.flatnonzero(weights))

    @abstractmethod
    def _read_targets(self, y: Any) -> NDArray[Any]:
        """Validate y as scikit-learn does."""

    @abstractmethod
    def _encode(self, targets: NDArray[Any], *, reset: bool, classes: ArrayLike | None) -> NDArray[Any]:
        """Return targets as the model has them; with `reset`, store what they are."""

    @abstractmethod
    def _new_model(self, examples: Examples) -> SequenceModel:
        """Return a model for these data, which is not trained."""

    def _model_options(self, examples: Examples) -> dict[str, Any]:
        """Return the arguments that both kinds of models have."""
        return {
            "input_size": examples.sequences[0].shape[1],
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "bidirectional": self.bidirectional,
            "pooling": self.pooling,
            "dropout": self.dropout,
            "noise": self.noise,
            "scale": self.scale,
            "dtype": examples.sequences[0].dtype,
            "seed": self._rng,
        }

    def _options(self, examples: Examples, **options: Any) -> dict[str, Any]:
        """Return the arguments of a training."""
        n = len(examples.targets)
        batch_size = min(n, LARGEST_BATCH) if self.batch_size is None else self.batch_size
        return {
            "batch_size": batch_size,
            "optimizer": None if self.learning_rate is None else Adam(self.learning_rate),
            "progress": boolean("verbose", self.verbose),
            "seed": self._rng,
            **options,
        }

    def _split(self, examples: Examples) -> tuple[Examples, Examples]:
        """Return a training and a validation part, at random."""
        fraction = positive_number("validation_fraction", self.validation_fraction)
        if fraction >= 1:
            raise ValueError(f"validation_fraction must be below 1, got {self.validation_fraction}")
        parts = train_test_split(
            np.arange(len(examples.targets)),
            test_size=fraction,
            random_state=int(self._rng.integers(LARGEST_SEED)),
            stratify=self._strata(examples),
        )
        return examples.rows(parts[0]), examples.rows(parts[1])

    def _check_targets(self, examples: Examples) -> None:
        """Raise ValueError if a model cannot be trained on these targets alone."""

    def _weighted(self, examples: Examples) -> Examples:
        """Return the examples with the weights of their classes."""
        return examples

    def _strata(self, examples: Examples) -> NDArray[Any] | None:
        """Return the classes whose frequencies both parts of a split have."""
        del examples
        return None

    def _outputs(self, X: Any) -> Array:
        """Return the outputs of the model."""
        check_is_fitted(self, "model_")
        outputs: Array = self.model_.predict(read_sequences(self, X, reset=False))
        return outputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
