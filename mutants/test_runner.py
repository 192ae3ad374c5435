"""Which tests are to notice a change, in which order, and in what time."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mutant_run import Outcome, Places, Trial, preload, run

ABOVE = ("tests/test_layers.py", "tests/test_models.py", "tests/layers", "tests/test_import.py")

# The tests that are about a module of core, where they are not called after it; those of a folder are about all in it.
OWN = {
    "numba_engine": ("test_numba_engine.py", "test_stream_step.py", "test_jit_cache.py"),
    "activations.py": ("test_activations.py", "test_onnx_activations.py"),
    "gradient_clipping.py": ("test_optimizers.py", "test_blocking.py"),
    "initializers.py": ("test_parameters.py",),
    "variants": ("test_variants_golden.py", "test_variants.py"),
}
FOUND = "test_known_bugs.py"  # is about all of core

Change = tuple[Any, Mapping[str, str], list[list[str]]]  # what it is about, changed files, tests stage by stage


class Suite:
    """The tests of ``core``, and those above that it is seen through."""

    def __init__(self, places: Places) -> None:
        """Measures how long each file takes without any change; all must pass."""
        preload()
        self.places, self.seconds = places, {}
        root = places.paths[0]
        files = []
        for path in (root / name for name in ("tests/core", *ABOVE)):
            files += sorted(path.glob("test_*.py")) if path.is_dir() else [path]
        tests = [str(file.relative_to(root)) for file in files]
        for trial, outcome in run([Trial({}, [test], 1200) for test in tests], places):
            if not outcome.survived:
                sys.exit(f"mutants are for a suite that passes; without any change: {' '.join(outcome[:3])}")
            self.seconds[trial.tests[0]] = outcome.seconds
        print(f"without a change all tests pass, in {sum(self.seconds.values()):.0f} s", flush=True)

    def stages(self, file: str) -> list[list[str]]:
        """The tests of a module itself; all others of core; those above. For a file above core, those above first."""
        core = [test for test in self.seconds if test.startswith("tests/core/")]
        above = [test for test in self.seconds if test not in core]
        folder, *path = Path(file).parts
        if folder != "core":
            return [above, core]
        names = (*OWN.get(path[0], (f"test_{path[0]}",)), FOUND)
        own = [name for name in (f"tests/core/{name}" for name in names) if name in core]
        return [own, [test for test in core if test not in own], above]

    def try_all(self, changes: Iterable[Change]) -> Iterator[tuple[Any, Outcome]]:
        """Stage by stage, so that most are done early; yields what a change is about, and what came of it."""
        waiting, stage = list(changes), 0
        while waiting:
            trials = []
            for subject, changed, stages in waiting:
                limit = 30 + 5 * sum(self.seconds[test] for test in stages[stage])
                trials.append(Trial(changed, stages[stage], limit, subject=(subject, changed, stages)))
            waiting = []
            for trial, outcome in run(trials, self.places):
                subject, _, stages = trial.subject
                if outcome.survived and stage + 1 < len(stages):
                    waiting.append(trial.subject)
                else:
                    yield subject, outcome
            stage += 1
