"""``glasscell bench``: speed beside PyTorch, ONNX Runtime and JAX."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from glasscell.cli.outputs import (
    PICTURES,
    add_overwrite,
    check_matplotlib,
    interrupted_before,
    output_file,
    path_argument,
    picture,
)
from glasscell.cli.sizes import BYTES_OF_A_TURN, check_layers, check_memory, training_bytes

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_to(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "bench",
        help="measure speed beside PyTorch, ONNX Runtime and JAX",
        description="Time Glasscell beside PyTorch, ONNX Runtime and JAX, where they are installed, on the same work, "
        "in turns, each at its best setting. A ratio is the time of the other over ours, with its quartiles.",
    )
    parser.add_argument(
        "--only",
        metavar="RACES",
        help="with commas, of: training, forward, streaming, cold, memory, scaling, gemm (default: the first four)",
    )
    parser.add_argument(
        "--shapes",
        nargs="+",
        metavar="I,H,T,B",
        help="sizes for training and forward, I,H,T,B or I,H,T,B,L; without it ten of them",
    )
    parser.add_argument("--turns", type=int, default=15, help="timings of each side (default 15)")
    parser.add_argument("--out", type=path_argument, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--plot", type=path_argument, metavar="FILE", help="draw the ratios, as .png, .svg or .pdf")
    add_overwrite(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Race by race: the table, and then the files."""
    from glasscell.bench import DEFAULT, KINDS, races  # noqa: PLC0415 - not for `glasscell copy`
    from glasscell.bench.machine import in_words, machine  # noqa: PLC0415
    from glasscell.bench.record import record, to_json  # noqa: PLC0415
    from glasscell.bench.shapes import SHAPES, shape_of  # noqa: PLC0415
    from glasscell.bench.table import lines  # noqa: PLC0415
    from glasscell.validation import choice, positive_integer  # noqa: PLC0415

    kinds = DEFAULT if options.only is None else tuple(options.only.split(","))
    for kind in kinds:
        choice("--only", kind, KINDS)
    positive_integer("--turns", options.turns)
    if options.shapes is not None and not {"training", "forward"} & {*kinds}:
        raise ValueError("--shapes is for training and forward; the other races have their own")
    shapes = SHAPES if options.shapes is None else tuple(map(shape_of, options.shapes))
    check_memory(f"--turns {options.turns}", options.turns * BYTES_OF_A_TURN)
    for shape in shapes if options.shapes else ():
        check_layers("L", shape.L)
        check_memory(f"the shape {shape}", training_bytes(*shape[:2], shape.L, *shape[2:4]))
    out = output_file("--out", options.out, (".json",), overwrite=options.overwrite)
    plot = output_file("--plot", options.plot, PICTURES, overwrite=options.overwrite)
    if plot is not None:
        _check_plot(kinds)

    described = machine()
    print(in_words(described))
    print(f"Medians of {options.turns} turns. Ratios: time over ours, with quartiles; above 1, Glasscell is faster.")
    done = []
    with interrupted_before([file for file in (out, plot) if file is not None]):
        for race in races(kinds, shapes, options.turns, say=_say):
            done.append(race)
            _say("")
            print("", *lines(race), sep="\n", flush=True)
    if out is not None:
        out.write(to_json(record(done, described, options.turns)).encode())
    if plot is not None:
        from glasscell.bench.plot import plot as draw  # noqa: PLC0415

        ending = plot.path.suffix.lower()
        plot.write(picture(lambda: draw(done, in_words(described)), ending, bbox_inches="tight"))


def _check_plot(kinds: "Sequence[str]") -> None:
    """Raise before minutes of timing if there will be nothing to draw, or nothing to draw with."""
    from glasscell.bench import with_ratios  # noqa: PLC0415 - not for `glasscell copy`

    check_matplotlib("--plot")
    if not with_ratios(kinds):
        raise ValueError(f"--plot draws ratios, and --only {','.join(kinds)} measures none here")


def _say(what: str) -> None:
    """What is being timed, where someone waits for it."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)
