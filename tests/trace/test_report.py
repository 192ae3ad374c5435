"""Laws: a report is one file; it executes and fetches nothing from the trace."""

import json
import re
import time
from html import unescape
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

import glasscell as gc
from glasscell.escaping import escape
from glasscell.trace.html_report import page as document
from glasscell.trace.html_report.payload import payload_of

HOSTILE = "</script><script>window.obeyed = 1</script><!-- <b>bold</b> {{script}} \u2028 &amp; \"' é"


class Document(HTMLParser):
    """What a browser would find: elements with attributes, and the text of each kind of element."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = f"{tag}#{dict(attrs)['id']}" if "id" in dict(attrs) else tag

    def handle_data(self, data: str) -> None:
        self.text[self._open] = self.text.get(self._open, "") + data

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 - HTMLParser says so
        self._open = ""


def a_payload(**about: Any) -> dict[str, Any]:
    return payload_of(gc.CopyLSTM(hidden_size=3).trace([1, 0], **about))


def test_markup_in_names_is_displayed_as_text() -> None:
    payload = a_payload(title=HOSTILE, input_names=[HOSTILE, "x"], output_names=[HOSTILE])
    page, plain = document.page(payload), document.page(a_payload())
    found, expected = Document(page), Document(plain)
    assert [tag for tag, _ in found.elements] == [tag for tag, _ in expected.elements]
    assert found.text["script"] == expected.text["script"]
    assert found.text["title"] == escape(HOSTILE)  # a line separator in it is shown as one, and ends no line
    assert json.loads(found.text["script#payload"])["title"] == escape(HOSTILE)
    assert json.loads(found.text["script#payload"]) == payload


def test_nothing_is_fetched() -> None:
    parsed = Document(document.page(a_payload()))
    for tag, attributes in parsed.elements:
        assert tag not in {"link", "base", "iframe", "object", "embed", "form"}
        assert not attributes.keys() & {"src", "action", "data", "srcset"}
        href = attributes.get("href") or "#"
        assert href.startswith("#")
    (policy,) = (a["content"] for _, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert not re.search(r"@import|url\((?!['\"]?data:)", parsed.text["style"])


def test_every_placeholder_is_filled() -> None:
    assert not re.search(r"\{\{\w+\}\}", document.page(a_payload()))


def test_a_frame_holds_the_page_and_is_sandboxed() -> None:
    page = document.page(a_payload(title=HOSTILE))
    ((tag, attributes),) = Document(document.frame(page, height=500)).elements
    assert tag == "iframe"
    assert attributes["srcdoc"] == page
    assert attributes["sandbox"] == "allow-scripts"
    assert "height: 500px" in str(attributes["style"])
    assert unescape(document.frame(page)).count("<iframe") == 1


def test_a_payload_with_nan_raises_an_error() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        document.page(a_payload() | {"notes": [float("nan")]})


@pytest.mark.parametrize(
    ("T", "H", "layers", "most"),
    [
        (40, 32, 1, 300_000),
        (200, 128, 2, 3_000_000),
        (3000, 300, 4, 3_200_000),
        (2000, 20, 1, 3_200_000),
        (100_000, 8, 1, 3_200_000),
    ],
)
def test_a_report_has_a_limited_size(T: int, H: int, layers: int, most: int) -> None:
    rng = np.random.default_rng(0)
    lstm = gc.LSTM(2, H, layers)
    trace = lstm.trace(rng.normal(size=(T, 2)), rng.normal(size=(T, H)))
    start = time.perf_counter()
    page = document.page(payload_of(trace))
    print(f"T {T}, H {H}, {layers} layers: {len(page.encode()) / 1e3:.0f} kB in {time.perf_counter() - start:.2f} s")
    assert len(page.encode()) < most


def test_many_inputs_and_outputs_are_reduced_with_a_note() -> None:
    lstm = gc.LSTM(20_000, 3, peepholes=True)
    payload = payload_of(lstm.trace(np.zeros((50, 20_000), np.float32), step_names=[f"s{t}" for t in range(50)]))
    assert len(document.page(payload).encode()) < 3_200_000
    shown = payload["x"]["shape"][1]
    assert f"The first {shown} of 20000 inputs are shown." in payload["notes"]
    assert len(payload["input_names"]) == shown < 20_000
    wide = gc.Sequential([gc.LSTM(2, 3), gc.Linear(3, 20_000)])
    payload = payload_of(wide.trace(np.zeros((50, 2), np.float32), d_outputs=np.zeros((50, 20_000), np.float32)))
    assert not payload["live"]
    assert "The 20000 outputs are too large to be shown." in payload["notes"]
    assert payload["outputs"] is payload["d_outputs"] is None
