"""Law: the project is written in plain technical English, without these words and idioms."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "docs", "web", "tests", "benchmarks", "mutants", "notebooks")
SUFFIXES = {".py", ".md", ".js", ".mjs", ".html", ".css"}
PHRASES = (
    *("anew", "thrice", "whoever", "nobody", "doors?", "rooms?", "clothes", "has not", "have not", "so many"),
    *("without it", "what stands", "is given", "looks? back", "of its own", "by itself", "beside"),
)
IDIOM = re.compile(rf"\b(?:{'|'.join(PHRASES)})\b", re.IGNORECASE)


def texts(folder):
    files = [ROOT / "README.md"] if folder == "." else sorted((ROOT / folder).rglob("*"))
    return [path for path in files if path.suffix in SUFFIXES and path != Path(__file__) and path.is_file()]


@pytest.mark.parametrize("folder", [".", *FOLDERS])
def test_texts_contain_no_idiom_of_the_list(folder):
    hits = [
        f"{path.relative_to(ROOT)}:{n}: {line.strip()}"
        for path in texts(folder)
        for n, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        if IDIOM.search(line)
    ]
    assert not hits, "\n".join(hits)
