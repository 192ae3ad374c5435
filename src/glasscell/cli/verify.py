"""Implement ``glasscell verify``: check the library, or a model, against independent implementations."""

import argparse
from typing import TYPE_CHECKING

from glasscell.cli.outputs import HTML, add_overwrite, interrupted_before, output_file, path_argument
from glasscell.cli.reading import add_reading_options, read_model
from glasscell.cli.sizes import check_memory, forward_bytes
from glasscell.cli.terminal import check_mark
from glasscell.escaping import escape
from glasscell.validation import as_generator
from glasscell.verify.checks import Check

if TYPE_CHECKING:
    from argparse import _SubParsersAction

COLUMNS = (18, 66, 5, 13, 7)


def add_to(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "verify",
        help="check all claims against finite differences, PyTorch, ONNX Runtime and Keras",
        description="Check the library, or a model, against finite differences, and against PyTorch, ONNX Runtime and "
        "Keras if they are installed. The exit status is 1 if a check fails.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        type=path_argument,
        help="a model file of any format (default: the library)",
    )
    parser.add_argument(
        "--shape", type=_shape, metavar="B,T", help="number of sequences and steps for a model (default 4,12)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and inputs (default 0)")
    parser.add_argument("--html", type=path_argument, metavar="FILE", help="also write the table as an HTML page")
    add_overwrite(parser)
    add_reading_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the table line by line; return 1 if a check fails."""
    from glasscell.verify import iter_checks  # noqa: PLC0415 - not for `glasscell copy`
    from glasscell.verify.html import page  # noqa: PLC0415

    as_generator(options.seed)  # an invalid seed is an error before the work
    if options.shape is not None:
        check_memory("--shape", forward_bytes(1, 1, options.shape[1], options.shape[0]))
    html = output_file("--html", options.html, HTML, overwrite=options.overwrite)
    if options.model is None and options.shape is not None:
        raise ValueError("--shape must be left out without a model: the library is checked on many shapes")
    model = None if options.model is None else read_model(options.model, options)
    subject = "the library" if model is None else str(options.model)
    remark = "" if model is None else not_checked(options)
    print(f"  {_line('reference', 'values', 'cases', 'largest error', 'bound')}", flush=True)
    checks = []
    with interrupted_before([html] if html is not None else []):
        for check in iter_checks(model, options.shape or (4, 12), options.seed):
            checks.append(check)
            print("\n".join(map(escape, f"  {row(check)}".split("\n"))), flush=True)
    if html is not None:
        html.write(page(checks, subject, remark).encode())
    print(f"\n  {summary(checks)}" + (f"\n  {escape(remark)}" if remark else ""))
    return int(any(check.holds is False for check in checks))


def not_checked(options: argparse.Namespace) -> str:
    """Return the limit of all checks of weights alone; "" for a file that contains the whole model."""
    from glasscell.convert import files  # noqa: PLC0415

    if not files.is_weights_alone(options.model):
        return ""
    if options.architecture is not None:
        source = f"that of --architecture {options.architecture}"
    elif options.config is not None:
        source = f"that of --config {options.config}"
    else:
        source = "that of its single layer"
    return (
        f"{options.model} contains only weights: the computation is {source}. It cannot be checked whether the "
        "model was trained with it."
    )


def row(check: Check) -> str:
    """Format a check as a row of the table."""
    if check.error is None:
        return f"{check.reference:<{COLUMNS[0]}}  {check.label:<{COLUMNS[1]}}  {check.note}"
    from glasscell.verify.html import format_numbers  # noqa: PLC0415

    mark = check_mark(right=check.holds is True)
    line = f"{_line(check.reference, check.label, str(check.cases), *format_numbers(check))}  {mark}"
    return line + (f"\n  {'':<{COLUMNS[0]}}  {check.note}" if check.note else "")


def summary(checks: list[Check]) -> str:
    """Summarise the results in a sentence."""
    held, failed, skipped = (sum(check.holds is result for check in checks) for result in (True, False, None))
    counts = [f"{held} of {len(checks)} checks hold"]
    counts += [f"{failed} FAIL"] if failed else []
    counts += [f"{skipped} skipped"] if skipped else []
    return ", ".join(counts) + "."


def _line(reference: str, label: str, *numbers: str) -> str:
    reference_width, label_width, *widths = COLUMNS
    cells = [f"{number:>{width}}" for number, width in zip(numbers, widths, strict=True)]
    return "  ".join([f"{reference:<{reference_width}}", f"{label:<{label_width}}", *cells])


def _shape(text: str) -> tuple[int, int]:
    try:
        B, T = (int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be two numbers such as 4,12, got {text!r}") from None
    if B < 1 or T < 1:
        raise argparse.ArgumentTypeError(f"must be two numbers of at least 1, got {text!r}")
    return B, T
