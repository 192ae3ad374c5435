"""Laws of one model with many users: threads, forked and spawned processes; nothing of the process is changed.

The long forms are ``benchmarks/torture/threads.py`` and ``benchmarks/torture/forks.py``.
"""

import locale
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import glasscell as gc
from glasscell.core import blas_threads

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
ENGINES = ["numpy", pytest.param("numba", marks=pytest.mark.skipif(find_spec("numba") is None, reason="no Numba"))]
each_engine = pytest.mark.parametrize("engine", ENGINES)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")


@pytest.fixture(scope="module")
def threads():
    """The script that shares models among threads."""
    if not BENCHMARKS.is_dir():
        pytest.skip("benchmarks are not part of an installed package")
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield import_module("torture.threads")
    finally:
        sys.path.remove(str(BENCHMARKS))


# Threads


@each_engine
def test_predictions_in_many_threads_have_the_bits_of_one_thread(threads, engine):
    assert threads.check_predictions(engine, 16, 12, seed=1).figure == "0 different"


@each_engine
def test_streams_in_many_threads_have_the_bits_of_one_thread(threads, engine):
    assert threads.check_streams(engine, 8, 24, 5, seed=1).figure == "0 different"


def test_a_difference_is_reported(threads):
    """A model whose weights change while others use it."""
    model, x = gc.LSTM(3, 4), np.ones((5, 3), np.float32)
    case, differences = threads.Case("changed", lambda: model(x), model(x)), threads.Differences()
    differences.check(case)
    model.parameters.vector[3] += 1e-3
    differences.check(case)
    differences.check(threads.Case("failed", lambda: model(x[:, :2]), x))
    assert differences.names[0] == "changed"
    assert "failed: ValueError" in differences.names[1]
    assert len(differences.names) == 2


FIRST_USE = """if True:
    from threading import Barrier, Thread
    import numpy as np
    import glasscell as gc

    x, begin, results = np.ones((4, 6, 3), np.float32), Barrier(12), {}

    def use(k):
        engine = ("numpy", sys_engine)[k % 2]
        begin.wait()
        lstm = gc.LSTM(3, 5, engine=engine, seed=0)
        outputs, _, tape = shared[engine].forward(x) if k % 3 else lstm.forward(x)
        gradients = lstm.backward(tape, outputs)[2].vector
        steps = lstm.stream()
        pushed = np.stack([steps.push(step).copy() for step in x[0]])
        trace = lstm.trace(x[0], d_outputs=outputs[0]).layer[0].d_h
        results.setdefault(engine, []).append(b"".join(a.tobytes() for a in (outputs, gradients, pushed, trace)))

    from importlib.util import find_spec
    sys_engine = "numba" if find_spec("numba") else "numpy"
    shared = {engine: gc.LSTM(3, 5, engine=engine, seed=0) for engine in ("numpy", sys_engine)}
    threads = [Thread(target=use, args=(k,)) for k in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(map(len, results.values())) == 12, results.keys()
    assert all(len(set(of_engine)) == 1 for of_engine in results.values())
"""


