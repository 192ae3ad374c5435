"""What the tests of Keras' files share: Keras and h5py where they are."""

import os
import warnings

import pytest


@pytest.fixture(scope="session")
def keras(tmp_path_factory):
    """Keras on PyTorch, or a skipped test; with GLASSCELL_REQUIRE_KERAS=1, or a failed one."""
    os.environ["KERAS_BACKEND"] = "torch"
    os.environ.setdefault("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))  # it writes a file there
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import keras  # noqa: PLC0415 - optional, and slow to import
            import torch  # noqa: PLC0415
    except ImportError as error:
        if os.environ.get("GLASSCELL_REQUIRE_KERAS"):
            pytest.fail(f"GLASSCELL_REQUIRE_KERAS is set, and there is no Keras on PyTorch: {error}")
        pytest.skip(f"there is no Keras on PyTorch: {error}")
    torch.set_num_threads(1)
    return keras


@pytest.fixture(scope="session")
def h5py():
    return pytest.importorskip("h5py", reason="files of Keras are made with h5py")
