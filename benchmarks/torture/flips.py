"""Flip bits of files of every kind that this library writes: none may go unnoticed. ``--count 10000``.

The files and the law are those of ``tests/test_checksum.py`` (models, states, traces) and of
``tests/training/test_untrusted_checkpoints.py`` (checkpoints and their manifest); both run with this number of bits.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from torture.bars import Bar, report

TESTS = Path(__file__).resolve().parents[2]


def main() -> int:
    """Run the test; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="bits in all (default: 10000)")
    count = parser.parse_args().count
    files = ["tests/test_checksum.py", "tests/training/test_untrusted_checkpoints.py"]
    command = [sys.executable, "-m", "pytest", "-q", *files, "-k", "changed_bit"]
    environment = os.environ | {"GLASSCELL_FLIPS": str(count)}
    done = subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, check=False)
    held = done.returncode == 0
    if not held:
        print(done.stdout[-4000:], file=sys.stderr)
    return report(
        [
            Bar(
                f"{count:,} flipped bits of models, states and traces, {count:,} of checkpoints",
                "all noticed" if held else "see stderr",
                "0 unnoticed",
                held,
            )
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
