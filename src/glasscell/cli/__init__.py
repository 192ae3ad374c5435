"""The command line: ``glasscell copy``, ``predict``, ``inspect``, ``verify``, ``convert``. One file per command.

Exit status: 0, success; 1, a check fails, a sequence is copied wrongly, or optional output (a picture, a table) could
not be written; 2, an error, with one line on standard error; 128 + n, ended by signal n (130: Ctrl-C).
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in the package

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit status."""
    try:
        from glasscell.cli.interrupts import Interrupts  # noqa: PLC0415 - Ctrl-C is handled before NumPy loads
        from glasscell.cli.launchers import find_launch  # noqa: PLC0415

        with Interrupts(process=arguments is None) as interrupts:
            launch = find_launch() if arguments is None else None
            if launch is not None:
                from glasscell.cli.ranks import run_on_ranks  # noqa: PLC0415 - only with several processes

                return run_on_ranks(launch, interrupts)
            from glasscell.cli.command_line import run  # noqa: PLC0415

            return run(arguments, interrupts)
    except KeyboardInterrupt:  # before its handler was installed
        import os  # noqa: PLC0415

        os.write(2, b"\nglasscell: interrupted\n")
        return 130
