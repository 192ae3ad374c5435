"""Laws of texts as data: streams, splits, files in pieces, and memory that does not grow with the text."""

import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.data import TextData, Vocabulary
from glasscell.data.text import files, id_storage
from glasscell.data.text.files import TextFiles
from glasscell.data.text.id_storage import IdWriter, StoredIds

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
RNG = np.random.default_rng(0)
TEXT = "".join(chr(97 + k) for k in RNG.integers(0, 26, 5003))
HARD = (
    "\ufeffa€😀\r\nb\rc\n\r\r\nlast é word_1 don't\x85 \u2028x"  # 1 to 4 bytes, all line ends, a mark at the beginning
)


def ids_of(batches):
    """Inputs and targets of all batches, one row for each stream."""
    batches = list(batches)
    return [np.concatenate([getattr(batch, name) for batch in batches], axis=1) for name in ("inputs", "targets")]


# Splits


@pytest.mark.parametrize("split", ["streams", "tail"])
@pytest.mark.parametrize(("validation", "test"), [(0.05, 0.0), (0.1, 0.1), (0.0, 0.2), (0.0, 0.0)])
def test_parts_are_disjoint_streams_of_the_text_whose_targets_are_the_next_symbols(split, validation, test):
    data = TextData(TEXT, steps=7, streams=5, split=split, validation=validation, test=test)
    assert list(data.parts) == ["training", *["validation"] * bool(validation), *["test"] * bool(test)]
    whole, used = data.vocabulary.encode(TEXT), set()
    for part in data.parts.values():
        inputs, targets = ids_of(part)
        assert len(part) == len(list(part))
        assert [batch.continues for batch in part] == [False, *[True] * (len(part) - 1)]
        for row, start in enumerate(part.starts):
            np.testing.assert_array_equal(inputs[row], whole[start : start + part.length])
            np.testing.assert_array_equal(targets[row], whole[start + 1 : start + part.length + 1])
            positions = set(range(start, start + part.length))
            assert not positions & used
            used |= positions


def test_split_by_streams_is_that_of_char_rnn():
    """1,115,394 symbols in 50 streams: 446 windows, floor(446 · 0.95) = 423 of them for training."""
    data = TextData(StoredIds(np.zeros(1_115_394, np.uint8)), Vocabulary("a"))
    assert data.parts["training"].length == 423 * 50
    assert data.parts["validation"].length == 23 * 50
    assert data.parts["training"].starts[1] == data.parts["validation"].starts[0] + 23 * 50 == 446 * 50
    expected = (
        "1,115,394 characters, 1 different. Split by streams: 50 streams of 22,300 characters; in each, the first "
        "21,150 are for training, and the next 1,150 for validation. The last 394 are not used as inputs."
    )
    assert data.description == expected


def test_split_at_the_end_holds_out_the_end():
    data = TextData(TEXT, steps=7, streams=5, split="tail", validation=0.1, test=0.2)
    expected = (
        "5,003 characters, 26 different. Split at the end: in this order 3,503 for training (5 streams of 700), 500 "
        "for validation (5 streams of 99), and 1,000 for test (5 streams of 199)."
    )
    assert data.description == expected
    assert data.parts["validation"].starts[0] == 3503
    assert data.parts["test"].starts[0] == 4003


def test_an_epoch_has_whole_windows_from_a_random_position():
    data = TextData(TEXT, steps=7, streams=5)
    whole, firsts, training = data.vocabulary.encode(TEXT), set(), data.parts["training"]
    for seed in range(20):
        inputs, targets = ids_of(data.batches(5, np.random.default_rng(seed), np.float32))
        assert inputs.shape == (5, 7 * data.num_batches)
        np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
        first = next(k for k in range(8) if (inputs[0] == whole[k : k + inputs.shape[1]]).all())
        assert first + inputs.shape[1] <= training.length
        firsts.add(first)
    assert len(firsts) > 4


def test_blocks_that_are_read_at_once_do_not_change_the_batches(monkeypatch):
    data = TextData(TEXT, steps=7, streams=5)
    before = ids_of(data.parts["training"])
    monkeypatch.setattr("glasscell.data.text.text_data.BLOCK", 5 * 7 * 3)
    np.testing.assert_array_equal(ids_of(data.parts["training"]), before)


@loop_over(
    ("options", "message"),
    [
        ({"steps": 50, "streams": 200}, "text must have at least 20,001 characters, 200 streams of 2 windows of 50 "),
        (
            {"steps": 50, "streams": 200, "split": "tail"},
            "the training part of the text must have at least 10,001 characters for 200 streams of 50, got 4,753",
        ),
        ({"streams": 300, "steps": 2, "split": "tail"}, "the validation part of the text must have at least 301"),
        ({"validation": 0.5, "test": 0.5}, "validation and test must be below 1 together, got 0.5 and 0.5"),
        ({"validation": -0.1}, "validation must be finite and at least 0, got -0.1"),
        ({"split": "head"}, "split must be one of 'streams', 'tail', got 'head'"),
        ({"streams": 0}, "streams must be at least 1, got 0"),
    ],
)
def test_texts_that_are_too_short_and_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        TextData(TEXT, **options)


