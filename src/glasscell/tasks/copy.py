"""The sequence copy task: a binary sequence is the input, and the same sequence is the target.

Two modes, for a payload of S steps:

- *recall* needs memory: S input steps with the payload, one with a delimiter, then S silent ones, whose targets are
  the payload: T = 2S + 1. This is the task of Graves et al. (2014), at fixed width.
- *echo* needs none: the target of each step is its own input, T = S.

A step has `bits_per_step` bits, each encoded as -1 or +1, and one more feature for the delimiter. In a silent step all
features are 0, so that silence differs from a 0 bit.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from glasscell.core.cached import cached_property
from glasscell.core.types import Array
from glasscell.data.batch import Batch
from glasscell.data.predictions import bits_of_signs
from glasscell.tasks.binary import MAX_WIDTH, Bits, Integers, check_width, decode, encode, to_bits
from glasscell.tasks.generated import EndlessTask, check_draw, check_seed
from glasscell.validation import float_dtype, validate_bits

Mode: TypeAlias = Literal["recall", "echo"]

MODES = ("recall", "echo")
ENUMERABLE_WIDTH = 12  # up to this width all integers are enumerated; above it, a sample of 2^12 stands for all


@dataclass(frozen=True)
class Copy(EndlessTask):
    """The copy task, on random integers in binary.

    A fraction of the integers of each width is held out: training never draws them.

    Parameters
    ----------
    width : int
        Number of bits of a sequence, 1 to 64.
    mode : {"recall", "echo"}
    bits_per_step : int
        Bits per step; divides `width`.
    min_width : int, optional
        Mixed lengths: each training sequence has a width drawn evenly from `min_width` to `width`, in whole steps.
        Default: `width`.
    noise : float
        Standard deviation of the Gaussian noise on the input bits, which are -1 and +1, of training sequences. Models
        trained on a small width with noise 0 memorise its few integers and copy others badly.
    held_out : float
        Fraction of the integers of each width that training never draws; at least one integer, and not all.
    seed : int
        Seed of the split.
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

    def __post_init__(self) -> None:
        for name in ("width", "bits_per_step", *["min_width"] * (self.min_width is not None)):
            object.__setattr__(self, name, check_width(name, getattr(self, name)))  # an int, also for NumPy's integers
        if self.mode not in MODES:
            raise ValueError(f"mode must be 'recall' or 'echo', got {self.mode!r}")
        for name, value in (("width", self.width), ("min_width", self.shortest_width)):
            if value % self.bits_per_step:
                raise ValueError(f"{name} must be a multiple of bits_per_step = {self.bits_per_step}, got {value}")
        if self.shortest_width > self.width:
            raise ValueError(f"min_width must be at most width = {self.width}, got {self.shortest_width}")
        object.__setattr__(self, "seed", check_seed(self.seed))
        object.__setattr__(self, "held_out", float(self.held_out))
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must be between 0 and 1, got {self.held_out!r}")
        object.__setattr__(self, "noise", float(self.noise))
        if not 0 <= self.noise < np.inf:
            raise ValueError(f"noise must be a finite standard deviation of 0 or more, got {self.noise!r}")

    @property
    def shortest_width(self) -> int:
        """Width of the shortest training sequences."""
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
        """Return training sequences, drawn from the integers that are not held out.

        Parameters
        ----------
        size : int
            B
        rng : numpy.random.Generator
        dtype : float32 or float64

        Returns
        -------
        Batch
            T is that of the longest sequence drawn; shorter ones end with silent steps of weight 0.
        """
        dtype = check_draw(size, rng, dtype)
        batch = self._build_batch(self._draw(size, rng), dtype)
        if self.noise:
            bits = batch.inputs[:, :, : self.bits_per_step]
            noise = rng.standard_normal(bits.shape, np.float32).astype(dtype, copy=False)
            noise *= self.noise
            noise *= bits != 0  # silent steps stay silent
            bits += noise
        return batch

    def validation_batch(self, dtype: DTypeLike = np.float32) -> Batch:
        """Return 64 sequences without noise, always the same ones, that training may draw too."""
        return self._build_batch(self._draw(64, np.random.default_rng(self.seed)), dtype)

    def held_out_batch(self, size: int | None = None, dtype: DTypeLike = np.float32) -> Batch:
        """Return sequences of full width that training never draws: see :meth:`held_out_integers`."""
        return self.make_batch([encode(self.held_out_integers(size), self.width)], dtype)

    def held_out_integers(self, size: int | None = None) -> Integers:
        """Return integers of full width that training never draws, each once, in random order; always the same ones.

        Parameters
        ----------
        size : int, optional
            Largest number of integers. Default: all, or 4096 at widths that have more.
        """
        if size is not None and size < 0:
            raise ValueError(f"size must be 0 or more, got {size}")
        count = self._held_out_count(self.width)
        size = min(count, 1 << ENUMERABLE_WIDTH if size is None else size)
        rng = np.random.default_rng([self.seed, self.width])
        if self.width <= 2 * ENUMERABLE_WIDTH:
            ranks = rng.permutation(count)[:size].astype(np.uint64)
        else:  # repetitions are rare among so large a number, and dropped
            ranks = np.unique(rng.integers(0, count, size, np.uint64))
            rng.shuffle(ranks)
        return self._unpermute(ranks, self.width)

    def is_held_out(self, integers: int | Iterable[int], width: int | None = None) -> NDArray[np.bool_]:
        """Return whether training never draws these integers at this width. Default: the width of the task."""
        width = self.width if width is None else width
        values = cast("Integers", np.atleast_1d(decode(encode(integers, width))).astype(np.uint64))
        held_out = self._permute(values, width) < self._held_out_count(width)
        return held_out if np.ndim(cast("ArrayLike", integers)) else held_out[0]

    def validate_payload(self, bits: ArrayLike) -> Bits:
        """Return the bits, (n,) or (B, n), if they are 0 and 1 and fill whole steps."""
        payload, k = validate_bits("bits", bits), self.bits_per_step
        if payload.ndim not in (1, 2) or payload.shape[-1] % k:
            whole_steps = f", n a multiple of bits_per_step = {k}" if k > 1 else ""
            raise ValueError(f"bits must have shape (n,) or (B, n){whole_steps}, got {payload.shape}")
        return payload

    def make_batch(self, payloads: Iterable[ArrayLike], dtype: DTypeLike = np.float32) -> Batch:
        """Return inputs, targets and weights for these payloads, without noise.

        Parameters
        ----------
        payloads : iterable of arrays (n, bits)
            Lengths are multiples of `bits_per_step`. The rows of all arrays are the sequences of the batch.
        dtype : float32 or float64

        Returns
        -------
        Batch
        """
        if isinstance(payloads, str | bytes) or not isinstance(payloads, Iterable):
            raise TypeError(f"payloads must be arrays of bits, (n, bits) each, got {payloads!r:.100}")
        arrays = [validate_bits("payloads", bits) for bits in payloads]
        k = self.bits_per_step
        for bits in arrays:
            if bits.ndim != 2 or bits.shape[1] % k:
                whole_steps = f", a multiple of bits_per_step = {k} bits" if k > 1 else ""
                raise ValueError(f"payloads must have shape (n, bits) each{whole_steps}, got {bits.shape}")
        return self._build_batch(arrays, dtype)

    def _build_batch(self, payloads: list[Bits], dtype: DTypeLike = np.float32) -> Batch:
        dtype, k = float_dtype(dtype), self.bits_per_step
        steps = [np.reshape(bits, (len(bits), np.shape(bits)[1] // k, k)) for bits in map(np.asarray, payloads)]
        B, S = sum(map(len, steps)), max((bits.shape[1] for bits in steps), default=0)
        T = 2 * S + 1 if self.mode == "recall" else S
        # Stored feature-major, (T, features, B), as layers need them: the transposition in a layer is then a view.
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

    def decode_outputs(self, outputs: Array, num_bits: int) -> Bits:
        """Return the predicted bits.

        Parameters
        ----------
        outputs : array (B, T, O)
            Logits, for payloads of one length.
        num_bits : int
            Length of the payloads.

        Returns
        -------
        array of int, (B, num_bits)

        Raises
        ------
        ValueError
            If a logit of the bits is NaN.
        """
        start = num_bits // self.bits_per_step + 1 if self.mode == "recall" else 0
        return bits_of_signs(outputs[:, start:]).astype(np.int64).reshape(len(outputs), num_bits)

    def memoryless_baseline_loss(self, batch: Batch) -> float:
        """Return the loss, in nats per bit, of the best predictor that uses the inputs of the current step only.

        For each bit of a step it uses that bit's own input and the delimiter's, and predicts the frequency of 1 among
        the targets of training sequences with these inputs. In recall the inputs are silent: it predicts how frequent
        1 is. In echo the loss is 0. Inputs that training sequences do not have make it infinite, as at width 1, which
        has a single training integer.
        """
        training, frequency = self._training_sample()
        training_inputs, has_target = self._memoryless_predictor_inputs(training), _has_target(training)[..., 0]
        inputs = self._memoryless_predictor_inputs(batch)
        predicted = np.full(batch.targets.shape, 0.5)  # probability of a 1
        for bit in range(self.bits_per_step):
            for value in np.unique(training_inputs[has_target][:, bit]):
                selected = has_target & (training_inputs[..., bit] == value)
                ones = np.average(training.targets[..., bit][selected], weights=(frequency * selected)[selected])
                predicted[..., bit][inputs[..., bit] == value] = ones
        valid = np.broadcast_to(_has_target(batch), predicted.shape)
        likelihood = np.where(batch.targets > 0, predicted, 1 - predicted)[valid]
        with np.errstate(divide="ignore"):  # inputs that training sequences do not have
            return float(-np.log(likelihood).mean()) if likelihood.size else 0.0

    def _memoryless_predictor_inputs(self, batch: Batch) -> Array:
        k = self.bits_per_step
        inputs: Array = batch.inputs
        return inputs[..., :k] + 10 * inputs[..., k:]

    def _training_sample(self) -> tuple[Batch, Array]:
        """Return training integers of each width, all or a sample, and the frequency of each in training, (B, 1)."""
        payloads = []
        for width in self._widths:
            held_out, total = self._held_out_count(width), 1 << width
            if width <= ENUMERABLE_WIDTH:
                ranks = np.arange(held_out, total, dtype=np.uint64)
            else:
                rng = np.random.default_rng([self.seed, width])
                ranks = rng.integers(held_out, total - 1, 1 << ENUMERABLE_WIDTH, np.uint64, endpoint=True)
            payloads.append(to_bits(self._unpermute(ranks, width), width))
        frequency = np.concatenate([np.full((len(bits), 1), 1 / len(bits)) for bits in payloads])
        return self._build_batch(payloads), frequency

    @cached_property
    def _widths(self) -> list[int]:
        return list(range(self.shortest_width, self.width + 1, self.bits_per_step))

    def _draw(self, size: int, rng: np.random.Generator) -> list[Bits]:
        """Draw the payloads of a training batch, one array per width."""
        widths = self._widths
        counts = [size] if len(widths) == 1 else np.bincount(rng.integers(len(widths), size=size))
        payloads = []
        for width, count in zip(widths, counts, strict=False):
            ranks = rng.integers(self._held_out_count(width), (1 << width) - 1, count, np.uint64, endpoint=True)
            if width <= ENUMERABLE_WIDTH:
                payloads.append(_bits_by_rank(self, width)[ranks])
            else:
                payloads.append(to_bits(self._unpermute(ranks, width), width))
        return payloads

    # The split. Each integer of a width has a rank, and the lowest ranks are held out. Ranks are a bijection of w-bit
    # integers that is computed for each integer, since 2^64 of them do not fit into a table: three rounds of
    # x ← (x ⊕ x >> ⌈w/2⌉) · odd + key, modulo 2^w.

    def _held_out_count(self, width: int) -> int:
        total = 1 << width
        return min(max(1, round(self.held_out * total)), total - 1)

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


@lru_cache(maxsize=MAX_WIDTH)
def _bits_by_rank(task: Copy, width: int) -> Bits:
    """Return the bits of the integer of each rank, (2^width, width)."""
    return to_bits(task._unpermute(np.arange(1 << width, dtype=np.uint64), width), width).astype(np.int8)  # noqa: SLF001


def _has_target(batch: Batch) -> NDArray[np.bool_]:
    """Return which steps have a target, (B, T, 1)."""
    return np.ones((*batch.targets.shape[:2], 1), np.bool_) if batch.weights is None else batch.weights > 0
