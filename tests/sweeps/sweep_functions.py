"""Training functions of the tests, at the top level of a module, which other processes import; what rows have."""

import math
import os
import time
from pathlib import Path

import numpy as np

import glasscell as gc


def scores(seed, width=1, rate=0.5):
    """Return scores of every kind, without training."""
    rng = np.random.default_rng([seed, width])
    value = rng.normal() * rate
    return {"loss": np.float64(value), "half": np.float32(value), "count": np.int64(seed), "nan": math.nan} | {
        "infinite": -math.inf,
        "zero": -0.0,
        "solved": np.bool_(value > 0),
        "name": f"é\n{seed}",
        "nothing": None,
    }


def copy(seed, hidden_size):
    """Train on the copy task of two bits."""
    task = gc.tasks.Copy(2)
    model = gc.CopyLSTM(hidden_size, task=task, seed=seed)
    history = gc.fit(model, task, updates=4, evaluate_every=2, seed=seed)
    return {**model.evaluate(task.held_out_batch()), "batch": history["loss"][-1]}


def history(seed, hidden_size=2):
    task = gc.tasks.Copy(2)
    model = gc.CopyLSTM(hidden_size, task=task, seed=seed)
    return gc.fit(model, task, updates=6, evaluate_every=2, seed=seed)


def odd_seeds_fail(seed, width=1):
    if seed % 2:
        raise ArithmeticError(f"seed {seed} is odd")
    return {"width": width}


def odd_seeds_fail_if(seed, path):
    if seed % 2 and not Path(path).exists():
        raise ArithmeticError(f"seed {seed} is odd")
    return {"seed": seed}


def dies(seed):
    if seed == 2:
        time.sleep(0.3)  # the rows before are there
        os._exit(3)
    return {"seed": seed}


def slow(seed, width=1):
    time.sleep(0.02)
    return {"loss": float(np.random.default_rng([seed, width]).normal())}


def without_seconds(result):
    """Return the rows except durations, as text: NaN differs from itself, and -0.0 equals 0.0."""
    return repr([{name: value for name, value in row.items() if name != "seconds"} for row in result.rows])
