"""Implement ``glasscell predict``: the outputs of a trained model of any kind."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glasscell import checkpoint
from glasscell.cli.outputs import add_overwrite, interrupted_before, output_file, path_argument
from glasscell.cli.prediction_table import PredictionTable
from glasscell.cli.reading import add_reading_options, read_model
from glasscell.cli.sequence_options import add_sequence_options
from glasscell.cli.series_options import FORECASTERS, add_series_options, check_series_options
from glasscell.cli.terminal import check_mark, format_bits
from glasscell.escaping import escape
from glasscell.models.files import MODELS, load

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from glasscell.atomic_files import OutputFile
    from glasscell.models import CopyLSTM
    from glasscell.tasks.copy import Copy


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "predict",
        aliases=["try"],
        help="run a trained model on data",
        description="Run a trained model of any kind. A model of `glasscell copy` runs on sequences of bits; the exit "
        "status is 1 if one is copied wrongly. Any other model runs on the sequences of a file, and writes a table: "
        "labels and probabilities of a classifier, numbers of a regressor, a forecast, or the outputs of other models.",
    )
    parser.add_argument(
        "model", metavar="MODEL", type=path_argument, help="the folder of a run, or a model file of any format"
    )
    parser.add_argument(
        "input", metavar="INPUT", nargs="+", help="a file; for a model of `glasscell copy`, bits such as 1101"
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out", type=path_argument, metavar="FILE.csv", help="write the table to a file (default: standard output)"
    )
    add_overwrite(output)
    add_sequence_options(parser)
    add_series_options(parser)
    add_reading_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the model on the input, and write its outputs."""
    out = output_file("--out", options.out, (".csv",), overwrite=options.overwrite)
    model = _model(options)
    kind = type(model).__name__
    if kind == "CopyLSTM":
        return run_on_bits(model, options, out)
    if kind == "LanguageModel":
        raise ValueError(
            f"{options.model} must be a model of sequences of numbers, got a LanguageModel: "
            "use `glasscell text sample` or `glasscell text score`"
        )
    if len(options.input) != 1:
        raise ValueError(f"input must be one file for a {kind}, got {len(options.input)} arguments")
    check_series_options(options, kind)
    with interrupted_before([] if out is None else [out]):
        if kind in FORECASTERS:
            from glasscell.cli.predict_series import forecast_table as table_of  # noqa: PLC0415
        else:
            from glasscell.cli.predict_sequences import prediction_table as table_of  # noqa: PLC0415
        table = table_of(model, Path(options.input[0]), options)
        content = table.csv()
        if out is not None:
            out.write(content.encode())
    _print(table, content, out)
    return 0


def _model(options: argparse.Namespace) -> Any:
    """Return the model in a file; one of the library without importing the code for other formats."""
    path = options.model
    is_ours = path.is_dir() or path.suffix.lower() == ".safetensors"
    if is_ours and options.architecture is None and options.ignore is None and options.prefix is None:
        with suppress(OSError, ValueError):  # errors are those of read_model
            kind = checkpoint.kind(path)
            if kind in MODELS or kind in FORECASTERS:
                return load(path)
    return read_model(path, options)


def _print(table: PredictionTable, content: str, out: OutputFile | None) -> None:
    """Print the notes; the table as well, and then the notes on standard error, if it was not written to a file."""
    notes = [*table.notes]
    if out is None:
        print(content, end="")
    else:
        notes.append(f"Written to {out.path}: {len(table.rows)} rows")
    for note in notes:
        print(escape(note), file=sys.stderr if out is None else sys.stdout)


def run_on_bits(model: CopyLSTM, options: argparse.Namespace, out: OutputFile | None) -> int:
    """Copy each sequence and print the result. Return 1 if one is wrong."""
    sequences = [parse(text, model.task) for text in options.input]
    columns = max(2 * len(bits) - 1 for bits in sequences)
    any_wrong, rows = False, list[list[str]]()
    for bits in sequences:
        output = model.copy(bits).tolist()
        rows.append(["".join(map(str, bits)), "".join(map(str, output))])
        any_wrong = any_wrong or output != bits
        trained = in_training_lengths(len(bits), model.task)
        note = "" if trained else f"   trained on {lengths(model.task)} bits, not on {len(bits)}"
        mark = check_mark(right=bits == output)
        print(f"  {format_bits(bits):<{columns}}   {format_bits(output):<{columns}}   {mark}{note}")
    if out is not None:
        out.write(PredictionTable(["input", "output"], rows, []).csv().encode())
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
