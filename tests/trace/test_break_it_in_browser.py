"""Law: the section "Break it" of a report changes the model as Python does, and measures it over all inputs."""

import functools
import re
from typing import Any

import numpy as np
import pytest

import glasscell as gc
from glasscell.trace.html_report import page as document
from glasscell.trace.html_report.payload import payload_of

H = 12
EVENTS = """(element, value) => {
  element.value = value;
  for (const type of ["input", "change"]) element.dispatchEvent(new Event(type, { bubbles: true }));
}"""


# As in a browser that does not start workers from a page in a file.
NO_WORKERS = """window.Worker = class {
  constructor() { setTimeout(() => this.onerror(new Event("error", { cancelable: true })), 50); }
  postMessage() {}
  terminate() {}
};"""


@functools.cache
def trained() -> gc.CopyLSTM:
    """A model that copies four bits."""
    model = gc.CopyLSTM(hidden_size=H, dtype=np.float64, task=gc.tasks.Copy(width=4))
    gc.fit(model, model.task, updates=300)
    return model


def changed(model: gc.CopyLSTM) -> gc.CopyLSTM:
    copy = gc.CopyLSTM(hidden_size=H, dtype=np.float64, task=model.task)
    copy.parameters.vector[:] = model.parameters.vector
    return copy


def bits_right(model: gc.CopyLSTM) -> Any:
    """The share of right bits by position, over all inputs."""
    bits = np.array([[n >> s & 1 for s in (3, 2, 1, 0)] for n in range(16)])
    return (model.copy(bits) == bits).mean(axis=0)


def shown(page: Any, row: int) -> list[float]:
    """A row of the table: the share of all bits, and of each position, in percent."""
    texts = page.locator("#break-positions tbody tr").nth(row).locator("td").all_text_contents()
    return [float(text.removesuffix(" %")) for text in texts]


PLACES = """["break-scale", "break-gate", "break-curve", "break-units"]
  .map(id => document.getElementById(id)).map(e => [e.offsetTop, e.offsetHeight])"""


def number(text: str) -> float:
    return float(text.replace("\u2212", "-"))


def wait_for(page: Any, text: str) -> None:
    page.locator("#break-finding", has_text=text).wait_for()


def outputs(page: Any) -> Any:
    return np.array(page.evaluate("Array.from(window.glasscell.trace.outputs)"))


@pytest.mark.parametrize("workers", [True, False])
def test_interventions_have_the_effect_that_they_have_in_python(open_html: Any, workers: bool) -> None:
    model, bits = trained(), [1, 0, 1, 1]
    html = document.page(payload_of(model.trace(bits)))
    page = open_html(html if workers else html.replace("<script>", f"<script>{NO_WORKERS}", 1))
    places = page.evaluate(PLACES)
    page.locator("#break-it").scroll_into_view_if_needed()
    wait_for(page, "The untouched model")
    assert bool(page.workers) == workers
    assert np.abs(np.array(shown(page, 1)[1:]) / 100 - bits_right(model)).max() < 0.006

    # The outputs that are nearly constant or inverted are the reason for wrong bits.
    page.locator("#break-scale").evaluate(EVENTS, 0.5)
    wait_for(page, "All forget gates × 0.5")
    everything = np.array([[n >> s & 1 for s in (3, 2, 1, 0)] for n in range(16)])
    with model.intervene("f", scale=0.5):
        found = model.copy(everything)
    ones, right = found.mean(axis=0), (found == everything).mean(axis=0)
    constant = np.minimum(ones, 1 - ones) <= 0.1
    inverted = ~constant & (right < 0.45)
    text = page.locator("#break-reason").inner_text()
    for name, marks in (("more often the opposite of the bit", inverted), ("constant", constant)):
        bits_of = np.flatnonzero(marks).tolist()
        words = ", ".join(map(str, bits_of[:-1])) + " and " * (len(bits_of) > 1) + "".join(map(str, bits_of[-1:]))
        assert (name in text) == bool(bits_of)
        assert not bits_of or re.search(rf"of bits? {words} (?:is|are) (?:nearly )?{name}", text)
    assert constant.any() or inverted.any()
    page.locator("#break-scale").evaluate(EVENTS, 1)

    # h of a unit is 0: nothing reads it, neither the gates nor the readout
    unit = int(np.abs(model.parameters["readout.weight"][0]).argmax())
    page.locator("#break-unit").fill(str(unit))
    page.locator("#break-shut-h").click()
    wait_for(page, f"Unit {unit} has h = 0")
    shut = changed(model)
    shut.parameters["lstm.kernel_l0"][:, unit] = 0
    shut.parameters["readout.weight"][:, unit] = 0
    assert np.abs(np.array(shown(page, 0)[1:]) / 100 - bits_right(shut)).max() < 0.006
    assert np.abs(outputs(page) - shut.trace(bits).outputs.ravel()).max() < 1e-10
    page.locator("#break-list button").click()

    page.locator("#break-cut").check()
    wait_for(page, "No unit reads h")
    for row in page.locator(".sums tbody tr").all():  # z is the sum of what gates read
        from_h, from_x, bias, z = (number(text) for text in row.locator("td").all_text_contents()[:4])
        assert from_h == 0
        assert abs(from_x + bias - z) < 2e-3 * (abs(from_x) + abs(bias))
    cut = changed(model)
    cut.parameters["lstm.kernel_l0"][:, :H] = 0
    assert np.abs(np.array(shown(page, 0)[1:]) / 100 - bits_right(cut)).max() < 0.006
    assert np.abs(outputs(page) - cut.trace(bits).outputs.ravel()).max() < 1e-10

    # the diagram has the scaled gates
    page.locator("#break-undo").click()
    before = np.array(page.evaluate("Array.from(window.glasscell.trace.layers[0].directions[0].f)"))
    page.locator("#break-scale").evaluate(EVENTS, 0.5)
    wait_for(page, "All forget gates × 0.5")
    after = np.array(page.evaluate("Array.from(window.glasscell.trace.layers[0].directions[0].f)"))
    assert np.abs(after[:H] - before[:H] / 2).max() < 1e-12
    page.locator("#break-gate").select_option("o")
    page.locator("#break-high").fill("0.2")
    page.locator("#break-high").press("Enter")
    wait_for(page, "output gate o between 0 and 0.2")
    assert page.evaluate("Math.max(...window.glasscell.trace.layers[0].directions[0].o)") <= 0.2
    page.locator("#restore").click()
    assert page.locator("#break-list li").count() == 0
    assert np.abs(outputs(page) - model.trace(bits).outputs.ravel()).max() < 1e-10

    # every unit is shut once; the first of the list has the largest effect
    page.locator("#break-progress").wait_for(state="hidden")
    assert page.evaluate(PLACES) == places  # results have their space before they are known
    units = page.locator("#break-units button").all_text_contents()
    shares = [float(text.removesuffix(" %")) for text in page.locator("#break-units .number").all_text_contents()]
    found = {int(text.removeprefix("unit ")): share for text, share in zip(units, shares, strict=True)}
    assert sorted(found) == list(range(H))
    assert shares == sorted(shares)
    assert abs(found[unit] - 100 * bits_right(shut).mean()) < 0.11

    # a pointer on the curve reads the value of each series by its name
    page.locator("#break-it .chart .plate").first.hover()
    text = page.locator("#readout").text_content()
    assert re.search(r"bits right|untouched", text), text
    assert "undefined" not in text


