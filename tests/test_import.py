"""Law: importing Glasscell is cheap, and needs NumPy alone."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from case_loops import loop_over

import glasscell

ROOT = Path(glasscell.__file__).parent
MODULES = {
    ".".join(["glasscell", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}


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
    assert not {f"glasscell.{name}" for name in ("core.variants.loop", "convert.codec")} & modules
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
    assert "glasscell.core.variants.config" in modules
    assert not {"glasscell.core.variants.forward_pass", "glasscell.core.variants.backward_pass"} & modules


def test_what_type_checkers_alone_need_is_not_loaded():
    conditions = [node for path in MODULES.values() for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    conditions = [
        node.test for node in conditions if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
    ]
    assert len(conditions) > 50
    assert {ast.unparse(condition) for condition in conditions} == {"TYPE_CHECKING"}


def test_layers_are_loaded_when_they_are_used():
    """One layer loads neither all others nor what a stream of it needs."""
    classes = {"glasscell.layers.convolution", "glasscell.layers.gru", "glasscell.layers.lstm"}
    assert not classes & loaded("import glasscell.layers")
    modules = loaded("import glasscell; glasscell.layers.LSTM(2, 3)")
    assert classes & modules == {"glasscell.layers.lstm"}
    assert not {name for name in modules if name.startswith("glasscell.stream")}


def test_the_public_names_exist():
    assert len(set(glasscell.__all__)) == len(glasscell.__all__)
    for name in glasscell.__all__:
        assert getattr(glasscell, name) is not None
    public = {name for name, value in vars(glasscell).items() if not name.startswith("_") and not is_module(value)}
    assert public - {"TYPE_CHECKING", "attach"} <= set(glasscell.__all__)


def is_module(value):
    return type(value) is type(ast)


def test_the_version_is_the_packages():
    try:
        assert metadata.version("glasscell") == glasscell.__version__
    except metadata.PackageNotFoundError:
        text = (ROOT.parents[1] / "pyproject.toml").read_text()
        assert f'version = "{glasscell.__version__}"' in text


@loop_over("module", MODULES)
def test_only_numpy_and_the_standard_library_are_needed_to_import(module):
    """What is optional is imported where it is used; in core not even there."""
    tree = ast.parse(MODULES[module].read_text())
    nodes = list(ast.walk(tree)) if module.startswith("glasscell.core") else list(at_import(tree))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    packages = {name.split(".")[0] for name in names}
    about = {"onnx"} if module.startswith("glasscell.convert.onnx.") else set()  # these are about it, and imported late
    about |= {"numba", "llvmlite"} if module.startswith("glasscell.core.numba_engine.") else set()
    about |= {"sklearn", "aeon"} if module.startswith("glasscell.estimators.") else set()
    about |= {"threadpoolctl"} if module == "glasscell.core.blas_threads" else set()
    assert packages - sys.stdlib_module_names <= {"numpy", "glasscell"} | about


def test_advice_to_install_extras_works_without_the_repository():
    """Each message names an extra of the package, which an installed wheel has as well."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
    extras = project["project"]["optional-dependencies"]
    advice = [
        line for path in MODULES.values() for line in path.read_text("utf-8").splitlines() if "pip install" in line
    ]
    for line in advice:
        assert "'.[" not in line
        for extra in re.findall(r"glasscell\[(\w+)\]", line):
            assert extra in extras
    assert sum("glasscell[" in line for line in advice) >= 6
