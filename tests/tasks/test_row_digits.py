"""Law: RowDigits reads the files of scikit-learn and MNIST, divides them without overlap, and shows row after row."""

import gzip
import pickle
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.layers import FinalState
from glasscell.tasks import RowDigits, row_digits

DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture
def images(rng):
    """Images of four rows whose digit is the column of the pixel in the first row: the model must remember it."""
    labels = rng.integers(10, size=60)
    images = rng.integers(0, 120, (60, 4, 10), np.uint8)
    images[:, 0] = 0
    images[np.arange(60), 0, labels] = 255
    return images, labels


def idx_bytes(array, magic=None):
    magic = {1: 0x801, 3: 0x803}[array.ndim] if magic is None else magic
    return struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.astype(np.uint8).tobytes()


def test_rows_are_steps_and_values_are_divided_by_the_maximum(images):
    task = RowDigits(*images)
    batch = task.make_batch(range(60), np.float64)
    np.testing.assert_array_equal(batch.inputs, images[0] / 255)
    np.testing.assert_array_equal(batch.targets, images[1])
    assert batch.inputs.transpose(1, 2, 0).flags.c_contiguous
    assert task.make_batch([3]).inputs.dtype == np.float32
    assert (task.input_size, task.output_size) == (10, 10)
    outputs = batch.inputs[:, 0] * 30  # a program that remembers the first row
    assert row_digits.is_correct(outputs, batch).all()


def test_parts_do_not_overlap_and_epochs_have_each_image_once(images):
    task = RowDigits(*images, validation_fraction=0.25, test_fraction=0.3, seed=4)
    parts = task.training_indices, task.validation_indices, task.test_indices
    assert [len(part) for part in parts] == [27, 15, 18]
    assert sorted(np.concatenate(parts)) == list(range(60))
    again = pickle.loads(pickle.dumps(task))  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(again.test_indices, task.test_indices)
    assert (RowDigits(*images, 255, 0.25, 0.3, seed=5).test_indices != task.test_indices).any()
    epoch = list(task.batches(10, np.random.default_rng(0)))
    assert [len(batch.inputs) for batch in epoch] == [10, 10, 7]
    assert sorted(np.concatenate([batch.indices for batch in epoch])) == sorted(task.training_indices)
    other = list(task.batches(10, np.random.default_rng(1)))
    assert (epoch[0].indices != other[0].indices).any()
    assert set(task.batch(200, np.random.default_rng(0)).indices) <= set(task.training_indices)
    assert len(task.validation(3)) == 1
    assert RowDigits(*images, validation_fraction=0).validation(3) is None
    assert repr(task) == "RowDigits(maximum=255.0, validation_fraction=0.25, test_fraction=0.3, seed=4)"
    with pytest.raises(ValueError, match="read-only"):
        task.images[0] = 0


def test_baseline_is_the_entropy_of_the_digits(images):
    task = RowDigits(*images, validation_fraction=0, test_fraction=0)
    batch = task.make_batch(task.training_indices, np.float64)
    share = np.bincount(images[1], minlength=10) / 60
    assert task.memoryless_baseline_loss(batch) == pytest.approx(-(share * np.log(share)).sum())
    logits = np.broadcast_to(np.log(share), (60, 10))
    loss = gc.core.losses.categorical_cross_entropy(logits, batch.targets)[0]
    assert task.memoryless_baseline_loss(batch) == pytest.approx(loss)


def test_an_lstm_learns_it(images):
    task = RowDigits(*images, validation_fraction=0.1, test_fraction=0.1)
    model = gc.Sequential([gc.LSTM(10, 16, seed=0), FinalState(), gc.Linear(16, 10)])
    gc.fit(model, task, epochs=30, batch_size=16, optimizer=gc.Adam(0.03))
    batch = task.make_batch(task.training_indices)
    loss = gc.core.losses.categorical_cross_entropy(model(batch.inputs), batch.targets)[0]
    assert loss < 0.5 * task.memoryless_baseline_loss(batch)


