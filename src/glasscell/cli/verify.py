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
        help="check every claim against finite differences, PyTorch, ONNX Runtime and Keras",
        description="Check the library, or a model of yours, against finite differences, and against PyTorch, ONNX "
        "Runtime and Keras where they are installed. The exit status is 1 if a claim fails.",
    )
    parser.add_argument(
        "model", nargs="?", type=path_argument, help="a model file of any format (default: the library)"
    )
    parser.add_argument(
        "--shape", type=_shape, metavar="B,T", help="sequences and steps that the model is checked on (default 4,12)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn at random (default 0)")
    parser.add_argument("--html", type=path_argument, metavar="FILE", help="write the table as a page, too")
    add_overwrite(parser)
    add_reading_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the table line by line; return 1 if a claim fails."""
    from glasscell.verify import checks  # noqa: PLC0415 - not for `glasscell copy`
    from glasscell.verify.html import page  # noqa: PLC0415

    as_generator(options.seed)  # that there is such a seed is known before the work
    if options.shape is not None:
        check_memory("--shape", forward_bytes(1, 1, options.shape[1], options.shape[0]))
    html = output_file("--html", options.html, HTML, overwrite=options.overwrite)
    if options.model is None and options.shape is not None:
        raise ValueError("--shape is for a model of yours; the library is checked on many shapes")
    model = None if options.model is None else read_model(options.model, options)
    subject = "the library" if model is None else str(options.model)
    remark = "" if model is None else not_checked(options)
    print(f"  {_line('against', 'what was compared', 'cases', 'largest error', 'bound')}", flush=True)
    claims = []
    with interrupted_before([html] if html is not None else []):
        for claim in checks(model, options.shape or (4, 12), options.seed):
            claims.append(claim)
            print("\n".join(map(escape, f"  {row(claim)}".split("\n"))), flush=True)
    if html is not None:
        html.write(page(claims, subject, remark).encode())
    print(f"\n  {summary(claims)}" + (f"\n  {escape(remark)}" if remark else ""))
    return int(any(claim.holds is False for claim in claims))


def not_checked(options: argparse.Namespace) -> str:
    """Return what no check of the model can know, "" if the file states the model itself."""
    from glasscell.convert import files  # noqa: PLC0415

    if not files.is_weights_alone(options.model):
        return ""
    if options.chain is not None:
        source = f"the one given by --chain {options.chain}"
    elif options.config is not None:
        source = f"the one in --config {options.config}"
    else:
        source = "that of its single layer"
    return (
        f"{options.model} holds weights alone: the computation is {source}; whether it is the trained one is not known."
    )


def row(claim: Check) -> str:
    """Format a claim as a line of the table."""
    if claim.error is None:
        return f"{claim.against:<{COLUMNS[0]}}  {claim.what:<{COLUMNS[1]}}  {claim.note}"
    from glasscell.verify.html import in_words  # noqa: PLC0415

    mark = check_mark(right=claim.holds is True)
    line = f"{_line(claim.against, claim.what, str(claim.cases), *in_words(claim))}  {mark}"
    return line + (f"\n  {'':<{COLUMNS[0]}}  {claim.note}" if claim.note else "")


def summary(claims: list[Check]) -> str:
    """Summarise the results in a sentence."""
    holds, fails, unchecked = (sum(claim.holds is verdict for claim in claims) for verdict in (True, False, None))
    parts = [f"{holds} of {len(claims)} claims hold"]
    parts += [f"{fails} FAIL"] if fails else []
    parts += [f"{unchecked} could not be checked"] if unchecked else []
    return ", ".join(parts) + "."


def _line(against: str, what: str, *numbers: str) -> str:
    left, wide, *widths = COLUMNS
    cells = [f"{number:>{width}}" for number, width in zip(numbers, widths, strict=True)]
    return "  ".join([f"{against:<{left}}", f"{what:<{wide}}", *cells])


def _shape(text: str) -> tuple[int, int]:
    try:
        B, T = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers, such as 4,12") from None
    if B < 1 or T < 1:
        raise argparse.ArgumentTypeError(f"{text!r} has a number below 1")
    return B, T
