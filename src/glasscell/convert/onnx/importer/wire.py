"""Bound the memory of an ONNX file before it is parsed.

An empty message is two bytes of a file and some hundred of memory, and a packed list of small integers grows to eight
times its size or more. The fields are therefore counted first, by protobuf's own description, without parsing any.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import onnx

from glasscell.limits import MemoryBudget

MESSAGE_BYTES = 256  # memory of a message, with its Python object
FIELD_BYTES = 32  # memory of a field of a message
BYTES_PER_PACKED = 32  # memory per byte of a packed list: an eight-byte integer, in a list that doubles as it grows

VARINT, FIXED_64, DELIMITED, FIXED_32 = 0, 1, 2, 5  # wire types of fields


def reserve_messages(content: bytes, budget: MemoryBudget) -> None:
    """Reserve the memory of a file's messages and lists, without the bytes that are stored unchanged.

    Raises
    ------
    ValueError
        If the budget does not suffice, or a field ends outside its message.
    """
    pending: list[tuple[int, int, Any]] = [(0, len(content), onnx.ModelProto.DESCRIPTOR)]
    while pending:
        position, end, descriptor = pending.pop()
        messages, packed = _fields(descriptor)
        while position < end:
            key, position = _varint(content, position)
            number, wire_type = key >> 3, key & 7
            budget.reserve(FIELD_BYTES)
            if wire_type == VARINT:
                _, position = _varint(content, position)
            elif wire_type == DELIMITED:
                size, position = _varint(content, position)
                if number in messages:
                    budget.reserve(MESSAGE_BYTES)
                    pending.append((position, position + size, messages[number]))
                elif number in packed:
                    budget.reserve(BYTES_PER_PACKED * size)
                position += size
            elif wire_type in (FIXED_32, FIXED_64):
                position += 4 if wire_type == FIXED_32 else 8
            else:
                raise ValueError("a field has an unknown wire type")
        if position != end:
            raise ValueError("a field ends outside its message")


@cache
def _fields(descriptor: Any) -> tuple[dict[int, Any], frozenset[int]]:
    """Return the fields that are messages, with their descriptors, and the fields that are lists of varints."""
    messages = {field.number: field.message_type for field in descriptor.fields if field.message_type is not None}
    names = ("INT32", "INT64", "UINT32", "UINT64", "SINT32", "SINT64", "BOOL", "ENUM")
    types = {getattr(descriptor.fields[0], f"TYPE_{name}") for name in names} if descriptor.fields else set()
    return messages, frozenset(field.number for field in descriptor.fields if field.type in types)


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """Return an integer of up to ten bytes, and the position after it."""
    number = content[position]
    if number < 128:
        return number, position + 1
    number &= 127
    for k in range(1, 10):
        byte = content[position + k]
        number |= (byte & 127) << 7 * k
        if byte < 128:
            return number, position + k + 1
    raise ValueError("an integer does not end")
