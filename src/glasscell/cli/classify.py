"""Implement ``glasscell classify``: train a classifier on a file of labelled sequences, and test it."""

from __future__ import annotations

import argparse
import shlex
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glasscell import __version__
from glasscell.atomic_files import KINDS
from glasscell.checkpoint import MODEL_FILE
from glasscell.cli.classification_data import WINDOW, Parts, add_data_options, read_parts
from glasscell.cli.classification_report import Results, draw, evaluate, format_results, scores_of
from glasscell.cli.outputs import path_argument, picture
from glasscell.cli.parser import add_on_failure, add_run_folder
from glasscell.cli.run_history import HISTORY_FILE
from glasscell.cli.run_settings import SETTINGS_FILE, options_of, to_json, write_settings
from glasscell.cli.sequence_options import TABLE_OPTIONS, check_range, class_names, option_of
from glasscell.cli.sizes import BYTES_PER_HISTORY_ROW, check_layers, check_memory, training_bytes
from glasscell.cli.terminal import counted, program_name
from glasscell.cli.training_run import TrainingRun
from glasscell.core.optimizers import Adam
from glasscell.core.packages import is_installed
from glasscell.data.arrays import ArrayData
from glasscell.data.labelled.labels import class_weights
from glasscell.models.sequence_classifier import SequenceClassifier
from glasscell.training.fitting import fit
from glasscell.validation import positive_integer, positive_number

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from glasscell.training.history import History

