"""Laws: the page's maps and sentences over all inputs, its addresses, tour, versions, pictures and projector."""

import functools
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import glasscell as gc
from glasscell.trace.html_report import page as document
from glasscell.trace.html_report.payload import payload_of
from glasscell.trace.trace import Trace

Open = Callable[..., Any]
BITS = [1, 0, 1, 1]
SURVEYED = "html[data-surveyed]"
_PACKAGE = find_spec("axe_playwright_python")  # it has axe-core as a file
AXE = Path(_PACKAGE.origin or "").with_name("axe.min.js") if _PACKAGE is not None else None


@functools.cache
def trained() -> gc.CopyLSTM:
    """A model that copies four bits."""
    model = gc.CopyLSTM(hidden_size=12, dtype=np.float64, task=gc.tasks.Copy(width=4))
    gc.fit(model, model.task, updates=300)
    return model


@pytest.fixture
def open_trace(open_html: Open) -> Open:
    def open_trace(trace: Trace, **options: Any) -> Any:
        page = open_html(document.page(payload_of(trace)), **options)
        page.locator(SURVEYED).wait_for(state="attached")
        return page

    return open_trace


def number(text: str) -> float:
    return float(text.replace("\u2212", "-"))


def state(page: Any) -> tuple[int, int, int]:
    step, unit, bit = page.evaluate("(({step, unit, bit}) => [step, unit, bit])(window.glasscell.state)")
    return step, unit, bit


