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
        if "--resume" in self._option_string_actions:  # a training command
            args = sys.argv[1:] if args is None else list(args)
            namespace = argparse.Namespace() if namespace is None else namespace
            namespace.command, namespace.arguments = self.prog.partition(" ")[2], args
            if any(word == "--resume" or word.startswith("--resume=") for word in args):
                return self._parse_resumed(args, namespace), []
        return self.parse_all(args, namespace)

    def parse_all(self, args: Sequence[str] | None, namespace: Any = None) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments; those that are unknown are an error."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:  # here, and not in the parser of all commands, which does not know the options of this one
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._similar_option(unknown[0])}")
        return namespace, unknown

    def _parse_resumed(self, args: Sequence[str], namespace: argparse.Namespace) -> argparse.Namespace:
        """Parse the arguments with which the run of `--resume` began; those on the command line must agree."""
        from pathlib import Path  # noqa: PLC0415 - only where it is used

        from glasscell.cli import resuming  # noqa: PLC0415

        passed = self._passed_options(args)
        manifest = resuming.read_run(Path(passed["resume"]), namespace.command)
        namespace.arguments = manifest.arguments
        self.parse_all(manifest.arguments, namespace)
        labels = {
            action.dest: typed_name(action.option_strings or [str(action.metavar)], args) for action in self._actions
        }
        resuming.apply(namespace, passed, manifest, labels)
        return namespace

    def _passed_options(self, args: Sequence[str]) -> dict[str, Any]:
        """Return the options that arguments set, by name, without defaults. None is required."""
        actions = [action for action in self._actions if action.dest != "help"]
        before, defaults = [(action.default, action.required, action.nargs) for action in actions], self._defaults
        self._defaults = {}
        for action in actions:
            action.default, action.required = argparse.SUPPRESS, False
            action.nargs = action.nargs if action.option_strings else "*"
        try:
            passed = vars(self.parse_all(args)[0])
        finally:
            self._defaults = defaults
            for action, (default, required, nargs) in zip(actions, before, strict=True):
                action.default, action.required, action.nargs = default, required, nargs
        for action in actions:
            if not action.option_strings and action.nargs is None and action.dest in passed:
                passed[action.dest], *further = passed[action.dest]
                if further:
                    self.error(f"unrecognized arguments: {' '.join(map(str, further))}")
        return passed

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


def typed_name(names: Sequence[str], args: Sequence[str]) -> str:
    """Return the name of an option as it is on the command line, if it has several; otherwise the first one."""
    return next((name for name in names if any(word.partition("=")[0] == name for word in args)), names[0])


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
    """Add the options for the folder of a run and its checkpoints."""
    output.add_argument(
        "--out",
        type=path_type,
        metavar="FOLDER",
        help=f"folder of the run (default {default}, or {default}-2, and so on)",
    )
    output.add_argument("--overwrite", action="store_true", help="replace an earlier run in the folder")
    checkpoints = output.add_mutually_exclusive_group()
    checkpoints.add_argument(
        "--checkpoint-every",
        type=int,
        metavar="N",
        help="updates between checkpoints (default: at evaluations, but so rarely that they take about 1 %% of the "
        "time; a short run may have only the first one, before any update)",
    )
    checkpoints.add_argument("--no-checkpoints", action="store_true", help="a run that is killed is lost")
    output.add_argument(
        "--resume", type=path_type, metavar="FOLDER", help="continue the run in a folder, with all of its options"
    )
    output.add_argument(
        "--change-ranks",
        action="store_true",
        help="with --resume: allow another number of processes than the run had",
    )


def add_on_failure(training: "argparse._ArgumentGroup") -> None:
    """Add the option `--on-failure`: see :func:`glasscell.fit`."""
    training.add_argument(
        "--on-failure",
        choices=("raise", "skip", "restore_best_and_halve_lr"),
        default="raise",
        help="after a number that is not finite, or divergence: end the training with its best model (raise, default), "
        "skip the update, or go on from the best model with half the learning rate",
    )
