"""Options of the commands that read a model file."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from glasscell.checkpoint import not_found
from glasscell.cli.outputs import path_argument

if TYPE_CHECKING:
    from glasscell.convert.files import Model


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for what a model file may not determine."""
    group = parser.add_argument_group("for a file of weights alone (a state dict of PyTorch, a .weights.h5 of Keras)")
    group.add_argument(
        "--chain",
        metavar="ITEMS",
        help="the computation: modules of the file and operations in their order, with commas: "
        "lstm,last,fc1,relu,fc2,sigmoid",
    )
    group.add_argument("--ignore", metavar="NAMES", help="modules that are no part of the computation, with commas")
    group.add_argument("--prefix", metavar="NAME", help="read only the weights below this name: model.encoder")
    group.add_argument("--key", help="where in a .pt file the weights are, if there are several: model_state_dict")
    group.add_argument(
        "--config", type=path_argument, help="for a .weights.h5 of Keras: a .keras or .json file that says what it is"
    )


def read_model(path: Path, options: argparse.Namespace) -> "Model":
    """Return the model in a file."""
    from glasscell.convert import files  # noqa: PLC0415 - not for `glasscell copy`
    from glasscell.convert.option_names import for_command_line  # noqa: PLC0415

    if not path.exists() and path.with_name(f"{path.name}.safetensors").is_file():
        raise not_found(path)
    try:
        return files.load(
            path,
            key=options.key,
            prefix=options.prefix,
            architecture=options.chain,
            ignore=None if options.ignore is None else options.ignore.split(","),
            config=options.config,
        )
    except ValueError as error:
        raise ValueError(for_command_line(str(error))) from None
