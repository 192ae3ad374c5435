"""Implement ``glasscell predict``: run a trained copy model on sequences."""

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
        "predict",
        aliases=["try"],
        help="run a trained copy model on sequences",
        description="Run a model of `glasscell copy` on sequences of bits, and print its outputs. The exit status is 1 "
        "if a sequence is copied wrongly.",
    )
    parser.add_argument("model", type=path_argument, help="the folder of a run, or a model file")
    parser.add_argument("bits", nargs="+", help="sequences such as 1101")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Copy each sequence and print the result. Return 1 if one is wrong."""
    model = CopyLSTM.load(options.model)
    sequences = [parse(text, model.task) for text in options.bits]
    columns = max(2 * len(bits) - 1 for bits in sequences)
    any_wrong = False
    for bits in sequences:
        output = model.copy(bits).tolist()
        any_wrong = any_wrong or output != bits
        trained = in_training_lengths(len(bits), model.task)
        note = "" if trained else f"   trained on {lengths(model.task)} bits, not on {len(bits)}"
        mark = check_mark(right=bits == output)
        print(f"  {format_bits(bits):<{columns}}   {format_bits(output):<{columns}}   {mark}{note}")
    return int(any_wrong)


def parse(text: str, task: Copy) -> list[int]:
    """Parse the bits of a sequence such as 1101."""
    if not text or set(text) - {"0", "1"}:
        raise ValueError(f"bits must be a sequence of 0 and 1 such as 1101, got {text!r}")
    if len(text) % task.bits_per_step:
        raise ValueError(f"bits must be a multiple of {task.bits_per_step} for this model, got {len(text)} in {text!r}")
    return [int(character) for character in text]


def in_training_lengths(length: int, task: Copy) -> bool:
    """Return whether training used sequences of this length."""
    return task.shortest_width <= length <= task.width


def lengths(task: Copy) -> str:
    """Format the lengths that training used."""
    return str(task.width) if task.shortest_width == task.width else f"{task.shortest_width} to {task.width}"
