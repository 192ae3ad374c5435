"""Read and write zip archives in PyTorch's format: entries without compression."""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping

from glasscell.convert.torch.pickle_reader import FileError
from glasscell.limits import MemoryBudget

MAGIC = b"PK\x03\x04"
ENTRY_BYTES = 1024  # upper bound on the memory of an entry of the directory
ALIGNMENT_BYTES = 64  # of the contents of an entry, so that they can be used in place

# Exceptions of the standard library for a damaged directory. (A warning may be raised, too.)
_DAMAGE = (zipfile.BadZipFile, struct.error, ValueError, OSError, OverflowError, NotImplementedError, Warning)


def entries(content: bytes, budget: MemoryBudget) -> dict[str, memoryview]:
    """Return the entries by name, without copies, after a comparison with their checksums.

    Raises
    ------
    FileError
        If the archive is damaged, or has entries that are compressed, encrypted, overlapping, or longer than the file,
        which could need far more memory than the file; or if it is a TorchScript program.
    """
    budget.reserve(ENTRY_BYTES * content.count(b"PK\x01\x02"))
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            directory, infos = archive.start_dir, sorted(archive.infolist(), key=lambda info: info.header_offset)
    except _DAMAGE as error:
        raise FileError(f"is not a complete zip archive: {error}") from None
    if content[-22:-18] != b"PK\x05\x06":
        raise FileError("is not a complete zip archive: bytes follow its end")
    if any(info.filename.endswith("/constants.pkl") and info.filename.count("/") == 1 for info in infos):
        raise FileError("is a TorchScript program: save model.state_dict() instead")
    views: dict[str, memoryview] = {}
    end = 0
    for info in infos:
        name, header = info.filename, info.header_offset
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
            raise FileError(f"has the compressed or encrypted entry {name!r}, which torch.save does not write")
        if name in views:
            raise FileError(f"has the entry {name!r} twice")
        if header < end or (header and not views) or header + 30 > directory or content[header : header + 4] != MAGIC:
            raise FileError(f"is a damaged zip archive: the entry {name!r} does not begin at its offset")
        start = (
            header + 30 + sum(struct.unpack_from("<HH", content, header + 26))
        )  # after the name and the extra fields
        end = start + info.file_size
        if end > directory:
            raise FileError(f"is a damaged zip archive: the entry {name!r} is longer than the file")
        views[name] = memoryview(content)[start:end]
        if zlib.crc32(views[name]) != info.CRC:
            raise FileError(f"is damaged: the checksum (CRC-32) of the entry {name!r} is wrong")
    return views


def pack(contents: Mapping[str, bytes]) -> bytes:
    """Return an archive of these entries."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name)  # a fixed date, 1980: equal contents give equal bytes
            padding = -(file.tell() + 30 + len(name) + 4) % ALIGNMENT_BYTES
            entry.extra = struct.pack("<2sH", b"FB", padding) + bytes(padding)  # PyTorch's tag
            archive.writestr(entry, content)
    return file.getvalue()
