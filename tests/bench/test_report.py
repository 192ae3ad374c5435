"""The arithmetic of the report is right; missing libraries and slower implementations are named."""

import contextlib
import json
import sys
import time

import pytest
import speed
from speed import comparison, engines, gemm, machine, scaling, threads, timing
from speed.contenders import Contender
from speed.record import record, to_json
from speed.results import Benchmark, Implementation, Metric, Row, fitted_exponent, geometric_mean, spread
from speed.shapes import SHAPES, Shape, parse_shape
from speed.table import duration, lines

US = "Glasscell (NumPy)"
PEERS = ("torch", "onnx", "onnxruntime", "jax", "numba", "threadpoolctl")


@pytest.fixture
def alone(monkeypatch):
    """As if nothing but NumPy were installed."""
    for name in [name for name in sys.modules if name.split(".")[0] in PEERS]:
        monkeypatch.delitem(sys.modules, name)
    for name in PEERS:
        monkeypatch.setitem(sys.modules, name, None)


def row(what, own, peer, name="PyTorch"):
    return Row(
        what, (Implementation(US, "1 thread", tuple(own), ours=True), Implementation(name, "2 threads", tuple(peer)))
    )


def benchmark():
    rows = (row("(1, 2, 3, 4)", [1.0, 2.0, 4.0], [2.0, 4.0, 9.0]), row("(5, 6, 7, 8)", [1e-3] * 3, [0.5e-3] * 3))
    return Benchmark(
        "training", "A title", rows, (Metric("a number", 1.25, "MB"),), {"JAX": "not installed: pip install jax"}
    )


def test_a_ratio_is_the_median_of_the_turns():
    [ratio] = benchmark().rows[0].ratios()
    assert ratio == (US, "PyTorch", (2.0, 2.0, 2.125))


def test_spreads_means_and_exponents():
    assert spread([3.0]) == (3.0, 3.0, 3.0)
    assert spread([4.0, 1.0, 2.0, 3.0, 5.0]) == (3.0, 2.0, 4.0)
    assert geometric_mean([2.0, 0.5]) == pytest.approx(1)
    assert geometric_mean([1.0, 8.0, 1.0]) == pytest.approx(2)
    assert fitted_exponent([10, 20, 40], [3.0, 6.0, 12.0]) == pytest.approx(1)
    assert fitted_exponent([1, 2, 4], [1.0, 4.0, 16.0]) == pytest.approx(2)
    assert benchmark().means() == [(US, "PyTorch", pytest.approx(1.0), 0.5)]


def test_the_table_says_where_a_peer_is_faster_and_who_is_missing():
    text = "\n".join(lines(benchmark()))
    assert "2.00 (2.00 to 2.12)" in text
    assert "PyTorch is FASTER than Glasscell (NumPy) at (5, 6, 7, 8): 0.50" in text
    assert "PyTorch takes 1.00 times as long as Glasscell (NumPy) (geometric mean; least 0.50)" in text
    assert "JAX: not installed: pip install jax" in text
    assert "a number" in text
    assert "1.25 MB" in text
    assert "FASTER" not in "\n".join(lines(Benchmark("x", "y", benchmark().rows[:1])))


@pytest.mark.parametrize(("seconds", "words"), [(2.0, "2 s"), (0.0123, "12.3 ms"), (4.56e-6, "4.56 µs")])
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_the_record():
    told = {"processor": "p", "cores": 2}
    text = to_json(record([benchmark()], told, 3))
    assert text == to_json(record([benchmark()], told, 3))
    found = json.loads(text)
    assert found.keys() == {"format", "machine", "turns", "races"}
    training = found["races"]["training"]
    assert training.keys() == {"title", "rows", "geometric_means", "figures", "absent"}
    first = training["rows"][0]
    assert first["sides"][US] == {"setting": "1 thread", "seconds": {"median": 2.0, "low": 1.5, "high": 3.0}}
    assert first["ratios"] == [{"ours": US, "peer": "PyTorch", "median": 2.0, "low": 2.0, "high": 2.125}]
    assert training["geometric_means"] == [{"ours": US, "peer": "PyTorch", "mean": 1.0, "least": 0.5}]
    assert training["figures"] == [{"what": "a number", "value": 1.25, "unit": "MB"}]
    assert training["absent"] == {"JAX": "not installed: pip install jax"}


