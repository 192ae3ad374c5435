"""Mutations of safetensors files and of zip archives, whose checksums are made right again."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from typing import Any

from glasscell.checkpoint import HEADER_KEY
from glasscell.tensor_files import NO_CHECKSUM
from torture.fuzzing.values import Generator, Mutation, change_bytes, changed_json, json_text, pick

DTYPES = ("BOOL", "BF16", "F16", "F32", "F64", "I8", "I64", "U8", "F8_E4M3", "C64", "F4", "", "f32")


def change_safetensors(content: bytes, rng: Generator) -> bytes:
    """Change the header, the entry in it, the tensors or the lengths of a file; its checksum is mostly right."""
    (length,) = struct.unpack("<Q", content[:8])
    header, tensors = json.loads(content[8 : 8 + length]), content[8 + length :]
    entry: Any = json.loads(header.get("__metadata__", {}).get(HEADER_KEY, "{}"))
    entry.pop("checksum", None)
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        kind = rng.integers(10)
        if kind < 5:
            entry = changed_json(entry, rng)
        elif kind == 5:
            header = changed_json(header, rng)
        elif kind == 6:
            header, tensors = _change_tensor(header, tensors, rng)
        elif kind == 7:
            tensors = change_bytes(tensors, rng)
        else:
            header = _swap_names(header, rng)
    return _packed(header, entry, tensors, rng)


def _change_tensor(header: Any, tensors: bytes, rng: Generator) -> tuple[Any, bytes]:
    """Change dtype, shape or offsets of one tensor, consistently or not, or add one."""
    names = [name for name in header if name != "__metadata__"] if isinstance(header, dict) else []
    if not names:
        return header, tensors
    header = json.loads(json.dumps(header))
    name = pick(rng, names)
    tensor = header[name]
    if not isinstance(tensor, dict):
        return header, tensors
    kind = rng.integers(5)
    if kind == 0:
        tensor["dtype"] = pick(rng, DTYPES)
    elif kind == 1 and isinstance(tensor.get("shape"), list):
        tensor["shape"] = pick(
            rng, (tensor["shape"][::-1], [*tensor["shape"], 1], [1, *tensor["shape"]], tensor["shape"][:-1])
        )
    elif kind == 2:
        other = header[pick(rng, names)]
        tensor["data_offsets"] = other.get("data_offsets") if isinstance(other, dict) else None
    elif kind == 3:
        added = int(pick(rng, (4, 8, 64)))
        header[pick(rng, ("more", name + "x", name.rpartition(".")[2], "weight_ih_l0"))] = {
            "dtype": "F32",
            "shape": [added // 4],
            "data_offsets": [len(tensors), len(tensors) + added],
        }
        tensors += bytes(added)
    else:
        header = changed_json(header, rng)
    return header, tensors


def _swap_names(header: Any, rng: Generator) -> Any:
    """Let two tensors change their names."""
    names = [name for name in header if name != "__metadata__"] if isinstance(header, dict) else []
    if len(names) < 2:
        return header
    a, b = pick(rng, names), pick(rng, names)
    return {{a: b, b: a}.get(name, name): value for name, value in header.items()}


def _packed(header: Any, entry: Any, tensors: bytes, rng: Generator) -> bytes:
    """Return the bytes of a file."""
    kind = rng.random()
    if isinstance(header, dict) and kind < 0.97:
        checksum = {"checksum": NO_CHECKSUM} if kind < 0.7 else {}
        text = json_text(checksum | entry if isinstance(entry, dict) else entry, rng)
        header = header | {"__metadata__": {HEADER_KEY: text.decode("utf-8", "replace")}}
    packed = json.dumps(header, separators=(",", ":")).encode()
    packed += b" " * (-len(packed) % 8)
    content = struct.pack("<Q", len(packed)) + packed + tensors
    if 0.7 <= kind < 0.75:
        return change_bytes(content, rng)
    place = content.find(b'{\\"checksum\\": \\"' + NO_CHECKSUM.encode())
    if kind < 0.7 and place >= 0:
        start = place + len(b'{\\"checksum\\": \\"')
        content = content[:start] + b"%08x" % zlib.crc32(content) + content[start + 8 :]
    if kind > 0.99:
        content = (
            struct.pack("<Q", (len(packed) + int(pick(rng, (-8, 8, 1, 10**9, -len(packed))))) % 2**64) + content[8:]
        )
    return content


def entries_of(content: bytes) -> dict[str, bytes]:
    """Return the entries of a zip archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(entries: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return an archive, in which names may be repeated."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = compression
            archive.NameToInfo.pop(name, None)  # no warning for a repeated name
            archive.writestr(info, content)
    return file.getvalue()


def change_zip(content: bytes, rng: Generator, changes: dict[str, Mutation]) -> bytes:
    """Change entries by the mutation for the end of their names, the list of entries, or the directory."""
    entries = list(entries_of(content).items())
    kind = rng.integers(10)
    k = int(rng.integers(len(entries)))
    name, data = entries[k]
    if kind < 7:
        suitable = [
            (j, change) for j, (n, _) in enumerate(entries) for end, change in changes.items() if n.endswith(end)
        ]
        k, change = pick(rng, suitable) if suitable and rng.random() < 0.8 else (k, change_bytes)
        entries[k] = entries[k][0], change(entries[k][1], rng)
    elif kind == 7:
        del entries[k]
    elif kind == 8:
        new = pick(
            rng, (name, name + "x", "../" + name, "/" + name, name.upper(), pick(rng, entries)[0], "", "é" + name)
        )
        entries[k:k] = [(new or "x", pick(rng, (data, b"", pick(rng, entries)[1], bytes(int(pick(rng, (10, 10**6)))))))]
    else:
        entries[k] = pick(rng, (name + "/", "x", "archive/../" + name)), data
    compression = zipfile.ZIP_STORED if rng.random() < 0.7 else int(pick(rng, (8, 8, 12, 14)))
    packed = zipped(entries, compression)
    return _change_directory(packed, rng) if rng.random() < 0.15 else packed


def _change_directory(content: bytes, rng: Generator) -> bytes:
    """Change a number in a local header, the directory or its end."""
    changed = bytearray(content)
    signature, fields = pick(
        rng,
        (
            (b"PK\3\4", ((6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2))),
            (b"PK\1\2", ((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (38, 4), (42, 4))),
            (b"PK\5\6", ((4, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2))),
        ),
    )
    places = []
    place = content.find(signature)
    while place >= 0:
        places.append(place)
        place = content.find(signature, place + 1)
    start, (offset, size) = pick(rng, places), pick(rng, fields)
    old = int.from_bytes(changed[start + offset : start + offset + size], "little")
    value = (
        int(pick(rng, (0, 1, 2**16 - 1, 2**32 - 1, 2**31, old + 1, old - 1, old * 2, len(content), 10**6))) % 256**size
    )
    changed[start + offset : start + offset + size] = value.to_bytes(size, "little")
    return bytes(changed)
