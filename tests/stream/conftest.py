"""Fixtures of the tests of streams: each test runs with both engines, and may use a model of each kind."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from glasscell.core import engines

sys.path.insert(0, str(Path(__file__).parent))  # for stream_models

from stream_models import MODELS


@pytest.fixture(params=["numpy", "numba"], autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Set the engine of all single streams whose model does not name one."""
    if request.param == "numba" and find_spec("numba") is None:
        if os.environ.get("GLASSCELL_REQUIRE_NUMBA"):
            pytest.fail("Numba is not installed, and GLASSCELL_REQUIRE_NUMBA is set")
        pytest.skip("Numba is not installed: pip install -e '.[jit]'")
    monkeypatch.setattr(engines, "uses_numba_for_streams", lambda name: (name or request.param) == "numba")
    return request.param


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> object:
    """Return a model of each kind that streams support."""
    return MODELS[request.param]()
