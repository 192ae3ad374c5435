"""Run the test suite against mutants of ``core/`` made by Cosmic Ray.

    python mutants/run_generated.py                  # the same sample in every run
    python mutants/run_generated.py --sample 9999    # every mutant
    python mutants/run_generated.py --resume         # keep earlier kills, run the other mutants again

Cosmic Ray makes the mutants; ``operators.py`` adds operators that it lacks. Mutants without information are left out:

- mutants that do not compile, and duplicates;
- annotations, which are not executed;
- bit operators and shifts in place of arithmetic, which raise TypeError for floats and are killed easily;
- ``is`` in place of ``==`` and similar: whether equal numbers are identical depends on CPython.

A mutant is run against the tests of its module, then the rest of ``tests/core``, then the tests of layers and models,
until a test fails. A time-out counts as a kill. Every survivor must be listed in ``survivors.md`` with a reason. Listed
mutants still count as survivors, and are run against the tests of their module only.
"""

import argparse
import ast
import hashlib
import json
import math
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.ast.ast_query import ASTQuery
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from mutant_run import ROOT, WorkingCopies
from operators import OWN
from test_runner import Suite

BAR = 0.95
SAMPLE, SEED = 1000, 0
COSTLY, FEWER = "core/numba_engine/", 10  # half a minute each to compile: a tenth of its share
SURVIVORS = Path(__file__).parent / "survivors.md"
RESULTS = ROOT / "build" / "mutants" / "generated.jsonl"

ARITHMETIC = {"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"}
BITS = {"RShift", "LShift", "BitOr", "BitAnd", "BitXor"}
IDENTITY = {"Is", "IsNot"}

Where = tuple[str, ...]


@dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    file: str  # under src/glasscell
    function: str
    line: int
    operator: str
    original: str  # the lines that change, without indentation
    mutated: str
    text: str  # of the whole changed file

    @property
    def key(self) -> str:
        """Return an identifier of the change."""
        return hashlib.sha256(f"{self.file}\n{self.text}".encode()).hexdigest()[:24]

    @property
    def where(self) -> Where:
        """Return its cells in the list of survivors."""
        return self.file, self.function, self.original, self.mutated


# Generation


def mutants_of(file: str, source: str) -> list[Mutant]:
    """Return all informative mutants of a file, in a fixed order."""
    tree, annotations, mutants = get_ast(source), list(_annotations(source)), {}
    for name, operator in _operators():
        found = ((node, *place) for node in ast_nodes(tree) for place in operator.mutation_positions(node))
        for occurrence, (node, start, _) in enumerate(found):
            if any(begin <= start < end for begin, end in annotations):
                continue
            text = mutate_code(source, operator, occurrence)
            if text not in {None, source} and text not in mutants and _compiles(text):
                original, mutated = _changed_lines(source, text)
                function = ASTQuery(node).get_definition_name() or "module"
                mutants[text] = Mutant(file, function, start[0], name, original, mutated, text)
    return list(mutants.values())


def _operators() -> Iterator[tuple[str, Operator]]:
    for name in sorted(cosmic_ray.plugins.operator_names()):
        kind = cosmic_ray.plugins.get_operator(name)
        if not kind.arguments() and _is_sensible(name):
            yield name.split("/")[1], kind()
    for name, kind in OWN.items():
        yield name, kind()


def _is_sensible(name: str) -> bool:
    match = re.fullmatch(r".*/Replace(Binary|Comparison)Operator_(\w+?)_(\w+)", name)
    if not match:
        return True
    kind, old, new = match.groups()
    if kind == "Comparison":
        return old in IDENTITY or new not in IDENTITY
    return old in BITS or new in ARITHMETIC


