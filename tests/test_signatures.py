"""Law: a flag is named in calls, which say what is true."""

import ast
from pathlib import Path

import glasscell

ROOT = Path(glasscell.__file__).parent
BY_PLACE = {"keep_tape", "need_dx"}  # of the passes that all layers share
PICKLED = {"_restore"}  # called by what pickle reads


def flags_by_place(path):
    """The parameters of type bool that a call may give without their names."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name not in PICKLED:
            for parameter in (*node.args.posonlyargs, *node.args.args):
                if parameter.annotation is not None and ast.unparse(parameter.annotation) == "bool":
                    yield f"{path.relative_to(ROOT)}: {node.name}({parameter.arg})", parameter.arg


def test_flags_are_named_in_calls():
    found = [place for path in ROOT.rglob("*.py") for place, name in flags_by_place(path) if name not in BY_PLACE]
    assert found == []