def test_the_smallest_text_fits():
    data = TextData("ab" * 10 + "c", steps=5, streams=2)
    assert [part.length for part in data.parts.values()] == [5, 5]
    assert data.num_batches == 1
    with pytest.raises(ValueError, match="text must have at least 21 characters"):
        TextData("ab" * 10, steps=5, streams=2)


def test_wrong_texts_are_named():
    with pytest.raises(ValueError, match="text must have at least one character, got none"):
        TextData("")
    with pytest.raises(TypeError, match="text must be a str or bytes, got a list; from_files reads files"):
        TextData([1, 2])
    with pytest.raises(ValueError, match="vocabulary_size must be None for a vocabulary that is passed"):
        TextData(TEXT, Vocabulary("ab"), vocabulary_size=3)
    with pytest.raises(ValueError, match="text must consist of characters of the vocabulary"):
        TextData(TEXT, Vocabulary("ab"))


def test_fit_takes_batch_size_loss_and_number_of_updates_from_the_data():
    data = TextData(TEXT, steps=10, streams=4)
    model = gc.LanguageModel(data.vocabulary, 4, 4, 1)
    history = gc.fit(model, data, epochs=2, schedule=None)
    assert history.updates == 2 * data.num_batches
    with pytest.raises(ValueError, match="batch_size must be the number of streams of the text, 4, got 5"):
        gc.fit(model, data, epochs=1, batch_size=5)


def test_a_model_that_reads_backward_cannot_carry_its_state():
    model = gc.Sequential([gc.Embedding(26, 4), gc.LSTM(4, 4, bidirectional=True), gc.Linear(8, 26)])
    with pytest.raises(ValueError, match="TextData need a model that runs forward in time only"):
        gc.fit(model, TextData(TEXT, steps=10, streams=4), epochs=1)


def test_another_model_trains_on_a_text():
    data = TextData(TEXT, steps=10, streams=4)
    model = gc.Sequential([gc.Embedding(26, 4), gc.LSTM(4, 4), gc.Linear(4, 26)])
    history = gc.fit(model, data, epochs=1, metrics=["accuracy"])
    assert history.updates == data.num_batches
    assert history.rows[-1]["validation_loss"] == pytest.approx(np.log(26), rel=0.05)


# Files


