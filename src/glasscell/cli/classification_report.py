"""Results of ``glasscell classify``: text, and a picture of the confusion matrix."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasscell.data.labelled.classification import ClassScore, class_scores, confusion_matrix
from glasscell.data.labelled.labels import Label
from glasscell.escaping import escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from glasscell.data.labelled.sequences import LabelledSequences
    from glasscell.models.sequence_classifier import SequenceClassifier
    from glasscell.training.history import History

WIDEST_LABEL = 16  # characters of a label in tables
MAX_COUNTED = 30  # classes whose counts are written into the cells of the picture


class Results(NamedTuple):
    """Scores of a classifier on the test part."""

    classes: list[Label]
    matrix: NDArray[np.int64]
    scores: list[ClassScore]
    baseline: float  # accuracy of the most frequent label of the training part

    @property
    def accuracy(self) -> float:
        """Share of right predictions."""
        return float(np.trace(self.matrix) / self.matrix.sum())


def evaluate(model: SequenceClassifier, train: LabelledSequences, test: LabelledSequences) -> Results:
    """Return the scores of a model."""
    matrix = confusion_matrix(test.labels, model.classify(test.x), model.classes)
    counts = train.counts()
    frequent = max(counts, key=lambda label: counts[label])
    support = matrix.sum(axis=1)
    baseline = float(support[model.classes.index(frequent)] / support.sum())
    return Results(model.classes, matrix, class_scores(matrix, model.classes), baseline)


def format_results(results: Results, unit: str) -> list[str]:
    """Format accuracy, confusion matrix, and the scores of each class."""
    right, count = int(np.trace(results.matrix)), int(results.matrix.sum())
    lines = [f"Test accuracy: {results.accuracy:.1%} ({right:,} of {count:,} {unit})"]
    lines += [f"The most frequent label of the training part alone: {results.baseline:.1%}", ""]
    return [*lines, *_matrix(results), "", *_scores(results)]


def _matrix(results: Results) -> list[str]:
    labels = [_short(label) for label in results.classes]
    width = max(len("label"), *map(len, labels))
    columns = [
        max(len(label), len(f"{int(column.max()):,}")) for label, column in zip(labels, results.matrix.T, strict=True)
    ]
    header = "  ".join(f"{label:>{size}}" for label, size in zip(labels, columns, strict=True))
    lines = [f"{'':>{width}}  predicted", f"{'label':>{width}}  {header}"]
    for label, row in zip(labels, results.matrix.tolist(), strict=True):
        cells = "  ".join(f"{value or '·':>{size}}" for value, size in zip(row, columns, strict=True))
        lines.append(f"{label:>{width}}  {cells}")
    return lines


def _scores(results: Results) -> list[str]:
    labels = [_short(score.label) for score in results.scores]
    width = max(len("label"), *map(len, labels))
    lines = [f"{'label':>{width}}  precision  recall      F1   count"]
    for label, score in zip(labels, results.scores, strict=True):
        numbers = (_number(score.precision, 9), _number(score.recall, 6), _number(score.f1, 6))
        lines.append(f"{label:>{width}}  {'  '.join(numbers)}  {score.support:>6,}")
    return lines


def _number(value: float, width: int) -> str:
    return f"{'-' if math.isnan(value) else f'{value:.3f}':>{width}}"


def _short(label: Label) -> str:
    text = escape(label)
    return text if len(text) <= WIDEST_LABEL else f"{text[: WIDEST_LABEL - 1]}…"


def scores_of(results: Results, seeds: dict[int, float]) -> dict[str, Any]:
    """Return the scores as JSON; None where nothing was counted."""
    classes = [
        {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in score._asdict().items()
        }
        for score in results.scores
    ]
    return {
        "accuracy": results.accuracy,
        "most_frequent_label": results.baseline,
        "confusion_matrix": results.matrix.tolist(),
        "classes": classes,
        "accuracy_of_seeds": {str(seed): value for seed, value in seeds.items()},
    }


def draw(results: Results, history: History, title: str) -> Figure:
    """Return a picture: the confusion matrix, and the loss of training."""
    from glasscell.trace.figures.style import BLUE, INK, MUTED, new_figure  # noqa: PLC0415 - Matplotlib is optional

    K = len(results.classes)
    side = min(max(3.2, 0.45 * K + 1.6), 9.0)
    figure = new_figure(side + 4.4, side)
    left, right = figure.subplots(1, 2, width_ratios=[side, 4.0])
    shares = results.matrix / np.maximum(results.matrix.sum(axis=1, keepdims=True), 1)
    left.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    labels = [_short(label) for label in results.classes]
    rotation = 0 if max(map(len, labels)) <= 3 else 90
    left.set_xticks(range(K), labels, rotation=rotation)
    left.set_yticks(range(K), labels)
    left.set_xlabel("predicted", color=INK)
    left.set_ylabel("label", color=INK)
    left.set_title(f"{title}: {results.accuracy:.1%} right", color=INK, fontsize=11)
    if K <= MAX_COUNTED:
        for (row, column), count in np.ndenumerate(results.matrix):
            color = "white" if shares[row, column] > 0.5 else INK
            if count:
                left.text(
                    column, row, f"{count:,}", ha="center", va="center", color=color, fontsize=9 if K <= 12 else 6
                )
    updates = range(1, history.updates + 1)
    right.plot(updates, history["loss"], color=MUTED, linewidth=0.6, alpha=0.6)
    right.plot(updates, _smooth(history["loss"]), color=BLUE, linewidth=1.6)
    right.set_yscale("log")
    right.set_xlabel("update", color=INK)
    right.set_title("loss of training, nats", color=INK, fontsize=11)
    for axes in (left, right):
        axes.tick_params(colors=MUTED, labelcolor=INK)
        for spine in axes.spines.values():
            spine.set_visible(False)
    right.grid(visible=True, color="#e4e7eb", linewidth=0.6)
    return figure


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return moving averages over a twentieth of the updates."""
    width = max(1, len(values) // 20)
    sums = np.convolve(values, np.ones(width), "same")
    result: NDArray[np.float64] = sums / np.convolve(np.ones(len(values)), np.ones(width), "same")
    return result
