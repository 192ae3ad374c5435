"""Command line of the speed benchmarks."""

import argparse
import sys
from collections.abc import Sequence

import speed
from glasscell.cli import command_line
from glasscell.cli.interrupts import Interrupts
from glasscell.cli.outputs import (
    PICTURES,
    add_overwrite,
    check_matplotlib,
    interrupted_before,
    output_file,
    path_argument,
    picture,
)
from glasscell.cli.parser import Parser
from glasscell.cli.sizes import check_layers, check_memory, training_bytes
from glasscell.validation import choice, positive_integer
from speed.cases import CASES, parse_case
from speed.machine import describe, machine
from speed.record import record, to_json
from speed.shapes import SHAPES, parse_shape
from speed.table import lines

BYTES_OF_A_ROUND = 32  # a boxed float, at least


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks of a command line, and return the exit status."""
    with Interrupts(process=arguments is None) as interrupts:
        return command_line.run(arguments, interrupts, parser)


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="speed",
        description="Time Glasscell and, where they are installed, PyTorch, ONNX Runtime and JAX on the same work, in "
        "interleaved rounds, each at its fastest setting. A ratio is the time of the other library over Glasscell's, "
        "with its quartiles.",
        epilog=command_line.EXIT_STATUS,
    )
    parser.add_argument(
        "--only",
        metavar="KINDS",
        help="with commas, of: training, training-steps, load, forward, streaming, cold, memory, scaling, gemm "
        "(default: training,training-steps,forward,streaming,cold)",
    )
    parser.add_argument(
        "--shapes",
        nargs="+",
        metavar="SHAPE",
        help="for training and forward I,H,T,B or I,H,T,B,L (default: ten shapes); for training-steps of: "
        f"{', '.join(CASES)} (default: all)",
    )
    parser.add_argument("--turns", type=int, default=15, help="rounds: timings of each implementation (default 15)")
    parser.add_argument("--out", type=path_argument, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--plot", type=path_argument, metavar="FILE", help="draw the ratios, as .png, .svg or .pdf")
    add_overwrite(parser)
    parser.add_argument("--ascii", action="store_true", help="write ASCII characters only, without colour")
    parser.set_defaults(run=run)
    return parser


def run(options: argparse.Namespace) -> None:
    """Run the benchmarks, print a table of each, and write the files."""
    kinds = speed.DEFAULT if options.only is None else tuple(options.only.split(","))
    for kind in kinds:
        choice("--only", kind, speed.KINDS)
    positive_integer("--turns", options.turns)
    if options.shapes is not None and not {"training", "forward", "training-steps"} & {*kinds}:
        raise ValueError("--shapes is for training, forward and training-steps; the other benchmarks have their own")
    names = [text for text in options.shapes or () if "training-steps" in kinds and not text[:1].isdigit()]
    cases = tuple(map(parse_case, names)) or tuple(CASES.values())
    shapes = tuple(parse_shape(text) for text in options.shapes or () if text not in names) or SHAPES
    check_memory(f"--turns {options.turns}", options.turns * BYTES_OF_A_ROUND)
    for shape in shapes if options.shapes else ():
        check_layers("L", shape.L)
        check_memory(f"the shape {shape}", training_bytes(*shape[:2], shape.L, *shape[2:4]))
    out = output_file("--out", options.out, (".json",), overwrite=options.overwrite)
    plot = output_file("--plot", options.plot, PICTURES, overwrite=options.overwrite)
    if plot is not None:
        _check_plot(kinds)

    machine_info = machine()
    print(describe(machine_info))
    print(f"Medians of {options.turns} rounds. Ratios: time over ours, with quartiles; above 1, Glasscell is faster.")
    results = []
    with interrupted_before([file for file in (out, plot) if file is not None]):
        for benchmark in speed.run_benchmarks(kinds, shapes, cases, options.turns, log=_log):
            results.append(benchmark)
            _log("")
            print("", *lines(benchmark), sep="\n", flush=True)
    if out is not None:
        out.write(to_json(record(results, machine_info, options.turns)).encode())
    if plot is not None:
        from speed.plot import plot as draw

        ending = plot.path.suffix.lower()
        plot.write(picture(lambda: draw(results, describe(machine_info)), ending, bbox_inches="tight"))


def _check_plot(kinds: Sequence[str]) -> None:
    """Raise an error if no ratio will be measured, or Matplotlib is missing."""
    check_matplotlib("--plot")
    if not speed.has_ratios(kinds):
        raise ValueError(f"--plot draws ratios, and --only {','.join(kinds)} measures none here")


def _log(label: str) -> None:
    """Show on a terminal which benchmark is being timed."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{label}", end="", file=sys.stderr, flush=True)
