"""The sequence copy task: show binary sequences, and get them back.

Two modes, for a payload of S steps:

- *recall* needs memory: the payload is shown, then a delimiter, and then, while the input is silent, the payload is
  to be produced: T = 2S + 1. This is the task of Graves et al. (2014), at fixed width.
- *echo* needs none: each bit is to be produced at the step that shows it, T = S.

A step carries `bits_per_step` bits, each shown as -1 or +1, and one more channel for the delimiter. Silence is 0 in
every channel, so that a 0 bit differs from it.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from glasscell.core.types import Array
from glasscell.data.batch import Batch
from glasscell.tasks.binary import Bits, Integers, check_width, decode, encode, to_bits, validate_bits

Mode: TypeAlias = Literal["recall", "echo"]

MODES = ("recall", "echo")
ENUMERABLE_WIDTH = 12  # up to here "all integers" means all; beyond it, a sample of as many


@dataclass(frozen=True)
class Copy:
    """Random integers as fixed-width bits, to be copied.

    A share of the integers of every width is held out: training never draws them, evaluation draws nothing else.

    Parameters
    ----------
    width : int
        Bits of a sequence, 1 to 64.
    mode : {"recall", "echo"}
    bits_per_step : int
        Bits shown at a time; divides `width`.
    min_width : int, optional
        Lengths are mixed: each training sequence has a width drawn evenly from `min_width` to `width` (in whole steps).
    noise : float
        Standard deviation of the Gaussian noise on the bits that training shows, which are -1 and +1. Without it, a
        model learns the few integers of a small width by heart, and copies others badly. Only training has noise.
    held_out : float
        Share of the integers of each width that training never draws; at least one is held out, at least one is not.
    seed : int
        Of the split.
    """

    width: int = 8
    mode: Mode = "recall"
    bits_per_step: int = 1
    min_width: int | None = None
    noise: float = 0.7
    held_out: float = 0.2
    seed: int = 0

    loss: ClassVar[str] = "binary_cross_entropy"
    metrics: ClassVar[tuple[str, ...]] = ("bit_accuracy", "sequence_accuracy")
    endless: ClassVar[bool] = True  # batches are generated: there are no epochs

    def __post_init__(self) -> None:
        for name in ("width", "bits_per_step", *["min_width"] * (self.min_width is not None)):
            object.__setattr__(
                self, name, check_width(name, getattr(self, name))
            )  # a plain int, also where NumPy's came
        if self.mode not in MODES:
            raise ValueError(f"mode is {self.mode!r}; known are 'recall' and 'echo'")
        for name, value in (("width", self.width), ("min_width", self.shortest)):
            if value % self.bits_per_step:
                raise ValueError(f"{name} must be a multiple of bits_per_step = {self.bits_per_step}, and is {value}")
        if self.shortest > self.width:
            raise ValueError(f"min_width must be at most width = {self.width}, and is {self.shortest}")
        object.__setattr__(self, "seed", operator.index(self.seed))
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, and is {self.seed}")
        object.__setattr__(self, "held_out", float(self.held_out))
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must be a share between 0 and 1, and is {self.held_out!r}")
        object.__setattr__(self, "noise", float(self.noise))
        if not 0 <= self.noise < np.inf:
            raise ValueError(f"noise must be a standard deviation of 0 or more, and is {self.noise!r}")

    @property
    def shortest(self) -> int:
        """The width of the shortest sequences."""
        return self.width if self.min_width is None else self.min_width

    @property
    def input_size(self) -> int:
        """I: the bits of a step, and the delimiter."""
        return self.bits_per_step + 1

    @property
    def output_size(self) -> int:
        """O: the bits of a step."""
        return self.bits_per_step

    def batch(self, size: int, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Batch:
        """Training sequences, drawn from the integers that are not held out.

        Parameters
        ----------
        size : int
            B.
        rng : numpy.random.Generator
        dtype : float32 or float64

        Returns
        -------
        Batch
            T is that of the longest sequence drawn; shorter ones end with silence of weight 0.
        """
        batch = self._build_batch(self._draw(size, rng), dtype)
        shown = batch.inputs[:, :, : self.bits_per_step]
        if self.noise:
            noise = rng.standard_normal(shown.shape, np.float32).astype(dtype)
            noise *= self.noise
            noise *= shown != 0  # silence stays silent
            shown += noise
        return batch

    def batches(self, size: int, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Iterator[Batch]:
        """Yield training batches without an end: see :meth:`batch`."""
        while True:
            yield self.batch(size, rng, dtype)

    def validation(self, size: int, dtype: DTypeLike = np.float32) -> list[Batch]:
        """Return the batch to evaluate on, whatever the size of training batches."""
        del size
        return [self.validation_batch(dtype)]

    def validation_batch(self, dtype: DTypeLike = np.float32) -> Batch:
        """64 sequences that training may draw too, without noise, always the same ones: to watch its progress on."""
        return self._build_batch(self._draw(64, np.random.default_rng(self.seed)), dtype)

    def held_out_batch(self, size: int | None = None, dtype: DTypeLike = np.float32) -> Batch:
        """Sequences of full width that training never draws; see :meth:`held_out_integers`."""
        return self.present([encode(self.held_out_integers(size), self.width)], dtype)

    def held_out_integers(self, size: int | None = None) -> Integers:
        """Integers of full width that training never draws, each once, in random order; always the same ones.

        Parameters
        ----------
        size : int, optional
            At most so many; without it all of them, or 4096 at widths that have more.
        """
        if size is not None and size < 0:
            raise ValueError(f"size must be 0 or more, and is {size}")
        count = self._held_out_count(self.width)
        wanted = min(count, 1 << ENUMERABLE_WIDTH if size is None else size)
        rng = np.random.default_rng([self.seed, self.width])
        if self.width <= 2 * ENUMERABLE_WIDTH:
            ranks = rng.permutation(count)[:wanted].astype(np.uint64)
        else:  # so many that a repetition, which is dropped, hardly happens
            ranks = np.unique(rng.integers(0, count, wanted, np.uint64))
            rng.shuffle(ranks)
        return self._unpermute(ranks, self.width)

    def is_held_out(self, integers: int | Iterable[int], width: int | None = None) -> NDArray[np.bool_]:
        """Whether training never draws these integers at this width (without it, the task's)."""
        width = self.width if width is None else width
        values = cast("Integers", np.atleast_1d(decode(encode(integers, width))).astype(np.uint64))
        held_out = self._permute(values, width) < self._held_out_count(width)
        return held_out if np.ndim(cast("ArrayLike", integers)) else held_out[0]

    def payload(self, bits: ArrayLike) -> Bits:
        """The bits, (n,) or (B, n), if they are 0 and 1 and fill whole steps."""
        payload, k = validate_bits("bits", bits), self.bits_per_step
        if payload.ndim not in (1, 2) or payload.shape[-1] % k:
            whole_steps = f", n a multiple of bits_per_step = {k}" if k > 1 else ""
            raise ValueError(f"bits have shape {payload.shape}; expected (n,) or (B, n){whole_steps}")
        return payload

    def present(self, payloads: Iterable[ArrayLike], dtype: DTypeLike = np.float32) -> Batch:
        """Lay payloads out as sequences, the way this task shows them.

        Parameters
        ----------
        payloads : iterable of arrays (n, bits)
            Each array of one length, a multiple of `bits_per_step`; together they make the batch.
        dtype : float32 or float64

        Returns
        -------
        Batch
        """
        arrays = [self.payload(bits) for bits in payloads]
        for bits in arrays:
            if bits.ndim != 2:
                raise ValueError(f"each payload must be an array (n, bits), and one has shape {bits.shape}")
        return self._build_batch(arrays, dtype)

    def _build_batch(self, payloads: list[Bits], dtype: DTypeLike = np.float32) -> Batch:
        k = self.bits_per_step
        steps = [np.reshape(bits, (len(bits), np.shape(bits)[1] // k, k)) for bits in map(np.asarray, payloads)]
        B, S = sum(map(len, steps)), max((bits.shape[1] for bits in steps), default=0)
        T = 2 * S + 1 if self.mode == "recall" else S
        # In memory (T, features, B), as models keep them: their transposition then costs nothing.
        inputs, targets, weights = (np.zeros((T, F, B), dtype).transpose(2, 0, 1) for F in (k + 1, k, 1))
        batch = Batch(inputs, targets, weights)
        first = 0
        for bits in steps:
            rows, n = slice(first, first + len(bits)), bits.shape[1]
            first = rows.stop
            answer = slice(n + 1, 2 * n + 1) if self.mode == "recall" else slice(0, n)
            batch.inputs[rows, :n, :k] = 2 * bits - 1.0
            if self.mode == "recall":
                batch.inputs[rows, n, k] = 1
            batch.targets[rows, answer] = bits
            weights[rows, answer] = 1
        return batch

    def answers(self, outputs: Array, bits: int) -> Bits:
        """Read the bits off a model's outputs.

        Parameters
        ----------
        outputs : array (B, T, O)
            Logits, to payloads of the same length each.
        bits : int
            That length.

        Returns
        -------
        array of int, (B, bits)
        """
        start = bits // self.bits_per_step + 1 if self.mode == "recall" else 0
        return (outputs[:, start:] > 0).astype(np.int64).reshape(len(outputs), bits)

    def memoryless_baseline_loss(self, batch: Batch) -> float:
        """The loss, in nats a bit, of the best guesser that sees nothing but the present step.

        For each bit of a step it knows that bit's own input and whether a delimiter is shown, and answers with the
        probability of a 1 that training sequences have there. In recall it faces silence and can only say how frequent
        ones are; in echo it needs no memory, and its loss is 0. Where training never shows what is asked, as at width
        1, which has but one training integer, it is infinite.
        """
        training, frequency = self._training_sample()
        seen, asked = self._memoryless_predictor_inputs(training), _asked(training)[..., 0]
        now = self._memoryless_predictor_inputs(batch)
        ones = np.full(batch.targets.shape, 0.5)  # the guesser's probability of a 1
        for bit in range(self.bits_per_step):
            for what in np.unique(seen[asked][:, bit]):
                there = asked & (seen[..., bit] == what)
                share = np.average(training.targets[..., bit][there], weights=(frequency * there)[there])
                ones[..., bit][now[..., bit] == what] = share
        right = np.where(batch.targets > 0, ones, 1 - ones)[np.broadcast_to(_asked(batch), ones.shape)]
        with np.errstate(divide="ignore"):  # what training never shows
            return float(-np.log(right).mean()) if right.size else 0.0

    def _memoryless_predictor_inputs(self, batch: Batch) -> Array:
        k = self.bits_per_step
        inputs: Array = batch.inputs
        return inputs[..., :k] + 10 * inputs[..., k:]

    def _training_sample(self) -> tuple[Batch, Array]:
        """Every training integer, or many, of each width; and how often training draws each, (B, 1)."""
        payloads = []
        for width in self._widths:
            held_out, all_of_them = self._held_out_count(width), 1 << width
            if width <= ENUMERABLE_WIDTH:
                ranks = np.arange(held_out, all_of_them, dtype=np.uint64)
            else:
                rng = np.random.default_rng([self.seed, width])
                ranks = rng.integers(held_out, all_of_them - 1, 1 << ENUMERABLE_WIDTH, np.uint64, endpoint=True)
            payloads.append(to_bits(self._unpermute(ranks, width), width))
        frequency = np.concatenate([np.full((len(bits), 1), 1 / len(bits)) for bits in payloads])
        return self._build_batch(payloads), frequency

    @cached_property
    def _widths(self) -> list[int]:
        return list(range(self.shortest, self.width + 1, self.bits_per_step))

    def _draw(self, size: int, rng: np.random.Generator) -> list[Bits]:
        counts = np.full(1, size) if len(self._widths) == 1 else np.bincount(rng.integers(len(self._widths), size=size))
        payloads = []
        for width, count in zip(self._widths, counts, strict=False):
            ranks = rng.integers(self._held_out_count(width), (1 << width) - 1, count, np.uint64, endpoint=True)
            payloads.append(to_bits(self._unpermute(ranks, width), width))
        return payloads

    # The split. The integers of a width are shuffled into ranks, and the first ranks are held out. The shuffle is a
    # bijection of w-bit numbers that is computed for one number at a time, either way, since 2^64 of them fit in no
    # table: three rounds of x ← (x ⊕ x >> ⌈w/2⌉) · odd + key, modulo 2^w.

    def _held_out_count(self, width: int) -> int:
        every = 1 << width
        return min(max(1, round(self.held_out * every)), every - 1)

    @cached_property
    def _permutation_keys(self) -> list[tuple[int, int]]:
        rng = np.random.default_rng(self.seed)
        return [(int(odd) | 1, int(key)) for odd, key in rng.integers(0, 1 << 63, (3, 2), np.uint64)]

    def _permute(self, integers: Integers, width: int) -> Integers:
        mask, half = np.uint64((1 << width) - 1), np.uint64((width + 1) // 2)
        for odd, key in self._permutation_keys:
            integers = ((integers ^ (integers >> half)) * np.uint64(odd) + np.uint64(key)) & mask
        return integers

    def _unpermute(self, ranks: Integers, width: int) -> Integers:
        mask, half = np.uint64((1 << width) - 1), np.uint64((width + 1) // 2)
        for odd, key in reversed(self._permutation_keys):
            ranks = ((ranks - np.uint64(key)) * np.uint64(pow(odd, -1, 1 << 64))) & mask
            ranks ^= ranks >> half
        return ranks


def _asked(batch: Batch) -> NDArray[np.bool_]:
    """Return where an answer counts, (B, T, 1)."""
    return np.ones((*batch.targets.shape[:2], 1), np.bool_) if batch.weights is None else batch.weights > 0
