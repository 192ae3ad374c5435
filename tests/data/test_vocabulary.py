"""Laws of vocabularies: decoding inverts encoding, and everything outside is an error that names it, or unknown."""

import copy
import json
import pickle
import re
import sys

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.data import Vocabulary

TEXT = "Don't stop, said the naïve 狐: 3 × 2 = 6.\n\n“Stop!”\tshe said; 😀 the end"


def test_characters_are_all_in_the_order_of_their_code_points():
    vocabulary = Vocabulary.from_text(TEXT)
    assert list(vocabulary.symbols) == sorted(set(TEXT))
    assert vocabulary.unknown is None
    assert vocabulary.decode(vocabulary.encode(TEXT)) == TEXT


@pytest.mark.parametrize("text", ["", "plain", TEXT, "\ud800 lone", "\x00\r\n"])
def test_bytes_hold_any_text(text):
    vocabulary = Vocabulary((), "bytes")
    assert len(vocabulary) == 256
    assert vocabulary.encode(text).tolist() == list(text.encode("utf-8", "surrogatepass"))
    if text.isprintable() or "\ud800" not in text:
        assert vocabulary.decode(vocabulary.encode(text)) == text


def test_invalid_utf8_is_decoded_as_replacement_characters():
    assert Vocabulary((), "bytes").decode([0xC3, 0x28, 0xE2, 0x82]) == "\ufffd(\ufffd"


def test_words_and_punctuation_are_symbols_and_white_space_is_none():
    vocabulary = Vocabulary.from_text(TEXT, "words")
    words = [vocabulary.symbols[k] for k in vocabulary.encode(TEXT)]
    assert words[:8] == ["Don", "'", "t", "stop", ",", "said", "the", "naïve"]
    assert vocabulary.symbols[-1] == vocabulary.unknown == "<unk>"
    assert vocabulary.encode("a new word: the end").tolist().count(vocabulary.unknown_id) == 3
    assert vocabulary.decode(vocabulary.encode(TEXT)).startswith(
        "Don't stop, said the naïve 狐: 3 × 2 = 6. “Stop!” she"
    )


def test_the_commonest_words_are_kept_and_ties_are_decided_by_code_points():
    vocabulary = Vocabulary.from_text("b b a a c d d d", "words", size=3)
    assert vocabulary.symbols == ("d", "a", "<unk>")
    assert vocabulary.encode("d c b a").tolist() == [0, 2, 2, 1]


def test_rare_characters_become_unknown_only_if_some_are_left_out():
    assert Vocabulary.from_text("aabbc", size=3).unknown is None
    vocabulary = Vocabulary.from_text("aabbcd", size=3)
    assert vocabulary.symbols == ("a", "b", "\ufffd")
    assert vocabulary.decode(vocabulary.encode("abcx")) == "ab\ufffd\ufffd"


@pytest.mark.parametrize("unit", ["characters", "words", "bytes"])
def test_configuration_pickle_and_copies_keep_everything(unit):
    vocabulary = Vocabulary.from_text(TEXT, unit)
    again = Vocabulary.from_config(json.loads(json.dumps(vocabulary.config)))
    pickled = pickle.loads(pickle.dumps(vocabulary))  # noqa: S301 - written by this test
    for other in (again, pickled, copy.deepcopy(vocabulary)):
        assert other == vocabulary
        assert hash(other) == hash(vocabulary)
        np.testing.assert_array_equal(other.encode(TEXT), vocabulary.encode(TEXT))
    assert vocabulary != Vocabulary("ab")
    assert vocabulary.__eq__(3) is NotImplemented


@pytest.mark.parametrize(("size", "dtype"), [(256, np.uint8), (257, np.uint16), (65_537, np.uint32)])
def test_ids_have_the_smallest_dtype(size, dtype):
    assert Vocabulary([chr(0x10000 + k) for k in range(size)]).id_dtype == dtype


