"""Kill a random rank of a training at random moments, and compare the resumed runs with an uninterrupted one.

    python benchmarks/killed_ranks.py --kills 20 --ranks 3

Each trial starts ``mpiexec -n 3 glasscell text train`` with dropout, a carried state and a checkpoint every 10 updates,
and kills one rank (SIGKILL) at a random moment between the first checkpoint and the end. Then: all processes must end
within 10 seconds, without the exit code 0, with one message that a rank was lost and how the run goes on; every
checkpoint in the folder must be whole; and the command of that message must end with the bits of the uninterrupted run,
model and history. Exits with 1 if any of this fails. Linux only: it finds the ranks in /proc.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mpiexec import find_mpiexec

from glasscell.cli.run_manifest import Manifest
from glasscell.training.checkpoint_files import checkpoint_names, read_checkpoint, read_manifest

SECONDS = 10.0  # in which all processes must end
LONGEST = 600.0  # seconds of a run that is not killed
MARK = "GLASSCELL_KILLED_RANKS"  # environment variable of the processes of a trial
RANK = ("PMI_RANK", "OMPI_COMM_WORLD_RANK")
COMMAND = "text train text.txt --steps 10 --streams 8 --hidden-size 16 --num-layers 1 --embedding-size 8 --epochs 4"
COMMAND += " --dropout 0.2 --evaluate-every 20 --checkpoint-every 10"
BEGIN, RESUME = f"{COMMAND} --out run", "text train --resume run"
# The command without the packages that take most of the time to start.
PROGRAM = "import sys; sys.modules['numba'] = None; from glasscell.cli import main; sys.exit(main())"
MESSAGE = re.compile(
    r"glasscell: a rank was lost, and all \d+ ranks have ended .*; the checkpoint of update (\d+) is kept in run; "
    r"to go on: mpiexec -n \d+ glasscell (.*)"
)
FILES = ("model.safetensors", "history.csv")


class Kill(NamedTuple):
    """What happened after a rank was killed."""

    rank: int
    update: int  # of the newest checkpoint
    seconds: float  # until all processes had ended
    faults: tuple[str, ...]


class Bench:
    """Runs in a temporary folder.

    Parameters
    ----------
    folder : Path
    ranks : int
    lines : int
        Length of the text.
    """

    def __init__(self, folder: Path, ranks: int, lines: int = 160) -> None:
        self.folder, self.ranks, self.run = folder, ranks, folder / "run"
        (folder / "text.txt").write_text("the cat sat on the mat, and the dog sat on the log.\n" * lines)
        self.expected, self.seconds = {}, 0.0

    def start(self, words: str, token: str = "") -> subprocess.Popen[str]:
        """Start the command on all ranks."""
        program = find_mpiexec()
        libraries = [str(Path(program).resolve().parents[1] / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "LD_LIBRARY_PATH": ":".join(filter(None, libraries))}
        return subprocess.Popen(
            [program, "-n", str(self.ranks), sys.executable, "-c", PROGRAM, *shlex.split(words)],
            cwd=self.folder,
            env=environment | {MARK: token},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, words: str) -> str:
        """Run the command to its end, and return what is wrong."""
        process = self.start(words)
        output, _ = process.communicate(timeout=LONGEST)
        return "" if process.returncode == 0 else f"exit code {process.returncode}: {output}"

    def train_uninterrupted(self) -> None:
        """Make the files with which the others are compared."""
        process = self.start(BEGIN)
        self.wait_for_checkpoint(process, -1)
        begin = time.monotonic()
        output, _ = process.communicate(timeout=LONGEST)
        if process.returncode:
            raise SystemExit(output)
        self.seconds = time.monotonic() - begin
        self.expected = {name: (self.run / name).read_bytes() for name in FILES}
        shutil.rmtree(self.run)

    def newest(self) -> int:
        """Return the update of the newest checkpoint; -1 if there is none."""
        names = checkpoint_names(self.run / "checkpoints")
        return int(names[-1].partition(".")[0]) if names else -1

    def wait_for_checkpoint(self, process: subprocess.Popen[str], before: int) -> None:
        """Wait until there is a checkpoint that is newer than this one, or the process has ended."""
        while process.poll() is None and self.newest() <= before:
            time.sleep(0.005)

    def trial(self, numbers: random.Random, num_kills: int = 1) -> tuple[list[Kill], list[str]]:
        """Begin a run, kill ranks of it and let it go on as often as requested; return the kills, and what is wrong."""
        while True:
            kills = list[Kill]()
            for k in range(num_kills):
                kill = self.kill(numbers, RESUME if k else BEGIN, 0.9 / num_kills)
                if kill is None:  # it ended before
                    shutil.rmtree(self.run, ignore_errors=True)
                    break
                kills.append(kill)
            else:
                fault = self.resume()
                return kills, [fault for kill in kills for fault in kill.faults] + [fault] * bool(fault)

    def kill(self, numbers: random.Random, words: str, share: float) -> Kill | None:
        """Start a run, kill one of its ranks, and check the end of the others; None if it ended before.

        Parameters
        ----------
        numbers : random.Random
        words : str
            The command.
        share : float
            Of the time after the first checkpoint, in which the rank is killed.
        """
        token = f"{os.getpid()}-{numbers.random()}"
        before = self.newest()
        process = self.start(words, token)
        self.wait_for_checkpoint(process, before)
        process_ids = dict(ranks_of(token))
        time.sleep(numbers.uniform(0, share * self.seconds))
        rank = numbers.randrange(self.ranks)
        if process.poll() is not None or len(process_ids) < self.ranks:
            process.communicate(timeout=LONGEST)
            return None
        os.kill(process_ids[rank], signal.SIGKILL)
        begin = time.monotonic()
        output, _ = process.communicate(timeout=LONGEST)
        if Manifest.read(self.run).state == "finished":
            return None
        while any(is_running(number) for number in process_ids.values()) and time.monotonic() - begin < 3 * SECONDS:
            time.sleep(0.01)
        seconds, (update, faults) = time.monotonic() - begin, self.check_end(process.returncode, output)
        faults += [f"{seconds:.1f} s until the end"] * (seconds > SECONDS)
        faults += [f"rank {rank} runs" for rank, number in process_ids.items() if is_running(number)]
        return Kill(rank, update, seconds, tuple(faults))

    def check_end(self, code: int, output: str) -> tuple[int, list[str]]:
        """Return the update of the newest checkpoint, and what is wrong after a kill."""
        found, faults = MESSAGE.findall(output), list[str]()
        newest, manifest = self.newest(), read_manifest(self.run)
        if newest < 0 or manifest is None:
            return -1, ["no checkpoint"]
        if code == 0:
            faults.append("exit code 0")
        if len(found) != 1 or found[0] != (str(newest), RESUME):
            faults.append(f"message: {output[-2000:]}")
        if "Traceback" in output:
            faults.append("traceback")
        for name in checkpoint_names(self.run / "checkpoints"):
            try:
                read_checkpoint(self.run / "checkpoints" / name, manifest["run"])
            except ValueError as error:
                faults.append(f"{name}: {error}")
        return newest, faults

    def resume(self) -> str:
        """Let the run go on to its end, and return what is wrong."""
        fault = self.finish(RESUME)
        if not fault:
            different = [name for name in FILES if (self.run / name).read_bytes() != self.expected[name]]
            fault = f"other bits of {', '.join(different)}" if different else ""
        shutil.rmtree(self.run)
        return fault


def ranks_of(token: str) -> Iterator[tuple[int, int]]:
    """Yield rank and process of each rank of a trial: not the processes that a rank has started."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        values = dict(variable.decode(errors="replace").partition("=")[::2] for variable in variables)
        rank = next((int(values[name]) for name in RANK if name in values), None)
        if values.get(MARK) == token and rank is not None:
            found[int(entry.name)] = (parent, rank)
    for process, (parent, rank) in found.items():
        if parent not in found:
            yield rank, process


def is_running(process: int) -> bool:
    """Return whether a process exists, and is no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    numbers, kills, faults = random.Random(options.seed), list[Kill](), 0  # noqa: S311
    with tempfile.TemporaryDirectory(prefix="glasscell-killed-") as folder:
        bench = Bench(Path(folder), options.ranks)
        bench.train_uninterrupted()
        print(f"{options.ranks} ranks, {bench.seconds:.1f} s from the first checkpoint to the end", flush=True)
        while len(kills) < options.kills:
            (kill,), problems = bench.trial(numbers)
            kills.append(kill)
            faults += bool(problems)
            outcome = "; ".join(problems) or "resumed with the same bits"
            line = f"kill {len(kills):2}: rank {kill.rank}, all ended in {kill.seconds:.2f} s"
            print(f"{line}, checkpoint of update {kill.update}: {outcome}", flush=True)
    slowest = max(kill.seconds for kill in kills)
    print(f"{len(kills) - faults} of {len(kills)} as they must be; all ended in at most {slowest:.2f} s")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
