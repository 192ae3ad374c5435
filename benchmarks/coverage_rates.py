"""State the line and the branch coverage of the package, each of which must be at least 97 %.

Run by ``make coverage``, on the report that ``coverage json`` wrote:

    python benchmarks/coverage_rates.py build/coverage.json
"""

import json
import sys
from pathlib import Path

BAR = 97.0  # percent


def main() -> int:
    """Print both rates, and the files with most missing branches; return 1 if a rate is below the bar."""
    report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    missing = {path: file["summary"]["missing_branches"] for path, file in report["files"].items()}
    for path in sorted(missing, key=lambda path: -missing[path])[:10]:
        print(f"{missing[path]:5} branches missing in {path}")
    totals = report["totals"]
    rates = {
        "lines": (totals["covered_lines"], totals["num_statements"]),
        "branches": (totals["covered_branches"], totals["num_branches"]),
    }
    for name, (covered, count) in rates.items():
        print(f"{name}: {covered:,} of {count:,}, {100 * covered / count:.1f} % (bar {BAR:.0f} %)")
    return int(any(100 * covered / count < BAR for covered, count in rates.values()))


if __name__ == "__main__":
    sys.exit(main())
