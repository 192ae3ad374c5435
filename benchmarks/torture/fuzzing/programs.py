"""Mutations of pickles, protobuf messages and the headers of NumPy's arrays."""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Iterator
from functools import cache
from typing import Any

from torture.fuzzing.values import INTEGERS, TEXTS, Generator, change_bytes, changed_text, pick, put_integer

DANGEROUS = (
    b"cos\nsystem\n",
    b"\x8c\x02os\x8c\x06system\x93",
    b"cbuiltins\neval\n",
    b"csubprocess\nPopen\n",
    b"cnumpy\nload\n",
)
KNOWN = (
    b"ccollections\nOrderedDict\n",
    b"ctorch\nFloatStorage\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch\nSize\n",
)


MAX_REPEATED = 1 << 22  # bytes of a repeated operation


def change_pickle(content: bytes, rng: Generator) -> bytes:
    """Remove, repeat, exchange, change or insert operations of a pickle."""
    try:
        places = [place for _, _, place in pickletools.genops(content) if place is not None]
    except Exception:  # noqa: BLE001 - changed before
        return change_bytes(content, rng)
    pieces = [content[a:b] for a, b in zip(places, [*places[1:], len(content)], strict=True)]
    for _ in range(int(rng.choice([1, 1, 2, 5]))):
        k, j = (int(rng.integers(len(pieces))) for _ in range(2))
        kind = rng.integers(8)
        if kind == 0:
            pieces[k] = b""
        elif kind == 1:
            pieces[k] *= min(int(pick(rng, (2, 2, 3, 2000))), 1 + MAX_REPEATED // (len(pieces[k]) + 1))
        elif kind == 2:
            pieces[k], pieces[j] = pieces[j], pieces[k]
        elif kind == 3:
            pieces[k] = pieces[j]
        elif kind == 4 and len(pieces[k]) > 1:
            pieces[k] = pieces[k][:1] + put_integer(pieces[k][1:], rng)
        elif kind == 5:
            pieces[k] = bytes([int(rng.integers(256))]) + pieces[k][1:]
        elif kind == 6:
            pieces.insert(
                k, pick(rng, (*KNOWN, *DANGEROUS, b"R", b"b", b"\x81", b"u", b"s", b"(", b"t", b"]", b"}", b")", b"N"))
            )
        else:
            integer = int(pick(rng, INTEGERS))
            pieces.insert(k, b"J" + struct.pack("<i", (integer + 2**31) % 2**32 - 2**31))
    return b"".join(pieces)


# Protobuf


def varint(value: int) -> bytes:
    """Return an integer in protobuf's form."""
    value, result = value % 2**64, bytearray()
    while value > 127:
        result.append(value & 127 | 128)
        value >>= 7
    return bytes([*result, value])


def _read_varint(content: bytes, place: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = content[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place


@cache
def _messages(descriptor: Any) -> dict[int, Any]:
    return {field.number: field.message_type for field in descriptor.fields if field.message_type is not None}


class Field:
    """One field of a message: its number, its wire type, and a value, bytes, or the fields of a message."""

    def __init__(self, number: int, wire: int, value: Any) -> None:
        self.number, self.wire, self.value = number, wire, value

    def __bytes__(self) -> bytes:
        if isinstance(self.value, int):
            return varint(self.number << 3) + varint(self.value)
        content = b"".join(map(bytes, self.value)) if isinstance(self.value, list) else self.value
        wire = self.wire or 2
        return varint(self.number << 3 | wire) + (varint(len(content)) if wire == 2 else b"") + content

    def copy(self) -> Field:
        """Return a copy, deep."""
        value = [field.copy() for field in self.value] if isinstance(self.value, list) else self.value
        return Field(self.number, self.wire, value)


def parse(content: bytes, descriptor: Any) -> list[Field]:
    """Return the fields of a valid message."""
    fields, place = [], 0
    while place < len(content):
        key, place = _read_varint(content, place)
        number, wire = key >> 3, key & 7
        value: Any
        if wire == 0:
            value, place = _read_varint(content, place)
        else:
            size = {1: 8, 5: 4}.get(wire)
            if size is None:
                size, place = _read_varint(content, place)
            value, place = content[place : place + size], place + size
            if wire == 2 and number in _messages(descriptor):
                value = parse(value, _messages(descriptor)[number])
        fields.append(Field(number, wire, value))
    return fields


def _lists(fields: list[Field]) -> Iterator[list[Field]]:
    yield fields
    for field in fields:
        if isinstance(field.value, list):
            yield from _lists(field.value)


def change_onnx(content: bytes, rng: Generator) -> bytes:
    """Change the tree of messages of a graph: fields, tags, integers, names, nodes, tensors."""
    import onnx
    import onnx.defs

    root = parse(content, onnx.ModelProto.DESCRIPTOR)
    for _ in range(int(rng.choice([1, 1, 2, 4]))):
        lists = [fields for fields in _lists(root) if fields]
        if not lists:
            break
        fields = pick(rng, lists)
        texts = [
            field.value for some in lists for field in some if isinstance(field.value, bytes) and len(field.value) < 40
        ]
        _change_fields(fields, texts, rng)
    changed = b"".join(map(bytes, root))
    return change_bytes(changed, rng) if rng.random() < 0.1 else changed


@cache
def _operators() -> tuple[bytes, ...]:
    import onnx.defs

    return tuple(sorted({schema.name.encode() for schema in onnx.defs.get_all_schemas()}))


def _change_fields(fields: list[Field], texts: list[bytes], rng: Generator) -> None:
    k, j = (int(rng.integers(len(fields))) for _ in range(2))
    field, kind = fields[k], rng.integers(9)
    if kind == 0:
        del fields[k]
    elif kind == 1:
        fields[k:k] = [field.copy() for _ in range(int(pick(rng, (1, 1, 3, 300))))]
    elif kind == 2:
        fields[k], fields[j] = fields[j], fields[k]
    elif kind == 3:
        field.number = int(pick(rng, (1, 2, 3, 4, 5, 7, 8, 9, 10, 15, 20, 536870911, field.number + 1)))
    elif kind == 4 and field.wire != 0:
        fields[k] = Field(field.number, 0, int(pick(rng, INTEGERS)))
    elif field.wire == 0:
        field.value += int(pick(rng, (1, -1, *INTEGERS)))
    elif isinstance(field.value, list):
        fields[k] = Field(field.number, fields[j].wire, fields[j].value)
    elif field.wire == 2:
        field.value = _changed_content(field.value, texts, rng)
    else:
        field.value = rng.bytes(len(field.value))


def _changed_content(content: bytes, texts: list[bytes], rng: Generator) -> bytes:
    """Change a name, the bytes of a tensor or a packed list."""
    kind = rng.integers(5)
    if kind == 0:
        return pick(rng, _operators())
    if kind == 1 and texts:
        return pick(rng, texts)
    if kind == 2:
        return changed_text(content.decode("latin1"), rng).encode("utf-8", "replace")
    return pick(
        rng, (b"", change_bytes(content, rng), change_bytes(content, rng), content + content, pick(rng, TEXTS).encode())
    )


# NumPy's arrays

DESCRIPTIONS = (
    *(
        "<f8",
        "<f4",
        "<f2",
        ">f8",
        "|b1",
        "|i1",
        "<i8",
        "<u8",
        "<c16",
        "<U4",
        "|S3",
        "|V8",
        "|O",
        "<M8[s]",
        "<f16",
        "f8",
        "",
    ),
    *("[('a', '<f8')]", "<U100000000", "<U0", "|V0", "3<f8", "[]", "('<f8', (3,))"),
)
SHAPES = (
    "()",
    "(0,)",
    "(3,)",
    "(1, 1, 1, 1)",
    "(-1,)",
    "(2, -3)",
    "(0, 9223372036854775807)",
    "(99999999999,)",
    "(1.5,)",
)
SHAPES += (
    "(True, 2)",
    "[3]",
    "3",
    "None",
    "(1,) * 40",
    f"({'1, ' * 40})",
    f"({'1, ' * 70})",
    "(2**70,)",
    "'3'",
    "(3,)(3,)",
)


def change_npy(content: bytes, rng: Generator) -> bytes:
    """Change the description, shape, order, version or length of an array's header, or its numbers."""
    if content[:6] != b"\x93NUMPY" or len(content) < 12:
        return change_bytes(content, rng)
    version = content[6]
    wide = version > 1
    start = 12 if wide else 10
    length = int.from_bytes(content[8:start], "little")
    text, numbers = content[start : start + length].decode("latin1"), content[start + length :]
    kind = rng.integers(8)
    if kind == 0:
        description = pick(rng, DESCRIPTIONS)
        text = _with_entry(text, "descr", description if description[:1] in ("[", "(") else repr(description))
    elif kind == 1:
        text = _with_entry(text, "shape", pick(rng, SHAPES))
    elif kind == 2:
        text = _with_entry(text, "fortran_order", pick(rng, ("True", "False", "1", "None", "[]")))
    elif kind == 3:
        text = changed_text(text, rng)
    elif kind == 4:
        numbers = change_bytes(numbers, rng)
    elif kind == 5:
        version, wide = int(pick(rng, (0, 1, 2, 3, 4, 255))), rng.random() < 0.5
    elif kind == 6:
        text = pick(
            rng,
            (
                "(" * 300,
                "{" * 5000,
                "-" * 4000 + "1",
                "9" * 9000,
                "{'descr': " + "[" * 150,
                "'\\",
                "\0",
                "1" + "+1" * 3000,
            ),
        )
    encoded = text.encode("latin1", "replace")
    size = len(encoded) if kind != 7 else len(encoded) + int(pick(rng, (-1, 1, 64, 60000)))
    size = max(size, 0) % (2**32 if wide else 2**16)
    return b"\x93NUMPY" + bytes([version, 0]) + size.to_bytes(4 if wide else 2, "little") + encoded + numbers


def _with_entry(text: str, name: str, value: str) -> str:
    """Return a header with another value of an entry."""
    start = text.find(f"'{name}': ") + len(name) + 4
    stop = text.find(", '", start)
    stop = len(text.rstrip(" \n,}")) if stop < 0 else stop
    return text[:start] + value + text[stop:]
