"""Compare the trainings of all ranks before the first update: each must have the same model, data and arguments."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np

from glasscell.core.types import Array
from glasscell.data.arrays import ArrayData
from glasscell.data.batch import Batch
from glasscell.data.iterables import IterableData
from glasscell.data.text.text_data import TextData
from glasscell.training.description import describe, describe_text, shortened, value_differences
from glasscell.training.sources import training_part

NAMES = {  # of the entries of a summary, in messages
    "version": "version of Glasscell",
    "model": "model",
    "weights": "weights",
    "data": "data",
    "validation": "validation",
    "options": "options",
    "limits": "limits",
    "seed": "seed",
}


def summarize(training: Any) -> dict[str, Any]:
    """Return what must be the same on all ranks, as values of JSON."""
    options = training.options
    described = describe(training, _describe_data(training))
    described["options"].pop("seed")
    described["options"] |= {"on_failure": options.on_failure, "divergence_factor": options.divergence_factor}
    described["options"] |= {"compare_ranks_every": options.compare_ranks_every}
    described |= {"weights": checksum(training.model.parameters.vector), "seed": _describe_seed(training)}
    return {name: described[name] for name in NAMES} | {"asks_for": training.asks_for}


def check_same(summaries: list[dict[str, Any]]) -> None:
    """Raise ValueError unless all ranks have the same summary; the message names the first difference."""
    _check_first(summaries)
    for name, label in NAMES.items():
        for rank, summary in enumerate(summaries):
            for path, first, other in value_differences("", {"": summaries[0][name]}, {"": summary[name]}):
                entry = f" ({path.strip('.')})" if path.strip(".") else ""
                raise ValueError(
                    f"ranks must have the same {label}{entry}, got {shortened(first)} on rank 0 "
                    f"and {shortened(other)} on rank {rank}"
                )


def _check_first(summaries: list[dict[str, Any]]) -> None:
    """Raise ValueError for what rank 0 alone uses, and only another rank has."""
    for rank, summary in enumerate(summaries):
        for name, is_passed in summary["asks_for"].items():
            if is_passed and not summaries[0]["asks_for"][name]:
                raise ValueError(f"{name} must be passed on rank 0, which alone uses it, got it on rank {rank} only")


def check_batch_size(training: Any) -> None:
    """Raise ValueError if a rank would never have a sequence."""
    data, num_ranks = training_part(training.data), training.num_ranks
    if isinstance(data, IterableData):
        return  # see `check_first_batch`
    if training.batch_size < num_ranks:
        raise ValueError(f"batch_size must be at least the number of ranks, {num_ranks}, got {training.batch_size}")
    if isinstance(data, ArrayData) and len(data) < num_ranks:
        raise ValueError(f"x must have at least one sequence for each of {num_ranks} ranks, got {len(data)}")


def check_first_batch(training: Any, batch: Batch) -> None:
    """Raise ValueError if the first batch of an iterable has fewer sequences than there are ranks."""
    size, num_ranks = len(batch.inputs), training.num_ranks
    if isinstance(training_part(training.data), IterableData) and size < num_ranks:
        raise ValueError(f"batches must have at least one sequence for each of {num_ranks} ranks, got {size}")


def checksum(array: Array, result: int = 0) -> int:
    """Return the CRC-32 of an array; of what came before and this array."""
    return zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data, result) if array.size else result


def batch_checksum(batch: Batch, result: int = 0) -> int:
    """Return the CRC-32 of the arrays of a batch, in the order of their axes; of batches before and this one."""
    for array in batch[:4]:
        if array is not None:
            values = np.asarray(array)
            result = checksum(values, zlib.crc32(f"{values.shape} {values.dtype}".encode(), result))
    return result


class ComparedBatches:
    """Checksums of the batches of a training, of which each rank has all sequences.

    Batches of an iterable, or of a class of the user, are compared at every update: nothing that decides them was
    compared before. Those of the library follow from its data and the seed.

    Parameters
    ----------
    training : ParallelTraining
    """

    def __init__(self, training: Any) -> None:
        data = training_part(training.data)
        of_library = type(data).__module__.partition(".")[0] == __name__.partition(".")[0]
        self._compares_all = not of_library or isinstance(data, IterableData)
        self._windows, self._reads_rows = training.windows, training.reads_rows
        self._last: Batch | None = None
        self._checksum = 0

    def add(self) -> None:
        """Add the current batch to the checksum of all, unless it was added with a window before."""
        batch = self._windows.batch
        if self._compares_all and batch is not None and batch is not self._last:
            self._last, self._checksum = batch, batch_checksum(batch, self._checksum)

    def checksum(self, *, compares: bool) -> int:
        """Return the checksum of all batches or, if it `compares`, of the current one; 0: there is none."""
        if self._compares_all or self._reads_rows:
            return 0 if self._reads_rows else self._checksum
        batch = self._windows.batch
        return batch_checksum(batch) if compares and batch is not None else 0


def _describe_data(training: Any) -> Mapping[str, Any] | None:
    """Return the description of a text, with its first batch instead of a checksum of all of it; None for others."""
    data = training_part(training.data)
    if not isinstance(data, TextData):
        return None
    first = next(iter(data.batches(training.batch_size, deepcopy(training.rng), training.dtype)))
    return describe_text(data) | {"first_batch": f"{batch_checksum(first):08x}"}


def _describe_seed(training: Any) -> Any:
    seed = training.options.seed
    if isinstance(seed, int | np.integer):
        return int(seed)
    state = training.rng.bit_generator.state
    return f"generator {zlib.crc32(repr(state).encode()):08x}"
