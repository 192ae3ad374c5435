"""Plant the bugs of ``known_bugs.py`` one at a time, and run the test suite against each.

    python mutants/run_known_bugs.py [--only 8] [--jobs 2]

A bug is caught if a test fails because of wrong numbers; a failed import does not count.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from known_bugs import BUGS, NAMES, Bug
from mutant_run import Outcome, WorkingCopies
from test_runner import Suite


def changed(bug: Bug, places: WorkingCopies) -> dict[str, str]:
    """Return the changed files with the bug in them; each original text must occur exactly once."""
    files: dict[str, str] = {}
    for file, old, new in bug.edits:
        source = files.get(file) or places.text(file)
        if source.count(old) != 1:
            raise LookupError(f"{bug.where}: occurs {source.count(old)} times in {file} instead of once: {old!r}")
        files[file] = source.replace(old, new)
    return files


def caught(bug: Bug, outcome: Outcome) -> bool:
    """Return whether a test failed for the right reason."""
    raised = outcome.message.split(":")[0] if outcome.how == "exception" else ""
    return outcome.how == "assertion" or raised == bug.raises


def main() -> int:
    """Plant the bugs, run the tests, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, action="append", help="number of a bug; may be repeated")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="number of parallel trials")
    options = parser.parse_args()

    begin = time.monotonic()
    chosen = [bug for bug in BUGS if options.only is None or bug.number in options.only]
    outcomes: dict[Bug, Outcome] = {}
    with tempfile.TemporaryDirectory(prefix="glasscell-bugs-") as folder:
        places = WorkingCopies(Path(folder), options.jobs)
        planted_in = {bug: changed(bug, places) for bug in chosen}
        suite = Suite(places)
        changes = [(bug, files, suite.stages(bug.edits[0][0])) for bug, files in planted_in.items()]
        for bug, outcome in suite.try_all(changes):
            outcomes[bug] = outcome
            print(".", end="", flush=True)
    print()
    for bug, outcome in sorted(outcomes.items(), key=lambda item: item[0].number):
        verdict = outcome.test
        if not caught(bug, outcome):
            verdict = f"NOT CAUGHT: {outcome.how} {outcome.test} {outcome.message}"
        print(f"{bug.number:3}  {NAMES[bug.number]}: {bug.where}\n     {outcome.seconds:.1f} s  {verdict}")
    numbers = {bug.number for bug in chosen}
    missed = {bug.number for bug, outcome in outcomes.items() if not caught(bug, outcome)}
    print(f"\n{len(numbers - missed)} of {len(numbers)} caught, planted in {len(chosen)} places, ", end="")
    print(f"in {time.monotonic() - begin:.0f} s")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
