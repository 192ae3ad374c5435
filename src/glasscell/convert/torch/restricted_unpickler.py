"""Pickles of plain data, read without trust.

A pickle is a program, and Python's unpickler imports and calls everything that the program names. This one supports
only the opcodes that data needs. It looks names up in a table, calls only an :class:`AllowedCallable` of this table,
and sets no attributes. Every other name becomes an :class:`Unread`, a placeholder. Memory is reserved before it is
used, the time is bounded by the length of the pickle and not by numbers in it, and no function recurses.

A scan with pickletools.genops before pickle.Unpickler would not be enough: it cannot check the keys of dicts before
they are hashed, and an attacker can construct integer tuples with equal hashes (40,000 of them take ten seconds).
"""

import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from glasscell.convert.torch.pickle_reader import AllowedCallable, FileError, PickleReader, Unread
from glasscell.limits import MemoryBudget

MAX_TUPLE_KEYS = 1024  # in all dicts and sets: an attacker can construct tuples with equal hashes
MAX_DEPTH = 64  # of nested containers
SCALARS = (str, bytes, int, float, bool, type(None))


class Unpickler(PickleReader):
    """Reads pickles of protocols 1 to 5, one after another.

    Parameters
    ----------
    data : bytes
        The pickles; other data may follow.
    names : mapping of str to object
        Values of globals such as "torch.Size": an :class:`AllowedCallable`, or a constant. Every other global is an
        :class:`Unread`.
    load_persistent : callable
        From a persistent id to its object.
    budget : MemoryBudget
        Budget of the file.
    """

    def __init__(
        self,
        data: bytes,
        names: Mapping[str, object],
        load_persistent: Callable[[Any], object],
        budget: MemoryBudget,
    ) -> None:
        super().__init__(data, budget)
        self.load_persistent = load_persistent
        self.tuple_keys = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}
        builders: dict[str, object] = {
            "collections.OrderedDict": AllowedCallable(self._ordered),
            "collections.Counter": AllowedCallable(_counter),
            "collections.defaultdict": AllowedCallable(lambda *_: {}),  # its items are set afterwards
            "copyreg._reconstructor": AllowedCallable(_unread_instance),
            "copy_reg._reconstructor": AllowedCallable(_unread_instance),  # of Python 2
            "_codecs.encode": AllowedCallable(self._encode),
        }
        for builtins in ("builtins", "__builtin__"):  # of Python 3, and of Python 2 and protocol 2
            builders[f"{builtins}.set"] = AllowedCallable(lambda items: set(self.hashable(items)))
            builders[f"{builtins}.frozenset"] = AllowedCallable(lambda items: frozenset(self.hashable(items)))
            builders[f"{builtins}.bytes"] = AllowedCallable(lambda: b"")  # others are _codecs.encode of a text
        self.names = builders | dict(names)

    def load(self) -> object:
        """Return the object of the next pickle: containers, numbers, text, arrays, and :class:`Unread` placeholders.

        Raises
        ------
        FileError
            If the pickle is damaged, or uses an unsupported opcode.
        """
        start = self.position
        self.stack, self.marks, self.memo = [], [], {}
        try:
            while (opcode := self.read_bytes(1)) != b".":
                self.execute(opcode)
            [value] = self.stack
        except FileError:
            raise
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError, struct.error):
            raise FileError(f"has a damaged pickle: its byte {self.position - start} is invalid") from None
        _check_data(value)
        return value

    def execute(self, opcode: bytes) -> None:
        """Execute one opcode."""
        self.count_opcodes(1)
        if opcode in _PUSH:
            self.budget.reserve(_RESULT_BYTES.get(opcode, OBJECT_BYTES))
            self.stack.append(_PUSH[opcode](self))
        elif opcode in _ACTIONS:
            _ACTIONS[opcode](self)
        else:
            raise FileError(f"uses the unsupported pickle opcode {_opcode_name(opcode)}")

    def pop(self, count: int) -> tuple[Any, ...]:
        """Remove and return the last objects on the stack, none from before the last mark."""
        start = len(self.stack) - count
        if start < (self.marks[-1] if self.marks else 0):
            raise FileError("has a damaged pickle: its stack has too few objects")
        items = tuple(self.stack[start:])
        del self.stack[start:]
        return items

    def pop_to_mark(self) -> tuple[Any, ...]:
        """Remove and return all objects on the stack after the last mark."""
        return self.pop(len(self.stack) - self.marks.pop())

    def extend(self, items: Sequence[Any]) -> None:
        """Add items to the list or set on the stack."""
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        elif type(target) is set:
            target.update(self.hashable(items))
        elif type(target) is not Unread:
            raise FileError("has a damaged pickle: it adds items to an object that is not a list")

    def assign(self, items: Sequence[Any]) -> None:
        """Set items, key, value, key, value, …, of the dict on the stack."""
        target = self.stack[-1]
        if type(target) is Unread:
            return
        if type(target) not in (dict, OrderedDict):
            raise FileError("has a damaged pickle: it sets items of an object that is not a dict")
        target.update(zip(self.hashable(items[::2]), items[1::2], strict=True))

    def find(self, module: object, name: object) -> object:
        """Return the object with this name in the table, or an :class:`Unread`."""
        if type(module) is not str or type(name) is not str:
            raise FileError("has a damaged pickle: a name that is not text")
        full_name = f"{module}.{name}"
        if full_name in self.names:
            return self.names[full_name]
        self.budget.reserve(UNREAD_BYTES)
        return Unread(repr(full_name[:150])[1:-1][:200])

    def reduce(self) -> object:
        """Call an :class:`AllowedCallable`. This is the only call."""
        self.count_opcodes(8)
        builder, arguments = self.pop(2)
        if type(builder) is Unread:
            return Unread(builder.name)
        if type(builder) is not AllowedCallable or type(arguments) is not tuple:
            raise FileError("has a damaged pickle: it calls an object that is not a function")
        return builder.build(*arguments)

    def drop_state(self) -> None:
        """Discard attributes: PyTorch sets `_metadata` of an OrderedDict, which is no part of the weights."""
        target, _ = self.pop(2)
        if type(target) not in (OrderedDict, Unread):
            raise FileError("sets attributes of a dict, list, number or text")
        self.stack.append(target)

    def hashable(self, items: Sequence[Any]) -> Sequence[Any]:
        """Return items for a dict or a set, if they are text, numbers, or short tuples of these.

        Other keys can take exponential time to hash (tuples that contain a tuple twice, repeatedly), and an attacker
        can construct long integers, and many tuples, with equal hashes.
        """
        if type(items) not in (list, tuple):
            raise FileError("has a damaged pickle: a set that is not created from a list")
        self.count_opcodes(len(items))
        self.budget.reserve(ENTRY_BYTES * len(items))
        self.tuple_keys += sum(type(item) is tuple for item in items)
        if self.tuple_keys > MAX_TUPLE_KEYS:
            raise FileError(f"has dicts or sets with more than {MAX_TUPLE_KEYS} tuples as keys")
        for item in items:
            for key in item if type(item) is tuple and len(item) <= 8 else (item,):
                if type(key) not in (*SCALARS, Unread) or (type(key) is int and not -(2**63) <= key < 2**64):
                    raise FileError("has a dict or a set with a key that is neither text nor a number")
        return items

    def _ordered(self, pairs: Sequence[Any] = ()) -> OrderedDict[Any, Any]:
        """Return an OrderedDict; Python 2 passes its items as lists of two."""
        if any(type(pair) is not list for pair in pairs):
            raise FileError("has a damaged pickle: a dict that is not created from lists")
        self.hashable([key for key, _ in pairs])
        return OrderedDict(pairs)

    def _encode(self, text: str, encoding: str) -> bytes:
        """Return bytes, which protocol 2 writes as text of the first 256 characters."""
        if type(text) is not str or encoding != "latin1":
            raise FileError("has a damaged pickle: invalid bytes")
        self.budget.reserve(len(text))
        return text.encode("latin-1")


