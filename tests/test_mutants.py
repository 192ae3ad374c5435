"""Law: what ``mutants/`` plants fits the code as it is."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MUTANTS, PACKAGE = ROOT / "mutants", ROOT / "src" / "glasscell"


@pytest.fixture(scope="module")
def bugs():
    if not MUTANTS.is_dir():
        pytest.skip("no mutants/ in this copy of the repository")
    sys.path.insert(0, str(MUTANTS))
    try:
        import known_bugs  # noqa: PLC0415 - a script of mutants/, not of the package
    finally:
        sys.path.remove(str(MUTANTS))
    return known_bugs.BUGS


def test_the_text_that_every_bug_replaces_occurs_exactly_once(bugs):
    wrong = [
        f"{file}: {old!r} occurs {found} times (mutants/known_bugs.py, bug {bug.number}, {bug.where})"
        for bug in bugs
        for file, old, _ in bug.edits
        if (found := (PACKAGE / file).read_text("utf-8").count(old)) != 1
    ]
    assert not wrong, "adapt mutants/known_bugs.py to the code:\n" + "\n".join(wrong)


def test_every_bug_changes_code_that_compiles(bugs):
    for bug in bugs:
        texts = {}
        for file, old, new in bug.edits:
            source = texts.get(file) or (PACKAGE / file).read_text("utf-8")
            texts[file] = source.replace(old, new)
            assert texts[file] != source, (bug.number, bug.where)
        for file, text in texts.items():
            compile(text, file, "exec")
