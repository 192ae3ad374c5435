"""Random finite and illegal arguments for every public function of core and layers.

    python benchmarks/torture properties --count 10000
    python benchmarks/torture properties --only LSTM --count 500 --seed 7

Finite arguments, many of them at the borders of their type, give finite results without a warning; illegal ones raise
the documented error, a ValueError or a TypeError of one line. The seed and the number of an example determine it.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import warnings
import zlib
from collections.abc import Callable

import numpy as np

from torture.bars import Bar, report
from torture.property_examples import PROPERTIES

Example = Callable[[np.random.Generator], None]


def run_example(name: str, seed: int, number: int) -> None:
    """Check one example; raise an error if the property does not hold."""
    rng = np.random.default_rng((seed, zlib.crc32(name.encode()), number))
    with warnings.catch_warnings(action="error"), np.errstate(all="warn", under="ignore"):
        PROPERTIES[name](rng)


def main() -> int:
    """Check the examples; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="examples of each property (default: 10000)")
    parser.add_argument("--minutes", type=float, default=60.0, help="bound on the time of all (default: 60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", metavar="TEXT", help="properties whose names contain this")
    options = parser.parse_args()
    names = [name for name in PROPERTIES if options.only in name]
    stop, failures, fewest = time.monotonic() + 60 * options.minutes, 0, options.count
    for k, name in enumerate(names):
        share, start = (stop - time.monotonic()) / (len(names) - k), time.monotonic()
        number = 0
        while number < options.count and time.monotonic() - start < share:
            try:
                run_example(name, options.seed, number)
            except Exception as error:
                failures += 1
                where = "".join(traceback.format_tb(error.__traceback__)[-3:])
                print(f"{name}, example {number}: {type(error).__name__}: {error}\n{where}", file=sys.stderr)
                if failures > 50:
                    raise
            number += 1
        fewest = min(fewest, number)
    title = f"examples of each of {len(names)} properties of core and layers (seed {options.seed})"
    return report(
        [
            Bar(title, f"{fewest:,}", f"{options.count:,}", fewest >= options.count),
            Bar("examples that are not finite, or without the documented error", f"{failures}", "0", not failures),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
