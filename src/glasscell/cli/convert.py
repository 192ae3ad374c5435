"""Implement ``glasscell convert``: write a model file in another format."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from glasscell.cli.outputs import add_overwrite, output_file, path_argument
from glasscell.cli.reading import add_reading_options, read_model
from glasscell.escaping import escape

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_to(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "convert",
        help="write a model file in another format",
        description="Read a model of PyTorch, ONNX, Keras or Glasscell, and write it in the format of the target's "
        "extension: .safetensors, .pt, .onnx, .keras, .weights.h5, .h5. If the format does not support a layer or an "
        "option, the command fails.",
    )
    parser.add_argument("source", metavar="SOURCE", type=path_argument, help="a model file, or the folder of a run")
    parser.add_argument("target", metavar="TARGET", type=path_argument, help="the file to write")
    add_reading_options(parser)
    parser.add_argument(
        "--states",
        action="store_true",
        help="for an .onnx target: initial states as inputs h_0 and c_0, final states as outputs h_n and c_n",
    )
    parser.add_argument(
        "--weights-only",
        action="store_true",
        help="for a .pt or .weights.h5 target: leave out layers without weights, which such a file cannot contain",
    )
    add_overwrite(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Read the model, write it, and print a summary."""
    from glasscell.convert import files  # noqa: PLC0415 - not for `glasscell copy`
    from glasscell.convert.option_names import for_command_line  # noqa: PLC0415

    output_file("target", options.target, files.WRITTEN_SUFFIXES, overwrite=options.overwrite)
    try:
        files.check_target(options.target, states=options.states, weights_only=options.weights_only)
    except ValueError as error:
        raise ValueError(for_command_line(str(error))) from None
    model = read_model(options.source, options)
    # Before the target is written: it may replace the source.
    dropped = files.dropped_ports(model, options.source, options.target, states=options.states)
    try:
        files.save(model, options.target, states=options.states, weights_only=options.weights_only)
    except ValueError as error:
        raise ValueError(for_command_line(str(error))) from None
    print(f"{model}\n\n{escape(options.source)} → {escape(options.target)}")
    if dropped:
        print(
            f"{options.target} does not contain {escape(', '.join(dropped))} of the graph in {options.source}",
            file=sys.stderr,
        )
    if note := files.not_in_file(model, options.target):
        print(escape(for_command_line(note)), file=sys.stderr)
    if options.target.suffix.lower() != ".safetensors" and (missing := _outside_the_layers(model)):
        print(f"{options.target} does not contain {escape(missing)}", file=sys.stderr)


def _outside_the_layers(model: Any) -> str:
    """Return the data of a model that only files of the library contain, and what its layers compute; "" if none."""
    kind = type(model).__name__
    if kind == "SequenceClassifier":
        return f"the labels: outputs are logits of {', '.join(map(str, model.classes))}, in this order"
    if kind == "LanguageModel":
        return "the vocabulary: inputs are positions in model.vocabulary.symbols, outputs their logits"
    if kind == "Forecaster":
        return "scaling, differences and intervals: inputs are model.inputs(y), outputs scaled corrections"
    return ""
