"""Plant the bugs of ``named.py`` one at a time: does the test suite catch each of them?

    python mutants/run_named.py [--only 8] [--jobs 2]

A bug is caught if a test fails for the planted reason: by comparing numbers, not by an import that breaks.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from named import BUGS, NAMES, Bug, planted
from trial import Outcome, Places, Trial, preload, run

REST = ("tests/core", "tests/layers", "tests/test_layers.py", "tests/test_models.py")
LIMIT = 900  # seconds


def changed(bug: Bug, places: Places) -> dict[str, str]:
    """The files that the bug changes, with the bug in them."""
    files: dict[str, str] = {}
    for edit in bug.edits:
        files[edit.file] = planted(files.get(edit.file) or places.text(edit.file), edit)
    return files


def caught(bug: Bug, outcome: Outcome) -> bool:
    """Whether a test failed, and for the right reason."""
    right = outcome.how == "assertion" or outcome.message.startswith(bug.raises)
    return right and "::" in outcome.test and outcome.how in {"assertion", "exception"}


def main() -> int:
    """Plant, test, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, action="append", help="this number; may be said again")
    parser.add_argument("--jobs", type=int, default=2, help="bugs at the same time (default 2)")
    options = parser.parse_args()

    begin = time.monotonic()
    chosen = [bug for bug in BUGS if options.only is None or bug.number in options.only]
    outcomes: dict[Bug, Outcome] = {}
    with tempfile.TemporaryDirectory(prefix="glasscell-bugs-") as folder:
        places = Places(Path(folder), options.jobs)
        waiting, lost = [], []
        for bug in chosen:
            try:
                waiting.append((bug, changed(bug, places)))
            except LookupError as error:
                lost.append((bug, error))
        preload()
        quick = sorted({test for bug, _ in waiting for test in bug.quick})
        for _, outcome in run([Trial({}, [test], LIMIT) for test in quick], places):
            if not outcome.survived:
                sys.exit(f"without any bug, {outcome.test} does not pass: {outcome.message}")
        for tests in (None, REST):
            trials = [Trial(files, tests or bug.quick, LIMIT, subject=(bug, files)) for bug, files in waiting]
            waiting = []
            for trial, outcome in run(trials, places):
                outcomes[trial.subject[0]] = outcome
                if outcome.survived:
                    waiting.append(trial.subject)
                print(".", end="", flush=True)
    print()
    for bug in sorted(outcomes, key=lambda one: one.number):
        outcome = outcomes[bug]
        verdict = (
            outcome.test if caught(bug, outcome) else f"NOT CAUGHT: {outcome.how} {outcome.test} {outcome.message}"
        )
        print(f"{bug.number:3}  {NAMES[bug.number]}: {bug.where}\n     {outcome.seconds:.1f} s  {verdict}")
    for bug, error in lost:
        print(f"{bug.number:3}  {NAMES[bug.number]}: {bug.where}\n     CANNOT BE PLANTED: {error}")
    missed = {bug.number for bug, outcome in outcomes.items() if not caught(bug, outcome)} | {
        bug.number for bug, _ in lost
    }
    numbers = {bug.number for bug in chosen}
    print(f"\n{len(numbers - missed)} of {len(numbers)} caught, planted in {len(chosen)} places, ", end="")
    print(f"in {time.monotonic() - begin:.0f} s")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
