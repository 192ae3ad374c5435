"""Digits row by row: the images of handwritten digits, as sequences of their rows.

The model reads one row of pixels per step, from top to bottom, and names the digit after the last row: 8 steps of 8
pixels for the digits of scikit-learn (Alpaydin & Kaynak 1998, optical recognition of handwritten digits), 28 steps of
28 for MNIST (LeCun, Bottou, Bengio & Haffner 1998). Le, Jaitly & Hinton (2015), "A Simple Way to Initialize Recurrent
Networks of Rectified Linear Units", read MNIST pixel by pixel; rows make a short task of it.

The images are the user's: this library has none. Readers: :meth:`RowDigits.from_csv`, :meth:`RowDigits.from_idx`.

- The files of scikit-learn have no division into training and test; MNIST has one, in separate files. Here `seed`
  divides the images of one source at random, into training, validation and test. Fractions of 0 leave a part empty.
- There is no criterion in these papers but accuracy. An image counts as correct if its digit has the largest logit.
"""

from __future__ import annotations  # np.random takes 10 ms to load: only when it is used

import gzip
import struct
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from glasscell.core.cached import cached_property
from glasscell.core.layouts import feature_major_zeros
from glasscell.core.types import Array
from glasscell.data.batch import AnyArray, Batch
from glasscell.data.csv_tables import parse_numbers
from glasscell.data.lines import lines_of
from glasscell.data.metrics import Metric
from glasscell.limits import max_decompressed
from glasscell.tasks.generated import check_draw, check_seed, has_largest_outputs
from glasscell.validation import as_array, float_dtype, positive_integer, positive_number, probability

if TYPE_CHECKING:
    from glasscell.atomic_files import StrPath

DIGITS = 10
IMAGE_MAGIC, LABEL_MAGIC = 0x803, 0x801  # bytes of one axis (labels), or of three (images)
SCIKIT_LEARN = (8, 16)  # rows of an image, and its largest value
LARGEST_BYTE = 255


def is_correct(outputs: Array, batch: Batch) -> NDArray[np.bool_]:
    """Return which digits have the largest logit, (B,)."""
    correct: NDArray[np.bool_] = has_largest_outputs(outputs, batch.targets)
    return correct


