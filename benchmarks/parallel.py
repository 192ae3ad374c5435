"""Costs of a training with several processes: against one process, of the messages, and a model for 2 to 64 machines.

    python benchmarks/parallel.py                       # everything, into parallel_costs.json and docs/parallel.md
    python benchmarks/parallel.py one two --rounds 40   # only these, printed
    python benchmarks/parallel.py docs                  # the tables of docs/parallel.md, from parallel_costs.json

one: one rank under mpiexec, against a process without MPI (bar: 1.03 times its time). two: two ranks with a core each,
against one process with two threads (bar: 1 / 0.95). Both sides are processes that take turns, in rounds of some
updates; the ratio is the median over the rounds, and the process that waits does not use a core. messages: time of the
exchange of one update at two ranks. computation: time of one update by batch size. The model of docs/parallel.md adds
the time of the messages by the assumptions of `Network`.

Run it on a quiet machine with at least two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mpiexec import find_mpiexec

import glasscell as gc
from glasscell.training import ParallelTraining, Training, TrainingOptions
from glasscell.training.parallel.messages import UpdateMessage
from glasscell.training.parallel.ranks import Ranks

B, H, T, I, O = 128, 256, 100, 64, 8
UPDATES = 3  # of a round
SIZES = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)  # weights
MACHINES = (2, 4, 8, 16, 32, 64)
COSTS = Path(__file__).with_name("parallel_costs.json")
TAG = 1
PAUSE = 0.002  # seconds between two looks of a rank that waits
WEIGHTS = 4 * H * (H + I + 1) + (H + 1) * O
DOCS = Path(__file__).parents[1] / "docs" / "parallel.md"
BEGIN, END = "<!-- costs: benchmarks/parallel.py -->", "<!-- end of the costs -->"


class Network(NamedTuple):
    """Assumptions of the model about a network: 10 Gb/s Ethernet, as far as TCP lets programs use it."""

    bandwidth: float = 1.15e9  # bytes per second of each machine, in each direction at once
    latency: float = 30e-6  # seconds of a message without any bytes


NETWORK = Network()


# Processes that take turns


def make_training(batch_size: int, comm: Any = None) -> Training:
    """Return a training on random sequences."""
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(batch_size, T, width)).astype(np.float32) for width in (I, O))
    model = gc.Sequential([gc.LSTM(I, H, seed=0), gc.Linear(H, O, seed=1)])
    options = TrainingOptions(
        updates=1 << 30, loss="squared_error", batch_size=batch_size, comm=comm, compare_ranks_every=None
    )
    return (Training if comm is None else ParallelTraining)(model, (x, y), options)


def serve() -> None:
    """Make a round of updates for each line of standard input, and print its seconds; on rank 0 of all ranks."""
    comm = None
    if "PMI_SIZE" in os.environ or "OMPI_COMM_WORLD_SIZE" in os.environ:
        from mpi4py import MPI

        comm = MPI.COMM_WORLD
    several = comm if comm is not None and comm.size > 1 else None
    training = make_training(B, several)
    for line in lines_for_all(several):
        start = time.perf_counter()
        for _ in range(int(line)):
            training.step()
        if several is None or several.rank == 0:
            print(time.perf_counter() - start, flush=True)


def lines_for_all(comm: Any) -> Iterator[str]:
    """Yield the lines of standard input of rank 0 on all ranks, which wait without using a core."""
    if comm is None or comm.rank == 0:
        for line in sys.stdin:
            for rank in range(1, 1 if comm is None else comm.size):
                comm.send(line, dest=rank, tag=TAG)
            yield line
        for rank in range(1, 1 if comm is None else comm.size):
            comm.send("", dest=rank, tag=TAG)
        return
    while True:
        while not comm.Iprobe(source=0, tag=TAG):
            time.sleep(PAUSE)
        line = comm.recv(source=0, tag=TAG)
        if not line:
            return
        yield line


@contextmanager
def contender(num_ranks: int) -> Iterator[Callable[[int], float]]:
    """Start a process without MPI (0), or ranks; yield a function that makes updates and returns the seconds of one."""
    command = [*launcher(num_ranks), sys.executable, str(Path(__file__).resolve()), "serve"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), text=True
    ) as process:

        def seconds(updates: int) -> float:
            print(updates, file=process.stdin, flush=True)
            return float(process.stdout.readline()) / updates

        seconds(1)  # fills caches and buffers
        seconds(UPDATES)
        yield seconds
        process.stdin.close()


def launcher(num_ranks: int) -> list[str]:
    """Return the words that start this number of ranks; none for 0."""
    return [find_mpiexec(), "-n", str(num_ranks)] if num_ranks else []


def environment() -> dict[str, str]:
    """Return the variables of the processes: the MPI library of the environment is found, without any launcher's."""
    libraries = [str(Path(find_mpiexec()).resolve().parents[1] / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
    return os.environ | {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries))}


def compare(num_ranks: int, rounds: int) -> dict[str, float]:
    """Return the median of the ratios of the times of ranks and of one process, and the medians of both times."""
    with contender(0) as alone, contender(num_ranks) as together:
        times = []
        for k in range(rounds):  # each side is first in every second round
            sides = [alone, together] if k % 2 else [together, alone]
            measured = [side(UPDATES) for side in sides]
            times.append(measured if k % 2 else measured[::-1])
    ratio = statistics.median(after / before for before, after in times)
    alone_median, ranks_median = (statistics.median(side) for side in zip(*times, strict=True))
    return {"ratio": ratio, "ranks": ranks_median, "one_process": alone_median}


