"""Escape text of unknown origin, so that it can be printed."""

MAX_LENGTH = 500  # characters of a message


def escape(text: object, symbol: str | None = None) -> str:
    r"""Replace every character that a terminal or a page would interpret instead of printing it.

    Control characters and terminal escapes, line and paragraph separators, surrogates, and the invisible characters
    that reverse the direction of text become Python's escapes, such as ``\x1b`` and ``\u202e``. Everything else, in
    any script, stays.

    Parameters
    ----------
    text : object
        Converted to a str.
    symbol : str, optional
        Replacement of each such character, where the width matters. Default: its escape.

    Examples
    --------
    >>> print(escape("lstm\x1b[2J"))
    lstm\x1b[2J
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") if symbol is None else symbol for c in text
    )


def one_line(message: object) -> str:
    """Return a message as one escaped line of limited length."""
    text = escape(" ".join(str(message).split()))
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 1]}…"
