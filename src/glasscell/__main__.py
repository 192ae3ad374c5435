"""``python -m glasscell``."""

import sys

from glasscell.cli import main

sys.exit(main())
