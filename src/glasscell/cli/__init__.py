"""The command line: ``glasscell copy``, ``try``, ``inspect``, ``verify``, ``convert``, ``bench``. One file a command.

A user's mistake is one line on standard error and exit status 2.
"""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from glasscell.cli import bench, convert, copy, inspect, try_, verify

COMMANDS = (copy, try_, inspect, verify, convert, bench)


class Parser(argparse.ArgumentParser):
    """One that reports a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the message, and exit with status 2."""
        self.exit(2, f"glasscell: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a name that this terminal cannot show is no reason to fail
    parser = Parser(prog="glasscell", description="An LSTM you can see through.")
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in COMMANDS:
        command.add_to(commands)
    options = parser.parse_args(arguments)
    try:
        status = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("\nglasscell: interrupted", file=sys.stderr)
        return 130
    except (OSError, ValueError, TypeError, FloatingPointError, MemoryError, ImportError) as error:
        print(f"glasscell: {_message(error)}", file=sys.stderr)
        return 2
    return status or 0


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or "there is not enough memory for this"
