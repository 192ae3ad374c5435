"""Matplotlib figures of what happens inside a model. They return the figure and never show it."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core.activations import sigmoid
from glasscell.core.typing import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from glasscell.models import CopyLSTM

ROWS = {
    "i": "input gate $i$\nwhat to write",
    "f": "forget gate $f$\nwhat to keep",
    "o": "output gate $o$\nwhat to show",
    "g": "candidate $g$\nwhat could be written",
    "c": "cell state $c$",
}
INK, MUTED = "#1f2933", "#7b8794"


def plot_gates(model: "CopyLSTM", bits: ArrayLike) -> "Figure":
    """Input, output, gates and cell state of every hidden unit of the last layer, over time, for one sequence.

    Units are sorted by the step at which their cell state is largest, so that what is written early is on top.

    Parameters
    ----------
    model : CopyLSTM
    bits : array of 0 and 1, (n,)

    Returns
    -------
    matplotlib.figure.Figure
        Save it with ``figure.savefig(path)``.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    payload = model.task.payload(bits)
    if payload.ndim != 1 or not payload.size:
        raise ValueError(f"bits have shape {payload.shape}; expected one sequence, (n,) with n ≥ 1")
    batch = model.task.present([payload[None]], model.dtype)
    logits, _, tape = model.forward(batch.inputs)
    top = tape.lstm.layers[-1]
    T, H = top.T, top.H
    units = np.argsort(np.abs(top.c[:, :, 0]).argmax(axis=0), kind="stable")

    figure = Figure(figsize=(min(24, 3.4 + 0.34 * T), 11), layout="constrained")
    k = model.task.bits_per_step
    heights = [0.5 * (k + 1), *[3] * len(ROWS), 0.5 * k]
    shown, *rows, answered = figure.subplots(2 + len(ROWS), 1, sharex=True, height_ratios=heights)
    _draw_bits(shown, batch.inputs[0].T, [*_bit_names(k), "delimiter"])
    _draw_answer(answered, logits[0].T, batch.targets[0].T, batch.weights[0, :, 0] > 0, _bit_names(k))
    for axes, (name, label) in zip(rows, ROWS.items(), strict=True):
        values = getattr(top, name)[:, units, 0].T  # (H, T)
        is_gate = name in "ifo"
        limit = 1.0 if name == "g" else float(max(1.0, np.abs(values).max(initial=0)))
        image = axes.imshow(
            values,
            aspect="auto",
            interpolation="nearest",
            cmap="viridis" if is_gate else "RdBu_r",
            vmin=0 if is_gate else -limit,
            vmax=1 if is_gate else limit,
        )
        figure.colorbar(image, ax=axes, pad=0.01, aspect=12)
        axes.set_ylabel(label, rotation=0, ha="right", va="center", color=INK)
        axes.set_yticks([0, H - 1] if H > 1 else [0])
    for axes in (shown, *rows):
        axes.tick_params(bottom=False)
    answered.set_xlabel("step", color=INK)
    for axes in figure.axes:
        axes.tick_params(labelsize=8, colors=MUTED)
        for spine in axes.spines.values():
            spine.set_visible(False)
    if model.task.mode == "recall":
        for axes in (shown, *rows, answered):
            axes.axvline(T // 2, color=INK, lw=0.8, ls=":")
    right = bool((model.task.answers(logits, payload.size) == payload).all())
    verdict = "every bit right" if right else "not every bit right"
    figure.suptitle(f"An LSTM of {H} units copying {''.join(map(str, payload))}: {verdict}", color=INK)
    return figure


def _bit_names(bits_per_step: int) -> list[str]:
    return ["bit"] if bits_per_step == 1 else [f"bit {k}" for k in range(bits_per_step)]


def _draw_bits(axes: "Axes", values: Array, names: list[str]) -> None:
    """The inputs, a row a channel; silence is left blank."""
    axes.imshow(
        np.where(values == 0, np.nan, values),
        aspect="auto",
        cmap="Greys",
        vmin=-1.6,
        vmax=1.4,
        interpolation="nearest",
    )
    for (row, t), value in np.ndenumerate(values):
        delimiter = row == len(names) - 1
        text = "·" if value == 0 else ("|" if delimiter else str(int(value > 0)))
        axes.text(t, row, text, ha="center", va="center", fontsize=9, color="white" if value > 0 else INK)
    _name_rows(axes, names, "input")


def _draw_answer(axes: "Axes", logits: Array, targets: Array, asked: NDArray[np.bool_], names: list[str]) -> None:
    """What came out where an answer was asked for: the bit on its probability, red where it is wrong."""
    probability = np.where(asked, sigmoid(logits), np.nan)
    axes.imshow(probability, aspect="auto", cmap="Greys", vmin=-0.3, vmax=1.2, interpolation="nearest")
    for (row, t), logit in np.ndenumerate(logits):
        if asked[t]:
            right = (logit > 0) == (targets[row, t] > 0)
            color = ("white" if logit > 0 else INK) if right else "#d64545"
            axes.text(t, row, str(int(logit > 0)), ha="center", va="center", fontsize=9, color=color)
    _name_rows(axes, names, "output")


def _name_rows(axes: "Axes", names: list[str], label: str) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylabel(label, rotation=0, ha="right", va="center", color=INK)
