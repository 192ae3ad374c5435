"""Argument parser of the command line."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from glasscell.escaping import escape


class Parser(argparse.ArgumentParser):
    """Argument parser that reports a mistake in one line and accepts unabbreviated options only.

    Attributes
    ----------
    add_options : callable, optional
        Called with the parser before it parses: options of a command are added when that command is chosen.
    """

    add_options: Callable[["Parser"], None] | None = None

    def __init__(self, **options: object) -> None:
        defaults = {"allow_abbrev": False, "formatter_class": _formatter}
        super().__init__(**{**defaults, **options})  # type: ignore[arg-type] # of any option

    def parse_known_args(  # type: ignore[override] # as argparse calls it
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments, after the options have been added."""
        if self.add_options is not None:
            add_options, self.add_options = self.add_options, None
            add_options(self)
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:  # here, and not in the parser of all commands, which does not know the options of this one
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._similar_option(unknown[0])}")
        return namespace, unknown

    def _similar_option(self, text: str) -> str:
        """Return a question that names the option most similar to an unknown one; "" if none is."""
        name = text.partition("=")[0]
        if not name.startswith("--"):
            return ""
        from difflib import get_close_matches  # noqa: PLC0415 - only for a mistake

        beginnings = {option[: len(name)]: option for option in self._option_string_actions}
        similar = get_close_matches(name, beginnings, n=1, cutoff=0.8)
        return f"; did you mean {beginnings[similar[0]]}?" if similar else ""

    def error(self, message: str) -> NoReturn:
        """Print the message, and exit with status 2."""
        self.exit(2, f"glasscell: {escape(message)} (see {self.prog} --help)\n")


def _formatter(prog: str) -> argparse.HelpFormatter:
    """Return a formatter of the terminal's width. Argparse, which makes one per option, imports shutil for it: 3 ms."""
    try:
        columns = int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        try:
            columns = os.get_terminal_size(sys.__stdout__.fileno()).columns  # type: ignore[union-attr] # may be None
        except (AttributeError, ValueError, OSError):
            columns = 0
    return argparse.HelpFormatter(prog, width=(columns if columns > 0 else 80) - 2)


def add_ascii(parser: argparse.ArgumentParser) -> None:
    """Add the option `--ascii`."""
    parser.add_argument("--ascii", action="store_true", help="write ASCII characters only, without colour")


def add_run_folder(output: "argparse._ArgumentGroup", default: str, path_type: Callable[[str], Any]) -> None:
    """Add the options `--out` and `--overwrite` for the folder of a run."""
    output.add_argument(
        "--out",
        type=path_type,
        metavar="FOLDER",
        help=f"folder of the run (default {default}, or {default}-2, and so on)",
    )
    output.add_argument("--overwrite", action="store_true", help="replace an earlier run in the folder")
