"""The Numba engine has the properties of `lstm.py`, and both engines can use each other's tapes."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from threading import Barrier, Event, get_ident
from types import SimpleNamespace

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.core import lstm, lstm_inference, numba_engine
from glasscell.core.buffers import BufferPool
from glasscell.core.numba_engine import jit_cache, thread_pool
from glasscell.core.packages import is_installed

if not is_installed("numba"):
    if os.environ.get("GLASSCELL_REQUIRE_NUMBA"):
        pytest.fail("Numba is not installed, and GLASSCELL_REQUIRE_NUMBA is set")
    pytest.skip("Numba is not installed: pip install -e '.[jit]'", allow_module_level=True)


def laws_of_lstm():
    """The tests of lstm.py, a copy of their own, in which `lstm` is the compiled engine."""
    spec = spec_from_file_location("laws_of_lstm", Path(__file__).with_name("test_lstm.py"))
    laws = module_from_spec(spec)
    spec.loader.exec_module(laws)
    laws.lstm = SimpleNamespace(**vars(lstm) | {"forward": numba_engine.forward, "backward": numba_engine.backward})
    return laws


laws = laws_of_lstm()
globals().update({name: law for name, law in vars(laws).items() if name.startswith("test_")})

DTYPES = [(np.float32, 2e-6, 5e-6), (np.float64, 1e-14, 1e-13)]
SIZES = [  # (T, I, H, B)
    *laws.SIZES,
    (0, 3, 5, 1),
    (0, 3, 5, 2),
    (300, 3, 5, 1),  # several blocks of steps
    (100, 3, 5, 7),
    (3, 20, 70, 33),  # more than a tile each way, and not whole ones
    (3, 8, 64, 32),  # whole tiles
    (2, 3, 130, 5),  # sums in several pieces
    (2, 300, 9, 17),
    (4, 0, 3, 2),  # no inputs
]


def problem_of(rng, T, I, H, B, dtype):
    """With weights of ±1/√H: values that a float32 can hold to a few units of its last place."""
    problem = laws.random_problem(rng, T, I, H, B, dtype)
    problem.kernel[:] = rng.uniform(-1, 1, size=problem.kernel.shape) / np.sqrt(H)
    return problem


@loop_over(("dtype", "forward_bound", "gradient_bound"), DTYPES)
@loop_over(("T", "I", "H", "B"), SIZES)
def test_tapes_and_gradients_match_numpy(T, I, H, B, dtype, forward_bound, gradient_bound, rng):
    problem = problem_of(rng, T, I, H, B, dtype)
    dc = rng.normal(size=problem.dh.shape).astype(dtype)
    result, numpy_tape = (engine.forward(*problem[:4]) for engine in (numba_engine, lstm))
    for a, b in zip(laws.arrays_of(result), laws.arrays_of(numpy_tape), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=forward_bound)
    expected = lstm.backward(numpy_tape, *problem[4:], dc=dc)
    for engine, tape in ((numba_engine, result), (numba_engine, numpy_tape), (lstm, result)):
        laws.assert_near(engine.backward(tape, *problem[4:], dc=dc), expected, gradient_bound)


@loop_over("dtype", laws.DTYPES)
@loop_over(("T", "I", "H", "B"), SIZES)
def test_inference_matches_the_forward_pass_with_a_tape(T, I, H, B, dtype, poison, rng):
    problem = problem_of(rng, T, I, H, B, dtype)
    tape, buffers = numba_engine.forward(*problem[:4]), BufferPool()
    for _ in range(2):
        poison(buffers)
        outputs = numba_engine.forward_inference(*problem[:4], buffers)
        assert isinstance(outputs, lstm_inference.InferenceResult)
        laws.assert_equal(outputs, (tape.h, tape.h_with_initial[-1], tape.c_with_initial[-1]))


@pytest.mark.parametrize("B", [1, 3])
def test_arrays_may_have_any_memory_layout(B, rng):
    problem = problem_of(rng, 6, 3, 5, B, np.float64)
    elsewhere = [np.moveaxis(np.moveaxis(a, 0, -1).copy(), -1, 0)[::-1].copy()[::-1] for a in problem]
    elsewhere = [np.repeat(a, 2, axis=-1)[..., ::2] for a in elsewhere]
    for array in elsewhere:
        array.flags.writeable = False
    tapes = [numba_engine.forward(*arrays[:4]) for arrays in (problem, elsewhere)]
    laws.assert_equal(*map(laws.arrays_of, tapes))
    laws.assert_equal(*(numba_engine.forward_inference(*arrays[:4]) for arrays in (problem, elsewhere)))
    gradients = [
        numba_engine.backward(tapes[0], a.dh, a.dh_end, a.dc_end, dc=a.dh) for a in (problem, laws.Problem(*elsewhere))
    ]
    laws.assert_equal(*gradients)


@pytest.mark.parametrize(("dtype", "edge", "bound"), [(np.float32, 9.02, 3e-7), (np.float64, 19.07, 1e-15)])
def test_tanh_and_sigmoid_are_accurate_to_rounding(dtype, edge, bound):
    """H = 1, and the candidate and a gate are those of the input itself."""
    x = np.concatenate([np.linspace(-2 * edge, 2 * edge, 200_001), np.geomspace(1e-30, 1, 50_001)]).astype(dtype)
    kernel = np.array([[0, 1, 0], [0, 0, 0], [0, 0, 0], [0, 1, 0]], dtype)
    tape = numba_engine.forward(kernel, x[None, None])
    g, i, exact = tape.g[0, 0], tape.i[0, 0], x.astype(np.longdouble)
    assert (np.abs(g - np.tanh(exact)) <= bound * np.abs(np.tanh(exact))).all()
    assert np.abs(i - 1 / (1 + np.exp(-exact))).max() <= bound
    np.testing.assert_array_equal(g[np.abs(x) >= edge], np.sign(x[np.abs(x) >= edge]))
    assert np.abs(g).max() == 1
    mirrored = numba_engine.forward(kernel, -x[None, None]).g[0, 0]
    np.testing.assert_array_equal(mirrored, -g)


@pytest.mark.parametrize("B", [1, 4])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_values_propagate_as_in_numpy(value, B, rng):
    problem = problem_of(rng, 6, 3, 5, B, np.float64)
    problem.x[2, 1, 0] = value
    result, expected = (engine.forward(*problem[:4]) for engine in (numba_engine, lstm))
    np.testing.assert_allclose(result.h, expected.h, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.c, expected.c, rtol=0, atol=1e-12)


def test_threads_with_separate_buffers_are_independent(rng):
    problems = [problem_of(rng, 40, 3, 16, B, np.float32) for B in (1, 4, 8, 20)]

    def work(problem):
        buffers, results = BufferPool(), []
        for _ in range(20):
            tape = numba_engine.forward(*problem[:4], buffers)
            gradient = numba_engine.backward(tape, *problem[4:], buffers)
            results.append(
                [a.copy() for a in (*laws.arrays_of(tape), *gradient, *numba_engine.forward_inference(*problem[:4]))]
            )
        return results

    alone = [work(problem)[0] for problem in problems]
    with ThreadPoolExecutor(4) as pool:
        for expected, results in zip(alone, pool.map(work, problems), strict=True):
            for result in results:
                laws.assert_equal(result, expected)


def test_a_model_may_be_used_by_both_engines_with_the_same_buffers(rng):
    problem, buffers = problem_of(rng, 7, 3, 5, 4, np.float64), BufferPool()
    expected = lstm.backward(lstm.forward(*problem[:4]), *problem[4:])
    for first, second in ((numba_engine, lstm), (lstm, numba_engine), (numba_engine, numba_engine)):
        gradient = second.backward(first.forward(*problem[:4], buffers), *problem[4:], buffers)
        laws.assert_near(gradient, expected, 1e-13)


@pytest.fixture
def three_threads(monkeypatch):
    monkeypatch.setattr(numba_engine, "max_threads", lambda: 3)
    monkeypatch.setattr(numba_engine, "MIN_PARALLEL_FLOPS", 0)
    monkeypatch.setattr(numba_engine, "MIN_GROUP_SIZE", 4)


def run_of(problem, buffers=None, *, every=False):
    tape = numba_engine.forward(*problem[:4], buffers)
    dc, dz = problem.dh[::-1], np.zeros((tape.T, 4 * tape.H, tape.B), tape.dtype) if every else None
    return [
        *(a.copy() for a in laws.arrays_of(tape)),
        *(a.copy() for a in numba_engine.backward(tape, *problem[4:], buffers, dc=dc, dz_steps=dz)),
        *([dz] if every else []),
        *(a.copy() for a in numba_engine.forward_inference(*problem[:4], buffers)),
    ]


@pytest.mark.parametrize("dtype", laws.DTYPES)
@pytest.mark.parametrize(
    ("I", "H", "B"), [(3, 5, 1), (3, 5, 7), (0, 9, 32), (7, 30, 33), (8, 64, 48), (2, 3, 100), (2, 5, 130), (3, 4, 0)]
)
@pytest.mark.parametrize("every", [False, True])
def test_results_have_the_same_bits_for_any_number_of_threads(
    every, dtype, I, H, B, poison, rng, monkeypatch, three_threads
):
    problem, buffers, shared = problem_of(rng, 9, I, H, B, dtype), BufferPool(), []
    for _ in range(3):
        poison(buffers)
        shared.append(run_of(problem, buffers, every=every))
    for threads in (1, 2, 7):
        monkeypatch.setattr(numba_engine, "max_threads", lambda threads=threads: threads)
        for results in (*shared, run_of(problem, every=every)):
            laws.assert_equal(results, shared[0])


def test_training_has_the_same_bits_for_any_number_of_threads(monkeypatch, three_threads):
    weights = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(numba_engine, "max_threads", lambda threads=threads: threads)
        model = gc.CopyLSTM(hidden_size=16, num_layers=2, seed=0)
        gc.fit(model, gc.tasks.Copy(4), 5, batch_size=20)
        weights.append(model.parameters.vector)
    for other in weights[1:]:
        np.testing.assert_array_equal(other, weights[0])


def test_every_sequence_is_in_one_slice(monkeypatch):
    monkeypatch.setattr(numba_engine, "MIN_PARALLEL_FLOPS", 0)
    for members in (1, 2, 3, 16):
        monkeypatch.setattr(numba_engine, "max_threads", lambda members=members: members)
        for B in range(200):
            edges = numba_engine._group_edges(5, 3, 4, B)
            shares = numba_engine._split_batch(5, 3, 4, B, BufferPool())
            assert [b for s in shares for b in range(B)[s.sequences]] == list(range(B))
            assert [g for s in shares for g in range(len(edges) - 1)[s.groups]] == list(range(len(edges) - 1))
            for s in shares:
                assert (s.edges + s.sequences.start).tolist() == edges[s.groups.start : s.groups.stop + 1]
                assert s.size == s.edges[-1] == s.sequences.stop - s.sequences.start
            assert len(shares) <= members
            assert B < 32 or members == 1 or len(shares) > 1
            sizes = np.diff(edges)
            assert max(sizes) - min(sizes) <= 1
            assert min(sizes) >= min(B, 8)
            assert len(sizes) <= 8
    monkeypatch.setattr(numba_engine, "MIN_PARALLEL_FLOPS", 1 << 62)
    assert numba_engine._group_edges(5, 3, 4, 64) == [0, 64]


def test_the_number_of_slices_depends_on_the_work():
    """Two groups where another thread is worth it, more where several are."""
    worth = numba_engine.MIN_PARALLEL_FLOPS // (4 * 16 * 20 * 64)  # steps of this layer, for the sequences below
    for T, groups in ((worth - 1, 1), (worth + 1, 2), (15 * worth, 2), (17 * worth, 4)):
        assert len(numba_engine._group_edges(T, 3, 16, 64)) - 1 == groups


def test_parallel_passes_can_run_in_several_threads(rng, three_threads):
    problems = [problem_of(rng, 40, 3, 16, B, np.float32) for B in (33, 48, 64)]
    alone = [run_of(problem) for problem in problems]
    with ThreadPoolExecutor(3) as pool:
        for expected, results in zip(alone, pool.map(lambda p: [run_of(p) for _ in range(20)], problems), strict=True):
            for result in results:
                laws.assert_near(result, expected, 1e-5)


def test_tasks_run_in_parallel_and_once_each():
    for _ in range(5):
        barrier, finished = Barrier(3, timeout=30), []

        def task(k, barrier=barrier, finished=finished):
            barrier.wait()  # for the other two
            finished.append((k, get_ident()))

        thread_pool.run_in_parallel([partial(task, k) for k in range(3)])
        assert sorted(k for k, _ in finished) == [0, 1, 2]
        assert len({thread for _, thread in finished}) == 3
        assert (0, get_ident()) in finished


def test_the_caller_runs_tasks_that_no_worker_takes(monkeypatch):
    monkeypatch.setattr(thread_pool, "start_new_thread", refuse)
    monkeypatch.setattr(thread_pool, "_workers", [])
    finished = []
    thread_pool.run_in_parallel([partial(finished.append, k) for k in range(3)])
    assert finished == [0, 1, 2]


def refuse(*_):
    raise RuntimeError("can't create new thread at interpreter shutdown")


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_of_a_task_is_raised_and_the_next_call_works(failing):
    barrier, finished = Barrier(3, timeout=30), []

    def task(k):
        barrier.wait()
        if k == failing:
            raise ZeroDivisionError
        finished.append(k)

    with pytest.raises(ZeroDivisionError):
        thread_pool.run_in_parallel([partial(task, k) for k in range(3)])
    assert set(finished) <= {0, 1, 2} - {failing}
    failing = None
    finished.clear()
    thread_pool.run_in_parallel([partial(task, k) for k in range(3)])
    assert sorted(finished) == [0, 1, 2]


@pytest.mark.parametrize("where", ["first task", "submission"])
def test_an_exception_in_the_caller_waits_for_all_workers(where, monkeypatch):
    """Otherwise a worker would write into buffers of the next pass."""
    begun, finished = Event(), []

    def slow():
        begun.set()
        time.sleep(0.05)
        finished.append("worker")

    def interrupted(*_):
        begun.wait(30)
        raise KeyboardInterrupt

    if where == "submission":  # the worker has its tasks, and the caller is interrupted immediately
        monkeypatch.setattr(
            thread_pool.Worker, "submit", lambda self, *arguments: (submit(self, *arguments), interrupted())
        )
    for _ in range(3):
        begun.clear()
        with pytest.raises(KeyboardInterrupt):
            thread_pool.run_in_parallel([interrupted, slow])
        assert finished.pop() == "worker"
        assert not finished


submit = thread_pool.Worker.submit


def test_blocked_workers_wake_up():
    finished = []
    for _ in range(3):
        time.sleep(0.05)  # longer than workers spin
        thread_pool.run_in_parallel([lambda: finished.append(0)] * 2)
    assert len(finished) == 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="requires fork")
def test_a_forked_process_starts_new_workers():
    program = (
        "import os\n"
        "from glasscell.core.numba_engine import thread_pool\n"
        "thread_pool.run_in_parallel([int, int])\n"
        "child = os.fork()\n"
        "thread_pool.run_in_parallel([int, int])\n"
        "child and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) and os._exit(1)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=60)


def test_the_faster_engine_depends_on_the_shape():
    for I, H, B in [(8, 32, 1), (8, 32, 32), (64, 256, 2), (64, 256, 8), (256, 512, 1), (256, 512, 64), (64, 2048, 2)]:
        assert numba_engine.is_faster(I, H, B, np.dtype(np.float32))
    assert numba_engine.is_faster(64, 1024, 1, np.dtype(np.float32))
    assert not numba_engine.is_faster(64, 1024, 1, np.dtype(np.float64))


def test_numba_is_not_imported_until_it_is_needed():
    program = (
        "import sys\n"
        "from glasscell.core import numba_engine\n"
        "assert numba_engine.is_faster(8, 32, 1, 'float32')\n"
        "assert not {'numba', 'llvmlite'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_name_of_a_cached_function_changes_with_the_code(monkeypatch):
    numba = pytest.importorskip("numba")
    names = set()
    for stamp in ("a", "b", "b"):
        monkeypatch.setattr(jit_cache, "_cache_key", lambda stamp=stamp: stamp)
        names.add(jit_cache.jit_cached(abs_of, numba.float64(numba.float64)).__name__)
    assert names == {"abs_of_a", "abs_of_b"}


def abs_of(x):
    return abs(x)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("need_dx", [False, True])
def test_steps_after_the_ends_of_sequences_are_skipped(need_dx, threads, rng, monkeypatch):
    """Law: outputs and gradients are the bits of a pass over zeros there, and nothing there is read."""
    monkeypatch.setattr(numba_engine, "max_threads", lambda: threads)
    T, I, H, B = 40, 3, 24, 64
    lengths = np.sort(rng.integers(0, T - 2, B))
    lengths[:3] = 0
    valid = np.arange(T)[:, None, None] < lengths
    kernel = rng.normal(size=(4 * H, H + I + 1)).astype(np.float32)
    ended = np.searchsorted(lengths, np.arange(T), side="right")
    x, dh = (rng.normal(size=(T, rows, B)).astype(np.float32) for rows in (I, H))
    results = []
    for fill, options in ((0, {}), (np.nan, {"ended": ended})):
        tape = numba_engine.forward(kernel, np.where(valid, x, np.float32(fill)), 0.5, -0.5, **options)
        masked = np.where(valid, dh, np.float32(fill))
        dkernel, dx, dh0, dc0 = numba_engine.backward(tape, masked, need_dx=need_dx, **options)
        h, c = (np.where(valid, states, 0) for states in (tape.h, tape.c))
        results.append((h, c, dkernel, dx.copy(), dh0, dc0))
    assert not np.where(valid, 0, tape.h).any()
    for expected, skipped in zip(*results, strict=True):
        np.testing.assert_array_equal(skipped, expected)
