"""Mutants of ``core/`` made by Cosmic Ray: is every one of them noticed by the test suite?

    python mutants/run_generated.py                  # the sample: the same one every time
    python mutants/run_generated.py --all            # every mutant (hours)
    python mutants/run_generated.py --resume         # go on: what was killed stays killed, the others are tried again
    python mutants/run_generated.py --list           # generate and count only

Cosmic Ray makes the mutants; ``operators.py`` adds those that it lacks. Not taken are those that say nothing:

- what does not compile, and what another operator made already;
- annotations: they are not executed;
- bit operators and shifts in place of arithmetic: every call of them on floats is a TypeError, and so an easy kill;
- ``is`` in place of ``==`` and the like: whether equal numbers are identical is CPython's affair.

A mutant is tried first against the tests of its own module, then against the rest of ``tests/core``, then against the
tests of layers and models, until a test fails. One that runs out of time is killed: it is noticed. A mutant that
nothing notices must stand in ``survivors.md`` with a reason. Those that stand there count as survivors all the same,
and are tried against the tests of their own module only.
"""

import argparse
import ast
import hashlib
import json
import math
import random
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.ast.ast_query import ASTQuery
from cosmic_ray.mutating import mutate_code
from operators import OWN
from trial import ROOT, Outcome, Places, Trial, preload, run

BAR = 0.95
SAMPLE, SEED = 1000, 0
SURVIVORS = Path(__file__).parent / "survivors.md"
RESULTS = ROOT / "build" / "mutants" / "generated.jsonl"

# The tests that are about a module, by its path under core/; those of a folder are about each module in it.
MIRRORS = {
    "activations.py": ("test_activations.py", "test_activations_of_onnx.py"),
    "variants": ("test_variants_golden.py", "test_variants.py"),
}
ALSO = ("test_mutants_found.py",)  # is about all of them
ABOVE = ("tests/layers", "tests/test_layers.py", "tests/test_models.py")

ARITHMETIC = {"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"}
BITS = {"RShift", "LShift", "BitOr", "BitAnd", "BitXor"}
IDENTITY = {"Is", "IsNot"}


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
        """The same for the same change of the same file."""
        return hashlib.sha256(f"{self.file}\n{self.text}".encode()).hexdigest()[:24]

    @property
    def where(self) -> tuple[str, str, str, str]:
        """What identifies it in the list of survivors."""
        return self.file, self.function, self.original, self.mutated


# Making them


def mutants_of(file: str, source: str) -> list[Mutant]:
    """All mutants of a file that say something, in an order that is always the same."""
    return list(_mutants_of(file, source))


def _mutants_of(file: str, source: str) -> Iterator[Mutant]:
    tree, annotations, seen = get_ast(source), list(_annotations(source)), {source}
    for name, operator in _operators():
        found = ((node, *place) for node in ast_nodes(tree) for place in operator.mutation_positions(node))
        for occurrence, (node, start, _) in enumerate(found):
            if any(begin <= start < end for begin, end in annotations):
                continue
            text = mutate_code(source, operator, occurrence)
            if text is None or text in seen or not _compiles(text):
                continue
            seen.add(text)
            original, mutated = _changed_lines(source, text)
            function = ASTQuery(node).get_definition_name() or "module"
            yield Mutant(file, function, start[0], name.split("/")[1], original, mutated, text)


def _operators() -> Iterator[tuple[str, cosmic_ray.operators.operator.Operator]]:
    for name in sorted(cosmic_ray.plugins.operator_names()):
        kind = cosmic_ray.plugins.get_operator(name)
        if not kind.arguments() and _is_sensible(name):
            yield name, kind()
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
    head = tail = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    original, mutated = (" ".join(" ".join(lines[head : len(lines) - tail]).split()) for lines in (old, new))
    return original, mutated


def sample(mutants: list[Mutant], size: int, seed: int) -> list[Mutant]:
    """As many of each file as is its share of all; a larger sample of the same seed holds every smaller one."""
    by_file = defaultdict(list)
    for mutant in mutants:
        by_file[mutant.file].append(mutant)
    chosen = []
    for file, of_file in sorted(by_file.items()):
        random.Random(f"{seed} {file}").shuffle(of_file)  # noqa: S311 - nothing is secret here
        chosen += of_file[: math.ceil(len(of_file) * min(1.0, size / len(mutants)))]
    return chosen


