"""Read and write PyTorch's files, ``.pt`` and ``.pth``, without PyTorch.

``torch.save`` writes a pickle that describes each tensor as a view of a storage, and the storages as raw values: since
version 1.6 as entries of a zip archive, before that in one stream after the pickle. The pickle is read by
:mod:`~glasscell.convert.torch.restricted_unpickler`, which runs no code of the file, and the arrays are created by
:mod:`~glasscell.convert.torch.tensors`.
"""

import struct
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from glasscell import limits
from glasscell.atomic_files import OutputFile, StrPath
from glasscell.convert.torch import zip_archive
from glasscell.convert.torch.pickle_reader import FileError, Unread
from glasscell.convert.torch.pickling import AnyArray, Pickler
from glasscell.convert.torch.restricted_unpickler import Unpickler
from glasscell.convert.torch.tensors import TensorLoader
from glasscell.escaping import one_line
from glasscell.limits import MemoryBudget

# Objects of a pickle may take this many times the standard allowance, in addition to 3 times the file's size: 4,000
# tensors of one number each are a file of 1.2 MB, and 16 MB by the upper bounds of the unpickler (9 MB measured). The
# standard budget also bounds the values of tensors, which a model copies.
PICKLE_ALLOWANCES = 2

MAGIC, STREAM_VERSION = 0x1950A86A20F9469CFC6C, 1001  # the first two pickles of a stream


