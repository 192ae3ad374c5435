"""Data sets of explanations: sequences with labels, where they come from, and their split into two halves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glasscell.core.types import Array
from glasscell.data.batch import AnyArray, Batch
from glasscell.explain.padding import pad_sequences
from glasscell.tasks.binary import encode
from glasscell.tasks.copy import ENUMERABLE_WIDTH, Copy
from glasscell.tasks.generated import EndlessTask
from glasscell.validation import check_not_masked, choice, finite_array, non_negative_integer

Which: TypeAlias = Literal["all", "held_out"]
Labels: TypeAlias = "ArrayLike | Mapping[str, ArrayLike]"
Place: TypeAlias = tuple[int, int]  # (step, feature)

MIN_SEQUENCES = 4  # two in each half: a mean of one value has no variance


class Label(NamedTuple):
    """One value for each sequence, or for each of its steps.

    Attributes
    ----------
    name : str
    values : array (N,) or (N, T)
        Numbers in float64, or class numbers from 0. Those of steps that a sequence does not have are arbitrary.
    classes : tuple
        The value of each class, in order; empty for numbers.
    """

    name: str
    values: NDArray[Any]
    classes: tuple[Any, ...]

    def at(self, t: int) -> NDArray[Any]:
        """Return the values at a step, (N,)."""
        return self.values if self.values.ndim == 1 else self.values[:, t]


@dataclass(frozen=True, eq=False)
class Samples:
    """Sequences, with labels if there are any.

    Attributes
    ----------
    inputs : array (N, T, I), or (N, T) of ids or numbers
    lengths : array (N,) of int, optional
        Default: T.
    labels : tuple of Label
    source : str
        Where they come from, in words.
    input_places, output_places : tuple of (step, feature)
        Of a copy task: the inputs and the outputs of each bit, in the order of the labels.
    """

    inputs: AnyArray
    lengths: NDArray[np.intp] | None
    labels: tuple[Label, ...]
    source: str
    input_places: tuple[Place, ...] = ()
    output_places: tuple[Place, ...] = ()

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def T(self) -> int:
        """Number of steps of the longest sequence."""
        return int(self.inputs.shape[1])

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Whether each sequence has a step, (N, T)."""
        if self.lengths is None:
            return np.ones((len(self), self.T), np.bool_)
        return np.arange(self.T) < self.lengths[:, None]

    @property
    def bit_steps(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The steps of the inputs and the outputs of the bits of a copy task."""
        return tuple(step for step, _ in self.input_places), tuple(step for step, _ in self.output_places)

    def rows(self, index: slice | NDArray[np.intp]) -> Samples:
        """Return a part of the sequences, without labels."""
        lengths = None if self.lengths is None else self.lengths[index]
        return replace(self, inputs=self.inputs[index], lengths=lengths, labels=())


def read_samples(
    model: Any, x: Any, labels: Labels | None, lengths: ArrayLike | None, which: Which | None, *, needs_labels: bool
) -> Samples:
    """Return the sequences of a task, of a batch or of arrays, with labels.

    Parameters
    ----------
    model : layer or model
        Its dtype is that of the inputs.
    x : Copy or another task, Batch, array (N, T, I) or (N, T), or list of N arrays (T_n, I) or (T_n,)
    labels : array (N,), (N, K) or (N, T, K), or mapping of names to arrays (N,) or (N, T), optional
        Default: those of the task.
    lengths : array (N,) of int, optional
        Of an array.
    which : {"all", "held_out"}, optional
        Of a task.
    needs_labels : bool
        Whether it is an error if there are none.
    """
    dtype = np.dtype(getattr(model, "dtype", np.float64))
    is_ids = input_kind(model) == "ids"
    if isinstance(x, EndlessTask):
        if lengths is not None:
            raise ValueError("lengths must be None for a task, which has its own")
        samples = _copy_samples(x, which, dtype) if isinstance(x, Copy) else _test_samples(x, which, dtype)
    else:
        if which is not None:
            raise ValueError(f"which must be None unless x is a task, got {which!r}")
        samples = _array_samples(x, lengths, None if is_ids else dtype)
    if labels is not None:
        samples = replace(samples, labels=read_labels(labels, samples.valid))
    if needs_labels and not samples.labels:
        raise ValueError("labels must be passed: only tasks with one target per sequence, and Copy, have their own")
    return samples


def _copy_samples(task: Copy, which: Which | None, dtype: Any) -> Samples:
    """Return all inputs of a copy task, or the held-out ones; the labels are the bits."""
    is_small = task.width <= ENUMERABLE_WIDTH
    which = ("all" if is_small else "held_out") if which is None else which
    choice("which", which, ("all", "held_out"))
    if which == "all" and not is_small:
        raise ValueError(f"which must be 'held_out' for more than {ENUMERABLE_WIDTH} bits, got 'all' of {task.width}")
    integers = np.arange(1 << task.width) if which == "all" else task.held_out_integers()
    bits = encode(integers, task.width)
    batch = task.make_batch([bits], dtype)
    values = [(f"bit {k}", bits[:, k]) for k in range(task.width)]
    labels = tuple(_class_label(name, column) for name, column in values)
    k, start = task.bits_per_step, task.width // task.bits_per_step + 1 if task.mode == "recall" else 0
    places = tuple(divmod(bit, k) for bit in range(task.width))
    answers = tuple((start + step, feature) for step, feature in places)
    name = f"Copy(width={task.width}{'' if task.mode == 'recall' else ', mode=' + repr(task.mode)})"
    training = ", with those of training" if which == "all" else " that training never draws"
    source = f"all {len(bits)} inputs of {name}{training}"
    if which == "held_out":
        source = f"{len(bits)} held-out inputs of {name}{training}"
    return Samples(batch.inputs, None, labels, source, places, answers)


def _test_samples(task: Any, which: Which | None, dtype: Any) -> Samples:
    """Return the test sequences of a generated task; the labels are its targets, if it has one per sequence."""
    choice("which", which, (None, "held_out"))
    if not hasattr(task, "test_batch"):
        raise TypeError(f"x must be a task with a test_batch, or arrays, got {type(task).__name__}")
    batch = task.test_batch(dtype=dtype)
    targets: NDArray[Any] = np.asarray(batch.targets)
    labels: tuple[Label, ...] = ()
    if targets.ndim == 1 or (targets.ndim == 2 and targets.shape[1] == 1):
        labels = read_labels({"target": targets.ravel()}, np.ones((len(targets), 1), np.bool_))
    source = f"{len(batch.inputs)} test sequences of {type(task).__name__} that training never draws"
    return Samples(batch.inputs, _check_lengths(batch.lengths, batch.inputs), labels, source)


def _array_samples(x: Any, lengths: ArrayLike | None, dtype: Any) -> Samples:
    """Return arrays as sequences, in this dtype unless it is None."""
    if isinstance(x, Batch):
        if lengths is not None:
            raise ValueError("lengths must be None for a batch, which has its own")
        x, lengths = x.inputs, x.lengths
    if isinstance(x, str | bytes):
        raise TypeError("x must be sequences, got a text: pass ids (N, T), such as windows of vocabulary.encode(text)")
    values, lengths = pad_sequences(x, lengths)
    if values.ndim not in (2, 3):
        raise ValueError(f"x must have shape (N, T, I), or (N, T) for ids or numbers, got {values.shape}")
    if not values.size:
        raise ValueError(f"x must have at least one sequence, step and feature, got shape {values.shape}")
    if dtype is not None:
        values = finite_array("x", values, dtype)
    return Samples(values, _check_lengths(lengths, values), (), f"{len(values)} sequences that were passed")


def _check_lengths(lengths: ArrayLike | None, inputs: AnyArray) -> NDArray[np.intp] | None:
    if lengths is None:
        return None
    array, (N, T) = np.asarray(lengths), inputs.shape[:2]
    if array.shape != (N,) or array.dtype.kind not in "iu" or (array < 0).any() or (array > T).any():
        raise ValueError(f"lengths must be {N} integers from 0 to T = {T}, got {array!r:.100}")
    return None if (array == T).all() else array.astype(np.intp)


def read_labels(labels: Labels, valid: NDArray[np.bool_]) -> tuple[Label, ...]:
    """Return labels of sequences: classes for integers, truth values and text, numbers for floating point.

    Parameters
    ----------
    labels : array or mapping
        As in :func:`read_samples`.
    valid : array (N, T) of bool
        Whether each sequence has a step.

    Raises
    ------
    TypeError, ValueError
        If they have another length, are not finite, or one has the same value everywhere.
    """
    N, T = valid.shape
    if isinstance(labels, Mapping):
        columns = {str(name): _as_array(values) for name, values in labels.items()}
        for name, values in columns.items():
            if values.shape not in ((N,), (N, T)):
                raise ValueError(
                    f"labels must have shape (N,) or (N, T) for N = {N} sequences of T = {T} steps, got {values.shape} "
                    f"for {name!r}"
                )
    else:
        array = _as_array(labels)
        if not (array.ndim in (1, 2) and len(array) == N) and not (array.ndim == 3 and array.shape[:2] == (N, T)):
            raise ValueError(
                f"labels must have shape (N,), (N, K) or (N, T, K) for N = {N} sequences of T = {T} steps, got "
                f"{array.shape}"
            )
        several = {f"label {k}": array[..., k] for k in range(array.shape[-1])} if array.ndim > 1 else {}
        columns = {"label": array} if array.ndim == 1 else several
    if not columns:
        raise ValueError("labels must be at least one, got none")
    return tuple(_label(name, values, valid) for name, values in columns.items())


def _as_array(labels: Any) -> NDArray[Any]:
    check_not_masked("labels", labels)
    try:
        return np.asarray(labels)
    except ValueError:
        raise ValueError("labels must be an array, got rows of different lengths") from None


def _label(name: str, values: NDArray[Any], valid: NDArray[np.bool_]) -> Label:
    if values.ndim == 2 and valid.any():
        values = np.where(valid, values, values[valid][0])  # padding is not a class
    if values.dtype.kind == "f":
        numbers = finite_array(f"labels {name!r}", values, np.dtype(np.float64))
        numbers = np.ldexp(numbers, -np.frexp(np.abs(numbers).max())[1])  # by a power of 2: squares are in range
        if not np.ptp(numbers):
            raise ValueError(f"labels must have different values, got {values.flat[0]} everywhere in {name!r}")
        return Label(name, numbers, ())
    if values.dtype.kind == "O" and all(isinstance(value, str) for value in values.flat):
        values = values.astype(str)
    if values.dtype.kind not in "biuU":
        raise TypeError(f"labels must be numbers, integers, truth values or text, got dtype {values.dtype} in {name!r}")
    return _class_label(name, values)


def _class_label(name: str, values: NDArray[Any]) -> Label:
    classes, numbers = np.unique(values, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"labels must have at least two classes, got a data set with one class in {name!r}")
    return Label(name, numbers.reshape(values.shape), tuple(classes.tolist()))


def input_kind(model: Any) -> str:
    """Return "features", "numbers" or "ids": what the inputs of a layer or model are."""
    first = (getattr(model, "layers", None) or (model,))[0]
    return str(getattr(first, "inputs", "features"))


def hash_order(samples: Samples, seed: int) -> tuple[list[int], list[bytes]]:
    """Return sequences in the order of hashes of their values and a seed, and the hashes.

    It does not depend on the order of the sequences, and equal sequences have equal hashes: BLAKE2b of 16 bytes
    (RFC 7693) of the values up to the end of a sequence, in the dtype of the model, where the digits of the seed are
    the key. The report computes the same hashes (web/report/hash_order.js).
    """
    key = str(non_negative_integer("seed", seed)).encode()
    lengths = np.full(len(samples), samples.T) if samples.lengths is None else samples.lengths
    digests = [
        blake2b(np.ascontiguousarray(row[:length]).tobytes(), digest_size=16, key=key).digest()
        for row, length in zip(samples.inputs, lengths, strict=True)
    ]
    return sorted(range(len(digests)), key=digests.__getitem__), digests


class Halves(NamedTuple):
    """The sequences of each half, in order: (n,) and (m,)."""

    fitted: NDArray[np.intp]
    scored: NDArray[np.intp]


def split_halves(samples: Samples, seed: int) -> Halves:
    """Divide sequences into two halves; equal sequences are in the same half.

    The sequences are put in the order of :func:`hash_order` and divided as near to the middle as equal sequences allow:
    the first part is fitted. The halves do not depend on the order of the sequences.

    Raises
    ------
    ValueError
        If there are fewer than four different sequences, or a label has one class, or one value, in a half.
    """
    order, digests = hash_order(samples, seed)
    starts = [k for k in range(1, len(order)) if digests[order[k]] != digests[order[k - 1]]]  # of other sequences
    if len(starts) + 1 < MIN_SEQUENCES:
        raise ValueError(f"x must have at least {MIN_SEQUENCES} different sequences, got {len(starts) + 1}")
    middle = min(starts, key=lambda k: abs(2 * k - len(order)))
    halves = Halves(np.sort(order[:middle]), np.sort(order[middle:]))
    for label in samples.labels:
        for half in halves:
            if not np.ptp(label.values[half]):
                raise ValueError(
                    f"labels must have at least two classes or values in each half, got one in a half of {len(half)} "
                    f"sequences for {label.name!r}: pass more sequences, or another seed"
                )
    return halves


def rounding(values: Array, dtype: Any) -> Array:
    """Return the size of rounding errors of values (N, ...): of equal sequences they differ by this much, (...).

    The products of a batch are summed in an order that depends on the place of a sequence in it.
    """
    largest: Array = np.nanmax(np.abs(values), axis=0, initial=0.0)
    return ROUNDING_UNITS * float(np.finfo(dtype).eps) * largest


ROUNDING_UNITS = 64  # units in the last place
