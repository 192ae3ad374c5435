"""Run the speed benchmarks: ``python benchmarks/speed``, or ``python -m speed`` in the folder ``benchmarks``."""

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent

if __name__ == "__main__":
    # `python benchmarks/speed` puts this folder first, where jax.py would be imported instead of the library.
    sys.path[:] = [str(FOLDER.parent), *(path for path in sys.path if Path(path or ".").resolve() != FOLDER)]
    from speed.command_line import main

    sys.exit(main())
