"""All contenders do the same work, and a benchmark of different work is refused."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from speed import busy, cold_start, glasscell_runner, jax, memory, onnx_runtime, pytorch, subprocesses, training_steps
from speed.cases import CASES
from speed.comparison import STEPS, UPDATES
from speed.contenders import check_same, distance
from speed.engines import engines
from speed.shapes import Shape
from speed.workload import CLIP_NORM, make_workload

from glasscell.layers import LSTM

SMALL = [Shape(3, 5, 4, 1), Shape(2, 8, 6, 3), Shape(3, 4, 5, 2, 2)]


def name_of(part):
    return str(part) if isinstance(part, Shape) else part.NAME


def needed(peer):
    if why := peer.unavailable_reason():
        pytest.skip(why)


@pytest.mark.parametrize(("peer", "shape"), [*((pytorch, shape) for shape in SMALL), (jax, SMALL[-1])], ids=name_of)
def test_a_training_step(peer, shape):
    needed(peer)
    workload = make_workload(shape)
    contenders = [*glasscell_runner.training(workload, UPDATES), *peer.training(workload, UPDATES)]
    check_same(contenders)
    assert len({contender.name for contender in contenders}) >= 2
    for contender in contenders:
        assert contender.answer["norm"] == pytest.approx(CLIP_NORM, rel=1e-4)  # there was something to clip
        assert 3e-3 < contender.answer["moved"].min() < 6e-3  # by about a learning rate, five times


@pytest.mark.parametrize("name", CASES)
def test_a_training_step_of_a_whole_model(name):
    needed(pytorch)
    case = replace(CASES[name], hidden=32, T=6, B=3, inputs=min(CASES[name].inputs, 20), outputs=600)
    contenders = [*training_steps.ours(case, UPDATES), *training_steps.theirs(case, UPDATES)]
    check_same(contenders)
    for contender in contenders:
        assert contender.answer["norm"] == pytest.approx(0.05, rel=1e-3)
    assert contenders[0].run()["update"] == UPDATES + 1  # of a training of `fit`


def test_a_busy_machine_is_measured_with_all_threads():
    contenders = list(training_steps.ours(replace(CASES["classifier"], hidden=5), UPDATES))
    with busy.processes():
        chosen = busy.all_threads(contenders)
    assert {contender.name for contender in chosen} == engines(training=True).options.keys()
    assert len({contender.setting for contender in chosen}) == 1


@pytest.mark.parametrize(
    ("peer", "shape"),
    [*((peer, shape) for peer in (pytorch, onnx_runtime) for shape in SMALL), (jax, SMALL[-1])],
    ids=name_of,
)
def test_whole_sequences(peer, shape):
    needed(peer)
    workload = make_workload(shape)
    contenders = [*glasscell_runner.forward(workload), *peer.forward(workload)]
    check_same(contenders)
    expected = LSTM.from_torch(workload.lstm_weights()).forward(workload.x)[0]
    for contender in contenders:
        np.testing.assert_allclose(contender.answer["outputs"], expected, atol=1e-5)
        assert np.abs(contender.answer["outputs"]).max() > 0.01


@pytest.mark.parametrize("peer", [pytorch, onnx_runtime])
def test_a_stream(peer):
    needed(peer)
    workload = make_workload(Shape(3, 6, 1, 1))
    expected = LSTM.from_torch(workload.lstm_weights()).forward(np.repeat(workload.x[0], STEPS, axis=0))[0]
    for contender in peer.streaming(workload, STEPS):
        np.testing.assert_allclose(contender.answer["outputs"], expected, atol=1e-6)


def test_our_streams():
    workload = make_workload(Shape(3, 6, 1, 1))
    expected = LSTM.from_torch(workload.lstm_weights()).forward(np.repeat(workload.x[0], STEPS, axis=0))[0]
    contenders = list(glasscell_runner.streaming(workload, STEPS))
    assert {contender.name for contender in contenders} == engines().options.keys()
    for contender in contenders:
        np.testing.assert_allclose(contender.answer["outputs"], expected, atol=1e-6)
    assert len({id(contender.run()) for contender in contenders}) == len(engines().options)  # each its own stream


@pytest.mark.parametrize("name", ["PyTorch", "ONNX Runtime"])
def test_a_cold_start(name, tmp_path):
    needed({"PyTorch": pytorch, "ONNX Runtime": onnx_runtime}[name])
    workload = make_workload(cold_start.SHAPE)
    (seconds, glasscell_loss, peak), (_, torch_loss, _) = (
        cold_start.run_program(implementation, cold_start._save(implementation, workload, tmp_path))
        for implementation in (cold_start.OURS, name)
    )
    assert glasscell_loss == pytest.approx(torch_loss, abs=1e-4)
    assert glasscell_loss != 0
    assert seconds > 0
    assert 10 < peak < 500


def test_a_peak_is_the_childs_own():
    """Not that of the process that started it, which Linux hands down."""
    mine = np.ones(40_000_000)  # 320 MB
    done = subprocesses.run(f"{subprocesses.PEAK}\nprint(peak())")
    assert mine.size
    assert 1e6 < float(done.lines[0]) < 1e8


def test_a_child_that_fails_is_said_to():
    with pytest.raises(ChildProcessError, match="ValueError: no"):
        subprocesses.run("raise ValueError('no')")


def test_another_work_is_refused():
    workload = make_workload(SMALL[0])
    first, *_ = glasscell_runner.training(workload, UPDATES)
    for name, factor in (("loss", 1.0001), ("gradient", 1.001), ("norm", 1.01), ("moved", 0.9)):
        other = replace(first, name="Other", answer={**first.answer, name: first.answer[name] * factor})
        with pytest.raises(ValueError, match=f"Other .* its {name} differs by"):
            check_same([first, other])
    with pytest.raises(ValueError, match="differs by inf"):
        check_same([first, replace(first, answer={**first.answer, "moved": np.zeros(9)})])
    with pytest.raises(ValueError, match="answers"):
        check_same([first, replace(first, answer={})])
    with pytest.raises(ValueError, match="differs by nan"):
        check_same([first, replace(first, answer={**first.answer, "loss": np.array(np.nan)})])
    assert distance(np.ones(3), np.ones(3)) == 0


def test_a_training_step_is_that_of_the_layers():
    """Its gradients are those of the public layers, and it lowers the loss."""
    workload = make_workload(Shape(3, 5, 6, 4))
    step = glasscell_runner.TrainingStep(workload)
    y, _, tape = step.model.forward(workload.x)
    d = 2 * (y - workload.targets) / y.size
    expected = step.model.backward(tape, d)[2].vector.copy()
    assert step() == pytest.approx(float(np.square(y - workload.targets).mean()), rel=1e-5)
    np.testing.assert_allclose(
        step.gradients.vector, expected * (CLIP_NORM / np.linalg.norm(expected)), rtol=1e-3, atol=1e-7
    )
    first = step()
    assert [step() for _ in range(30)][-1] < first


def test_memory_runs_in_a_process_of_its_own():
    benchmark = memory.measure_memory(lambda _: None, short=20, long=60)
    values = {metric.what: metric.value for metric in benchmark.metrics}
    assert values["Glasscell: peak memory over the baseline"] > 0
    assert values["Glasscell: time a step at T = 60"] > 0
    assert "PyTorch" in benchmark.absent or any("PyTorch" in what for what in values)


def test_makers_make_the_same_shapes():
    make = partial(memory.step_factory, "ours")({})
    assert make(7).x.shape == (7, memory.I, 1)


def test_what_an_import_adds_is_the_time_of_a_program_that_does_more():
    """`import glasscell` alone loads nothing, not even NumPy: it was said to take less than no time."""
    listed = "; import sys; print(' '.join(sys.modules))"
    programs = {name: cold_start.PROGRAMS[name] for name in (cold_start.NUMPY, cold_start.IMPORT)}
    numpy_alone, more = (set(subprocesses.run(program + listed).lines[1].split()) for program in programs.values())
    assert numpy_alone < more
    assert {"numpy", "glasscell.models.sequential"} <= more
    assert cold_start.added([0.3, 0.2, 0.9], [0.1, 0.25, 0.15]) == pytest.approx(0.1)
