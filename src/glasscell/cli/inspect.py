"""Implement ``glasscell inspect``: every gate and state of a trained model on one input."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np

from glasscell.checkpoint import not_found
from glasscell.cli.inputs import parse_inputs, parse_targets
from glasscell.cli.outputs import HTML, PICTURES, add_overwrite, check_matplotlib, output_file, path_argument, picture
from glasscell.cli.predict import parse
from glasscell.cli.reading import add_reading_options, read_model
from glasscell.cli.terminal import check_mark, format_bits
from glasscell.core.losses import LOSSES
from glasscell.layers import Squeeze
from glasscell.models import CopyLSTM, LanguageModel, Sequential

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from glasscell.atomic_files import OutputFile
    from glasscell.layers import LSTM
    from glasscell.trace.layer_trace import LayerTrace
    from glasscell.trace.trace import Trace

COLORS = {"auto": None, "always": True, "never": False}
MAX_UNITS_LISTED = 5  # in a line of the diagnostics


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "inspect",
        help="show every gate and state of a model on an input",
        description="Show the gates and states of a model on an input: heat maps in the terminal, the equations of a "
        "step with their values, a picture, or an interactive HTML page.",
    )
    parser.add_argument(
        "model", metavar="MODEL", type=path_argument, help="the folder of a run, or a model file of any format"
    )
    inputs = parser.add_argument_group("input")
    inputs.add_argument(
        "--input",
        required=True,
        metavar="INPUT",
        help="bits such as 11010010 for a model of `glasscell copy`; a text for one of `glasscell text`; numbers such "
        "as '0.1,0.2; 0.3,0.4', steps between semicolons; class numbers such as 3,1,4 for an Embedding; a text, with "
        "--vocabulary; or a .npy or .csv file, one row per step",
    )
    inputs.add_argument("--target", metavar="TARGET", help="expected output, in the format of --input; adds gradients")
    inputs.add_argument(
        "--loss",
        choices=LOSSES,
        help="loss of the target (default squared_error; with --vocabulary categorical_cross_entropy)",
    )
    inputs.add_argument(
        "--vocabulary", metavar="CHARACTERS", help="characters of a language model, in the order of their ids"
    )
    views = parser.add_argument_group("views")
    views.add_argument("--layer", type=int, default=-1, metavar="K", help="index of the layer (default -1, the last)")
    views.add_argument(
        "--symbols", metavar="NAMES", help="quantities to show, such as f,c,d_c (default: i,f,o,g,c of an LSTM)"
    )
    views.add_argument(
        "--unit", type=int, metavar="K", help="unit of the equations, and the only unit in the heat maps"
    )
    views.add_argument("--step", type=int, metavar="T", help="step of the equations")
    views.add_argument(
        "--equations",
        action="store_true",
        help="print the equations of --step and --unit (default: step 0, the unit with the longest memory)",
    )
    views.add_argument(
        "--color", choices=COLORS, default="auto", help="default auto: color on a terminal, unless NO_COLOR is set"
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--html", type=path_argument, metavar="FILE", help="write an interactive HTML page, which needs no network"
    )
    output.add_argument("--png", type=path_argument, metavar="FILE", help="write a picture, .png, .svg or .pdf")
    add_overwrite(output)
    add_reading_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Trace the model, print the views, and write the files."""
    html = output_file("--html", options.html, HTML, overwrite=options.overwrite)
    png = output_file("--png", options.png, PICTURES, overwrite=options.overwrite)
    if png is not None:
        check_matplotlib("--png")
    with np.errstate(over="ignore", invalid="ignore"):  # the views report gradients that overflow
        _show(options, html, png)


def _show(options: argparse.Namespace, html: OutputFile | None, png: OutputFile | None) -> None:
    from glasscell.trace.terminal import render  # noqa: PLC0415 - not for `glasscell copy`

    trace = traced(options)
    layer = _layer(options, trace)
    names = ",".join(layer.default_symbols) if options.symbols is None else options.symbols
    symbols = [name.strip() for name in names.split(",") if name.strip()]
    units = None if options.unit is None else [options.unit]
    color = False if options.ascii else COLORS[options.color]
    lines = [*format_prediction(trace), render(trace, symbols=symbols, layer=options.layer, color=color, units=units)]
    lines += ["", *format_diagnostics(layer)]
    if options.equations or options.step is not None:
        lines += ["", equations(options, trace, layer)]
    contents = [
        (html, _page(trace)) if html is not None else None,
        (png, _picture(trace, options.layer, png.path.suffix.lower())) if png is not None else None,
    ]
    for file, content in filter(None, contents):  # all contents are complete before a file is written
        file.write(content)
    written = [str(path) for path in (options.html, options.png) if path is not None]
    print("\n".join(lines + [""] * bool(written) + [f"Written: {', '.join(written)}"] * bool(written)))


def _layer(options: argparse.Namespace, trace: Trace) -> LayerTrace:
    """Return the chosen layer; raise ValueError if layer, unit or step is out of range."""
    from glasscell.trace.layer_trace import check_index  # noqa: PLC0415

    try:
        layer = trace.get_layer(options.layer)
        for name, index, size in (("unit", options.unit, layer.H), ("step", options.step, layer.T)):
            if index is not None:
                check_index(name, index, size)
    except IndexError as error:
        raise ValueError(f"--{error}") from None
    return layer