@pytest.mark.parametrize("size", [*range(1, 12), 1000])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("unit", ["characters", "words"])
def test_pieces_of_any_size_give_the_same_text(unit, normalize, size, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PIECE", size)
    text = HARD
    (tmp_path / "a").write_bytes(text.encode())
    source = TextFiles(tmp_path / "a", unit, normalize=normalize)
    if normalize:
        text = re.sub("\r\n?", "\n", text.removeprefix("\ufeff"))
    vocabulary = source.vocabulary()
    assert vocabulary == Vocabulary.from_text(text, unit)
    ids = source.encode(vocabulary)
    np.testing.assert_array_equal(ids.rows([0], len(ids))[0], vocabulary.encode(text))


def test_several_files_are_joined_and_each_may_begin_with_a_mark(tmp_path):
    for name, text in {"a": "\ufeffone\r\n", "b": "\ufefftwo", "c": "three"}.items():
        (tmp_path / name).write_bytes(text.encode())
    files = [tmp_path / name for name in "abc"]
    data = TextData.from_files(files, steps=2, streams=2, validation=0)
    expected = "one\ntwothree"
    np.testing.assert_array_equal(data._ids.rows([0], len(data))[0], data.vocabulary.encode(expected))
    words = TextFiles(files, "words")
    assert words.vocabulary().symbols == ("one", "three", "two", "<unk>")


def test_bytes_are_never_changed(tmp_path):
    content = bytes(range(256)) * 3 + b"\xef\xbb\xbf\r\n"
    (tmp_path / "a").write_bytes(content)
    data = TextData.from_files(tmp_path / "a", "bytes", steps=2, streams=2)
    assert data._ids.rows([0], len(data))[0].tobytes() == content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"abc\xffdef", "got the byte 0xff at offset 3 (invalid start byte)"),
        ("aé".encode() + b"\xc3", "got the byte 0xc3 at offset 3 (unexpected end of data)"),
        ("€".encode()[:2] + b"abc", "got the byte 0xe2 at offset 0 (invalid continuation byte)"),
        ("x".encode("utf-16"), "got the byte 0xff at offset 0"),
        (b"", "must have at least one character, got an empty file"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_bytes_that_are_no_utf8_are_named_with_file_and_offset(content, message, size, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PIECE", size)
    (tmp_path / "good").write_text("good")
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        TextData.from_files([tmp_path / "good", tmp_path / "bad"])
    assert str(tmp_path / "bad") in str(caught.value)
    if "offset" in message:
        assert "unit='bytes' (--bytes)" in str(caught.value)


def test_files_that_do_not_exist_and_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(f"there is no file {tmp_path / 'x'}")):
        TextData.from_files(tmp_path / "x")
    with pytest.raises(ValueError, match="must be a regular file, got a folder or device"):
        TextData.from_files(tmp_path)
    (tmp_path / "mark").write_bytes(b"\xef\xbb\xbf")
    with pytest.raises(ValueError, match="mark must have at least one of the characters of a text, got none"):
        TextData.from_files(tmp_path / "mark")
    with pytest.raises(ValueError, match="files must be at least one file, got none"):
        TextData.from_files([])


def test_a_character_outside_the_vocabulary_is_named_with_file_and_position(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PIECE", 3)
    (tmp_path / "a").write_text("abababc")
    message = f"{tmp_path / 'a'} must consist of characters of the vocabulary, got 'c' (U+0063) at position 6"
    with pytest.raises(ValueError, match=re.escape(message)):
        TextData.from_files(tmp_path / "a", Vocabulary("ab"))
    with pytest.raises(ValueError, match="must consist of words of the vocabulary, got 'abababc'"):
        TextData.from_files(tmp_path / "a", Vocabulary(["ab"], "words"))


def test_a_word_that_needs_too_much_memory_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_WORD", 10)
    monkeypatch.setattr(files, "PIECE", 4)
    (tmp_path / "a").write_text("a" * 12)
    with pytest.raises(ValueError, match="must have words of at most 10 characters, got a longer one"):
        TextData.from_files(tmp_path / "a", "words")


# Real texts


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
def test_real_texts_have_the_sizes_of_their_descriptions():
    data = TextData.from_files(SHARED / "tinyshakespeare" / "input.txt")
    assert (len(data), len(data.vocabulary)) == (1_115_394, 65)
    assert (data.parts["training"].length, data.parts["validation"].length) == (21_150, 1_150)
    file = SHARED / "warpeace" / "warpeace_input.txt"  # 87 different bytes, of which 3 are a byte order mark
    source = TextFiles(file, "bytes")
    assert (source.num_bytes, len(set(file.read_bytes()))) == (3_258_246, 87)
    assert "\r" not in TextFiles(file).vocabulary()
    kept = TextFiles(file, normalize=False).vocabulary()
    assert "\r" in kept
    assert "\ufeff" in kept
    counts = TextFiles(file, "words")._word_counts()
    assert counts.total() == 684_584


# Large texts


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file of 24 MB, and a limit of 1 MB for ids in memory."""
    monkeypatch.setattr(IdWriter, "MEMORY_LIMIT", 1 << 20)
    block = "".join(chr(97 + k) for k in RNG.integers(0, 26, 9_999)) + "é"
    file = tmp_path / "large.txt"
    with file.open("w", encoding="utf-8") as stream:
        for _ in range(2400):
            stream.write(block)
    return file


@pytest.mark.parametrize("unit", ["characters", "bytes"])
def test_a_large_text_is_never_in_memory(unit, large, tmp_path, monkeypatch):
    """An epoch of 24 MB allocates less than 8 MB, and maps only what it reads."""
    mapped, memmap = [], np.memmap

    def counted(*args, **options):
        mapped.append(args)
        return memmap(*args, **options)

    monkeypatch.setattr(id_storage.np, "memmap", counted)
    tracemalloc.start()
    try:
        data = TextData.from_files(large, unit, folder=tmp_path)
        count = sum(batch.inputs.size for batch in data.batches(50, np.random.default_rng(0), np.float32))
        count += sum(batch.inputs.size for batch in data.validation(50, np.float32))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count > 0.99 * len(data)
    assert not data._ids.in_memory
    assert 10 < len(mapped) < 200
    assert peak < 8 << 20
    assert [path.name for path in tmp_path.iterdir()] == ["large.txt"]  # the temporary file has no name


def test_ids_in_a_file_are_those_in_memory(large, tmp_path, monkeypatch):
    on_disk = TextData.from_files(large, folder=tmp_path, streams=3)
    monkeypatch.setattr(IdWriter, "MEMORY_LIMIT", 1 << 30)
    in_memory = TextData.from_files(large, streams=3)
    assert in_memory._ids.in_memory
    assert on_disk.description == in_memory.description
    for starts in ([0, 10_000, 5_000_000], [len(on_disk) - 50] * 3):
        np.testing.assert_array_equal(on_disk._ids.rows(starts, 50), in_memory._ids.rows(starts, 50))


def test_a_folder_without_space_is_named(large, tmp_path, monkeypatch):
    folder = tmp_path / "missing"
    with pytest.raises(OSError, match="the ids of the text need space there: choose another folder") as caught:
        TextData.from_files(large, folder=folder)
    assert caught.value.filename == str(folder)


def test_a_file_that_shrinks_during_training_is_an_error(large):
    data = TextData.from_files(large, "bytes")
    with large.open("r+b") as stream:
        stream.truncate(1000)
    with pytest.raises(OSError, match="the file of the text has become shorter"):
        next(iter(data.parts["training"]))
