"""Law: what is decoded equals what was encoded, in type, bits and order of axes; a file cannot do harm."""

import json
import math
import pickle
import sys
from collections import OrderedDict, namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
from case_loops import loop_over
from training_cases import copy_model, copy_task

from glasscell import tensor_files
from glasscell.recurrent.tape import LSTMState
from glasscell.training import CheckpointFolder, History, Training, TrainingOptions
from glasscell.training.checkpoint_files import read_manifest
from glasscell.training.description import difference
from glasscell.training.state_encoding import ROW_BYTES, decode_state, encode_state

ARRAY = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
VALUES = {
    "none": None,
    "Booleans": [True, False, np.True_],
    "integers": [0, -3, 2**127 + 1, np.int8(-1), np.uint64(2**64 - 1)],
    "floats": [0.1, -0.0, 1e308, np.nan, np.inf, -np.inf, np.float32(0.1), np.float64(np.nan), np.float16(1)],
    "text": ["", "naïve 猫", "\x00", "$"],
    "nested": {"a": [(), (1, (2.5, None))], "b": {}},
    "slices": [slice(0, 5), slice(None, None, -2)],
    "state": (LSTMState((ARRAY[0], ARRAY[1]), np.zeros((0, 3))),),
    "orders": [ARRAY, ARRAY.T, np.moveaxis(ARRAY, 0, 1), ARRAY[:, ::2], ARRAY[..., :0], np.zeros(()), ARRAY[0].T[:1]],
    "dtypes": [np.arange(3).astype(dtype) for dtype in ("?", "i1", "u2", "<i8", "u8", "f2", "f4", "f8", ">f4")],
    "generator": np.random.Generator(np.random.MT19937(3)).bit_generator.state,
    "Philox": np.random.Generator(np.random.Philox(3)).bit_generator.state,
    "history": History(
        [
            {"update": 1, "loss": 0.5, "mine": "text", "single": np.float32(0.1), "large": 2**70},
            {"update": 2, "loss": np.nan, "validation_loss": 0.25, "single": np.float32(0.2), "large": 1, "flag": True},
            {"update": 3, "loss": 1, "validation_loss": 0.125, "single": np.float32(0.3), "large": 2},
        ],
        best_update=2,
        failures=[{"update": 2, "loss": np.nan, "message": "loss nan"}],
    ),
    "empty history": History(),
}


def round_trip(state):
    content, tensors = encode_state(state)
    text = json.dumps(content, allow_nan=False)
    assert all(tensor.flags.c_contiguous and tensor.dtype.byteorder in "<|=" for tensor in tensors.values())
    return decode_state(json.loads(text), tensors)


