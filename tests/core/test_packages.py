"""Optional packages are looked for once, and are not imported for that."""

import subprocess
import sys

from glasscell.core.packages import is_installed


def test_what_is_installed_is_found():
    assert is_installed("numpy")
    assert not is_installed("glasscell_has_no_package_of_this_name")


def test_what_is_found_is_not_imported():
    program = "import sys\nfrom glasscell.core.packages import is_installed\n"
    program += "assert is_installed('sqlite3') and 'sqlite3' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
