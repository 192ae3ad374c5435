"""Relay: which units carry the information of an input at each step, and hand it on, by activation patching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core.types import Array
from glasscell.explain.activations import run_forward, with_features
from glasscell.explain.label_index import label_index
from glasscell.explain.model_inputs import ModelInputs
from glasscell.explain.patching import Patching
from glasscell.explain.places import (
    Input,
    Output,
    Places,
    Replacement,
    Replacer,
    has_output,
    num_symbols,
    read_inputs,
    read_outputs,
)
from glasscell.explain.samples import Which, hash_order, read_samples
from glasscell.explain.sentences import relay_sentence
from glasscell.validation import finite_number, positive_integer

SEQUENCES = 64  # enough for shares within a few hundredths
HANDOVER_SHARE = 0.02  # smallest share of a handover in the list of them


class Handover(NamedTuple):
    """Information that one unit passes to another: `share` of the change of the output, from `step` to the next one."""

    step: int
    source: int
    target: int
    share: float


class Stretch(NamedTuple):
    """Steps in a row at which one unit carries the largest share: at each of them at least `share`."""

    unit: int
    first: int
    last: int
    share: float


@dataclass(frozen=True, eq=False, repr=False)
class Relay:
    """Which units carry the information of each input, and to which units they pass it.

    Attributes
    ----------
    labels : tuple of str
        Names of the K inputs.
    carried : array (K, T, H)
        Share of the change of the output that appears if c of one unit at one step is that of the other input:
        Σ s (y_patched - y) / Σ abs(y' - y), where s is the sign of y' - y. Negative: the unit opposes the change. 0
        before the cells change and after the output.
    together : array (K, T)
        The same share if c of all units of the layer at one step is that of the other input. What is missing to 1
        passes the step by another way, such as the hidden state, another layer or direction.
    edges : array (K, T, H, H)
        ``edges[k, t, u, v]``: share that unit u at step t passes to unit v at the step that is processed next: the
        share that v carries there, times the part of v's change that the patch of u alone brings about, by least
        squares over the sequences. The diagonal is the share that a unit keeps.
    effect : array (K,)
        Mean of abs(y' - y).
    written_at, read_at : array (K,) of int
        The first step, in the order of processing, at which the cells change, and the step of the output; -1: never,
        and one output for the whole sequence.
    input_places, output_places : tuple
        Step and feature of each.
    sequences : array (K,) of int
        Number of sequences with each input and its output.
    layer, source : str
        Name of the layer, and where the sequences come from.
    """

    labels: tuple[str, ...]
    carried: Array
    together: Array
    edges: Array
    effect: Array
    written_at: NDArray[np.intp]
    read_at: NDArray[np.intp]
    input_places: tuple[Input, ...]
    output_places: tuple[Output, ...]
    sequences: NDArray[np.intp]
    layer: str
    source: str

    def handovers(self, label: int | str, smallest: float = HANDOVER_SHARE) -> list[Handover]:
        """Return what different units pass to each other, at least this share, from the largest to the smallest.

        Parameters
        ----------
        label : int or str
            Number or name of the label.
        smallest : float

        Raises
        ------
        TypeError, ValueError
            If the label does not exist, or the share is not a finite number.
        """
        k = label_index("label", label, self.labels)
        edges = self.edges[k] * (1 - np.eye(self.edges.shape[-1]))
        places = np.argwhere(edges >= finite_number("smallest", smallest)).tolist()
        found = [Handover(t, u, v, float(edges[t, u, v])) for t, u, v in places]
        return sorted(found, key=lambda one: -one.share)

    def path(self, label: int | str) -> list[Stretch]:
        """Return the unit with the largest share at each step, from the first change of the cells to the output.

        Steps at which no unit has a positive share are left out. The largest share may be small: compare `together`.

        Parameters
        ----------
        label : int or str
            Number or name of the label.

        Returns
        -------
        list of Stretch
            In the order of processing.

        Raises
        ------
        TypeError, ValueError
            If the label does not exist.
        """
        k = label_index("label", label, self.labels)
        first, T = int(self.written_at[k]), len(self.carried[k])
        last = int(self.read_at[k]) if self.read_at[k] >= 0 else T - 1
        path: list[Stretch] = []
        by = 1 if first <= last else -1
        for t in range(first, last + by, by) if first >= 0 else ():
            unit = int(self.carried[k, t].argmax())
            share = float(self.carried[k, t, unit])
            if share > 0 and path and path[-1].unit == unit and path[-1].last == t - by:
                path[-1] = path[-1]._replace(last=t, share=min(path[-1].share, share))
            elif share > 0:
                path.append(Stretch(unit, t, t, share))
        return path

    def sentence(self, label: int | str) -> str:
        """Return the path of an input in words, by the rules of :mod:`glasscell.explain.sentences`.

        Parameters
        ----------
        label : int or str
            Number or name of the label.

        Raises
        ------
        TypeError, ValueError
            If the label does not exist.
        """
        k = label_index("label", label, self.labels)
        output = self.output_places[k]
        read = f"step {output.step}" if output.step is not None else output.name
        steps = int(self.written_at[k]), int(self.read_at[k])
        return relay_sentence(self.labels[k], self.carried[k], *steps, read)

    def __repr__(self) -> str:
        K, T, H = self.carried.shape
        return f"Relay({K} inputs × {T} steps × {H} units: c of {self.layer}; {self.sequences.max()} of {self.source})"


def relay(
    model: Any,
    x: Any,
    *,
    inputs: Places | None = None,
    outputs: Places | None = None,
    replacement: Replacement = None,
    layer: int = -1,
    which: Which | None = None,
    lengths: ArrayLike | None = None,
    sequences: int = SEQUENCES,
    seed: int = 0,
) -> Relay:
    """Return which units carry the information of each input at each step, and hand it on.

    Activation patching: the cell state of one unit at one step is replaced by that of the run with the other input, and
    the change of the output is measured. Vig et al. (2020), "Investigating gender bias in language models using causal
    mediation analysis", call it the indirect effect. It needs one forward pass per input, step and unit, many of which
    are computed together.

    Parameters
    ----------
    model : layer or model
        With an LSTM.
    x, which, lengths
        As in :func:`decodability`.
    inputs, replacement
        As in :func:`dependency`. Default: the bits of a copy task, flipped.
    outputs : sequence of int or (step, output), optional
        The output of each input, or one for all. Default: those of the bits of a copy task.
    layer : int
        As in :func:`decodability`.
    sequences : int
        Largest number of sequences; more are sampled.
    seed : int
        Of the sample, which does not depend on the order of the sequences, and of the other symbols.

    Returns
    -------
    Relay

    Raises
    ------
    TypeError, ValueError
        If an input, output or layer does not exist, the layer is not an LSTM, the replacement does not fit, or no
        sequence has both the input and the output.

    Examples
    --------
    >>> import glasscell as gc
    >>> model = gc.CopyLSTM(8, task=gc.tasks.Copy(width=4))  # not trained
    >>> result = gc.explain.relay(model, model.task, inputs=[(1, 0)], outputs=[(6, 0)])
    >>> result.carried.shape, result.labels
    ((1, 9, 8), ('step 1, feature 0',))
    """
    number = positive_integer("sequences", sequences)
    samples = read_samples(model, x, None, lengths, which, needs_labels=False)
    replacer = Replacer(samples, replacement, num_symbols(model), seed)
    input_places = read_inputs(samples, inputs)
    first = samples.rows(slice(0, 1))
    one = run_forward(model, first.inputs, None, first.lengths)
    if outputs is None and not samples.output_places:
        raise ValueError("outputs must be passed, one for each input or one for all, unless x is a copy task")
    output_places = read_outputs(samples, outputs, with_features(model, one.outputs).shape)
    if len(output_places) == 1:
        output_places *= len(input_places)
    if len(output_places) != len(input_places):
        raise ValueError(
            f"outputs must be one for each of the {len(input_places)} inputs, or one for all, got {len(output_places)}"
        )
    order, _ = hash_order(samples, seed)
    outputs_valid = ModelInputs(model, samples.inputs, samples.lengths).outputs_valid
    parts, counts = [], []
    for source, target in zip(input_places, output_places, strict=True):
        has_both = samples.valid[:, source.step] & has_output(outputs_valid, target, len(samples))
        rows = np.sort([n for n in order if has_both[n]][:number]).astype(np.intp)
        if not len(rows):
            raise ValueError(f"x must have sequences with both {source.name} and {target.name}, got none")
        counts.append(len(rows))
        batch = samples.rows(rows)
        parts.append(Patching(model, batch, replacer(source)[rows], target, layer).measure())
    carried, together, edges, effect, written_at, read_at = (np.array(column) for column in zip(*parts, strict=True))
    names = tuple(place.name for place in input_places)
    if inputs is None and samples.labels:
        names = tuple(label.name for label in samples.labels)
    return Relay(
        names,
        *(carried, together, edges, effect, written_at, read_at),
        tuple(input_places),
        tuple(output_places),
        np.array(counts, np.intp),
        one.layer(layer).name,
        samples.source,
    )
