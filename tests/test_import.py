"""Law: importing Glasscell is cheap, and arrows between its rooms point one way."""

import ast
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import glasscell

ROOT = Path(glasscell.__file__).parent
MODULES = {
    ".".join(["glasscell", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}

# Each room, and what of the package it may import beside itself. No other room may import `cli`.
ROOMS = {
    "core": ["lazy"],
    "lazy": [],
    "validation": ["core"],
    "tasks": ["core", "validation"],
    "codec": ["core", "validation", "lazy"],
    "options": ["core", "validation"],
    "layers": [
        "core",
        "validation",
        "options",
        "codec",
        "atomic_files",
        "checkpoint",
        "escaping",
        "stream",
        "trace",
        "lazy",
    ],
    "atomic_files": [],
    "limits": [],
    "escaping": [],
    "tensor_files": ["limits"],
    "checkpoint": ["core", "validation", "atomic_files", "tensor_files", "limits", "escaping"],
    "stream": ["escaping", "core", "validation", "atomic_files", "checkpoint"],
    "convert": [
        "limits",
        "escaping",
        "core",
        "validation",
        "options",
        "codec",
        "layers",
        "models",
        "atomic_files",
        "checkpoint",
        "lazy",
    ],
    "progress": [],
    "schedules": ["validation"],
    "models": [
        "escaping",
        "core",
        "validation",
        "layers",
        "tasks",
        "codec",
        "atomic_files",
        "checkpoint",
        "stream",
        "trace",
        "lazy",
    ],
    "verify": ["escaping", "core", "validation", "codec", "layers", "models", "convert"],
    "bench": ["core", "validation", "codec", "layers", "models", "convert", "verify", "__init__"],
    "training": ["core", "validation", "layers", "tasks", "models", "atomic_files", "progress", "schedules"],
    "trace": ["core", "validation", "options", "atomic_files", "checkpoint", "tensor_files", "escaping", "lazy"],
    "__init__": ["core", "schedules", "tasks", "codec", "layers", "models", "training", "trace", "lazy"],
    "cli": [
        "__init__",
        "escaping",
        "core",
        "validation",
        "tasks",
        "layers",
        "models",
        "atomic_files",
        "checkpoint",
        "convert",
        "verify",
        "bench",
        "training",
        "trace",
        "progress",
    ],
    "__main__": ["cli"],
}


# How others lay out weights stands below the layers, which are made from that and give it away; the readers and writers
# of files beside it stand above the models.
CODEC = ("glasscell.convert", "glasscell.convert.codec")

# What kind of LSTM it is stands below the layers, too: a trace has it, and layers give traces.
OPTIONS = "glasscell.layers.options"


def room_of(module):
    """core of glasscell.core.lstm."""
    parts = module.split(".")
    if module in CODEC or module.startswith("glasscell.convert.codec."):
        return "codec"
    if module == OPTIONS:
        return "options"
    return parts[1] if len(parts) > 1 else "__init__"


def imports(tree, package):
    """Every module that the code imports, also inside functions, as full names; types alone are no arrow."""
    hints = {id(inner) for node in ast.walk(tree) if is_hint(node) for inner in ast.walk(node)}
    for node in (node for node in ast.walk(tree) if id(node) not in hints):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"a relative import in {package}"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module


def is_hint(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def at_import(tree):
    """The statements that run when the module is imported."""
    for node in tree.body:
        if not is_hint(node) and not isinstance(node, ast.FunctionDef):
            yield from (inner for inner in ast.walk(node) if isinstance(inner, ast.Import | ast.ImportFrom))


def loaded(program):
    """The modules that are loaded after a program in a fresh process."""
    program += "; import json, sys; print(json.dumps(sorted(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, env=environment)
    return set(json.loads(done.stdout))


def test_the_import_loads_nothing_heavy():
    heavy = "matplotlib tqdm sklearn torch safetensors numpy.random pandas scipy onnx h5py numba asyncio"
    modules = loaded("import glasscell; glasscell.fit, glasscell.CopyLSTM, glasscell.LSTM")
    assert "glasscell.models.copy_lstm" in modules
    assert not {f"glasscell.{name}" for name in ("models.sequential", "core.variants.loop", "convert.codec")} & modules
    assert modules & set(heavy.split()) == set()


def test_the_import_alone_loads_nothing():
    assert {name for name in loaded("import glasscell") if name.startswith("glasscell")} == {
        "glasscell",
        "glasscell.lazy",
    }


def test_the_command_line_loads_little_before_it_handles_interrupts():
    """Until then Ctrl-C is a traceback; the modules of `glasscell` alone, and of what they load in vain nothing."""
    modules = loaded("import glasscell.cli") - loaded("import warnings")
    assert {name for name in modules if name.startswith("glasscell")} == {
        "glasscell",
        "glasscell.lazy",
        "glasscell.cli",
    }
    assert not {"typing", "re", "enum", "signal", "argparse", "numpy"} & (modules - loaded("pass"))


def test_what_one_lstm_is_defined_by_loads_no_time_loop():
    modules = loaded("import glasscell.core.variants")
    assert "glasscell.core.variants.definition" in modules
    assert not {"glasscell.core.variants.loop", "glasscell.core.variants.backprop"} & modules


def test_the_public_names_exist():
    assert len(set(glasscell.__all__)) == len(glasscell.__all__)
    for name in glasscell.__all__:
        assert getattr(glasscell, name) is not None
    public = {name for name, value in vars(glasscell).items() if not name.startswith("_") and not is_module(value)}
    assert public - {"TYPE_CHECKING", "lazily"} <= set(glasscell.__all__)


def is_module(value):
    return type(value) is type(ast)


def test_the_version_is_the_packages():
    try:
        assert metadata.version("glasscell") == glasscell.__version__
    except metadata.PackageNotFoundError:
        text = (ROOT.parents[1] / "pyproject.toml").read_text()
        assert f'version = "{glasscell.__version__}"' in text


@pytest.mark.parametrize("module", MODULES)
def test_arrows_point_one_way(module):
    room = room_of(module)
    found = {room_of(name) for name in imports(ast.parse(MODULES[module].read_text()), module) if name in MODULES}
    assert found <= {room, *ROOMS[room]}


def test_arrows_are_found():
    arrows = {room: set() for room in ROOMS}
    for module, path in MODULES.items():
        arrows[room_of(module)] |= {room_of(n) for n in imports(ast.parse(path.read_text()), module) if n in MODULES}
    assert {"core", "layers", "tasks", "checkpoint"} <= arrows["models"]
    assert "cli" in arrows["__main__"]
    assert {room for room in arrows if "cli" in arrows[room]} == {"cli", "__main__"}


@pytest.mark.parametrize("module", MODULES)
def test_only_numpy_and_the_standard_library_are_needed_to_import(module):
    """What is optional is imported where it is used; in core not even there."""
    tree = ast.parse(MODULES[module].read_text())
    nodes = list(ast.walk(tree)) if room_of(module) == "core" else list(at_import(tree))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    packages = {name.split(".")[0] for name in names}
    about = {"onnx"} if module.startswith("glasscell.convert.onnx.") else set()  # these are about it, and imported late
    about |= {"numba", "llvmlite"} if module.startswith("glasscell.core.compiled.") else set()
    about |= {"threadpoolctl"} if module == "glasscell.core.threads" else set()
    assert packages - sys.stdlib_module_names <= {"numpy", "glasscell"} | about
