"""Vocabularies of characters, bytes or words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.escaping import escape
from glasscell.validation import choice, positive_integer

if TYPE_CHECKING:
    from glasscell.data.text.decoding import TextDecoder

Unit: TypeAlias = Literal["characters", "bytes", "words"]
Ids: TypeAlias = NDArray[np.integer[Any]]
UNITS: tuple[Unit, ...] = ("characters", "bytes", "words")
WORD = re.compile(r"\w+|[^\w\s]")
UNKNOWN: dict[str, str] = {"characters": "\ufffd", "words": "<unk>"}
NAMES = {"\n": "↵", " ": "␣"}
NUM_BYTES = 256
MAX_SYMBOLS = 1 << 24


class UnknownSymbolError(ValueError):
    """A text has a symbol that the vocabulary does not contain."""


class Vocabulary:
    """The symbols of a text, and their ids 0 … V - 1.

    Parameters
    ----------
    symbols : sequence of str
        All different, in the order of their ids. Characters: one character each. Bytes: none, the 256 bytes are the
        symbols. Words: runs of letters, digits and underscores, and single other characters that are not white space.
    unit : {"characters", "bytes", "words"}
    unknown : str, optional
        The symbol, one of `symbols`, that replaces symbols outside the vocabulary. Default: those are errors.

    Raises
    ------
    TypeError, ValueError
        If a symbol occurs twice or is not of the unit.

    Examples
    --------
    >>> vocabulary = Vocabulary.from_text("to be or not to be")
    >>> vocabulary
    Vocabulary(7 characters)
    >>> ids = vocabulary.encode("not")
    >>> vocabulary.decode(ids)
    'not'
    """

    def __init__(self, symbols: Sequence[str] = (), unit: Unit = "characters", *, unknown: str | None = None) -> None:
        choice("unit", unit, UNITS)
        self.unit: Unit = unit
        self.symbols = _checked_symbols(symbols, unit)
        if unknown is not None and (unit == "bytes" or unknown not in self.symbols):
            raise ValueError(f"unknown must be one of the symbols, got {unknown!r}")
        self.unknown = unknown
        self._ids: dict[str, int] = {}
        self._table: NDArray[np.int32] | None = None

    @classmethod
    def from_text(cls, text: str, unit: Unit = "characters", size: int | None = None) -> Self:
        """Return the vocabulary of a text; see :meth:`from_counts`."""
        if not isinstance(text, str):
            raise TypeError(f"text must be a str, got a {type(text).__name__}")
        choice("unit", unit, UNITS)
        counts = {} if unit == "bytes" else Counter(WORD.findall(text) if unit == "words" else text)
        if unit != "bytes" and not counts:
            raise ValueError(f"text must have at least one of the {unit} that a vocabulary is made of, got none")
        return cls.from_counts(counts, unit, size)

    @classmethod
    def from_counts(cls, counts: Mapping[str, int], unit: Unit = "characters", size: int | None = None) -> Self:
        """Return the vocabulary of symbols that occur this often.

        Parameters
        ----------
        counts : mapping of str to int
        unit : {"characters", "bytes", "words"}
        size : int, optional
            Largest V. The most frequent symbols are kept, and the last symbol, ``"<unk>"`` or for characters U+FFFD,
            replaces the others; equally common ones are kept in the order of their code points. Default: all.

        Returns
        -------
        Vocabulary
            Characters in the order of their code points, words from the most to the least frequent. Words always have
            the unknown symbol, characters if some are left out.
        """
        if unit == "bytes":
            if size is not None:
                raise ValueError(f"size must be None for bytes, which are {NUM_BYTES}, got {size}")
            return cls((), "bytes")
        unknown = UNKNOWN[unit]
        by_count = sorted(counts.keys() - {unknown}, key=lambda symbol: (-counts[symbol], symbol))
        limit = len(by_count) + 1 if size is None else positive_integer("size", size)
        has_unknown = unit == "words" or unknown in counts or limit < len(by_count)
        kept = by_count[: limit - 1] if has_unknown else by_count
        if not kept:
            raise ValueError(f"size must be at least 2, one symbol and the unknown one, got {size}")
        symbols = kept if unit == "words" else sorted(kept)
        return cls([*symbols, unknown], unit, unknown=unknown) if has_unknown else cls(symbols, unit)

    def __len__(self) -> int:
        return len(self.symbols)

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._index

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return (self.unit, self.symbols, self.unknown) == (other.unit, other.symbols, other.unknown)

    def __hash__(self) -> int:
        return hash((self.unit, self.symbols, self.unknown))

    @property
    def _index(self) -> dict[str, int]:
        """The id of each symbol, made when it is first used."""
        if not self._ids:
            self._ids = {symbol: k for k, symbol in enumerate(self.symbols)}
        return self._ids

    @property
    def id_dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """The smallest unsigned dtype of all ids."""
        return np.min_scalar_type(len(self) - 1)

    @property
    def unknown_id(self) -> int | None:
        """The id of the unknown symbol."""
        return None if self.unknown is None else self._index[self.unknown]

    @property
    def _id_of_others(self) -> int:
        """The id of symbols outside the vocabulary: that of the unknown symbol, or -1 if there is none."""
        return -1 if self.unknown_id is None else self.unknown_id

    @property
    def names(self) -> list[str]:
        """Printable names of the symbols, for labels of a view: ``↵`` for a line feed, ``␣`` for a space."""
        return [NAMES.get(symbol, symbol) for symbol in self.symbols]

    def encode(self, text: str | bytes, name: str = "text") -> NDArray[np.intp]:
        """Return the ids of a text, (T,).

        Parameters
        ----------
        text : str or bytes
            For a vocabulary of bytes a str is encoded in UTF-8; others need a str.
        name : str
            What errors call the text.

        Raises
        ------
        ValueError
            If a symbol is not in the vocabulary, which has no unknown symbol; names the symbol and its position.
        """
        if self.unit == "bytes":
            content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
            return np.frombuffer(content, np.uint8).astype(np.intp)
        if not isinstance(text, str):
            raise TypeError(f"{name} must be a str for a vocabulary of {self.unit}, got a {type(text).__name__}")
        if self.unit == "words":
            return self._encode_words(text, name)
        ids = self.lookup(text)
        if ids.size and ids.min() < 0:
            raise UnknownSymbolError(self.not_contained(name, text, int(np.argmin(ids))))
        return ids.astype(np.intp)

    def lookup(self, text: str) -> NDArray[np.int32]:
        """Return the ids of characters; that of the unknown symbol, or -1, for those outside the vocabulary."""
        if self._table is None:
            codes = [ord(symbol) for symbol in self.symbols]
            table = np.full(max(codes) + 2, self._id_of_others, np.int32)
            table[codes] = np.arange(len(codes))
            self._table = table  # only when it is complete: another thread may read it
        if text.isascii():
            codes_of_text: Any = np.frombuffer(text.encode("ascii"), np.uint8)
        else:
            codes_of_text = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        ids: NDArray[np.int32] = np.take(self._table, codes_of_text, mode="clip")
        return ids

    def lookup_words(self, words: Sequence[str]) -> NDArray[np.intp]:
        """Return the ids of words; that of the unknown symbol, or -1, for those outside the vocabulary."""
        index, others = self._index, self._id_of_others
        return np.array([index.get(word, others) for word in words], np.intp)

    def _encode_words(self, text: str, name: str) -> NDArray[np.intp]:
        ids = self.lookup_words(WORD.findall(text))
        if ids.size and ids.min() < 0:
            position = next(match.start() for match in WORD.finditer(text) if match[0] not in self)
            raise UnknownSymbolError(self.not_contained(name, text, position))
        return ids

    def not_contained(self, name: str, text: str, position: int, before: int = 0) -> str:
        """Return the message for the symbol at this position of a text that follows `before` characters."""
        found = WORD.match(text, position) if self.unit == "words" else None
        symbol = text[position] if found is None else found[0]
        code = f" (U+{ord(symbol):04X})" if len(symbol) == 1 else ""
        line = text.count("\n", 0, position)
        place = f"position {position + before}"
        if line and not before:
            place += f", line {line + 1} column {position - text.rfind(chr(10), 0, position)}"
        rule = f"{name} must consist of {self.unit} of the vocabulary"
        return f"{rule}, got {escape(repr(symbol))}{code} at {place}"

    def decode(self, ids: ArrayLike) -> str:
        """Return the text of ids: exact for characters, for bytes with U+FFFD for invalid UTF-8, words with spaces.

        Raises
        ------
        ValueError
            If they are not integers from 0 to V - 1.
        """
        array, decoder = np.asarray(ids).ravel(), self.decoder()
        wrong = array[:1] if array.dtype.kind not in "iu" else array[(array < 0) | (array >= len(self))]
        if len(wrong):
            raise ValueError(f"ids must be integers from 0 to V - 1 = {len(self) - 1}, got {wrong[0]}")
        return "".join(map(decoder.decode, array.tolist())) + decoder.finish()

    def decoder(self) -> TextDecoder:
        """Return a decoder that takes one id at a time."""
        from glasscell.data.text.decoding import TextDecoder  # noqa: PLC0415 - only where it is used

        return TextDecoder(self.symbols, self.unit)

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments as plain JSON."""
        symbols = {} if self.unit == "bytes" else {"symbols": list(self.symbols)}
        return {"unit": self.unit, **symbols} | ({} if self.unknown is None else {"unknown": self.unknown})

    @classmethod
    def from_config(cls, config: Any) -> Self:
        """Return the vocabulary that :attr:`config` describes."""
        if not isinstance(config, dict) or not {*config} <= {"unit", "symbols", "unknown"}:
            raise ValueError(f"vocabulary must have unit, symbols and unknown, got {escape(repr(config)):.200}")
        return cls(config.get("symbols", ()), config.get("unit", "characters"), unknown=config.get("unknown"))

    def __repr__(self) -> str:
        unknown = "" if self.unknown is None else f", unknown={self.unknown!r}"
        return f"Vocabulary({len(self):,} {self.unit}{unknown})"


