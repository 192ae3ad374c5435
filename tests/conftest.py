"""Shared by all tests: a seeded generator that prints its seed, PyTorch and Keras, and rare garbage collections."""

import gc
import importlib
import importlib.util
import os
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

# The products of the tests are small: one thread is fastest, and steady on a busy machine. Set before NumPy loads BLAS.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from _pytest.runner import runtestprotocol

from glasscell.core.buffers import BufferPool

sys.path.append(str(Path(__file__).parent))  # for layer_examples and case_loops

# Eleven thousand tests are many objects: with the usual thresholds collections took a third of the time to collect the
# tests, and an eighth of the time to run them.
gc.set_threshold(20_000, 20, 100)


MANY_TESTS = 1000  # from here on the tests use all functions of the compiled engine
PEERS = {"torch", "keras", "onnx", "onnxruntime", "importer", "exporter"}  # fixtures that import them
PLACES_OF_PEERS = (
    *("tests/verify/", "src/glasscell/verify/", "tests/test_readme.py", "tests/bench/"),
    "tests/models/test_sequence_models.py::test_traces_and_checks",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that import PyTorch, Keras, ONNX or JAX first.

    With ``--dist worksteal`` each process begins with a part of the list: one of two imports these packages, for ten
    seconds, while the other one compiles the functions of the engine, if they are not cached.
    """

    def place(item: pytest.Item) -> int:
        if item.nodeid.startswith("tests/convert/"):
            return 0
        if PEERS.intersection(getattr(item, "fixturenames", ())):
            return 1
        return 2 if item.nodeid.startswith(PLACES_OF_PEERS) else 3

    items.sort(key=place)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Exclude from garbage collections what is imported by now, and the tests; compile a part of the engine."""
    gc.collect()
    gc.freeze()
    worker = getattr(session.config, "workerinput", None)
    if worker is not None and len(session.items) > MANY_TESTS:
        _compile_part(int(worker["workerid"].removeprefix("gw")))


def _compile_part(worker: int) -> None:
    """Compile the engine for one dtype in each of two processes, which load the other one from disk.

    Otherwise both compile the same functions at the same time, if they are not cached.
    """
    if importlib.util.find_spec("numba") is None:
        return
    kernels = importlib.import_module("glasscell.core.numba_engine.kernels")
    assert kernels.compile_kernels.cache_info().currsize == 0, "a test module compiles functions when it is imported"
    kernels.compile_kernels("fd"[worker % 2])


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """With several processes, send one report per test, not three: that of a setup or teardown only if it did not pass.

    The other two cost a quarter of a millisecond: four seconds for all tests. ``--durations`` still has all of them.
    """
    if not hasattr(item.config, "workerinput") or item.config.getoption("durations"):
        return None
    of_item = {"nodeid": item.nodeid, "location": item.location}
    item.ihook.pytest_runtest_logstart(**of_item)
    for report in runtestprotocol(item, log=False, nextitem=nextitem):
        if report.when == "call" or not report.passed:
            item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(**of_item)
    return True


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=0, help="seed of the random tests (default 0)")


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator of the test's own: its name and --seed decide what it draws."""
    seed = [request.config.getoption("--seed"), zlib.crc32(request.node.name.encode())]
    print(f"numpy.random.default_rng({seed})")
    return np.random.default_rng(seed)


def _float_arrays(record: object) -> list[np.ndarray]:
    if isinstance(record, np.ndarray):
        return [record] if record.dtype.kind == "f" else []
    values = record if isinstance(record, tuple) else getattr(record, "__dict__", {}).values()
    return [array for value in values for array in _float_arrays(value)]


@pytest.fixture(scope="session")
def poison() -> Callable[..., None]:
    """Function that overwrites the memory of a buffer pool with NaN, except the arrays that a tape holds."""

    def poison(buffers: BufferPool, tape: object = None) -> None:
        held = [(array, array.copy()) for array in _float_arrays(tape)]
        overwrite(buffers)
        for array, values in held:
            array[...] = values

    def overwrite(buffers: BufferPool) -> None:
        for array in buffers._largest.values():
            array.reshape(-1).view(np.uint8)[...] = 0xFF  # NaN in every dtype
        for scope in buffers._scopes.values():
            overwrite(scope)

    return poison


@pytest.fixture(scope="session")
def torch() -> ModuleType:
    """PyTorch, or a skipped test; with GLASSCELL_REQUIRE_TORCH=1, or a failed one."""
    try:
        import torch  # noqa: PLC0415 - optional, and slow to import
    except ImportError:
        if os.environ.get("GLASSCELL_REQUIRE_TORCH"):
            pytest.fail("PyTorch is not installed, and GLASSCELL_REQUIRE_TORCH is set")
        pytest.skip("PyTorch is not installed: pip install torch==2.13.0")
    torch.set_num_threads(1)
    return torch


@pytest.fixture(scope="session")
def keras(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
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
