"""Cost of `fit`: against a hand-written loop (bar 1.05), and of ragged batches against equal lengths (bar 1.1).

The two sides of a comparison alternate in one process, in short rounds, and times are those of the main thread on its
core: other work on the machine matters little. Reported are the ratio of medians and the ratio of the fastest tenths.
Run: python benchmarks/training_loop.py
"""

import time

import numpy as np

import glasscell as gc
from glasscell.core.blas_threads import with_one_blas_thread
from glasscell.core.buffers import BufferPool
from glasscell.core.losses import binary_cross_entropy
from glasscell.core.norms import clip_by_global_norm

ROUNDS, UPDATES, B = 40, 100, 64
RAGGED_ROUNDS = 25


def train_by_hand(model: gc.CopyLSTM, task: gc.tasks.Copy) -> list[float]:
    """Train with a batch, the model's passes, loss, clipping and optimiser only; return the time after each update."""
    rng, optimizer, buffers, times = np.random.default_rng(0), gc.Adam(0.03), BufferPool(), []
    gradients, vector = model.parameters.zeros_like(), model.parameters.vector
    state = optimizer.init_state(vector)
    for update in range(UPDATES):
        batch = task.batch(B, rng, model.dtype)
        outputs, _, tape = model.train_forward(batch, None, buffers, rng)
        _, d_outputs = binary_cross_entropy(outputs, batch.targets, batch.weights)
        model.train_backward(tape, d_outputs, gradients, buffers)
        clip_by_global_norm(gradients.vector, 0.25)
        optimizer.update(vector, gradients.vector, state, 0.03 * (1 - update / UPDATES))
        times.append(time.thread_time())
    return times


def train_with_fit(model: gc.CopyLSTM, task: gc.tasks.Copy) -> list[float]:
    """Train with `fit`; return the time after each update."""
    times: list[float] = []
    gc.fit(model, task, UPDATES, evaluate_every=UPDATES, callbacks=[lambda _: times.append(time.thread_time())])
    return times[:-1]  # the last update is evaluated


def ratios(a: list[float], b: list[float]) -> tuple[float, float]:
    """Return median(a) / median(b), and the same for the mean of the fastest tenth."""
    fastest_a, fastest_b = (np.sort(times)[: max(1, len(times) // 10)].mean() for times in (a, b))
    return float(np.median(a) / np.median(b)), float(fastest_a / fastest_b)


def loop_against_hand() -> tuple[float, float]:
    """Train the copy task with `fit`, and by hand; compare the time of single updates."""
    task = gc.tasks.Copy(8)
    durations: tuple[list[float], list[float]] = ([], [])
    for k in range(ROUNDS + 1):
        for times, train in zip(durations, (train_with_fit, train_by_hand), strict=True):
            ends = with_one_blas_thread(lambda train=train: train(gc.CopyLSTM(32, seed=0), task))
            times.extend(np.diff(ends)[1:] if k else [])  # the first round fills caches, the first update buffers
    return ratios(*durations)


def ragged_against_equal() -> tuple[float, float]:
    """Train a classifier on sequences of 20 to 60 steps, and on as many of 40; compare the time of epochs."""
    rng = np.random.default_rng(0)
    lengths, y = rng.integers(20, 61, 512), rng.integers(0, 4, 512)
    ragged = [rng.normal(size=(int(T), 8)) for T in lengths]
    equal = rng.normal(size=(512, round(lengths.mean()), 8))
    durations: tuple[list[float], list[float]] = ([], [])
    for k in range(RAGGED_ROUNDS + 1):
        for times, x in zip(durations, (ragged, equal), strict=True):
            model = gc.Sequential([gc.LSTM(8, 64), gc.layers.FinalState(), gc.Linear(64, 4)])
            start = time.thread_time()
            gc.fit(model, (x, y), epochs=1, loss="categorical_cross_entropy", batch_size=B)
            times.extend([time.thread_time() - start] if k else [])
    return ratios(*durations)


if __name__ == "__main__":
    for name, measure in (
        ("fit / hand-written loop", loop_against_hand),
        ("ragged / equal lengths of the same mean", ragged_against_equal),
    ):
        median, fastest = measure()
        print(f"{name}: {median:.3f} (medians), {fastest:.3f} (fastest tenths)", flush=True)