def _checked_symbols(symbols: Iterable[str], unit: Unit) -> tuple[str, ...]:
    """Return the symbols of a vocabulary; raise an error unless they are different and of the unit."""
    if isinstance(symbols, str) and unit == "characters":
        symbols = list(symbols)
    if not isinstance(symbols, Sequence) or isinstance(symbols, str):
        raise TypeError(f"symbols must be a list of str, got {escape(repr(symbols)):.200}")
    if unit == "bytes":
        if symbols:
            raise ValueError(f"symbols must be left out for bytes, got {len(symbols)}")
        return tuple(map(chr, range(NUM_BYTES)))
    if not 0 < len(symbols) <= MAX_SYMBOLS:
        raise ValueError(f"symbols must be 1 to {MAX_SYMBOLS:,} {unit}, got {len(symbols)}")
    seen: set[str] = set()
    for symbol in symbols:
        if not isinstance(symbol, str):
            raise TypeError(f"symbols must be str, got {escape(repr(symbol)):.200}")
        is_valid = len(symbol) == 1 if unit == "characters" else symbol == UNKNOWN[unit] or WORD.fullmatch(symbol)
        if not is_valid:
            raise ValueError(f"symbols must be {unit}, got {escape(repr(symbol)):.200}")
        if symbol in seen:
            raise ValueError(f"symbols must be different, got {escape(repr(symbol)):.200} twice")
        seen.add(symbol)
    return tuple(symbols)
