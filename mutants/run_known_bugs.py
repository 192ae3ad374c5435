"""Plant the bugs of ``known_bugs.py`` one at a time: does the test suite catch each of them?

    python mutants/run_known_bugs.py [--only 8] [--jobs 2]

A bug is caught if a test fails for the planted reason: by comparing numbers, not by an import that breaks.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from known_bugs import BUGS, NAMES, Bug
from mutant_run import Outcome, Places
from test_runner import Suite


def changed(bug: Bug, places: Places) -> dict[str, str]:
    """The files that the bug changes, with the bug in them; they must still read as when it was written down."""
    files: dict[str, str] = {}
    for file, old, new in bug.edits:
        source = files.get(file) or places.text(file)
        if source.count(old) != 1:
            raise LookupError(f"{bug.where}: occurs {source.count(old)} times in {file} instead of once: {old!r}")
        files[file] = source.replace(old, new)
    return files


def caught(bug: Bug, outcome: Outcome) -> bool:
    """Whether a test failed, and for the right reason."""
    raised = outcome.message.split(":")[0] if outcome.how == "exception" else ""
    return outcome.how == "assertion" or raised == bug.raises


def main() -> int:
    """Plant, test, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, action="append", help="this number; may be said again")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="bugs at the same time")
    options = parser.parse_args()

    begin = time.monotonic()
    chosen = [bug for bug in BUGS if options.only is None or bug.number in options.only]
    outcomes: dict[Bug, Outcome] = {}
    with tempfile.TemporaryDirectory(prefix="glasscell-bugs-") as folder:
        places = Places(Path(folder), options.jobs)
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
