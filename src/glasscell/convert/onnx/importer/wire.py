"""Memory that an ONNX file would take once it is parsed, found out before that.

An empty message is two bytes of a file and some hundred of memory, and a packed list of small integers grows to eight
times its size and more. So the fields are counted first, by protobuf's own description of them, without parsing any.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import onnx

from glasscell.limits import MemoryBudget

MESSAGE_BYTES = 256  # memory for a message, with its object in Python
FIELD_BYTES = 32  # for a field of a message
BYTES_PER_PACKED = 32  # for a byte of a packed list: an integer of eight bytes, in a list that doubles as it grows

VARINT, FIXED_64, DELIMITED, FIXED_32 = 0, 1, 2, 5  # how a field lies in a file


def reserve_messages(content: bytes, budget: MemoryBudget) -> None:
    """Reserve the memory for the messages and lists of a file, without the bytes that it holds as they are.

    Raises
    ------
    ValueError
        If the budget does not suffice, or a field ends outside its message.
    """
    rest: list[tuple[int, int, Any]] = [(0, len(content), onnx.ModelProto.DESCRIPTOR)]
    while rest:
        at, end, descriptor = rest.pop()
        messages, packed = _fields(descriptor)
        while at < end:
            key, at = _varint(content, at)
            number, wire = key >> 3, key & 7
            budget.reserve(FIELD_BYTES)
            if wire == VARINT:
                _, at = _varint(content, at)
            elif wire == DELIMITED:
                size, at = _varint(content, at)
                if number in messages:
                    budget.reserve(MESSAGE_BYTES)
                    rest.append((at, at + size, messages[number]))
                elif number in packed:
                    budget.reserve(BYTES_PER_PACKED * size)
                at += size
            elif wire in (FIXED_32, FIXED_64):
                at += 4 if wire == FIXED_32 else 8
            else:
                raise ValueError("a field is of an unknown kind")
        if at != end:
            raise ValueError("a field ends outside its message")


@cache
def _fields(descriptor: Any) -> tuple[dict[int, Any], frozenset[int]]:
    """The fields that are messages, with what describes these; and those that are lists of varints."""
    messages = {field.number: field.message_type for field in descriptor.fields if field.message_type is not None}
    integers = ("INT32", "INT64", "UINT32", "UINT64", "SINT32", "SINT64", "BOOL", "ENUM")
    kinds = {getattr(descriptor.fields[0], f"TYPE_{name}") for name in integers} if descriptor.fields else set()
    return messages, frozenset(field.number for field in descriptor.fields if field.type in kinds)


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A number of up to ten bytes, and where the next field begins."""
    number = content[at]
    if number < 128:
        return number, at + 1
    number &= 127
    for k in range(1, 10):
        byte = content[at + k]
        number |= (byte & 127) << 7 * k
        if byte < 128:
            return number, at + k + 1
    raise ValueError("a number does not end")
