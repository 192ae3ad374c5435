"""Small trainings use one BLAS thread, and the user's number of threads is restored in every case."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

import numpy as np
import pytest

import glasscell as gc
from glasscell.core import blas_threads
from glasscell.core.blas_threads import with_one_blas_thread


@pytest.fixture
def blas(monkeypatch):
    """A library of three threads, and the numbers that it was given; its functions are of C, as the real ones are."""
    numbers = [3]
    monkeypatch.setattr(
        blas_threads, "_blas", lambda: blas_threads._Blas(partial(numbers.__getitem__, -1), numbers.append)
    )
    yield numbers
    assert not blas_threads._limit.active
    assert not blas_threads._limit.calls


def test_one_thread_is_used_and_the_number_restored(blas):
    assert with_one_blas_thread(lambda: blas[-1]) == 1
    assert blas == [3, 1, 3]


def test_the_number_is_restored_after_an_exception(blas):
    for error in (ZeroDivisionError, KeyboardInterrupt):

        def fail(error=error):
            raise error

        with pytest.raises(error):
            with_one_blas_thread(fail)
        assert blas[-1] == 3


def test_nested_calls_restore_the_number_once(blas):
    assert with_one_blas_thread(lambda: (with_one_blas_thread(lambda: blas[-1]), blas[-1])) == (1, 1)
    assert blas == [3, 1, 3]


def test_a_limit_set_by_the_user_remains(blas):
    blas.append(1)
    with_one_blas_thread(lambda: None)
    assert blas[-1] == 1
    blas.append(2)
    with_one_blas_thread(lambda: blas.append(5))  # a callback may set another one
    assert blas[-1] == 5


def test_the_last_of_several_threads_restores_the_number(blas):
    meeting = Barrier(4, timeout=30)

    def work(k):
        meeting.wait()
        time.sleep(0.001 * k)
        return blas[-1]

    with ThreadPoolExecutor(4) as pool:
        for _ in range(30):
            assert set(pool.map(lambda k: with_one_blas_thread(lambda: work(k)), range(4))) == {1}
            assert blas[-1] == 3


def test_the_numba_engine_uses_the_number_of_threads_of_the_user(blas, monkeypatch):
    monkeypatch.setattr(blas_threads, "_libraries", list)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert with_one_blas_thread(blas_threads.max_threads) == 3


def test_the_function_runs_with_an_unknown_blas_library(monkeypatch):
    monkeypatch.setattr(blas_threads, "_blas", lambda: None)
    assert with_one_blas_thread(lambda: 5) == 5


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no signals of POSIX here")
def test_interrupts_at_any_point_leave_the_number(blas, rng):
    class AlarmError(Exception):
        pass

    def handler(*_):
        raise AlarmError

    def work():
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-4, 3e-4))
        while True:
            with_one_blas_thread(lambda: None)

    old = signal.signal(signal.SIGALRM, handler)
    try:
        for _ in range(300):
            del blas[1:]
            with pytest.raises(AlarmError):
                work()
            assert blas[-1] == 3
            assert not blas_threads._limit.active
            assert not blas_threads._limit.calls
    finally:
        signal.signal(signal.SIGALRM, old)


@pytest.mark.parametrize(("engine", "expected"), [("numpy", [1, 3]), ("numba", [1, 1])])
def test_a_small_or_compiled_training_uses_one_thread_and_a_large_one_all(blas, engine, expected):
    if engine == "numba":
        pytest.importorskip("numba")
    seen, data = [], (np.zeros((1 << 13, 2, 1)), np.zeros((1 << 13, 2, 8)))
    for batch_size in (4, 1 << 13):
        model = gc.LSTM(1, 8, engine=engine)
        gc.fit(
            *(model, data, 1),
            loss="squared_error",
            batch_size=batch_size,
            callbacks=[lambda _: seen.append(blas[-1])],
        )
        assert blas[-1] == 3
    assert seen == expected


PROGRAM = """if True:
    import os
    import numpy as np
    import glasscell as gc
    from glasscell.core import blas_threads as threads
    blas = threads._blas()
    if blas is None:
        raise SystemExit("unknown")
    blas.set_threads(2)
    seen = []
    def fork(_):
        seen.append(blas.get_threads())
        if hasattr(os, "fork"):
            child = os.fork()
            if not child:
                os._exit(blas.get_threads() - 2)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    gc.fit(gc.CopyLSTM(hidden_size=8), gc.tasks.Copy(2), 1, batch_size=4, callbacks=[fork])
    assert seen == [1] and blas.get_threads() == 2
"""


def test_the_library_of_numpy_is_found():
    """With the wheels of NumPy; others may have a BLAS without such functions."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True, check=False)
    if "unknown" in done.stderr and "openblas" not in str(np.show_config(mode="dicts")).lower():
        pytest.skip("NumPy's BLAS is another one")
    assert done.returncode == 0, done.stderr


def test_libraries_beside_numpy_are_searched(tmp_path, monkeypatch):
    """Where what NumPy's module depends on is not found through it: here there is no module."""
    packages = Path(np.__file__).parents[1]
    if not list(packages.glob("numpy.libs/*openblas*")):
        pytest.skip("there is no folder numpy.libs with OpenBLAS")
    (tmp_path / "numpy.libs").symlink_to(packages / "numpy.libs")
    module = SimpleNamespace(__file__=str(tmp_path / "numpy" / "_core" / "_multiarray_umath.so"))
    monkeypatch.setattr(blas_threads, "import_module", lambda _: module)
    found = blas_threads._blas.__wrapped__()
    assert found.get_threads() == blas_threads._blas().get_threads()


@pytest.mark.parametrize(("known", "expected"), [(6, 6), (None, 1)])
def test_the_cores_of_the_machine_count_where_those_of_the_process_are_unknown(known, expected, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: known)
    monkeypatch.setattr(blas_threads, "_blas_threads", lambda: None)
    assert blas_threads.max_threads() == expected


@pytest.mark.parametrize("installed", [True, False])
def test_libraries_are_searched_once_by_threadpoolctl_if_it_is_installed(installed, monkeypatch):
    if installed:
        pytest.importorskip("threadpoolctl")
    searched = []
    monkeypatch.setattr(blas_threads, "is_installed", lambda name: searched.append(name) or installed)
    blas_threads._libraries.cache_clear()
    try:
        assert bool(blas_threads._libraries()) == installed
        assert blas_threads._libraries() is blas_threads._libraries()
        assert searched == ["threadpoolctl"]
    finally:
        blas_threads._libraries.cache_clear()


@pytest.mark.parametrize("change", ["", "del os.register_at_fork"])
def test_forks_are_noticed_where_the_system_has_them(change):
    """In a new process: the functions are registered when the module is imported."""
    program = f"""
import os
registered = []
os.register_at_fork = lambda **functions: registered.append(functions)
{change}
from glasscell.core import blas_threads
print([sorted(functions) for functions in registered if blas_threads._after_fork in functions.values()])
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ("[]" if change else "[['after_in_child']]")
