"""Ten seeds of each copy task, with the defaults: do they all learn it, on sequences that they never saw?

    python benchmarks/copy_seeds.py

Bars: width 8, recall, 32 units: every held-out sequence copied exactly within 3000 updates. Width 16: at least 99.9 %
of held-out bits within 6000. Echo: every sequence. Exits with 1 if a seed misses.
"""

import argparse
import sys
import time

import glasscell as gc

CASES = {
    "recall, width 8, 32 units": (gc.tasks.Copy(8), 32, 3000, {"exact": 1.0}),
    "recall, width 16, 64 units": (gc.tasks.Copy(16), 64, 6000, {"bits": 0.999}),
    "echo, width 8, 32 units": (gc.tasks.Copy(8, "echo"), 32, 3000, {"exact": 1.0}),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    options = parser.parse_args()
    missed = 0
    for name, (task, hidden_size, steps, bar) in CASES.items():
        if options.only not in name:
            continue
        held_out = task.held_out_batch()
        passed = 0
        for seed in range(options.seeds):
            model = gc.CopyLSTM(hidden_size, task=task, seed=seed)
            start = time.perf_counter()
            gc.fit(model, task, steps, seed=seed)
            seconds = time.perf_counter() - start
            scores = model.evaluate(held_out)
            passed += all(scores[score] >= value for score, value in bar.items())
            print(
                f"{name}   seed {seed}   {steps} updates   {seconds:5.1f} s   held-out: "
                f"exact {scores['exact']:.2%}   bits {scores['bits']:.3%}   loss {scores['loss']:.4f}",
                flush=True,
            )
        print(f"{name}: {passed} of {options.seeds}\n")
        missed += options.seeds - passed
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
