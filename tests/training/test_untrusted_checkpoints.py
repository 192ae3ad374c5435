"""Property: a checkpoint that was changed on purpose, checksum included, is one error before anything is restored."""

import contextlib
import copy
import json
import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell import checkpoint
from glasscell.checkpoint import HEADER_KEY
from glasscell.tensor_files import encode
from glasscell.training import manifest
from glasscell.training.checkpoint_files import FOLDER, read_checkpoint

FLIPS = int(os.environ.get("GLASSCELL_FLIPS", "400"))
NAME = "000000002.safetensors"


def train(updates: int, **options: Any) -> Any:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(6, 4, 2)), rng.normal(size=(6, 4, 3))
    model = gc.LSTM(2, 3, seed=1, engine="numpy")
    with warnings.catch_warnings(action="ignore"):  # of another environment
        gc.fit(model, data, updates=updates, loss="squared_error", validation=data, evaluate_every=1, seed=2, **options)
    return model.parameters.vector


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("run")
    train(2, checkpoint=folder)
    header, tensors = checkpoint.read_with_header(folder / FOLDER / NAME)
    assert header is not None
    del header["checksum"]
    return header, tensors


def resumed(folder: Path, header: Any, tensors: Any) -> Any:
    (folder / FOLDER).mkdir()
    (folder / FOLDER / NAME).write_bytes(encode(HEADER_KEY, header, tensors))
    return train(3, resume=folder)


def test_an_unchanged_file_is_resumed(saved: Any, tmp_path: Path) -> None:
    np.testing.assert_array_equal(resumed(tmp_path, *saved), train(3))


def of_tensor(name: str, change: Any) -> Any:
    return lambda state, tensors: tensors.update({name: change(tensors[name])})


def nested(state: Any, _: Any) -> None:
    state["states"] = [0]
    for _ in range(400):
        state["states"] = [state["states"]]


def set_rng(state: Any, _: Any) -> None:
    state["_replay_rng"] = 3


def share(state: Any, _: Any) -> None:
    """Use one tensor for many values: copies of it would take far more memory than the file."""
    state["last_batch"] = [{"$": "array", "tensor": "weights"} for _ in range(1000)]


CHANGES = {
    "shape": (of_tensor("weights", lambda array: array[:-1]), "weights must be float32"),
    "dtype": (of_tensor("weights", lambda array: array.astype("f8")), "weights must be float32"),
    "NaN": (of_tensor("weights", lambda array: array * np.nan), "weights must be finite"),
    "optimiser": (of_tensor("optimizer_states.0.sum", lambda array: array[None]), "sum must be"),
    "best": (of_tensor("best_weights", lambda array: array[:3]), "best_weights must be"),
    "generator": (set_rng, "_replay_rng must be a dict"),
    "number": (lambda state, _: state["failures"].update(halvings=None), "halvings must be a int"),
    "window": (lambda state, _: state["_window"].update(items=["a", 4, None]), "_window must be a slice of integers"),
    "entries": (lambda state, _: state["failures"].update(more=1), "failures must have the entries"),
    "shared": (share, "the state cannot be decoded"),
    "batch": (lambda state, _: state.update(last_batch=[3, 4]), "does not fit"),
    "name of the generator": (lambda state, _: state["rng"].update(bit_generator=63), "bit_generator must be a str"),
    "missing": (lambda state, _: state.pop("epoch"), "state must have the entries"),
}


@loop_over(("change", "message"), CHANGES.values(), ids=list(CHANGES))
def test_a_state_that_does_not_fit_is_refused(change: Any, message: str, saved: Any, tmp_path: Path) -> None:
    header, tensors = copy.deepcopy(saved)
    change(header["config"]["state"], tensors)
    with pytest.raises(ValueError, match=message) as caught:
        resumed(tmp_path, header, tensors)
    assert type(caught.value) is ValueError
    assert NAME in str(caught.value)
    assert "\n" not in str(caught.value)


def test_batches_that_the_data_do_not_have_are_not_waited_for(saved: Any, tmp_path: Path) -> None:
    header, tensors = copy.deepcopy(saved)
    header["config"]["state"]["batches_done"] = 10**12
    with pytest.raises(ValueError, match="data must repeat batch 1000000000000 of epoch"):
        resumed(tmp_path, header, tensors)


def test_an_unknown_entry_of_the_header_is_refused_in_one_line(saved: Any, tmp_path: Path) -> None:
    header, tensors = saved
    with pytest.raises(ValueError, match=re.escape(NAME)) as caught:
        resumed(tmp_path, header | {"\n": 1}, tensors)
    assert "\n" not in str(caught.value)


def test_a_state_that_is_nested_deep_is_refused_or_read(saved: Any, tmp_path: Path) -> None:
    header, tensors = copy.deepcopy(saved)
    nested(header["config"]["state"], tensors)
    with contextlib.suppress(ValueError):  # and no RecursionError
        resumed(tmp_path, header, tensors)


def test_a_file_without_a_checksum_is_refused(saved: Any, tmp_path: Path) -> None:
    header, tensors = saved
    content = encode(HEADER_KEY, header, tensors)
    length = int.from_bytes(content[:8], "little")
    entries = json.loads(content[8 : 8 + length])
    own = json.loads(entries["__metadata__"][HEADER_KEY])
    del own["checksum"]
    entries["__metadata__"][HEADER_KEY] = json.dumps(own)
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    (tmp_path / NAME).write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    with pytest.raises(ValueError, match=rf"{NAME} is not a checkpoint of a training"):
        read_checkpoint(tmp_path / NAME, None)


@pytest.mark.parametrize("kind", ["checkpoint", "manifest"])
def test_no_changed_bit_goes_unnoticed(kind: str, tmp_path: Path, rng: np.random.Generator) -> None:
    train(2, checkpoint=tmp_path)
    path = tmp_path / FOLDER / {"checkpoint": NAME, "manifest": manifest.NAME}[kind]
    read: Any = {"checkpoint": lambda path: read_checkpoint(path, None), "manifest": manifest.read_manifest_file}[kind]
    content = bytearray(path.read_bytes())
    for place in map(int, rng.integers(8 * len(content), size=FLIPS // 2)):
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"\w"):
            read(path)
        content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)
    read(path)