def _counter(counts: object) -> object:
    """Return the dict of a Counter, such as the milestones of a schedule."""
    if type(counts) is not dict:
        raise FileError("has a damaged pickle: a Counter that is not created from a dict")
    return counts


def _unread_instance(cls: object, *_: object) -> object:
    """Return a placeholder for an instance of a class."""
    if type(cls) is not Unread:
        raise FileError("has a damaged pickle: it creates an instance of an object that is not a class")
    return Unread(cls.name)


def _check_data(root: object) -> None:
    """Raise FileError unless all objects are data of limited depth.

    The objects are checked level by level, since they may be shared and may contain themselves.
    """
    seen: set[int] = set()
    level: list[Any] = [root]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if type(item) in (dict, OrderedDict, list, tuple, set, frozenset):
                if id(item) not in seen:
                    seen.add(id(item))
                    below.extend(item.values() if isinstance(item, dict) else item)
            elif type(item) not in (*SCALARS, np.ndarray, Unread):
                raise FileError("contains a function or storage; only tensors and plain data are supported")
        level = below
    if level:
        raise FileError(f"contains containers that are nested more than {MAX_DEPTH} deep")


def _opcode_name(opcode: bytes) -> str:
    from pickletools import opcodes  # noqa: PLC0415 - for a message

    return next((entry.name for entry in opcodes if entry.code.encode("latin-1") == opcode), f"0x{opcode.hex()}")


