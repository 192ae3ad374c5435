"""Train ten seeds of each copy task with the defaults, and score them on held-out sequences.

    python benchmarks/copy_seeds.py

Bars: width 8, recall, 32 units: every held-out sequence copied exactly after 3000 updates. Width 16: at least 99.9 % of
held-out bits after 6000. Echo: every sequence. The first update after which all are copied is printed too, looked for
every 25 updates; that first success need not last. Exits with 1 if a seed misses.
"""

import argparse
import sys
import time

import glasscell as gc

CASES = {
    "recall, width 8, 32 units": (gc.tasks.Copy(8), 32, 3000, "sequence_accuracy"),
    "recall, width 16, 64 units": (gc.tasks.Copy(16), 64, 6000, "bit_accuracy"),
    "echo, width 8, 32 units": (gc.tasks.Copy(8, "echo"), 32, 3000, "sequence_accuracy"),
}
EVERY = 25
BARS = {"sequence_accuracy": 1.0, "bit_accuracy": 0.999}


def train(task: gc.tasks.Copy, hidden_size: int, steps: int, seed: int) -> tuple[int | None, dict[str, float]]:
    """Return the first evaluated update with all held-out sequences copied, and the final scores."""
    look = task.held_out_batch(512)
    first = None
    model = gc.CopyLSTM(hidden_size, task=task, seed=seed)

    def watch(moment: gc.TrainingState) -> None:
        nonlocal first
        updates = moment.history.updates
        if first is None and updates % EVERY == 0 and model.evaluate(look)["sequence_accuracy"] == 1:
            first = updates

    gc.fit(model, task, steps, callbacks=[watch], seed=seed)
    return first, model.evaluate(task.held_out_batch())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    options = parser.parse_args()
    missed = 0
    for name, (task, hidden_size, steps, bar) in CASES.items():
        if options.only not in name:
            continue
        passed = early = 0
        for seed in range(options.seeds):
            start = time.perf_counter()
            first, scores = train(task, hidden_size, steps, seed)
            seconds = time.perf_counter() - start
            passed += scores[bar] >= BARS[bar]
            early += first is not None
            print(
                f"{name}   seed {seed}   first all copied after {first} updates; after {steps}: exact "
                f"{scores['sequence_accuracy']:.2%}, bits {scores['bit_accuracy']:.3%}, "
                f"loss {scores['loss']:.4f}   ({seconds:.1f} s)",
                flush=True,
            )
        print(f"{name}: {passed} of {options.seeds}   (all copied at some earlier update: {early})\n")
        missed += options.seeds - passed
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