def run(*command, **environment):
    return subprocess.run(
        [sys.executable, "-W", "ignore", *command],
        cwd=BENCHMARKS if BENCHMARKS.is_dir() else None,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_first_use_may_be_in_many_threads_at_once():
    """Modules are imported, and the engine is loaded, when they are used first."""
    done = run("-c", FIRST_USE)
    assert (done.returncode, done.stderr) == (0, "")


# Processes


@needs_fork
@pytest.mark.parametrize(
    ("state", "engine"), [pytest.param("busy", "numba", marks=ENGINES[1].marks), ("spawn", "numpy")]
)
def test_children_of_a_process_whose_threads_compute_end_with_the_same_bits(state, engine, threads):
    """Forks, with two BLAS threads; of the NumPy engine spawned ones: see docs/guarantees.md on OpenBLAS."""
    number = "3" if state == "busy" else "1"
    done = run(
        *("-m", "torture.forks", "--trial", state, "--engine", engine, "--forks", number), OPENBLAS_NUM_THREADS="2"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def outputs_of(models, inputs):
    return [np.asarray(model(x)).tobytes() for model, x in zip(models, inputs, strict=True)]


def models_and_inputs(threads):
    """Models of all kinds, and a batch for each; those of the compiled engine only where it is installed."""
    models = list(threads.shared_models("numpy" if find_spec("numba") is None else "numba").values())
    return models, [threads.inputs_of(model, np.random.default_rng(2), 5, 3) for model in models]


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_pool_of_processes_computes_the_same_bits(method, threads):
    """The model itself is the function that the workers receive."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"there is no {method} here")
    models, inputs = models_and_inputs(threads)
    with multiprocessing.get_context(method).Pool(1) as pool:
        results = [pool.apply_async(model, (x,)) for model, x in zip(models, inputs, strict=True)]
        assert [result.get(600).tobytes() for result in results] == outputs_of(models, inputs)


def test_joblib_computes_the_same_bits(threads):
    joblib = pytest.importorskip("joblib")
    models, inputs = models_and_inputs(threads)
    jobs = [joblib.delayed(model)(x) for model, x in zip(models, inputs, strict=True)]
    results = joblib.Parallel(2, backend="loky")(jobs)
    assert [result.tobytes() for result in results] == outputs_of(models, inputs)


def test_a_pickled_model_that_other_threads_use_is_the_same_model(threads):
    models, inputs = models_and_inputs(threads)
    expected = outputs_of(models, inputs)
    with threads.in_background(lambda: outputs_of(models, inputs), pause=0.0):
        for _ in range(5):
            data = pickle.dumps(models)
            assert outputs_of(pickle.loads(data), inputs) == expected  # noqa: S301 - written here


# The process


def process_settings():
    """Return all that a library might change for the whole process."""
    blas = blas_threads._blas()
    return {
        "BLAS threads": blas and blas.get_threads(),
        "NumPy errors": np.geterr(),
        "NumPy printing": np.get_printoptions(),
        "warnings": list(warnings.filters),
        "signal handlers": [signal.getsignal(number) for number in signal.valid_signals()],
        "locale": locale.setlocale(locale.LC_ALL),
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "cores": os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None,
        "random numbers": (random.getstate(), repr(np.random.get_state())),  # noqa: NPY002 - the global one
        "interpreter": (sys.getswitchinterval(), sys.getrecursionlimit(), sys.excepthook, sys.stdout, sys.stderr),
        "threading": (threading.excepthook, threading.stack_size()),
    }


@each_engine
def test_nothing_of_the_process_is_changed(engine, tmp_path, rng):
    """By construction, passes, streams, traces, trainings, files, refused arguments and failing trainings."""
    x, y = rng.normal(size=(16, 7, 3)).astype(np.float32), np.arange(16) % 2
    before = process_settings()

    def fail(_):
        raise ZeroDivisionError

    lstm = gc.LSTM(3, 8, 2, dropout=0.1, engine=engine)
    model = gc.Sequential([lstm, gc.layers.FinalState(), gc.Linear(8, 2)])
    assert model.summary()
    gc.fit(model, (x, y), epochs=1, loss="categorical_cross_entropy", batch_size=8)
    with pytest.raises(ZeroDivisionError):
        gc.fit(model, (x, y), epochs=1, loss="categorical_cross_entropy", batch_size=8, callbacks=[fail])
    with pytest.raises(ValueError, match="x must"):
        model(x[..., :2])
    overflowing = gc.LSTM(3, 4, engine=engine)
    overflowing.parameters.vector[:] = 1e30
    overflowing(x)
    stream = model.stream()
    for step in x[0]:
        stream.push(step)
    model.trace(x[0], y[0], loss="categorical_cross_entropy").report(tmp_path / "report.html")
    model.save(tmp_path / "model.safetensors")
    gc.load(tmp_path / "model.safetensors")(x)
    after = process_settings()
    assert [name for name, value in before.items() if after[name] != value] == []
