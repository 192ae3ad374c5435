"""Ablation: a metric of a model over data without interventions, and under each of a list of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from glasscell.core.time_order import Index
from glasscell.core.types import Array
from glasscell.data.batch import Batch
from glasscell.data.metrics import Metric
from glasscell.explain.activations import run_forward
from glasscell.explain.intervening import as_sequence, intervene, intervene_in_batches, resolve, targets
from glasscell.explain.intervention import Intervention, symbol_values
from glasscell.explain.metric_data import Which, named_metric, read_batches, score
from glasscell.validation import finite_array, finite_number, positive_integer, type_name

Group: TypeAlias = "Intervention | Sequence[Intervention]"  # interventions that act together
Interventions: TypeAlias = "Iterable[Group] | Mapping[str, Group]"
SHOWN = 20  # rows of the text of a table
GATES = ("i", "f", "o", "g")


@dataclass(frozen=True, eq=False, repr=False)
class Ablation:
    """A metric under each of n interventions.

    Attributes
    ----------
    metric : str
    baseline : float
        Its value without interventions.
    values : array (n,)
        Its value under each.
    labels : tuple of str
    interventions : tuple of tuple of Intervention
        Those that acted together, for each value.
    sequences : int
        Number of sequences of the data.
    """

    metric: str
    baseline: float
    values: Array
    labels: tuple[str, ...]
    interventions: tuple[tuple[Intervention, ...], ...]
    sequences: int

    @property
    def differences(self) -> Array:
        """Values minus the baseline, (n,)."""
        return self.values - self.baseline

    def to_dict(self) -> dict[str, Any]:
        """Return metric, baseline, number of sequences, and lists of labels, values and differences, as JSON."""
        return {
            "metric": self.metric,
            "baseline": self.baseline,
            "sequences": self.sequences,
            "labels": list(self.labels),
            "values": self.values.tolist(),
            "differences": self.differences.tolist(),
        }

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        rows, rest = np.arange(len(self)), 0
        if len(rows) > SHOWN:
            rest = len(rows) - SHOWN
            rows = np.argsort(-np.abs(self.differences), kind="stable")[:SHOWN]
        width = max([len("intervention"), *(len(self.labels[k]) for k in rows)])
        lines = [
            f"Ablation: {self.metric} {self.baseline:.4g} without interventions, {self.sequences} sequences",
            f"{'intervention':<{width}}  {'value':>9}  {'difference':>10}",
            *(f"{self.labels[k]:<{width}}  {self.values[k]:>9.4g}  {self.differences[k]:>+10.4g}" for k in rows),
            *([f"and {rest} with smaller differences"] if rest else []),
        ]
        return "\n".join(lines)


def ablation(
    model: Any,
    data: Any,
    metric: str | Metric | None = None,
    *,
    interventions: Interventions,
    which: Which = "held_out",
    batch_size: int = 256,
) -> Ablation:
    """Compute a metric without interventions, and under each of a list of them.

    Parameters
    ----------
    model : model or recurrent layer
    data : task, (x, y), ArrayData, Batch, or a list of Batch
        Of a copy task its held-out inputs, see `which`; of other tasks their test sequences; of other sources of
        batches their validation batches.
    metric : str or callable, optional
        A name or function as for :func:`glasscell.fit`, such as "accuracy", the name of a loss of
        :mod:`glasscell.core.losses`, or "loss" for that of the data. Default: the first metric of the data.
    interventions : sequence or mapping
        Each entry an Intervention, or several that act together. The keys of a mapping are the labels. See
        :func:`unit_interventions`, :func:`step_interventions` and :func:`scaled_gates`.
    which : {"held_out", "all"}
        "all": all inputs of a copy task of at most 12 bits, with those of training.
    batch_size : int
        Sequences at a time.

    Returns
    -------
    Ablation

    Raises
    ------
    TypeError, ValueError
        If the data, the metric or an intervention do not exist or do not fit the model.

    Examples
    --------
    >>> import glasscell as gc
    >>> model, task = gc.CopyLSTM(hidden_size=8, seed=0), gc.tasks.Copy(width=4)
    >>> curve = gc.explain.ablation(model, task, interventions=gc.explain.scaled_gates([1.0, 0.5]))
    >>> curve.labels, curve.values.shape
    (('f scaled by 1.0', 'f scaled by 0.5'), (2,))
    """
    groups = _groups(model, interventions)
    batches = read_batches(data, np.dtype(model.dtype), which, positive_integer("batch_size", batch_size))
    name, function = named_metric(metric, data)
    sequences = sum(len(batch.inputs) for batch in batches)
    baseline = score(model, batches, name, function)
    lengths = np.unique(np.concatenate([_lengths(batch) for batch in batches]))
    values = []
    for group in groups.values():
        with intervene(model, *group) if len(batches) == 1 else intervene_in_batches(model, group, lengths):
            values.append(score(model, batches, name, function))
    return Ablation(name, baseline, np.array(values), tuple(groups), tuple(groups.values()), sequences)


def _lengths(batch: Batch) -> Index:
    """Return the numbers of steps of the sequences."""
    B, T = batch.inputs.shape[:2]
    return np.full(B, T) if batch.lengths is None else np.asarray(batch.lengths)


def unit_interventions(
    model: Any,
    data: Any = None,
    *,
    symbols: Sequence[str] = GATES,
    layer: int | str | None = 0,
    direction: Literal["forward", "reverse"] | None = None,
    units: ArrayLike | slice | None = None,
    value: float | Literal["mean"] = 0.0,
    which: Which = "held_out",
) -> list[Intervention]:
    """Return interventions that set one unit of one symbol each: symbol after symbol, of each layer and direction.

    For one layer and direction, ``ablation(...).values.reshape(len(symbols), H)`` is a map of symbols and units.

    Parameters
    ----------
    model : model or recurrent layer
    data
        For "mean", as of :func:`ablation`.
    symbols : sequence of str
        Default: the gates and the candidate of an LSTM.
    layer, direction, units
        As of :class:`Intervention`.
    value : float or "mean"
        "mean": of each unit over the valid steps of all sequences.
    which : {"held_out", "all"}
        As of :func:`ablation`.
    """
    _check_value(value)
    if isinstance(symbols, str):
        raise TypeError(f"symbols must be a sequence of symbols, got {symbols!r}")
    result = []
    for symbol in symbols:
        probe = Intervention(symbol, set=0.0, layer=layer, direction=direction, units=units)
        for target, one in resolve(model, probe):
            means = _means(model, data, symbol, target.name, which) if value == "mean" else None
            for unit in one.units:
                number = float(value if means is None else means[unit])
                result.append(Intervention(symbol, set=number, layer=target.name, units=int(unit)))
    return result


def step_interventions(
    model: Any,
    steps: int | Iterable[int],
    data: Any = None,
    *,
    symbol: str = "h",
    layer: int | str | None = 0,
    direction: Literal["forward", "reverse"] | None = None,
    units: ArrayLike | slice | None = None,
    value: float | Literal["mean"] = 0.0,
    which: Which = "held_out",
) -> list[Intervention]:
    """Return interventions that set a symbol at one step each, of each layer and direction.

    Parameters
    ----------
    model : model or recurrent layer
    steps : int or iterable of int
        Their number, from step 0 on, or the steps.
    data
        For "mean", as of :func:`ablation`.
    symbol : str
    layer, direction, units
        As of :class:`Intervention`.
    value : float or "mean"
        "mean": of each unit over the valid steps of all sequences.
    which : {"held_out", "all"}
        As of :func:`ablation`.
    """
    _check_value(value)
    numbers = list(steps) if isinstance(steps, Iterable) else range(positive_integer("steps", steps))
    result = []
    for target, one in resolve(model, Intervention(symbol, set=0.0, layer=layer, direction=direction, units=units)):
        values: Any = value
        if value == "mean":
            values = _means(model, data, symbol, target.name, which)[one.units]
        result += [Intervention(symbol, set=values, layer=target.name, units=units, steps=t) for t in numbers]
    return result


def _check_value(value: object) -> None:
    if not (isinstance(value, str) and value == "mean"):
        try:
            finite_number("value", value)  # type: ignore[arg-type]
        except TypeError:
            raise TypeError(f"value must be a number or 'mean', got {value!r:.100}") from None


def scaled_gates(
    scales: ArrayLike, symbol: str = "f", *, layer: int | str | None = None, **where: Any
) -> list[Intervention]:
    """Return interventions that multiply a gate in all units by each factor: a curve.

    Parameters
    ----------
    scales : array (n,)
    symbol : str
        Default: the forget gate.
    layer : int or str, optional
        Default: all layers.
    **where
        ``direction``, ``units`` and ``steps`` of :class:`Intervention`.
    """
    factors = finite_array("scales", scales, np.dtype(np.float64))
    if factors.ndim != 1 or not len(factors):
        raise ValueError(f"scales must have shape (n,), got {factors.shape}")
    return [Intervention(symbol, scale=float(factor), layer=layer, **where) for factor in factors]


def _groups(model: Any, interventions: Interventions) -> dict[str, tuple[Intervention, ...]]:
    """Return the interventions that act together, by label."""
    items: list[tuple[str | None, Any]]
    if isinstance(interventions, Mapping):
        items = list(interventions.items())
    elif isinstance(interventions, Iterable):
        items = [(None, entry) for entry in interventions]
    else:
        raise TypeError(f"interventions must be a sequence or a mapping, got {type_name(interventions)}")
    if not items:
        raise ValueError("interventions must be at least one, got none")
    groups: dict[str, tuple[Intervention, ...]] = {}
    for name, entry in items:
        group = tuple(as_sequence(entry))
        texts = [_description(model, one) for one in group]
        label = text = " and ".join(texts) if name is None else str(name)
        while label in groups:
            label = f"{text} ({1 + sum(key.startswith(text) for key in groups)})"
        groups[label] = group
    return groups


def _description(model: Any, one: Intervention) -> str:
    """Return the text of an intervention, with the names of its layers if the model has several."""
    names = ", ".join(target.name for target, _ in resolve(model, one))
    return f"{names}: {one.description()}" if len(targets(model)) > 1 else one.description()


def _means(model: Any, data: Any, symbol: str, layer: str, which: Which) -> Array:
    """Return the mean of each row of a symbol over the valid steps of all sequences, in float64."""
    if data is None:
        raise ValueError("data must be passed for the mean")
    total, count, states = np.zeros(()), 0, None
    for batch in read_batches(data, np.dtype(model.dtype), which, 256):
        lengths = None if batch.lengths is None else batch.lengths.astype(np.intp)
        run = run_forward(model, batch.inputs, states if batch.continues else None, lengths)
        traced, states = next(one for one in run.layers if one.name == layer), run.states
        values = symbol_values(traced, symbol).astype(np.float64)
        valid = np.isfinite(values).all(axis=-1)
        total, count = total + values[valid].sum(axis=0), count + int(valid.sum())
    if not count:
        raise ValueError("data must have at least one valid step for the mean, got none")
    return total / count
