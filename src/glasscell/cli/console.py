"""Standard output and standard error that accept all characters and whose errors do not end the command."""

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any

ASCII = {  # replacements of characters that an encoding does not support
    "−": "-",
    "–": "-",
    "—": "-",
    "·": "*",
    "∘": "*",
    "⊙": "*",
    "×": "x",
    "±": "+-",
    "√": "sqrt",
    "Σ": "sum",
    "∂": "d",
    "‖": "||",
    "≤": "<=",
    "≥": ">=",
    "≈": "~",
    "∝": "~",
    "∞": "inf",
    "½": "1/2",
    "¹": "^1",
    "²": "^2",
    "³": "^3",
    "ᵀ": "^T",
    "ᵏ": "^k",
    "ᵗ": "^t",
    "′": "'",
    "₁": "_1",
    "₂": "_2",
    "ĉ": "c^",
    "σ": "sigmoid",
    "µ": "u",
    "μ": "u",
    "→": "->",
    "←": "<-",
    "↵": "\\n",
    "…": "...",
    "✓": "yes",
    "✗": "NO",
}
ERRORS = "glasscell.ascii"


def ascii_only(text: str) -> str:
    r"""Return the text in ASCII: signs and symbols by :data:`ASCII`, other characters as escapes such as ``\xe9``."""
    return text if text.isascii() else "".join(c if c.isascii() else _replacement(c) for c in text)


def _replacement(character: str) -> str:
    return ASCII.get(character) or character.encode("ascii", "backslashreplace").decode()


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding does not support by ASCII text, so that no minus sign is lost."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_replacement, error.object[error.start : error.end])), error.end


class Console(io.TextIOBase):
    """Standard stream that drops text which cannot be written, and keeps the first error.

    Parameters
    ----------
    stream : text stream

    Attributes
    ----------
    ascii : bool
        Whether everything is written in ASCII.
    error : Exception, optional
        The first that the stream raised.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.ascii = False
        self.error: Exception | None = None

    def write(self, text: str) -> int:
        """Write a text, unless the stream has failed before."""
        if self.error is None:
            try:
                self._stream.write(ascii_only(text) if self.ascii else text)
            except Exception as error:  # noqa: BLE001 - a program may replace the stream by any object
                self.error = error
        return len(text)

    def flush(self) -> None:
        """Flush the stream, unless it has failed before."""
        if self.error is None:
            try:
                self._stream.flush()
            except Exception as error:  # noqa: BLE001
                self.error = error

    @property
    def encoding(self) -> str:  # type: ignore[override] # of TextIOBase an attribute
        """Return the encoding of the characters that can be shown."""
        return "ascii" if self.ascii else getattr(self._stream, "encoding", None) or "ascii"

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        try:
            return bool(self._stream.isatty())
        except Exception:  # noqa: BLE001
            return False

    def fileno(self) -> int:
        """Return the descriptor of the stream."""
        return int(self._stream.fileno())

    def writable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Do nothing: this object does not own the stream."""


@contextmanager
def consoles() -> Iterator[tuple[Console, Console]]:
    """Replace standard output and standard error by consoles during the block.

    Closed streams, which are None in Python, are opened to the null device: otherwise a file that is opened later would
    get their descriptor, and receive the messages of C libraries.
    """
    with suppress(OSError):
        for descriptor in (0, 1, 2):
            try:
                os.fstat(descriptor)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    codecs.register_error(ERRORS, _replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)
    out, err = (Console(io.StringIO() if stream is None else stream) for stream in (sys.stdout, sys.stderr))
    try:
        with redirect_stdout(out), redirect_stderr(err):
            yield out, err
    finally:
        for console, descriptor in ((out, 1), (err, 2)):
            console.flush()
            if console.error is not None:
                _silence(console, descriptor)


def _silence(console: Console, descriptor: int) -> None:
    """Point a broken stream's descriptor to the null device: Python flushes it once more at exit."""
    try:
        actual = console.fileno()
    except Exception:  # noqa: BLE001 - the stream has no descriptor
        return
    if actual == descriptor:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)
