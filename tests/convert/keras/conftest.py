"""Fixtures of the tests of Keras files."""

import pytest


@pytest.fixture(scope="session")
def h5py():
    return pytest.importorskip("h5py", reason="files of Keras are made with h5py")
