"""Options of the commands that read a model file."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from glasscell.checkpoint import not_found
from glasscell.cli.outputs import path_argument

if TYPE_CHECKING:
    from glasscell.convert.files import Model


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for information that a model file may not contain."""
    group = parser.add_argument_group(
        "for a file that contains only weights (a PyTorch state dict, a Keras .weights.h5)"
    )
    group.add_argument(
        "--architecture",
        "--chain",  # an earlier name
        metavar="ITEMS",
        help="the computation: modules of the file and operations in order, separated by commas: "
        "lstm,last,fc1,relu,fc2,sigmoid",
    )
    group.add_argument("--ignore", metavar="NAMES", help="modules to ignore, separated by commas")
    group.add_argument("--prefix", metavar="NAME", help="read only the weights below this name: model.encoder")
    group.add_argument("--key", help="key of the weights in a .pt file with several: model_state_dict")
    group.add_argument(
        "--config", type=path_argument, help="for a Keras .weights.h5: a .keras or .json file with the model"
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
            architecture=options.architecture,
            ignore=None if options.ignore is None else options.ignore.split(","),
            config=options.config,
        )
    except ValueError as error:
        raise ValueError(for_command_line(str(error))) from None
