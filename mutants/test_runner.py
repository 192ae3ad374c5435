"""Select and run the tests of a changed file, in stages with time limits."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mutant_run import Outcome, Trial, WorkingCopies, preload, run

ABOVE = ("tests/test_models.py", "tests/layers", "tests/test_import.py")

# Test files of a module of core, where their names differ; those of a folder belong to all its modules.
OWN = {
    "numba_engine": ("test_numba_engine.py", "test_stream_step.py", "test_jit_cache.py"),
    "activations.py": ("test_activations.py", "test_onnx_activations.py"),
    "norms.py": ("test_optimizers.py", "test_blocking.py"),
    "initializers.py": ("test_parameters.py",),
    "rnn.py": ("test_rnn_and_gru.py",),
    "gru.py": ("test_rnn_and_gru.py",),
    "variants": (
        *("test_variants_golden.py", "test_variants.py", "test_variants_gradients.py", "test_variants_laws.py"),
        "test_variants_precision.py",
    ),
}
FOUND = "test_known_bugs.py"  # belongs to all modules of core

Change = tuple[Any, Mapping[str, str], list[list[str]]]  # subject, changed files, tests by stage


class Suite:
    """Tests of ``core``, and tests of higher packages that depend on it."""

    def __init__(self, places: WorkingCopies) -> None:
        """Measure the time of each test file without a change; all must pass."""
        preload()
        self.places, self.seconds = places, {}
        root = places.paths[0]
        files = []
        for path in (root / name for name in ("tests/core", *ABOVE)):
            files += sorted(path.glob("test_*.py")) if path.is_dir() else [path]
        tests = [str(file.relative_to(root)) for file in files]
        for trial, outcome in run([Trial({}, [test], 1200) for test in tests], places):
            if not outcome.survived:
                sys.exit(f"all tests must pass without a change, got {' '.join(outcome[:3])}")
            self.seconds[trial.tests[0]] = outcome.seconds
        print(f"without a change all tests pass, in {sum(self.seconds.values()):.0f} s", flush=True)

    def stages(self, file: str) -> list[list[str]]:
        """Return the tests by stage: the module's, others of core, others above core; higher files begin with above."""
        core = [test for test in self.seconds if test.startswith("tests/core/")]
        above = [test for test in self.seconds if test not in core]
        folder, *path = Path(file).parts
        if folder != "core":
            return [above, core]
        names = (*OWN.get(path[0], (f"test_{path[0]}",)), FOUND)
        own = [name for name in (f"tests/core/{name}" for name in names) if name in core]
        return [own, [test for test in core if test not in own], above]

    def try_all(self, changes: Iterable[Change]) -> Iterator[tuple[Any, Outcome]]:
        """Run all changes stage by stage, which ends most early; yield the subject and outcome of each."""
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
