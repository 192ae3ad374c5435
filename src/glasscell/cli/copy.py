"""Implement ``glasscell copy``: train an LSTM to copy binary sequences, and test it on held-out sequences."""

import argparse
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from glasscell.atomic_files import KINDS, write_atomically
from glasscell.checkpoint import MODEL_FILE
from glasscell.cli.copy_advice import advice
from glasscell.cli.outputs import error_reason, path_argument, picture
from glasscell.cli.parser import add_on_failure, add_run_folder, typed_name
from glasscell.cli.run_history import HISTORY_FILE
from glasscell.cli.sequence_options import option_of
from glasscell.cli.sizes import BYTES_PER_HISTORY_ROW, check_layers, check_memory, training_bytes
from glasscell.cli.terminal import check_mark, counted, format_bits, program_name
from glasscell.cli.training_run import TrainingRun
from glasscell.core.optimizers import Adam
from glasscell.core.packages import is_installed
from glasscell.models.copy_lstm import HIDDEN_UNITS_PER_BIT, CopyLSTM
from glasscell.tasks.binary import encode
from glasscell.tasks.copy import MODES, Copy
from glasscell.training.fitting import fit
from glasscell.training.history import History
from glasscell.validation import non_negative_integer, non_negative_number, positive_integer

if TYPE_CHECKING:
    from argparse import _SubParsersAction

PICTURE_FILE = "gates.png"
FILES = {  # names of the files of a run, and predicates of their first bytes
    MODEL_FILE: KINDS[".safetensors"],
    HISTORY_FILE: lambda head: head.startswith((b"update,", b"step,")),
    PICTURE_FILE: KINDS[".png"],
}
DEFAULT_FOLDER = Path("runs/copy")
EXAMPLES = 10
UPDATES = ("--updates", "--steps")  # the second name is that of earlier versions


