"""Select the tests of a mutant: those that execute its line, the quickest and its own module's first."""

import math
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from changed_code import enclosing_lines
from generation import Mutant

COMPILED = "core/numba_engine/"  # compiled when it is first used, which is kept: always imported again
COMPILED_FUNCTIONS = {("core/optimizers.py", "_adam")}  # likewise, in files of functions that are not compiled
# Tests of imports, in other processes, and of signatures: the lines that these depend on are not recorded for them.
OUTSIDE_FUNCTIONS = (
    *("tests/test_import.py", "tests/test_signatures.py"),
    "tests/layers/test_layer_details.py::test_flags_are_named_in_calls",
)
OWN_FIRST = 8  # a test of the mutant's own module comes before others that are up to this factor quicker

# Tests of a module whose names do not begin with the module's.
OWN = {
    "numba_engine": ("test_numba_engine", "test_stream_step", "test_jit_cache", "test_tiles"),
    "activations": ("test_activations", "test_onnx_activations"),
    "norms": ("test_optimizers", "test_blocking"),
    "initializers": ("test_parameters",),
    "rnn": ("test_rnn_and_gru",),
    "gru": ("test_rnn_and_gru",),
    "checkpoint": ("test_checkpoint", "test_checksum"),
}

Masks = dict[str, int]  # of a file of the package: bit n is set if line n is executed


class Selection(NamedTuple):
    """Tests of a mutant, quickest first, and whether the package has to be imported again for it."""

    tests: list[str]
    seconds: float
    imports_again: bool


@dataclass
class LineMap:
    """Seconds of each test, the lines that it executes, and those that imports execute."""

    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))  # file → test → mask
    imported: Masks = field(default_factory=lambda: defaultdict(int))

    def add(self, record: dict[str, Any]) -> None:
        """Add the record of a test file."""
        for test, (seconds, masks) in record["tests"].items():
            self.seconds[test] = seconds
            for file, mask in masks.items():
                self.lines[file][test] = int(mask, 16)
        for file, mask in record["imported"].items():
            self.imported[file] |= int(mask, 16)

    def select(self, mutant: Mutant, source: str, budget: float, *, own_only: bool) -> Selection:
        """Return the tests to run.

        Parameters
        ----------
        mutant : Mutant
        source : str
            The file without the change.
        budget : float
            Seconds, as measured without a change, after which no further test is selected: a mutant that lives so
            long counts as a survivor.
        own_only : bool
            Whether only tests of the mutant's module are run.
        """
        statement, scope, in_function = enclosing_lines(source, mutant.line)
        of_file = self.lines.get(mutant.file, {})
        compiled = mutant.file.startswith(COMPILED)
        imports_again = compiled or not in_function or bool(self.imported[mutant.file] & statement)
        imports_again |= (mutant.file, mutant.function) in COMPILED_FUNCTIONS
        tests = [test for test, mask in of_file.items() if mask & statement]
        if compiled:
            tests = sorted({test for file in self.lines if file.startswith(COMPILED) for test in self.lines[file]})
        elif imports_again:  # a constant, a default, a decorator: it matters wherever the scope is used
            tests += [test for test, mask in of_file.items() if mask & scope and not mask & statement]
        if not tests:
            tests = [test for test in self.seconds if is_own(test, mutant.file)]
        if not in_function:  # after the choice of a module's own tests, which these do not replace
            tests += [test for test in self.seconds if test.startswith(OUTSIDE_FUNCTIONS) and test not in tests]
        if own_only:
            tests = [test for test in tests if is_own(test, mutant.file)] or tests
        chosen, total = [], 0.0
        for test in sorted(tests, key=lambda test: self._rank(test, mutant.file)):
            if total > budget:
                break
            chosen.append(test)
            total += self.seconds[test]
        return Selection(chosen, total, imports_again)

    def _rank(self, test: str, file: str) -> tuple[float, str]:
        """Return a key that sorts by orders of seconds, then by test file, whose fixtures are made once."""
        seconds = max(self.seconds[test], 1e-3) / (OWN_FIRST if is_own(test, file) else 1)
        return math.ceil(math.log(seconds, 4)), test.split("::", maxsplit=1)[0]


def is_own(test: str, file: str) -> bool:
    """Return whether a test belongs to a module: by its name, or by the name of the module's folder."""
    return _is_own(test.split("::", maxsplit=1)[0], file)


@cache
def _is_own(test_file: str, file: str) -> bool:
    package, *path = Path(file).with_suffix("").parts
    path = path or [package]
    names = OWN.get(path[0], (f"test_{path[0]}",))
    name = Path(test_file).stem
    inside = test_file.startswith(f"tests/{package}/") or path == [package]
    return inside and (name == "test_known_bugs" or any(name.startswith(own) for own in names))
