"""The page is one file that obeys nothing that its user wrote: modules become one script, text stays text."""

import json
import re
import shutil
import subprocess
import time
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import glasscell as gc
from glasscell.escaping import escape
from glasscell.trace.html_report import document
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


def modules(folder: Path, **sources: str) -> Path:
    for name, source in sources.items():
        (folder / f"{name}.js").write_text(source, encoding="utf-8")
    return folder


def run_in_node(script: str) -> str:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed: it runs what was bundled")
    return subprocess.run([node, "-e", script], capture_output=True, text=True, check=True).stdout


def test_modules_become_one_script_that_does_the_same(tmp_path: Path) -> None:
    folder = modules(
        tmp_path,
        app='import { value, twice as double } from "./a.js";\nimport * as b from "./b.js";\nconst hidden = 1;\n'
        'import {\n  Point,\n  order,\n} from "./c.js";\n'
        "console.log(double(value), b.value, b.ofA, new Point().x, hidden, order.join());\n",
        a="export const value = 21;\nconst hidden = 2;\nexport function twice(n) {\n  return hidden * n;\n}\n",
        b='export { value as ofA } from "./a.js";\nlet hidden = 3;\nconst own = "b";\nexport { own as value };\n',
        c='import { order } from "./d.js";\nexport class Point {\n  x = 4;\n}\norder.push("c");\nexport { order };\n',
        d='export const order = ["d"];\n',
    )
    assert run_in_node(document.bundle(folder)) == "42 b 21 4 1 d,c\n"


def test_a_module_runs_once_however_often_it_is_imported(tmp_path: Path) -> None:
    folder = modules(
        tmp_path,
        app='import { a } from "./a.js";\nimport { b } from "./b.js";\nconsole.log(a === b);\n',
        a='export { state as a } from "./state.js";\n',
        b='export { state as b } from "./state.js";\n',
        state="export const state = {};\n",
    )
    assert run_in_node(document.bundle(folder)) == "true\n"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ('import x from "./a.js";', "app.js has a line that the bundler does not understand: import x"),
        ('import { x } from "d3";', "does not understand: import { x }"),
        ("export default 3;", "does not understand: export default 3"),
        ('const x = "</SCRIPT>";', "'</SCRIPT' in it, which cannot stand"),
        ('const x = "<!--";', "'<!--' in it"),
        ('import { x } from "./app.js";', "in a circle: app.js → app.js"),
    ],
)
def test_what_the_bundler_cannot_do_it_says(tmp_path: Path, source: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        document.bundle(modules(tmp_path, app=f"{source}\n"))


def test_text_of_the_user_is_text() -> None:
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


def test_a_payload_with_nan_is_refused() -> None:
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
def test_a_report_is_of_a_size_that_can_be_sent(T: int, H: int, layers: int, most: int) -> None:
    rng = np.random.default_rng(0)
    lstm = gc.LSTM(2, H, layers)
    trace = lstm.trace(rng.normal(size=(T, 2)), rng.normal(size=(T, H)))
    start = time.perf_counter()
    page = document.page(payload_of(trace))
    print(f"T {T}, H {H}, {layers} layers: {len(page.encode()) / 1e3:.0f} kB in {time.perf_counter() - start:.2f} s")
    assert len(page.encode()) < most


def test_many_inputs_and_outputs_are_summarised_and_said_to_be() -> None:
    lstm = gc.LSTM(20_000, 3, peepholes=True)
    payload = payload_of(lstm.trace(np.zeros((50, 20_000), np.float32), step_names=[f"s{t}" for t in range(50)]))
    assert len(document.page(payload).encode()) < 3_200_000
    shown = payload["x"]["shape"][1]
    assert f"Of 20000 inputs the first {shown} are shown." in payload["notes"]
    assert len(payload["input_names"]) == shown < 20_000
    wide = gc.Sequential([gc.LSTM(2, 3), gc.Linear(3, 20_000)])
    payload = payload_of(wide.trace(np.zeros((50, 2), np.float32), d_outputs=np.zeros((50, 20_000), np.float32)))
    assert not payload["live"]
    assert "The 20000 outputs are too many to be shown." in payload["notes"]
    assert payload["outputs"] is payload["d_outputs"] is None
