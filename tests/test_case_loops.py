"""Law: a loop over cases runs each of them, fails if any fails, and names all that fail."""

import re
import warnings

import pytest
from case_loops import loop_over


def failing(test, **fixtures):
    """Return the labels of the cases that failed, and their errors."""
    with pytest.raises(BaseExceptionGroup) as caught:
        test(**fixtures)
    found = re.fullmatch(r"(\d+) of (\d+) cases failed: (.*)", caught.value.message)
    labels = found[3].split("; ")
    assert len(labels) == int(found[1]) == len(caught.value.exceptions)
    assert [error.__notes__ for error in caught.value.exceptions] == [[f"in the case {label}"] for label in labels]
    return labels, caught.value.exceptions


def test_all_combinations_run():
    seen = []

    @loop_over("a, b", [(1, 2), (3, 4)])
    @loop_over("kind", [int, float])
    def test(kind, a, b, fixture):
        seen.append((kind, a, b, fixture))

    test(fixture="x")
    assert sorted(map(str, seen)) == sorted(str((k, *ab, "x")) for k in (int, float) for ab in [(1, 2), (3, 4)])


def test_each_case_that_fails_is_named_whatever_the_others_do():
    seen = []

    @loop_over("way", ["right", "wrong", "error", "no error", "skipped", "warning", "last"], ids=str.upper)
    @loop_over("n", [1, 2])
    def test(way, n):
        seen.append((way, n))
        if way == "no error":
            with pytest.raises(ValueError, match="x"):
                pass
        if way == "skipped":
            pytest.skip("a reason")
        if way == "warning" and n == 2:
            warnings.warn("an error in this suite", stacklevel=1)
        assert way != "wrong"
        if way == "error":
            raise KeyError(n)

    labels, errors = failing(test)
    expected = {f"{n}-{way}" for n in (1, 2) for way in ("WRONG", "ERROR", "NO ERROR", "SKIPPED")} | {"2-WARNING"}
    assert set(labels) == expected
    assert len(labels) == len(expected)
    assert len(seen) == 14
    assert {type(error) for error in errors} == {
        *(AssertionError, KeyError, UserWarning),
        *(pytest.fail.Exception, pytest.skip.Exception),
    }


def test_values_without_a_short_text_are_named_by_argument_and_number():
    @loop_over("make, n", [(lambda: 1, 1), (dict, 2), ("a" * 100, 3), ("a\nb", 4), (2.5, 5)])
    def test(make, n):
        raise ValueError

    assert failing(test)[0] == ["make0-1", "dict-2", "make2-3", "make3-4", "2.5-5"]


@loop_over("n", range(3))
def test_each_case_has_an_empty_folder(n, tmp_path):
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()


def test_an_interrupt_ends_the_loop():
    @loop_over("n", [1, 2])
    def test(n):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        test()


def test_no_cases_are_an_error():
    with pytest.raises(AssertionError, match="there are no cases of"):
        loop_over("n", [])
    with pytest.raises(ValueError, match="zip"):
        loop_over("n, m", [(1, 2, 3)])


@loop_over("c", [0])
@pytest.mark.parametrize("a", [1, 2])
@loop_over("b", [10, 20])
def test_pytest_sees_the_other_arguments(a, b, c, request):
    assert request.node.callspec.params == {"a": a}
    assert b in {10, 20}
