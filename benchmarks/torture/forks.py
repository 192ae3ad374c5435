"""Fork a process that uses shared models, idle and while its other threads compute. ``--forks 200``.

Each child computes with the models of the parent: passes, inference and a training. It must end, with the same bits as
the parent. The compiled engine runs with all threads. NumPy's products run with one BLAS thread, the documented
setting: OpenBLAS itself can wait forever in the child of a process whose other threads compute products
(``--blas-threads 2`` counts that). ``--loads`` forks a fresh process while another thread imports and compiles the
engine. POSIX only.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

import glasscell as gc
from torture.bars import Bar, report
from torture.threads import ENGINES, in_background

DEADLINE = 120.0  # seconds for a child that takes a few milliseconds on an idle machine
MAX_HANGS = 3  # after which the other forks are not tried
CHILD = 3  # exit status of a child with other bits


def work_with(engine: str) -> Callable[[], bytes]:
    """Return a function that computes with shared models, and returns all bits of its results."""
    lstm = gc.LSTM(32, 64, engine=engine, seed=0)
    x = np.random.default_rng(0).normal(size=(40, 12, 32)).astype(np.float32)  # enough for several threads
    targets = np.zeros((40, 12, 4), np.float32)

    def work() -> bytes:
        outputs, _, tape = lstm.forward(x)
        gradients = lstm.backward(tape, np.ones_like(outputs))[2]
        trained = gc.Sequential([gc.LSTM(32, 16, engine=engine), gc.Linear(16, 4)])
        gc.fit(trained, (x, targets), 2, loss="squared_error", batch_size=40)
        results = outputs, gradients.vector, lstm(x), lstm.stream().push(x[0, 0]), trained.parameters.vector
        return b"".join(result.tobytes() for result in results)

    return work


def end_of(child: int) -> str:
    """Wait for a child; return "" if it has ended well, and otherwise what is wrong."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            return {0: "", CHILD: "different"}.get(code, f"exit {code}")
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hang"


def fork(work: Callable[[], bytes], expected: bytes) -> str:
    """Compute in a forked child; return "" if its results have the same bits."""
    child = os.fork()
    if not child:
        try:
            os._exit(0 if work() == expected else CHILD)
        finally:
            os._exit(1)
    return end_of(child)


def trial(engine: str, state: str, forks: int, seed: int) -> list[str]:
    """Fork an idle process, or one of which two other threads compute; return what is wrong."""
    work, rng, wrong = work_with(engine), np.random.default_rng(seed), []
    expected = work()
    with in_background(*[partial(work)] * (2 if state == "busy" else 0), pause=0.0):
        for _ in range(forks):
            time.sleep(rng.uniform(0, 0.01))
            result = fork(work, expected)
            wrong += [result] if result else []
            if wrong.count("hang") == MAX_HANGS:
                break
    return wrong


def load_trial(seed: int) -> list[str]:
    """Fork while another thread imports the engine and loads or compiles its functions."""
    x = np.zeros((2, 5, 3), np.float32)

    def work() -> bytes:
        outputs, _, tape = gc.LSTM(3, 8, engine="numba", seed=0).forward(x)
        return outputs.tobytes() + gc.LSTM(3, 8, engine="numba", seed=0).backward(tape, outputs)[0].tobytes()

    with in_background(work, pause=0.0):
        time.sleep(np.random.default_rng(seed).uniform(0, 1))
        child = os.fork()
        if not child:
            try:
                os._exit(0 if len(work()) else 1)
            finally:
                os._exit(1)
        result = end_of(child)
    return [result] if result else []


def in_process(arguments: list[str], blas_threads: int | None) -> list[str]:
    """Run a trial in a process with this number of BLAS threads; return what is wrong."""
    limits = {} if blas_threads is None else {"OPENBLAS_NUM_THREADS": str(blas_threads)}
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"} | limits
    command = [sys.executable, "-W", "ignore", "-m", "torture.forks", *arguments]
    folder = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    return [f"exit {done.returncode}"] if done.returncode else done.stdout.split("\n")[:-1]


def bar(name: str, wrong: list[str]) -> Bar:
    """Return the bar of a trial."""
    figure = ", ".join(f"{wrong.count(kind)} × {kind}" for kind in sorted(set(wrong)))
    return Bar(name, figure or "0 hangs, 0 different", "0 hangs, 0 different", not wrong)


def main() -> int:
    """Measure the bars; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=ENGINES, help="default: both")
    parser.add_argument("--forks", type=int, default=200, help="forks of each state, idle and busy (default: 200)")
    parser.add_argument("--loads", type=int, default=10, help="forks during the import of Numba (default: 10)")
    parser.add_argument("--blas-threads", type=int, default=1, help="of the NumPy engine's trials (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument("--trial", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trial:
        loads = options.trial == "load"
        wrong = load_trial(options.seed) if loads else trial(options.engine, options.trial, options.forks, options.seed)
        sys.stdout.writelines(f"{result}\n" for result in wrong)
        return 0

    def bars() -> Iterator[Bar]:
        for engine in (options.engine,) if options.engine else ENGINES:
            threads = None if engine == "numba" else options.blas_threads
            limit = "" if threads is None else f", BLAS threads: {threads}"
            for state in ("idle", "busy"):
                arguments = ["--trial", state, "--engine", engine, "--forks", str(options.forks)]
                wrong = in_process([*arguments, "--seed", str(options.seed)], threads)
                yield bar(f"{options.forks} forks of a process, {state}, {engine}{limit}", wrong)
        if options.engine != "numpy" and options.loads:
            loads = [in_process(["--trial", "load", "--seed", str(k)], None) for k in range(options.loads)]
            yield bar(f"{options.loads} forks during the import of Numba", [kind for wrong in loads for kind in wrong])

    return report(bars())


if __name__ == "__main__":
    sys.exit(main())
