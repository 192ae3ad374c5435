"""Decoding of ids to text, one symbol at a time."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

# Between words there is a space, except before and after these characters.
CLOSING, OPENING = frozenset(".,;:!?)]}%’”"), frozenset("([{“‘$#@")
JOINING = frozenset("'’-_/—")  # neither before nor after, as in don't


class TextDecoder:
    """Text of a sequence of ids, in pieces.

    Parameters
    ----------
    symbols : sequence of str
        Of a vocabulary.
    unit : {"characters", "bytes", "words"}
        Characters: each id is one. Bytes: UTF-8, in which a character may need several ids; invalid bytes become
        U+FFFD. Words: separated by spaces, except around punctuation.
    """

    def __init__(self, symbols: Sequence[str], unit: str) -> None:
        self._symbols, self._unit = symbols, unit
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._previous = ""

    def decode(self, k: int) -> str:
        """Return the text that an id completes, "" within a character of several bytes."""
        if self._unit == "characters":
            return self._symbols[k]
        if self._unit == "bytes":
            return self._utf8.decode(bytes([k]))
        word, previous, self._previous = self._symbols[k], self._previous, self._symbols[k]
        is_joined = not previous or word in CLOSING or word in JOINING or previous in OPENING or previous in JOINING
        return word if is_joined else f" {word}"

    def finish(self) -> str:
        """Return the text of an incomplete character at the end."""
        return self._utf8.decode(b"", final=True) if self._unit == "bytes" else ""
