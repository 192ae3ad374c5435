"""Law: scikit-learn's own checks of estimators pass, all of them, and none is skipped."""

import pytest

pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_estimator,
    check_regressor_multioutput,
)

from glasscell.estimators import LSTMClassifier, LSTMRegressor

# Small and quick: the regressor's 60 updates are for the check that demands a coefficient of determination above 0.5.
CLASSIFIER = LSTMClassifier(hidden_size=8, updates=30, batch_size=200, learning_rate=0.06)
REGRESSOR = LSTMRegressor(hidden_size=8, updates=60, batch_size=200, learning_rate=0.06)


@pytest.mark.parametrize("estimator", [CLASSIFIER, REGRESSOR], ids=["classifier", "regressor"])
def test_every_check_of_scikit_learn_passes(estimator, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # otherwise one check is skipped
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    assert len(results) >= 50  # 63 and 60 in scikit-learn 1.9
    assert {result["check_name"]: result["exception"] for result in results if result["status"] != "passed"} == {}


@pytest.mark.parametrize("estimator", [CLASSIFIER, REGRESSOR], ids=["classifier", "regressor"])
def test_columns_of_data_frames_are_compared(estimator):
    """A check that `check_estimator` does not call."""
    pytest.importorskip("pandas")
    check_dataframe_column_names_consistency(type(estimator).__name__, estimator)


def test_the_regressor_is_checked_with_several_targets():
    """`check_estimator` calls this check only for estimators that say so."""
    assert REGRESSOR.__sklearn_tags__().target_tags.multi_output
    check_regressor_multioutput("LSTMRegressor", REGRESSOR)
