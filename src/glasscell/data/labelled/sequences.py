"""Sequences with labels: the result of every reader of the user's files."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasscell.data.csv_tables import parse_number
from glasscell.data.labelled.labels import Label, classes_of, label_key
from glasscell.validation import as_generator, positive_integer


@dataclass(frozen=True)
class LabelledSequences:
    """Sequences of features, with one label for each, one for each step, or none.

    Attributes
    ----------
    x : list of N arrays (T_n, I) of float64
    labels : list of N labels, or of N lists of T_n labels; None for a file without labels
    feature_names : list of I str
    names : list of N str
        Identifiers of the sequences in the file.
    source : str
        The file and how it was read: delimiter, header, columns. Readers detect nothing that is not stated here.
    declared_classes : list of labels, optional
        The classes in the order in which a file declares them.
    decimal : {".", ","}
        The decimal separator of labels that are numbers as text.
    """

    x: list[NDArray[np.float64]]
    labels: list[Any] | None
    feature_names: list[str]
    names: list[str]
    source: str
    declared_classes: list[Label] | None = None
    decimal: str = "."

    def __len__(self) -> int:
        return len(self.x)

    @property
    def input_size(self) -> int:
        """I, the number of features per step."""
        return len(self.feature_names)

    @property
    def per_step(self) -> bool:
        """Whether there is one label for each step."""
        labels = self.labels or []
        return bool(labels) and isinstance(labels[0], list)

    @property
    def classes(self) -> list[Label]:
        """The different labels: in the file's order if it declares them, otherwise sorted."""
        return list(self.declared_classes) if self.declared_classes is not None else classes_of(self._with_labels())

    @property
    def targets(self) -> Any:
        """The labels as numbers, for a regressor: an array (N, 1), or a list of arrays (T_n, 1).

        Raises
        ------
        ValueError
            If a label is not a finite number.
        """
        labels = self._with_labels()
        if self.per_step:
            return [self._numbers(entry, name) for entry, name in zip(labels, self.names, strict=True)]
        return np.concatenate([self._numbers([label], name) for label, name in zip(labels, self.names, strict=True)])

    def _with_labels(self) -> list[Any]:
        if self.labels is None:
            raise ValueError(f"{self.source}: the sequences must have labels, got none")
        return self.labels

    def _numbers(self, labels: Sequence[Any], name: str) -> NDArray[np.float64]:
        numbers = [parse_number(entry, self.decimal) if isinstance(entry, str) else entry for entry in labels]
        try:
            array = np.array(numbers, np.float64)
        except (TypeError, ValueError):
            array = np.full(1, np.nan)
        if not np.isfinite(array).all():
            raise ValueError(f"{self.source}: targets must be finite numbers, got {list(labels)!r:.60} for {name}")
        return array[:, None]

    def subset(self, rows: Sequence[int] | NDArray[np.integer[Any]]) -> LabelledSequences:
        """Return some of the sequences, in this order."""
        labels = None if self.labels is None else [self.labels[k] for k in rows]
        return replace(self, x=[self.x[k] for k in rows], labels=labels, names=[self.names[k] for k in rows])

    def windows(self, steps: int) -> LabelledSequences:
        """Return the sequences cut into windows of this many steps; the last of each may be shorter.

        Raises
        ------
        ValueError
            If there is one label per sequence: a window may not be an example of it; or `steps` is not above 0.
        """
        positive_integer("steps", steps)
        if self.labels is not None and not self.per_step:
            raise ValueError("windows must be of sequences with one label per step, got one per sequence")
        x, labels, names = list[NDArray[np.float64]](), list[Any](), list[str]()
        for n, sequence in enumerate(self.x):
            for start in range(0, len(sequence), steps):
                x.append(sequence[start : start + steps])
                labels += [] if self.labels is None else [self.labels[n][start : start + steps]]
                names.append(f"{self.names[n]} from step {start}")
        return replace(self, x=x, labels=None if self.labels is None else labels, names=names)

    def split(self, fraction: float, seed: int = 0) -> tuple[LabelledSequences, LabelledSequences]:
        """Return two parts, of which the second has this fraction of the sequences of every class.

        Sequences are drawn at random from the seed. Each part of a class has at least one sequence, unless there is
        only one, which is then in the first part. With labels per step, or none, the classes are not considered.

        Raises
        ------
        ValueError
            If the fraction is not between 0 and 1, the seed is negative, or a part would be empty.
        """
        if not 0 < fraction < 1:
            raise ValueError(f"fraction must be between 0 and 1, got {fraction!r}")
        rng, groups = as_generator(seed), dict[Any, list[int]]()
        for k in range(len(self.x)):
            label = None if self.labels is None or self.per_step else self.labels[k]
            groups.setdefault(label_key(label), []).append(k)
        second = set[int]()
        for rows in groups.values():
            count = min(max(round(len(rows) * fraction), 1), len(rows) - 1)
            second.update(rng.permutation(rows)[:count].tolist())
        if not second:
            raise ValueError(f"a split must leave sequences in both parts, got {len(self.x)} to split")
        first = [k for k in range(len(self.x)) if k not in second]
        return self.subset(first), self.subset(sorted(second))

    def counts(self) -> dict[Label, int]:
        """Return the number of sequences, or of steps, of each class."""
        labels = self._with_labels()
        flat = [label for entry in labels for label in entry] if self.per_step else labels
        counted = Counter(map(label_key, flat))
        return {label: counted[label_key(label)] for label in self.classes}

    def __str__(self) -> str:
        lengths = [len(sequence) for sequence in self.x]
        shortest, longest = min(lengths, default=0), max(lengths, default=0)
        steps = f"{longest:,}" if shortest == longest else f"{shortest:,} to {longest:,}"
        sequences = f"{len(self):,} sequence{'s' * (len(self) != 1)}"
        return f"{self.source}: {sequences} of {steps} steps, {self.input_size:,} feature{'s' * (self.input_size != 1)}"
