"""One long sequence, divided into parallel segments that continue from batch to batch."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from glasscell.data.arrays import to_dtype
from glasscell.data.batch import Batch
from glasscell.data.entries import as_entries
from glasscell.validation import positive_integer

AXES = ("step", "feature")  # of the one sequence


class ContinuousData:
    """One long sequence with a target at every step, such as a text for a language model.

    The sequence is divided into B segments of equal length. A batch has the next `steps` steps of each segment, and the
    model's state is carried over to the next batch. Remaining steps at the end of the sequence are not used.

    Parameters
    ----------
    x : array (T, I), or ids (T,)
    y : array (T, O), or class numbers (T,), optional
        Default: the ids one step later.
    steps : int
        Number of steps of a batch.
    validation : (x, y), or ids, or ContinuousData, optional
    """

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        *,
        steps: int = 50,
        validation: ContinuousData | tuple[ArrayLike, ArrayLike] | ArrayLike | None = None,
    ) -> None:
        sequence = np.asarray(as_entries("x", np.asarray(x), AXES))
        if y is None:
            if sequence.ndim != 1 or sequence.dtype.kind not in "iu":
                raise ValueError(
                    f"y must be passed unless x are ids (T,), got x of shape {sequence.shape} and {sequence.dtype}"
                )
            self.x, self.y = sequence[:-1], sequence[1:]
        else:
            self.x, self.y = sequence, np.asarray(as_entries("y", np.asarray(y), AXES))
        if len(self.x) != len(self.y):
            raise ValueError(f"y must have one entry for each of the {len(self.x)} steps of x, got {len(self.y)}")
        if len(self.x) < 1:
            raise ValueError(f"x must have at least one step with a target, got {len(sequence)} steps")
        self.steps = positive_integer("steps", steps)
        if validation is None or isinstance(validation, ContinuousData):
            self._validation = validation
        else:
            pair = validation if isinstance(validation, tuple) else (validation, None)
            self._validation = ContinuousData(pair[0], pair[1], steps=steps)

    def batches(self, size: int, rng: np.random.Generator, dtype: DTypeLike) -> Iterator[Batch]:
        """Yield one pass over the sequence; `rng` chooses where it begins, so that epochs differ."""
        spare = min(self.steps, len(self.x) // size) - 1
        yield from self.windows(size, int(rng.integers(spare + 1)) if spare > 0 else 0, dtype)

    def validation(self, size: int, dtype: DTypeLike) -> list[Batch] | None:
        """Return one pass over the validation sequence; None if there is none."""
        if self._validation is None:
            return None
        return list(self._validation.windows(min(size, len(self._validation.x)), 0, dtype))

    def windows(self, size: int, first: int, dtype: DTypeLike) -> Iterator[Batch]:
        """Yield one pass over the sequence from step `first` on, in `size` segments."""
        length = (len(self.x) - first) // size
        if not length:
            raise ValueError(f"x must have at least one step for each of {size} segments, got {len(self.x)} steps")
        segments = [to_dtype(a[first : first + length * size], dtype) for a in (self.x, self.y)]
        x, y = (values.reshape(size, length, *values.shape[1:]) for values in segments)
        for start in range(0, length, self.steps):
            steps = slice(start, start + self.steps)
            yield Batch(x[:, steps], y[:, steps], continues=start > 0)
