"""Loops over the cases of a law within one test, for thousands of cases that each take less time than pytest itself."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from inspect import Signature, signature
from typing import Any

import pytest

FAILURES = (Exception, pytest.fail.Exception, pytest.skip.Exception)  # a skipped case would be unnoticed: it fails


def loop_over(
    names: str | Sequence[str], values: Iterable[Any], ids: Callable[[Any], str] | Iterable[str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a test to run all cases, with the arguments of ``pytest.mark.parametrize``.

    A test of pytest takes a millisecond even if it does nothing, in collection, reports and fixtures. All cases run,
    also after one that fails; the error names each that fails, and has its traceback. Decorators can be combined with
    each other and, above them, with ``parametrize``. Fixtures are those of the test, which its cases share: a
    generator continues from case to case. Only ``tmp_path`` is an empty folder for each case.
    """
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    values = list(values)
    assert values, f"there are no cases of {names}"
    rows = [(value,) if len(names) == 1 else tuple(value) for value in values]
    if ids is None:
        labels = ["-".join(map(_label, row, names, itertools.repeat(k))) for k, row in enumerate(rows)]
    else:
        labels = ["-".join(str(ids(value)) for value in row) for row in rows] if callable(ids) else list(ids)
    added = [(label, dict(zip(names, row, strict=True))) for label, row in zip(labels, rows, strict=True)]

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        function, inner = getattr(test, "looped", (test, [("", {})]))
        cases = [
            (f"{label}-{more}" if label else more, {**arguments, **further})
            for (label, arguments), (more, further) in itertools.product(inner, added)
        ]

        @wraps(test)  # with its marks
        def loop(**fixtures: Any) -> None:
            errors, failed = [], []
            folder = fixtures.get("tmp_path")
            for k, (label, arguments) in enumerate(cases):
                if folder is not None:
                    fixtures["tmp_path"] = folder / f"{k}"
                    fixtures["tmp_path"].mkdir()
                try:
                    function(**arguments, **fixtures)
                except FAILURES as error:
                    error.add_note(f"in the case {label}")
                    errors.append(error)
                    failed.append(label)
            if errors:
                raise BaseExceptionGroup(f"{len(failed)} of {len(cases)} cases failed: {'; '.join(failed)}", errors)

        parameters = signature(function).parameters
        loop.__signature__ = Signature([parameters[name] for name in parameters if name not in cases[0][1]])
        loop.__dict__.update(looped=(function, cases))
        return loop

    return decorate


def _label(value: Any, name: str, k: int) -> str:
    """Return the text of a value if it is short and says something, or else the name of the argument and a number."""
    text = str(getattr(value, "__name__", value))
    return f"{name}{k}" if len(text) > 60 or "\n" in text or "<" in text else text
