"""Products and blocks within a training have the same values in pieces, and the same bits for any number of threads."""

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.core import engines, linear, losses, norms, numba_engine, products
from glasscell.core.blocking import parts, split
from glasscell.core.buffers import BufferPool
from glasscell.core.optimizers import SGD, Adam
from glasscell.training.threads import with_training_threads

pytest.importorskip("numba")


@pytest.fixture(params=[1, 2, 3])
def threads(request, monkeypatch):
    monkeypatch.setattr(products, "max_threads", lambda: request.param)
    return request.param


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(products, "PIECE_FLOPS", 1 << 10)
    monkeypatch.setattr(products, "PIECE_SIZE", 3)
    monkeypatch.setattr(linear, "MIN_PIECE", 16)
    monkeypatch.setattr("glasscell.core.blocking.MIN_PART_SIZE", 16)
    monkeypatch.setattr("glasscell.core.blocking.SHORT_VECTOR", 32)
    monkeypatch.setattr(losses, "SOFTMAX_BLOCK", 32)


def test_a_size_is_divided_into_all_of_its_parts():
    for size in range(40):
        for count in (1, 2, 3, 8):
            assert [k for part in split(size, count) for k in range(part.start, part.stop)] == list(range(size))
    assert len(parts(100)) == 1


@loop_over("shape", [(40, 5, 70), (70, 5, 40), (1, 300, 9), (64, 64, 64), (0, 3, 4), (4, 0, 30)])
@loop_over("transposed", ["", "a", "b", "ab"])
def test_a_product_in_pieces(rng, small_pieces, threads, shape, transposed):
    M, K, N = shape
    a = rng.normal(size=(K, M)).T if "a" in transposed else rng.normal(size=(M, K))
    b = rng.normal(size=(N, K)).T if "b" in transposed else rng.normal(size=(K, N))
    bias = rng.normal(size=N)
    for extra in (None, bias):
        expected = a @ b + (0 if extra is None else extra)
        out = np.full((M, N), np.nan)
        assert products.with_shared_threads(lambda out=out, extra=extra: products.matmul(a, b, out, extra)) is out
        np.testing.assert_allclose(out, expected, rtol=1e-13, atol=1e-13)
        np.testing.assert_array_equal(products.matmul(a, b, np.empty((M, N)), extra), expected)


def test_all_blocks_are_called_with_the_settings_of_the_caller(threads):
    for count in range(7):
        called, settings = [], []

        def call(k, called=called, settings=settings):
            called.append(k)
            settings.append(np.geterr()["over"])

        with np.errstate(over="raise"):
            products.with_shared_threads(lambda call=call, count=count: products.for_each(call, range(count)))
        assert sorted(called) == list(range(count))
        assert set(settings) <= {"raise"}


def test_an_exception_of_a_block_is_raised_and_threads_are_no_longer_shared(threads):
    def fail(k):
        if k == 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        products.with_shared_threads(lambda: products.for_each(fail, range(4)))
    assert not products.shares_threads()


def results_of_a_step(rng):
    """Return outputs, gradients and updates of a wide softmax layer, and of one that is not wide."""
    T, I, B = 5, 6, 4
    found = []
    for O in (9, 130):
        weight, bias, x = (rng.normal(size=shape).astype("f4") for shape in ((O, I), (O,), (T, I, B)))
        if linear.is_wide(O, B):
            x = linear.in_rows(x, BufferPool())
        y = linear.forward(weight, bias, x)
        loss, dy = losses.categorical_cross_entropy(y.transpose(2, 0, 1), rng.integers(O, size=(B, T)))
        dx, dweight, dbias = linear.backward(weight, x, dy.transpose(1, 2, 0))
        gradient = np.concatenate([dweight.ravel(), dbias])
        norm = norms.clip_by_global_norm(gradient, 0.01)
        vector = np.concatenate([weight.ravel(), bias])
        for optimizer in (SGD(0.1, momentum=0.9), Adam(0.1, engine="numba")):
            optimizer.update(vector, gradient, optimizer.init_state(vector))
        found += [y, np.array(loss), dx, np.array(norm), gradient, vector]
    return found


