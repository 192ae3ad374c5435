"""Values at the borders of types and sizes, and random changes of JSON documents and of bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Generator = np.random.Generator
Mutation = Callable[[bytes, Generator], bytes]

INTEGERS = (
    *(0, 1, -1, 2, 3, 7, 8, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 1023, 1024, 1025, 4096, 65535, 65536, 100_000),
    *(2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30),
    *(-2, -128, -(2**31), -(2**63), -(10**30)),
)
FLOATS = (0.0, -0.0, 0.5, 1.5, -1.0, 1e-45, 1e-320, 1e38, 1e39, 1e308, -1e308)
TEXTS = (
    *(
        "",
        " ",
        "a",
        "\n",
        "\t",
        "\0",
        "a\nb",
        "é",
        "日本",
        "\u202e",
        "\ud7ff",
        "😀",
        "%s",
        "{}",
        "\\",
        '"',
        "'",
        "x" * 3000,
    ),
    *(
        "..",
        "../../etc/passwd",
        "/etc/passwd",
        "NaN",
        "inf",
        "null",
        "true",
        "float32",
        "float64",
        "int8",
        "numpy",
        "auto",
    ),
    *("LSTM", "Linear", "Sequential", "Trace", "Stream", "tanh", "sigmoid", "relu", "__class__", "__init__", "weight"),
)


def pick(rng: Generator, values: Any) -> Any:
    """Return one of the values."""
    return values[int(rng.integers(len(values)))]


def integer(rng: Generator) -> int:
    """Return a value near a border, or a small one."""
    return pick(rng, INTEGERS) + int(rng.integers(-1, 2)) if rng.random() < 0.7 else int(rng.integers(0, 20))


def json_value(rng: Generator, depth: int = 0) -> Any:
    """Return any value of JSON."""
    kind = rng.integers(8 if depth < 3 else 6)
    if kind < 2:
        return integer(rng)
    if kind == 2:
        return pick(rng, FLOATS)
    if kind == 3:
        return pick(rng, TEXTS)
    if kind < 6:
        return pick(rng, (None, True, False, [], {}, [[]], [0], {"a": 1}))
    count = int(rng.choice([0, 1, 2, 3, 40]))
    if kind == 6:
        return [json_value(rng, depth + 1) for _ in range(count)]
    return {f"{pick(rng, TEXTS)}{k if count > 3 else ''}": json_value(rng, depth + 1) for k in range(count)}


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container of a document, with each key of it."""
    pending = [node]
    while pending:
        container = pending.pop()
        if not isinstance(container, dict | list):
            continue
        for key in container if isinstance(container, dict) else range(len(container)):
            yield container, key
            pending.append(container[key])


def changed_json(document: Any, rng: Generator) -> Any:
    """Return a document with one change: a value replaced, removed, repeated, moved or renamed."""
    document = json.loads(json.dumps(document))
    places = list(_places(document))
    if not places or rng.random() < 0.02:
        return json_value(rng)
    container, key = pick(rng, places)
    change = rng.integers(10)
    value = container[key]
    if change < 3:
        container[key] = json_value(rng)
    elif change == 3:
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        container[key] = value + int(pick(rng, (1, -1, 2, 1000))) if is_integer else [value]
    elif change == 4:
        del container[key]
    elif change == 5:
        other, place = pick(rng, places)
        container[key] = json.loads(json.dumps(other[place]))  # a copy: no cycle
    elif change == 6:
        container[key] = _changed_value(value, rng)
    elif isinstance(container, list):
        container[key:key] = [value] * int(pick(rng, (1, 1, 2, 100)))
    elif change == 7:
        container[pick(rng, TEXTS)] = json_value(rng)
    else:
        _rename(container, key, rng)
    return document


def _changed_value(value: Any, rng: Generator) -> Any:
    if isinstance(value, str):
        return changed_text(value, rng)
    if isinstance(value, list):
        return value[::-1] if rng.random() < 0.5 else value + value
    return str(value)