@dataclass(frozen=True, eq=False)
class RowDigits:
    """Images of digits, row by row: name the digit after the last row.

    docs/tasks.md has the details. Inputs are (B, rows, columns), in [0, 1]; targets are digits (B,). An epoch has each
    training image once.

    Parameters
    ----------
    images : array (N, rows, columns)
        Numbers from 0 to `maximum`.
    labels : array (N,) of int
        Digits, 0 to 9.
    maximum : float
        Value of a pixel that becomes 1.
    validation_fraction, test_fraction : float
        Fractions of the images for validation and test, at least 0 and together below 1.
    seed : int
        Of the division into training, validation and test.

    Raises
    ------
    TypeError, ValueError
        If shapes or values do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import glasscell as gc
    >>> images = np.random.default_rng(0).integers(0, 17, (20, 8, 8))
    >>> task = gc.tasks.RowDigits(images, np.arange(20) % 10, maximum=16)
    >>> task.input_size, task.test_batch().inputs.shape
    (8, (4, 8, 8))
    """

    images: AnyArray = field(repr=False)
    labels: AnyArray = field(repr=False)
    maximum: float = LARGEST_BYTE
    validation_fraction: float = 0.1
    test_fraction: float = 0.2
    seed: int = 0

    loss: ClassVar[str] = "categorical_cross_entropy"
    metrics: ClassVar[tuple[str | Metric, ...]] = ("accuracy",)
    endless: ClassVar[bool] = False
    output_size: ClassVar[int] = DIGITS

    def __post_init__(self) -> None:
        object.__setattr__(self, "maximum", positive_number("maximum", self.maximum))
        images, labels = _checked_images(self.images, self.maximum), _checked_labels(self.labels)
        if len(images) != len(labels):
            raise ValueError(f"labels must have one digit for each of {len(images)} images, got {len(labels)}")
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels)
        for name in ("validation_fraction", "test_fraction"):
            object.__setattr__(self, name, probability(name, getattr(self, name)))
        object.__setattr__(self, "seed", check_seed(self.seed))
        if not len(self.training_indices):
            raise ValueError(
                "validation_fraction and test_fraction must leave an image for training, got "
                f"{self.validation_fraction} and {self.test_fraction} of {len(images)} images"
            )

    @classmethod
    def from_csv(cls, path: StrPath, maximum: float | None = None, **options: Any) -> RowDigits:
        """Read a table without header, with the pixels of a square image and its digit in each row.

        Such is ``digits.csv.gz`` of scikit-learn, with 64 pixels from 0 to 16.

        Parameters
        ----------
        path : path
            Comma-separated; compressed if the name ends in ``.gz``.
        maximum : float, optional
            Value of a pixel that becomes 1. Default: 16 for images of 8 × 8 pixels, otherwise 255.
        **options
            The other arguments of :class:`RowDigits`.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such file, or a row does not fit; the message has its line.
        """
        path = Path(path)
        pixels, width = array("f"), 0
        for number, line in enumerate(lines_of(path), start=1):
            values = parse_numbers(line.strip().split(","))
            if values is None:
                raise ValueError(f"{path}, line {number}: must have numbers with commas, got {line.strip()!r:.60}")
            width = width or _checked_width(path, len(values))
            if len(values) != width:
                raise ValueError(f"{path}, line {number}: must have {width} numbers, got {len(values)}")
            if values[-1] not in range(DIGITS):
                raise ValueError(f"{path}, line {number}: must end with a digit from 0 to 9, got {values[-1]:g}")
            pixels.extend(values)
        side = isqrt(width - 1)
        if maximum is None:
            maximum = SCIKIT_LEARN[1] if side == SCIKIT_LEARN[0] else LARGEST_BYTE
        table = np.frombuffer(pixels, np.float32).reshape(-1, width)
        return cls(table[:, :-1].reshape(-1, side, side), table[:, -1].astype(np.int64), maximum, **options)

    @classmethod
    def from_idx(cls, images: StrPath, labels: StrPath, **options: Any) -> RowDigits:
        """Read images and labels in the format of MNIST, such as ``train-images-idx3-ubyte.gz``.

        Parameters
        ----------
        images, labels : path
            Compressed if the name ends in ``.gz``.
        **options
            The other arguments of :class:`RowDigits`.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such file, or it is damaged.
        """
        return cls(_read_idx(Path(images), IMAGE_MAGIC, 3), _read_idx(Path(labels), LABEL_MAGIC, 1), **options)

    @property
    def input_size(self) -> int:
        """I: the number of columns."""
        return int(self.images.shape[2])

    @cached_property
    def _parts(self) -> list[NDArray[np.intp]]:
        """Return the indices of the images for test, validation and training."""
        N = len(self.images)
        test, validation = round(self.test_fraction * N), round(self.validation_fraction * N)
        order = np.random.default_rng(self.seed).permutation(N)
        return np.split(order, [test, test + validation])

    @property
    def training_indices(self) -> NDArray[np.intp]:
        """Indices of the images for training."""
        return self._parts[2]

    @property
    def validation_indices(self) -> NDArray[np.intp]:
        """Indices of the images for validation."""
        return self._parts[1]

    @property
    def test_indices(self) -> NDArray[np.intp]:
        """Indices of the images for the final score."""
        return self._parts[0]

    def batches(self, size: int, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Iterator[Batch]:
        """Return an iterator over all training images in random order; the last batch may be smaller."""
        dtype = check_draw(size, rng, dtype)
        positive_integer("size", size)
        order = rng.permutation(self.training_indices)
        return (self.make_batch(order[start : start + size], dtype) for start in range(0, len(order), size))

    def batch(self, size: int, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Batch:
        """Return `size` training images, drawn with replacement."""
        dtype = check_draw(size, rng, dtype)
        return self.make_batch(rng.choice(self.training_indices, size), dtype)

    def make_batch(self, indices: ArrayLike, dtype: DTypeLike = np.float32) -> Batch:
        """Return the images of these indices, such as all: ``range(len(task.images))``."""
        dtype, numbers = float_dtype(dtype), np.asarray(indices)
        if numbers.size and numbers.dtype.kind not in "iu":
            raise TypeError(f"indices must be integers, got dtype {numbers.dtype}")
        chosen = numbers.astype(np.intp)
        images = self.images[chosen]
        inputs = feature_major_zeros(images.shape, dtype)
        np.divide(images, self.maximum, out=inputs, casting="unsafe")
        return Batch(inputs, self.labels[chosen], indices=chosen)

    def validation(self, size: int, dtype: DTypeLike = np.float32) -> list[Batch] | None:
        """Return the validation images in one batch; None if there are none."""
        del size
        return [self.validation_batch(dtype)] if len(self.validation_indices) else None

    def validation_batch(self, dtype: DTypeLike = np.float32) -> Batch:
        """Return the validation images."""
        return self.make_batch(self.validation_indices, dtype)

    def test_batch(self, dtype: DTypeLike = np.float32) -> Batch:
        """Return the test images."""
        return self.make_batch(self.test_indices, dtype)

    def memoryless_baseline_loss(self, batch: Batch) -> float:
        """Return the loss of a predictor that reads no image, in nats: it uses the frequencies of digits in training.

        Digits that do not occur there make it infinite. The best predictor from the last row alone is unknown; its loss
        is smaller, because the last row of an image tells some digits apart.
        """
        frequencies = np.bincount(self.labels[self.training_indices], minlength=DIGITS) / len(self.training_indices)
        with np.errstate(divide="ignore"):
            return float(-np.log(frequencies[batch.targets]).mean()) if len(batch.targets) else 0.0


def _checked_width(path: Path, width: int) -> int:
    """Return the numbers of a row, if they are the pixels of a square image and a digit."""
    if width < 2 or isqrt(width - 1) ** 2 != width - 1:
        raise ValueError(f"{path} must have the pixels of a square image and a digit per row, got {width} numbers")
    return width


def _checked_images(images: AnyArray, maximum: float) -> AnyArray:
    values = as_array("images", images)
    if values.dtype.kind not in "uif":
        raise TypeError(f"images must be an array of numbers, got dtype {values.dtype}")
    if values.ndim != 3 or not values.size:
        raise ValueError(f"images must have shape (N, rows, columns), none of them 0, got {values.shape}")
    if not 0 <= values.min() <= values.max() <= maximum:
        raise ValueError(f"images must be from 0 to maximum = {maximum:g}, got {values.min():g} to {values.max():g}")
    return _constant(values)


def _checked_labels(labels: AnyArray) -> AnyArray:
    values = as_array("labels", labels)
    if values.dtype.kind not in "iu":
        raise TypeError(f"labels must be an array of integers, got dtype {values.dtype}")
    if values.ndim != 1:
        raise ValueError(f"labels must have shape (N,), got {values.shape}")
    if values.size and not 0 <= values.min() <= values.max() < DIGITS:
        raise ValueError(f"labels must be digits from 0 to 9, got {values.min()} to {values.max()}")
    return _constant(values.astype(np.int64))


def _constant(values: AnyArray) -> AnyArray:
    """Return a copy that cannot be changed."""
    copy = values.copy()
    copy.flags.writeable = False
    return copy


def _read_idx(path: Path, magic: int, axes: int) -> NDArray[np.uint8]:
    """Return the bytes in a file of MNIST's format: a number for its type, the sizes of its axes, its bytes."""
    limit = max_decompressed(path.stat().st_size)
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
            content = file.read(limit + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} must be a gzip file, got damaged data: {error}") from None
    header = struct.Struct(f">{1 + axes}I")
    if len(content) > limit:
        raise ValueError(f"{path} must have at most 100 times the compressed file's size and 1 MiB, got more")
    if len(content) < header.size or header.unpack_from(content)[0] != magic:
        kind = "images" if magic == IMAGE_MAGIC else "labels"
        raise ValueError(
            f"{path} must be an idx file of {kind}, which begins with {magic:08x}, got {content[:4].hex()}"
        )
    shape = header.unpack_from(content)[1:]
    size = len(content) - header.size
    if int(np.prod(shape, dtype=object)) != size:
        raise ValueError(f"{path} must have one byte for each of {' × '.join(map(str, shape))} values, got {size}")
    return np.frombuffer(content, np.uint8, offset=header.size).reshape(shape)
