"""Laws: a frame equals the trace; recording does not affect training; figures and page display the frames."""

import io
import json
import os
import re
import subprocess
import sys
from base64 import b64decode
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import glasscell as gc
from glasscell.training.trace_recorder import html
from glasscell.training.trace_recorder.frames import Frame
from glasscell.training.trace_recorder.html import page, payload
from glasscell.training.trace_recorder.recorder import TraceRecorder

BITS = [1, 0, 1, 1]
HOSTILE = "<b id=obeyed>$bold$</b></script><script>window.obeyed = 1</script>"


def trained(recorder, steps, **options):
    task = gc.tasks.Copy(4)
    model = gc.CopyLSTM(hidden_size=6, task=task, seed=3)
    callbacks = [] if recorder is None else [recorder]
    gc.fit(model, task, updates=steps, batch_size=4, callbacks=callbacks, **options)
    return model


def recorded(steps=12, every=4, **options):
    recorder = TraceRecorder(BITS, every=every, **options)
    recorder.capture_frame(gc.CopyLSTM(hidden_size=6, task=gc.tasks.Copy(4), seed=3))
    trained(recorder, steps)
    return recorder


def updates(recorder):
    return [frame.update for frame in recorder.frames]


def test_a_frame_is_the_trace_of_that_moment():
    recorder = TraceRecorder(BITS, every=5, symbols=["f", "c", "d_c", "z_o"])
    model = trained(recorder, 10)
    frame, layer = recorder.frames[-1], model.trace(BITS).layer[0]
    for symbol in ("f", "c", "d_c"):
        np.testing.assert_array_equal(frame.values[symbol], layer.value(symbol))
    np.testing.assert_array_equal(frame.values["z_o"], layer.gate("z", "o"))
    np.testing.assert_allclose(frame.norms["c"], np.linalg.norm(layer.d_c, axis=1), rtol=1e-6)
    assert frame.norms.keys() == {"c", "x", "output", "cell", "recurrent"}
    assert frame.loss == pytest.approx(model.trace(BITS).loss)
    np.testing.assert_array_equal(frame.outputs, model.trace(BITS).outputs)


def test_recording_does_not_affect_training():
    watched, alone = trained(TraceRecorder(BITS, every=1), 8), trained(None, 8)
    np.testing.assert_array_equal(watched.parameters.vector, alone.parameters.vector)


def test_frames_are_of_the_first_update_and_every_nth():
    assert updates(recorded(11, 4)) == [0, 1, 4, 8]


def test_frames_do_not_change_later():
    recorder = recorded(4, 1)
    assert (recorder.frames[0].values["f"] != recorder.frames[-1].values["f"]).any()
    for frame in recorder.frames:
        with pytest.raises(ValueError, match="read-only"):
            frame.values["f"][0] = 0
        assert {array.dtype for array in (*frame.values.values(), *frame.norms.values())} == {np.dtype(np.float32)}


def test_a_second_training_run_continues_the_count():
    recorder = TraceRecorder(BITS, every=4)
    trained(recorder, 4)
    trained(recorder, 8)
    assert updates(recorder) == [1, 4, 5, 8, 12]