def _rename(entries: dict[str, Any], name: str, rng: Generator) -> None:
    new = pick(rng, (*TEXTS, f"{name}x", name[:-1], name.upper()))
    renamed = {new if key == name else key: value for key, value in entries.items()}
    entries.clear()
    entries.update(renamed)


def changed_text(text: str, rng: Generator) -> str:
    """Return a text with some characters changed, or another one."""
    if not text or rng.random() < 0.3:
        return pick(rng, TEXTS)
    k = int(rng.integers(len(text)))
    return text[:k] + pick(rng, ("", text[k] * 2, "_", ".", "0", "9" * 30, "é", "\n", " ")) + text[k + 1 :]


def json_text(document: Any, rng: Generator) -> bytes:
    """Return a document as text; rarely with what JSON does not have, or nested deep."""
    text = json.dumps(document, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    if rng.random() < 0.04:
        deep = int(pick(rng, (10, 990, 3000, 60_000)))
        value = pick(
            rng, (b"NaN", b"-Infinity", b"1e999", b"[" * deep + b"]" * deep, b'{"a":' * deep + b"1" + b"}" * deep)
        )
        text = text.replace(pick(rng, (b"1", b"null", b"true", b"[", b'""')), value, 1)
    return text


# Bytes


def flip(content: bytes, rng: Generator) -> bytes:
    """Flip one bit, or a few."""
    changed = bytearray(content)
    for place in rng.integers(8 * len(content), size=int(rng.choice([1, 1, 2, 8]))) if content else ():
        changed[place // 8] ^= 1 << int(place % 8)
    return bytes(changed)


def put(content: bytes, rng: Generator) -> bytes:
    """Overwrite some bytes with random ones."""
    changed = bytearray(content)
    for place in rng.integers(len(content), size=int(rng.choice([1, 1, 3]))) if content else ():
        changed[place] = int(rng.integers(256))
    return bytes(changed)


def put_integer(content: bytes, rng: Generator) -> bytes:
    """Overwrite an aligned or unaligned integer of 1 to 8 bytes with a value near a border."""
    size = int(pick(rng, (1, 2, 4, 8)))
    if len(content) < size:
        return content
    place = int(rng.integers(len(content) - size + 1))
    place -= place % size if rng.random() < 0.5 else 0
    order = "<" if rng.random() < 0.9 else ">"
    value = pick(rng, (*INTEGERS, len(content), len(content) - place)) + int(rng.integers(-1, 2))
    packed = struct.pack(order + "Q", value % 2**64)
    return content[:place] + (packed[:size] if order == "<" else packed[-size:]) + content[place + size :]


def cut(content: bytes, rng: Generator) -> bytes:
    """Remove the end, or a part."""
    start, stop = sorted(rng.integers(len(content) + 1, size=2).tolist())
    return content[:start] if rng.random() < 0.5 else content[:start] + content[stop:]


def repeat(content: bytes, rng: Generator) -> bytes:
    """Repeat a part, rarely a thousand times."""
    start = int(rng.integers(len(content) + 1))
    part = content[start : start + int(rng.choice([1, 8, 64, 512]))]
    return content[:start] + part * int(rng.choice([1, 1, 1, 10, 1000 if len(part) < 65 else 2])) + content[start:]


def insert(content: bytes, rng: Generator) -> bytes:
    """Insert random bytes, or copy bytes from elsewhere."""
    place, source = (int(rng.integers(len(content) + 1)) for _ in range(2))
    size = int(rng.choice([1, 2, 4, 8, 32]))
    part = rng.bytes(size) if rng.random() < 0.5 else content[source : source + size]
    return content[:place] + part + content[place + size * (rng.random() < 0.5) :]


BYTES: tuple[Mutation, ...] = (flip, put, put_integer, put_integer, cut, repeat, insert)


def change_bytes(content: bytes, rng: Generator) -> bytes:
    """Return changed bytes, of any structure."""
    for _ in range(int(rng.choice([1, 1, 2, 4]))):
        content = pick(rng, BYTES)(content, rng)
    return content
