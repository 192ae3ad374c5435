"""Program of the tests with mpiexec: the command line, without the packages that take most of the time to start."""

import sys

if __name__ == "__main__":
    sys.modules["numba"] = sys.modules["matplotlib"] = None
    from glasscell.cli import main

    sys.exit(main())
