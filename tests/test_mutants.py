"""Laws: what ``mutants/`` plants fits the code as it is, and a changed function is replaced wherever it is used."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MUTANTS, PACKAGE = ROOT / "mutants", ROOT / "src" / "glasscell"


def load(name, path):
    specification = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


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


@pytest.fixture(scope="module")
def changed_code():
    if not MUTANTS.is_dir():
        pytest.skip("no mutants/ in this copy of the repository")
    return load("changed_code", MUTANTS / "changed_code.py")


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


SOURCE = """\
LIMIT = 3

def doubled(x, factor=2):
    if x > LIMIT:
        return [x * factor for _ in range(1)][0]
    else:
        return (
            x +
            x
        )

def adder(n):
    def add(x):
        return x + n
    return add

class Box:
    size = 1

    @property
    def area(self):
        return self.size * self.size

add_one = adder(1)
PAIR = (lambda x: x + 1, lambda x: x + 1)
"""


@pytest.mark.parametrize(
    ("old", "new", "call", "value"),
    [
        ("x * factor", "x - factor", lambda m: m.doubled(5), 3),
        ("x > LIMIT", "x < LIMIT", lambda m: m.doubled(2), 4),
        ("return x + n", "return x - n", lambda m: m.add_one(5), 4),  # a closure that was made before the change
        ("return x + n", "return x - n", lambda m: m.adder(2)(5), 3),
        ("self.size * self.size", "self.size + self.size", lambda m: m.Box().area, 2),
        ("lambda x: x + 1)", "lambda x: x - 1)", lambda m: m.PAIR[0](5) * 10 + m.PAIR[1](5), 64),
    ],
)
def test_a_changed_function_is_replaced_wherever_it_was_imported_to(changed_code, tmp_path, old, new, call, value):
    path = tmp_path / "module.py"
    path.write_text(SOURCE, "utf-8")
    module = load("module", path)
    assert SOURCE.count(old) == 1
    for functions, code in changed_code.changes_of_functions(
        path, SOURCE.replace(old, new), changed_code.live_functions(tmp_path)
    ):
        for function in functions:
            function.__code__ = code
    assert call(module) == value


@pytest.mark.parametrize(
    ("old", "new"),
    [("LIMIT = 3", "LIMIT = 4"), ("factor=2", "factor=3"), ("size = 1", "size = 2"), ("    @property\n", "")],
)
def test_a_change_outside_functions_is_not_replaced(changed_code, tmp_path, old, new):
    path = tmp_path / "module.py"
    path.write_text(SOURCE, "utf-8")
    module = load("module", path)  # its functions live
    live = changed_code.live_functions(tmp_path)
    assert live
    assert changed_code.changes_of_functions(path, SOURCE.replace(old, new), live) is None
    assert module.LIMIT == 3


def lines(mask):
    return [n for n in range(mask.bit_length()) if mask >> n & 1]


@pytest.mark.parametrize(
    ("line", "statement", "scope", "in_function"),
    [
        (1, [1], None, False),
        (3, [3], [3, 4, 5, 6, 7, 8, 9, 10], False),
        (4, [4], [3, 4, 5, 6, 7, 8, 9, 10], True),
        (8, [7, 8, 9, 10], [3, 4, 5, 6, 7, 8, 9, 10], True),  # all lines of the statement
        (14, [14], [13, 14], True),
        (18, [18], [17, 18, 19, 20, 21, 22], False),
        (20, [20, 21], [20, 21, 22], False),  # a decorator belongs to the definition
        (22, [22], [20, 21, 22], True),
    ],
)
def test_the_lines_of_a_line_are_those_of_its_statement(changed_code, line, statement, scope, in_function):
    found = changed_code.enclosing_lines(SOURCE, line)
    everything = list(range(1, SOURCE.count("\n") + 2))
    assert (lines(found.statement), lines(found.scope)) == (statement, scope or everything)
    assert found.in_function == in_function