def add_to(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "copy",
        help="train an LSTM to copy binary sequences",
        description="Train an LSTM to copy binary sequences, and test it on sequences that training does not use.",
    )
    task = parser.add_argument_group("task")
    task.add_argument("--width", type=int, default=8, metavar="N", help="bits per sequence, 1 to 64 (default 8)")
    task.add_argument(
        "--min-width", type=int, metavar="N", help="bits of the shortest training sequences (default: half of --width)"
    )
    task.add_argument(
        "--mode",
        choices=MODES,
        default="recall",
        help="recall (default): output the bits after the whole sequence; echo: output each bit at its step",
    )
    task.add_argument("--bits-per-step", type=int, default=1, metavar="N", help="bits per step (default 1)")
    task.add_argument(
        "--noise",
        type=float,
        default=Copy.noise,
        help=f"standard deviation of the noise that training adds to the input bits (default {Copy.noise})",
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--hidden-size", type=int, metavar="H", help=f"hidden units (default {HIDDEN_UNITS_PER_BIT} per bit of --width)"
    )
    model.add_argument("--num-layers", type=int, default=1, metavar="L", help="LSTM layers (default 1)")
    training = parser.add_argument_group("training")
    training.add_argument(*UPDATES, type=int, default=6000, metavar="N", help="number of updates (default 6000)")
    training.add_argument("--batch-size", type=int, default=64, metavar="B", help="sequences per update (default 64)")
    training.add_argument(
        "--learning-rate",
        type=float,
        default=0.03,
        metavar="RATE",
        help="initial learning rate of Adam, which decreases to 0 (default 0.03)",
    )
    training.add_argument("--seed", type=int, default=0, help="seed of weights and batches (default 0)")
    add_on_failure(training)
    add_run_folder(parser.add_argument_group("output"), str(DEFAULT_FOLDER), path_argument)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train, write the model, and only then print and draw results."""
    model, task, optimizer = _make_training(options)
    values = model.parameters.vector.size
    description = f"an LSTM of {model.hidden_size} units ({values} weights)"
    with TrainingRun(options, FILES, DEFAULT_FOLDER) as training_run:
        training_run.reserve_space(model)
        print(f"Training {description} to copy {task.width}-bit integers, mode {task.mode}.", flush=True)
        start = time.perf_counter()
        history = training_run.train(
            fit,
            model,
            task,
            options.updates,
            batch_size=options.batch_size,
            optimizer=optimizer,
            progress=True,
            seed=options.seed,
        )
        seconds = time.perf_counter() - start
        training_run.save(model, history, {})
        _show_run(model, history, seconds, training_run)
        return training_run.end()


def _make_training(options: argparse.Namespace) -> tuple[CopyLSTM, Copy, Adam]:
    """Return the model, task and optimiser of the options."""
    task = _make_task(options)
    positive_integer(typed_name(UPDATES, options.arguments), options.updates)
    for name in ("num_layers", "batch_size"):
        positive_integer(option_of(name), getattr(options, name))
    H = task.width * HIDDEN_UNITS_PER_BIT if options.hidden_size is None else options.hidden_size
    positive_integer("--hidden-size", H)
    non_negative_number("--learning-rate", options.learning_rate)
    non_negative_integer("--seed", options.seed)
    L, T = options.num_layers, 2 * task.width // task.bits_per_step + 1
    check_layers("--num-layers", L)
    check_memory("this training", training_bytes(task.input_size, H, L, T, options.batch_size))
    check_memory(f"the history of {options.updates} updates", options.updates * BYTES_PER_HISTORY_ROW)
    model = CopyLSTM(options.hidden_size, task=task, num_layers=L, seed=options.seed)
    return model, task, Adam(options.learning_rate)


def _make_task(options: argparse.Namespace) -> Copy:
    """Return the task; an error names options, not the arguments of :class:`Copy`."""
    width, k = options.width, options.bits_per_step
    half = max(1, width // k // 2) * k if k > 0 else None  # a multiple of the bits per step
    min_width = half if options.min_width is None else options.min_width
    try:
        return Copy(width, options.mode, k, min_width, options.noise)
    except ValueError as error:
        words = str(error).split(" ")
        raise ValueError(
            " ".join(option_of(word) if word in Copy.__dataclass_fields__ else word for word in words)
        ) from None


def _show_run(model: CopyLSTM, history: History, seconds: float, training_run: TrainingRun) -> None:
    """Print the results, draw the picture, and complete the folder."""
    failures = training_run.failures
    print(f"{counted(history.updates, 'update')} in {seconds:.1f} s.\n")
    try:
        print_samples(model, history)
    except Exception as error:  # noqa: BLE001 - whatever it is, the model is kept
        training_run.interrupts.check()
        failures.append(f"the table could not be printed: {error_reason(error)}")
    drawn = False
    try:
        drawn = draw(model, training_run.folder.folder)
    except Exception as error:  # noqa: BLE001
        training_run.interrupts.check()
        failures.append(f"{PICTURE_FILE} could not be drawn: {error_reason(error)}")
    else:
        if not drawn:
            print("No picture of the gates: Matplotlib is not installed (pip install 'glasscell[plot]').")
    print(training_run.finish())
    folder = training_run.folder.display_path
    sequence = "".join(map(str, np.arange(model.task.width) % 3 % 2))
    print(f"Run it:      {program_name()} predict {shlex.quote(str(folder))} {sequence}")
    print(f"Look inside: {program_name()} inspect {shlex.quote(str(folder))} --input {sequence}")


def print_samples(model: CopyLSTM, history: History) -> None:
    """Print held-out integers, the model's outputs and its scores, and advice after a training that did not learn."""
    task = model.task
    integers = task.held_out_integers()
    examples = [int(n) for n in integers[:EXAMPLES]]
    sequences = encode(examples, task.width)
    outputs = model.copy(sequences)
    digits, columns = len(str(2**task.width - 1)), max(2 * task.width - 1, len("output"))
    print(f"Held-out integers, which are not in the training data ({len(examples)} of {len(integers)}):\n")
    print(f"  {'':>{digits}}   {'input':<{columns}}   {'output':<{columns}}")
    for integer, bits, output in zip(examples, sequences, outputs, strict=True):
        mark = check_mark(right=bool((bits == output).all()))
        print(f"  {integer:>{digits}}   {format_bits(bits):<{columns}}   {format_bits(output):<{columns}}   {mark}")
    batch = task.held_out_batch()
    scores = model.evaluate(batch)
    exact = round(scores["sequence_accuracy"] * len(integers))
    print(f"\nHeld-out sequences copied exactly: {exact} of {len(integers)} ({scores['sequence_accuracy']:.1%})")
    baseline = task.memoryless_baseline_loss(batch)
    print(f"Loss, nats per bit: {scores['loss']:.4f}; without memory it would be at least {baseline:.4f}")
    print("\n".join([*advice(history, scores["loss"], baseline, is_exact=exact == len(integers)), ""]))


def draw(model: CopyLSTM, folder: Path) -> bool:
    """Write the picture of the gates, and return whether Matplotlib is installed."""
    if not is_installed("matplotlib"):
        return False
    from glasscell.trace.figures import plot_gates  # noqa: PLC0415 - Matplotlib is optional

    example = encode(int(model.task.held_out_integers()[0]), model.task.width)
    content = picture(lambda: plot_gates(model, example), ".png", dpi=120)
    write_atomically(folder / PICTURE_FILE, content, (".png",))
    return True
