"""Let these tests import fake_ranks, parallel_cases and training_cases."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
