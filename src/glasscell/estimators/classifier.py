"""A classifier of sequences with the interface of scikit-learn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, column_or_1d

from glasscell.core.activations import softmax_terms
from glasscell.core.types import Array
from glasscell.data.predictions import largest_output
from glasscell.data.sample_weights import check_sample_weights
from glasscell.estimators.lstm_estimator import Examples, LSTMEstimator
from glasscell.models.sequence_classifier import SequenceClassifier


class LSTMClassifier(ClassifierMixin, LSTMEstimator):
    """An LSTM that chooses one of several classes for each sequence.

    X is an array (n, T, F), a table (n, T) of sequences with one feature, or a list of n arrays (T_i, F) or (T_i,).
    The model is a :class:`glasscell.SequenceClassifier`, trained with :func:`glasscell.fit`.

    Parameters
    ----------
    hidden_size, num_layers, bidirectional, pooling, dropout, noise, scale
        As in :class:`glasscell.SequenceClassifier`, whose defaults of training are those of the estimator.
    class_weight : dict of label to weight, or "balanced", optional
        Factors on `sample_weight`. "balanced": inversely proportional to the frequencies of the classes. Default: 1.
    updates, epochs : int, optional
        Largest numbers of updates, and of passes over the data. Default: 1500 updates, the default of the model.
    batch_size : int, optional
        Sequences per batch. Default: 64, or all sequences if they are fewer.
    learning_rate : float, optional
        Largest learning rate of Adam. Default: 0.005; the schedule is that of the model.
    early_stopping : bool
        Whether a part of the sequences is held out, training stops when their loss no longer improves, and the best
        weights are kept.
    validation_fraction : float
        The part that is held out, above 0 and below 1, with the classes in equal proportions.
    patience : int
        Number of evaluations without a better loss; there is one per epoch, and at most one per 20 updates.
    warm_start : bool
        Whether `fit` continues with the model of the previous call, its classes and its scaling.
    random_state : int, numpy.random.RandomState, optional
        Determines first weights, batches, dropout, noise and the part that is held out. Default: NumPy's global state.
    verbose : bool
        Whether progress is shown on standard error.

    Attributes
    ----------
    model_ : SequenceClassifier
    classes_ : array (K,)
        Labels, in the order of the columns of :meth:`predict_proba`.
    history_ : History
        Measurements of the last call of `fit` or `partial_fit`.
    n_iter_ : int
        Number of updates.
    n_features_in_ : int
        F; for a table, T.
    feature_names_in_ : array (T,)
        Names of the columns, if X was a data frame.
    fitted_on_table_ : bool

    Examples
    --------
    >>> import numpy as np
    >>> from glasscell.estimators import LSTMClassifier
    >>> X = np.random.default_rng(0).normal(size=(40, 10, 2))
    >>> y = np.where(X[:, :, 0].sum(axis=1) > 0, "up", "down")
    >>> classifier = LSTMClassifier(hidden_size=8, updates=50, random_state=0).fit(X, y)
    >>> classifier.predict_proba(X).shape
    (40, 2)
    """

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
        class_weight: Any = None,
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
        super().__init__(
            hidden_size,
            num_layers,
            bidirectional=bidirectional,
            pooling=pooling,
            dropout=dropout,
            noise=noise,
            scale=scale,
            updates=updates,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            patience=patience,
            warm_start=warm_start,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:
        """Train a model.

        Parameters
        ----------
        X : array (n, T, F) or (n, T), or list of arrays (T_i, F) or (T_i,)
        y : array (n,) of labels
        sample_weight : array (n,), optional
            Weight of each sequence, of 0 or more. Default: 1.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If X, y or an argument of the constructor cannot be used, or y has fewer than two classes.
        """
        return self._fit(X, y, sample_weight)

    def partial_fit(
        self, X: Any, y: Any, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Make one pass over the data, with a constant learning rate; `updates` and `epochs` are not used.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.
        classes : array of labels, optional
            All labels; required in the first call.

        Returns
        -------
        self
        """
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight must be None or a dictionary for partial_fit, which does not have all labels, "
                "got 'balanced'"
            )
        if not hasattr(self, "model_"):
            if classes is None:
                raise ValueError("classes must be passed in the first call of partial_fit, got None")
        elif classes is not None and not np.array_equal(np.unique(np.asarray(classes)), self.classes_):
            raise ValueError(f"classes must be those of the first call, {self.classes_.tolist()}, got {classes!r:.200}")
        return self._partial_fit(X, y, sample_weight, classes)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable label of each sequence, an array (n,)."""
        outputs = self._outputs(X)
        labels: NDArray[Any] = self.classes_[largest_output(outputs)]
        return labels

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class, an array (n, K)."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithm of the probability of each class, an array (n, K)."""
        shifted, _, total = softmax_terms(self._outputs(X))
        result: Array = shifted - np.log(total)
        return result

    def _read_targets(self, y: Any) -> NDArray[Any]:
        array = check_array(y, ensure_2d=False, dtype=None, estimator=self, input_name="y")
        labels: NDArray[Any] = column_or_1d(array, warn=True)
        check_classification_targets(labels)
        return labels

    def _encode(self, targets: NDArray[Any], *, reset: bool, classes: ArrayLike | None) -> NDArray[np.intp]:
        """Return the numbers of the labels."""
        if reset:
            self.classes_ = np.unique(targets if classes is None else np.asarray(classes))
        numbers = np.minimum(np.searchsorted(self.classes_, targets), len(self.classes_) - 1)
        unknown = targets[self.classes_[numbers] != targets]
        if len(unknown):
            raise ValueError(f"y must have labels of the classes {self.classes_.tolist()}, got {unknown[0]!r}")
        return numbers

    def _check_targets(self, examples: Examples) -> None:
        numbers = np.unique(examples.targets)
        if len(numbers) < 2:
            raise ValueError(f"y must have at least 2 classes, got 1 class: {self.classes_[numbers[0]]!r}")

    def _weighted(self, examples: Examples) -> Examples:
        if self.class_weight is None:
            return examples
        numbers, weights = examples.targets, examples.weights
        if self.class_weight == "balanced":
            totals = np.bincount(numbers, weights, len(self.classes_))
            by_class = totals.sum() / (np.count_nonzero(totals) * np.where(totals, totals, 1))
        else:
            by_class = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[numbers])
        factors = check_sample_weights(by_class[numbers], len(numbers), "class_weight")
        return examples._replace(weights=factors if weights is None else factors * weights)

    def _strata(self, examples: Examples) -> NDArray[np.intp]:
        return examples.targets

    def _new_model(self, examples: Examples) -> SequenceClassifier:
        return SequenceClassifier(classes=self.classes_.tolist(), **self._model_options(examples))
