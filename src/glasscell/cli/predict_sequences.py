"""Tables of the outputs of models on sequences: labels and probabilities, estimates, or any outputs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from glasscell.cli.prediction_table import PredictionTable
from glasscell.cli.run_settings import SETTINGS_FILE, check_features, complete_options, settings_of
from glasscell.cli.sequence_options import check_labels, check_range, class_names, read_sequences_of
from glasscell.data.labelled.reading import file_kind
from glasscell.data.labelled.sequences import LabelledSequences
from glasscell.data.predictions import largest_output
from glasscell.layers import LSTM
from glasscell.layers.kinds import input_size
from glasscell.models import Sequential


def prediction_table(model: Any, path: Path, options: argparse.Namespace) -> PredictionTable:
    """Return the outputs of a model on the sequences of a file."""
    kind = type(model).__name__
    if kind == "SequenceClassifier":
        return _classes(model, path, options)
    if kind == "SequenceRegressor":
        return _estimates(model, path, options)
    if options.label is not None:
        raise ValueError(
            f"--label must be left out for a {kind}, whose outputs have no labels, got {options.label!r}: "
            "--ignore-column leaves a column out"
        )
    return _outputs(Sequential([deepcopy(model)], seed=None) if isinstance(model, LSTM) else model, path, options)


def _classes(model: Any, path: Path, options: argparse.Namespace) -> PredictionTable:
    """Return label and probabilities of each sequence or step; with labels in the file, also those."""
    names, known = list(map(str, model.classes)), class_names(model.classes)
    settings, completed = settings_of(options.model), []
    if file_kind(path) == "csv":
        completed = complete_options(options, settings, path)
    data = _read(path, options, model, model.input_size, per_step=model.per_step)
    check_features(settings, data)
    labels = _labels_per(data, per_step=model.per_step)
    if labels is not None:
        check_labels(path, options, data, known)
    rows, correct = [], 0
    for k, (place, probabilities) in enumerate(_places(data, model.predict_proba(data.x), per_step=model.per_step)):
        predicted = names[int(largest_output(probabilities))]
        label = [] if labels is None else [known[str(labels[k])]]
        correct += label == [predicted]
        rows.append([*place, *label, predicted, *probabilities])
    header = [*_place_names(per_step=model.per_step), *([] if labels is None else ["label"]), "prediction"]
    taken = [f"{', '.join(completed)} as in {options.model / SETTINGS_FILE}"] if completed else []
    score = [f"Accuracy: {correct} of {len(rows)} ({correct / len(rows):.1%})"] if labels is not None else []
    return PredictionTable([*header, *(f"probability of {name}" for name in names)], rows, [str(data), *taken, *score])


def _estimates(model: Any, path: Path, options: argparse.Namespace) -> PredictionTable:
    """Return the estimates for each sequence or step; with targets in the file, also those."""
    data = _read(path, options, model, model.input_size, per_step=model.per_step)
    targets = None if _labels_per(data, per_step=model.per_step) is None else data.targets
    if targets is not None and model.output_size != 1:
        raise ValueError(
            f"--label must be left out for a model with {model.output_size} outputs, got {options.label!r}"
        )
    flat = None if targets is None else np.concatenate(targets) if model.per_step else targets
    rows, errors = [], []
    for k, (place, estimates) in enumerate(_places(data, model.predict(data.x), per_step=model.per_step)):
        target = [] if flat is None else [flat[k, 0]]
        errors += [estimates[0] - value for value in target]
        rows.append([*place, *target, *estimates])
    names = ["prediction"] if model.output_size == 1 else [f"prediction {k + 1}" for k in range(model.output_size)]
    header = [*_place_names(per_step=model.per_step), *([] if flat is None else ["target"]), *names]
    error = np.array(errors, np.float64)
    absolute, squared = np.abs(error), np.square(error)
    score = (
        [f"Mean absolute error: {absolute.mean():.6g}; root mean squared error: {np.sqrt(squared.mean()):.6g}"]
        if errors
        else []
    )
    return PredictionTable(header, rows, [str(data), *score])


def _outputs(model: Sequential, path: Path, options: argparse.Namespace) -> PredictionTable:
    """Return the outputs of a model of layers, one row per sequence or per step."""
    first = model.layers[0]
    features = input_size(model.layers) if first.inputs == "features" else 1
    data = _read(path, options, model, features)
    if data.labels is not None:
        data = LabelledSequences(data.x, None, data.feature_names, data.names, data.source)
    x: list[Any] = data.x
    if first.inputs != "features":
        x = [sequence[:, 0] for sequence in x]
    if first.inputs == "ids":
        x = [_ids(sequence, f"{path}, {name}") for sequence, name in zip(x, data.names, strict=True)]
    outputs = model.predict(x)
    numbers = model.layers[-1].outputs == "numbers"
    entries = [np.asarray(entry)[..., None] if numbers else np.asarray(entry) for entry in outputs]
    per_step = entries[0].ndim == 2
    O = entries[0].shape[-1]
    names = ["output"] if O == 1 else [f"output {k + 1}" for k in range(O)]
    rows = [[*place, *values] for place, values in _places(data, entries, per_step=per_step)]
    return PredictionTable([*_place_names(per_step=per_step), *names], rows, [str(data)])


def _read(
    path: Path, options: argparse.Namespace, model: Any, features: int | None, *, per_step: bool = False
) -> LabelledSequences:
    """Read the sequences of a file, whose values must not be too large for the model."""
    data = read_sequences_of(path, options, features, per_step=per_step)
    check_range(data, model.dtype)
    return data


def _place_names(*, per_step: bool) -> list[str]:
    return ["sequence", "step"] if per_step else ["sequence"]


def _places(data: LabelledSequences, outputs: Sequence[Any], *, per_step: bool) -> Iterator[tuple[list[Any], Any]]:
    """Yield name of the sequence, number of the step and output, for each output."""
    for name, entry in zip(data.names, outputs, strict=True):
        if per_step:
            yield from (([name, step], values) for step, values in enumerate(entry))
        else:
            yield [name], entry


def _labels_per(data: LabelledSequences, *, per_step: bool) -> list[Any] | None:
    """Return the labels in one list; None if the file has none."""
    if data.labels is None:
        return None
    if data.per_step != per_step:
        wanted, got = ("step", "sequence") if per_step else ("sequence", "step")
        raise ValueError(f"{data.source}: must have one label per {wanted}, as the model, got one per {got}")
    return [label for entry in data.labels for label in entry] if per_step else data.labels


def _ids(sequence: Any, place: str) -> Any:
    """Return class numbers as integers."""
    wrong = sequence[(sequence != np.trunc(sequence)) | (sequence < 0)]
    if len(wrong):
        raise ValueError(f"{place}: must have class numbers, integers from 0, got {wrong[0]:g}")
    return sequence.astype(np.int64)
