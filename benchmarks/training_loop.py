"""Costs of `fit`: against a loop by hand (at most 1.05), and of ragged batches against equal lengths (at most 1.1).

Alternating rounds in one process; medians of the ratios of neighbouring rounds. Run: python benchmarks/training_loop.py
"""

import statistics
import time
from collections.abc import Callable

import numpy as np

import glasscell as gc
from glasscell.core.blas_threads import with_one_blas_thread
from glasscell.core.buffers import BufferPool
from glasscell.core.gradient_clipping import clip_by_global_norm
from glasscell.core.losses import binary_cross_entropy

ROUNDS, UPDATES, B = 15, 300, 64


def by_hand(model: gc.CopyLSTM, task: gc.tasks.Copy) -> None:
    """Train with nothing but the layers' passes, loss, clipping and optimiser."""
    rng, optimizer, buffers = np.random.default_rng(0), gc.Adam(0.03), BufferPool()
    gradients, vector = model.parameters.zeros_like(), model.parameters.vector
    state, lstm, readout = optimizer.init_state(vector), gradients.subset("lstm."), gradients.subset("readout.")
    for update in range(UPDATES):
        batch = task.batch(B, rng, model.dtype)
        h, tape = model.lstm.forward_feature_major(batch.inputs.transpose(1, 2, 0), None, buffers.scope("lstm"))
        logits = model.readout.forward_feature_major(h)
        targets, weights = batch.targets.transpose(1, 2, 0), np.asarray(batch.weights).transpose(1, 2, 0)
        _, d_logits = binary_cross_entropy(logits, targets, weights)
        d_h = model.readout.backward_feature_major(h, d_logits, readout, buffers.scope("readout"))
        model.lstm.backward_feature_major(tape, d_h, None, lstm, buffers.scope("lstm"), need_dx=False)
        clip_by_global_norm(gradients.vector, 0.25)
        optimizer.update(vector, gradients.vector, state, 0.03 * (1 - update / UPDATES))


def seconds(run: Callable[[], object]) -> float:
    """Measure one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def ratio(a: Callable[[], object], b: Callable[[], object]) -> float:
    """Return the median of time(a) / time(b) over alternating rounds."""
    seconds(a), seconds(b)
    return statistics.median(seconds(a) / seconds(b) for _ in range(ROUNDS))


def loop_against_hand() -> float:
    """Train the copy task with `fit`, and by hand."""
    task = gc.tasks.Copy(8)
    fitted, written = gc.CopyLSTM(32, seed=0), gc.CopyLSTM(32, seed=0)
    return ratio(
        lambda: gc.fit(fitted, task, UPDATES, evaluate_every=UPDATES + 1),
        lambda: with_one_blas_thread(lambda: by_hand(written, task)),
    )


def ragged_against_equal() -> float:
    """Train a classifier on sequences of 20 to 60 steps, and on as many of 40."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(20, 61, 2048)
    y = rng.integers(0, 4, 2048)
    ragged = [rng.normal(size=(int(T), 8)) for T in lengths]
    equal = rng.normal(size=(2048, round(lengths.mean()), 8))

    def train(x: object) -> None:
        model = gc.Sequential([gc.LSTM(8, 64), gc.layers.FinalState(), gc.Linear(64, 4)])
        gc.fit(model, (x, y), epochs=1, loss="categorical_cross_entropy", batch_size=B)

    return ratio(lambda: train(ragged), lambda: train(equal))


if __name__ == "__main__":
    print(f"fit / a loop by hand: {loop_against_hand():.3f}", flush=True)
    print(f"ragged / equal lengths of the same mean: {ragged_against_equal():.3f}", flush=True)