def test_a_step_has_the_same_bits_for_any_number_of_threads(small_pieces, monkeypatch):
    answers = []
    for count in (1, 2, 3):
        monkeypatch.setattr(products, "max_threads", lambda count=count: count)
        answers.append(products.with_shared_threads(lambda: results_of_a_step(np.random.default_rng(0))))
    for other in answers[1:]:
        for a, b in zip(other, answers[0], strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip(results_of_a_step(np.random.default_rng(0)), answers[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def language_model(engine):
    layers = [gc.Embedding(40, 8), gc.LSTM(8, 16, 2, engine=engine), gc.Linear(16, 40)]
    return gc.Sequential(layers, seed=0)


def test_a_training_shares_its_threads_if_the_compiled_engine_runs_it(monkeypatch):
    seen = []
    for engine, expected in (("numba", True), ("numpy", False)):
        model = language_model(engine)
        assert model.uses_numba(3) == expected
        with_training_threads(lambda: seen.append(products.shares_threads()), model, 3)
        assert seen.pop() == expected
    lstm = gc.LSTM(3, 256)
    monkeypatch.setattr(numba_engine, "MAX_SINGLE_BYTES", 1 << 20)
    assert lstm.uses_numba(32)
    assert not lstm.uses_numba(1)  # NumPy is faster
    assert not gc.LSTM(3, 8, peepholes=True).uses_numba(32)
    assert not gc.layers.GRU(3, 8).uses_numba(32)


@pytest.mark.parametrize("optimizer", [gc.Adam(0.01), gc.SGD(0.1)])
def test_a_training_with_a_wide_softmax_has_the_same_bits_for_any_number_of_threads(
    optimizer, small_pieces, monkeypatch
):
    x = np.random.default_rng(0).integers(40, size=(20, 7))
    weights = []
    for engine, count in (("numba", 1), ("numba", 2), ("numba", 3), ("numpy", 2)):
        for module in (products, numba_engine):
            monkeypatch.setattr(module, "max_threads", lambda count=count: count)
        model = language_model(engine)
        gc.fit(
            model, (x, np.roll(x, -1, axis=1)), 4, loss="categorical_cross_entropy", batch_size=10, optimizer=optimizer
        )
        weights.append(model.parameters.vector)
    np.testing.assert_array_equal(weights[1], weights[0])
    np.testing.assert_array_equal(weights[2], weights[0])
    np.testing.assert_allclose(weights[3], weights[0], rtol=1e-3, atol=1e-4)


def test_evaluations_of_a_training_use_its_engine():
    def engine():
        return engines.select_for_inference(None, 8, 32, 4, np.dtype(np.float32))

    assert engine() is engines.NUMPY
    assert products.with_shared_threads(engine) is not engines.NUMPY


def test_products_are_divided_where_threads_are_shared_alone(monkeypatch):
    pieces = []
    monkeypatch.setattr(products, "for_each", lambda _, blocks: pieces.append(len(blocks)))
    a, b, out = (np.empty(shape) for shape in ((1024, 512), (512, 256), (1024, 256)))
    products.matmul(a, b, out)
    products.with_shared_threads(lambda: products.matmul(a, b, out))
    assert pieces == [1, 8]


def test_there_are_as_many_pieces_of_a_product_as_are_large_enough(rng):
    """A power of two, so that two or four threads have equal shares."""
    counts = []
    for size in (2.0 ** rng.uniform(0, 12, (300, 3))).astype(int):
        M, K, N = map(int, size)
        pieces = products._pieces(M, K, N)
        counts.append(len(pieces))
        sizes = [len(range(M)[rows]) * len(range(N)[columns]) for rows, columns in pieces]
        assert sum(sizes) == M * N
        fits = [n for n in (2, 4, 8) if max(M, N) >= n * products.PIECE_SIZE and n * products.PIECE_FLOPS <= M * K * N]
        assert len(pieces) == max(fits, default=1)
    assert set(counts) == {1, 2, 4, 8}


@pytest.mark.parametrize(("M", "N", "side"), [(4096, 512, 0), (512, 4096, 1), (2048, 2048, 0)])
def test_a_product_is_divided_along_its_longer_side(M, N, side):
    pieces = products._pieces(M, 512, N)
    assert len(pieces) > 1
    whole = slice(0, N) if side == 0 else slice(0, M)
    assert all(piece[1 - side].indices(len(range(*whole.indices(10**6)))) == (0, whole.stop, 1) for piece in pieces)
    covered = [k for piece in pieces for k in range(*piece[side].indices((M, N)[side]))]
    assert covered == list(range((M, N)[side]))