def described(value):
    """Return a value as nested tuples of types, bits and orders of axes."""
    if isinstance(value, np.ndarray):
        axes = [axis for axis in range(value.ndim) if value.size and value.shape[axis] > 1]
        order = sorted(axes, key=lambda axis: -abs(value.strides[axis]))
        native = value.astype(value.dtype.newbyteorder("="))
        return "array", native.dtype.str, value.shape, order, native.tobytes()
    if isinstance(value, History):
        attributes = {name: item for name, item in vars(value).items() if name != "rows"}
        return "history", [sorted(described(row)) for row in value.rows], described(attributes)
    if isinstance(value, dict):
        return [(key, described(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value).__name__, [described(item) for item in value]
    return type(value).__name__, pickle.dumps(value)


def test_a_history_of_two_numbers_per_update_comes_back():
    """It needs far more memory than its tensors, which the limit for files of unknown origin allows."""
    history = History([{"loss": 1 / number, "single": np.float32(number)} for number in range(1, 2001)])
    assert described(round_trip({"history": history})) == described({"history": history})


@loop_over("name", VALUES)
def test_a_value_comes_back(name):
    decoded = round_trip({name: VALUES[name]})
    assert described(decoded) == described({name: VALUES[name]})


def test_a_column_without_values_is_one_of_a_history_without_rows():
    content, tensors = encode_state({"history": History([{"loss": 0.5}])})
    content["history"]["rows"] = 0
    [name] = tensors
    assert decode_state(content, {name: np.zeros(0)})["history"] == History()


def test_the_copy_shares_no_memory():
    content, tensors = encode_state({"a": ARRAY})
    assert np.shares_memory(tensors["a"], ARRAY)
    assert not np.shares_memory(decode_state(content, tensors)["a"], ARRAY)


Local = namedtuple("Local", "a")
Local.__qualname__ = "Other"


@loop_over(
    ("value", "text"),
    [
        ([object()], r"state.0 must be arrays, numbers, text.*, got <object"),
        ({1: 2}, r"state must have keys of text other than '\$', got \[1\]"),
        ({"$": 2}, r"state must have keys of text other than '\$'"),
        (np.array(["a"]), "state must have a dtype of Booleans or numbers of at most 8 bytes, got <U1"),
        (np.zeros(2, complex), "state must have a dtype .*, got complex128"),
        (OrderedDict(a=1), "state must be arrays"),
        (np.ma.masked_array([1.0], [True]), "state must be arrays"),
        (Local(1), "state must be an instance of a class of a module, got a Other"),
        (2j, "state must be arrays"),
    ],
)
def test_other_values_are_refused_by_name(value, text):
    with pytest.raises(TypeError, match=text):
        encode_state({"state": value})


def nodes(value):
    """Yield the containers of a value of JSON, with their keys."""
    for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(item, dict | list):
            yield from nodes(item)


def test_a_changed_state_is_decoded_or_refused(rng):
    """Each node of the JSON of a state is replaced by several values, and each tensor by another."""
    training = Training(copy_model(), copy_task(), TrainingOptions(updates=9, batch_size=4, tbptt_steps=4))
    for _ in range(3):
        training.step()
    content, tensors = encode_state(training.state())
    text, others, refused = json.dumps(content), [None, -1, 10**9, "x", [], {}, {"$": "array"}, [[1]], 2.5], 0
    for number in range(sum(1 for _ in nodes(json.loads(text)))):
        changed = json.loads(text)
        container, key = [*nodes(changed)][number]
        container[key] = others[rng.integers(len(others))]
        try:
            decode_state(changed, tensors)
        except ValueError:
            refused += 1
    assert refused > 20
    for name in tensors:
        try:
            decode_state(content, tensors | {name: tensors[name].astype("?")[..., None]})
        except ValueError:
            refused += 1


@loop_over(
    "content",
    [
        {"a": {"$": "named tuple", "module": "os", "name": "system", "items": ["true"]}},
        {"a": {"$": "named tuple", "module": "subprocess", "name": "Popen", "items": ["true"]}},
        {"a": {"$": "named tuple", "module": "antigravity", "name": "x", "items": []}},
        {"a": {"$": "array", "tensor": "t"}, "b": {"$": "array", "tensor": "t"}},  # one tensor, many times
        {"a": {"$": "array", "tensor": "t", "axes": [0, 0]}},
        {"a": {"$": "history", "rows": 10**9, "columns": [], "failures": []}},
        {"a": {"$": "history", "rows": -1, "columns": [], "failures": []}},
        {"a": {"$": "class"}},
        {"a": {"$": []}},
    ],
)
def test_harmful_states_are_refused(content):
    with pytest.raises(ValueError, match="the state cannot be decoded"):
        decode_state(content, {"t": ARRAY})
    assert "antigravity" not in sys.modules


def test_rows_of_more_than_64_mib_that_no_tensor_stands_for_are_refused():
    rows = (64 << 20) // ROW_BYTES + 1
    history = {"$": "history", "rows": rows, "columns": [], "failures": []}
    with pytest.raises(ValueError, match="more memory than its size allows"):
        decode_state({"a": history}, {})


def test_deep_states_are_refused():
    content = leaf = []
    for _ in range(10**5):
        leaf.append([])
        leaf = leaf[0]
    with pytest.raises(ValueError, match="the state cannot be decoded"):
        decode_state({"a": content}, {})


def with_number(value, number, replacement):
    """Return a copy of a value of dictionaries and lists with another item at the place of this number."""
    copied = json.loads(json.dumps(value))
    container, key = [*nodes(copied)][number]
    container[key] = replacement
    return copied


@pytest.mark.parametrize(("first", "number"), [*enumerate([math.nan, math.inf, -math.inf])])
def test_numbers_that_are_not_finite_come_back_from_every_place(first, number, tmp_path):
    """Each entry of the description, losses and scores are replaced: a third of the entries by each number."""
    training = Training(copy_model(), copy_task(), TrainingOptions(updates=9, batch_size=4))
    training.step()
    state, description = training.state(), training.description
    places = range(sum(1 for _ in nodes(json.loads(json.dumps(description)))))
    assert len(places) > 30
    floats = {name: number for name, value in state["failures"]["watch"].items() if isinstance(value, float)}
    state["failures"]["watch"] |= floats
    state["best_score"] = number
    state["history"].rows[0] |= {"loss": number, "validation_loss": number}
    assert len(floats) > 3
    options = SimpleNamespace(monitor="loss")
    with CheckpointFolder(tmp_path) as folder:
        for place in places[first::3]:
            changed = with_number(description, place, number)
            folder.save(
                SimpleNamespace(
                    history=state["history"], options=options, description=changed, state=lambda copy: state
                )
            )
            stored = folder.newest()
            assert repr(stored.description) == repr(changed) == repr(read_manifest(tmp_path)["description"])
            assert difference(stored.description, changed) == ""
            assert described(stored.state) == described(state)
    assert all(
        b"NaN" not in file.read_bytes() and b"Infinity" not in file.read_bytes() for file in tmp_path.glob("*/*")
    )


def test_a_file_that_its_reader_would_refuse_is_not_written():
    for number in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="must have finite numbers in its header, got an entry 'name'"):
            tensor_files.encode("name", {"config": [{"scale": number}]}, {})
