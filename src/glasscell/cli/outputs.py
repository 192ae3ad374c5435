"""Output files of commands, checked before the work begins."""

import argparse
import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glasscell.atomic_files import OutputFile
from glasscell.cli.interrupts import Interrupted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HTML = (".html", ".htm")
PICTURES = (".png", ".svg", ".pdf")
# Metadata without the date, so that equal pictures are equal files.
DATE_METADATA: dict[str, dict[str, None]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def add_overwrite(parser: "argparse.ArgumentParser | argparse._ArgumentGroup") -> None:
    """Add the option `--overwrite`."""
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")


def path_argument(text: str) -> Path:
    """Return the path of an argument; raise ArgumentTypeError if it is empty."""
    if not text:
        raise argparse.ArgumentTypeError("a path must not be empty")
    return Path(text)


def output_file(option: str, path: Path | None, endings: tuple[str, ...], *, overwrite: bool) -> OutputFile | None:
    """Check and return the file of an option; None if the option was not used.

    Raises
    ------
    ValueError, OSError
        If it cannot be written, or exists and `overwrite` is False.
    """
    if path is None:
        return None
    try:
        return OutputFile(path, endings, overwrite=overwrite, name=option)
    except FileExistsError as error:
        hint = "" if overwrite else "; --overwrite replaces it"
        raise FileExistsError(f"{error}{hint}") from None


@contextlib.contextmanager
def interrupted_before(files: Sequence[OutputFile]) -> Iterator[None]:
    """Name these files as not written if the block is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        if not files:
            raise
        raise Interrupted(f"{' and '.join(str(file.path) for file in files)} not written") from None


def check_matplotlib(option: str) -> None:
    """Raise ImportError if Matplotlib cannot be imported."""
    try:
        with _matplotlib_for_files():
            import matplotlib.figure  # noqa: F401, PLC0415 - optional
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise ImportError(f"{option} requires Matplotlib: pip install 'glasscell[plot]'") from None


def picture(make: "Callable[[], Figure]", ending: str, **options: Any) -> bytes:
    """Draw a figure as the content of a file.

    The interactive backend (``MPLBACKEND``) and LaTeX are not used, so that their errors do not matter.

    Parameters
    ----------
    make : callable
        Returns the figure. Matplotlib is imported here, or by it.
    ending : str
        One of `PICTURES`.
    """
    content = io.BytesIO()
    with _matplotlib_for_files():
        figure = make()
        figure.savefig(content, format=ending.removeprefix("."), metadata=DATE_METADATA[ending], **options)
    return _with_stable_ids(content.getvalue()) if ending == ".svg" else content.getvalue()


def _with_stable_ids(svg: bytes) -> bytes:
    """Replace the names of clip paths in an SVG by numbers: Matplotlib uses object addresses, which differ by run."""
    import re  # noqa: PLC0415 - only for pictures

    names = dict.fromkeys(re.findall(rb'<clipPath id="(p[0-9a-f]{10})"', svg))
    numbers = {name: b"clip%d" % k for k, name in enumerate(names)}
    return re.sub(rb"(?<=[\"#])p[0-9a-f]{10}(?=[\")])", lambda found: numbers.get(found[0], found[0]), svg)


@contextlib.contextmanager
def _matplotlib_for_files() -> Iterator[None]:
    chosen = os.environ.get("MPLBACKEND")
    os.environ["MPLBACKEND"] = "agg"  # read when Matplotlib is imported: an unknown name there is an error
    try:
        import matplotlib as mpl  # noqa: PLC0415 - optional

        with mpl.rc_context({"text.usetex": False, "svg.hashsalt": "glasscell"}):
            yield
    finally:
        if chosen is None:
            del os.environ["MPLBACKEND"]
        else:
            os.environ["MPLBACKEND"] = chosen


def error_reason(error: Exception) -> str:
    """Return the first line of an error, or its type if the message is empty."""
    return str(error).partition("\n")[0] or type(error).__name__
