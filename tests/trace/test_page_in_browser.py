"""Laws: the page of a report in a browser, without network access, displays the values of the trace.

Needs Chromium (Debian: apt-get install chromium) and Playwright (pip install playwright).
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import glasscell as gc
from glasscell.core.activations import sigmoid
from glasscell.trace.diagnostics import half_life
from glasscell.trace.html_report import page as document
from glasscell.trace.html_report.payload import payload_of
from glasscell.trace.trace import Trace

SYMBOLS = ("i", "f", "o", "g", "c", "h")
HOSTILE = "<b id=obeyed>bold</b></script><script>window.obeyed = 1</script>"

Open = Callable[..., Any]


@pytest.fixture
def open_trace(open_html: Open) -> Open:
    def open_trace(trace: Trace, **options: Any) -> Any:
        page = open_html(document.page(payload_of(trace)), **options)
        assert page.evaluate("window.glasscell.trace.T") > 0
        return page

    return open_trace


@functools.cache
def trained() -> gc.CopyLSTM:
    """A model that copies four bits."""
    model = gc.CopyLSTM(hidden_size=12, dtype=np.float64, task=gc.tasks.Copy(width=4))
    gc.fit(model, model.task, updates=300)
    return model


def copier(**options: Any) -> gc.CopyLSTM:
    return gc.CopyLSTM(6, task=gc.tasks.Copy(width=4, **options))


def number(text: str) -> float:
    return float(text.replace("\u2212", "-").replace("\u202f", "").replace("∞", "inf"))


def assert_shown(text: str, value: float) -> None:
    """Text of four significant digits is this value."""
    assert abs(number(text) - value) <= 6e-4 * abs(value) + 6e-5, (text, value)


def values_shown(page: Any) -> dict[str, str]:
    """The numbers on the drawing of the cell, by symbol."""
    found: dict[str, str] = page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('[data-value]')].map(e => [e.dataset.value, e.textContent]))"
    )
    return found


def chosen(page: Any) -> tuple[int, int]:
    t, unit = page.evaluate("[window.glasscell.state.step, window.glasscell.state.unit]")
    return t, unit


def press_cell(page: Any, symbol: str, t: int, row: int, T: int, H: int) -> None:
    """Click the middle of a cell of a heat map."""
    canvas = page.locator(f"canvas[data-symbol='{symbol}']").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    canvas.click(position={"x": (t + 0.5) * box["width"] / T, "y": (row + 0.5) * box["height"] / H})


def move_to(page: Any, t: int) -> None:
    page.locator("#step").evaluate(
        "(slider, t) => { slider.value = t; slider.dispatchEvent(new Event('input', {bubbles: true})); }", t
    )


def assert_cell_shows(page: Any, trace: Trace, t: int, unit: int) -> None:
    shown = values_shown(page)
    for symbol in SYMBOLS:
        assert_shown(shown[symbol], trace.layer[0].value(symbol)[t, unit])


def test_a_click_on_a_heat_map_selects_its_unit_and_step(open_trace: Open) -> None:
    trace = trained().trace([1, 0, 1, 1])
    T, H = trace.layer[0].f.shape
    page = open_trace(trace)
    seen = set()
    for k, symbol in enumerate(SYMBOLS):
        press_cell(page, symbol, k + 1, 2 * k, T, H)
        t, unit = chosen(page)
        assert t == k + 1
        assert_cell_shows(page, trace, t, unit)
        seen.add(unit)
    assert len(seen) == len(SYMBOLS)


def test_scrubbing_moves_the_cell_through_time(open_trace: Open) -> None:
    trace = trained().trace([1, 0, 1, 1])
    page = open_trace(trace)
    for t in range(trace.T):
        move_to(page, t)
        assert chosen(page)[0] == t
        assert_cell_shows(page, trace, t, chosen(page)[1])


def test_arrow_keys_move_through_a_heat_map(open_trace: Open) -> None:
    trace = trained().trace([1, 0, 1, 1])
    page = open_trace(trace)
    press_cell(page, "f", 2, 3, *trace.layer[0].f.shape)  # a row that has others above and below
    canvas = page.locator("canvas[data-symbol='f']").first
    canvas.focus()
    page.keyboard.press("ArrowRight")
    assert chosen(page)[0] == 3
    unit = chosen(page)[1]
    page.keyboard.press("ArrowDown")
    assert chosen(page)[0] == 3
    assert chosen(page)[1] != unit
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    assert chosen(page) == (2, unit)
    assert_cell_shows(page, trace, 2, unit)


def test_backward_the_cell_shows_gradients(open_trace: Open) -> None:
    trace = trained().trace([1, 0, 1, 1])
    layer = trace.layer[0]
    page = open_trace(trace)
    page.locator("#backward").click()
    for t, row in ((1, 3), (6, 8)):
        press_cell(page, "d_c", t, row, layer.T, layer.H)
        unit = chosen(page)[1]
        shown = values_shown(page)
        for symbol in ("d_i", "d_f", "d_o", "d_g", "d_c", "d_tanh_c", "d_h"):
            assert_shown(shown[symbol], layer.value(symbol)[t, unit])
        for gate in "ifog":
            assert_shown(shown[f"d_z_{gate}"], layer.gate("d_z", gate)[t, unit])
    page.locator("#forward").click()
    assert_cell_shows(page, trace, *chosen(page))


def test_playing_goes_forward_then_backward_and_stops(open_trace: Open) -> None:
    trace = trained().trace([1, 0, 1, 1])
    page = open_trace(trace)
    move_to(page, 0)
    page.locator("#speed").select_option(index=page.locator("#speed option").count() - 1)
    seen = page.evaluate(
        """() => new Promise(resolve => {
            const seen = [], play = document.querySelector("#play");
            play.click();
            const look = () => {
              const now = [window.glasscell.state.mode, window.glasscell.state.step];
              if (String(seen.at(-1)) !== String(now)) seen.push(now);
              if (play.classList.contains("playing")) requestAnimationFrame(look);
              else resolve(seen);
            };
            look();
        })"""
    )
    T = trace.T
    assert seen == [["forward", t] for t in range(T)] + [["backward", t] for t in reversed(range(T))]


def test_units_are_sorted_by_the_selected_key(open_trace: Open) -> None:
    trace = trained().trace([1, 0, 1, 1])
    layer = trace.layer[0]
    x = trace.x[:, 0].astype(np.float64)
    correlations = [np.corrcoef(layer.c[:, k], x)[0, 1] for k in range(layer.H)]
    orders = {
        "index": np.arange(layer.H),
        "half-life": np.argsort(-half_life(layer.f), kind="stable"),
        "peak": np.argsort(np.abs(layer.c).argmax(axis=0), kind="stable"),
        "correlation": np.argsort(-np.array(correlations), kind="stable"),
    }
    page = open_trace(trace)
    for sort, order in orders.items():
        page.locator("#sort").select_option(sort)
        for row in (0, 5, layer.H - 1):
            press_cell(page, "f", 2, row, layer.T, layer.H)
            assert chosen(page) == (2, order[row])


def test_a_changed_weight_has_the_effect_that_it_has_in_python(open_trace: Open) -> None:
    model = gc.CopyLSTM(hidden_size=12, dtype=np.float64, task=trained().task)
    model.parameters.vector[:] = trained().parameters.vector
    trace = model.trace([1, 0, 1, 1])
    H, I = model.hidden_size, model.task.input_size
    page = open_trace(trace)
    press_cell(page, "f", 3, 4, *trace.layer[0].f.shape)
    unit = chosen(page)[1]
    for gate, source, weight in (("f", H + I, -3.0), ("g", 2, 1.75), ("o", H, -0.5)):
        page.locator("#weight-gate").select_option(gate)
        page.locator("#weight-source").select_option(str(source))
        page.locator("#weight-number").fill(str(weight))
        page.locator("#weight-number").press("Enter")
        kernel = model.parameters["lstm.kernel_l0"]
        kernel["ifog".index(gate) * H + unit, source] = weight
        turned = model.trace([1, 0, 1, 1])
        outputs = np.array(page.evaluate("Array.from(window.glasscell.trace.outputs)"))
        assert np.abs(outputs - turned.outputs.ravel()).max() < 1e-10
        assert abs(page.evaluate("window.glasscell.trace.loss") - (turned.loss or 0)) < 1e-10
        assert_cell_shows(page, turned, 3, unit)
    page.locator("#restore").click()
    outputs = np.array(page.evaluate("Array.from(window.glasscell.trace.outputs)"))
    assert np.abs(outputs - trace.outputs.ravel()).max() < 1e-10


def test_edited_inputs_have_the_effect_that_they_have_in_python(open_trace: Open) -> None:
    rng = np.random.default_rng(0)
    lstm = gc.LSTM(2, 5, 2, bidirectional=True, dtype=np.float64)
    x, y = rng.normal(size=(6, 2)), rng.normal(size=(6, 10))
    page = open_trace(lstm.trace(x, y))
    move_to(page, 3)
    page.locator("[data-input='1']").fill("-1.25")
    page.locator("[data-input='1']").press("Enter")
    x[3, 1] = -1.25
    trace = lstm.trace(x, y)
    outputs = np.array(page.evaluate("Array.from(window.glasscell.trace.outputs)"))
    assert np.abs(outputs - trace.outputs.ravel()).max() < 1e-10
    texts = page.locator("[data-output]").all_text_contents()
    for text, value in zip(texts, trace.outputs[3], strict=True):
        assert_shown(text, value)


def test_omitted_values_have_a_note(open_trace: Open) -> None:
    trace = KINDS["long and wide"]()
    page = open_trace(trace)
    said = page.locator("#notes").inner_text()
    for note in payload_of(trace)["notes"]:
        assert note in said
    move_to(page, 5)
    steps, units = page.evaluate(
        "[Array.from(window.glasscell.model.steps), Array.from(window.glasscell.trace.layers[0].directions[0].units)]"
    )
    t, unit = chosen(page)
    assert_cell_shows(page, trace, int(steps[t]), int(units[unit]))


def test_an_edited_bit_has_the_effect_that_it_has_in_python(open_trace: Open) -> None:
    model = trained()
    bits = [1, 0, 1, 1]
    page = open_trace(model.trace(bits))
    for k in (2, 0):
        page.locator(f"button[data-bit='{k}']").click()
        bits[k] = 1 - bits[k]
        trace = model.trace(bits)
        outputs = page.evaluate("Array.from(window.glasscell.trace.outputs)")
        assert np.abs(np.array(outputs) - trace.outputs.ravel()).max() < 1e-10
        texts = page.locator("[data-output]").all_text_contents()
        assert len(texts) > 0
        answers = sigmoid(trace.outputs[-len(texts) :, 0])
        assert [round(number(text)) for text in texts] == model.copy(bits).tolist() == np.round(answers).tolist()
        assert_cell_shows(page, trace, *chosen(page))


def of_lstm(T: int, *, loss: str = "", d_outputs: bool = False, about: Any = (), **options: Any) -> Trace:
    """A random LSTM on random inputs: without targets, with those of a loss, or with a gradient."""
    rng = np.random.default_rng(0)
    lstm = gc.LSTM(**{"input_size": 3, "hidden_size": 5} | options)
    x, y = (rng.normal(size=(T, size)).astype(lstm.dtype) for size in (lstm.input_size, lstm.output_size))
    if loss == "categorical_cross_entropy":
        return lstm.trace(x, rng.integers(0, lstm.output_size, T), loss=loss, **dict(about))
    asked: dict[str, Any] = {"y": y, "loss": loss} if loss else {"d_outputs": y} if d_outputs else {}
    return lstm.trace(x, **asked, **dict(about))


def one_answer() -> Trace:
    model = gc.Sequential([gc.LSTM(3, 5), gc.layers.Step(-1), gc.Linear(5, 2)])
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    return model.trace(x, np.array([1.0, 0.0]), loss="binary_cross_entropy")


def batch() -> Trace:
    """Three sequences, of which some steps have an answer for their first output alone."""
    rng = np.random.default_rng(0)
    y, weights = rng.integers(0, 2, (3, 7, 2)).astype(float), np.ones((3, 7, 2))
    weights[:, ::2, 1] = 0
    lstm = gc.LSTM(3, 2, bidirectional=True, merge="sum", dtype=np.float64)
    return lstm.trace(rng.normal(size=(3, 7, 3)), y, loss="binary_cross_entropy", weights=weights)


SQUARED = "squared_error"
HOSTILE_NAMES = {"title": HOSTILE, "input_names": [HOSTILE] * 3, "output_names": [HOSTILE] * 5}

# Every kind of model that there is to show.
KINDS: dict[str, Callable[[], Trace]] = {
    "copy": lambda: trained().trace([1, 0, 1, 1]),
    "copy, 2 bits a step": lambda: copier(bits_per_step=2).trace([1, 0, 1, 1]),
    "echo": lambda: copier(mode="echo").trace([1, 0]),
    "both directions": lambda: of_lstm(7, loss=SQUARED, num_layers=2, bidirectional=True),
    "without targets": lambda: of_lstm(7, num_layers=2, bidirectional=True),
    "gradient given": lambda: of_lstm(7, d_outputs=True, bidirectional=True, merge="sum"),
    "classes": lambda: of_lstm(7, loss="categorical_cross_entropy"),
    "peepholes": lambda: of_lstm(7, loss=SQUARED, peepholes=True),
    "peepholes, without targets": lambda: of_lstm(7, peepholes=True),
    "projection": lambda: of_lstm(7, loss=SQUARED, proj_size=2),
    "coupled": lambda: of_lstm(7, loss=SQUARED, coupled="input", bidirectional=True),
    "one step, one unit": lambda: of_lstm(1, loss=SQUARED, input_size=1, hidden_size=1),
    "long and wide": lambda: of_lstm(1500, loss=SQUARED, hidden_size=300, num_layers=2),
    "one answer to a sequence": lambda: one_answer(),
    "outputs left out": lambda: gc.Sequential([gc.LSTM(3, 5), gc.Linear(5, 20_000)]).trace(
        np.zeros((50, 3), np.float32), d_outputs=np.zeros((50, 20_000), np.float32)
    ),
    "100,000 steps": lambda: of_lstm(100_000, loss=SQUARED),
    "a sequence of a batch": lambda: batch().sequence(1),
    "some steps of the copy task": lambda: trained().trace([1, 0, 1, 1])[2:6],
    "the last steps of the copy task": lambda: trained().trace([1, 0, 1, 1])[4:],
    "100,000 steps, live": lambda: of_lstm(100_000, loss=SQUARED, input_size=1, hidden_size=1, dtype=np.float32),
    "hostile": lambda: of_lstm(7, loss=SQUARED, about=HOSTILE_NAMES),
}


def use_every_control(page: Any, buttons: str, lists: str) -> None:
    """Press every button and choose every entry that is visible; one control can hide others."""
    for control in page.locator(buttons).element_handles():
        if control.is_visible() and control.is_enabled():
            control.click()
    for control in page.locator(lists).element_handles():
        if control.is_visible() and control.is_enabled():
            for value in control.evaluate("select => [...select.options].map(option => option.value)"):
                control.select_option(value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_can_be_opened(open_trace: Open, kind: str) -> None:
    trace = KINDS[kind]()
    page = open_trace(trace)
    for symbol in SYMBOLS:
        assert page.locator(f"canvas[data-symbol='{symbol}']:visible").count() == 1
    last = page.evaluate("window.glasscell.trace.T") - 1
    move_to(page, last)
    assert chosen(page)[0] == last
    training = "#live-training *, #comparison *"  # the same for every model, and slow
    use_every_control(page, f"button:not(#projector, #tour-start, {training})", f"select:not({training})")
    for button, expected in (("#tour-start", kind.startswith(("copy", "echo"))), ("#projector", True)):
        if page.locator(button).is_visible():
            page.locator(button).click()
            use_every_control(page, "#tour button:not(#tour-close)", "#panel")
            for other in ("#tour-close", button):
                if page.locator(other).is_visible():
                    page.locator(other).click()
        else:
            assert not expected
    assert page.evaluate("[window.obeyed, document.getElementById('obeyed')]") == [None, None]
    page.add_style_tag(content="main > section { content-visibility: visible !important; }")  # for their text
    assert "NaN" not in page.locator("body").inner_text()
    assert "undefined" not in page.locator("body").inner_text()


@pytest.mark.parametrize("kind", ["both directions", "peepholes"])
def test_other_tasks_have_numbers(open_trace: Open, kind: str) -> None:
    trace = KINDS[kind]()
    page = open_trace(trace)
    move_to(page, 4)
    assert_cell_shows(page, trace, *chosen(page))


def test_a_sequence_of_a_batch_has_the_gradients_of_the_batch(
    open_trace: Open,
) -> None:
    trace = batch().sequence(1)
    page = open_trace(trace)
    for name in ("d_c", "d_z", "d_x"):
        there = np.array(page.evaluate(f"Array.from(window.glasscell.trace.layers[0].directions[1].{name})"))
        assert np.abs(there - trace.layer[1].value(name).ravel()).max() < 1e-12
    assert "of 10" in page.locator(".right:visible").first.text_content()
    for t, asked in ((2, 1), (3, 2)):
        move_to(page, t)
        marks = [text for text in page.locator("#outputs .mark").all_text_contents() if text.strip()]
        assert len(marks) == asked


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("kind", ["copy", "classes", "hostile", "long and wide"])
def test_nothing_is_wider_than_the_window(open_trace: Open, kind: str, width: int) -> None:
    page = open_trace(KINDS[kind](), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_every_control_has_a_name(open_trace: Open) -> None:
    page = open_trace(trained().trace([1, 0, 1, 1]))
    controls = page.locator("button, input, select, textarea, canvas, svg[role], [tabindex='0']")
    assert controls.count() > 10
    nameless = controls.evaluate_all(
        """elements => elements.filter(e => e.checkVisibility() && e.getAttribute('aria-hidden') !== 'true').filter(e =>
            !(e.getAttribute('aria-label') || e.textContent.trim() || (e.labels && e.labels.length) ||
              [...(e.getAttribute('aria-labelledby') || '').split(' ')].some(id => id && document.getElementById(id)))
        ).map(e => e.outerHTML.slice(0, 200))"""
    )
    assert nameless == []
    assert page.locator("[aria-live]").count() > 0
    assert page.evaluate("document.documentElement.lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(open_trace: Open, scheme: str) -> None:
    """WCAG 2.1, 1.4.3: a contrast of 4.5, or 3 where letters are large."""
    page = open_trace(trained().trace([1, 0, 1, 1]), color_scheme=scheme)
    assert page.evaluate(CONTRASTS) == []


CONTRASTS = """() => {
  const channels = color => color.match(/[\\d.]+/g).map(Number);
  const luminance = color => {
    const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = channels(color).map(v => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor, [, , , alpha = 1] = channels(color);
      if (alpha === 1) return color;
      if (alpha > 0) return null; // not to be told from here
    }
    return 'rgb(255, 255, 255)';
  };
  const poor = [];
  for (const e of document.body.querySelectorAll('*')) {
    if (e.closest('svg, canvas, script, :disabled') || !e.checkVisibility()) continue;
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    const style = getComputedStyle(e), back = behind(e);
    if (!back || !style.color.startsWith('rgb')) continue;
    const [low, high] = [luminance(style.color), luminance(back)].sort((a, b) => a - b);
    const contrast = (high + 0.05) / (low + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (contrast < (large ? 3 : 4.5)) poor.push(`${contrast.toFixed(2)}: ${e.textContent.trim().slice(0, 60)}`);
  }
  return poor;
}"""


def test_a_frame_in_a_notebook_is_the_same_page(open_html: Open) -> None:
    trace = trained().trace([1, 0, 1, 1])
    outer = open_html(f"<!doctype html><title>notebook</title>{document.frame(document.page(payload_of(trace)))}")
    outer.locator("iframe").wait_for()
    inner = outer.frames[1]
    inner.locator("button[data-bit='0']").wait_for()
    inner.locator("button[data-bit='0']").click()
    outputs = np.array(inner.evaluate("Array.from(window.glasscell.trace.outputs)"))
    assert np.abs(outputs - trained().trace([0, 0, 1, 1]).outputs.ravel()).max() < 1e-10


def test_the_half_life_is_that_of_the_measures(open_trace: Open) -> None:
    trace = trained().trace([1, 0, 1, 1])
    page = open_trace(trace)
    assert_shown(page.locator("#half-life").text_content(), half_life(trace.layer[0].f)[chosen(page)[1]])
