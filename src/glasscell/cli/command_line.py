"""Parse the command line, run the command, and report its errors."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from glasscell import __version__
from glasscell.cli import convert, copy, forecast, inspect, predict, verify
from glasscell.cli.console import Console, consoles
from glasscell.cli.interrupts import Interrupted, Interrupts
from glasscell.escaping import escape

COMMANDS = (copy, forecast, predict, inspect, verify, convert)
EXIT_STATUS = (
    "Exit status: 0, success; 1, a check fails, a sequence is copied wrongly, or optional output could not be written; "
    "2, an error; 130, interrupted (128 + n by signal n)."
)


class Parser(argparse.ArgumentParser):
    """Argument parser that reports a mistake in one line and accepts unabbreviated options only."""

    def __init__(self, **options: object) -> None:
        super().__init__(**{"allow_abbrev": False, **options})  # type: ignore[arg-type] # of any option

    def error(self, message: str) -> NoReturn:
        """Print the message, and exit with status 2."""
        self.exit(2, f"glasscell: {escape(message)} (see {self.prog} --help)\n")


def parser() -> Parser:
    """Return the parser of all commands."""
    parser = Parser(
        prog="glasscell", description="An LSTM library in NumPy whose models can be inspected.", epilog=EXIT_STATUS
    )
    parser.add_argument("--version", action="version", version=f"glasscell {__version__}")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(metavar="command")
    for command in COMMANDS:
        command.add_to(commands)
    for command_parser in set(commands.choices.values()):  # an alias has the parser of its command
        command_parser.add_argument("--ascii", action="store_true", help="write ASCII characters only, without colour")
    return parser


def run(arguments: Sequence[str] | None, interrupts: Interrupts, make_parser: Callable[[], Parser] = parser) -> int:
    """Run the command that a parser chooses, and return its exit status."""
    with consoles() as (out, err):
        interrupts.begin()
        try:
            status = _run(make_parser(), arguments, interrupts, out, err)
        except KeyboardInterrupt as error:
            return _interrupted(interrupts, error)
        except (OSError, ValueError, TypeError, FloatingPointError, MemoryError, ImportError) as error:
            if interrupts.raised:  # an interrupt during an import may raise another error
                return _interrupted(interrupts, None)
            print(f"glasscell: {escape(_message(error))}", file=sys.stderr)
            return 2
        out.flush()
        if out.error is not None and not isinstance(
            out.error, BrokenPipeError
        ):  # such as `head`, which closes the pipe early
            print(f"glasscell: standard output: {escape(_message(out.error))}", file=sys.stderr)
            return status or 1
        return status


def _run(commands: Parser, arguments: Sequence[str] | None, interrupts: Interrupts, out: Console, err: Console) -> int:
    options = commands.parse_args(arguments)
    if options.run is None:
        commands.print_help()
        return 0
    out.ascii = err.ascii = options.ascii
    options.interrupts = interrupts
    return options.run(options) or 0


def _interrupted(interrupts: Interrupts, error: KeyboardInterrupt | None) -> int:
    message = f"; {error}" if isinstance(error, Interrupted) else ""
    print(f"\nglasscell: interrupted{message}", file=sys.stderr)
    return interrupts.status


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or "not enough memory"
