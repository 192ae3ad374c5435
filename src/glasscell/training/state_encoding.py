"""Encode the state of a training as tensors and JSON, and decode it. No pickle.

Arrays and NumPy scalars become tensors; everything else becomes JSON. JSON holds None, Booleans, integers, finite
floats, text, lists and objects as they are, and all other values as an object ``{"$": kind, ...}``:

================  ====================================================================================================
kind              further entries
================  ====================================================================================================
``array``         ``tensor``: name; ``axes``: order of the axes in memory, if it is not that of the shape
``scalar``        ``tensor``: name
``float``         ``value``: "nan", "inf" or "-inf"
``tuple``         ``items``
``named tuple``   ``module``, ``name`` of a class that is imported already, ``items``
``slice``         ``items``: start, stop, step
``history``       ``columns``, and the other attributes of a :class:`~glasscell.training.history.History`
================  ====================================================================================================

Values that differ in a bit, a type or the order of axes in memory have different encodings: what is decoded equals what
was encoded, and is a copy.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glasscell.escaping import one_line
from glasscell.manifest_files import FLOATS, KIND
from glasscell.training.history import History

AnyArray: TypeAlias = NDArray[Any]
ARRAY_KINDS = "biuf"  # dtypes of tensors: Booleans and numbers
EXPANSION, ALLOWANCE = 12, 2**26  # decoded values may need this many times the bytes of the tensors, and 64 MiB
ROW_BYTES, VALUE_BYTES = 200, 30  # memory of a row of a history, and of each number in it
COLUMN_TYPES: dict[type, str] = {bool: "?", int: "<i8", float: "<f8"}  # of the rows of a history: Python's types


def encode_state(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, AnyArray]]:
    """Return a state as JSON and tensors; the tensors are views where that is possible.

    Raises
    ------
    TypeError
        If it has a value that cannot be encoded; the message names it.
    """
    encoder = _Encoder()
    return {name: encoder.encode(value, name) for name, value in state.items()}, encoder.tensors


def decode_state(content: Mapping[str, Any], tensors: Mapping[str, AnyArray]) -> dict[str, Any]:
    """Return the state that :func:`encode_state` encoded; it shares no memory with the tensors.

    Raises
    ------
    ValueError
        If content and tensors are not those of a state.
    """
    decoder = _Decoder(tensors)
    try:
        return {name: decoder.decode(value) for name, value in content.items()}
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"the state cannot be decoded: {one_line(error)}") from None


class _Encoder:
    def __init__(self) -> None:
        self.tensors: dict[str, AnyArray] = {}
        self._encoders: list[tuple[type, Callable[[Any, str], Any]]] = [
            (np.generic, self._encode_array),  # before float: np.float64 is one
            (np.ndarray, self._encode_array),
            (float, lambda value, _: {KIND: "float", "value": repr(value)}),
            (History, self._encode_history),
            (slice, self._encode_slice),
            (tuple, self._encode_tuple),
            (list, self._items),
            (dict, self._encode_mapping),
        ]

    def encode(self, value: Any, path: str) -> Any:
        """Return a value as JSON; `path` names it, and its tensors."""
        if value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value)):
            return value
        for kind, encode in self._encoders:
            if type(value) is kind or (kind in (np.generic, tuple) and isinstance(value, kind)):
                return encode(value, path)
        raise TypeError(f"{path} must be arrays, numbers, text, lists, tuples or dictionaries, got {value!r:.100}")

    def _encode_mapping(self, value: Mapping[Any, Any], path: str) -> dict[str, Any]:
        if not all(type(key) is str and key != KIND for key in value):
            raise TypeError(f"{path} must have keys of text other than {KIND!r}, got {[*value]!r:.100}")
        return {key: self.encode(item, f"{path}.{key}") for key, item in value.items()}

    def _encode_slice(self, value: slice, path: str) -> dict[str, Any]:
        return {KIND: "slice", "items": self._items((value.start, value.stop, value.step), path)}

    def _items(self, values: Sequence[Any], path: str) -> list[Any]:
        return [self.encode(item, f"{path}.{number}") for number, item in enumerate(values)]

    def _encode_tuple(self, value: tuple[Any, ...], path: str) -> dict[str, Any]:
        items, kind = self._items(value, path), type(value)
        if kind is tuple:
            return {KIND: "tuple", "items": items}
        if _named_tuple(kind.__module__, kind.__qualname__) is not kind:
            raise TypeError(f"{path} must be an instance of a class of a module, got a {kind.__qualname__}")
        return {KIND: "named tuple", "module": kind.__module__, "name": kind.__qualname__, "items": items}

    def _encode_array(self, value: AnyArray | np.generic, path: str) -> dict[str, Any]:
        if value.dtype.kind not in ARRAY_KINDS or value.dtype.itemsize > 8:
            raise TypeError(f"{path} must have a dtype of Booleans or numbers of at most 8 bytes, got {value.dtype}")
        array = np.asarray(value)
        if isinstance(value, np.generic):
            return {KIND: "scalar", "tensor": self._tensor(array, path)}
        axes = sorted(range(array.ndim), key=lambda axis: (-abs(array.strides[axis]), axis))
        encoded = {KIND: "array", "tensor": self._tensor(array.transpose(axes), path)}
        return encoded if axes == sorted(axes) else encoded | {"axes": axes}

    def _tensor(self, array: AnyArray, path: str) -> str:
        name = path
        while name in self.tensors:
            name += "'"
        self.tensors[name] = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
        self.tensors[name].shape = array.shape  # ascontiguousarray gives numbers an axis
        return name

    def _encode_history(self, history: History, path: str) -> dict[str, Any]:
        names = ("target_reached", "stopped_early", "best_update", "failures")
        attributes = {name: self.encode(getattr(history, name), f"{path}.{name}") for name in names}
        columns = [self._encode_column(history.rows, name, f"{path}.{name}") for name in history.columns]
        return {KIND: "history", "rows": len(history.rows), "columns": columns} | attributes

    def _encode_column(self, rows: Sequence[Mapping[str, Any]], name: str, path: str) -> dict[str, Any]:
        """Return a column: the rows that have it, and their values, as tensors if all have one type of number."""
        column: dict[str, Any] = {"name": name}
        try:
            values = [row[name] for row in rows]
        except KeyError:
            places = [number for number, row in enumerate(rows) if name in row]
            values = [rows[number][name] for number in places]
            column["places"] = self._tensor(np.array(places, "<i8"), f"{path}.places")
        kinds = set(map(type, values))
        kind = kinds.pop() if len(kinds) == 1 else None
        with suppress(OverflowError):  # an integer of more than 8 bytes
            if kind in COLUMN_TYPES:
                array = np.array(values, COLUMN_TYPES[kind])
                return column | {"type": kind.__name__, "tensor": self._tensor(array, path)}
        if kind is not None and issubclass(kind, np.generic) and len({value.dtype for value in values}) == 1:
            return column | {"type": "numpy", "values": self.encode(np.array(values), path)}
        return column | {"type": "any", "values": self._items(values, path)}


class _Decoder:
    """Decodes the values of a file of unknown origin: each tensor is used once, and memory is bounded by their size."""

    def __init__(self, tensors: Mapping[str, AnyArray]) -> None:
        self._tensors = dict(tensors)
        self._memory = EXPANSION * sum(tensor.nbytes for tensor in tensors.values()) + ALLOWANCE

    def _take(self, name: str) -> AnyArray:
        return self._tensors.pop(name)

    def _reserve(self, num_bytes: int) -> None:
        self._memory -= num_bytes
        if self._memory < 0:
            raise ValueError("it needs more memory than its size allows")

    def decode(self, value: Any) -> Any:
        """Return the value that was encoded."""
        if isinstance(value, list):
            return [self.decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        if KIND not in value:
            return {key: self.decode(item) for key, item in value.items()}
        decode = {
            "array": self._array,
            "scalar": lambda value: self._take(value["tensor"]).copy()[()],
            "float": _float,
            "tuple": lambda value: tuple(self.decode(value["items"])),
            "named tuple": self._named_tuple,
            "slice": lambda value: slice(*self.decode(value["items"])),
            "history": self._history,
        }[value[KIND]]
        return decode(value)

    def _array(self, value: Mapping[str, Any]) -> AnyArray:
        array = self._take(value["tensor"]).copy()
        axes = value.get("axes", range(array.ndim))
        if sorted(axes) != [*range(array.ndim)]:
            raise ValueError(f"{axes} are not the axes of an array of {array.ndim}")
        return array.transpose(np.argsort(axes)) if array.ndim else array

    def _named_tuple(self, value: Mapping[str, Any]) -> Any:
        kind, items = _named_tuple(value["module"], value["name"]), self.decode(value["items"])
        if kind is None or len(items) != len(kind._fields):  # type: ignore[attr-defined] # of a named tuple
            raise ValueError(f"{value['name']!r:.100} is not a named tuple of {len(items)} items")
        return tuple.__new__(kind, items)  # runs no code of the class

    def _history(self, value: Mapping[str, Any]) -> History:
        num_rows = value["rows"]
        if type(num_rows) is not int or num_rows < 0:
            raise ValueError(f"a history has {num_rows!r:.100} rows")
        self._reserve(ROW_BYTES * num_rows)
        rows: list[dict[str, Any]] = [{} for _ in range(num_rows)]
        for column in value["columns"]:
            name, places = column["name"], range(num_rows)
            if "places" in column:
                places = self._take(column["places"]).tolist()
            values = self._values(column)
            if len(values) != len(places) or type(name) is not str or min(places, default=0) < 0:
                raise ValueError(f"column {name!r:.100} has {len(values)} values for {len(places)} rows")
            for place, item in zip(places, values, strict=True):
                rows[place][name] = item
        failures = [dict(failure) for failure in self.decode(value["failures"])]
        return History(rows, value["target_reached"], value["stopped_early"], value["best_update"], failures)

    def _values(self, column: Mapping[str, Any]) -> list[Any]:
        if column["type"] == "any":
            values: list[Any] = self.decode(column["values"])
            return values
        if column["type"] == "numpy":
            array = self._array(column["values"])
            self._reserve(VALUE_BYTES * array.size)
            return list(array)
        kinds = {kind.__name__: dtype for kind, dtype in COLUMN_TYPES.items()}
        tensor = self._take(column["tensor"])
        self._reserve(VALUE_BYTES * tensor.size)
        if tensor.dtype != np.dtype(kinds[column["type"]]):
            raise ValueError(f"a column of {column['type']} has the dtype {tensor.dtype}")
        items: list[Any] = tensor.tolist()
        return items


def _float(value: Mapping[str, Any]) -> float:
    return FLOATS[value["value"]]


def _named_tuple(module: object, name: object) -> type[tuple[Any, ...]] | None:
    """Return the class of named tuples of this name in a module that is imported; None if there is none."""
    kind: Any = sys.modules.get(module) if isinstance(module, str) else None
    for part in str(name).split("."):
        kind = vars(kind).get(part) if hasattr(kind, "__dict__") else None
    is_named_tuple = isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")
    return kind if is_named_tuple else None
