"""What ``import glasscell`` costs over ``import numpy``: whole processes, in turns.

    python benchmarks/import_time.py

Exits with 1 if the median of the differences is over the bar, or if something is imported before it is used.
"""

import argparse
import statistics
import subprocess
import sys
import time

BAR = 30e-3  # seconds
LATER = ("matplotlib", "tqdm", "sklearn", "torch", "safetensors")


def seconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=25)
    pairs = parser.parse_args().pairs
    seconds("import glasscell")
    times = [(seconds("import numpy"), seconds("import glasscell")) for _ in range(pairs)]
    numpy, ours = (statistics.median(side) for side in zip(*times, strict=True))
    differences = sorted(b - a for a, b in times)
    difference = statistics.median(differences)
    code = f"import sys, glasscell; print([name for name in {LATER} if name in sys.modules])"
    early = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    print(f"import numpy {numpy * 1e3:.0f} ms, import glasscell {ours * 1e3:.0f} ms, medians of {pairs} pairs")
    spread = f"from {differences[0] * 1e3:.1f} to {differences[-1] * 1e3:.1f}"
    print(f"difference {difference * 1e3:.1f} ms   ({spread}; bar {BAR * 1e3:.0f})")
    print(f"imported too early: {early}")
    return int(difference > BAR or early != "[]")


if __name__ == "__main__":
    sys.exit(main())
