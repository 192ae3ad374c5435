"""Count the files of the package that one update of `fit`, and one `model.trace`, run through.

A call from a function in one file to a function in another is a change of file. What is called once at the start
(imports, the first pass with new buffers) is not counted: the third update and the second trace are. With the engine
that Numba compiles, if it is installed, and with NumPy's.

    python benchmarks/file_crossings.py
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

import glasscell as gc
from glasscell.core import engines
from glasscell.core.packages import is_installed

ROOT = str(Path(gc.__file__).parent)


class Crossings:
    """Files entered, and changes of file, while it is active.

    Attributes
    ----------
    files : dict of str to int
        Calls by file, in the order of first use.
    changes : int
    """

    def __init__(self) -> None:
        self.files: dict[str, int] = {}
        self.changes = 0

    def profile(self, frame: FrameType, event: str, _: Any) -> None:
        """Count one call; for :func:`sys.setprofile`."""
        path = frame.f_code.co_filename
        if event != "call" or not path.startswith(ROOT):
            return
        self.files[path] = self.files.get(path, 0) + 1
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(ROOT):
            caller = caller.f_back
        self.changes += caller is not None and caller.f_code.co_filename != path


def crossings(run: Callable[[], object]) -> Crossings:
    """Run a function and count."""
    counted = Crossings()
    sys.setprofile(counted.profile)
    try:
        run()
    finally:
        sys.setprofile(None)
    return counted


def one_update() -> Crossings:
    """Count between the callbacks of the second and the third update."""
    model, counted = gc.CopyLSTM(hidden_size=8, seed=0), Crossings()

    def watch(state: gc.TrainingState) -> None:
        sys.setprofile(counted.profile if len(state.history.rows) == 2 else None)

    gc.fit(model, gc.tasks.Copy(4), 4, callbacks=[watch], evaluate_every=1000)
    sys.setprofile(None)
    return counted


def one_trace() -> Crossings:
    """Count for the second trace of an LSTM."""
    model = gc.CopyLSTM(hidden_size=8, seed=0)
    model.trace([1, 0, 1, 1])
    return crossings(lambda: model.trace([1, 0, 1, 1]))


@contextmanager
def without_numba() -> Iterator[None]:
    """Let Numba seem not to be installed."""
    engines.compiles_updates.cache_clear()
    with patch.object(engines, "is_installed", lambda name: name != "numba" and is_installed(name)):
        yield
    engines.compiles_updates.cache_clear()


def report(engine: str) -> None:
    """Print the counts with an engine."""
    for name, counted in (("an update of fit", one_update()), ("model.trace", one_trace())):
        print(f"{name}, {engine}: {len(counted.files)} files, {counted.changes} changes of file")
        for path, calls in counted.files.items():
            print(f"    {calls:4} {Path(path).relative_to(ROOT)}")


def main() -> None:
    if is_installed("numba"):
        report("Numba")
    with without_numba():
        report("NumPy")


if __name__ == "__main__":
    main()
