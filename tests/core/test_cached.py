"""Attributes are computed at their first use, without a lock that a forked child could wait for."""

import re
from pathlib import Path

import glasscell
from glasscell.core.cached import cached_property


class Squares:
    def __init__(self):
        self.calls = 0

    @cached_property
    def square(self):
        """Return 25."""
        self.calls += 1
        return 25


def test_it_is_computed_once_per_object_and_can_be_replaced():
    first, second = Squares(), Squares()
    assert [first.square, first.square, second.square] == [25, 25, 25]
    assert (first.calls, second.calls) == (1, 1)
    first.square = 36
    assert first.square == 36
    assert Squares.square.__doc__ == "Return 25."


def test_no_attributes_have_locks():
    files = list(Path(glasscell.__file__).parent.rglob("*.py"))
    imported = re.compile(r"^from functools import .*\bcached_property\b", re.MULTILINE)
    assert len(files) > 300
    assert not [path for path in files if imported.search(path.read_text("utf-8"))]