@pytest.mark.parametrize(
    ("vocabulary", "text", "message"),
    [
        (Vocabulary("abc"), "abé", "text must consist of characters of the vocabulary, got 'é' (U+00E9) at position 2"),
        (Vocabulary("ab\n"), "a\nb\x1b", r"got '\x1b' (U+001B) at position 3, line 2 column 2"),
        (
            Vocabulary(["a", "b"], "words"),
            "a b cc",
            "text must consist of words of the vocabulary, got 'cc' at position 4",
        ),
    ],
)
def test_symbols_outside_are_named_with_their_place(vocabulary, text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        vocabulary.encode(text)


@loop_over(
    ("make", "error", "message"),
    [
        (lambda: Vocabulary("abca"), ValueError, "symbols must be different, got 'a' twice"),
        (lambda: Vocabulary(["ab"]), ValueError, "symbols must be characters, got 'ab'"),
        (lambda: Vocabulary(["a b"], "words"), ValueError, "symbols must be words, got 'a b'"),
        (lambda: Vocabulary([]), ValueError, "symbols must be 1 to 16,777,216 characters, got 0"),
        (lambda: Vocabulary([1, 2]), TypeError, "symbols must be str, got 1"),
        (lambda: Vocabulary(3), TypeError, "symbols must be a list of str, got 3"),
        (lambda: Vocabulary("ab", "letters"), ValueError, "unit must be one of 'characters', 'bytes', 'words'"),
        (lambda: Vocabulary(["a", "b"], "bytes"), ValueError, "symbols must be left out for bytes, got 2"),
        (lambda: Vocabulary("ab", unknown="c"), ValueError, "unknown must be one of the symbols, got 'c'"),
        (lambda: Vocabulary.from_text(""), ValueError, "text must have at least one of the characters"),
        (lambda: Vocabulary.from_text(" \n", "words"), ValueError, "text must have at least one of the words"),
        (lambda: Vocabulary.from_text(b"ab"), TypeError, "text must be a str, got a bytes"),
        (lambda: Vocabulary.from_text("ab", "bytes", 3), ValueError, "size must be None for bytes"),
        (
            lambda: Vocabulary.from_text("ab", size=1),
            ValueError,
            "size must be at least 2, one symbol and the unknown one",
        ),
        (
            lambda: Vocabulary.from_config({"unit": "bytes", "x": 1}),
            ValueError,
            "vocabulary must have unit, symbols and",
        ),
        (lambda: Vocabulary.from_config([]), ValueError, "vocabulary must have unit, symbols and unknown, got []"),
        (lambda: Vocabulary("ab").encode(b"ab"), TypeError, "text must be a str for a vocabulary of characters"),
    ],
)
def test_wrong_arguments_are_named(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


@pytest.mark.parametrize(("ids", "got"), [([0, 3], "3"), ([-1], "-1"), ([1.5], "1.5"), ([True], "True")])
def test_ids_that_are_none(ids, got):
    for vocabulary in (Vocabulary("abc"), Vocabulary(["a", "b", "c"], "words")):
        with pytest.raises(ValueError, match=rf"ids must be integers from 0 to V - 1 = 2, got {got}$"):
            vocabulary.decode(ids)
        assert vocabulary.decode([]) == ""


def test_another_thread_sees_the_table_of_characters_whole_or_not_at_all():
    vocabulary, complete = Vocabulary("abc"), Vocabulary("abc")
    complete.lookup("a")
    tables, previous = [], sys.gettrace()

    def note_table(*_):
        table = vocabulary._table
        tables.append(None if table is None else table.copy())
        return note_table

    sys.settrace(note_table)
    try:
        vocabulary.lookup("b")
    finally:
        sys.settrace(previous)
    assert len(tables) > 4
    assert tables[0] is None
    for table in tables:
        if table is not None:
            np.testing.assert_array_equal(table, complete._table)
