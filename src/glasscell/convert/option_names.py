"""Names of options in error messages: arguments of Python functions, and options of the command line."""

import re

FLAGS = {
    "architecture": "--architecture",
    "ignore": "--ignore",
    "key": "--key",
    "prefix": "--prefix",
    "config": "--config",
    "states": "--states",
    "weights_only": "--weights-only",
}

_NAMES = "|".join(FLAGS)
# "architecture='lstm,fc'" and "ignore=['a', 'b']"; "weights_only=True"; "key must be", "architecture is for".
_ASSIGNMENT = re.compile(rf"\b({_NAMES})=(?:True\b|'([^']*)'|\[([^]]*)\])?")
_SUBJECT = re.compile(rf"(?<![\w'.-])({_NAMES})(?= (?:must|is for|are for)\b)")


def for_command_line(message: str) -> str:
    """Return an error message with the options of the command line in place of the arguments of Python.

    >>> for_command_line("choose one with key=: architecture='lstm,fc', ignore=['a', 'b']")
    'choose one with --key: --architecture lstm,fc, --ignore a,b'
    """
    return _SUBJECT.sub(lambda match: FLAGS[match[1]], _ASSIGNMENT.sub(_flag, message))


def _flag(match: re.Match[str]) -> str:
    name, text, items = match.groups()
    value = text if items is None else items.replace("'", "").replace(", ", ",")
    return f"{FLAGS[name]} {value}" if value else FLAGS[name]
