"""Pickles of plain data, read without trust.

A pickle is a program, and Python's own unpickler imports and calls whatever the program names. Here every opcode that
data needs is written out, and there are no others: a name is looked up in a table and nowhere else, nothing is called
but a :class:`Builder` that is found there, and no attribute of anything is set. Any other name becomes an
:class:`Unread`: a mark that holds that name and nothing else, whatever the pickle makes of it. Memory is
reserved before it is used, time grows with the length of the pickle, by no number that stands in it, and nothing
recurses.

Not pickletools.genops as a scan before pickle.Unpickler: it gives no access to keys of dicts before they are hashed,
and tuples of integers can be made whose hashes are all the same (40,000 of them take ten seconds).
"""

import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from glasscell.limits import MemoryBudget

MAX_PICKLE_OPCODES, BYTES_PER_STEP = (
    2**19,
    32,
)  # opcodes and copied items in all: some for each pickle, and more in large files
TUPLE_KEYS = 1024  # in all dicts and sets: the hashes of tuples can be made to collide
DEPTH = 64  # of containers in containers
SCALARS = (str, bytes, int, float, bool, type(None))


class FileError(ValueError):
    """What is wrong with a file: the end of a sentence that begins with its name."""


class AllowedCallable(NamedTuple):
    """A function of ours that a pickle may call."""

    build: Callable[..., object]


