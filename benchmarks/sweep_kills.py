"""Kill a sweep of 40 trainings at random moments, resume it, and compare its rows with those of an undisturbed sweep.

Usage: ``python benchmarks/sweep_kills.py [--kills 5] [--processes 2] [--seed 0]``. Prints the number of rows after each
kill; the exit status is 1 unless there are 40 rows, each once, whose scores have the same bits.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

import glasscell as gc

GRID = {"seeds": 20, "hidden_size": [8, 16]}


def train(seed, hidden_size):
    task = gc.tasks.Copy(4)
    model = gc.CopyLSTM(hidden_size, task=task, seed=seed)
    history = gc.fit(model, task, updates=300, seed=seed)
    return {**model.evaluate(task.held_out_batch()), "batch_loss": history["loss"][-1]}


def child(file, processes):
    """Run the sweep, or what is left of it."""
    with ProcessPoolExecutor(processes, get_context("spawn")) as executor:
        gc.sweep(train, **GRID, executor=executor, file=file, resume=True)


def start(file, processes):
    command = [sys.executable, __file__, "--child", str(file), "--processes", str(processes)]
    return subprocess.Popen(command, start_new_session=True)


def rows_of(file):
    return file.read_bytes().count(b'"seed":') if file.exists() else 0


def finish(process):
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, process.args)


def without_seconds(file):
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    keys = [(json.dumps(row["setting"]), row["seed"]) for row in rows if "seed" in row]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = gc.sweeps.SweepResult.load(file)
    return keys, repr([(row["setting"], row["seed"], row["status"], row["scores"]) for row in result.rows])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.processes)
        return 0
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder, "whole.jsonl"), Path(folder, "killed.jsonl")
        begin = time.perf_counter()
        finish(start(whole, options.processes))
        seconds = time.perf_counter() - begin
        print(f"undisturbed: {len(without_seconds(whole)[0])} rows in {seconds:.1f} s", flush=True)
        targets = sorted(rng.choice(36, options.kills, replace=False))
        for number in range(options.kills):
            process = start(killed, options.processes)
            while rows_of(killed) < targets[number] and process.poll() is None:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, seconds / 40))
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            torn = killed.exists() and not killed.read_bytes().endswith(b"\n")
            print(f"kill {number + 1}: {rows_of(killed)} rows{', and an incomplete one' * torn}", flush=True)
        finish(start(killed, options.processes))
        keys, rows = without_seconds(killed)
        is_equal = rows == without_seconds(whole)[1]
        print(f"resumed: {len(keys)} rows, {len({*keys})} different; scores equal bit by bit: {is_equal}")
        return int(not (len(keys) == len({*keys}) == 40 and is_equal))


if __name__ == "__main__":
    sys.exit(main())
