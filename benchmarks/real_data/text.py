"""Language models on tiny Shakespeare and War and Peace: losses, times, and baselines, as Markdown tables.

    python benchmarks/real_data/text.py --only shakespeare --seeds 5

Cases: `shakespeare` (2 × 128, both splits), `warpeace` (1 × 128, 80/10/10 by streams), `words` (Zaremba's small model
on the words of War and Peace, with PyTorch in the same set-up). `warpeace` is evaluated on its test part, which no
setting was chosen on; the others on the validation part, which also selects the best epoch, as in the figures next to
them.
"""

import argparse
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

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
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--epochs", type=int, help="instead of those of the case")
    given = parser.parse_args()
    for case in given.only or cases:
        cases[case](given)
    return 0


def train(model: gc.LanguageModel, data: TextData, seed: int, **options: Any) -> float:
    """Train, print the validation loss of each evaluation, and return the seconds."""
    start = time.perf_counter()

    def report(state: gc.TrainingState) -> None:
        row = state.history.rows[-1]
        if "validation_loss" in row:
            nats, seconds = row["validation_loss"], time.perf_counter() - start
            print(f"  update {row['update']}: {nats:.4f} nats, {seconds:.0f} s", file=sys.stderr, flush=True)

    gc.fit(model, data, seed=seed, keep="best", callbacks=[report], **options)
    return time.perf_counter() - start


def score(model: gc.LanguageModel, data: TextData, part: str) -> float:
    """Return nats per symbol of a part of the text."""
    loss = loss_function("categorical_cross_entropy")
    return evaluate(model, data.parts[part], loss, {}, BufferPool())["loss"]


def train_and_score(
    data: TextData, part: str, seeds: int, epochs: int, **options: Any
) -> tuple[list[float], list[float]]:
    """Train a model of each seed; return their nats per symbol of a part, and the seconds of training."""
    nats, seconds = list[float](), list[float]()
    for seed in range(seeds):
        model = gc.LanguageModel(data.vocabulary, seed=seed, **options)
        seconds.append(train(model, data, seed, epochs=epochs))
        nats.append(score(model, data, part))
    return nats, seconds


def row(name: str, nats: list[float], seconds: list[float]) -> str:
    each = ", ".join(f"{value:.4f}" for value in nats)
    return f"| {name} | {statistics.median(nats):.4f} | {each} | {statistics.median(seconds):.0f} |"


def heading(title: str, data: TextData) -> None:
    print(f"\n## {title}\n\n{data.description}\n")
    print("| model | median nats | seeds | seconds |\n| --- | --- | --- | --- |")


def shakespeare(given: argparse.Namespace) -> None:
    """2 × 128 on tiny Shakespeare: 2 and 5 minutes on char-rnn's split, and the end of the file."""
    settings: list[tuple[Split, int, dict[str, Any]]] = [
        ("streams", 6, {}),
        ("streams", 14, {}),
        ("tail", 16, {"dropout": 0.25}),
    ]
    for split, epochs, options in settings:
        data = TextData.from_files(given.data / SHAKESPEARE, split=split)
        heading(f"tiny Shakespeare, split={split!r}, {given.epochs or epochs} epochs", data)
        nats, seconds = train_and_score(data, "validation", given.seeds, given.epochs or epochs, **options)
        print(row(f"2 × 128, {options or 'defaults'}", nats, seconds), flush=True)
        if split == "streams":
            print("| char-rnn, 2 × 128, 50 epochs (a user's run, as reported) | 1.4199 | | |")
        else:
            print("| a transformer of 10 million weights, the same split (as reported) | 1.47 | | |", flush=True)


def warpeace(given: argparse.Namespace) -> None:
    """One layer of 128 on the characters of War and Peace, in 80, 10 and 10 % of each stream."""
    data = TextData.from_files(given.data / WARPEACE, normalize=False, validation=0.1, test=0.1)
    epochs = given.epochs or 12
    heading(f"War and Peace, {epochs} epochs, test part", data)
    nats, seconds = train_and_score(data, "test", given.seeds, epochs, num_layers=1)
    print(row("1 × 128", nats, seconds))
    print("| Karpathy et al. 2015, 1 × 128 (remembered) | 1.277 | | |", flush=True)


# Zaremba et al. (2014), "non-regularized": the loss is summed over 20 steps, clip 5, learning rate 1 = mean over steps,
# clip 5/20, learning rate 20.
STEPS, STREAMS, HIDDEN, RANGE, EPOCHS = 20, 20, 200, 0.1, 3


def words(given: argparse.Namespace) -> None:
    """Zaremba's small model on the words of War and Peace, and PyTorch with the same numbers."""
    options: dict[str, Any] = {"vocabulary_size": 10_000, "streams": STREAMS, "steps": STEPS}
    data = TextData.from_files(given.data / WARPEACE, "words", validation=0.1, **options)
    epochs = given.epochs or EPOCHS
    heading(f"War and Peace, words, {epochs} epochs, learning rate halved after each", data)
    rows: dict[str, tuple[list[float], list[float]]] = {"Glasscell": ([], []), "PyTorch": ([], [])}
    for seed in range(given.seeds):
        model = gc.LanguageModel(data.vocabulary, HIDDEN, HIDDEN, initial_range=RANGE, seed=seed)
        weights = model.to_torch()
        schedule = schedules.exponential(0.5, data.num_batches)
        elapsed = train(
            model, data, seed, epochs=epochs, optimizer=gc.SGD(float(STEPS)), clip_norm=5 / STEPS, schedule=schedule
        )
        for name, nats, seconds in (
            ("Glasscell", score(model, data, "validation"), elapsed),
            ("PyTorch", *torch_words(weights, data, seed, epochs)),
        ):
            rows[name][0].append(nats)
            rows[name][1].append(seconds)
    for name, (nats_of_seeds, seconds_of_seeds) in rows.items():
        perplexity = math.exp(statistics.median(nats_of_seeds))
        print(row(f"{name}, 2 × 200, perplexity {perplexity:.2f}", nats_of_seeds, seconds_of_seeds), flush=True)


def torch_words(weights: dict[str, Any], data: TextData, seed: int, epochs: int) -> tuple[float, float]:
    """Train the same model with PyTorch on the same batches; return validation nats and seconds."""
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
    rng, start = np.random.default_rng(seed), time.perf_counter()

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
    return best, time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
