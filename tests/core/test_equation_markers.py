"""Law: an equation of the standard LSTM, an RNN or a GRU is written where a marker says so, and nowhere else."""

from collections import Counter
from pathlib import Path

import pytest

import glasscell

PACKAGE = Path(glasscell.__file__).parent
WEB = Path(__file__).parents[2] / "web"  # the sources of the pages


def sources():
    """Yield every source file, and its name in PLACES; built pages are no sources."""
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in {".py", ".c", ".h"}:
            yield path, path.relative_to(PACKAGE).as_posix()
    for path in sorted(WEB.rglob("*.js")):
        yield path, path.relative_to(WEB.parent).as_posix()


# Where each equation is written, and how often. The first file is the reference.
PLACES = {
    "lstm-step": {
        "core/cell.py": 1,
        "core/lstm.py": 1,
        "core/numba_engine/cell_math.py": 1,
        "core/numba_engine/stream_step.py": 1,
        "core/variants/forward_pass.py": 2,
        "stream/standard_step.py": 1,
        "stream/variant_step.py": 2,
        "web/report/lstm.js": 1,
    },
    "lstm-step-backward": {
        "core/cell.py": 1,
        "core/lstm.py": 2,
        "core/step_gradients.py": 1,
        "core/numba_engine/cell_math.py": 1,
        "core/variants/backward_pass.py": 1,
        "web/report/lstm.js": 1,
    },
    "lstm-step-tangent": {"online/lstm_step.py": 1, "online/tangents.py": 1, "online/unit_traces.py": 1},
    "memory-block-step": {"online/memory_blocks.py": 1, "core/numba_engine/memory_blocks.py": 1},
    "rnn-step": {"core/rnn.py": 1, "stream/rnn_stage.py": 1, "web/report/rnn.js": 1},
    "rnn-step-backward": {"core/rnn.py": 1, "web/report/rnn.js": 1},
    "rnn-step-tangent": {"online/tangents.py": 1, "online/unit_traces.py": 1},
    "gru-step": {"core/gru.py": 1, "stream/rnn_stage.py": 1, "web/report/gru.js": 1},
    "gru-step-backward": {"core/gru.py": 2, "web/report/gru.js": 1},
    "gru-step-tangent": {"online/tangents.py": 1, "online/unit_traces.py": 1},
}


def found(equation):
    counts = Counter()
    for path, name in sources():
        lines = path.read_text("utf-8").splitlines()
        markers = [line.strip() in {f"# equation: {equation}", f"// equation: {equation}"} for line in lines]
        if any(markers):
            counts[name] = sum(markers)
    return dict(counts)


@pytest.mark.parametrize("equation", PLACES)
def test_the_markers_of_an_equation_are_where_it_is_written(equation):
    listed = "\n".join(f"  {count} in {file}" for file, count in PLACES[equation].items())
    assert found(equation) == PLACES[equation], (
        f"the markers '# equation: {equation}' have changed. A change of the equation belongs in all of these places,\n"
        f"of which the first is the reference, and then this list:\n{listed}"
    )


def test_every_marker_names_an_equation_of_the_list():
    for path, _ in sources():
        for line in path.read_text("utf-8").splitlines():
            if line.strip().startswith(("# equation: ", "// equation: ")):
                assert line.strip().split(": ", 1)[1] in PLACES, path
