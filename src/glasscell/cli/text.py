"""Implement ``glasscell text``: train a language model on text files, sample from it, and score texts."""

import argparse
from importlib import import_module
from typing import TYPE_CHECKING

from glasscell.cli.parser import Parser, add_ascii, add_on_failure, add_run_folder

if TYPE_CHECKING:
    from argparse import _SubParsersAction
    from collections.abc import Callable

DEFAULT_FOLDER = "runs/text"


def add_to(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "text",
        help="train a language model on text files, sample from it, score texts",
        description="Language models of characters, bytes or words.",
    )
    parts = parser.add_subparsers(metavar="command", prog="glasscell text", required=True, parser_class=Parser)
    for name, add_options, summary, description in (
        (
            "train",
            add_train,
            "train a model on text files",
            "Train a model on text files, which are joined in this order. The model with the lowest validation loss is "
            "kept, also when training is interrupted.",
        ),
        (
            "sample",
            _add_sample,
            "write text with a model",
            "Print the prompt and its continuation, each character as soon as it is drawn.",
        ),
        (
            "score",
            _add_score,
            "measure how well a model predicts text files",
            "Print nats and bits per symbol, perplexity, and the most surprising passages of text files, which are "
            "joined in this order.",
        ),
    ):
        part = parts.add_parser(name, help=summary, description=description)
        part.add_options = add_options


def add_train(parser: Parser) -> None:
    """Add the options of ``glasscell text train``."""
    parser.add_argument("files", nargs="+", type=_path, metavar="FILE", help="UTF-8, or any file with --bytes")
    text = parser.add_argument_group("text")
    units = text.add_mutually_exclusive_group()
    units.add_argument("--bytes", dest="unit", action="store_const", const="bytes", help="a model of bytes")
    units.add_argument("--words", dest="unit", action="store_const", const="words", help="a model of words")
    text.add_argument(
        "--vocabulary-size",
        type=int,
        metavar="V",
        help="the most frequent characters or words, and one symbol for all others (default: all)",
    )
    text.add_argument(
        "--keep-line-ends",
        action="store_true",
        help="keep a byte order mark and the line ends CR LF and CR (default: removed, and read as line feeds)",
    )
    text.add_argument("--streams", type=int, default=50, metavar="B", help="parallel streams of the text (default 50)")
    text.add_argument(
        "--steps",
        type=int,
        default=50,
        metavar="T",
        help="symbols per window of truncated backpropagation (default 50)",
    )
    text.add_argument(
        "--split",
        choices=("streams", "tail"),
        default="streams",
        help="what is held out: the end of each stream (default), or the end of the text",
    )
    text.add_argument(
        "--validation-fraction",
        type=float,
        default=0.05,
        metavar="F",
        help="fraction of the text that is held out for validation (default 0.05)",
    )
    text.add_argument(
        "--test-fraction",
        type=float,
        default=0.0,
        metavar="F",
        help="fraction of the text that is held out for the test (default 0)",
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--embedding-size", type=int, metavar="E", help="features of a symbol (default 64; with --tied, --hidden-size)"
    )
    model.add_argument("--hidden-size", type=int, default=128, metavar="H", help="units of a layer (default 128)")
    model.add_argument("--num-layers", type=int, default=2, metavar="L", help="LSTM layers (default 2)")
    model.add_argument(
        "--dropout", type=float, default=0.0, metavar="P", help="dropout between layers and on outputs (default 0)"
    )
    model.add_argument("--tied", action="store_true", help="share one matrix between embedding and readout")
    training = parser.add_argument_group("training")
    training.add_argument("--epochs", type=int, default=10, metavar="N", help="passes over the text (default 10)")
    training.add_argument(
        "--learning-rate",
        type=float,
        default=0.005,
        metavar="RATE",
        help="initial learning rate of Adam (default 0.005)",
    )
    training.add_argument(
        "--schedule",
        choices=("cosine", "linear", "constant"),
        default="cosine",
        help="how the learning rate decreases to 0; constant: it stays (default cosine)",
    )
    training.add_argument(
        "--clip-norm", type=float, default=1.0, metavar="G", help="largest norm of the gradient (default 1)"
    )
    training.add_argument(
        "--evaluate-every", type=int, metavar="N", help="updates between validations (default: one epoch)"
    )
    training.add_argument(
        "--patience", type=int, metavar="N", help="stop after N validations without a lower loss (default: never)"
    )
    training.add_argument(
        "--seed", type=int, default=0, metavar="SEED", help="seed of weights, batches and dropout (default 0)"
    )
    add_on_failure(training)
    add_run_folder(parser.add_argument_group("output"), DEFAULT_FOLDER, _path)
    add_ascii(parser)
    parser.set_defaults(run=_run("train"), unit="characters")


def _add_sample(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", type=_path, help="the folder of a run, or a model file")
    parser.add_argument("--prompt", default="", metavar="TEXT", help="the text to continue (default: none)")
    parser.add_argument("--length", type=int, default=1000, metavar="N", help="symbols to draw (default 1000)")
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="below 1: likely symbols become likelier; 0: always the most likely (default 1)",
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="draw from the K most likely symbols (default: all)")
    parser.add_argument("--seed", type=int, help="the same seed draws the same text (default: another one each time)")
    add_ascii(parser)
    parser.set_defaults(run=_run("sample"))


def _add_score(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", type=_path, help="the folder of a run, or a model file")
    parser.add_argument(
        "files", nargs="+", type=_path, metavar="FILE", help="a text file; --bytes models read any file"
    )
    parser.add_argument(
        "--streams",
        type=int,
        default=1,
        metavar="B",
        help="read B parts of the text in parallel, each from the initial state: faster (default 1)",
    )
    parser.add_argument("--passages", type=int, default=5, metavar="N", help="passages to print (default 5)")
    parser.add_argument("--width", type=int, default=60, metavar="N", help="symbols of a passage (default 60)")
    add_ascii(parser)
    parser.set_defaults(run=_run("score"))


def _run(part: str) -> "Callable[[argparse.Namespace], int]":
    """Return a function that imports the module of a part of the command, and runs it."""

    def run(options: argparse.Namespace) -> int:
        try:
            return import_module(f"glasscell.cli.text_{part}").run(options) or 0
        except ValueError as error:
            from glasscell.data.text.vocabulary import UnknownSymbolError  # noqa: PLC0415 - imported by the command

            if not isinstance(error, UnknownSymbolError):
                raise
            hint = "a model trained with --bytes, or with a smaller --vocabulary-size, accepts others"
            raise ValueError(f"{error}; {hint}") from None

    return run


def _path(text: str) -> str:
    """Return the path of an argument; raise ArgumentTypeError if it is empty. Importing pathlib takes 3 ms."""
    if not text:
        raise argparse.ArgumentTypeError("a path must not be empty")
    return text
