"""Text files read in pieces, counted and converted to ids without loading a file whole."""

from __future__ import annotations

import codecs
import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glasscell.data.text.id_storage import IdWriter, StoredIds
from glasscell.data.text.vocabulary import UNITS, WORD, Unit, UnknownSymbolError, Vocabulary
from glasscell.validation import choice

PIECE = 1 << 18  # bytes read at a time
MAX_WORD = 1 << 16  # characters of a word, which must be in memory
BYTE_ORDER_MARK = "\ufeff"
StrPath: TypeAlias = "str | os.PathLike[str]"


class TextFiles:
    """Files whose contents, one after the other, are a text.

    Parameters
    ----------
    files : path, or sequence of paths
        UTF-8; for bytes of any content.
    unit : {"characters", "bytes", "words"}
    normalize : bool
        Remove a byte order mark at the beginning of each file, and read the line ends CR LF and CR as line feeds.
        Bytes are never changed.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ValueError
        If there is none, one is not a regular file, or one is empty.
    """

    def __init__(
        self, files: StrPath | Sequence[StrPath], unit: Unit = "characters", *, normalize: bool = True
    ) -> None:
        choice("unit", unit, UNITS)
        entries = [files] if isinstance(files, str | os.PathLike) else list(files)
        if not entries:
            raise ValueError("files must be at least one file, got none")
        self.files = [Path(entry) for entry in entries]
        self.unit, self.normalize = unit, normalize
        for file in self.files:
            if not file.exists():
                raise FileNotFoundError(f"there is no file {file}")
            if not file.is_file():
                raise ValueError(f"{file} must be a regular file, got a folder or device")
            if not file.stat().st_size:
                raise ValueError(f"{file} must have at least one character, got an empty file")

    @property
    def num_bytes(self) -> int:
        """Size of all files together."""
        return sum(file.stat().st_size for file in self.files)

    def vocabulary(self, size: int | None = None) -> Vocabulary:
        """Read all files, and return the vocabulary of their text; see :meth:`Vocabulary.from_counts`."""
        counts = {} if self.unit == "bytes" else self._word_counts() if self.unit == "words" else self._counts()
        if self.unit != "bytes" and not counts:
            names = ", ".join(map(str, self.files))
            raise ValueError(f"{names} must have at least one of the {self.unit} of a text, got none")
        return Vocabulary.from_counts(counts, self.unit, size)

    def encode(
        self, vocabulary: Vocabulary, folder: StrPath | None = None, *, target: IO[bytes] | None = None
    ) -> StoredIds:
        """Return the ids of the text, in memory or, if they are many, in a temporary file.

        Parameters
        ----------
        vocabulary : Vocabulary
        folder : path, optional
            Where the temporary file is made. Default: the system's folder.
        target : binary file, optional
            Empty; gets the ids, however few they are.

        Raises
        ------
        ValueError
            If a symbol is not in the vocabulary, which has no unknown symbol; names file and position.
        """
        if vocabulary.unit != self.unit:
            raise ValueError(f"vocabulary must be of {self.unit}, got {vocabulary.unit}")
        if target is None and self.unit == "bytes" and len(self.files) == 1 and self.num_bytes > IdWriter.MEMORY_LIMIT:
            return StoredIds.of_file(self.files[0])
        writer = IdWriter(vocabulary.id_dtype, folder, target)
        try:
            for file in self.files:
                for ids in self._ids_of(file, vocabulary):
                    writer.write(ids)
        except BaseException:
            writer.close()
            raise
        return writer.finish()

    def _ids_of(self, file: Path, vocabulary: Vocabulary) -> Iterator[NDArray[Any]]:
        if self.unit == "bytes":
            yield from (np.frombuffer(piece, np.uint8) for piece in _pieces(file))
        elif self.unit == "words":
            for words in _words(file, self._texts(file)):
                ids: NDArray[Any] = vocabulary.lookup_words(words)
                if ids.min() < 0:
                    word = words[int(np.argmin(ids))]
                    raise UnknownSymbolError(f"{file} must consist of words of the vocabulary, got {word!r}")
                yield ids
        else:
            before = 0
            for text in self._texts(file):
                ids = vocabulary.lookup(text)
                if ids.min() < 0:
                    raise UnknownSymbolError(vocabulary.not_contained(str(file), text, int(np.argmin(ids)), before))
                before += len(text)
                yield ids

    def _texts(self, file: Path) -> Iterator[str]:
        """Yield the text of a file in pieces, which end between characters."""
        utf8 = codecs.getincrementaldecoder("utf-8")()
        decoder: Any = io.IncrementalNewlineDecoder(utf8, translate=True) if self.normalize else utf8
        offset, is_first = 0, self.normalize
        for piece in _pieces_and_end(file):
            pending = len(utf8.getstate()[0])
            try:
                text = decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as error:
                raise ValueError(_not_utf8(file, offset - pending + error.start, error)) from None
            offset += len(piece)
            if is_first and text:
                text, is_first = text.removeprefix(BYTE_ORDER_MARK), False
            if text:
                yield text

    def _counts(self) -> dict[str, int]:
        """Return how often each character occurs."""
        counts = np.zeros(128, np.int64)
        for text in (text for file in self.files for text in self._texts(file)):
            codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
            found = np.bincount(codes, minlength=len(counts))
            if len(found) > len(counts):
                counts = np.concatenate([counts, np.zeros(len(found) - len(counts), np.int64)])
            counts[: len(found)] += found
        return {chr(code): int(counts[code]) for code in np.flatnonzero(counts)}

    def _word_counts(self) -> Counter[str]:
        """Return how often each word occurs. Memory: about 120 bytes for each different word."""
        counts: Counter[str] = Counter()
        for file in self.files:
            for words in _words(file, self._texts(file)):
                counts.update(words)
        return counts


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while piece := stream.read(PIECE):
            yield piece


def _pieces_and_end(file: Path) -> Iterator[bytes]:
    """Yield the pieces of a file, and b"" at its end."""
    yield from _pieces(file)
    yield b""


def _words(file: Path, texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield the words of each piece of a text; one that a piece's end divides comes with the next."""
    rest = ""
    for text in texts:
        complete = rest + text
        words = WORD.findall(complete)
        rest = ""
        if words and complete.endswith(words[-1]) and (words[-1][-1].isalnum() or words[-1][-1] == "_"):
            rest = words.pop()
        if len(rest) > MAX_WORD:
            raise ValueError(f"{file} must have words of at most {MAX_WORD:,} characters, got a longer one")
        if words:
            yield words
    if rest:
        yield [rest]


def _not_utf8(file: Path, offset: int, error: UnicodeDecodeError) -> str:
    byte = error.object[error.start]
    hint = "pass unit='bytes' (--bytes) for a model of bytes, or convert the file"
    return f"{file} must be UTF-8, got the byte 0x{byte:02x} at offset {offset} ({error.reason}): {hint}"
