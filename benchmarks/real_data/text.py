"""Language models on tiny Shakespeare and War and Peace: losses, times, and baselines, as Markdown tables.

    python benchmarks/real_data/text.py --only shakespeare --seeds 5

Cases: `shakespeare` (2 × 128, both splits), `warpeace` (1 × 128, 80/10/10 by streams), `words` (Zaremba's small model
on the words of War and Peace, with PyTorch in the same set-up). `warpeace` is evaluated on its test part, which no
setting was chosen on; the others on the validation part, which also selects the best epoch, as in the figures next to
them.

`processor s` is the processor time of training, summed over threads: with one thread, the seconds on a quiet core.
"""

import argparse
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import glasscell as gc
from glasscell import schedules
from glasscell.core.buffers import BufferPool
from glasscell.data import TextData
from glasscell.data.metrics import loss_function
from glasscell.data.text.text_data import Split
from glasscell.training.evaluation import evaluate

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SHAKESPEARE, WARPEACE = "tinyshakespeare/input.txt", "warpeace/warpeace_input.txt"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cases = {"shakespeare": shakespeare, "warpeace": warpeace, "words": words}
    parser.add_argument("--only", choices=cases, action="append", help="default: all")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0, help="so that seeds can run apart")
    parser.add_argument("--split", choices=["streams", "tail"], help="of `shakespeare`; default: both")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--epochs", type=int, help="instead of those of the case")
    given = parser.parse_args()
    for case in given.only or cases:
        cases[case](given)
    return 0


class Trained(NamedTuple):
    """Nats per symbol of a trained model, and the seconds and the processor time of its training."""

    nats: float
    seconds: float
    processor: float


def train(model: gc.LanguageModel, data: TextData, part: str, seed: int, **options: Any) -> Trained:
    """Train, print the validation loss of each evaluation, and score a part of the text."""
    start, processor = time.perf_counter(), time.process_time()

    def report(state: gc.TrainingState) -> None:
        row = state.history.rows[-1]
        if "validation_loss" in row:
            nats, seconds = row["validation_loss"], time.perf_counter() - start
            print(f"  update {row['update']}: {nats:.4f} nats, {seconds:.0f} s", file=sys.stderr, flush=True)

    gc.fit(model, data, seed=seed, keep="best", callbacks=[report], **options)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    trained = Trained(score(model, data, part), seconds, processor)
    print(f"  seed {seed}: {trained}", file=sys.stderr, flush=True)
    return trained


def score(model: gc.LanguageModel, data: TextData, part: str) -> float:
    """Return nats per symbol of a part of the text."""
    loss = loss_function("categorical_cross_entropy")
    return evaluate(model, data.parts[part], loss, {}, BufferPool())["loss"]


def seeds_of(given: argparse.Namespace) -> range:
    return range(given.first_seed, given.first_seed + given.seeds)


def train_all(given: argparse.Namespace, data: TextData, part: str, epochs: int, **options: Any) -> list[Trained]:
    """Train and score a model of each seed."""
    models = ((seed, gc.LanguageModel(data.vocabulary, seed=seed, **options)) for seed in seeds_of(given))
    return [train(model, data, part, seed, epochs=epochs) for seed, model in models]


def row(name: str, results: list[Trained]) -> str:
    nats, seconds, processor = zip(*results, strict=True)
    each = ", ".join(f"{value:.4f}" for value in nats)
    times = f"{statistics.median(seconds):.0f} | {statistics.median(processor):.0f}"
    return f"| {name} | {statistics.median(nats):.4f} | {each} | {times} |"


def heading(title: str, data: TextData) -> None:
    print(f"\n## {title}\n\n{data.description}\n")
    print("| model | median nats | seeds | s | processor s |\n| --- | --- | --- | --- | --- |")


def shakespeare(given: argparse.Namespace) -> None:
    """2 × 128 on tiny Shakespeare: 2 and 5 minutes on char-rnn's split, and the end of the file."""
    settings: list[tuple[Split, int, int, dict[str, Any]]] = [  # with the number of streams
        ("streams", 6, 50, {}),
        ("streams", 14, 50, {}),
        ("tail", 16, 32, {"dropout": 0.1}),  # chosen by the last 5 % of the training part
    ]
    for split, epochs, streams, options in settings[1:] if given.epochs else settings:  # not twice with the same epochs
        if given.split not in (None, split):
            continue
        data = TextData.from_files(given.data / SHAKESPEARE, split=split, streams=streams)
        heading(f"tiny Shakespeare, split={split!r}, {given.epochs or epochs} epochs", data)
        results = train_all(given, data, "validation", given.epochs or epochs, **options)
        print(row(f"2 × 128, {options or 'defaults'}", results), flush=True)
        if split == "streams":
            print("| char-rnn, 2 × 128, 50 epochs (a user's run, as reported) | 1.4199 | | | |")
        else:
            print("| a transformer of 10 million weights, the same split (as reported) | 1.47 | | | |", flush=True)


