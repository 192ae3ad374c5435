"""Run the test suite against mutants of ``core/``, ``layers/``, ``training/`` and ``checkpoint.py`` made by Cosmic Ray.

    python mutants/run_generated.py                     # the same sample in every run
    python mutants/run_generated.py --scale 100         # every mutant
    python mutants/run_generated.py --resume            # keep earlier kills, run the other mutants again

``generation.py`` makes the mutants, ``line_map.py`` records which test executes which lines. A mutant is run against
the tests that execute its line, its own module's and the quickest first, until one fails; a time-out counts as a kill.
Tests of more than a minute in total (``--budget``) are not run: what they would kill counts as a survivor. Mutants
inside functions run in forks of one process (``warm.py``); those of constants, defaults, decorators and compiled
functions, in a process that imports the package again (``mutant_run.py``).

Every survivor must be listed in ``survivors.md`` with a reason. Listed mutants still count as survivors, and are run
against the tests of their module only.
"""

import argparse
import math
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from generation import Mutant, mutants_of
from line_map import record
from mutant_run import Outcome, Trial, WorkingCopies, preload, run
from report import RESULTS, explained, killed_before, package, report
from report import record as result_line
from selection import COMPILED, LineMap, Selection, is_own
from warm import NEEDS_IMPORT, WarmTrial, run_warm

SAMPLE, SEED = {"checkpoint.py": 50, "training": 150, "layers": 220, "core": 1000}, 0
COMPILATION = 300.0  # seconds, at most
FEWER = 10  # compiled functions take half a minute each: a tenth of their share


def main() -> int:
    """Generate, sample, run and report mutants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = ", ".join(f"{number} in {name}" for name, number in SAMPLE.items())
    parser.add_argument("--scale", type=float, default=1.0, help=f"factor of the sample's size (default 1: {numbers})")
    parser.add_argument("--seed", type=int, default=SEED, help=f"seed of the sample (default {SEED})")
    parser.add_argument("--only", default="", help="files whose path contains this")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of tests per mutant (default 60)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="number of parallel trials")
    parser.add_argument("--resume", action="store_true", help="keep the kills of earlier runs")
    options = parser.parse_args()

    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="glasscell-mutants-") as folder:
        places, known = WorkingCopies(Path(folder), options.jobs), explained()
        files = _files(places)
        sources = {file: places.text(file) for file in files}
        with ProcessPoolExecutor(options.jobs) as pool:
            mutants = [m for some in pool.map(mutants_of, files, sources.values()) for m in some]
        chosen = []
        for name, number in SAMPLE.items():
            chosen += sample([m for m in mutants if package(m) == name], options.scale * number, options.seed)
        chosen = [m for m in chosen if options.only in m.file]
        print(f"{len(mutants)} mutants of {len(files)} files; {len(chosen)} are run", flush=True)
        preload()
        lines, how = record(places.paths[0]), killed_before() if options.resume else {}
        waiting = [m for m in chosen if m.key not in how]
        tests = {m: lines.select(m, sources[m.file], options.budget, own_only=m.where in known) for m in waiting}
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        with RESULTS.open("a" if options.resume else "w", encoding="utf-8") as log:
            for number, (m, outcome) in enumerate(_run_all(tests, lines, sources, places), 1):
                how[m.key] = outcome.how
                print(result_line(m, outcome, len(tests[m].tests)), file=log, flush=True)
                if number % 50 == 0:
                    print(f"{number} of {len(waiting)} done, {time.monotonic() - begin:.0f} s", flush=True)
    gone = {row for row in known if options.only in row[0]} - {m.where for m in mutants}
    code = report({m: how[m.key] for m in chosen}, known, gone)
    print(f"{len(mutants)} generated; in {(time.monotonic() - begin) / 60:.0f} minutes")
    return code


def _files(places: WorkingCopies) -> list[str]:
    root = places.paths[0] / "src" / "glasscell"
    paths = [
        path for name in SAMPLE for path in ([root / name] if name.endswith(".py") else (root / name).rglob("*.py"))
    ]
    return [str(path.relative_to(root)) for path in sorted(paths)]


def sample(mutants: list[Mutant], size: float, seed: int) -> list[Mutant]:
    """Return a sample stratified by file; a larger sample of the same seed contains the smaller ones."""
    of_files = defaultdict(list)
    for mutant in mutants:
        of_files[mutant.file].append(mutant)
    weight = {file: 1 / FEWER if file.startswith(COMPILED) else 1.0 for file in of_files}
    share = size / max(1.0, sum(weight[file] * len(some) for file, some in of_files.items()))
    chosen = []
    for file, some in of_files.items():
        random.Random(f"{seed} {file}").shuffle(some)  # noqa: S311 - nothing is secret here
        chosen += some[: math.ceil(len(some) * min(1.0, share * weight[file]))]
    return chosen


def _run_all(
    tests: dict[Mutant, Selection], lines: LineMap, sources: dict[str, str], places: WorkingCopies
) -> Iterator[tuple[Mutant, Outcome]]:
    """Run the mutants, those that need no import first; yield each with its outcome."""
    yield from ((m, Outcome("survived", "", "no test", 0.0)) for m in tests if not tests[m].tests)
    mutants = {m.key: m for m in tests if tests[m].tests}
    imports_again = [m for m in mutants.values() if tests[m].imports_again]
    warm = [m for m in mutants.values() if not tests[m].imports_again]
    trials = [WarmTrial(m.key, m.file, partial(m.text, sources[m.file]), tests[m].tests) for m in warm]
    for key, outcome in run_warm(trials, lines.seconds, places.paths[0], len(places.paths)):
        if outcome.how == NEEDS_IMPORT:
            imports_again.append(mutants[key])
        else:
            yield mutants[key], outcome
    print(f"{len(imports_again)} mutants need a new import", flush=True)
    for own in (True, False):  # to collect the tests of one module takes a moment, to collect all takes seconds
        trials = (_trial(m, tests[m], sources[m.file], own=own) for m in imports_again)
        imports_again = []
        for trial, outcome in run((trial for trial in trials if trial.tests), places):
            m, rest = trial.subject
            if outcome.survived and own and rest:
                imports_again.append(m)
            else:
                yield m, outcome


def _trial(mutant: Mutant, selection: Selection, source: str, *, own: bool) -> Trial:
    """Return the trial with tests of the mutant's own module, if it has any, or with the others."""
    first = [test for test in selection.tests if is_own(test, mutant.file)] or selection.tests
    others = [test for test in selection.tests if test not in set(first)]
    limit = 60 + 5 * selection.seconds + (COMPILATION if mutant.file.startswith(COMPILED) else 0.0)
    return Trial({mutant.file: mutant.text(source)}, first if own else others, limit, subject=(mutant, others))


if __name__ == "__main__":
    sys.exit(main())
