"""Run the checks of estimators that scikit-learn or aeon have on the estimators with their default arguments.

    python benchmarks/estimator_checks.py sklearn    # minutes
    python benchmarks/estimator_checks.py aeon       # in the environment of `make aeon`

The exit status is 1 if a check fails or is skipped.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any

os.environ["SCIPY_ARRAY_API"] = "1"  # otherwise scikit-learn skips a check; read when SciPy is imported


def scikit_learn_results() -> dict[str, dict[str, str]]:
    """Return the result of each check of scikit-learn, by estimator."""
    from sklearn.utils.estimator_checks import check_estimator

    from glasscell.estimators import LSTMClassifier, LSTMRegressor

    results: dict[str, dict[str, str]] = {}
    for estimator in (LSTMClassifier(), LSTMRegressor()):
        found: list[dict[str, Any]] = check_estimator(estimator, on_fail=None, on_skip=None)
        results[type(estimator).__name__] = {
            f"{n} {check['check_name']}": check["status"] if check["status"] == "passed" else repr(check["exception"])
            for n, check in enumerate(found)
        }
    return results


def aeon_results() -> dict[str, dict[str, str]]:
    """Return the result of each check of aeon, by estimator."""
    import doctest

    from aeon.testing.estimator_checking import check_estimator

    from glasscell.estimators import aeon

    results = {cls.__name__: check_estimator(cls) for cls in (aeon.AeonLSTMClassifier, aeon.AeonLSTMRegressor)}
    failed, attempted = doctest.testmod(aeon)
    return results | {"Examples": {"of the docstrings": "failed" if failed or not attempted else "passed"}}


def main() -> int:
    """Print the results of one package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", choices=("sklearn", "aeon"))
    start = time.perf_counter()
    results = scikit_learn_results() if parser.parse_args().package == "sklearn" else aeon_results()
    any_failed = False
    for estimator, checks in results.items():
        others = {name: result for name, result in checks.items() if result.lower() != "passed"}
        any_failed = any_failed or bool(others)
        print(f"{estimator}: {len(checks) - len(others)} of {len(checks)} checks passed")
        for name, result in others.items():
            print(f"    {name}: {result}")
    print(f"{time.perf_counter() - start:.0f} s")
    return int(any_failed)


if __name__ == "__main__":
    sys.exit(main())
