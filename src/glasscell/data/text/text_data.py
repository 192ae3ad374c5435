"""Texts as training data: parallel streams of a text, and its division into training, validation and test parts."""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Iterator, Sequence
from math import floor
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from glasscell.data.batch import Batch
from glasscell.data.text.id_storage import StoredIds
from glasscell.data.text.vocabulary import Unit, Vocabulary
from glasscell.validation import choice, integer, non_negative_number, positive_integer

if TYPE_CHECKING:
    from glasscell.data.text.files import StrPath

Split: TypeAlias = Literal["streams", "tail"]
SPLITS: tuple[Split, ...] = ("streams", "tail")
NAMES = ("training", "validation", "test")
BLOCK = 1 << 18  # ids read at a time


class TextPart:
    """A part of a text as batches of windows, one row for each stream. The state is carried from batch to batch.

    Iterating yields all of it, always in the same way.

    Attributes
    ----------
    starts : tuple of int
        Position of the first symbol of each stream.
    length : int
        Symbols of each stream that have a target, which is the next symbol.
    steps : int
        T, symbols of a window.
    """

    def __init__(self, ids: StoredIds, starts: Sequence[int], length: int, steps: int) -> None:
        self._ids, self.starts, self.length, self.steps = ids, tuple(starts), length, steps

    def __iter__(self) -> Iterator[Batch]:
        return self.windows(0, self.length)

    def __len__(self) -> int:
        return (self.length + self.steps - 1) // self.steps

    def windows(self, first: int, length: int, rows: slice = slice(None)) -> Iterator[Batch]:
        """Yield the windows of `length` symbols of each stream, or of some streams, from symbol `first` on."""
        T, starts = self.steps, self.starts[rows]
        windows_at_once = max(1, BLOCK // (T * len(starts)))
        for begin in range(0, length, windows_at_once * T):
            size = min(windows_at_once * T, length - begin)
            block = self._ids.rows([start + first + begin for start in starts], size + 1).astype(np.intp)
            for start in range(0, size, T):
                stop = min(start + T, size)
                x, y = block[:, start:stop], block[:, start + 1 : stop + 1]
                yield Batch(x, y, continues=begin + start > 0)


class TextData:
    """A text for a language model: parallel streams that continue from batch to batch.

    Parameters
    ----------
    text : str, or bytes for a vocabulary of bytes; or StoredIds, with a Vocabulary
        In memory; :meth:`from_files` reads files of any size.
    vocabulary : Vocabulary, or {"characters", "bytes", "words"}
        Default: that of the characters of the text, validation and test parts included.
    vocabulary_size : int, optional
        Largest size of a vocabulary that is made here, see :meth:`Vocabulary.from_counts`. Default: no limit.
    steps : int
        T, symbols of a window. Gradients end at its beginning; the state is carried over from the window before.
    streams : int
        B, rows of a batch: each reads another part of the text.
    split : {"streams", "tail"}
        What is held out: with "streams", as in Karpathy's char-rnn, the end of each of B equally long streams, in whole
        windows; with "tail" the end of the text, which is then cut into B streams itself.
    validation, test : float
        Fraction of the text that each part has, at least 0 and together below 1. The test part is the last one.

    Attributes
    ----------
    vocabulary : Vocabulary
    batch_size : int
        B.
    parts : dict of str to TextPart
        "training" and, unless its fraction is 0, "validation" and "test".
    description : str
        The split, exactly.

    Notes
    -----
    An epoch begins at a random position of the first window, so that windows differ from epoch to epoch, and has one
    window less than would fit.

    Raises
    ------
    ValueError
        If the text is too short for the streams, windows and parts.

    Examples
    --------
    >>> data = TextData("the cat sat on the mat. " * 40, steps=8, streams=4)
    >>> data.parts["training"].length, data.parts["validation"].length  # of each of 4 streams
    (216, 16)
    """

    loss: ClassVar = "categorical_cross_entropy"

    def __init__(
        self,
        text: str | bytes | StoredIds,
        vocabulary: Vocabulary | Unit = "characters",
        *,
        vocabulary_size: int | None = None,
        steps: int = 50,
        streams: int = 50,
        split: Split = "streams",
        validation: float = 0.05,
        test: float = 0.0,
    ) -> None:
        if not isinstance(text, str | bytes | StoredIds):
            raise TypeError(f"text must be a str or bytes, got a {type(text).__name__}; from_files reads files")
        if not text:
            raise ValueError("text must have at least one character, got none")
        if not isinstance(vocabulary, Vocabulary):
            readable: Any = "" if vocabulary == "bytes" else text
            vocabulary = Vocabulary.from_text(readable, vocabulary, vocabulary_size)
        elif vocabulary_size is not None:
            raise ValueError("vocabulary_size must be None for a vocabulary that is passed")
        self.vocabulary = vocabulary
        if isinstance(text, StoredIds):
            self._ids = text
        else:
            self._ids = StoredIds(vocabulary.encode(text).astype(vocabulary.id_dtype))
        self.steps, self.batch_size = positive_integer("steps", steps), positive_integer("streams", streams)
        choice("split", split, SPLITS)
        self.split = split
        fractions = non_negative_number("validation", validation), non_negative_number("test", test)
        if sum(fractions) >= 1:
            raise ValueError(f"validation and test must be below 1 together, got {validation} and {test}")
        make = self._split_streams if split == "streams" else self._split_tail
        self.parts, self.description = make(*fractions)

    @classmethod
    def from_files(
        cls,
        files: StrPath | Sequence[StrPath],
        vocabulary: Vocabulary | Unit = "characters",
        *,
        vocabulary_size: int | None = None,
        normalize: bool = True,
        folder: StrPath | None = None,
        steps: int = 50,
        streams: int = 50,
        split: Split = "streams",
        validation: float = 0.05,
        test: float = 0.0,
        comm: Any = None,
    ) -> Self:
        """Return the data of files, joined in this order. A text of more than 32 MB is never in memory as a whole.

        Parameters
        ----------
        files : path, or sequence of paths
            UTF-8, or for bytes of any content; read twice, in pieces.
        normalize : bool
            Remove a byte order mark at the beginning of a file, and read CR LF and CR as line feeds. Bytes are never
            changed.
        folder : path, optional
            Folder of a temporary file for the ids of a large text, which needs one byte for each symbol of up to 256
            different ones, two for each of up to 65,536. Default: the system's.
        vocabulary, vocabulary_size, steps, streams, split, validation, test
            As in the constructor.
        comm : communicator of mpi4py, optional
            All of its processes make this call, with the same arguments. One on each machine reads the files and writes
            the ids, however few, to a temporary file, and the others map that file. Default: this process alone.

        Raises
        ------
        FileNotFoundError, OSError, ValueError
            If a file does not exist, is empty or is not UTF-8 (names the offset), or the text is too short.
        """
        from glasscell.data.text.files import TextFiles  # noqa: PLC0415 - only where it is used

        if isinstance(vocabulary, Vocabulary) and vocabulary_size is not None:
            raise ValueError("vocabulary_size must be None for a vocabulary that is passed")
        options: dict[str, Any] = {"steps": steps, "streams": streams, "split": split}
        options |= {"validation": validation, "test": test}
        if comm is not None and comm.Get_size() > 1:
            from glasscell.data.text.shared_ids import shared_text  # noqa: PLC0415

            shared = shared_text(files, vocabulary, vocabulary_size, normalize=normalize, folder=folder, comm=comm)
            return cls(*shared, **options)
        unit = vocabulary.unit if isinstance(vocabulary, Vocabulary) else vocabulary
        source = TextFiles(files, unit, normalize=normalize)
        if not isinstance(vocabulary, Vocabulary):
            vocabulary = source.vocabulary(vocabulary_size)
        return cls(source.encode(vocabulary, folder), vocabulary, **options)

    def __len__(self) -> int:
        return len(self._ids)

    def checksum(self) -> int:
        """Return the CRC-32 of the ids of the text."""
        return self._ids.checksum()

    @property
    def num_batches(self) -> int:
        """Number of batches of an epoch."""
        return max(1, self.parts["training"].length // self.steps - 1)

    def batches(self, size: int, rng: np.random.Generator, dtype: DTypeLike) -> Iterator[Batch]:
        """Yield one epoch; `rng` chooses where its windows begin."""
        return self.batches_of_rows(slice(None), size, rng, dtype)

    def batches_of_rows(self, rows: slice, size: int, rng: np.random.Generator, dtype: DTypeLike) -> Iterator[Batch]:
        """Yield one epoch of some streams, of which alone the text is read."""
        del dtype
        self._check_size(size)
        training, length = self.parts["training"], self.num_batches * self.steps
        first = int(rng.integers(training.length - length + 1))
        return training.windows(first, length, rows)

    def validation(self, size: int, dtype: DTypeLike) -> TextPart | None:
        """Return the validation batches; None if there is no validation part."""
        del dtype
        self._check_size(size)
        return self.parts.get("validation")

    def _check_size(self, size: int) -> None:
        if integer("batch_size", size) != self.batch_size:
            raise ValueError(f"batch_size must be the number of streams of the text, {self.batch_size}, got {size}")

    def _too_short(self, needed: int, windows: str) -> ValueError:
        unit, B, T = self.vocabulary.unit, self.batch_size, self.steps
        need = f"text must have at least {needed:,} {unit}, {B} streams of {windows} of {T} {unit}"
        return ValueError(f"{need}, got {len(self):,}: lower streams or steps")

    def _split_streams(self, validation: float, test: float) -> tuple[dict[str, TextPart], str]:
        """Hold out the last windows of each stream."""
        B, T, N = self.batch_size, self.steps, len(self)
        windows = max(0, N - 1) // (B * T)
        counts = _window_counts(windows, validation, test)
        if min(counts) < 1:
            least = next(n for n in range(1, 1 << 20) if min(_window_counts(n, validation, test)) >= 1)
            raise self._too_short(least * B * T + 1, f"{least} windows")
        names = [name for name, used in zip(NAMES, (1, validation, test), strict=True) if used]
        length, first, parts = windows * T, 0, {}
        for name, count in zip(names, counts, strict=True):
            parts[name] = TextPart(self._ids, [b * length + first for b in range(B)], count * T, T)
            first += count * T
        unit = self.vocabulary.unit
        shares = [f"the first {parts['training'].length:,} are for training"]
        shares += [f"the next {parts[name].length:,} for {name}" for name in names[1:]]
        return parts, (
            f"{self._size_text()}. Split by streams: {B} streams of {length:,} {unit}; in each, {_listed(shares)}. "
            f"The last {N - B * length:,} are not used as inputs."
        )

    def _split_tail(self, validation: float, test: float) -> tuple[dict[str, TextPart], str]:
        """Hold out the end of the text, and cut each part into streams."""
        B, T, N = self.batch_size, self.steps, len(self)
        sizes = {"test": floor(N * test + 1e-9), "validation": floor(N * validation + 1e-9)}
        sizes = {"training": N - sum(sizes.values())} | {
            name: sizes[name] for name, used in (("validation", validation), ("test", test)) if used
        }
        first, parts, texts, unit = 0, dict[str, TextPart](), list[str](), self.vocabulary.unit
        for name, size in sizes.items():
            length = (size - 1) // B
            if length < (T if name == "training" else 1):
                needed = f"{B * T + 1:,} {unit} for {B} streams of {T}" if name == "training" else f"{B + 1} {unit}"
                rule = f"the {name} part of the text must have at least {needed}"
                raise ValueError(f"{rule}, got {max(0, size):,} of {N:,}: lower streams or steps")
            parts[name] = TextPart(self._ids, [first + b * length for b in range(B)], length, T)
            texts.append(f"{size:,} for {name} ({B} streams of {length:,})")
            first += size
        return parts, f"{self._size_text()}. Split at the end: in this order {_listed(texts)}."

    def _size_text(self) -> str:
        unit = self.vocabulary.unit
        if unit == "bytes":
            return f"{len(self):,} bytes"
        return f"{len(self):,} {unit}, {len(self.vocabulary):,} different"

    def __repr__(self) -> str:
        return f"TextData({self._size_text()}, {self.batch_size} streams, {self.steps} steps, split={self.split!r})"


def _window_counts(windows: int, validation: float, test: float) -> list[int]:
    """Return the windows of each part, as char-rnn rounds them: the last part has the rest."""
    training = floor(windows * (1 - validation - test) + 1e-9)
    if not validation and not test:
        return [windows]
    if not (validation and test):
        return [training, windows - training]
    middle = floor(windows * validation + 1e-9)
    return [training, middle, windows - training - middle]


def _listed(texts: Sequence[str]) -> str:
    """Join texts by commas and "and"."""
    *first, last = texts
    return f"{', '.join(first)}, and {last}" if first else last
