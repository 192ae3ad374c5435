"""One training step beside PyTorch's: forward, loss, backward, clip, Adam, at (I, H, T, B) = (2, 32, 17, 64).

    python benchmarks/training_step.py

Both run in this process, in turns of 20 steps; PyTorch at each thread count, with each of its Adam implementations and
each layout, of which the fastest counts. Needs ``pip install torch==2.13.0``. Exits with 1 under the bar.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

import glasscell as gc
from glasscell.core.optimizers import clip_by_global_norm
from glasscell.models import Workspace

BAR = 1.3
TURN = 20  # steps of one side before the other has its turn


def ours(task: gc.tasks.Copy, batch: gc.tasks.Batch) -> Callable[[], None]:
    model = gc.CopyLSTM(hidden_size=32, task=task)
    optimizer = gc.Adam(1e-2)
    vector = model.parameters.vector
    state = optimizer.start(vector)
    workspace = Workspace(model.parameters)

    def step() -> None:
        _, gradients, _ = model.loss_and_gradients(batch, None, workspace)
        clip_by_global_norm(gradients.vector, 1.0)
        optimizer.update(vector, gradients.vector, state)

    return step


def theirs(batch: gc.tasks.Batch, *, batch_first: bool, fused: bool) -> Callable[[], None]:
    lstm = torch.nn.LSTM(batch.inputs.shape[2], 32, batch_first=batch_first)
    readout = torch.nn.Linear(32, batch.targets.shape[2])
    parameters = [*lstm.parameters(), *readout.parameters()]
    optimizer = torch.optim.Adam(parameters, 1e-2, fused=fused, foreach=not fused)
    parts = [torch.from_numpy(np.ascontiguousarray(part)) for part in batch]
    x, targets, weights = parts if batch_first else [part.transpose(0, 1).contiguous() for part in parts]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        hidden, _ = lstm(x)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(readout(hidden), targets, weight=weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return step


def seconds_a_step(step: Callable[[], None], threads: int = 1) -> float:
    torch.set_num_threads(threads)
    step()
    start = time.perf_counter()
    for _ in range(TURN):
        step()
    return (time.perf_counter() - start) / TURN


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=60)
    turns = parser.parse_args().turns
    task = gc.tasks.Copy(width=8)
    batch = task.batch(64, np.random.default_rng(0))
    torch.manual_seed(0)
    step = ours(task, batch)
    rivals = {
        f"threads={threads} fused={fused} batch_first={batch_first}": (
            theirs(batch, batch_first=batch_first, fused=fused),
            threads,
        )
        for threads in range(1, (os.cpu_count() or 1) + 1)
        for fused in (True, False)
        for batch_first in (True, False)
    }
    best = min(rivals, key=lambda name: statistics.median(seconds_a_step(*rivals[name]) for _ in range(15)))
    pairs = [(seconds_a_step(step), seconds_a_step(*rivals[best])) for _ in range(turns)]
    mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = sorted(b / a for a, b in pairs)
    ratio = statistics.median(ratios)
    print(f"one training step at (I, H, T, B) = (2, 32, 17, 64), {turns} turns of {TURN} steps each, medians")
    print(f"  Glasscell {mine * 1e6:7.0f} µs")
    print(f"  PyTorch   {other * 1e6:7.0f} µs   ({torch.__version__}, {best})")
    print(f"  PyTorch / Glasscell: {ratio:.2f}   (turns from {ratios[0]:.2f} to {ratios[-1]:.2f}; bar {BAR})")
    return int(ratio < BAR)


if __name__ == "__main__":
    sys.exit(main())
