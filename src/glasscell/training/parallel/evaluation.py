"""Division of an evaluation among ranks: by batches, or by sequences where batches continue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from glasscell.data.batch import Batch
from glasscell.data.metrics import METRICS
from glasscell.data.text.text_data import TextPart
from glasscell.training.evaluation import Measurement
from glasscell.training.parallel import shares


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


def _continue(batches: list[Batch]) -> bool:
    return any(batch.continues for batch in batches)


def _only_library_metrics(training: Any) -> bool:
    return all(metric in METRICS.values() for metric in training.metrics.values())