def test_the_machine():
    told = machine.machine()
    assert told["cores"] == threads.cores() >= 1
    assert told["packages"]["numpy"]
    words = machine.describe(told)
    assert told["processor"] in words
    assert f"numpy {told['packages']['numpy']}" in words
    assert "None" not in words


def test_everyone_who_is_missing_is_said_to_be(alone, monkeypatch):
    monkeypatch.setattr(timing, "MIN_TIMING_SECONDS", 1e-5)
    shapes = [Shape(2, 3, 2, 1)]
    [training, forward] = speed.run_benchmarks(["forward", "training"], shapes, 1)
    assert {"PyTorch", "JAX", engines.NUMBA} <= training.absent.keys()
    assert {"PyTorch", "ONNX Runtime", "JAX", engines.NUMBA} <= forward.absent.keys()
    peers = [why for name, why in (training.absent | forward.absent).items() if not name.startswith("Glasscell")]
    assert all(why.startswith("not installed: pip install") for why in peers)
    assert [implementation.name for implementation in training.rows[0].implementations] == [US]
    assert training.rows[0].implementations[0].setting == "threads as they are"
    assert training.kind == "training"


def test_a_race_of_two(monkeypatch):
    """Each contender is timed in every round, at the faster of its settings."""
    monkeypatch.setattr(timing, "MAX_WAIT_SECONDS", 0.0)
    made = []

    def contender(implementation, setting, seconds):
        @contextlib.contextmanager
        def context():
            made.append((implementation, setting))
            yield

        return Contender(implementation, setting, lambda: time.sleep(seconds), {}, context)

    implementations = comparison.measure(
        None,
        [
            lambda _: [contender("Glasscell", "slow", 0.02), contender("Glasscell", "fast", 0.001)],
            lambda _: [contender("Peer", "only", 0.004)],
        ],
        3,
        shortest=0.002,
    )
    assert [
        (implementation.name, implementation.setting, implementation.ours, len(implementation.seconds))
        for implementation in implementations
    ] == [
        ("Glasscell", "fast", True, 3),
        ("Peer", "only", False, 3),
    ]
    assert [implementation for implementation, _ in made[-6:]] == [
        "Glasscell",
        "Peer",
        "Peer",
        "Glasscell",
        "Glasscell",
        "Peer",
    ]
    [ratio] = Row("x", implementations).ratios()
    assert ratio.spread.median > 1


def test_the_order_turns():
    assert list(timing.interleaved_order("abc", 4)) == [*"abc", *"bca", *"cab", *"abc"]


def test_shapes():
    assert len(SHAPES) == 10
    assert parse_shape("8,32,20,1") == SHAPES[0] == (8, 32, 20, 1, 1)
    assert parse_shape("64,128,50,32,2") == SHAPES[-1]
    assert str(SHAPES[-1]) == "(64, 128, 50, 32), 2 layers"
    for text in ("", "8,32", "8,32,20,x", "1,2,3,4,5,6", "1,2,3,0"):
        with pytest.raises(ValueError, match=r"is no shape|at least 1"):
            parse_shape(text)


def test_the_limit_of_products():
    assert gemm.operations(Shape(2, 3, 5, 7)) == 3 * 2 * 5 * 7 * 12 * 5


def test_scaling_reports_exponents(monkeypatch):
    monkeypatch.setattr(scaling, "measure_times", lambda shapes, turns: [s.T**1.0 * s.B**0.9 for s in shapes])
    values = {
        figure.what.split()[2]: figure.value
        for figure in scaling.measure_scaling(1, lambda _: None).metrics
        if "k" in figure.what
    }
    assert values == {"T^k,": pytest.approx(1), "B^k,": pytest.approx(0.9)}


def test_the_picture(tmp_path):
    from speed.plot import plot  # noqa: PLC0415

    figure = plot([benchmark(), Benchmark("memory", "no ratios")], "a machine")
    [axes] = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["(1, 2, 3, 4)", "(5, 6, 7, 8)"]
    assert axes.get_xscale() == "log"
    figure.savefig(tmp_path / "a.png")
    with pytest.raises(ValueError, match="nothing to draw"):
        plot([Benchmark("memory", "no ratios")], "a machine")
