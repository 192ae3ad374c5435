"""Laws of README.md and docs: what they refer to exists, and the table of options equals the declarations."""

import ast
import contextlib
import io
import re
from pathlib import Path

import pytest

from glasscell.cli import main
from glasscell.recurrent.config import LSTMConfig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [path for path in PAGES if path.is_file()]
CONSUMERS = {  # column of the table in docs/lstm_options.md
    "standard layer": "standard",
    "stream": "stream",
    "trace": "trace",
    "report": "page",
    "ONNX": "onnx",
    "PyTorch": "torch",
    "Keras": "keras",
}
COMMANDS = ["copy", "text train", "text sample", "text score", "classify", "forecast"]
COMMANDS += ["reproduce", "sweep copy", "runs", "predict", "inspect", "verify", "convert"]
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")

pytestmark = pytest.mark.skipif(not PAGES, reason="README.md and docs are not part of an installed package")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@each_page
def test_named_tests_exist(page: Path) -> None:
    """`tests/x.py::name`, `tests/x.py`, or `::name`, which is in the file named before it."""
    file = None
    for path, name in re.findall(r"`(tests/[\w/.]+)?(?:::(\w+))?`", page.read_text("utf-8")):
        if path:
            file = ROOT / path
            assert file.exists(), path
        if name:
            assert file is not None, name
            functions = [node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if hasattr(node, "name")]
            assert name in {node.name for node in functions}, f"{file.relative_to(ROOT)}::{name}"


@each_page
def test_linked_files_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


@each_page
def test_named_modules_and_classes_exist(page: Path) -> None:
    """A path in backquotes that begins with a package of the library, such as `core/lstm.py` or `core/variants`."""
    package = ROOT / "src" / "glasscell"
    packages = {path.name for path in package.iterdir() if path.is_dir()}
    for path in re.findall(r"`(\w+/[\w/]+(?:\.py)?)/?`", page.read_text("utf-8")):
        if path.split("/")[0] in packages:
            assert (package / path).exists(), path


def options_of(command: str) -> set[str]:
    """Return the options in the help of a command."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        main([*command.split(), "--help"])
    return set(OPTION.findall(text.getvalue()))


@each_page
def test_named_options_exist(page: Path) -> None:
    """An option is one of a command that the page names, or of a script in benchmarks that it names."""
    text = page.read_text("utf-8")
    known = set[str]()
    for command in COMMANDS:
        if re.search(rf"\b{command}\b", text):
            known |= options_of(command)
    for name in re.findall(r"benchmarks/[\w/.]+", text):
        path = ROOT / name
        for file in path.rglob("*.py") if path.is_dir() else [path]:
            known |= set(re.findall(r'"(--[a-z-]+)"', file.read_text("utf-8")))
    assert set(OPTION.findall(text)) <= known


def table_of_options() -> list[str]:
    """Return the rows of the table in docs/lstm_options.md, from the declarations."""
    header = ["option", "default", *CONSUMERS, "training only"]
    rows = [header, ["---"] * len(header)]
    for name, option in LSTMConfig.declared.items():
        default = option.default[0] if isinstance(option.default, tuple) else option.default
        supported = ["yes" if consumer in option.supported else "" for consumer in CONSUMERS.values()]
        training = "yes" if option.training_only else ""
        rows.append([f"`{name}`", "required" if option.required else f"`{default!r}`", *supported, training])
    return ["| " + " | ".join(row) + " |" for row in rows]


def test_the_table_of_options_equals_the_declarations() -> None:
    page = (ROOT / "docs" / "lstm_options.md").read_text("utf-8")
    documented = [re.sub(r"\s*\|\s*", " | ", line).strip() for line in page.splitlines() if line.startswith("|")]
    expected = [re.sub(r"\s*\|\s*", " | ", line).strip() for line in table_of_options()]
    assert documented == expected, "replace the table in docs/lstm_options.md by:\n" + "\n".join(table_of_options())


def test_every_option_has_a_bullet_in_the_docstring() -> None:
    assert LSTMConfig.__doc__
    sizes = {"input_size", "hidden_size", "num_layers", "epsilon"}
    assert {name for name in LSTMConfig.declared if f"``{name}``" not in LSTMConfig.__doc__} <= sizes
