"""Laws: the page of a text shows it in full, each symbol in the colour of the chosen unit, and computes it again."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import glasscell as gc
from glasscell.data import Vocabulary
from glasscell.layers import Dropout
from glasscell.trace.html_report import page as document
from glasscell.trace.html_report.payload import payload_of
from glasscell.trace.trace import Trace

TEXT = "a cab <b>\nbac &amp; cba\n"
Open = Callable[..., Any]


def model_of(unit: str = "characters", text: str = TEXT, **options: Any) -> gc.LanguageModel:
    vocabulary: Any = Vocabulary.from_text(text, unit)  # type: ignore[arg-type] # a parameter
    model = gc.LanguageModel(vocabulary, 5, 6, dtype=np.float64, **options)
    model.parameters.vector[:] = np.random.default_rng(0).normal(scale=0.7, size=model.parameters.vector.size)
    return model


def opened(open_html: Open, trace: Trace) -> Any:
    return open_html(document.page(payload_of(trace)))


def colours(page: Any) -> list[str]:
    found: list[str] = page.evaluate("[...document.querySelectorAll('#text span')].map(e => e.style.background)")
    return found


def test_the_text_is_shown_as_it_is_and_a_symbol_chooses_its_step(open_html: Open) -> None:
    trace = model_of().trace(TEXT)
    page = opened(open_html, trace)
    assert page.locator("#text").inner_text() == TEXT[:-1].replace("\n", "↵\n")
    page.locator("#text span").nth(4).click()
    assert page.evaluate("window.glasscell.state.step") == 4
    assert "step 4 (b):" in page.locator("#text-value").inner_text()
    assert page.locator("#text .now").count() == 1
    assert page.locator("#step-label").inner_text() == "4 (b)"


def test_colours_are_those_of_unit_layer_and_quantity(open_html: Open) -> None:
    """Equal colours for equal values, and the order of the colours is that of the values."""
    trace = model_of().trace(TEXT)
    page = opened(open_html, trace)
    seen = set()
    for layer, unit, symbol in ((1, 0, "tanh_c"), (1, 3, "tanh_c"), (0, 3, "f"), (1, 3, "h")):
        page.locator("#direction").select_option(str(layer))
        page.evaluate(f"window.glasscell.choose({{unit: {unit}}})")
        page.locator("#text-symbol").select_option(symbol)
        assert page.locator("#text-unit").inner_text() == str(unit)
        assert page.evaluate("window.glasscell.state.layer") == layer
        values, shown = trace.layer[layer].value(symbol)[:, unit], colours(page)
        assert len(shown) == len(TEXT) - 1
        assert shown[int(values.argmax())] != shown[int(values.argmin())]
        for t, u in ((0, 11), (3, 7)):
            if abs(values[t] - values[u]) > 0.02:
                assert shown[t] != shown[u]
        seen.add(tuple(shown))
    assert len(seen) == 4
    page.locator("#backward").click()
    assert tuple(colours(page)) not in seen


def test_the_unit_that_varies_most_is_chosen_first(open_html: Open) -> None:
    trace = model_of().trace(TEXT)
    page = opened(open_html, trace)
    chosen = page.evaluate("[window.glasscell.state.layer, window.glasscell.state.unit]")
    assert chosen == [1, int(trace.layer[1].tanh_c.var(axis=0).argmax())]
    assert page.locator("#direction").input_value() == "1"


@pytest.mark.parametrize("options", [{}, {"dropout": 0.3}, {"embedding_size": 6, "tied": True}])
def test_the_page_of_a_language_model_computes_it(open_html: Open, options: dict[str, Any]) -> None:
    vocabulary = Vocabulary.from_text(TEXT)
    model = gc.LanguageModel(vocabulary, **{"embedding_size": 5, "hidden_size": 6, **options})
    payload = payload_of(model.trace(TEXT))
    assert payload["live"]
    assert payload["embedded"]
    page = opened(open_html, model.trace(TEXT))
    assert page.locator("#inputs-part").is_hidden()


def test_embeddings_that_mask_steps_are_not_computed() -> None:
    layers = [gc.Embedding(5, 3, mask_zero=True), gc.LSTM(3, 4), Dropout(0.2), gc.Linear(4, 5)]
    assert not payload_of(gc.Sequential(layers).trace([1, 2, 0, 3]))["live"]
    layers = [gc.Embedding(5, 3), gc.LSTM(3, 4), Dropout(0.2), gc.LSTM(4, 4), gc.Linear(4, 5)]
    assert payload_of(gc.Sequential(layers).trace([1, 2, 0, 3]))["live"]
    assert not payload_of(
        gc.Sequential([gc.LSTM(3, 4), gc.layers.Function("Relu"), gc.Linear(4, 5)]).trace(np.zeros((3, 3)))
    )["live"]


def test_of_many_symbols_the_most_probable_are_listed(open_html: Open) -> None:
    text = "".join(map(chr, range(97, 140))) * 2
    model = model_of(text=text)
    trace = model.trace(text)
    page = opened(open_html, trace)
    page.evaluate("window.glasscell.choose({step: 7})")
    rows = page.locator("#outputs tr")
    assert rows.count() == 12
    ranking = np.argsort(-trace.outputs[7], kind="stable")[:12]
    names = [model.vocabulary.symbols[k] for k in ranking]
    assert [rows.nth(n).locator("th").text_content() for n in range(3)] == names[:3]
    assert "The 12 most probable of 43 outputs" in page.locator("#outputs-more").inner_text()


def test_words_are_separated_by_spaces(open_html: Open) -> None:
    text = "cats sit on mats and dogs sit on logs"
    page = opened(open_html, model_of("words", text).trace(text))
    assert page.locator("#text").inner_text().strip() == text.rpartition(" ")[0]


def test_pages_without_names_of_steps_have_no_text(open_html: Open) -> None:
    page = opened(open_html, gc.LSTM(3, 4).trace(np.zeros((5, 3))))
    assert page.locator("#text-view").is_hidden()
