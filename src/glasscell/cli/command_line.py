"""Parse the command line, run the command, and report its errors."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from glasscell import __version__
from glasscell.cli.console import Console, consoles
from glasscell.cli.interrupts import Interrupted, Interrupts
from glasscell.cli.parser import Parser, add_ascii
from glasscell.escaping import escape

# Modules of glasscell.cli.
COMMANDS = (
    "copy",
    "text",
    "classify",
    "forecast",
    "sweep",
    "reproduce",
    "runs",
    "predict",
    "inspect",
    "verify",
    "convert",
)
ALIASES = {"try": "predict"}
EXIT_STATUS = (
    "Exit status: 0, success; 1, a check or a training fails, a sequence is copied wrongly, or optional output could "
    "not be written; 2, an error; 130, interrupted (128 + n by signal n)."
)


def parser(arguments: Sequence[str] | None = None) -> Parser:
    """Return the parser of the command that the arguments name; of all commands if they name none.

    Only the modules of these commands are imported.
    """
    first = next((argument for argument in arguments or () if not argument.startswith("-")), "")
    chosen = ALIASES.get(first, first)
    parser = Parser(
        prog="glasscell", description="An LSTM library in NumPy whose models can be inspected.", epilog=EXIT_STATUS
    )
    parser.add_argument("--version", action="version", version=f"glasscell {__version__}")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(metavar="command", prog="glasscell")  # otherwise usage is formatted for it
    for command in [chosen] if chosen in COMMANDS else COMMANDS:
        import_module(f"glasscell.cli.{command}").add_to(commands)
    for command_parser in set(commands.choices.values()):  # an alias has the parser of its command
        if command_parser.get_default("run") is not None:  # otherwise it has commands itself
            add_ascii(command_parser)
    return parser


def run(
    arguments: Sequence[str] | None,
    interrupts: Interrupts,
    make_parser: Callable[[], Parser] | None = None,
    ranks: Any = None,
) -> int:
    """Run the command that a parser chooses, and return its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: those of the process.
    interrupts : Interrupts
    make_parser : callable, optional
        Default: :func:`parser`.
    ranks : glasscell.cli.ranks.Ranks, optional
        The processes that train together. Default: this one alone.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    with consoles() as (out, err):
        interrupts.begin()
        try:
            commands = parser(arguments) if make_parser is None else make_parser()
            status = _run(commands, arguments, interrupts, ranks, out, err)
            interrupts.check()
        except KeyboardInterrupt as error:
            return _interrupted(interrupts, error)
        except (OSError, ValueError, TypeError, FloatingPointError, MemoryError, ImportError) as error:
            if interrupts.raised:  # an interrupt during an import may raise another error
                return _interrupted(interrupts, None)
            print(f"glasscell: {escape(_message(error))}", file=sys.stderr)
            return int(getattr(error, "exit_status", 2))
        out.flush()
        if out.error is not None and not isinstance(
            out.error, BrokenPipeError
        ):  # such as `head`, which closes the pipe early
            print(f"glasscell: standard output: {escape(_message(out.error))}", file=sys.stderr)
            return status or 1
        return status


def _run(
    commands: Parser, arguments: Sequence[str], interrupts: Interrupts, ranks: Any, out: Console, err: Console
) -> int:
    options = commands.parse_args(arguments)
    if options.run is None:
        commands.print_help()
        return 0
    out.ascii = err.ascii = options.ascii
    options.interrupts, options.ranks = interrupts, ranks
    return options.run(options) or 0


def _interrupted(interrupts: Interrupts, error: KeyboardInterrupt | None) -> int:
    message = f"; {error}" if isinstance(error, Interrupted) else ""
    print(f"\nglasscell: interrupted{message}", file=sys.stderr)
    return interrupts.status


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or "not enough memory"