# Messages


def measure_exchange(rounds: int) -> None:
    """Print the seconds of the exchange of one update, by the number of weights; started on all ranks."""
    from mpi4py import MPI

    comm, found = MPI.COMM_WORLD, {}
    for size in SIZES:
        message, gradient, times = UpdateMessage(Ranks(comm), size, np.float32), np.ones(size, np.float32), []
        for _ in range(rounds + 2):
            message.clear()
            message.add(gradient, 1.0)
            comm.Barrier()
            start = time.perf_counter()
            message.exchange()
            message.finish(float(comm.size), gradient)
            times.append(time.perf_counter() - start)
        found[size] = max(comm.allgather(statistics.median(times[2:])))
    if comm.rank == 0:
        print(json.dumps(found))


def messages(rounds: int) -> dict[str, float]:
    """Return the seconds of the exchange of one update at two ranks, by the number of weights."""
    words = [*launcher(2), sys.executable, __file__, "exchange", "--rounds", str(rounds)]
    done = subprocess.run(words, env=environment(), check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(done.stdout)
    return found


# Model


def computation(rounds: int) -> dict[str, float]:
    """Return the seconds of an update in one process, by batch size."""
    trainings = {size: make_training(size) for size in (B // n for n in (1, *MACHINES))}
    times: dict[int, list[float]] = {size: [] for size in trainings}
    for k in range(rounds + 2):
        for size, training in trainings.items():
            start = time.perf_counter()
            training.step()
            times[size] += [time.perf_counter() - start] if k > 1 else []
    return {str(size): statistics.median(values) for size, values in times.items()}


def exchange_seconds(num_machines: int, weights: int, network: Network) -> float:
    """Return the time of the messages of an update: n - 1 parts of the gradient to the others, and again of the sum.

    Each machine sends 2 (n - 1) / n times 4 bytes per weight, in 2 (n - 1) messages.
    """
    n = num_machines
    return 2 * (n - 1) * network.latency + 2 * (n - 1) / n * 4 * weights / network.bandwidth


def predict(update: dict[str, float], network: Network = NETWORK) -> list[dict[str, float]]:
    """Return the times of an update on each number of machines: of the same batch, and of one batch per machine."""
    rows = []
    for n in MACHINES:
        messages = exchange_seconds(n, WEIGHTS, network)
        divided, alone = update[str(B // n)] + messages, update[str(B)]
        rows.append(
            {
                "machines": n,
                "messages": messages,
                "divided": divided,
                "speed_up": alone / divided,
                "efficiency": alone / (alone + messages),
                "large": exchange_seconds(n, SIZES[-1], network),
            }
        )
    return rows


def tables(costs: dict[str, Any]) -> str:
    """Return the measured costs and the predictions of the model as Markdown."""
    one, two, sent = costs["one"], costs["two"], costs["messages"]
    sizes = " | ".join(f"{int(size) / 1e6:g}" for size in sent)
    times = " | ".join(f"{_ms(seconds)}" for seconds in sent.values())
    lines = [
        "| measured | time of an update | against the other side |",
        "| --- | --- | --- |",
        f"| one rank under MPI, against one process without | {_ms(one['ranks'])} | {one['ratio']:.3f} |",
        f"| two ranks with a core each, against one process with two threads | {_ms(two['ranks'])} "
        f"| {two['ratio']:.3f} |",
        "",
        f"| millions of weights | {sizes} |",
        "| --- " * (len(sent) + 1) + "|",
        f"| messages of an update at two ranks of this machine | {times} |",
        "",
        "| machines | messages | update of 128 sequences | against one machine | efficiency with 128 per machine "
        "| messages of 10 million weights |",
        "| --- " * 6 + "|",
        f"| 1 | 0 | {_ms(costs['computation'][str(B)])} | 1 | 100 % | 0 |",
    ]
    lines += [
        f"| {row['machines']} | {_ms(row['messages'])} | {_ms(row['divided'])} | {row['speed_up']:.1f} "
        f"| {100 * row['efficiency']:.0f} % | {_ms(row['large'])} |"
        for row in predict(costs["computation"])
    ]
    return "\n".join(lines)


def _ms(seconds: float) -> str:
    return f"{float(f'{seconds * 1e3:.2g}'):g} ms"


def with_tables(text: str, costs: dict[str, Any]) -> str:
    """Return the text of docs/parallel.md with the tables of these costs."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{begin}\n{tables(costs)}\n{end}{after}"


MEASUREMENTS: dict[str, Callable[[int], Any]] = {
    "one": partial(compare, 1),
    "two": partial(compare, 2),
    "messages": messages,
    "computation": computation,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help=f"{', '.join(MEASUREMENTS)}, docs (default: all)")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    if options.what == ["serve"]:
        serve()
        return
    if options.what == ["exchange"]:
        measure_exchange(options.rounds)
        return
    if unknown := set(options.what) - {*MEASUREMENTS, "docs"}:
        parser.error(f"unknown: {', '.join(unknown)}")
    costs = {}
    for what in [name for name in MEASUREMENTS if name in options.what or not options.what]:
        costs[what] = MEASUREMENTS[what](options.rounds)
        print(f"{what}: {json.dumps(costs[what])}", flush=True)
    if not options.what:
        COSTS.write_text(json.dumps(costs, indent=1) + "\n")
    if not options.what or "docs" in options.what:
        DOCS.write_text(with_tables(DOCS.read_text("utf-8"), json.loads(COSTS.read_text())), "utf-8")


if __name__ == "__main__":
    main()