def read(path: StrPath) -> object:
    """Read a file of ``torch.save``, with tensors as NumPy arrays.

    Both formats are supported. Every tensor or parameter becomes an array with separate memory, also if two share a
    storage; bfloat16 becomes float32, which represents all its values. A ``torch.Size`` becomes a tuple, a device or a
    dtype text ("cuda:0", "torch.float32"), and a Counter or a defaultdict a dict.

    Nothing that the file names is imported or run. Functions, objects of other classes, and complex, sparse or
    quantized tensors become an :class:`~glasscell.convert.torch.pickle_reader.Unread`, which contains only the name of
    the class or function. A file that consists of such an object, from ``torch.save(model)``, raises an error.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged, has another format, or contains objects that are not data.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no model at {file}")
    try:
        content = file.read_bytes()
        return _read_archive(content) if content.startswith(zip_archive.MAGIC) else _read_stream(content)
    except FileError as error:
        raise ValueError(f"{file} {one_line(error)}") from None
    except MemoryError:
        raise ValueError(f"{file} needs more memory than is available") from None


def _read_archive(content: bytes) -> object:
    budget = MemoryBudget(len(content), FileError, allowance=PICKLE_ALLOWANCES * limits.ALLOWANCE)
    entries = zip_archive.entries(content, budget)
    pickles = [name for name in entries if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise FileError(f"is not a file of torch.save: a zip archive with {len(pickles)} entries data.pkl")
    prefix = pickles[0].removesuffix("data.pkl")
    order = bytes(entries.get(f"{prefix}byteorder", b"little"))
    if order not in (b"little", b"big"):
        raise FileError(f"must have the byte order 'little' or 'big', got {order!r}")
    tensors = TensorLoader(budget)
    pickle = bytes(entries[pickles[0]])
    unpickler = Unpickler(pickle, tensors.names, tensors.storage, budget)
    loaded = unpickler.load()
    if unpickler.position != len(pickle):
        raise FileError(f"has {len(pickle) - unpickler.position} bytes after the end of its pickle")
    contents = {key: entries[name] for key in tensors.storages if (name := f"{prefix}data/{key}") in entries}
    tensors.fill(contents, "<" if order == b"little" else ">")
    return _check_read(loaded)


def _read_stream(content: bytes) -> object:
    if content[257:262] == b"ustar":
        raise FileError("is a tar archive, PyTorch's first format: load it with PyTorch and save it again")
    budget = MemoryBudget(len(content), FileError, allowance=PICKLE_ALLOWANCES * limits.ALLOWANCE)
    tensors = TensorLoader(budget)
    stream = Unpickler(content, tensors.names, tensors.storage, budget)
    if not content.startswith((b"\x80", b"L")) or not _is_integer(stream.load(), MAGIC):
        raise FileError("is not a file of torch.save, neither a zip archive nor a stream")
    if not _is_integer(stream.load(), STREAM_VERSION):
        raise FileError(f"is a stream of another version than {STREAM_VERSION}")
    stream.load()  # properties of the writing machine; the storages are always little-endian
    loaded, keys = stream.load(), stream.load()
    contents: dict[str, memoryview] = {}
    storages = tensors.skipped_storages | tensors.storages
    for key in keys if type(keys) is list else ():
        if type(key) is not str or key not in storages or key in contents:
            raise FileError("lists a storage that no tensor uses")
        count, itemsize = storages[key]
        stored_count, start = stream.read_integer(8), stream.position
        if stored_count != count:
            raise FileError(f"must have {count} values in its storage {key!r}, got {stored_count}")
        stream.position += count * itemsize
        if stream.position > len(content):
            raise FileError(f"ends in its storage {key!r}, after {len(content) - start} of {count * itemsize} bytes")
        contents[key] = memoryview(content)[start : stream.position]
    if stream.position != len(content):
        raise FileError(f"has {len(content) - stream.position} bytes after its end")
    tensors.fill(contents, "<")
    return _check_read(loaded)


def _check_read(loaded: object) -> object:
    """Return the content of a file; raise FileError if it is a single object that is not read."""
    if isinstance(loaded, Unread):
        raise FileError(f"contains only an object of the class {loaded.name}: save model.state_dict() instead")
    return loaded


def _is_integer(value: object, expected: int) -> bool:
    return type(value) is int and value == expected


def write(weights: object, path: StrPath, *, legacy: bool = False) -> None:
    """Write a file that ``torch.load(path, weights_only=True)`` reads. Equal weights give equal bytes.

    An existing file is replaced when the new one is complete.

    Parameters
    ----------
    weights : mapping of str to array, or nested
        Arrays and NumPy scalars become tensors. Dicts, lists and tuples may also contain text, Python numbers, True,
        False and None. The outermost mapping becomes an OrderedDict.
    path : path
        The file.
    legacy : bool
        Write the stream that PyTorch before 1.6 reads, instead of a zip archive.

    Raises
    ------
    TypeError
        If the weights contain other objects, or an array of a dtype that PyTorch does not support.
    ValueError
        If containers are nested too deep or contain themselves, or an integer has more than 600 digits.
    """
    file = OutputFile(path, (".pt", ".pth", ".bin"))
    pickle = Pickler.dump(OrderedDict(weights) if isinstance(weights, Mapping) else weights, legacy=legacy)
    file.write(_stream(pickle) if legacy else _archive(pickle))


def _stream(pickle: Pickler) -> bytes:
    sizes = {"short": 2, "int": 4, "long": 4}
    system = {"protocol_version": STREAM_VERSION, "little_endian": True, "type_sizes": sizes}
    keys = [str(k) for k in range(len(pickle.arrays))]
    head = [Pickler.dump(value).pickle() for value in (MAGIC, STREAM_VERSION, system)]
    storages = [struct.pack("<q", array.size) + _little_endian(array) for array in pickle.arrays]
    return b"".join([*head, pickle.pickle(), Pickler.dump(keys).pickle(), *storages])


def _archive(pickle: Pickler) -> bytes:
    storages = {f"data/{k}": _little_endian(array) for k, array in enumerate(pickle.arrays)}
    entries = {"data.pkl": pickle.pickle(), "byteorder": b"little", **storages, "version": b"3\n"}
    return zip_archive.pack({f"archive/{name}": content for name, content in entries.items()})


def _little_endian(array: AnyArray) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