def test_a_training_resumes_with_the_same_images_only(images, tmp_path):
    def train(task, updates, **options):
        model = gc.Sequential([gc.LSTM(10, 4, seed=0), FinalState(), gc.Linear(4, 10)])
        gc.fit(model, task, updates, batch_size=8, schedule=lambda k: 1.0, evaluate_every=9, **options)
        return model.parameters.vector

    task = RowDigits(*images)
    whole = train(task, 9)  # 6 batches in an epoch
    train(task, 7, checkpoint=tmp_path, checkpoint_every=1)
    other = images[0].copy()
    other[task.test_indices[0], 0, 0] ^= 1  # training and validation are the same
    with pytest.raises(ValueError, match="data"):
        train(RowDigits(other, images[1]), 9, checkpoint=tmp_path, resume=True)
    np.testing.assert_array_equal(train(RowDigits(*images), 9, checkpoint=tmp_path, resume=True), whole)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_files_of_mnist(images, tmp_path, suffix):
    paths = [tmp_path / f"{name}{suffix}" for name in ("images", "labels")]
    for path, array in zip(paths, images, strict=True):
        content = idx_bytes(array)
        path.write_bytes(gzip.compress(content) if suffix else content)
    task = RowDigits.from_idx(*paths, test_fraction=0.5)
    np.testing.assert_array_equal(task.images, images[0])
    np.testing.assert_array_equal(task.labels, images[1])
    assert (task.maximum, len(task.test_indices)) == (255, 30)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be an idx file of images, which begins with 00000803, got "),
        (idx_bytes(np.zeros(3)), "must be an idx file of images, which begins with 00000803, got 00000801"),
        (idx_bytes(np.zeros((2, 3, 3)))[:-1], "must have one byte for each of 2 × 3 × 3 values, got 17"),
        (idx_bytes(np.zeros((2, 3, 3))) + b"0", "must have one byte for each of 2 × 3 × 3 values, got 19"),
        (struct.pack(">4I", 0x803, *[2**32 - 1] * 3), "values, got 0"),
    ],
)
def test_damaged_files_of_mnist(content, message, images, tmp_path):
    (tmp_path / "images").write_bytes(content)
    (tmp_path / "labels").write_bytes(idx_bytes(images[1]))
    with pytest.raises(ValueError, match=re.escape(message)):
        RowDigits.from_idx(tmp_path / "images", tmp_path / "labels")
    (tmp_path / "images.gz").write_bytes(gzip.compress(b"0" * 500)[:-20])
    with pytest.raises(ValueError, match=r"images\.gz must be a gzip file, got damaged data"):
        RowDigits.from_idx(tmp_path / "images.gz", tmp_path / "labels")
    (tmp_path / "images.gz").write_bytes(gzip.compress(bytes(2**22)))
    with pytest.raises(ValueError, match="must have at most 100 times the compressed file's size and 1 MiB, got more"):
        RowDigits.from_idx(tmp_path / "images.gz", tmp_path / "labels")


def test_a_table(tmp_path):
    rows = [[0, 4, 8, 16, 3], [1, 2, 3, 4, 9], [0, 0, 0, 0, 0]]
    path = tmp_path / "digits.csv"
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    task = RowDigits.from_csv(path, maximum=16, validation_fraction=0, test_fraction=0)
    assert task.images.tolist() == [[[0, 4], [8, 16]], [[1, 2], [3, 4]], [[0, 0], [0, 0]]]
    assert task.labels.tolist() == [3, 9, 0]
    assert RowDigits.from_csv(path).maximum == 255