def _annotations(source: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for node in ast.walk(ast.parse(source)):
        for name in ("annotation", "returns"):
            part = getattr(node, name, None)
            if part is not None:
                yield (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)


def _compiles(text: str) -> bool:
    try:
        compile(text, "mutant", "exec")
    except (SyntaxError, ValueError):
        return False
    return True


def _changed_lines(source: str, text: str) -> tuple[str, str]:
    old, new = source.splitlines(), text.splitlines()
    head = _alike(old, new)
    tail = _alike(old[head:][::-1], new[head:][::-1])
    original, mutated = (" ".join(" ".join(lines[head : len(lines) - tail]).split()) for lines in (old, new))
    return original, mutated


def _alike(old: list[str], new: list[str]) -> int:
    """Return the number of equal lines at the beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))


def sample(mutants: list[Mutant], size: int, seed: int) -> list[Mutant]:
    """Return a sample stratified by file; a larger sample of the same seed contains the smaller ones."""
    of_files = defaultdict(list)
    for mutant in mutants:
        of_files[mutant.file].append(mutant)
    weight = {file: 1 / FEWER if file.startswith(COSTLY) else 1.0 for file in of_files}
    share = size / max(1.0, sum(weight[file] * len(some) for file, some in of_files.items()))
    chosen = []
    for file, some in of_files.items():
        random.Random(f"{seed} {file}").shuffle(some)  # noqa: S311 - nothing is secret here
        chosen += some[: math.ceil(len(some) * min(1.0, share * weight[file]))]
    return chosen


# Earlier results


def explained() -> set[Where]:
    """Return the rows of the tables of survivors.md: file, function, line and mutated line."""
    rows = set()
    for line in SURVIVORS.read_text("utf-8").splitlines():
        cells = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 5 and all(cell.startswith("`") and cell.endswith("`") for cell in cells[:4]):
            rows.add(tuple(cell.strip("`").strip() for cell in cells[:4]))
    return rows


def row(mutant: Mutant) -> str:
    """Return the row for a table of survivors.md, with an empty reason."""
    return "| " + " | ".join(f"`{part.replace('|', chr(92) + '|')}`" for part in mutant.where) + " | |"


def killed_before() -> dict[str, str]:
    """Return the kills of earlier runs, and their kinds."""
    results = map(json.loads, RESULTS.read_text("utf-8").splitlines() if RESULTS.exists() else [])
    return {result["key"]: result["how"] for result in results if result["how"] != "survived"}


# Running


def main() -> int:
    """Generate, sample, run and report mutants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=SAMPLE, help=f"approximate number of mutants (default {SAMPLE})")
    parser.add_argument("--seed", type=int, default=SEED, help=f"seed of the sample (default {SEED})")
    parser.add_argument("--only", default="", help="files whose path contains this")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="number of parallel trials")
    parser.add_argument("--resume", action="store_true", help="keep the kills of earlier runs")
    options = parser.parse_args()

    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="glasscell-mutants-") as folder:
        places, known = WorkingCopies(Path(folder), options.jobs), explained()
        root = places.paths[0] / "src" / "glasscell"
        files = sorted(str(path.relative_to(root)) for path in (root / "core").rglob("*.py"))
        files = [file for file in files if options.only in file]
        with ProcessPoolExecutor(options.jobs) as pool:
            mutants = [m for some in pool.map(mutants_of, files, map(places.text, files)) for m in some]
        chosen = sample(mutants, options.sample, options.seed)
        print(f"{len(mutants)} mutants of {len(files)} files; {len(chosen)} are run")
        suite, how = Suite(places), killed_before() if options.resume else {}
        changes = []
        for m in (m for m in chosen if m.key not in how):
            stages = suite.stages(m.file)
            changes.append((m, {m.file: m.text}, stages[:1] if m.where in known else stages))
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        with RESULTS.open("a" if options.resume else "w", encoding="utf-8") as log:
            for number, (m, outcome) in enumerate(suite.try_all(changes), 1):
                how[m.key] = outcome.how
                result = {"key": m.key, "how": outcome.how, "test": outcome.test, "line": m.line, "mutant": m.where}
                print(json.dumps(result, ensure_ascii=False), file=log, flush=True)
                if number % 50 == 0:
                    print(f"{number} of {len(changes)} done, {time.monotonic() - begin:.0f} s", flush=True)
    gone = {row for row in known if options.only in row[0]} - {m.where for m in mutants}
    code = report({m: how[m.key] for m in chosen}, known, gone)
    print(f"{len(mutants)} generated; in {(time.monotonic() - begin) / 60:.0f} minutes")
    return code


def report(how: dict[Mutant, str], known: set[Where], gone: set[Where]) -> int:
    """Print the results; return 0 if the bar is reached and every survivor is explained."""
    survivors = [m for m in how if how[m] == "survived"]
    run, alive = (Counter(m.file for m in some) for some in (how, survivors))
    print(f"\n{'file':34}{'run':>6}{'killed':>8}{'alive':>7}")
    for file in run:
        print(f"{file:34}{run[file]:6}{run[file] - alive[file]:8}{alive[file]:7}")
    unexplained = [m for m in survivors if m.where not in known]
    if unexplained:
        print("\nNOT EXPLAINED. Rows for survivors.md, with an empty reason:")
        print("\n".join(row(m) for m in sorted(unexplained, key=lambda m: (m.file, m.line))))
    for title, some in (
        ("no mutants", gone),
        ("killed", {m.where for m in how if how[m] != "survived"} & known),
    ):
        for where in sorted(some):
            print(f"\nA row of survivors.md is out of date, {title}: {' | '.join(where)}")
    rate = 1 - len(survivors) / max(1, len(how))
    kinds = ", ".join(f"{number} by {kind}" for kind, number in Counter(how.values()).most_common())
    kinds = kinds.replace(f"{len(survivors)} by survived", f"{len(survivors)} survived")
    print(f"\n{len(how)} run: {kinds}; kill rate {rate:.1%} (bar {BAR:.0%})")
    return int(rate < BAR or bool(unexplained) or bool(gone))


if __name__ == "__main__":
    sys.exit(main())
