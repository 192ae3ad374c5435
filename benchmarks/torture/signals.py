"""Interrupt and kill training commands at random moments, and continue them. ``--count 100`` for each signal.

SIGINT, SIGTERM and SIGHUP must end a command with status 130, 143 or 129 and one line that says how it goes on, and
keep a checkpoint of the last update that was made. SIGKILL leaves what is there. ``--resume`` must then end with the
files of an undisturbed run, bit by bit, and leave no other file. The moments are between the first checkpoint of a run
and its end; half of the runs are interrupted a second time after they go on.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from glasscell.cli.run_files import newest_checkpoint
from glasscell.cli.run_manifest import MANIFEST_FILE, Manifest
from torture.bars import Bar, report
from torture.command_runs.running import (
    COMMANDS,
    Ended,
    Process,
    Reference,
    arguments_of,
    files_of,
    has_begun,
    reference,
    run,
    write_data,
)

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
TWICE = 0.5  # of all runs
UPDATES = re.compile(r"the model of (\d+) updates")


def check_end(ended: Ended, number: int, folder: Path, command: str) -> list[str]:
    """Return what is wrong after a signal."""
    if number == signal.SIGKILL:
        return [] if ended.status == -number else [f"status {ended.status}"]
    faults = [] if ended.status == 128 + number else [f"status {ended.status}"]
    if not (folder / MANIFEST_FILE).exists():
        return [*faults, f"nothing is kept: {ended.last_line!r}"]
    line, state = ended.last_line, Manifest.read(folder).state
    if not line.startswith("glasscell: interrupted; the ") or "Traceback" in ended.output:
        faults.append(f"last line {line!r}")
    if state == "finished":
        return faults
    if f"glasscell {command} --resume run" not in line:
        faults.append(f"last line {line!r}")
    if state != "interrupted":
        faults.append(f"state {state}")
    newest = [newest_checkpoint(training) or 0 for training in (folder, *folder.glob("training-*"))]
    made, rows = UPDATES.search(line), len((folder / "history.csv").read_text().splitlines()) - 1
    if (made and int(made[1]) not in newest) or max(newest) < rows:
        faults.append(f"checkpoints of updates {newest} after {rows} updates: {line!r}")
    return faults


def is_at_work(folder: Path, process: Process) -> bool:
    """Return whether a process has begun to train in a folder."""
    return has_begun(folder) and Manifest.read(folder).process["id"] == process.number


def trial(expected: Reference, number: int, rng: random.Random, folder: Path) -> list[str] | None:
    """Send a signal to a run, and continue it; return what is wrong, None if the run had ended before the signal."""
    command = expected.command
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write_data(folder)
    faults: list[str] = []
    arguments = arguments_of(command)
    for _ in range(1 + (rng.random() < TWICE)):
        process = Process(arguments, folder)
        process.wait_until(partial(is_at_work, folder / "run", process))
        time.sleep(rng.uniform(0, expected.seconds))
        process.send(number)
        ended = process.end()
        if ended.status == 0:  # it had ended
            if arguments == arguments_of(command):
                return None
            break
        faults += check_end(ended, number, folder / "run", command)
        arguments = [*command.split(), "--resume", "run"]
    ended = run([*command.split(), "--resume", "run"], folder)
    if ended.status:
        faults.append(f"continued: status {ended.status}, {ended.last_line!r}")
    files = files_of(folder / "run")
    if files != expected.files:
        changed = {name for name in files.keys() | expected.files.keys() if files.get(name) != expected.files.get(name)}
        faults.append(f"other files: {sorted(changed)}")
    others = sorted({path.name for path in folder.iterdir()} - {"cat.txt", "rows.csv", "s.csv", "run"})
    return faults + ([f"left {others}"] if others else [])


def main() -> int:
    """Run the trials; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="signals of each kind (default: 100)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, missed = random.Random(options.seed), 0  # noqa: S311 - moments of signals
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        expected = [reference(command, folder / command.replace(" ", "-")) for command in COMMANDS]
        for number in NUMBERS:
            held = 0
            for k in range(options.count):
                run_of = expected[k % len(expected)]
                found = None
                while found is None:
                    found = trial(run_of, number, rng, folder / "trial")
                held += not found
                for fault in found:
                    print(f"{signal.Signals(number).name}, {run_of.command}: {fault}", file=sys.stderr)
            title = f"{options.count} × {signal.Signals(number).name} at random moments of the training commands"
            figure = f"{held} of {options.count} go on to the same bits"
            missed |= report([Bar(title, figure, f"{options.count} of {options.count}", held == options.count)])
    return missed


if __name__ == "__main__":
    sys.exit(main())
