"""Fork a process that uses shared models, idle and while its other threads compute. ``--forks 200``.

Each child computes with the models of the parent: passes, inference and a training. It must end, with the same bits as
the parent. The compiled engine is forked in both states. A process whose threads multiply matrices by NumPy is not: in
the child OpenBLAS can wait forever, see docs/guarantees.md, also without this library (``--count-hangs`` counts that).
Such a process starts others by "spawn". ``--loads`` forks a fresh process while another thread imports and compiles
the engine. POSIX only.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import glasscell as gc
from torture.bars import Bar, report
from torture.threads import ENGINES, in_background

DEADLINE = 120.0  # seconds for a child that takes a few milliseconds on an idle machine
MAX_HANGS = 3  # after which the other forks are not tried
UNBOUNDED = "none: a fault of OpenBLAS"
CHILD = 3  # exit status of a child with other bits


def work_with(engine: str) -> Callable[[], bytes]:
    """Return a function that computes with shared models, and returns all bits of its results."""
    lstm = gc.LSTM(32, 64, engine=engine, seed=0)
    x = np.random.default_rng(0).normal(size=(40, 12, 32)).astype(np.float32)  # enough for several threads
    targets = np.zeros((40, 12, 16), np.float32)

    def work() -> bytes:
        outputs, _, tape = lstm.forward(x)
        gradients = lstm.backward(tape, np.ones_like(outputs))[2]
        trained = gc.LSTM(32, 16, engine=engine)  # alone: other layers multiply by BLAS
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


def compute(engine: str, expected: bytes) -> None:
    """End the process, which was spawned, with the status of its results."""
    sys.exit(0 if work_with(engine)() == expected else CHILD)


def spawn(engine: str, expected: bytes) -> str:
    """Compute in a spawned process; return "" if its results have the same bits."""
    process = multiprocessing.get_context("spawn").Process(target=compute, args=(engine, expected))
    process.start()
    process.join(DEADLINE)
    if process.exitcode is None:
        process.kill()
    return {0: "", None: "hang", CHILD: "different"}.get(process.exitcode, f"exit {process.exitcode}")


def trial(engine: str, state: str, forks: int, seed: int) -> list[str]:
    """Fork an idle process, or fork or spawn from one of which two other threads compute; return what is wrong."""
    work, rng, wrong = work_with(engine), np.random.default_rng(seed), []
    expected = work()
    pause = 0.02 if state == "spawn" else 0.0  # a process takes long to start
    with in_background(*[work] * (0 if state == "idle" else 2), pause=pause):
        for _ in range(forks):
            time.sleep(rng.uniform(0, 0.01))
            result = spawn(engine, expected) if state == "spawn" else fork(work, expected)
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


def bar(name: str, wrong: list[str], bound: str = "0 hangs, 0 different") -> Bar:
    """Return the bar of a trial."""
    figure = ", ".join(f"{wrong.count(kind)} × {kind}" for kind in sorted(set(wrong)))
    return Bar(name, figure or "0 hangs, 0 different", bound, not wrong or bound == UNBOUNDED)


def main() -> int:
    """Measure the bars; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--forks", type=int, default=200, help="forks of each state, idle and busy (default: 200)")
    parser.add_argument("--spawns", type=int, default=10, help="processes that a busy one spawns (default: 10)")
    parser.add_argument("--loads", type=int, default=10, help="forks during the import of Numba (default: 10)")
    parser.add_argument("--count-hangs", action="store_true", help="also fork while NumPy multiplies in other threads")
    parser.add_argument("--blas-threads", type=int, default=1, help="of NumPy in --count-hangs (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument("--trial", help=argparse.SUPPRESS)
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trial:
        loads = options.trial == "load"
        wrong = load_trial(options.seed) if loads else trial(options.engine, options.trial, options.forks, options.seed)
        sys.stdout.writelines(f"{result}\n" for result in wrong)
        return 0

    def run(state: str, engine: str, forks: int, blas_threads: int | None = None) -> list[str]:
        arguments = ["--trial", state, "--engine", engine, "--forks", str(forks), "--seed", str(options.seed)]
        return in_process(arguments, blas_threads)

    def bars() -> Iterator[Bar]:
        forks, spawns, limit = options.forks, options.spawns, options.blas_threads
        yield bar(f"{forks} forks of an idle process, numba", run("idle", "numba", forks))
        yield bar(f"{forks} forks of a busy process, numba", run("busy", "numba", forks))
        loads = [in_process(["--trial", "load", "--seed", str(k)], None) for k in range(options.loads)]
        yield bar(f"{options.loads} forks during the import of Numba", [kind for wrong in loads for kind in wrong])
        yield bar(f"{forks} forks of an idle process, numpy", run("idle", "numpy", forks))
        yield bar(f"{spawns} processes spawned by a busy one, numpy", run("spawn", "numpy", spawns))
        if options.count_hangs:
            name = f"{forks} forks of a busy process, numpy, BLAS threads: {limit}"
            yield bar(name, run("busy", "numpy", forks, limit), UNBOUNDED)

    return report(bars())


if __name__ == "__main__":
    sys.exit(main())
