"""Zip archives as PyTorch writes them: entries that are stored as they are, none compressed."""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping

from glasscell.convert.torch.restricted_unpickler import FileError
from glasscell.limits import MemoryBudget

MAGIC = b"PK\x03\x04"
ENTRY_BYTES = 1024  # memory for an entry of the directory, at most
ALIGNMENT = 64  # of what is in an entry, so that it can be used where it lies

# What the standard library raises on a damaged directory. (A warning may be raised, too.)
_DAMAGE = (zipfile.BadZipFile, struct.error, ValueError, OSError, OverflowError, NotImplementedError, Warning)


def entries(content: bytes, budget: MemoryBudget) -> dict[str, memoryview]:
    """The entries by name, none of them copied, each compared with its checksum.

    Raises
    ------
    FileError
        If the archive is damaged, or has entries that are compressed, encrypted, lie in one another, or are longer than
        the file: they could need far more memory than it. If it is a program of TorchScript, some of whose entries are
        compressed.
    """
    budget.reserve(ENTRY_BYTES * content.count(b"PK\x01\x02"))
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            directory, infos = archive.start_dir, sorted(archive.infolist(), key=lambda info: info.header_offset)
    except _DAMAGE as error:
        raise FileError(f"is not a complete zip archive: {error}") from None
    if content[-22:-18] != b"PK\x05\x06":
        raise FileError("is not a complete zip archive: something stands behind its end")
    if any(info.filename.endswith("/constants.pkl") and info.filename.count("/") == 1 for info in infos):
        raise FileError("is a program of TorchScript; of the model, save model.state_dict() instead")
    found: dict[str, memoryview] = {}
    end = 0
    for info in infos:
        name, header = info.filename, info.header_offset
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
            raise FileError(f"has the entry {name!r} compressed or encrypted, as torch.save writes none")
        if name in found:
            raise FileError(f"has the entry {name!r} twice")
        if header < end or (header and not found) or header + 30 > directory or content[header : header + 4] != MAGIC:
            raise FileError(f"is a damaged zip archive: the entry {name!r} does not begin where it should")
        start = header + 30 + sum(struct.unpack_from("<HH", content, header + 26))  # behind the name and extra fields
        end = start + info.file_size
        if end > directory:
            raise FileError(f"is a damaged zip archive: the entry {name!r} is longer than the file")
        found[name] = memoryview(content)[start:end]
        if zlib.crc32(found[name]) != info.CRC:
            raise FileError(f"is damaged: the bytes of {name!r} are not those that were written (CRC-32)")
    return found


def pack(contents: Mapping[str, bytes]) -> bytes:
    """An archive of these entries."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name)  # of 1980: the same contents are the same bytes
            padding = -(file.tell() + 30 + len(name) + 4) % ALIGNMENT
            entry.extra = struct.pack("<2sH", b"FB", padding) + bytes(padding)  # under the tag that PyTorch uses
            archive.writestr(entry, content)
    return file.getvalue()
