"""Make the package ``speed`` importable: it is in ``benchmarks``, outside the wheel."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