SCORES_FILE, PICTURE_FILE = "scores.json", "confusion.png"
FILES = {  # names of the files of a run, and predicates of their first bytes
    MODEL_FILE: KINDS[".safetensors"],
    HISTORY_FILE: lambda head: head.startswith(b"update,"),
    SETTINGS_FILE: KINDS[".json"],
    SCORES_FILE: KINDS[".json"],
    PICTURE_FILE: KINDS[".png"],
}
DEFAULT_FOLDER = Path("runs/classify")


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "classify",
        help="train a classifier on a file of labelled sequences",
        description="Train a classifier on labelled sequences of a table such as .csv, a .npz or a .ts file, "
        "and test it.",
    )
    parser.add_argument("train", metavar="FILE", type=path_argument, help="the file of the training sequences")
    add_data_options(parser)
    model = parser.add_argument_group("model")
    model.add_argument("--hidden-size", type=int, default=64, metavar="H", help="hidden units (default 64)")
    model.add_argument("--num-layers", type=int, default=1, metavar="L", help="LSTM layers (default 1)")
    model.add_argument("--bidirectional", action="store_true", help="read the sequences from both ends")
    model.add_argument(
        "--pooling",
        choices=("last", "mean", "max"),
        default="last",
        help="how the hidden states of all steps become one vector (default last)",
    )
    model.add_argument(
        "--dropout",
        type=float,
        default=0.0,
        metavar="P",
        help="dropout between layers and before the outputs (default 0)",
    )
    model.add_argument(
        "--noise",
        type=float,
        default=0.0,
        metavar="S",
        help="standard deviation of noise on the scaled features, in training (default 0)",
    )
    model.add_argument("--no-scale", action="store_true", help="do not scale the features")
    training = parser.add_argument_group("training")
    training.add_argument("--updates", type=int, metavar="N", help="number of updates (default 1500)")
    training.add_argument("--batch-size", type=int, metavar="B", help="sequences per update (default: by their number)")
    training.add_argument(
        "--learning-rate", type=float, metavar="RATE", help="largest learning rate of Adam (default 0.005)"
    )
    training.add_argument(
        "--class-weights",
        metavar="balanced|LABEL=W,...",
        help="weights of the classes in the loss: all equal in sum, or a weight for each label",
    )
    training.add_argument("--seed", type=int, default=0, help="seed of weights, batches and split (default 0)")
    training.add_argument(
        "--seeds", type=int, default=1, metavar="K", help="train K models; the first is kept (default 1)"
    )
    add_on_failure(training)
    add_run_folder(parser.add_argument_group("output"), str(DEFAULT_FOLDER), path_argument)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Read, train, write the model, and only then print and draw results."""
    for name in ("seeds", "hidden_size", "num_layers"):
        positive_integer(option_of(name), getattr(options, name))
    if options.learning_rate is not None:
        positive_number("--learning-rate", options.learning_rate)
    if options.seed < 0:
        raise ValueError(f"--seed must be at least 0, got {options.seed}")
    inputs = [path for path in (options.train, options.test) if path is not None]
    with TrainingRun(options, FILES, DEFAULT_FOLDER, inputs) as training_run:
        parts = read_parts(options)
        settings = _settings(options, parts)
        _check_sizes(options, parts)
        if options.class_weights is not None:
            class_weights(parts.train.labels, _weights(options, parts))  # an error before the work
        model = _model(options, parts, options.seed)
        for part in filter(None, (parts.train, parts.validation, parts.test)):
            check_range(part, model.dtype)
        print(f"{settings['train']}\n{parts.description}", flush=True)
        training_run.reserve_space(model)
        history, seconds = _train(model, parts, options.seed, training_run)
        training_run.save(model, history, {SETTINGS_FILE: partial(write_settings, settings)})
        print(f"{counted(history.updates, 'update')} in {seconds:.1f} s.\n")
        results = evaluate(model, parts.train, parts.test)
        unit = "steps" if parts.test.per_step else "sequences"
        print("\n".join(format_results(results, unit)) + "\n", flush=True)
        seeds = {options.seed: results.accuracy} | _other_seeds(parts, training_run)
        if len(seeds) > 1:
            print(f"Median of {len(seeds)} seeds: {statistics.median(seeds.values()):.1%}\n")
        _write_results(results, seeds, history, training_run)
        print(training_run.finish())
        _show_use(options, training_run.folder.display_path)
        return training_run.end()


def _settings(options: argparse.Namespace, parts: Parts) -> dict[str, Any]:
    """Return what was read and chosen, as JSON."""
    return {
        "command": "classify",
        "version": __version__,
        "train": str(parts.train),
        "test": str(parts.test),
        "split": parts.description,
        "features": parts.train.feature_names,
        "classes": parts.train.classes,
        "options": options_of(options),
    }


# Training


def _check_sizes(options: argparse.Namespace, parts: Parts) -> None:
    """Raise ValueError if the training does not fit into memory."""
    check_layers("--num-layers", options.num_layers)
    T = max(map(len, parts.train.x))
    T = min(T, options.window or WINDOW) if options.per_step else T
    I, H, L = parts.train.input_size, options.hidden_size, options.num_layers
    batch = 32 if options.batch_size is None else positive_integer("--batch-size", options.batch_size)
    check_memory("this training", training_bytes(I, H, L, T, batch) * (1 + options.bidirectional))
    if options.updates is not None:
        updates = positive_integer("--updates", options.updates)
        check_memory(f"the history of {updates} updates", updates * BYTES_PER_HISTORY_ROW)


def _model(options: argparse.Namespace, parts: Parts, seed: int) -> SequenceClassifier:
    """Return the model of the options, not yet trained."""
    return SequenceClassifier(
        parts.train.input_size,
        parts.train.classes,
        options.hidden_size,
        options.num_layers,
        bidirectional=options.bidirectional,
        per_step=options.per_step,
        pooling=options.pooling,
        dropout=options.dropout,
        noise=options.noise,
        scale=not options.no_scale,
        seed=seed,
    )


def _train(model: SequenceClassifier, parts: Parts, seed: int, training_run: TrainingRun) -> tuple[History, float]:
    """Train a model; return its history, and the seconds of training."""
    options, train = training_run.options, parts.train
    if options.per_step:
        train = train.windows(options.window or WINDOW)
    weights = None if options.class_weights is None else class_weights(train.labels, _weights(options, parts))
    data = ArrayData(train.x, model.encode_targets(train.labels), sample_weights=weights)
    arguments: dict[str, Any] = {"updates": options.updates, "batch_size": options.batch_size}
    if options.learning_rate is not None:
        arguments["optimizer"] = Adam(options.learning_rate)
    if parts.validation is not None:
        arguments |= {"validation": (parts.validation.x, parts.validation.labels), "keep": "best"}
    start = time.perf_counter()
    number = 1 + seed - options.seed
    arguments |= {"number": number, "writes_history": number == 1}
    history = training_run.train(fit, model, data, **arguments, progress=True, seed=seed)
    return history, time.perf_counter() - start


def _weights(options: argparse.Namespace, parts: Parts) -> Any:
    """Return the class weights of the command line, by label."""
    text, classes = options.class_weights, parts.train.classes
    if text is None or text == "balanced":
        return text
    names, weights = class_names(classes), dict[str, float]()
    for entry in text.split(","):
        label, separator, number = entry.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            separator = ""
        if not separator:
            raise ValueError(f"--class-weights must be balanced or LABEL=W,LABEL=W,..., got {text!r}")
        if label not in names:
            raise ValueError(f"--class-weights must be of the classes {', '.join(map(str, classes))}, got {label!r}")
        if names[label] in weights:
            raise ValueError(f"--class-weights must have each label once, got {label!r} twice")
        weights[names[label]] = weight
    missing = [str(label) for label in classes if str(label) not in weights]
    if missing:
        raise ValueError(f"--class-weights must have a weight for every class, got none for {', '.join(missing)}")
    return {label: weights[str(label)] for label in classes}


def _other_seeds(parts: Parts, training_run: TrainingRun) -> dict[int, float]:
    """Train the models of the other seeds; return their accuracies."""
    options, accuracies = training_run.options, {}
    for seed in range(options.seed + 1, options.seed + options.seeds):
        if training_run.has_ended():
            break
        model = _model(options, parts, seed)
        _, seconds = _train(model, parts, seed, training_run)
        if not training_run.has_ended():
            accuracies[seed] = evaluate(model, parts.train, parts.test).accuracy
            print(f"Seed {seed}: {accuracies[seed]:.1%}, {seconds:.1f} s", flush=True)
    return accuracies


# Files


def _write_results(results: Results, seeds: dict[int, float], history: History, training_run: TrainingRun) -> None:
    """Write scores and picture."""
    contents: dict[str, Callable[[], bytes]] = {SCORES_FILE: lambda: to_json(scores_of(results, seeds))}
    if is_installed("matplotlib"):
        contents[PICTURE_FILE] = lambda: picture(lambda: draw(results, history, "Test part"), ".png", dpi=120)
    else:
        print("No picture: Matplotlib is not installed (pip install 'glasscell[plot]').")
    training_run.write_results(contents)


def _show_use(options: argparse.Namespace, folder: Path) -> None:
    """Print how the model is used."""
    words = [str(folder), str(options.test or options.train), *_reading_words(options)]
    print(f"Use it: {program_name()} predict {shlex.join(words)}")


def _reading_words(options: argparse.Namespace) -> list[str]:
    """Return the options with which the files were read, as words of a command line."""
    words = []
    for name in ("label", *TABLE_OPTIONS):
        value = getattr(options, name)
        if isinstance(value, bool):
            words += [option_of(name)] if value else ["--no-header"] * (name == "header")
        elif value not in (None, [], "."):
            for entry in value if isinstance(value, list) else [value]:
                words += [option_of(name), str(entry)]
    return words
