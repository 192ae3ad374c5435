"""Division of an evaluation among ranks: by batches, or by sequences where batches continue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from glasscell.data.batch import Batch
from glasscell.data.metrics import METRICS
from glasscell.data.text.text_data import TextPart
from glasscell.training.evaluation import Measurement
from glasscell.training.parallel import shares
from glasscell.training.parallel.errors import RankError

TOLERANCE = 1e-3  # relative, of the losses of ranks on processors of different kinds, in float32


def is_divided(training: Any) -> bool:
    """Return whether the ranks divide the validation batches; otherwise each evaluates all of them.

    Batches of a list that do not continue are divided. Batches that continue are divided by sequences, if every
    metric is one of the library: a function of the user may compute something else from a part of a batch.
    """
    batches = training.validation
    if isinstance(batches, TextPart):
        return _only_library_metrics(training) and len(batches.starts) >= training.num_ranks
    if not isinstance(batches, list) or len(batches) < 2:
        return False
    if not _continue(batches):
        return True
    sizes = {len(batch.inputs) for batch in batches}
    return _only_library_metrics(training) and len(sizes) == 1 and min(sizes) >= training.num_ranks


def share_of_batches(training: Any) -> Iterator[Batch]:
    """Yield the batches, or parts of batches, that this rank evaluates."""
    batches, rank, size = training.validation, training.ranks.rank, training.num_ranks
    if isinstance(batches, TextPart):
        rows = shares.in_order(len(batches.starts), size, rank)
        yield from batches.windows(0, batches.length, rows)
    elif _continue(batches):
        for batch in batches:
            yield shares.take_rows(batch, shares.in_order(len(batch.inputs), size, rank))
    else:
        yield from batches[rank::size]


def in_order_of_batches(parts: list[list[Measurement]]) -> Iterator[Measurement]:
    """Yield the measurements of all ranks: of each batch in turn, that of rank 0 first."""
    for number in range(max(map(len, parts))):
        yield from (part[number] for part in parts if number < len(part))


def common_scores(scores: list[dict[str, float]]) -> dict[str, float]:
    """Return the scores of rank 0, after each rank has evaluated the same batches.

    Last bits may differ between processors, and metrics of the user for any reason: so that all ranks decide the same,
    those of rank 0 count.

    Raises
    ------
    RankError
        If the losses differ by more than rounding, on all ranks.
    """
    losses = [values["loss"] for values in scores if "loss" in values]
    if len(losses) not in (0, len(scores)) or not np.allclose(losses, losses[:1], rtol=TOLERANCE, equal_nan=True):
        listed = ", ".join(f"{values.get('loss', 'none')}" for values in scores)
        raise RankError(f"ranks must have the same validation batches, got validation losses {listed}")
    return scores[0]


def _continue(batches: list[Batch]) -> bool:
    return any(batch.continues for batch in batches)


def _only_library_metrics(training: Any) -> bool:
    return all(metric in METRICS.values() for metric in training.metrics.values())