def warpeace(given: argparse.Namespace) -> None:
    """One layer of 128 on the characters of War and Peace, in 80, 10 and 10 % of each stream."""
    data = TextData.from_files(given.data / WARPEACE, normalize=False, validation=0.1, test=0.1)
    epochs = given.epochs or 12
    heading(f"War and Peace, {epochs} epochs, test part", data)
    print(row("1 × 128", train_all(given, data, "test", epochs, num_layers=1)))


# Zaremba et al. (2014), "non-regularized": the loss is summed over 20 steps, clip 5, learning rate 1 = mean over steps,
# clip 5/20, learning rate 20.
STEPS, STREAMS, HIDDEN, RANGE, EPOCHS = 20, 20, 200, 0.1, 3


def words(given: argparse.Namespace) -> None:
    """Zaremba's small model on the words of War and Peace, and PyTorch with the same numbers."""
    options: dict[str, Any] = {"vocabulary_size": 10_000, "streams": STREAMS, "steps": STEPS}
    data = TextData.from_files(given.data / WARPEACE, "words", validation=0.1, **options)
    epochs = given.epochs or EPOCHS
    heading(f"War and Peace, words, {epochs} epochs, learning rate halved after each", data)
    rows: dict[str, list[Trained]] = {"Glasscell": [], "PyTorch": []}
    for seed in seeds_of(given):
        model = gc.LanguageModel(data.vocabulary, HIDDEN, HIDDEN, initial_range=RANGE, seed=seed)
        weights = model.to_torch()
        schedule = schedules.exponential(0.5, data.num_batches)
        zaremba = {"optimizer": gc.SGD(float(STEPS)), "clip_norm": 5 / STEPS, "schedule": schedule}
        rows["Glasscell"].append(train(model, data, "validation", seed, epochs=epochs, **zaremba))
        rows["PyTorch"].append(torch_words(weights, data, seed, epochs))
    for name, results in rows.items():
        perplexity = math.exp(statistics.median(result.nats for result in results))
        print(row(f"{name}, 2 × 200, perplexity {perplexity:.2f}", results), flush=True)


def torch_words(weights: dict[str, Any], data: TextData, seed: int, epochs: int) -> Trained:
    """Train the same model with PyTorch on the same batches; return its best validation loss."""
    import torch
    from torch import nn

    V = len(data.vocabulary)
    embedding, lstm, readout = nn.Embedding(V, HIDDEN), nn.LSTM(HIDDEN, HIDDEN, 2), nn.Linear(HIDDEN, V)
    modules = nn.ModuleDict({"embedding": embedding, "lstm": lstm, "readout": readout})
    modules.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    for name, parameter in lstm.named_parameters():  # the second bias, which adds nothing, is not trained
        parameter.requires_grad_("bias_hh" not in name)
    trained = [parameter for parameter in modules.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1.0)
    rng, start, processor = np.random.default_rng(seed), time.perf_counter(), time.process_time()

    def losses(batch: Any, states: Any) -> tuple[Any, Any]:
        x, y = (torch.from_numpy(np.ascontiguousarray(ids.T)) for ids in (batch.inputs, batch.targets))
        hidden, states = lstm(embedding(x), states)
        logits = readout(hidden).flatten(0, 1)
        return nn.functional.cross_entropy(logits, y.flatten(), reduction="sum"), tuple(s.detach() for s in states)

    best = math.inf
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = 0.5**epoch
        states = None
        for batch in data.batches(STREAMS, rng, np.float32):
            loss, states = losses(batch, states)
            optimizer.zero_grad()
            (loss / STREAMS).backward()
            nn.utils.clip_grad_norm_(trained, 5.0)
            optimizer.step()
        total, count, states = 0.0, 0, None
        with torch.no_grad():
            for batch in data.parts["validation"]:
                loss, states = losses(batch, states)
                total, count = total + float(loss), count + batch.targets.size
        best = min(best, total / count)
        print(f"  PyTorch, epoch {epoch + 1}: {total / count:.4f} nats", file=sys.stderr, flush=True)
    return Trained(best, time.perf_counter() - start, time.process_time() - processor)


if __name__ == "__main__":
    sys.exit(main())
