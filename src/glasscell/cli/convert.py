"""``glasscell convert``: a model file of one format into another."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from glasscell.cli.outputs import add_overwrite, output_file

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from glasscell.convert.torch.models import Take

TAKE: "dict[str, Take]" = {"every": "every step", "last": "last step", "final": "final state"}


def add_to(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "convert",
        help="write a model file in another format",
        description="Read a model of PyTorch, ONNX, Keras or Glasscell, and write it in the format that the name of "
        "the target ends in: .safetensors, .pt, .onnx, .keras, .weights.h5, .h5. What a format cannot say is refused.",
    )
    parser.add_argument("source", type=Path, help="a model file, or the folder of a run")
    parser.add_argument("target", type=Path, help="the file to write")
    parser.add_argument("--key", help="where in a .pt file the weights are, if there are several: model_state_dict")
    parser.add_argument(
        "--take",
        choices=TAKE,
        help="for weights of PyTorch, what the layers behind the LSTM see: every step (default), the last, or the "
        "final state of each direction",
    )
    parser.add_argument(
        "--config", type=Path, help="for a .weights.h5 of Keras: a .keras or .json file that says what it is"
    )
    parser.add_argument("--order", help="for a .weights.h5 of Keras: the names of its layers in order, with commas")
    parser.add_argument(
        "--states",
        action="store_true",
        help="for an .onnx target: initial states as inputs h_0 and c_0, final states as outputs h_n and c_n",
    )
    add_overwrite(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Read, write, and say what it was."""
    from glasscell.convert import files  # noqa: PLC0415 - not for `glasscell copy`

    output_file("target", options.target, files.WRITTEN, overwrite=options.overwrite)
    model = files.load(
        options.source,
        key=options.key,
        take=None if options.take is None else TAKE[options.take],
        config=options.config,
        order=None if options.order is None else options.order.split(","),
    )
    print(model)
    lost = files.left_out(model, options.source, options.target, states=options.states)  # now: it may be overwritten
    files.save(model, options.target, states=options.states)
    print(f"\n{options.source} → {options.target}")
    if lost:
        print(f"{options.target} has no {', '.join(lost)}, which the graph in {options.source} has", file=sys.stderr)