def _memoize(unpickler: Unpickler, index: int) -> None:
    unpickler.budget.reserve(ENTRY_BYTES)
    unpickler.memo[index] = unpickler.stack[-1]


# Opcodes that push one object on the stack, in the order of the protocols.
_PUSH: dict[bytes, Callable[[Unpickler], object]] = {
    b"N": lambda _: None,
    b"I": Unpickler.read_decimal,
    b"L": Unpickler.read_decimal,
    b"J": lambda u: u.read_integer(4, signed=True),
    b"K": lambda u: u.read_integer(1),
    b"M": lambda u: u.read_integer(2),
    b"G": lambda u: struct.unpack(">d", u.read_bytes(8))[0],
    b"T": lambda u: u.read_text(4),  # str of Python 2
    b"U": lambda u: u.read_text(1),
    b"X": lambda u: u.read_text(4),
    b")": lambda _: (),
    b"]": lambda _: [],
    b"}": lambda _: {},
    b"t": lambda u: u.pop_to_mark(),
    b"l": lambda u: list(u.pop_to_mark()),
    b"2": lambda u: u.stack[-1],
    b"h": lambda u: u.memo[u.read_integer(1)],
    b"j": lambda u: u.memo[u.read_integer(4)],
    b"c": lambda u: u.find(u.read_line(), u.read_line()),
    b"R": Unpickler.reduce,
    b"Q": lambda u: u.load_persistent(*u.pop(1)),
    b"\x88": lambda _: True,
    b"\x89": lambda _: False,
    b"i": lambda u: _unread_instance((u.find(u.read_line(), u.read_line()), u.pop_to_mark())[0]),
    b"o": lambda u: _unread_instance(u.pop_to_mark()[0]),
    b"\x81": lambda u: _unread_instance(u.pop(2)[0]),
    b"\x92": lambda u: _unread_instance(u.pop(3)[0]),
    b"\x8a": lambda u: int.from_bytes(u.read_counted(1), "little", signed=True),
    b"\x85": lambda u: u.pop(1),
    b"\x86": lambda u: u.pop(2),
    b"\x87": lambda u: u.pop(3),
    b"B": lambda u: u.read_counted(4),
    b"C": lambda u: u.read_counted(1),
    b"\x8c": lambda u: u.read_text(1),
    b"\x8d": lambda u: u.read_text(8),
    b"\x8e": lambda u: u.read_counted(8),
    b"\x8f": lambda _: set(),
    b"\x91": lambda u: frozenset(u.hashable(u.pop_to_mark())),
    b"\x93": lambda u: u.find(*u.pop(2)),
}

# Upper bounds on the memory of an object that an opcode pushes, with its entries on the stack and in the final checks.
OBJECT_BYTES, ENTRY_BYTES = 72, 100  # most objects; an entry of a dict, a set or the memo
UNREAD_BYTES = 512  # an Unread and its name
_RESULT_BYTES: dict[bytes, int] = (
    dict.fromkeys((b"N", b")", b"2", b"h", b"j", b"\x88", b"\x89", b"K"), 16)
    | dict.fromkeys((b"t", b"\x85", b"\x86", b"\x87", b"]", b"l", b"}"), 192)
    | dict.fromkeys((b"\x8f", b"\x91"), 360)
    | dict.fromkeys((b"c", b"\x93", b"i"), 64)  # an entry of the table; `find` reserves more for an Unread
    | {b"R": 512}  # an array, or an OrderedDict
)

# All other opcodes.
_ACTIONS: dict[bytes, Callable[[Unpickler], object]] = {
    b"(": lambda u: u.marks.append(len(u.stack)),
    b"0": lambda u: u.pop(1),
    b"1": lambda u: u.pop_to_mark(),
    b"q": lambda u: _memoize(u, u.read_integer(1)),
    b"r": lambda u: _memoize(u, u.read_integer(4)),
    b"\x94": lambda u: _memoize(u, len(u.memo)),
    b"a": lambda u: u.extend(u.pop(1)),
    b"e": lambda u: u.extend(u.pop_to_mark()),
    b"\x90": lambda u: u.extend(u.pop_to_mark()),
    b"s": lambda u: u.assign(u.pop(2)),
    b"u": lambda u: u.assign(u.pop_to_mark()),
    b"b": Unpickler.drop_state,
    b"\x80": lambda u: u.read_bytes(1),  # the protocol: the opcodes are the same in all
    b"\x95": lambda u: u.read_bytes(8),  # the length of a frame
}
