"""Options of ``glasscell sweep``: those of a training command, of which any may have several values."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple

from glasscell.cli.parser import Parser, add_ascii, typed_name
from glasscell.cli.sequence_options import option_of

TRAININGS = {"copy": "copy", "text": "text train", "classify": "classify", "forecast": "forecast"}
SCORES = {  # names of the scores of each command; those of the table first
    "copy": ("validation_loss", "validation_bit_accuracy", "validation_sequence_accuracy"),
    "text": ("validation_loss",),
    "classify": ("accuracy",),
    "forecast": ("mase", "coverage"),
}
OTHER_SCORES = {"forecast": ("mae", "width")}
GENERAL_SCORES = ("updates", "loss")
OWN = (  # options of the sweep, not of its runs
    *("help", "ascii", "seed", "seeds", "out", "overwrite", "resume", "processes", "score", "keep_models"),
    "retry_failed",
)
NOT_IN_SWEEPS = ("checkpoint_every", "no_checkpoints", "change_ranks", "plot")


class Plan(NamedTuple):
    """What a command line of a sweep means.

    Attributes
    ----------
    arguments : list of str
        Of the training command, the same in all runs.
    grid : dict of str to list
        Values by name of an option: those with several values.
    seeds : range
    names : dict of str to str
        How these options are on the command line, which errors name.
    """

    arguments: list[str]
    grid: dict[str, list[Any]]
    seeds: range
    names: dict[str, str]


class _Recipient:
    """Takes the place of the subparsers to which a command adds its parser."""

    def __init__(self, parser: Parser) -> None:
        self._parser = parser

    def add_parser(self, *_: Any, **__: Any) -> Parser:
        """Return the parser of the sweep."""
        return self._parser


def add_options(name: str, parser: Parser) -> None:
    """Add the options of a training command, and those of the sweep."""
    if name == "text":
        import_module("glasscell.cli.text").add_train(parser)
    else:
        import_module(f"glasscell.cli.{name}").add_to(_Recipient(parser))
        add_ascii(parser)
    _remove(parser, NOT_IN_SWEEPS)
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list
        if action.dest not in OWN and has_values(action):
            action.nargs, action.type, action.default = "+", _value_type(action.type), None
    group = parser.add_argument_group("sweep: options of the model and the training can have several values")
    _add_seeds(parser, group)
    _describe_folder(name, parser)
    group.add_argument("--processes", type=int, metavar="N", help="runs at a time (default: the number of cores)")
    group.add_argument(
        "--score",
        nargs="+",
        choices=(*SCORES[name], *OTHER_SCORES.get(name, ()), *GENERAL_SCORES),
        metavar="NAME",
        help=f"scores of the table, the first one also of the plot (default {' '.join(SCORES[name])}; also "
        f"{' '.join([*OTHER_SCORES.get(name, ()), *GENERAL_SCORES])})",
    )
    group.add_argument("--keep-models", action="store_true", help="keep the model of each run")
    group.add_argument("--retry-failed", action="store_true", help="with --resume: repeat the runs that failed")


def _remove(parser: Parser, names: tuple[str, ...]) -> None:
    """Remove options: argparse can hide them in the help, but not in the usage if they exclude each other."""
    removed = [action for action in parser._actions if action.dest in names]  # noqa: SLF001
    for group in parser._action_groups:  # noqa: SLF001
        group._group_actions[:] = [action for action in group._group_actions if action.dest not in names]  # noqa: SLF001
    groups = parser._mutually_exclusive_groups  # noqa: SLF001
    groups[:] = [group for group in groups if not any(a.dest in names for a in group._group_actions)]  # noqa: SLF001
    for action in removed:
        parser._actions.remove(action)  # noqa: SLF001
        for option in action.option_strings:
            del parser._option_string_actions[option]  # noqa: SLF001


def _add_seeds(parser: Parser, group: argparse._ArgumentGroup) -> None:
    actions = {action.dest: action for action in parser._actions}  # noqa: SLF001
    actions["seed"].help = "the first seed (default 0)"
    words = {"help": "number of seeds of each setting (default 5)", "default": 5}
    if "seeds" in actions:  # of the training command: its further models
        vars(actions["seeds"]).update(words)
    else:
        group.add_argument("--seeds", type=int, metavar="K", **words)  # type: ignore[arg-type] # of the mapping


def default_folder(name: str) -> str:
    """Return the default folder of a sweep of a training command."""
    return f"runs/sweep-{name}"


def _describe_folder(name: str, parser: Parser) -> None:
    """Describe the options for the folder of a run as those of the folder of a sweep."""
    default = default_folder(name)
    words = {
        "out": f"folder of the sweep (default {default}, or {default}-2, and so on)",
        "overwrite": "replace an earlier sweep in the folder",
        "resume": "continue the sweep in a folder, with all of its options",
    }
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list
        action.help = words.get(action.dest, action.help)


def has_values(action: argparse.Action) -> bool:
    """Return whether an option has one value, and can have several ones in a sweep."""
    return bool(action.option_strings) and type(action).__name__ == "_StoreAction" and action.nargs is None


def _value_type(convert: Any) -> Callable[[str], Any]:
    """Return a type of arguments: numbers become numbers, all others are checked, and stay texts."""

    def value(text: str) -> Any:
        converted = text if convert is None else convert(text)
        return converted if isinstance(converted, int | float) else text

    value.__name__ = getattr(convert, "__name__", "value")
    return value


def plan_of(options: argparse.Namespace) -> Plan:
    """Return the runs that options mean.

    Raises
    ------
    ValueError
        If an option has a value twice.
    """
    arguments: list[str] = []
    grid: dict[str, list[Any]] = {}
    positional: list[str] = []
    names: dict[str, str] = {}
    for action in options.actions:
        value = getattr(options, action.dest, None)
        if action.dest in OWN:
            continue
        if not action.option_strings:
            positional += [str(entry) for entry in (value if isinstance(value, list) else [value])]
        elif action.nargs == "+" and value is not None:
            name = typed_name(action.option_strings, options.arguments)
            _check_different(name, value)
            if len(value) > 1:
                grid[action.dest], names[action.dest] = value, name
            else:
                arguments.append(word(name, value[0]))
        elif action.nargs != "+":
            arguments += _words(action, value)
    return Plan([*arguments, *(["--", *positional] if positional else [])], grid, seeds_of(options), names)


def seeds_of(options: argparse.Namespace) -> range:
    """Return the seeds of a sweep."""
    return range(options.seed, options.seed + options.seeds)


def _check_different(option: str, values: list[Any]) -> None:
    for k, value in enumerate(values):
        if value in values[:k]:
            raise ValueError(f"{option} must have different values, got {value} twice")


def word(option: str, value: Any) -> str:
    """Return an option and its value as one word."""
    return f"{option}={value!r}" if isinstance(value, float) else f"{option}={value}"


def _words(action: argparse.Action, value: Any) -> Iterator[str]:
    """Yield a flag, or an option that is repeated, as words."""
    option = action.option_strings[-1]
    if type(action).__name__ == "_AppendAction":
        yield from (word(option, entry) for entry in value or ())
    elif action.nargs == 0 and value == action.const and value != action.default:
        yield option


def words_of(setting: Mapping[str, Any], names: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """Return the options of a setting as words, with other names of options if passed."""
    return [word(names.get(name, option_of(name)), value) for name, value in setting.items()]
