"""Laws: the code in docs/introspection.md runs, and prints the text that follows it."""

import re
from pathlib import Path

import pytest

from glasscell.trace.layer_trace import GRADIENT_SYMBOLS, STATE_SYMBOLS

pytest.importorskip("matplotlib")
DOCUMENT = (Path(__file__).parents[2] / "docs" / "introspection.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
FIRST_BYTES = {
    "trace.safetensors": b"",
    "everything.png": b"\x89PNG",
    "six.pdf": b"%PDF",
    "text.svg": b"<?xml",
    "report.html": b"<!doctype html>",
    "strip.png": b"\x89PNG",
    "film.gif": b"GIF8",
    "film.html": b"<!doctype html>",
}


def indented_after(text: str) -> list[str]:
    """The lines of the indented block that follows a text of the document."""
    lines = DOCUMENT.split(text, 1)[1].split("\n")
    start = next(k for k, line in enumerate(lines) if line.startswith("    "))
    end = next(k for k, line in enumerate(lines) if k > start and line and not line.startswith("    "))
    return [line[4:] for line in lines[start:end]]


def without_values(line: str) -> str:
    """A line of the terminal without digits after the point and shades, which depend on rounding."""
    label, heat_maps = line[:10], line[10:]
    if label.strip().isdigit() or "dL/dc" in label:
        return f"{label} {len(heat_maps.rstrip()) > 40}" if "'" not in line else label
    return re.sub(r"\d+\.\d+", "number", line)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("doc")
    output: list[str] = []
    variables = {"print": lambda text: output.append(str(text))}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec("\n".join(BLOCK.findall(DOCUMENT)), variables)  # noqa: S102 - of this repository
    return "\n".join(output), folder


def test_the_examples_run_and_write_their_files(printed):
    _, folder = printed
    assert {path.name for path in folder.iterdir()} == set(FIRST_BYTES)
    for name, first in FIRST_BYTES.items():
        assert (folder / name).read_bytes().startswith(first)


def test_the_terminal_prints_the_text_of_the_document(printed):
    shown = [line.rstrip() for line in indented_after("color=False))")]
    while not shown[-1]:
        shown.pop()
    lines = printed[0].split("\n")
    start = next(k for k, line in enumerate(lines) if line.startswith("An LSTM"))
    assert [without_values(line) for line in lines[start : start + len(shown)]] == [without_values(x) for x in shown]


def test_the_equations_have_the_symbols_of_the_document(printed):
    for line in indented_after("equations.html are the other formats"):
        if line:
            symbols = " = ".join(line.split(" = ")[:2])
            assert re.search(rf"^ *{re.escape(symbols)} = ", printed[0], re.MULTILINE)


def test_every_symbol_is_in_the_table():
    table = DOCUMENT.split("| symbol | shape |", 1)[1].split("\n\n", 1)[0]
    rows = {name for line in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert rows == {*STATE_SYMBOLS, *GRADIENT_SYMBOLS, "d_i", "d_f", "d_o", "d_g"}
