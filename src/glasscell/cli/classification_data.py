"""Data of ``glasscell classify``: read files, and split them into training, validation and test parts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from glasscell.cli.outputs import path_argument
from glasscell.cli.sequence_options import add_sequence_options, check_labels, class_names, read_sequences_of
from glasscell.data.labelled.labels import class_numbers
from glasscell.data.labelled.npz_files import array_names, read_npz
from glasscell.data.labelled.reading import file_kind

if TYPE_CHECKING:
    from glasscell.data.labelled.sequences import LabelledSequences

TEST_FRACTION, WINDOW = 0.2, 200
TEST_ARRAYS = {"x": "x_test", "y": "y_test", "lengths": "lengths_test"}


class Parts(NamedTuple):
    """The training, validation and test parts, and how they were made."""

    train: LabelledSequences
    validation: LabelledSequences | None
    test: LabelledSequences
    description: str


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of :func:`read_parts`."""
    split = parser.add_argument_group("test and validation")
    split.add_argument("--test", type=path_argument, metavar="FILE", help="the file of the test sequences")
    split.add_argument(
        "--test-fraction",
        type=float,
        metavar="F",
        help=f"sequences of each class to hold out without --test (default {TEST_FRACTION})",
    )
    split.add_argument(
        "--validation-fraction",
        type=float,
        metavar="F",
        help="sequences of the training part to hold out; the best model on them is kept (default: none)",
    )
    add_sequence_options(parser)
    parser.add_argument("--per-step", action="store_true", help="there is one label per step")
    parser.add_argument(
        "--window", type=int, metavar="T", help=f"steps of training sequences, with --per-step (default {WINDOW})"
    )


def read_parts(options: argparse.Namespace) -> Parts:
    """Read the files and split them."""
    if options.per_step and options.rows is None:
        options.rows = "steps"
    if options.window is not None and not options.per_step:
        raise ValueError("--window is for --per-step, got none")
    data = _read(options.train, options)
    with_test_arrays = file_kind(options.train) == "npz" and TEST_ARRAYS["x"] in array_names(options.train)
    if options.test_fraction is not None and (options.test is not None or with_test_arrays):
        other = "--test" if options.test is not None else f"the arrays {TEST_ARRAYS['x']} and {TEST_ARRAYS['y']}"
        raise ValueError(f"--test-fraction must be left out with {other}")
    if options.test is not None:
        train, test, how = data, _read(options.test, options, data), f"Test: {options.test}"
    elif with_test_arrays:
        train, test = data, _checked(read_npz(options.train, **TEST_ARRAYS), data)
        how = f"Test: arrays {TEST_ARRAYS['x']} and {TEST_ARRAYS['y']} of {options.train}"
    else:
        train, test, how = _split(data, options)
    classes = data.classes
    if len(classes) < 2:
        raise ValueError(f"{data.source}: labels must be of at least two classes, got {classes[0]!r} only")
    check_labels(options.test or options.train, options, test, class_names(classes))
    validation = None
    if options.validation_fraction is not None:
        train, validation = _fraction("--validation-fraction", options.validation_fraction, train, options.seed)
    for name, part in (("test", test), ("validation", validation)):
        if part is not None:
            _check_trained(name, part, train)
    described = [f"Training: {_size(train)}"]
    if validation is not None:
        described.append(f"Validation: {_size(validation)}, drawn from the training part with seed {options.seed}")
    return Parts(train, validation, test, "\n".join([*described, f"{how}: {_size(test)}"]))


def _read(path: Path, options: argparse.Namespace, like: LabelledSequences | None = None) -> LabelledSequences:
    """Read a file; its features must be those of an earlier one."""
    label = options.label
    if file_kind(path) == "npz":
        options.label = label or "y"
    elif file_kind(path) == "csv" and label is None:
        raise ValueError(f"--label must name the column of the labels of {path}, got none")
    data = read_sequences_of(path, options, None, per_step=options.per_step)
    options.label = label
    if data.labels is None:
        raise ValueError(f"{data.source}: the sequences must have labels, got none")
    if data.per_step != options.per_step:
        found = "per step" if data.per_step else "per sequence"
        raise ValueError(f"{data.source}: --per-step must be used for one label per step, got one label {found}")
    return _checked(data, like)


def _checked(data: LabelledSequences, like: LabelledSequences | None) -> LabelledSequences:
    if like is not None and data.feature_names != like.feature_names:
        raise ValueError(
            f"{data.source}: features must be those of the training file, {', '.join(like.feature_names)}, "
            f"got {', '.join(data.feature_names)}"
        )
    return data


def _split(data: LabelledSequences, options: argparse.Namespace) -> tuple[LabelledSequences, LabelledSequences, str]:
    """Return the training and the test part of one file, and how they were made."""
    fraction = TEST_FRACTION if options.test_fraction is None else options.test_fraction
    if data.per_step and len(data) == 1:
        if not 0 < fraction < 1:
            raise ValueError(f"--test-fraction must be between 0 and 1, got {fraction}")
        steps = len(data.x[0]) - round(len(data.x[0]) * fraction)
        parts = data.windows(steps)
        if len(parts) != 2:
            raise ValueError(f"--test-fraction must leave steps in both parts of {len(data.x[0])}, got {fraction}")
        return parts.subset([0]), parts.subset([1]), f"Test: the last {len(parts.x[1]):,} steps of the file"
    train, test = _fraction("--test-fraction", fraction, data, options.seed)
    of = "the sequences" if data.per_step else "each class"
    return train, test, f"Test: {fraction:.0%} of {of}, drawn with seed {options.seed}"


def _check_trained(name: str, part: LabelledSequences, train: LabelledSequences) -> None:
    """Raise ValueError for a label that the training part does not have: the model would have no class for it."""
    try:
        class_numbers(part.labels, train.classes, f"labels of the {name} part")
    except ValueError as error:
        raise ValueError(f"{part.source}: {error}, which the training part does not have") from None


def _fraction(name: str, fraction: float, data: LabelledSequences, seed: int) -> Any:
    try:
        return data.split(fraction, seed)
    except ValueError as error:
        raise ValueError(str(error).replace("fraction must", f"{name} must", 1)) from None


def _size(data: LabelledSequences) -> str:
    """Format the number of sequences, and of each class."""
    counts = data.counts()
    shown = ", ".join(f"{label}: {count:,}" for label, count in list(counts.items())[:12])
    more = "" if len(counts) <= 12 else f", … ({len(counts)} classes)"
    unit = " steps" if data.per_step else ""
    return f"{len(data):,} sequence{'s' * (len(data) != 1)} ({shown}{more}{unit})"