@loop_over(
    ("text", "message"),
    [
        ("", "must have at least one line, got an empty file"),
        ("1,2,x,4,5\n", "digits.csv, line 1: must have numbers with commas, got '1,2,x,4,5'"),
        ("1,2,3,4,5\n\n", "digits.csv, line 2: must have numbers with commas, got ''"),
        ("1,2,3,4,5\n1,2,3,4\n", "digits.csv, line 2: must have 5 numbers, got 4"),
        ("1,2,3,4\n", "must have the pixels of a square image and a digit per row, got 4 numbers"),
        ("1\n", "must have the pixels of a square image and a digit per row, got 1 numbers"),
        ("1,2,3,4,5.5\n", "digits.csv, line 1: must end with a digit from 0 to 9, got 5.5"),
        ("1,2,3,4,10\n", "digits.csv, line 1: must end with a digit from 0 to 9, got 10"),
        ("1,2,3,-4,1\n", "images must be from 0 to maximum = 255, got -4 to 3"),
        ("1,2,3,256,1\n", "images must be from 0 to maximum = 255, got 1 to 256"),
    ],
)
def test_damaged_tables(text, message, tmp_path):
    path = tmp_path / "digits.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        RowDigits.from_csv(path)
    with pytest.raises(FileNotFoundError):
        RowDigits.from_csv(tmp_path / "other.csv")


def test_the_digits_of_scikit_learn():
    path = DATA / "digits" / "digits.csv.gz"
    if not path.is_file():
        pytest.skip("../shared/data/digits/digits.csv.gz is not there")
    task = RowDigits.from_csv(path)
    assert (task.images.shape, task.maximum) == ((1797, 8, 8), 16)
    assert np.bincount(task.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    model = gc.Sequential([gc.LSTM(8, 24, seed=0), FinalState(), gc.Linear(24, 10)])
    gc.fit(model, task, epochs=5, batch_size=32, optimizer=gc.Adam(0.02))
    test = task.test_batch()
    assert row_digits.is_correct(model(test.inputs), test).mean() > 0.85


def test_the_test_images_of_mnist():
    paths = [DATA / "mnist" / f"t10k-{name}-ubyte.gz" for name in ("images-idx3", "labels-idx1")]
    if not all(path.is_file() for path in paths):
        pytest.skip("../shared/data/mnist/t10k-images-idx3-ubyte.gz is not there")
    task = RowDigits.from_idx(*paths)
    assert task.images.shape == (10_000, 28, 28)
    assert np.bincount(task.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert len(task.training_indices) == 7000


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda x, y: RowDigits(x[0], y),
            ValueError,
            "images must have shape (N, rows, columns), none of them 0, got (4",
        ),
        (lambda x, y: RowDigits(x[:0], y[:0]), ValueError, "images must have shape (N, rows, columns), none of them 0"),
        (lambda x, y: RowDigits(x.astype(str), y), TypeError, "images must be an array of numbers, got dtype"),
        (lambda x, y: RowDigits(x, y[:-1]), ValueError, "labels must have one digit for each of 60 images, got 59"),
        (lambda x, y: RowDigits(x, y + 5), ValueError, "labels must be digits from 0 to 9, got 5 to 14"),
        (lambda x, y: RowDigits(x, y / 1), TypeError, "labels must be an array of integers, got dtype float64"),
        (lambda x, y: RowDigits(x, y[:, None]), ValueError, "labels must have shape (N,), got (60, 1)"),
        (lambda x, y: RowDigits(x, y, 0), ValueError, "maximum must be finite and above 0, got 0"),
        (lambda x, y: RowDigits(x * np.nan, y), ValueError, "images must be from 0 to maximum = 255, got nan to nan"),
        (lambda x, y: RowDigits(x, y, 255, 0.5, 0.5), ValueError, "must leave an image for training, got 0.5 and 0.5"),
        (lambda x, y: RowDigits(x, y, 255, 1), ValueError, "validation_fraction must be at least 0 and below 1, got 1"),
        (lambda x, y: RowDigits(x, y, seed=-1), ValueError, "seed must be 0 or more, got -1"),
    ],
)
def test_options_are_checked(make, error, message, images):
    with pytest.raises(error, match=re.escape(message)):
        make(*images)
