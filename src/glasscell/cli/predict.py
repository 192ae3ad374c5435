"""Implement ``glasscell try``: feed a trained model sequences of your own."""

import argparse
from typing import TYPE_CHECKING

from glasscell.cli.outputs import path_argument
from glasscell.cli.terminal import check_mark, format_bits
from glasscell.models import CopyLSTM
from glasscell.tasks.copy import Copy

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_to(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "try",
        help="feed a trained model sequences of your own",
        description="Feed a trained model sequences of your own, and see what comes back. The exit status is 1 if one "
        "comes back wrong.",
    )
    parser.add_argument("model", type=path_argument, help="the folder of a run, or a model file")
    parser.add_argument("bits", nargs="+", help="sequences such as 1101")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Copy each sequence and print the result; return 1 if one is wrong."""
    model = CopyLSTM.load(options.model)
    sequences = [parse(text, model.task) for text in options.bits]
    columns = max(2 * len(bits) - 1 for bits in sequences)
    wrong = False
    for bits in sequences:
        back = model.copy(bits).tolist()
        wrong = wrong or back != bits
        note = (
            ""
            if in_training_lengths(len(bits), model.task)
            else f"   training saw {lengths(model.task)} bits, never {len(bits)}"
        )
        mark = check_mark(right=bits == back)
        print(f"  {format_bits(bits):<{columns}}   {format_bits(back):<{columns}}   {mark}{note}")
    return int(wrong)


def parse(text: str, task: Copy) -> list[int]:
    """Parse the bits of a sequence such as 1101."""
    if not text or set(text) - {"0", "1"}:
        raise ValueError(f"{text!r} is not a sequence of 0 and 1, such as 1101")
    if len(text) % task.bits_per_step:
        raise ValueError(f"{text!r} has {len(text)} bits; this model takes them {task.bits_per_step} at a time")
    return [int(character) for character in text]


def in_training_lengths(length: int, task: Copy) -> bool:
    """Return whether training used sequences of this length."""
    return task.shortest_width <= length <= task.width


def lengths(task: Copy) -> str:
    """Format the lengths that training used."""
    return str(task.width) if task.shortest_width == task.width else f"{task.shortest_width} to {task.width}"
