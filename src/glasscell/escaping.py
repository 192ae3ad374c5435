"""Text of unknown origin, made safe to print."""

LONGEST = 500  # characters of a message


def escape(text: object, symbol: str | None = None) -> str:
    r"""Replace every character that would act on a terminal or a page instead of being shown.

    Control characters and terminal escapes, line and paragraph separators, surrogates, and the invisible characters
    that reverse the direction of text become Python's escapes, such as ``\x1b`` and ``\u202e``. Everything else, in
    any script, stays.

    Parameters
    ----------
    text : object
        Converted to a str.
    symbol : str, optional
        Put in the place of each such character where columns count. Default: its escape.

    Examples
    --------
    >>> print(escape("lstm\x1b[2J"))
    lstm\x1b[2J
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") if symbol is None else symbol
        for c in shown
    )


def one_line(message: object) -> str:
    """Return a message as one escaped line of limited length."""
    text = escape(" ".join(str(message).split()))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