def hover(page: Any, panel: str, row: int, column: int, rows: int, columns: int) -> str:
    """The text of the read-out over a cell of a map."""
    canvas = page.locator(f"{panel} canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    canvas.hover(position={"x": (column + 0.5) * box["width"] / columns, "y": (row + 0.5) * box["height"] / rows})
    text: str = page.locator("#readout").text_content()
    return text


def value_of(readout: str, before: str) -> float:
    return number(readout.partition(before)[2].partition(",")[0].strip())


def test_the_maps_have_the_values_of_python(open_trace: Open) -> None:
    model = trained()
    page = open_trace(model.trace(BITS))
    differences = gc.explain.unit_differences(model, model.task)
    depends = gc.explain.dependency(model, model.task)
    K, T, H = differences.difference.shape
    page.locator("#bit").select_option("2")
    page.locator("#sort").select_option("index")
    for unit, t in ((0, 3), (5, 2), (11, 7)):
        text = hover(page, "#map-held", unit, t, H, T)
        assert f"unit {unit}, step {t}:" in text
        assert abs(value_of(text, ":") - differences.difference[2, t, unit]) < 1e-3
        assert ("not significant" in text) == (not differences.is_significant[2, t, unit])
    for panel, values in (("#map-dependency", depends.exact), ("#map-jacobian", depends.linear)):
        for j, k in ((0, 0), (3, 1)):
            text = hover(page, panel, j, k, K, K)
            assert f"output at step {5 + j}, bit {k}:" in text
            assert abs(value_of(text, f"bit {k}:") - values[j, k]) < 2e-3 * max(1, values[j, k])
    assert "R² = " in hover(page, "#map-decodability", 1, 4, K, T)


def test_the_sentence_names_the_units_that_carry_the_bit(open_trace: Open) -> None:
    """The units into which it is written and the strongest of each later step, by activation patching as in Python."""
    model = trained()
    page = open_trace(model.trace(BITS))
    relay = gc.explain.relay(model, model.task)
    for k in (1, 3):
        page.locator("#bit").select_option(str(k))
        page.wait_for_selector(f"html[data-relayed='{k}']")
        written = relay.sentence(k).removeprefix(f"bit {k} is written into ").partition(", handed")[0]
        assert "unit" in written
        steps = [(one.unit, max(one.first, k + 1), one.last) for one in relay.path(k) if one.last > k]
        names = [f"{unit} ({first if first == last else f'{first} to {last}'})" for unit, first, last in steps]
        first = f"step{'s' if steps[0][1] < steps[0][2] else ''} "
        names[0] = names[0].replace("(", f"({first}")
        path = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
        units = "units" if len({unit for unit, _, _ in steps}) > 1 else "unit"
        carried = f"then carried most by {units} {path}, and read at step {5 + k}."
        assert page.locator("#story").inner_text() == f"Bit {k} is written at step {k} into {written}, {carried}"
        shares = [relay.carried[k, t, one.unit] for one in relay.path(k) for t in range(one.first, one.last + 1)]
        measured = page.locator("#relay-finding").inner_text()
        assert f"bring {min(shares):.0%} to {max(shares):.0%} of".replace("%", " %") in measured
        assert f"at least {relay.together[k, k : 6 + k].min():.0%}".replace("%", " %") in measured
    assert "all 16 inputs" in page.locator("#what-finding").inner_text()


def test_information_is_written_where_a_bit_can_first_be_read(open_trace: Open) -> None:
    model = trained()
    page = open_trace(model.trace(BITS))
    r2 = gc.explain.decodability(model, model.task).r2
    first = (r2 >= 0.5).argmax(axis=1)
    assert sorted(set(first.tolist())) == [0, 1, 2, 3]
    layer = model.trace(BITS).layer[0]
    writes = np.abs(layer.i * layer.g).mean(axis=1)
    text = page.locator("#maps-finding").inner_text()
    assert text.startswith(
        "Information is written at steps 0 to 3: there the bit that is the input of the step can first be read"
    )
    until = [r2[k, first[k] : 6 + k] for k in range(4)]  # the bit is the output of step 5 + k
    fading = [str(k) for k in range(4) if until[k].min() < 0.5]
    if fading:
        least = min(range(4), key=lambda k: until[k].min())
        place = f"(bit {least}, step {first[least] + until[least].argmin()})"
        assert f"is lower at some steps, down to {until[least].min():.2g} {place}.".replace("-", "\u2212") in text
        assert all(re.search(rf"R² of bits?\b[^:]*\b{k}\b", text) for k in fading)
    else:
        assert "is lower at some steps" not in text
    ranges = [f"{part.min():.2g} to {part.max():.2g}" for part in (writes[:4], writes[4:])]
    assert f"The mean of |i\u00a0g| is {ranges[0]} there, and {ranges[1]} at the other steps" in text
    assert f"largest at step {writes.argmax()}:" in text


def test_a_changed_weight_changes_the_maps_and_a_changed_bit_does_not(open_trace: Open) -> None:
    page = open_trace(trained().trace(BITS))
    pixels = "document.querySelector('#map-dependency canvas').toDataURL()"
    before = page.evaluate(pixels)
    page.locator("button[data-bit='0']").click()
    page.wait_for_timeout(400)
    assert page.evaluate(pixels) == before
    page.locator("#weight-gate").select_option("f")
    page.locator("#weight-number").fill("-9")
    page.locator("#weight-number").press("Enter")
    page.locator("#map-dependency canvas").evaluate(
        """(canvas, before) => new Promise(resolve => {
            const look = () => canvas.toDataURL() === before ? setTimeout(look, 50) : resolve();
            look();
        })""",
        before,
    )


@pytest.mark.parametrize("kind", ["numbers", "recorded"])
def test_other_models_have_a_map_or_a_reason(open_trace: Open, kind: str) -> None:
    rng = np.random.default_rng(0)
    lstm = gc.LSTM(2, 5, dtype=np.float64, peepholes=kind == "recorded")
    trace = lstm.trace(rng.normal(size=(6, 2)), rng.normal(size=(6, 5)))
    page = open_trace(trace)
    if kind == "recorded":
        assert "recorded" in page.locator("#what-note").inner_text()
        assert page.locator("#what-maps").is_hidden()
        return
    d_outputs = np.zeros((6, 5))
    answer = int(trace.outputs[5].argmax())
    d_outputs[5, answer] = 1
    norms = np.linalg.norm(lstm.trace(trace.x, d_outputs=d_outputs).d_x, axis=1)
    text = hover(page, "#map-dependency", 5, 3, 6, 6)
    assert abs(value_of(text, "input at step 3:") - norms[3]) < 1e-3
    assert (
        page.locator("#story")
        .inner_text()
        .startswith(f"The last output depends most on the input of step {norms.argmax()}")
    )


def test_the_address_has_the_state_and_the_back_button_restores_it(open_trace: Open) -> None:
    page = open_trace(trained().trace(BITS))
    page.evaluate("window.glasscell.choose({step: 3, unit: 7})")
    page.locator("#bit").select_option("2")
    page.wait_for_url("**#t=3&u=7&k=2")
    page.evaluate("window.glasscell.choose({step: 6, unit: 1})")
    page.locator("#backward").click()
    page.wait_for_url("**#t=6&u=1&k=2&mode=backward")
    page.go_back()
    page.wait_for_url("**#t=3&u=7&k=2")
    assert state(page) == (3, 7, 2)
    assert page.evaluate("window.glasscell.state.mode") == "forward"
    page.reload()
    assert state(page) == (3, 7, 2)
    page.goto(page.url.split("#")[0] + "#t=99999&u=x&k=-1&tour=77&mode=up")
    page.reload()
    step, unit, bit = state(page)
    assert 0 <= step < 9
    assert 0 <= unit < 12
    assert bit == 1
    assert page.locator("#tour").is_hidden()


def test_the_tour_has_eight_stops_with_addresses(open_trace: Open) -> None:
    page = open_trace(trained().trace(BITS))
    page.locator("#tour-start").click()
    titles = []
    for stop in range(1, 9):
        assert page.locator("#tour-count").inner_text() == f"{stop} of 8"
        assert f"#tour={stop}&" in page.url
        titles.append(page.locator("#tour-title").inner_text())
        assert page.locator(".toured").evaluate("e => e.getBoundingClientRect().top < window.innerHeight")
        card, place = (page.locator(name).bounding_box() for name in ("#tour", ".toured"))
        assert card["x"] + card["width"] <= place["x"] or place["x"] + place["width"] <= card["x"]
        if stop < 8:
            page.locator("#tour-next").click()
    assert len(set(titles)) == 8
    assert "are now multiplied by 0.9" in page.locator("#tour-text").inner_text()
    assert page.locator("#break-scale").input_value() == "0.9"
    assert page.url.endswith("f=0.9")
    page.go_back()
    assert page.locator("#break-scale").input_value() == "1"
    assert page.locator("#tour-count").inner_text() == "7 of 8"
    page.reload()
    assert page.locator("#tour-title").inner_text() == titles[6]
    page.locator("#tour-close").click()
    assert page.locator("#tour").is_hidden()
    assert "tour" not in page.url.partition("#")[2]


@pytest.mark.parametrize("width", [1280, 375])
def test_the_card_of_the_tour_leaves_what_its_task_needs_on_the_screen(open_trace: Open, width: int) -> None:
    page = open_trace(trained().trace(BITS), width=width)
    page.evaluate("window.glasscell.choose({step: 4, unit: 5})")
    page.evaluate("window.scrollTo(0, 120)")
    before = state(page)
    needed = {3: "#bit", 5: "#maps canvas", 6: "#gradient-layer .plate", 7: "#half-lives"}
    page.locator("#tour-start").evaluate("e => e.click()")
    for stop in range(1, 9):
        if stop in needed:
            top = page.locator(".bar").bounding_box()["height"]
            card = page.locator("#tour").bounding_box()
            box = page.locator(needed[stop]).first.bounding_box()
            assert box["y"] >= top
            assert box["y"] + box["height"] <= (card["y"] if width == 375 else 900)
        if stop == 7 and width == 1280:
            assert (
                page.locator("#unit-states .plate").bounding_box()["y"] >= page.locator(".bar").bounding_box()["height"]
            )
        if stop < 8:
            page.locator("#tour-next").click()
    page.keyboard.press("Escape")
    assert page.locator("#tour").is_hidden()
    assert state(page) == before
    assert page.evaluate("window.scrollY") == 120
    page.locator("#projector").click()
    page.keyboard.press("Escape")
    assert page.locator("#projector").get_attribute("aria-pressed") == "false"


def test_the_address_of_the_last_stop_scales_the_forget_gates_until_the_tour_ends(open_trace: Open) -> None:
    page = open_trace(trained().trace(BITS))
    page.goto(page.url.split("#")[0] + "#tour=8&f=0.9")
    page.reload()
    page.locator("#break-finding", has_text="All forget gates × 0.9").wait_for()
    assert page.evaluate("window.glasscell.model.interventions[0].value") == 0.9
    page.locator("#tour-close").click()
    assert page.evaluate("window.glasscell.model.interventions.length") == 0
    page.wait_for_url(lambda url: "f=" not in url)


def test_the_gradient_under_an_intervention_has_its_parts(open_trace: Open) -> None:
    model = trained()
    page = open_trace(model.trace(BITS))
    page.goto(page.url.split("#")[0] + "#t=2&u=1&f=0.5&mode=backward")
    page.reload()
    assert page.locator("#gradient-parts").is_enabled()
    with model.intervene("f", scale=0.5):
        d_c = model.trace(BITS).layer[0].d_c[2, 1]
    shown = page.locator("#maps figure:has(canvas[data-symbol='d_c']) output").inner_text()
    assert abs(number(shown) - d_c) <= 6e-4 * abs(d_c)
    page.locator("#version-old").click()
    assert page.locator("#gradient-parts").is_disabled()
    reason = "No parts by crossings of the recurrent weights: of the old model the page keeps its values alone."
    assert (page.locator("#gradient-parts-words").text_content() or "").startswith(reason)


def test_old_new_and_difference_after_a_change(open_trace: Open) -> None:
    model = trained()
    old, new = model.trace(BITS).layer[0], model.trace([1, 0, 0, 1]).layer[0]
    page = open_trace(model.trace(BITS))
    assert page.locator("#version-field").is_hidden()
    page.evaluate("window.glasscell.choose({step: 4, unit: 5})")
    page.locator("#sort").select_option("peak")
    names = (
        "[...document.querySelectorAll('#maps .map')[4].querySelectorAll('.row-names span')].map(e => e.textContent)"
    )
    order = page.evaluate(names)
    page.locator("button[data-bit='2']").click()
    assert page.evaluate(names) == order
    shown = page.locator("#maps figure:has(canvas[data-symbol='c']) output")
    expected = {"new": new.c[4, 5], "old": old.c[4, 5], "difference": new.c[4, 5] - old.c[4, 5]}
    starts = {
        "new": "Step",
        "old": "Before the changes, step",
        "difference": "After the changes (the maps show the differences), step",
    }
    for version, value in expected.items():
        page.locator(f"#version-{version}").click()
        assert page.locator("#cell-summary").inner_text().startswith(f"{starts[version]} 4, unit 5:")
        assert abs(number(shown.inner_text()) - value) <= 6e-4 * abs(value)
    assert page.locator("#unit-states .ghost").count() == 2
    page.locator("#sort-again").click()
    assert page.evaluate(names) == [str(u) for u in np.argsort(np.abs(new.c).argmax(axis=0), kind="stable")]
    page.locator("#restore").click()
    assert page.locator("#version-field").is_hidden()


def test_the_value_of_a_map_has_the_name_of_its_cell(open_trace: Open) -> None:
    page = open_trace(trained().trace(BITS))
    page.evaluate("window.glasscell.choose({step: 5, unit: 7})")
    readings = {"#maps .map": "unit 7, step 5:", "#map-held": "unit 7, step 5:", "#map-decodability": "bit 1, step 5:"}
    readings["#map-dependency"] = "output 5, bit 1:"
    for place, name in readings.items():
        assert page.locator(f"{place} .reading").first.text_content().startswith(f"{name} ")


def test_numbers_of_the_diagram_do_not_overlap(open_trace: Open) -> None:
    """Numbers cover neither each other nor the edge, forward and backward, wide and narrow, also with exponents."""
    boxes = (
        "[...document.querySelectorAll('#cell-drawing :is(.number, .name)')].filter(e => e.style.display !== 'none')"
        ".map(e => [e.textContent, e.getBBox()]).map(([t, b]) => [t, b.x, b.x + b.width, b.y + 6, b.y + b.height - 5])"
    )
    page = open_trace(trained().trace(BITS))
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        size = page.evaluate("document.querySelector('#cell-drawing svg').viewBox.baseVal.width")
        for mode in ("forward", "backward"):
            page.locator(f"#{mode}").click()
            for step in range(9):
                page.evaluate(f"window.glasscell.choose({{step: {step}, unit: 3}})")
                found = page.evaluate(boxes)
                for n, (text, left, right, top, bottom) in enumerate(found):
                    assert left >= 0, (width, mode, step, text)
                    assert right <= size, (width, mode, step, text)
                    for other, left2, right2, top2, bottom2 in found[:n]:
                        apart = right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top
                        assert apart, (width, mode, step, text, other)


def test_a_logarithmic_chart_does_not_draw_0(open_trace: Open) -> None:
    """No loss depends on the outputs before the recall, so that part has no line there."""
    page = open_trace(trained().trace(BITS))
    page.locator("#gradient-parts").select_option("paths")
    path = "document.querySelector('#gradient-layer .plate path.line.s6').getAttribute('d')"
    columns = [float(x) for x in re.findall(r"[ML]([\d.]+),", page.evaluate(path))]
    assert len(columns) == 4
    assert min(columns) > 5 * 600 / 9


def test_the_gradient_of_an_output_by_crossings(open_trace: Open) -> None:
    model = trained()
    trace = model.trace(BITS)
    page = open_trace(trace)
    page.evaluate("window.glasscell.choose({step: 2, unit: 5})")
    page.locator("#gradient-target").select_option(label="output at step 8")
    assert page.locator("#gradient-parts").input_value() == "crossings"  # of which the sentence speaks
    d_outputs = np.zeros(trace.outputs.shape)
    d_outputs[8] = 1
    flow = gc.explain.gradient_flow(model.trace(trace.x, d_outputs=d_outputs), crossings=2)
    expected = [flow.c[:, 2, 5].sum(), *flow.c[:, 2, 5]]
    for text, value in zip(page.locator("#gradient-unit .number").all_text_contents(), expected, strict=True):
        assert abs(number(text) - value) <= 6e-4 * abs(value) + 1e-12
    assert "dy/dc" in page.locator("#gradient-finding").text_content()


PICTURES = {
    "#cell": ["tanh"],
    "#map-held": [
        ">Where bit 1 is held<",
        ">E[c | 1] \u2212 E[c | 0]: mean cell state if the bit is 1, minus that if it is 0;",
    ],
    "#unit-states": [">Unit 5: cell and hidden state<", '>c<tspan dy="3" font-size="8">t</tspan>'],
    "#maps": [">i<"],
    "#gradient-layer": [">Gradient, norm over all units, logarithmic<", '/dc<tspan dy="3" font-size="8">t</tspan>'],
    "#break-it": [">Effect by the factor of all forget gates (not measured yet)<", ">\u00d7 0.5<", ">\u00d7 1.1<"],
}
# Texts of a picture that it cuts at its right edge.
CUT_TEXTS = """svg => {
  const host = document.body.appendChild(document.createElement("div"));
  host.innerHTML = svg;
  const right = host.firstChild.getBoundingClientRect().right;
  return [...host.querySelectorAll("text")].filter(e => e.getBoundingClientRect().right > right).map(e => e.innerHTML);
}"""


@pytest.mark.parametrize("panel", PICTURES)
def test_a_panel_can_be_saved(open_trace: Open, panel: str) -> None:
    page = open_trace(trained().trace(BITS))
    page.evaluate("window.glasscell.choose({unit: 5})")
    if panel == "#break-it":
        page.emulate_media(media="print")
        assert page.locator(panel).is_hidden()  # nothing is measured
        page.emulate_media(media="screen")
    for name, first in (("SVG", b"<svg xmlns="), ("PNG", b"\x89PNG")):
        page.locator(f"{panel} .save summary").first.evaluate("e => e.click()")
        with page.expect_download() as download:
            page.locator(f"{panel} .save button", has_text=name).first.evaluate("e => e.click()")
        content = Path(download.value.path()).read_bytes()
        assert content.startswith(first)
        assert download.value.suggested_filename.endswith(f".{name.lower()}")
        if name == "SVG":
            assert all(text in content.decode() for text in PICTURES[panel])
            assert page.evaluate(CUT_TEXTS, content.decode()) == []
        assert b"undefined" not in content
        assert b"NaN" not in content


# Sections of the screen whose content is higher than they are.
LOW = """[...document.querySelectorAll("main > .on-screen canvas")]
  .map(e => e.getBoundingClientRect()).filter(r => r.width > 0 && r.height < 24)"""
# Neighbours in a column of the panel of which one covers the other, or shows only a part of itself.
OVERLAPPING = """[...document.querySelectorAll("main > .on-screen > :not(.unseen)")].filter(e => e.offsetHeight)
  .filter((e, n, all) => (n && e.getBoundingClientRect().top < all[n - 1].getBoundingClientRect().bottom - 1) ||
  (e.matches("p, .scroll") && (e.scrollHeight > e.clientHeight + 1 || e.scrollWidth > e.clientWidth + 1)))
  .map(e => e.id || e.className)"""
CUT = """[...document.querySelectorAll("#cell, main > .on-screen")]
  .filter(e => e.scrollHeight > e.clientHeight + 1).map(e => `${e.id}: ${e.scrollHeight} > ${e.clientHeight}`)"""


@pytest.mark.parametrize("height", [720, 900])
def test_the_projector_has_one_screen_large_text_and_two_digits(open_trace: Open, height: int) -> None:
    page = open_trace(trained().trace(BITS), height=height)
    page.locator("#projector").click()
    for bit in range(2):  # before and after a change
        for panel in page.locator("#panel option").evaluate_all("options => options.map(o => o.value)"):
            page.locator("#panel").select_option(panel)
            assert page.evaluate("document.documentElement.scrollHeight") <= height
            assert page.locator("main > section.on-screen").count() == 1
            cut = page.evaluate(CUT)
            assert cut == [], f"{panel} needs scrolling"
            assert page.evaluate(LOW) == [], panel
            assert page.evaluate(OVERLAPPING) == [], panel
        page.locator(f"button[data-bit='{bit}']").dispatch_event("click")
        page.locator("#version-new").wait_for()
    assert page.evaluate("getComputedStyle(document.body).fontSize") == "24px"
    for text in page.locator("#cell-drawing .number").all_text_contents():
        assert len(text.strip("\u22120.").replace(".", "").lstrip("0")) <= 2 or "e" in text
    page.locator("#projector").click()
    assert page.locator("footer").is_visible()


def test_the_first_frame_waits_for_the_first_screen_alone(open_html: Open) -> None:
    html = document.page(payload_of(trained().trace(BITS)))
    drawn = "document.querySelectorAll('#cell-drawing svg, #maps canvas').length"
    probe = f"requestAnimationFrame(() => window.first = {drawn})"
    page = open_html(html.replace('<script>"use strict"', f'<script>{probe}</script><script>"use strict"', 1))
    assert page.evaluate("window.first") == 1  # the diagram
    assert page.locator("#maps canvas").count() == 6


@pytest.mark.parametrize("width", [1280, 1000, 768, 375])
def test_the_bar_does_not_cover_what_a_jump_shows(open_trace: Open, width: int) -> None:
    page = open_trace(trained().trace(BITS), width=width)
    bar = page.locator(".bar")
    before = bar.bounding_box()["height"]
    page.locator("button[data-bit]").first.click()
    page.locator("#version-new").wait_for()
    after = bar.bounding_box()["height"]
    assert after == before
    top = (
        "[...document.querySelectorAll('.bar button, .bar input, .pair')].map(e => e.getBoundingClientRect())"
        ".map(r => [r.x, r.y, r.width, r.height])"
    )
    places = np.array(page.evaluate(top))
    for version in ("difference", "old", "new"):  # none of them moves another one, or what is below the bar
        page.locator(f"#version-{version}").dispatch_event("click")
        assert np.abs(page.evaluate(top) - places).max() <= 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.wait_for_timeout(50)
    for _ in range(2):  # heights of sections are known when they have been on the screen
        page.locator("#break-title").evaluate("e => e.scrollIntoView()")
        page.wait_for_timeout(50)
    assert page.locator("#break-title").bounding_box()["y"] >= after


def test_the_cell_stays_on_the_screen_in_two_panes(open_trace: Open) -> None:
    page = open_trace(trained().trace(BITS))
    for width, stays in ((1280, True), (1100, True), (900, False)):
        page.set_viewport_size({"width": width, "height": 900})
        for place in ("#every-unit", "#memory"):
            page.locator(place).evaluate("e => e.scrollIntoView()")
            box = page.locator("#cell-drawing").bounding_box()
            assert (0 <= box["y"] < 200) == stays
        last = page.locator(".equation").last.bounding_box()
        assert (last["y"] + last["height"] <= 900 and last["y"] >= 0) == stays


@pytest.mark.skipif(AXE is None, reason="axe-core is not installed: pip install axe-playwright-python")
def test_axe_finds_nothing(open_trace: Open) -> None:
    def violations(page: Any) -> list[str]:
        found: list[str] = page.evaluate(
            """axe.run(document, {resultTypes: ["violations"], selectors: false})
                .then(r => r.violations.flatMap(v => v.nodes.map(n => `${v.id}: ${n.html}`)))"""
        )
        return found

    page = open_trace(trained().trace(BITS))
    page.evaluate(f"{AXE.read_text(encoding='utf-8')}; undefined")
    page.add_style_tag(content="main > section { content-visibility: visible !important; }")
    for width in (390, 900, 1280):
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            assert violations(page) == []
            page.locator("#backward").click()
            page.locator("button[data-bit='1']").click()
            page.locator("#tour-start").click()
            assert violations(page) == []
            page.locator("#tour-close").click()
            page.locator("#projector").click()
            assert violations(page) == []
            page.locator("#projector").click()
            page.locator("#restore").click()
            page.locator("#forward").click()
