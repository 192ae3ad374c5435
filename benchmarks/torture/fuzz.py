"""Read mutated files of every kind: nothing crashes, hangs, takes much memory or runs code.

    python benchmarks/torture fuzz --count 200000 --minutes 30
    python benchmarks/torture fuzz --kinds onnx,pt --count 10000 --seed 7
    python benchmarks/torture fuzz --seed 7 --only 1234     # one file, again

Each file is a valid one with changes of its structure (headers, shapes, offsets, entries of archives, messages,
operations, cells; checksums are made right again) or of its bytes. The seed and the number of a file determine it. A
refusal must be a ValueError of one line with the name of the file. Files that break a bound are kept in the folder
`--out`. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from torture.bars import Bar, report
from torture.measuring import Measurement, Meter, faults_of

CLASSES = (
    "crash",
    "hang",
    "time",
    "memory",
    "executed",
    "undocumented error",
    "error that is not one line",
    "left behind",
)
HUNG_AFTER = 60.0  # seconds of CPU time without progress, until a worker is killed


def mutant(kinds: dict[str, Any], seeds: dict[str, list[bytes]], seed: int, number: int) -> tuple[str, bytes, int]:
    """Return kind, content and the number of the reader of one file."""
    rng = np.random.default_rng((seed, number))
    name = list(kinds)[number % len(kinds)]
    kind = kinds[name]
    content = seeds[name][int(rng.integers(len(seeds[name])))]
    change = kind.mutations[int(rng.integers(len(kind.mutations)))]
    return name, change(content, rng), int(rng.integers(len(kind.readers)))


def _read_one(kind: Any, content: bytes, reader: int, meter: Meter, folder: Path) -> tuple[Measurement, list[str]]:
    path = folder / f"mutant{kind.suffix}"
    path.write_bytes(content)
    measured = meter.measure(kind.readers[reader], path)
    faults = faults_of(measured, kind.size(content), path.name)
    path.unlink(missing_ok=True)
    return measured, faults


def work(options: argparse.Namespace) -> None:
    """Read every `workers`-th file from `first`; print one line of JSON for each fault, and the number of each file."""
    from torture.fuzzing.kinds import available, import_all

    import_all()
    warnings.simplefilter("error")
    kinds = available()
    if options.kinds:
        kinds = {name: kinds[name] for name in options.kinds.split(";")}
    folder = Path(options.folder)
    seeds = {}
    for name, kind in kinds.items():
        seeds[name] = kind.seeds(folder / f"seed{kind.suffix}")
        for k, reader in ((k, reader) for k in range(len(seeds[name])) for reader in kind.readers):
            (folder / f"seed{kind.suffix}").write_bytes(seeds[name][k])
            with suppress(ValueError):  # load every module that this kind needs
                reader(folder / f"seed{kind.suffix}")
            (folder / f"seed{kind.suffix}").unlink(missing_ok=True)
    meter = Meter(folder)
    numbers = [options.only] if options.only is not None else range(options.first, options.count, options.workers)
    loaded: Counter[str] = Counter()
    for number in numbers:
        print(number, flush=True)
        name, content, reader = mutant(kinds, seeds, options.seed, number)
        measured, faults = _read_one(kinds[name], content, reader, meter, folder)
        loaded[name] += measured.error is None
        if faults and faults[0].startswith(("time", "memory")):  # again: another process may have disturbed it
            measured, faults = _read_one(kinds[name], content, reader, meter, folder)
        if number % 500 < options.workers and (
            left := [path.name for path in folder.iterdir() if not path.name.startswith("run of ")]
        ):
            faults.append(f"left behind: {left}")
        if options.only is not None:
            print(json.dumps({"kind": name, "reader": str(kinds[name].readers[reader]), "size": len(content)}))
            print(json.dumps({"error": repr(measured.error), "seconds": measured.seconds, "bytes": measured.size}))
        if faults:
            where = traceback.format_tb(measured.error.__traceback__)[-3:] if measured.error else []
            entry = {"number": number, "kind": name, "faults": faults, "where": where}
            Path(options.out).mkdir(parents=True, exist_ok=True)
            (Path(options.out) / f"{options.seed}-{number}{kinds[name].suffix}").write_bytes(content)
            print(json.dumps(entry), flush=True)
    print(json.dumps({"loaded": loaded}), flush=True)


class Worker:
    """A process that reads files, and is started again after the file that ended it."""

    def __init__(self, options: argparse.Namespace, index: int) -> None:
        self.options, self.next, self.done = options, index, 0
        self.faults: list[dict[str, Any]] = []
        self.loaded: Counter[str] = Counter()
        self.folder = Path(tempfile.mkdtemp(prefix="torture-", dir="/dev/shm"))
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start the process at the next file."""
        options = self.options
        command = [
            sys.executable,
            "-m",
            "torture.fuzz",
            "--worker",
            "--seed",
            str(options.seed),
            "--first",
            str(self.next),
        ]
        command += ["--count", str(options.count), "--workers", str(options.workers), "--folder", str(self.folder)]
        command += ["--out", str(options.out), "--kinds", options.kinds]
        # Blocks above a quarter of a megabyte go back to the system, so that each read is measured alone.
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_ARENA_MAX": "1", "PYTHONHASHSEED": "0"}
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        self.errors = (self.folder.parent / f"{self.folder.name}.stderr").open("w+")
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment,
            cwd=Path(__file__).parents[1],
        )
        os.set_blocking(self.process.stdout.fileno(), False)
        self.rest, self.used, self.current = "", -1.0, -1

    def poll(self) -> bool:
        """Take what the process printed; return whether there is more to come."""
        text = (self.process.stdout.read() or b"").decode()
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            if line.startswith("{"):
                entry = json.loads(line)
                if "loaded" in entry:
                    self.loaded.update(entry["loaded"])
                else:
                    self.faults.append(entry)
            elif line:
                self.done += self.current >= 0
                self.current = int(line)
        if self.process.poll() is None:
            if text or self.used < 0:
                self.used = self._cpu_seconds()
            if self._cpu_seconds() - self.used < HUNG_AFTER:
                return True
            self.process.kill()
            self.process.wait()
            self._end(f"hang: killed after {HUNG_AFTER:g} s")
        elif not text:
            if self.process.returncode == 0:
                self.done += self.current >= 0
                return False
            self.errors.seek(0)
            self._end(f"crash: exit code {self.process.returncode}: {self.errors.read()[-2000:]}")
        return True

    def _cpu_seconds(self) -> float:
        with suppress(OSError):
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return self.used

    def _end(self, fault: str) -> None:
        """Note the file at which the process ended, and go on after it."""
        if self.current < 0:
            raise RuntimeError(f"a worker does not start: {fault}")
        self.faults.append({"number": self.current, "kind": "?", "faults": [fault], "where": []})
        self.done += 1
        self.next = self.current + self.options.workers
        self.start()

    def close(self) -> None:
        """End the process, remove its folder."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.errors.close()
        Path(self.errors.name).unlink()
        shutil.rmtree(self.folder, ignore_errors=True)


def main() -> int:
    """Read the files; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200_000, help="files (default: 200000)")
    parser.add_argument("--minutes", type=float, default=30.0, help="bound on the time of all (default: 30)")
    parser.add_argument("--seed", type=int, help="default: another one each time, printed")
    parser.add_argument("--kinds", default="", help="separated by semicolons (default: all)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--out", default="build/torture", help="folder of the files that break a bound")
    parser.add_argument("--only", type=int, help="read one file again, by its number")
    for name in ("--worker", "--first", "--folder"):
        parser.add_argument(name, **({"action": "store_true"} if name == "--worker" else {}), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.seed = int(time.time_ns() % 10**9) if options.seed is None else options.seed
    options.first = int(options.first or 0)
    options.out = Path(options.out).resolve()
    if options.only is not None:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as options.folder:
            work(options)
        return 0
    if options.worker:
        work(options)
        return 0
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    print(f"seed {options.seed}; files that break a bound are kept in {options.out}", file=sys.stderr)
    start = time.monotonic()
    workers = [Worker(options, index) for index in range(options.workers)]
    running, stop = list(workers), start + 60 * options.minutes
    try:
        while running and time.monotonic() < stop:
            running = [worker for worker in running if worker.poll()]
            time.sleep(0.05)
    finally:
        for worker in workers:
            worker.close()
    minutes = (time.monotonic() - start) / 60
    done, faults = sum(worker.done for worker in workers), [fault for worker in workers for fault in worker.faults]
    loaded = sum((worker.loaded for worker in workers), Counter[str]())
    for fault in faults:
        print(json.dumps(fault), file=sys.stderr)
    print(f"loaded: {dict(loaded)}", file=sys.stderr)
    title = f"mutated files (seed {options.seed})"
    bars = [
        Bar(
            title,
            f"{done:,} in {minutes:.1f} min",
            f"{options.count:,} in {options.minutes:g} min",
            done >= options.count,
        )
    ]
    for kind in CLASSES:
        count = sum(any(text.startswith(kind) for text in fault["faults"]) for fault in faults)
        bars.append(Bar(f"{title}: {kind}", f"{count}", "0", not count))
    return report(bars)


if __name__ == "__main__":
    sys.exit(main())