# The tests that are to notice them


def stages(file: str, tests: list[str]) -> list[list[str]]:
    """The tests of a module itself; the others of core; those above."""
    path = Path(file).relative_to("core")
    names = (*MIRRORS.get(path.parts[0], (f"test_{path.name}",)), *ALSO)
    own = [f"tests/core/{name}" for name in names if f"tests/core/{name}" in tests]
    core = [test for test in tests if test.startswith("tests/core/") and test not in own]
    above = [test for test in tests if not test.startswith("tests/core/")]
    return [part for part in (own, core, above) if part]


def all_tests(place: Path, without: list[str]) -> list[str]:
    """The test files, as paths from the repository's root."""
    files = sorted((place / "tests" / "core").glob("test_*.py"))
    for name in ABOVE:
        path = place / name
        files += sorted(path.glob("test_*.py")) if path.is_dir() else [path]
    names = [str(file.relative_to(place)) for file in files if file.exists()]
    return [name for name in names if not any(part in name for part in without)]


# What is known of survivors


def explained() -> set[tuple[str, str, str, str]]:
    """The rows of the tables of survivors.md: file, function, line, what it becomes."""
    rows = set()
    for line in SURVIVORS.read_text("utf-8").splitlines() if SURVIVORS.exists() else []:
        cells = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) >= 4 and all(cell.startswith("`") and cell.endswith("`") for cell in cells[:4]):
            rows.add(tuple(cell.strip("`").strip() for cell in cells[:4]))
    return rows  # type: ignore[return-value]


def row(mutant: Mutant) -> str:
    """As it stands in a table of survivors.md."""
    return "| " + " | ".join(f"`{part.replace('|', chr(92) + '|')}`" for part in mutant.where) + " |"


# Running


def kept(keys: Iterable[str]) -> dict[str, dict]:
    """The kills of earlier runs."""
    wanted, results = set(keys), {}
    if RESULTS.exists():
        for line in RESULTS.read_text("utf-8").splitlines():
            result = json.loads(line)
            if result["key"] in wanted and result["how"] != "survived":
                results[result["key"]] = result
    return results


def try_all(
    mutants: list[Mutant], places: Places, tests: list[str], seconds: dict[str, float]
) -> Iterator[tuple[Mutant, Outcome, float]]:
    """Stage by stage, so that most are done early; yields mutant, outcome, and how long it took altogether."""
    alive, spent = mutants, Counter()
    for stage in range(3):
        trials, survivors, known = [], [], explained()
        for mutant in alive:
            parts = stages(mutant.file, tests)
            if stage >= len(parts) or (stage and mutant.where in known):
                yield mutant, Outcome("survived", "", "", 0, 0, {}), spent[mutant.key]
                continue
            limit = 30 + 5 * sum(seconds.get(test, 0.0) for test in parts[stage])
            trials.append(Trial({mutant.file: mutant.text}, parts[stage], limit, subject=mutant))
        for trial, outcome in run(trials, places):
            spent[trial.subject.key] += outcome.seconds
            if outcome.survived:
                survivors.append(trial.subject)
            else:
                yield trial.subject, outcome, spent[trial.subject.key]
        alive = survivors
    for mutant in alive:
        yield mutant, Outcome("survived", "", "", 0, 0, {}), spent[mutant.key]


def baseline(places: Places, tests: list[str]) -> dict[str, float]:
    """Seconds of each test file without a change; it must pass."""
    trials = [Trial({}, [test], 1200, subject=test, stop_at_first=False) for test in tests]
    seconds, failed = {}, False
    for trial, outcome in run(trials, places):
        seconds[trial.subject] = outcome.seconds
        if not outcome.survived:
            print(f"without any change, {trial.subject} does not pass: {outcome.how} {outcome.test}\n{outcome.message}")
            failed = True
    if failed:
        sys.exit("nothing was tried: mutants are for a suite that passes (--without leaves a test file out)")
    return seconds