@pytest.mark.parametrize("max_frames", [2, 3, 7, 8])
def test_the_number_of_frames_is_limited(max_frames):
    recorder = recorded(60, 1, max_frames=max_frames)
    found = updates(recorder)
    assert len(found) <= max_frames
    assert found[0] == 0
    assert found == sorted(set(found))
    assert 60 - found[-1] < recorder._interval  # to the end, at larger distances
    assert {update % recorder._interval for update in found[max_frames // 2 + 1 :]} <= {0}


def test_without_a_target_a_page_has_states_only(rng):
    recorder, lstm = TraceRecorder(rng.normal(size=(5, 3))), gc.LSTM(3, 4)
    recorder.capture_frame(lstm)
    [frame] = recorder.frames
    assert frame.loss is None
    assert frame.norms == {}
    assert recorder.plot().axes
    assert "losses" in page(recorder)


@pytest.mark.parametrize("options", [{"bidirectional": True}, {"layer_norm": "haste"}, {"proj_size": 4}], ids=str)
def test_every_kind_of_layer_can_be_recorded(options, rng):
    lstm = gc.LSTM(3, 7, num_layers=2, **options)
    recorder = TraceRecorder(
        rng.normal(size=(5, 3)), rng.normal(size=(5, lstm.output_size)), symbols=["f", "h", "d_z", "x"]
    )
    recorder.layer = 0
    recorder.capture_frame(lstm)
    rows = {drawn["symbol"]: drawn["rows"] for drawn in payload(recorder)["maps"]}
    assert rows == {"f": 7, "h": options.get("proj_size", 7), "d_z": 28, "x": 3}
    recorder.plot().savefig(io.BytesIO(), format="png", dpi=20)


# Pictures


def test_the_strip_shows_the_frames():
    recorder = recorded(12, 4)
    figure = recorder.plot(["f", "c"], number=3)
    drawn = [ax for ax in figure.axes if ax.images]
    assert len(drawn) == 6
    assert [ax.get_title().split(",")[0] for ax in drawn[:3]][::2] == ["update 0", "update 12"]
    order = recorder.units
    assert sorted(order) == list(range(6))
    np.testing.assert_array_equal(drawn[0].images[0].get_array(), recorder.frames[0].values["f"].T[order])
    np.testing.assert_array_equal(drawn[5].images[0].get_array(), recorder.frames[-1].values["c"].T[order])


def test_strip_film_and_page_have_units_bits_and_delimiter(tmp_path):
    recorder = recorded(4, 4)
    units = [str(unit) for unit in recorder.units]
    drawn = [ax for ax in recorder.plot(["f", "c"], number=2).axes if ax.images]
    for ax in drawn:
        assert [list(line.get_xdata()) for line in ax.lines] == [[4, 4]]
        assert [label.get_text() for label in ax.get_yticklabels()] == (units if ax in drawn[::2] else [])
    marks = payload(recorder)["marks"]
    assert marks == {"texts": tuple("1011|1011"), "delimiters": (4,)}


def test_a_symbol_has_one_scale_and_a_gradient_one_for_each_frame():
    recorder = recorded(12, 4, symbols=["c", "d_c"])
    first, last = recorder.frames[0], recorder.frames[-1]
    assert recorder.scale("c", first) == recorder.scale("c", last)
    assert recorder.scale("d_c", last).high == np.abs(last.values["d_c"]).max()
    assert recorder.scale("d_c", first) != recorder.scale("d_c", last)


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_a_film_has_a_picture_for_every_frame(kind, tmp_path):
    image = pytest.importorskip("PIL.Image")
    recorder = recorded(12, 4, symbols=["f", "d_c"])
    recorder.animate(tmp_path / f"film.{kind}", "f" if kind == "gif" else "d_c", fps=5, dpi=30)
    with image.open(tmp_path / f"film.{kind}") as film:
        assert film.n_frames == len(recorder.frames)
        shown = []
        for k in range(film.n_frames):
            film.seek(k)
            shown.append(np.asarray(film.convert("RGB")))
    assert all((one != other).any() for one, other in pairwise(shown))
    assert list(tmp_path.iterdir()) == [tmp_path / f"film.{kind}"]


def test_pyplot_is_not_imported(tmp_path):
    program = """
import sys
import glasscell as gc
recorder = gc.TraceRecorder([1, 0])
recorder.capture_frame(gc.CopyLSTM(4, task=gc.tasks.Copy(2)))
recorder.report(sys.argv[1] + "/film.html")
assert "matplotlib" not in sys.modules
recorder.plot()
recorder.animate(sys.argv[1] + "/film.gif", dpi=20)
assert "matplotlib.pyplot" not in sys.modules
"""
    environment = os.environ | {"PYTHONPATH": str(Path(gc.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, env=environment)


# The page


def given_to(html):
    return json.loads(re.search(r'<script type="application/json" id="payload">(.*?)</script>', html)[1])


def test_the_page_holds_the_frames_to_a_byte():
    recorder = recorded(12, 4, symbols=["f", "d_c"])
    content = given_to(page(recorder))
    assert content["updates"] == updates(recorder)
    assert content["units"] == list(recorder.units)
    for drawn in content["maps"]:
        numbers = np.frombuffer(b64decode(drawn["data"]), np.uint8).reshape(-1, drawn["rows"], drawn["steps"])
        for frame, values, (low, high) in zip(recorder.frames, numbers, drawn["ranges"], strict=True):
            expected = frame.values[drawn["symbol"]].T[recorder.units]
            np.testing.assert_allclose(low + values / 255 * (high - low), expected, atol=(high - low) / 500)


def hostile():
    recorder = TraceRecorder(BITS, every=4, trace_options={"title": HOSTILE}, symbols=["i", "f", "o", "g", "c", "d_c"])
    trained(recorder, 12)
    return recorder


def test_markup_in_a_title_is_displayed_as_text(tmp_path):
    recorder = hostile()
    recorder.report(tmp_path / "film.html")
    html = (tmp_path / "film.html").read_text("utf-8")
    assert "<b id" not in html
    assert "&lt;b id=obeyed&gt;" in html
    assert "{{" not in html
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", html)
    recorder.plot().savefig(io.BytesIO(), dpi=20)  # nor is a dollar the beginning of a formula


def test_the_slider_moves_through_the_training(open_html):
    recorder = hostile()
    opened = open_html(page(recorder))
    assert opened.evaluate("window.obeyed === undefined && !document.getElementById('obeyed')")
    assert opened.inner_text("h1") == HOSTILE
    slider, last = opened.locator("#frame"), len(recorder.frames) - 1
    assert opened.inner_text("#update") == "1"
    slider.press("End")
    assert opened.inner_text("#update") == "12"
    slider.press("ArrowLeft")
    assert opened.inner_text("#update") == "8"
    assert opened.evaluate("film.state.frame") == last - 1
    assert f"{recorder.frames[last - 1].loss:.3g}" in opened.inner_text("#loss")


def test_the_page_has_units_bits_and_delimiter(open_html):
    recorder = recorded(4, 4, symbols=["f", "x"])
    page = open_html(html.page(recorder))
    maps = page.locator("#maps figure")
    assert maps.nth(0).locator(".units span").all_text_contents() == [str(unit) for unit in recorder.units]
    assert maps.nth(1).locator(".units span").count() == 0  # the rows of x are features
    for k in range(2):
        assert "".join(maps.nth(k).locator(".steps span").all_text_contents()) == "1011|1011"
        canvas, line = (maps.nth(k).locator(name).bounding_box() for name in ("canvas", ".delimiter"))
        assert abs(line["x"] - canvas["x"] - canvas["width"] / 2) < 2


def test_a_number_can_be_read_with_the_keyboard(open_html):
    recorder = hostile()
    opened = open_html(page(recorder))
    canvas = opened.locator("canvas[data-symbol=c]")
    for key in (
        "ArrowDown",
        "ArrowDown",
        "ArrowDown",  # the first goes to the first unit and step
        "ArrowRight",
        "ArrowRight",
        "ArrowRight",
    ):
        canvas.press(key)
    said = opened.inner_text("#chosen")
    unit, step = map(int, re.search(r"of unit (\d+) at step (\d+)", said).groups())
    assert (unit, step) == (recorder.units[2], 3)
    value = float(said.split(": ")[1].replace("−", "-"))
    scale = recorder.scale("c", recorder.frames[0])
    assert value == pytest.approx(recorder.frames[0].values["c"][step, unit], abs=(scale.high - scale.low) / 250)


def test_it_plays_to_the_end(open_html):
    opened = open_html(page(hostile()), color_scheme="dark", width=390)
    opened.click("#play")
    assert opened.get_attribute("#play", "aria-pressed") == "true"
    opened.locator("#play[aria-pressed=false]").wait_for()
    assert opened.inner_text("#play") == "Play"
    assert opened.inner_text("#update") == "12"
    assert opened.evaluate("document.documentElement.scrollWidth <= 390")


# Validation


@pytest.mark.parametrize(
    ("options", "error", "part"),
    [
        ({"every": 0}, ValueError, "every"),
        ({"every": 1.5}, TypeError, "every"),
        ({"max_frames": 1}, ValueError, "at least 2"),
        ({"symbols": "fc"}, ValueError, "'fc'"),
        ({"symbols": []}, ValueError, "symbols"),
    ],
)
def test_invalid_options_raise_an_error(options, error, part):
    with pytest.raises(error, match=re.escape(part)):
        TraceRecorder(BITS, **options)


def test_invalid_frames_raise_an_error(rng):
    with pytest.raises(ValueError, match="got 'q'"):
        TraceRecorder(BITS, symbols=["q"]).capture_frame(gc.CopyLSTM(4))
    with pytest.raises(ValueError, match="batch"):
        TraceRecorder(rng.normal(size=(2, 5, 3))).capture_frame(gc.LSTM(3, 4))
    recorder = recorded()
    with pytest.raises(ValueError, match="12"):
        recorder.capture_frame(gc.CopyLSTM(6, task=gc.tasks.Copy(4)), 12)
    with pytest.raises(ValueError, match=r"9×6.*9×7"):
        recorder.capture_frame(gc.CopyLSTM(7, task=gc.tasks.Copy(4)), 99)
    assert updates(recorder) == [0, 1, 4, 8, 12]


def test_missing_frames_and_symbols_raise_an_error(tmp_path):
    empty, recorder = TraceRecorder(BITS), recorded()
    for draw in (empty.plot, lambda: empty.animate(tmp_path / "x.gif"), lambda: empty.report(tmp_path / "x.html")):
        with pytest.raises(ValueError, match="recorder must have a frame"):
            draw()
    with pytest.raises(ValueError, match="'d_c'"):
        recorder.plot(["d_c"])
    with pytest.raises(ValueError, match="number"):
        recorder.plot(number=0)
    with pytest.raises(ValueError, match=r"\.gif or \.webp"):
        recorder.animate(tmp_path / "x.mp4")
    assert list(tmp_path.iterdir()) == []
    assert isinstance(recorder.frames[0], Frame)


def test_a_page_of_too_many_values_has_means_and_a_note(monkeypatch, rng):
    recorder = TraceRecorder(rng.normal(size=(7, 3)), symbols=["f", "c"])
    lstm = gc.LSTM(3, 6)
    for update in range(9):
        lstm.parameters.vector[:] = rng.normal(size=lstm.parameters.vector.size)
        recorder.capture_frame(lstm, update)
    monkeypatch.setattr(html, "MIN_FRAMES", 5)
    monkeypatch.setattr(html, "MAX_BYTES", 7 * 6 * 2 * 4)
    content = given_to(page(recorder))
    f = content["maps"][0]
    assert (content["block"], f["rows"], f["steps"], content["steps"]) == (2, 3, 4, 7)
    assert content["updates"][0] == 0
    assert content["updates"][-1] == 8
    assert "the mean of 2 units and 2 steps" in content["notes"][0]
    numbers = np.frombuffer(b64decode(f["data"]), np.uint8).reshape(-1, 3, 4)
    expected = recorder.frames[-1].values["f"].T[recorder.units]
    assert numbers[-1, 1, 1] / 255 == pytest.approx(expected[2:4, 2:4].mean(), abs=0.003)
    assert numbers[-1, 2, 3] / 255 == pytest.approx(expected[4:, 6:].mean(), abs=0.003)
    monkeypatch.setattr(html, "MIN_FRAMES", 2)
    fewer = given_to(page(recorder))
    assert (fewer["block"], fewer["updates"]) == (1, [0, 3, 5, 8])
    assert fewer["notes"] == ["4 of 9 recorded frames are shown."]


def test_a_page_of_means_can_be_read(open_html, monkeypatch):
    monkeypatch.setattr(html, "MAX_BYTES", 200)
    opened = open_html(page(hostile()))
    assert "mean" in opened.inner_text("#notes")
    canvas = opened.locator("canvas[data-symbol=f]")
    canvas.press("ArrowDown")
    canvas.press("End")
    assert re.fullmatch(r"forget gate f of block 0 of \d units at steps 0 to \d: [\d.]+", opened.inner_text("#chosen"))
