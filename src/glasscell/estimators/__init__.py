"""Estimators with the interface of scikit-learn; :mod:`glasscell.estimators.aeon` has wrappers for aeon.

Names are imported on first use, and scikit-learn with them.
"""

from typing import TYPE_CHECKING, Any

from glasscell.lazy import attach

if TYPE_CHECKING:
    from glasscell.estimators.classifier import LSTMClassifier
    from glasscell.estimators.regressor import LSTMRegressor

__all__ = ["LSTMClassifier", "LSTMRegressor"]

_import, __dir__ = attach(__name__, {"LSTMClassifier": "classifier", "LSTMRegressor": "regressor"})


def __getattr__(name: str) -> Any:
    try:
        return _import(name)
    except ModuleNotFoundError as error:
        if error.name != "sklearn":
            raise
        raise ImportError("glasscell.estimators requires scikit-learn: pip install 'glasscell[sklearn]'") from None
