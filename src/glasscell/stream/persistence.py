"""Save and load the state of a stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from glasscell import checkpoint
from glasscell.escaping import one_line
from glasscell.stream.building import RecurrentState
from glasscell.stream.fingerprint import differences
from glasscell.stream.stream_memory import StreamMemory

if TYPE_CHECKING:
    from glasscell.atomic_files import StrPath

FILE_KIND = "Stream"


def save_state(path: StrPath, memory: StreamMemory, fingerprint: dict[str, Any]) -> None:
    """Write the state of a stream and the fingerprint of its model to a file."""
    if not memory.arrays:
        raise ValueError("the stream cannot be saved: no layer of the model has a state")
    arrays = {f"remembered.{k}": memory.to_user(array) for k, array in enumerate(memory.remembered)}
    for k, layers in enumerate(memory.recurrent):
        arrays |= {f"{k}.{name}": part for name, part in memory.to_user_state(layers)._asdict().items()}
        if layers[0].repeated is not None:
            arrays[f"{k}.repeated"] = memory.stack([s.repeated for s in layers if s.repeated is not None])
    checkpoint.save(checkpoint.Checkpoint(FILE_KIND, fingerprint, arrays), path)


def load_state(path: StrPath, memory: StreamMemory, fingerprint: Mapping[str, Any]) -> Callable[[], None]:
    """Read a file that :func:`save_state` wrote, and return the function that copies its state into the memory.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged, or does not contain the state of a stream of this model.
    """
    kind, config, arrays = checkpoint.load(path)
    if kind != FILE_KIND:
        raise ValueError(f"{path} must contain the state of a stream, got a {kind!r}")
    if reasons := differences(config, fingerprint):
        raise ValueError(f"{path} contains the state of another model: {one_line('; '.join(reasons))}")
    expected = {
        f"{k}.{name}" for k, layers in enumerate(memory.recurrent) for name in (*layers[0].names, *_repeats(layers))
    }
    expected |= {f"remembered.{k}" for k in range(len(memory.remembered))}
    if arrays.keys() != expected:
        names = one_line(", ".join(sorted(arrays)))
        raise ValueError(f"{path} must contain {', '.join(sorted(expected))}, got {names}")
    saved = [tuple(arrays[f"{k}.{name}"] for name in layers[0].names) for k, layers in enumerate(memory.recurrent)]
    states = memory.from_user_states(saved, str(path))
    repeated = [
        memory.from_user_layers(f"{path}: {k}.repeated", arrays[f"{k}.repeated"], layers, 0)
        if _repeats(layers)
        else None
        for k, layers in enumerate(memory.recurrent)
    ]
    remembered = [
        memory.from_user(f"{path}: remembered.{k}", arrays[f"remembered.{k}"], array)
        for k, array in enumerate(memory.remembered)
    ]

    def change() -> None:
        memory.set_states(states)
        for array, value in zip(memory.remembered, remembered, strict=True):
            array[...] = value
        for layers, values in zip(memory.recurrent, repeated, strict=True):
            for state, value in zip(layers, () if values is None else values, strict=values is not None):
                if state.repeated is not None:
                    state.repeated[...] = value

    return change


def _repeats(layers: Sequence[RecurrentState]) -> tuple[str, ...]:
    return () if layers[0].repeated is None else ("repeated",)
