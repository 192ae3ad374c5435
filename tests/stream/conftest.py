"""What the tests of streams share: every law holds for both engines."""

import os
from importlib.util import find_spec

import pytest

from glasscell.core import engines


@pytest.fixture(params=["numpy", "numba"], autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The engine of all single streams that the test makes, unless their model names one."""
    if request.param == "numba" and find_spec("numba") is None:
        if os.environ.get("GLASSCELL_REQUIRE_NUMBA"):
            pytest.fail("Numba is not installed, and GLASSCELL_REQUIRE_NUMBA is set")
        pytest.skip("Numba is not installed: pip install -e '.[jit]'")
    monkeypatch.setattr(engines, "uses_numba_for_streams", lambda name: (name or request.param) == "numba")
    return request.param
