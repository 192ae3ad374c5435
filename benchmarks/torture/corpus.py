"""Read the files of ``../shared/torture``, which were made to hurt a reader, and those of the tests; growth tests.

    python benchmarks/torture corpus

Runs ``tests/convert/test_hostile_files.py`` (every file within 1 s + 0.1 s/MB and 12 times its size + 64 MB, nothing is
executed) and the tests that doubling any content of a file at most multiplies work and memory by 2.3.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from torture.bars import Bar, report

ROOT = Path(__file__).resolve().parents[2]
SUITES = {
    "hostile files": "tests/convert/test_hostile_files.py",
    "growth of work and memory": "tests/convert/test_growth.py",
    "hostile files of tables and arrays": "tests/data/test_untrusted_files.py",
    "hostile checkpoints of trainings": "tests/training/test_untrusted_checkpoints.py",
}


def main() -> int:
    """Run the tests; return the exit code."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    bars = []
    for name, path in SUITES.items():
        command = [sys.executable, "-m", "pytest", "-q", "-rs", path]
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-300:]
        figure = re.sub(r" in [\d.]+s.*| warnings?.*", "", last.strip("= "))
        held = done.returncode == 0 and "skipped" not in figure
        if not held:
            print(done.stdout[-4000:], file=sys.stderr)
        bars.append(Bar(name, figure, "all passed, none skipped", held))
    return report(bars)


if __name__ == "__main__":
    sys.exit(main())
