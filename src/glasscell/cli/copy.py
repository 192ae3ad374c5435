"""``glasscell copy``: train an LSTM to copy binary sequences, and show that it copies those it never saw."""

import argparse
import contextlib
import io
import itertools
import shlex
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from glasscell.atomic_files import write_atomically
from glasscell.checkpoint import MODEL_FILE
from glasscell.cli.terminal import mark, program, spaced
from glasscell.core.optimizers import Adam
from glasscell.models.copy_lstm import UNITS_PER_BIT, CopyLSTM
from glasscell.tasks.bits import encode
from glasscell.tasks.copy import MODES, Copy
from glasscell.training import History, fit
from glasscell.validation import positive_integer

if TYPE_CHECKING:
    from argparse import _SubParsersAction

HISTORY_FILE, PICTURE_FILE = "history.csv", "gates.png"
FILES = (MODEL_FILE, HISTORY_FILE, PICTURE_FILE)
DEFAULT_FOLDER = Path("runs/copy")
EXAMPLES = 10


def add_to(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "copy",
        help="train an LSTM to copy binary sequences",
        description="Train an LSTM to copy binary sequences, and show that it copies those it never saw.",
    )
    task = parser.add_argument_group("the task")
    task.add_argument("--width", type=int, default=8, metavar="N", help="bits of a sequence, 1 to 64 (8)")
    task.add_argument(
        "--min-width", type=int, metavar="N", help="bits of the shortest training sequences (half of --width)"
    )
    task.add_argument(
        "--mode",
        choices=MODES,
        default="recall",
        help="recall: give the bits back after the whole sequence (this is the default); echo: at once",
    )
    task.add_argument("--bits-per-step", type=int, default=1, metavar="N", help="bits shown at a time (1)")
    task.add_argument(
        "--noise",
        type=float,
        default=Copy.noise,
        help=f"standard deviation of the noise on the bits that training shows ({Copy.noise})",
    )
    model = parser.add_argument_group("the model")
    model.add_argument("--hidden-size", type=int, metavar="H", help=f"units ({UNITS_PER_BIT} for each bit of --width)")
    model.add_argument("--num-layers", type=int, default=1, metavar="L", help="LSTM layers (1)")
    training = parser.add_argument_group("training")
    training.add_argument("--steps", type=int, default=6000, metavar="N", help="updates (6000)")
    training.add_argument("--batch-size", type=int, default=64, metavar="B", help="sequences an update (64)")
    training.add_argument(
        "--learning-rate", type=float, default=0.03, metavar="RATE", help="of Adam, at first; it falls to 0 (0.03)"
    )
    training.add_argument("--seed", type=int, default=0, help="of weights and batches (0)")
    output = parser.add_argument_group("what is written")
    output.add_argument(
        "--out", type=Path, metavar="FOLDER", help=f"({DEFAULT_FOLDER}, or {DEFAULT_FOLDER}-2, and so on)"
    )
    output.add_argument("--overwrite", action="store_true", help="replace an earlier run in that folder")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Train, show, write."""
    width, k = options.width, options.bits_per_step
    half = max(1, width // k // 2) * k if k > 0 else None  # in whole steps
    min_width = half if options.min_width is None else options.min_width
    task = Copy(width, options.mode, k, min_width, options.noise)
    model = CopyLSTM(options.hidden_size, task=task, num_layers=options.num_layers, seed=options.seed)
    optimizer = Adam(options.learning_rate)
    for name in ("steps", "batch_size"):
        positive_integer(name, getattr(options, name))
    existed = options.out is not None and options.out.exists()
    folder = claim(options.out, overwrite=options.overwrite)

    values = model.parameters.vector.size
    what = f"an LSTM of {model.hidden_size} units ({values} weights)"
    print(f"Training {what} to copy {task.width}-bit integers, mode {task.mode}.", flush=True)
    start = time.perf_counter()
    try:
        history = fit(
            model,
            task,
            options.steps,
            batch_size=options.batch_size,
            optimizer=optimizer,
            progress=True,
            seed=options.seed,
        )
        seconds = time.perf_counter() - start
        folder, written = write(model, history, folder, overwrite=options.overwrite)
    finally:
        if not existed:
            with contextlib.suppress(OSError):  # it is not empty, and stays
                folder.rmdir()
    print(f"{history.updates} updates in {seconds:.1f} s.\n")
    show(model)
    print(f"Written to {folder}: {', '.join(written)}")
    if PICTURE_FILE not in written:
        print("No picture of the gates: Matplotlib is not installed (pip install 'glasscell[plot]').")
    sequence = "".join(map(str, np.arange(task.width) % 3 % 2))
    print(f"Now try your own: {program()} try {shlex.quote(str(folder))} {sequence}")
    print(f"Or look inside:   {program()} inspect {shlex.quote(str(folder))} --input {sequence}")


def claim(folder: Path | None, *, overwrite: bool) -> Path:
    """The folder to write to, made and found writable; never one that holds a run, unless told so."""
    try:
        if folder is None and not overwrite:
            return new_folder(DEFAULT_FOLDER)
        folder = folder or DEFAULT_FOLDER
        if earlier_run(folder) and not overwrite:
            files = ", ".join(earlier_run(folder))
            raise ValueError(f"{folder} holds an earlier run ({files}): give another --out, or --overwrite")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ValueError(f"cannot write to the folder {folder or DEFAULT_FOLDER}: {error.strerror}") from None


def new_folder(like: Path) -> Path:
    """That folder, or the first of …-2, …-3, … that is not there yet: made, so that no other run takes it."""
    like.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = like if number == 1 else like.with_name(f"{like.name}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            break
    return folder


def earlier_run(folder: Path) -> list[str]:
    """The files of a run that lie in the folder."""
    return [name for name in FILES if (folder / name).exists()]


def show(model: CopyLSTM) -> None:
    """Held-out integers, what the model made of them, and how good that is."""
    task = model.task
    integers = task.held_out_integers()
    examples = [int(n) for n in integers[:EXAMPLES]]
    shown = encode(examples, task.width)
    returned = model.copy(shown)
    digits, columns = len(str(2**task.width - 1)), max(2 * task.width - 1, len("given back"))
    print(f"Integers that training never drew ({len(examples)} of {len(integers)}):\n")
    print(f"  {'':>{digits}}   {'shown':<{columns}}   {'given back':<{columns}}")
    for integer, bits, back in zip(examples, shown, returned, strict=True):
        sign = mark(right=bool((bits == back).all()))
        print(f"  {integer:>{digits}}   {spaced(bits):<{columns}}   {spaced(back):<{columns}}   {sign}")
    batch = task.held_out_batch()
    scores = model.evaluate(batch)
    exact = round(scores["exact"] * len(integers))
    print(f"\nHeld-out sequences copied exactly: {exact} of {len(integers)} ({scores['exact']:.1%})")
    guesser = task.memoryless_loss(batch)
    print(f"Loss, nats a bit:  {scores['loss']:.4f} the model,  {guesser:.4f} a guesser without memory\n")


def write(model: CopyLSTM, history: History, folder: Path, *, overwrite: bool) -> tuple[Path, list[str]]:
    """The files of the run, each whole or not at all; returns where, and which."""
    picture = io.BytesIO()
    if find_spec("matplotlib"):
        from glasscell.trace.figures import plot_gates  # noqa: PLC0415 - Matplotlib is optional

        example = encode(int(model.task.held_out_integers()[0]), model.task.width)
        plot_gates(model, example).savefig(picture, format="png", dpi=120)
    if earlier_run(folder) and not overwrite:  # of another run, while this one trained
        folder = new_folder(folder)
    model.save(folder / MODEL_FILE)
    history.save(folder / HISTORY_FILE)
    if not picture.getvalue():
        (folder / PICTURE_FILE).unlink(missing_ok=True)  # of the run that is replaced
        return folder, [MODEL_FILE, HISTORY_FILE]
    write_atomically(folder / PICTURE_FILE, picture.getvalue())
    return folder, list(FILES)
