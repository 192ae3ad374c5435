"""A regressor of sequences with the interface of scikit-learn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_array

from glasscell.core.types import Array
from glasscell.estimators.lstm_estimator import Examples, LSTMEstimator
from glasscell.models.sequence_regressor import SequenceRegressor


class LSTMRegressor(RegressorMixin, LSTMEstimator):
    """An LSTM that estimates one or several numbers for each sequence.

    X is an array (n, T, F), a table (n, T) of sequences with one feature, or a list of n arrays (T_i, F) or (T_i,).
    The model is a :class:`glasscell.SequenceRegressor`, trained with :func:`glasscell.fit`.

    Parameters
    ----------
    hidden_size, num_layers, bidirectional, pooling, dropout, noise, scale
        As in :class:`glasscell.SequenceRegressor`, which also scales the targets.
    updates, epochs, batch_size, learning_rate, early_stopping, validation_fraction, patience, warm_start, \
    random_state, verbose
        As in :class:`LSTMClassifier`; the part that is held out is drawn without regard to y.

    Attributes
    ----------
    model_ : SequenceRegressor
    n_outputs_ : int
        O, the number of targets.
    history_, n_iter_, n_features_in_, feature_names_in_, fitted_on_table_
        As in :class:`LSTMClassifier`.

    Examples
    --------
    >>> import numpy as np
    >>> from glasscell.estimators import LSTMRegressor
    >>> X = np.random.default_rng(0).normal(size=(40, 10, 2))
    >>> regressor = LSTMRegressor(hidden_size=8, updates=50, random_state=0).fit(X, X[:, :, 0].mean(axis=1))
    >>> regressor.predict(X).shape
    (40,)
    """

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:
        """Train a model.

        Parameters
        ----------
        X : array (n, T, F) or (n, T), or list of arrays (T_i, F) or (T_i,)
        y : array (n,) or (n, O)
        sample_weight : array (n,), optional
            Weight of each sequence, of 0 or more. Default: 1.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If X, y or an argument of the constructor cannot be used.
        """
        return self._fit(X, y, sample_weight)

    def partial_fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:
        """Make one pass over the data, with a constant learning rate; `updates` and `epochs` are not used.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.

        Returns
        -------
        self
        """
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X: Any) -> Array:
        """Return the estimates, an array of the shape of y: (n,) or (n, O)."""
        outputs = self._outputs(X)
        return outputs[:, 0] if self._has_one_axis else outputs

    def _read_targets(self, y: Any) -> NDArray[np.float64]:
        targets: NDArray[Any] = check_array(y, ensure_2d=False, estimator=self, input_name="y")
        return targets.astype(np.float64, copy=False)

    def _encode(self, targets: NDArray[Any], *, reset: bool, classes: ArrayLike | None) -> NDArray[np.float64]:
        """Return the targets as (n, O)."""
        del classes
        O = 1 if targets.ndim == 1 else targets.shape[1]
        if reset:
            self.n_outputs_, self._has_one_axis = O, targets.ndim == 1
        elif self.n_outputs_ != O:
            raise ValueError(f"y must have {self.n_outputs_} targets, as in the previous call, got {O}")
        return targets.reshape(len(targets), O)

    def _new_model(self, examples: Examples) -> SequenceRegressor:
        return SequenceRegressor(output_size=self.n_outputs_, **self._model_options(examples))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
