"""Cases that the tests of this folder share are in online_cases.py."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