def test_a_field_names_the_rule_of_a_value_that_is_not_valid(open_html: Any) -> None:
    page = open_html(document.page(payload_of(trained().trace([1, 0, 1, 1]))))
    readout = page.locator("#readout")

    def enter(field: str, text: str, rule: str) -> None:
        page.locator(field).fill(text)
        page.locator(field).press("Enter")
        assert (readout.text_content() if rule else readout.is_hidden()) == (rule or True)
        assert page.locator(field).get_attribute("aria-invalid") == str(bool(rule)).lower()

    for unit in ("-1", str(H), "1.5"):
        enter("#unit", unit, f"unit must be 0 to {H - 1}, got {unit}")
    enter("#unit", "2", "")
    page.locator("#break-gate").select_option("f")
    enter(
        "#break-low", "3", "the limits of a gate must be numbers, \u201cfrom\u201d at most \u201cto\u201d, got 3 and 1"
    )
    enter("#break-low", "0.5", "")
    assert "between 0.5 and 1" in page.locator("#break-list").inner_text()
    page.locator("#break-undo").click()
    assert [page.locator(f"#break-{name}").input_value() for name in ("low", "high", "gate")] == ["0", "1", ""]
    page.locator("#break-unit").fill("99")
    page.locator("#break-shut-h").click()
    assert readout.text_content() == f"unit must be 0 to {H - 1}, got 99"


def test_a_change_that_is_undone_is_no_change(open_html: Any) -> None:
    page = open_html(document.page(payload_of(trained().trace([1, 0, 1, 1]))))
    changes = (
        (lambda: page.locator("#break-cut").check(), lambda: page.locator("#break-cut").uncheck()),
        *[(lambda: page.locator("button[data-bit='1']").click(),) * 2],
    )
    for change, back in changes:
        for apply, is_changed in ((change, True), (back, False)):
            apply()
            assert page.locator("#restore").is_enabled() == is_changed
            assert page.locator("#version-new").is_visible() == is_changed
    title = page.locator("#title").inner_text()
    assert title.endswith("copies 1011")
    page.locator("#break-scale").evaluate(EVENTS, 0.5)
    right = page.locator(".right").first.inner_text().split()[0]
    assert page.locator("#title").inner_text() == title.replace("1011", f"{right} of 4 bits of 1011")


def test_other_models_have_a_loss_and_pages_of_recorded_values_have_no_section(open_html: Any) -> None:
    rng = np.random.default_rng(0)
    lstm = gc.LSTM(2, 5, 2, bidirectional=True, dtype=np.float64)
    x, y = rng.normal(size=(6, 2)), rng.normal(size=(6, 10))
    trace = lstm.trace(x, y, loss="squared_error")
    page = open_html(document.page(payload_of(trace)))
    page.locator("#break-it").scroll_into_view_if_needed()
    wait_for(page, "the loss is")
    loss = re.findall(r"the loss is ([\d.]+\d)", page.locator("#break-finding").inner_text())[0]
    assert abs(float(loss) - float(trace.loss or 0)) < 1e-3
    peepholes = gc.LSTM(2, 5, peepholes=True).trace(x)
    assert open_html(document.page(payload_of(peepholes))).locator("#break-it").is_hidden()
