"""Attributes that are computed at their first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class cached_property(Generic[T]):  # noqa: N801 - as in functools
    """Attribute that is computed at its first use, as by `functools.cached_property`, without a lock.

    Until Python 3.12 that one has a lock for all objects of a class: a process that was forked while another thread
    held it would wait forever. Without a lock, several threads may compute the same value.
    """

    def __init__(self, function: Callable[[Any], T]) -> None:
        self._function, self.__doc__ = function, function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        """Keep the name of the attribute."""
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Self | T:
        """Compute the value, and keep it in the object, where later uses find it."""
        if instance is None:
            return self
        value = vars(instance)[self._name] = self._function(instance)
        return value