def traced(options: argparse.Namespace) -> Trace:
    """Trace the model of the command line on its input."""
    if not options.model.exists():
        raise not_found(options.model)
    model = read_model(options.model, options)
    if not isinstance(model, CopyLSTM | LanguageModel):
        return _trace_model(model, options)
    kind = "model of the copy task" if isinstance(model, CopyLSTM) else "language model"
    for name in ("target", "loss", "vocabulary"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} must be left out for a {kind}, whose input determines the target")
    if isinstance(model, CopyLSTM):
        return model.trace(parse(options.input, model.task))
    try:
        return model.trace(options.input)
    except ValueError as error:
        raise ValueError(f"--input: {error}") from None


def _trace_model(model: LSTM | Sequential, options: argparse.Namespace) -> Trace:
    x, metadata = parse_inputs(model, options.input, options.vocabulary)
    trace = _trace(model, x, metadata)
    if options.target is None:
        if options.loss is not None:
            raise ValueError("--loss must be left out without --target")
        return trace
    loss = options.loss or ("categorical_cross_entropy" if options.vocabulary else "squared_error")
    y = parse_targets(options.target, loss, options.vocabulary, trace.outputs.shape)
    if isinstance(model, Sequential) and isinstance(model.layers[-1], Squeeze) and y.ndim:
        y = y[..., 0]  # the outputs of a trace have an axis of features
    if options.vocabulary and trace.outputs.shape[-1] == len(options.vocabulary):
        metadata = metadata | {"output_names": list(options.vocabulary)}
    return _trace(model, x, metadata, y=y, loss=loss)


def _trace(model: LSTM | Sequential, x: Any, metadata: dict[str, Any], **options: Any) -> Trace:
    try:
        return model.trace(x, **options, **metadata)
    except (ValueError, TypeError) as error:  # the trace without a target succeeded: the target is the cause
        raise ValueError(f"{'--target' if 'y' in options else '--input'} does not fit the model: {error}") from None


def format_prediction(trace: Trace) -> list[str]:
    """Format the input and output bits of a copy model; the heat maps show other outputs."""
    from glasscell.trace.display import all_steps_correct, output_rows  # noqa: PLC0415

    bits = trace.about.get("copy", {}).get("bits")
    if bits is None:
        return []
    steps = zip(*(row.texts or () for row in output_rows(trace)), strict=True)
    output = [bit for step in steps for bit in step if bit]
    return [
        f"input   {format_bits(bits)}",
        f"output  {format_bits(output)}   {check_mark(right=bool(all_steps_correct(trace)))}",
        "",
    ]


def format_diagnostics(layer: LayerTrace) -> list[str]:
    """Format the units with the longest half-life, and those with the most saturated gates."""
    from glasscell.trace.diagnostics import half_life, saturation  # noqa: PLC0415
    from glasscell.trace.display import symbol_name  # noqa: PLC0415

    if not layer.gate_symbols:  # an RNN
        return []
    keep = layer.keep_gate
    n = half_life(layer.value(keep))
    longest = np.argsort(-n, kind="stable")[:MAX_UNITS_LISTED]
    lines = [f"units with the longest memory: half-life of the {symbol_name(layer.state)}, in steps"]
    lines += [f"  {keep}   {'   '.join(f'{unit} ({_steps(n[unit])})' for unit in longest)}"]
    lines += ["units with the most saturated gates: share of steps below 0.1, and above 0.9"]
    for gate in layer.gate_symbols:
        low, high = saturation(layer.value(gate))
        saturated = [
            unit
            for unit in np.argsort(-(low + high), kind="stable")[:MAX_UNITS_LISTED]
            if low[unit] + high[unit] >= 0.005
        ]
        shares = (f"{unit} ({low[unit]:.0%}, {high[unit]:.0%})" for unit in saturated)
        lines.append(f"  {gate}   {'   '.join(shares) or 'none'}")
    return lines


def _steps(n: float) -> str:
    return "infinite" if np.isinf(n) else f"{n:.3g}"


def equations(options: argparse.Namespace, trace: Trace, layer: LayerTrace) -> str:
    """Format the equations of the chosen step and unit. Default: the unit with the longest half-life."""
    from glasscell.trace.diagnostics import half_life  # noqa: PLC0415

    unit = options.unit
    if unit is None:
        unit = int(np.argmax(half_life(layer.value(layer.keep_gate)))) if layer.keep_gate else 0
    return str(trace.equations(options.step or 0, unit, options.layer))


def _page(trace: Trace) -> bytes:
    from glasscell.trace.html_report.page import page  # noqa: PLC0415
    from glasscell.trace.html_report.payload import payload_of  # noqa: PLC0415

    if any(layer.state != "c" for layer in trace.layer):
        raise ValueError("--html must be left out for a model with an RNN or a GRU: --png writes a picture")
    return page(payload_of(trace)).encode()


def _picture(trace: Trace, layer: int, ending: str) -> bytes:
    from glasscell.trace.figures import plot  # noqa: PLC0415

    return picture(lambda: plot(trace, layer), ending, dpi=120)
