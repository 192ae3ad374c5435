"""Law: the code in docs/what_it_does.md runs, and has the results that the page states."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

DOC = Path(__file__).parents[2] / "docs" / "what_it_does.md"
TEXT = DOC.read_text(encoding="utf-8") if DOC.exists() else ""

pytestmark = pytest.mark.skipif(not TEXT, reason="docs are not part of an installed package")


@pytest.fixture(scope="module")
def page():
    """The names that the page defines, and the text that it prints."""
    printed: list[str] = []
    names: dict[str, Any] = {"print": lambda value: printed.append(str(value))}
    for code in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(code, "docs/what_it_does.md", "exec"), names)  # noqa: S102 - of this repository
    return names, "\n".join(printed).splitlines()


def without_numbers(line: str) -> str:
    """Numbers of trained models depend on rounding."""
    return re.sub(r"\s+", " ", re.sub(r"[+-]?\d+(\.\d*)?", "number", line)).strip()


def test_the_page_prints_its_texts(page):
    documented = "\n".join(re.findall(r"```text\n(.*?)\n```", TEXT, re.DOTALL)).splitlines()
    printed = page[1]
    assert len(printed) == len(documented)
    kinds = [(line.split("(")[0], line.split()[0]) for line in documented]
    for line, expected, (name, first) in zip(printed, documented, kinds, strict=True):
        if name in ("Decodability", "UnitDifferences"):
            assert without_numbers(line) == without_numbers(expected)
        elif first in ("largest", "smallest", "bit"):
            assert line.startswith(first)
        else:
            assert without_numbers(line).replace("number", "").strip("[] ") == ""


def test_a_bit_enters_returns_and_decays(page):
    result = page[0]["result"]
    assert (result.accuracy[2, :2] < 0.7).all()
    assert result.accuracy[2, 2] == 1
    assert result.accuracy[2, 9] > 0.85
    assert result.accuracy[2, -1] < result.accuracy[2, 9]
    assert result.r2[2, :2].max() <= 0.05


def test_each_answer_depends_on_its_bit_and_gradients_show_less_of_it(page):
    dependency = page[0]["dependency"]
    assert (dependency.strongest() == np.arange(6)).all()
    own = np.eye(6, dtype=bool)
    assert dependency.exact[own].min() > 5
    assert dependency.exact[~own].max() < 2
    assert (dependency.linear[own] < 0.5 * dependency.exact[own]).all()


def test_the_cells_carry_most_of_a_bit_at_every_step(page):
    relay = page[0]["relay"]
    for bit in range(6):
        assert relay.together[bit, bit : bit + 8].min() > 0.7
        assert relay.sentence(bit).endswith(f"and read at step {7 + bit}")
    assert all(one.source != one.target for one in relay.handovers(3))


def test_places_of_the_corpus_have_their_context(page):
    names = page[0]
    place, text = names["place"], names["text"]
    assert text[place.step] == place.input
    assert place.before + place.input + place.after in text
    assert [search.unit for search in names["explain"].extreme_inputs(names["language"], text[:90], [3, 4])] == [3, 4]


def test_brackets_are_decoded_better_than_by_chance(page):
    brackets = page[0]["brackets"]
    assert brackets.accuracy[0, 10:].mean() > brackets.chance[0, 10:].mean() + 0.03


def test_the_thresholds_are_those_of_the_page():
    from glasscell.explain import sentences  # noqa: PLC0415
    from glasscell.explain.quantiles import EXACT_VALUES  # noqa: PLC0415
    from glasscell.explain.relays import SEQUENCES  # noqa: PLC0415
    from glasscell.explain.samples import MIN_SEQUENCES  # noqa: PLC0415

    assert (sentences.CARRIED_SHARE, sentences.WRITTEN_PART) == (0.1, 0.5)
    assert (sentences.MAX_WRITTEN, sentences.MAX_HANDED) == (3, 4)
    assert (EXACT_VALUES, SEQUENCES, MIN_SEQUENCES) == (65_536, 64, 4)
