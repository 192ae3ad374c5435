"""Wrappers with the interface of aeon: X has shape (n, F, T), or is a list of arrays (F, T_i)."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from aeon.classification import BaseClassifier
from aeon.regression import BaseRegressor
from numpy.typing import NDArray
from sklearn.base import clone

from glasscell.core.types import Array
from glasscell.estimators.classifier import LSTMClassifier
from glasscell.estimators.regressor import LSTMRegressor

TAGS = {
    "capability:multivariate": True,
    "capability:unequal_length": True,
    "X_inner_type": ["np-list", "numpy3D"],
    "algorithm_type": "deeplearning",
}
CHECKED: dict[str, Any] = {"hidden_size": 4, "updates": 5, "random_state": 0}  # arguments in aeon's checks


class AeonLSTMClassifier(BaseClassifier):
    """An :class:`~glasscell.estimators.LSTMClassifier` as a classifier of aeon.

    Parameters
    ----------
    estimator : LSTMClassifier, optional
        `fit` trains a clone of it. Default: ``LSTMClassifier()``.

    Attributes
    ----------
    estimator_ : LSTMClassifier
        Fitted; its ``model_`` is the model.

    Examples
    --------
    >>> from aeon.datasets import load_basic_motions
    >>> from glasscell.estimators import LSTMClassifier
    >>> X, y = load_basic_motions(split="train")  # X has shape (40, 6, 100)
    >>> classifier = AeonLSTMClassifier(LSTMClassifier(hidden_size=4, updates=5, random_state=0)).fit(X, y)
    >>> classifier.predict(X).shape
    (40,)
    """

    _tags: ClassVar[dict[str, Any]] = TAGS

    def __init__(self, estimator: LSTMClassifier | None = None) -> None:
        self.estimator = estimator
        super().__init__()

    def _fit(self, X: Any, y: NDArray[Any]) -> Self:
        estimator = LSTMClassifier() if self.estimator is None else clone(self.estimator)
        self.estimator_ = estimator.fit(steps_first(X), y)
        return self

    def _predict(self, X: Any) -> NDArray[Any]:
        return self.estimator_.predict(steps_first(X))

    def _predict_proba(self, X: Any) -> Array:
        return self.estimator_.predict_proba(steps_first(X))

    @classmethod
    def _get_test_params(cls, parameter_set: str = "default") -> dict[str, Any]:
        del parameter_set
        return {"estimator": LSTMClassifier(**CHECKED)}


class AeonLSTMRegressor(BaseRegressor):
    """An :class:`~glasscell.estimators.LSTMRegressor` as a regressor of aeon, which has one target.

    Parameters
    ----------
    estimator : LSTMRegressor, optional
        `fit` trains a clone of it. Default: ``LSTMRegressor()``.

    Attributes
    ----------
    estimator_ : LSTMRegressor
        Fitted; its ``model_`` is the model.
    """

    _tags: ClassVar[dict[str, Any]] = TAGS

    def __init__(self, estimator: LSTMRegressor | None = None) -> None:
        self.estimator = estimator
        super().__init__()

    def _fit(self, X: Any, y: NDArray[Any]) -> Self:
        estimator = LSTMRegressor() if self.estimator is None else clone(self.estimator)
        self.estimator_ = estimator.fit(steps_first(X), y)
        return self

    def _predict(self, X: Any) -> NDArray[Any]:
        return self.estimator_.predict(steps_first(X))

    @classmethod
    def _get_test_params(cls, parameter_set: str = "default") -> dict[str, Any]:
        del parameter_set
        return {"estimator": LSTMRegressor(**CHECKED)}


def steps_first(X: NDArray[Any] | list[NDArray[Any]]) -> Any:
    """Return sequences (n, F, T), or a list of (F, T_i), as (n, T, F), or a list of (T_i, F)."""
    return X.transpose(0, 2, 1) if isinstance(X, np.ndarray) else [sequence.T for sequence in X]