def main() -> int:
    """Generate, choose, run, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="every mutant, not a sample")
    parser.add_argument("--sample", type=int, default=SAMPLE, help=f"about this many (default {SAMPLE})")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the sample (default {SEED})")
    parser.add_argument("--only", default="", help="files whose path contains this")
    parser.add_argument("--without", action="append", default=[], help="test files to leave out")
    parser.add_argument("--jobs", type=int, default=2, help="trials at the same time (default 2)")
    parser.add_argument("--resume", action="store_true", help="keep the kills of earlier runs")
    parser.add_argument("--list", action="store_true", help="only count")
    options = parser.parse_args()

    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="glasscell-mutants-") as folder:
        places = Places(Path(folder), options.jobs)
        root = places.paths[0] / "src" / "glasscell"
        files = sorted(str(path.relative_to(root)) for path in (root / "core").rglob("*.py"))
        files = [file for file in files if options.only in file]
        with ProcessPoolExecutor(options.jobs) as pool:
            mutants = [m for some in pool.map(mutants_of, files, map(places.text, files)) for m in some]
        chosen = mutants if options.all else sample(mutants, options.sample, options.seed)
        print(f"{len(mutants)} mutants of {len(files)} files; {len(chosen)} are run")
        if options.list:
            for file, number in Counter(m.file for m in mutants).items():
                print(f"{number:6} {file}")
            return 0
        preload()
        tests = all_tests(places.paths[0], options.without)
        seconds = baseline(places, tests)
        print(f"without a change all pass, in {sum(seconds.values()):.0f} s; they begin", flush=True)
        results = kept(m.key for m in chosen) if options.resume else {}
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        survivors = []
        with RESULTS.open("a" if options.resume else "w", encoding="utf-8") as file:
            waiting = [m for m in chosen if m.key not in results]
            for number, (mutant, outcome, spent) in enumerate(try_all(waiting, places, tests, seconds), 1):
                result = {"key": mutant.key, "how": outcome.how, "test": outcome.test, "seconds": round(spent, 1)}
                result |= {"file": mutant.file, "line": mutant.line, "original": mutant.original, "new": mutant.mutated}
                results[mutant.key] = result
                file.write(json.dumps(result, ensure_ascii=False) + "\n")
                file.flush()
                if outcome.survived:
                    survivors.append(mutant)
                if number % 50 == 0:
                    print(f"{number} of {len(waiting)} done, {time.monotonic() - begin:.0f} s", flush=True)
    return report(len(mutants), chosen, results, survivors, time.monotonic() - begin)


def report(generated: int, chosen: list[Mutant], results: dict, survivors: list[Mutant], seconds: float) -> int:
    """Print what came of it; 0 if the bar is reached and every survivor is explained."""
    known = explained()
    print(f"\n{'file':34}{'run':>6}{'killed':>8}{'alive':>7}")
    for file in sorted({m.file for m in chosen}):
        of_file = [m for m in chosen if m.file == file]
        alive = sum(m.file == file for m in survivors)
        print(f"{file:34}{len(of_file):6}{len(of_file) - alive:8}{alive:7}")
    unexplained = [m for m in survivors if m.where not in known]
    for title, some in (
        ("explained in survivors.md", [m for m in survivors if m.where in known]),
        ("NOT EXPLAINED", unexplained),
    ):
        print(f"\n{len(some)} survivors {title}")
        for mutant in sorted(some, key=lambda m: (m.file, m.line)):
            print(f"  {mutant.file}:{mutant.line} in {mutant.function}, {mutant.operator}")
            print(f"    - {mutant.original}\n    + {mutant.mutated}")
    if unexplained:
        print("\nRows for survivors.md, once there is a reason:")
        print("\n".join(row(mutant) for mutant in unexplained))
    how = Counter(results[m.key]["how"] for m in chosen)
    killed = len(chosen) - len(survivors)
    rate = killed / max(1, len(chosen))
    kinds = ", ".join(f"{number} by {kind}" for kind, number in how.most_common() if kind != "survived")
    print(f"\n{generated} generated, {len(chosen)} run, {killed} killed ({kinds}), {len(survivors)} survived")
    print(f"kill rate {rate:.1%} (bar {BAR:.0%}), in {seconds / 60:.0f} minutes")
    return int(rate < BAR or bool(unexplained))


if __name__ == "__main__":
    sys.exit(main())
