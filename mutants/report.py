"""Read and write the results of generated mutants, and the list of survivors."""

import json
import re
from collections import Counter
from pathlib import Path

from generation import Mutant, Where
from mutant_run import ROOT, Outcome

BAR = 0.95
SURVIVORS = Path(__file__).parent / "survivors.md"
RESULTS = ROOT / "build" / "mutants" / "generated.jsonl"


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


def record(mutant: Mutant, outcome: Outcome, tests: int) -> str:
    """Return a line of the results."""
    result = {"key": mutant.key, "how": outcome.how, "test": outcome.test, "seconds": round(outcome.seconds, 2)}
    result |= {"tests": tests, "line": mutant.line, "mutant": mutant.where}
    return json.dumps(result, ensure_ascii=False)


def package(mutant: Mutant) -> str:
    """Return the package or single module of a mutant."""
    return mutant.file.split("/")[0]


def report(how: dict[Mutant, str], known: set[Where], gone: set[Where]) -> int:
    """Print the results; return 0 if each package reaches the bar and every survivor is explained."""
    survivors = [m for m in how if how[m] == "survived"]
    for title, name in (("file", lambda m: m.file), ("package", package)):
        run, alive = (Counter(map(name, some)) for some in (how, survivors))
        print(f"\n{title:42}{'run':>6}{'killed':>8}{'alive':>7}{'rate':>9}")
        for part, number in run.items():
            killed = number - alive[part]
            print(f"{part:42}{number:6}{killed:8}{alive[part]:7}{killed / number:9.1%}")
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
    below = sorted(part for part, number in run.items() if 1 - alive[part] / number < BAR)
    kinds = ", ".join(f"{number} by {kind}" for kind, number in Counter(how.values()).most_common())
    kinds = kinds.replace(f"{len(survivors)} by survived", f"{len(survivors)} survived")
    print(f"\n{len(how)} run: {kinds}; kill rate {1 - len(survivors) / max(1, len(how)):.1%}")
    missed = "missed in " + ", ".join(below) if below else "reached"
    print(f"bar {BAR:.0%} in each package: {missed}")
    return int(bool(below or unexplained or gone))
