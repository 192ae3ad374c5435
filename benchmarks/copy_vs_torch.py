"""Time Glasscell and an equivalent PyTorch script from process start to a solved copy task, interleaved.

    python benchmarks/copy_vs_torch.py

Both train 32 units to recall 8-bit integers: the same batches, initial weights, Adam, clipping and schedule; what
differs is the engine. Solved is: every held-out integer is copied exactly, looked at every 25 updates. PyTorch runs at
each thread count; for each seed the faster run counts. Needs ``pip install torch==2.13.0``. Exits with 1 if ours takes
more than half the time, or a run does not end solved.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

import numpy as np

HIDDEN_SIZE, WIDTH, BATCH_SIZE, STEPS, EVERY = 32, 8, 64, 3000, 25
LEARNING_RATE, CLIP_NORM = 0.03, 0.25
BAR = 0.5


def solve_with_glasscell(seed: int) -> tuple[int, float]:
    """Return the number of updates, and the fraction of held-out sequences copied exactly."""
    import glasscell as gc

    task = gc.tasks.Copy(WIDTH)
    held_out = task.held_out_batch()
    model = gc.CopyLSTM(HIDDEN_SIZE, task=task, seed=seed)

    def solved(moment: gc.Moment) -> bool:
        return moment.history.updates % EVERY == 0 and model.evaluate(held_out)["sequence_accuracy"] == 1

    history = gc.fit(
        model,
        task,
        STEPS,
        batch_size=BATCH_SIZE,
        optimizer=gc.Adam(LEARNING_RATE),
        schedule=gc.schedules.linear(STEPS),
        clip_norm=CLIP_NORM,
        evaluate_every=STEPS,
        callbacks=[solved],
        seed=seed,
    )
    return history.updates, model.evaluate(held_out)["sequence_accuracy"]


def solve_with_torch(seed: int, threads: int) -> tuple[int, float]:
    """Train nn.LSTM with the batches and initial weights of Glasscell."""
    import torch

    import glasscell as gc

    torch.set_num_threads(threads)
    task = gc.tasks.Copy(WIDTH)
    lstm = torch.nn.LSTM(task.input_size, HIDDEN_SIZE, batch_first=True)
    readout = torch.nn.Linear(HIDDEN_SIZE, task.output_size)
    network = torch.nn.ModuleDict({"lstm": lstm, "readout": readout})
    start = gc.CopyLSTM(HIDDEN_SIZE, task=task, seed=seed).to_torch()
    network.load_state_dict({name: torch.from_numpy(array) for name, array in start.items()})
    parameters = list(network.parameters())
    optimizer = torch.optim.Adam(parameters, LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, gc.schedules.linear(STEPS))
    rng = np.random.default_rng(seed)

    held_out = task.held_out_batch()

    @torch.no_grad()
    def exact() -> float:
        logits = readout(lstm(torch.from_numpy(held_out.inputs))[0]).numpy()
        right = (logits > 0) == (held_out.targets > 0)
        return float((right | (held_out.weights == 0)).all(axis=(1, 2)).mean())

    for update in range(1, STEPS + 1):
        inputs, targets, weights = map(torch.from_numpy, task.batch(BATCH_SIZE, rng)[:3])
        logits = readout(lstm(inputs)[0])
        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, weight=weights, reduction="sum")
        optimizer.zero_grad()
        (losses / weights.sum()).backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.step()
        schedule.step()
        if update % EVERY == 0 and exact() == 1:
            break
    return update, exact()


def timed(engine: str, seed: int, threads: int = 1) -> tuple[float, int, float]:
    command = [sys.executable, __file__, "--solve", engine, "--seed", str(seed), "--threads", str(threads)]
    start = time.perf_counter()
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds = time.perf_counter() - start
    updates, exact = output.split()
    return seconds, int(updates), float(exact)


def compare(seeds: int) -> int:
    threads = range(1, (os.cpu_count() or 1) + 1)
    rivals = ["glasscell", *(f"torch, {n} thread{'s' * (n > 1)}" for n in threads)]
    times: dict[str, list[float]] = {name: [] for name in rivals}
    solved = True
    timed("glasscell", 0), timed("torch", 0)  # files into the cache
    for seed in range(seeds):
        for name in rivals:
            engine, n = name.split(",")[0], int(name.split()[1]) if "," in name else 1
            seconds, updates, exact = timed(engine, seed, n)
            times[name].append(seconds)
            solved &= exact == 1
            print(
                f"seed {seed}   {name:<17} {seconds:6.2f} s   {updates:4} updates   held-out copied {exact:.1%}",
                flush=True,
            )
    print()
    for name, seconds in times.items():
        print(f"{name:<17} median {statistics.median(seconds):5.2f} s   from {min(seconds):.2f} to {max(seconds):.2f}")
    fastest = [min(seconds) for seconds in zip(*(times[name] for name in rivals[1:]), strict=True)]
    ratios = sorted(a / b for a, b in zip(times["glasscell"], fastest, strict=True))
    ratio = statistics.median(ratios)
    print(f"Glasscell / PyTorch: {ratio:.2f}   (seeds from {ratios[0]:.2f} to {ratios[-1]:.2f}; bar {BAR})")
    return int(ratio > BAR or not solved)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--solve", choices=("glasscell", "torch"), help="one run, as the comparison starts it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.solve is None:
        return compare(options.seeds)
    solved = (
        solve_with_torch(options.seed, options.threads)
        if options.solve == "torch"
        else solve_with_glasscell(options.seed)
    )
    print(*solved)
    return 0


if __name__ == "__main__":
    sys.exit(main())
