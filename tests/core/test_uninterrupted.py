"""Work that must not be left incomplete runs once, to completion, even if the waiting caller is interrupted."""

import os
import signal
import subprocess
import sys
from threading import Event, Thread, get_ident
from types import SimpleNamespace

import pytest

from glasscell.core import uninterrupted
from glasscell.core.uninterrupted import once_uninterrupted

needs_signals = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no signals of POSIX here")


class AlarmError(Exception):
    pass


@pytest.fixture
def alarm():
    def handler(*_):
        raise AlarmError

    old = signal.signal(signal.SIGALRM, handler)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, 0.01)
    signal.signal(signal.SIGALRM, old)


@needs_signals
def test_an_interrupted_caller_that_calls_again_waits_for_the_same_run(alarm):
    goes_on, runs = Event(), []

    @once_uninterrupted
    def work(x):
        runs.append(get_ident())
        goes_on.wait(30)
        return SimpleNamespace(x=x)

    def interrupted():
        alarm()
        work(5)

    for _ in range(3):
        with pytest.raises(AlarmError):
            interrupted()
    goes_on.set()
    result = work(5)
    assert result.x == 5
    assert work(5) is result
    assert work(6) is not result
    assert len(runs) == 2
    assert get_ident() not in runs


def test_after_an_error_it_runs_again():
    errors = [ZeroDivisionError, KeyError]

    @once_uninterrupted
    def work():
        if errors:
            raise errors.pop()
        return 1

    for error in (KeyError, ZeroDivisionError):
        with pytest.raises(error):
            work()
    assert work() == 1


def test_the_caller_runs_the_function_if_no_thread_can_start(monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(uninterrupted, "start_new_thread", refuse)
    assert once_uninterrupted(get_ident)() == get_ident()


PROGRAM = """if True:
    import signal, sys, numpy as np, glasscell as gc
    def interrupt(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGALRM, interrupt)
    x = np.ones((4, 5, 3), np.float32)
    lstm = gc.LSTM(3, 4, seed=0, engine="numba")
    try:
        signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]))
        lstm.infer(x)
        raise SystemExit("not interrupted")
    except KeyboardInterrupt:
        pass
    expected = gc.LSTM(3, 4, seed=0, engine="numpy").infer(x)[0]
    np.testing.assert_allclose(lstm.infer(x)[0], expected, atol=1e-6)
"""


@needs_signals
@pytest.mark.parametrize("seconds", ["0.02", "0.1"])
def test_an_interrupted_import_of_numba_can_be_repeated(seconds):
    pytest.importorskip("numba")
    subprocess.run([sys.executable, "-c", PROGRAM, seconds], check=True, env=os.environ)


FORK = """if True:
    import os
    from threading import Event, Thread, Timer
    from glasscell.core.uninterrupted import once_uninterrupted

    started, goes_on = Event(), Event()

    def work():
        started.set()
        goes_on.wait()
        return nested()

    nested, work = once_uninterrupted(os.getpid), once_uninterrupted(work)
    thread = Thread(target=work)
    thread.start()
    started.wait()
    Timer(0.2, goes_on.set).start()
    child = os.fork()
    if not child:
        os._exit(0 if goes_on.is_set() and work() in (os.getpid(), os.getppid()) else 1)
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert work() == os.getpid()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_fork_waits_for_the_calls_of_other_threads():
    """Such as an import of Numba, whose locks would be held forever in the child; ``benchmarks/torture`` forks then."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_fork_waits_for_the_end_of_the_calls_that_run():
    running, begun, may_end = uninterrupted._Running(), Event(), Event()

    def call():
        running.begin()
        begun.set()
        may_end.wait(30)
        running.end()

    def fork():
        running.before_fork()
        running.after_fork()

    threads = [Thread(target=function, daemon=True) for function in (call, fork)]
    threads[0].start()
    assert begun.wait(30)
    threads[1].start()
    threads[1].join(0.1)
    assert threads[1].is_alive()
    may_end.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