class Unread:
    """An object that a pickle names and that is not made: only its class, or the function that makes it, is kept.

    Attributes
    ----------
    name : str
        Such as "argparse.Namespace"; printable, at most 200 characters.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<not read: {self.name}>"


class Unpickler:
    """Reads pickles of protocols 1 to 5, one after another.

    Parameters
    ----------
    data : bytes
        The pickles; other data may follow.
    names : mapping of str to object
        What a global such as "torch.Size" stands for: a :class:`Builder`, or a constant. Any other is an
        :class:`Unread`.
    persistent : callable
        From a persistent id to what it stands for.
    budget : MemoryBudget
        Of the file.

    Attributes
    ----------
    at : int
        Where the next byte is read.
    """

    def __init__(
        self,
        data: bytes,
        names: Mapping[str, object],
        persistent: Callable[[Any], object],
        budget: MemoryBudget,
    ) -> None:
        self.data, self.at = data, 0
        self.persistent, self.budget = persistent, budget
        self.steps, self.most_steps = 0, MAX_PICKLE_OPCODES + budget.file_size // BYTES_PER_STEP
        self.tuple_keys = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}
        plain: dict[str, object] = {
            "collections.OrderedDict": AllowedCallable(self._ordered),
            "collections.Counter": AllowedCallable(_counter),
            "collections.defaultdict": AllowedCallable(lambda *_: {}),  # its items are set afterwards
            "copyreg._reconstructor": AllowedCallable(_reconstructed),
            "copy_reg._reconstructor": AllowedCallable(_reconstructed),  # of Python 2
            "_codecs.encode": AllowedCallable(self._encoded),
        }
        for builtins in ("builtins", "__builtin__"):  # of Python 3, and of Python 2 and protocol 2
            plain[f"{builtins}.set"] = AllowedCallable(lambda items: set(self.hashable(items)))
            plain[f"{builtins}.frozenset"] = AllowedCallable(lambda items: frozenset(self.hashable(items)))
            plain[f"{builtins}.bytes"] = AllowedCallable(lambda: b"")  # others are _codecs.encode of a text
        self.names = plain | dict(names)

    def load(self) -> object:
        """The next pickle's object: containers, numbers, text and arrays, and :class:`Unread` for anything else.

        Raises
        ------
        FileError
            If the pickle is damaged, or uses an opcode that is not among those below.
        """
        start = self.at
        self.stack, self.marks, self.memo = [], [], {}
        try:
            while (opcode := self.take(1)) != b".":
                self.step(opcode)
            [value] = self.stack
        except FileError:
            raise
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError, struct.error):
            raise FileError(f"has a damaged pickle: byte {self.at - start} of it makes no sense") from None
        _check_plain(value)
        return value

    def step(self, opcode: bytes) -> None:
        """Do what an opcode says."""
        self.spend(1)
        if opcode in _PUSHED:
            self.budget.reserve(_BYTES.get(opcode, OBJECT_BYTES))
            self.stack.append(_PUSHED[opcode](self))
        elif opcode in _DONE:
            _DONE[opcode](self)
        else:
            raise FileError(f"uses the pickle opcode {_name(opcode)}, which no plain data needs")

    # Reading

    def take(self, length: int) -> bytes:
        """The next bytes."""
        start, self.at = self.at, self.at + length
        if not start <= self.at <= len(self.data):
            raise FileError("ends too early")
        return self.data[start : self.at]

    def number(self, length: int, *, signed: bool = False) -> int:
        """Return the next integer, of `length` bytes."""
        return int.from_bytes(self.take(length), "little", signed=signed)

    def spend(self, steps: int) -> None:
        """Count steps, which bounds the time."""
        self.steps += steps
        if self.steps > self.most_steps:
            raise FileError(f"has a pickle of more than {self.most_steps} steps, too many for a model")

    def counted(self, length: int) -> bytes:
        """Return bytes that follow their count, an integer of `length` bytes."""
        count = self.number(length)
        self.budget.reserve(count)
        return self.take(count)

    def text(self, length: int) -> str:
        content = self.counted(length)
        self.budget.reserve(0 if content.isascii() else 3 * len(content))  # four bytes a character, if one needs them
        return content.decode("utf-8", "surrogatepass")

    def line(self) -> str:
        return self.take(self.data.index(b"\n", self.at) + 1 - self.at)[:-1].decode()

    def decimal(self) -> int:
        """An integer as text; protocol 1 writes True and False as 01 and 00."""
        line = self.line()
        return line == "01" if line in ("00", "01") else int(line.removesuffix("L"))

    # Taking from the stack

    def popped(self, count: int) -> tuple[Any, ...]:
        """The last objects on the stack, if as many are there, behind the last mark."""
        start = len(self.stack) - count
        if start < (self.marks[-1] if self.marks else 0):
            raise FileError("has a damaged pickle: too little is on its stack")
        items = tuple(self.stack[start:])
        del self.stack[start:]
        return items

    def marked(self) -> tuple[Any, ...]:
        """All objects on the stack behind the last mark."""
        return self.popped(len(self.stack) - self.marks.pop())

    def extend(self, items: Sequence[Any]) -> None:
        """Add items to the list or set on the stack."""
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        elif type(target) is set:
            target.update(self.hashable(items))
        elif type(target) is not Unread:
            raise FileError("has a damaged pickle: it adds items to what is not a list")

    def assign(self, items: Sequence[Any]) -> None:
        """Put key, value, key, value, … into the dict on the stack."""
        target = self.stack[-1]
        if type(target) is Unread:
            return
        if type(target) not in (dict, OrderedDict):
            raise FileError("has a damaged pickle: it sets items of what is not a dict")
        target.update(zip(self.hashable(items[::2]), items[1::2], strict=True))

    # What names stand for

    def find(self, module: object, name: object) -> object:
        """What is in the table under this name, or a mark that it is not."""
        if type(module) is not str or type(name) is not str:
            raise FileError("has a damaged pickle: a name that is not text")
        full = f"{module}.{name}"
        if full in self.names:
            return self.names[full]
        self.budget.reserve(UNREAD_BYTES)
        return Unread(repr(full[:150])[1:-1][:200])

    def reduce(self) -> object:
        """Call a builder; this is the only call."""
        self.spend(8)
        builder, arguments = self.popped(2)
        if type(builder) is Unread:
            return Unread(builder.name)
        if type(builder) is not AllowedCallable or type(arguments) is not tuple:
            raise FileError("has a damaged pickle: it calls what is not a function")
        return builder.build(*arguments)

    def new(self, cls: object) -> object:
        """Make no object of a class: the mark of it."""
        if type(cls) is not Unread:
            raise FileError("has a damaged pickle: it makes an object of what is not a class")
        return Unread(cls.name)

    def drop_state(self) -> None:
        """Drop attributes: PyTorch gives an OrderedDict its `_metadata`, which is no part of the weights."""
        target, _ = self.popped(2)
        if type(target) not in (OrderedDict, Unread):
            raise FileError("sets attributes of plain data, which has none")
        self.stack.append(target)

    def hashable(self, items: Sequence[Any]) -> Sequence[Any]:
        """Items for a dict or a set, if they are text, numbers, or a few of these in a tuple.

        Others are dear: a tuple of a tuple twice, of a tuple twice, ... takes for ever to hash, and integers of many
        digits, and many tuples, can be made to collide.
        """
        if type(items) not in (list, tuple):
            raise FileError("has a damaged pickle: a set that is made of no list")
        self.spend(len(items))
        self.budget.reserve(ENTRY_BYTES * len(items))
        self.tuple_keys += sum(type(item) is tuple for item in items)
        if self.tuple_keys > TUPLE_KEYS:
            raise FileError(f"has dicts or sets with more than {TUPLE_KEYS} tuples as keys")
        for item in items:
            for part in item if type(item) is tuple and len(item) <= 8 else (item,):
                if type(part) not in (*SCALARS, Unread) or (type(part) is int and not -(2**63) <= part < 2**64):
                    raise FileError("has a dict or a set with a key that is neither text nor a number")
        return items

    def _ordered(self, pairs: Sequence[Any] = ()) -> OrderedDict[Any, Any]:
        """An OrderedDict; Python 2 gives it its items at once, as lists of two."""
        if any(type(pair) is not list for pair in pairs):
            raise FileError("has a damaged pickle: a dict that is made of no list")
        self.hashable([key for key, _ in pairs])
        return OrderedDict(pairs)

    def _encoded(self, text: str, encoding: str) -> bytes:
        """Bytes as protocol 2 writes them: a text of the first 256 characters."""
        if type(text) is not str or encoding != "latin1":
            raise FileError("has a damaged pickle: bytes that are none")
        self.budget.reserve(len(text))
        return text.encode("latin-1")


def _counter(counts: object) -> object:
    """A Counter, such as the milestones of a schedule, as the dict that it is made of."""
    if type(counts) is not dict:
        raise FileError("has a damaged pickle: a Counter that is made of no dict")
    return counts


def _reconstructed(cls: object, *_: object) -> object:
    """The mark of an object that Python makes by its class."""
    if type(cls) is not Unread:
        raise FileError("has a damaged pickle: it makes an object of what is not a class")
    return Unread(cls.name)


def _check_plain(root: object) -> None:
    """Refuse what is not data, or too deep. Level by level: objects may be shared, and hold themselves."""
    seen: set[int] = set()
    level: list[Any] = [root]
    for _ in range(DEPTH):
        below: list[Any] = []
        for item in level:
            if type(item) in (dict, OrderedDict, list, tuple, set, frozenset):
                if id(item) not in seen:
                    seen.add(id(item))
                    below.extend(item.values() if isinstance(item, dict) else item)
            elif type(item) not in (*SCALARS, np.ndarray, Unread):
                raise FileError("holds a bare function or storage, and only tensors and plain data are read")
        level = below
    if level:
        raise FileError(f"holds containers in containers, more than {DEPTH} deep")


def _name(opcode: bytes) -> str:
    from pickletools import opcodes  # noqa: PLC0415 - for a message

    return next((known.name for known in opcodes if known.code.encode("latin-1") == opcode), f"0x{opcode.hex()}")


def _memoize(unpickler: Unpickler, index: int) -> None:
    unpickler.budget.reserve(ENTRY_BYTES)
    unpickler.memo[index] = unpickler.stack[-1]


# What each opcode pushes on the stack. In the order of the protocols.
_PUSHED: dict[bytes, Callable[[Unpickler], object]] = {
    b"N": lambda _: None,
    b"I": Unpickler.decimal,
    b"L": Unpickler.decimal,
    b"J": lambda u: u.number(4, signed=True),
    b"K": lambda u: u.number(1),
    b"M": lambda u: u.number(2),
    b"G": lambda u: struct.unpack(">d", u.take(8))[0],
    b"T": lambda u: u.text(4),  # str of Python 2
    b"U": lambda u: u.text(1),
    b"X": lambda u: u.text(4),
    b")": lambda _: (),
    b"]": lambda _: [],
    b"}": lambda _: {},
    b"t": lambda u: u.marked(),
    b"l": lambda u: list(u.marked()),
    b"2": lambda u: u.stack[-1],
    b"h": lambda u: u.memo[u.number(1)],
    b"j": lambda u: u.memo[u.number(4)],
    b"c": lambda u: u.find(u.line(), u.line()),
    b"R": Unpickler.reduce,
    b"Q": lambda u: u.persistent(*u.popped(1)),
    b"\x88": lambda _: True,
    b"\x89": lambda _: False,
    b"i": lambda u: u.new((u.find(u.line(), u.line()), u.marked())[0]),
    b"o": lambda u: u.new(u.marked()[0]),
    b"\x81": lambda u: u.new(u.popped(2)[0]),
    b"\x92": lambda u: u.new(u.popped(3)[0]),
    b"\x8a": lambda u: int.from_bytes(u.counted(1), "little", signed=True),
    b"\x85": lambda u: u.popped(1),
    b"\x86": lambda u: u.popped(2),
    b"\x87": lambda u: u.popped(3),
    b"B": lambda u: u.counted(4),
    b"C": lambda u: u.counted(1),
    b"\x8c": lambda u: u.text(1),
    b"\x8d": lambda u: u.text(8),
    b"\x8e": lambda u: u.counted(8),
    b"\x8f": lambda _: set(),
    b"\x91": lambda u: frozenset(u.hashable(u.marked())),
    b"\x93": lambda u: u.find(*u.popped(2)),
}

# Upper bounds on the memory of what an opcode pushes, with its place on the stack and in the checks at the end.
OBJECT_BYTES, ENTRY_BYTES = 72, 100  # of most objects; of an entry in a dict, a set or the memo
UNREAD_BYTES = 512  # of an Unread and its name
_BYTES: dict[bytes, int] = (
    dict.fromkeys((b"N", b")", b"2", b"h", b"j", b"\x88", b"\x89", b"K"), 16)
    | dict.fromkeys((b"t", b"\x85", b"\x86", b"\x87", b"]", b"l", b"}"), 192)
    | dict.fromkeys((b"\x8f", b"\x91"), 360)
    | dict.fromkeys((b"c", b"\x93", b"i"), 64)  # an entry of the table; `find` reserves more for an Unread
    | {b"R": 512}  # an array, or an OrderedDict
)

# What each of the others does.
_DONE: dict[bytes, Callable[[Unpickler], object]] = {
    b"(": lambda u: u.marks.append(len(u.stack)),
    b"0": lambda u: u.popped(1),
    b"1": lambda u: u.marked(),
    b"q": lambda u: _memoize(u, u.number(1)),
    b"r": lambda u: _memoize(u, u.number(4)),
    b"\x94": lambda u: _memoize(u, len(u.memo)),
    b"a": lambda u: u.extend(u.popped(1)),
    b"e": lambda u: u.extend(u.marked()),
    b"\x90": lambda u: u.extend(u.marked()),
    b"s": lambda u: u.assign(u.popped(2)),
    b"u": lambda u: u.assign(u.marked()),
    b"b": Unpickler.drop_state,
    b"\x80": lambda u: u.take(1),  # the protocol: the opcodes are the same in all
    b"\x95": lambda u: u.take(8),  # the length of a frame
}
