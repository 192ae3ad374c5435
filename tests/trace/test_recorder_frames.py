"""Laws: which frames a recorder keeps and picks; the size and the labels of its figures."""

import io

import numpy as np
import pytest

import glasscell as gc
from glasscell.trace.figures.style import new_figure
from glasscell.training.trace_recorder import figures, html
from glasscell.training.trace_recorder.frames import Frame
from glasscell.training.trace_recorder.recorder import TraceRecorder, _pick_frames

X = np.random.default_rng(5).normal(size=(7, 3))


def recorder_of(updates, **options):
    recorder = TraceRecorder(X, symbols=["f", "c"], **options)
    lstm = gc.LSTM(3, 6, seed=2)
    for update in updates:
        recorder.capture_frame(lstm, update)
    return recorder


def test_the_interval_doubles_whenever_the_frames_are_full():
    task = gc.tasks.Copy(4)
    recorder = TraceRecorder([1, 0, 1, 1], every=2, max_frames=4)
    gc.fit(gc.CopyLSTM(hidden_size=2, task=task), task, updates=40, batch_size=2, callbacks=[recorder])
    assert [frame.update for frame in recorder.frames] == [1, 16, 32]
    assert recorder._interval == 16


def test_one_frame_is_the_last_one():
    frames = recorder_of([0, 1, 5, 20]).frames
    assert _pick_frames(frames, 1, 50) == [frames[-1]]
    assert _pick_frames(frames, 2, 50) == [frames[0], frames[-1]]
    assert _pick_frames(frames[:1], 3, 50) == frames[:1]


def test_a_recorder_begins_without_frames():
    with pytest.raises(TypeError, match="frames"):
        TraceRecorder(X, frames=[])


@pytest.mark.parametrize("sizes", [(5, 6), (6, 5), (9, 10), (10, 9)])
def test_frames_have_the_shapes_of_the_last_one(sizes):
    recorder = TraceRecorder(X, symbols=["f"])
    recorder.capture_frame(gc.LSTM(3, sizes[0]), 0)
    with pytest.raises(ValueError, match="the frame must have the shapes"):
        recorder.capture_frame(gc.LSTM(3, sizes[1]), 1)
    assert [frame.update for frame in recorder.frames] == [0]


def test_a_caption_has_the_loss_if_there_is_one():
    nothing = np.zeros((1, 1)), {}, {}, {}
    assert Frame(12, None, *nothing).caption == "update 12"
    assert Frame(12, 0.25, *nothing).caption == "update 12, loss 0.25"


def test_as_many_frames_as_fit_are_shown_as_means(monkeypatch):
    recorder = recorder_of(range(9))
    numbers = 2 * 7 * 6
    monkeypatch.setattr(html, "MIN_FRAMES", 5)
    monkeypatch.setattr(html, "MAX_BYTES", numbers * 2)  # 2 frames of all values, 8 of means of 2 × 2
    frames, block, notes = html._fit_to_size(recorder)
    assert (block, [frame.update for frame in frames]) == (2, [0, 1, 2, 3, 5, 6, 7, 8])
    assert len(notes) == 2


# Figures


@pytest.mark.parametrize(("number", "width"), [(2, 5.4), (3, 7.3), (11, 20)])
@pytest.mark.parametrize(("symbols", "height"), [(["f"], 2.5), (["f", "c"], 4.1)])
def test_a_strip_grows_with_frames_and_symbols(number, width, symbols, height):
    pytest.importorskip("matplotlib")
    figure = recorder_of([50 * (2**k - 1) for k in range(11)]).plot(symbols, number)
    np.testing.assert_allclose(figure.get_size_inches(), [width, height])


def test_the_columns_of_a_strip_share_their_steps_and_its_rows_are_labelled():
    pytest.importorskip("matplotlib")
    figure = recorder_of([1, 4]).plot()
    maps = [ax for ax in figure.axes if ax.images]
    assert len(maps) == 4
    assert maps[0].get_shared_x_axes().joined(maps[0], maps[-1])
    for ax in maps[::2]:
        assert ax.get_ylabel()
        assert ax.yaxis.label.get_rotation() == 0
    assert [ax.get_title() for ax in maps] == ["update 1", "update 4", "", ""]
    assert [ax.get_xlabel() for ax in maps] == ["", "", "step", "step"]


def test_the_losses_below_an_animation_are_a_curve_in_the_style_of_all_figures():
    pytest.importorskip("matplotlib")
    ax = new_figure(3, 2).subplots()
    dot = figures._draw_losses(ax, recorder_of([1, 4]).frames)
    curve, last = ax.lines
    assert last is dot
    assert dot.get_markersize() == pytest.approx(5 * curve.get_linewidth())
    assert not any(spine.get_visible() for spine in ax.spines.values())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("update", "loss")
    assert ax.get_axisbelow()


def test_an_animation_has_the_size_of_its_figure(tmp_path):
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    recorder_of([1, 4]).animate(tmp_path / "a.gif", dpi=50)
    with image.open(io.BytesIO((tmp_path / "a.gif").read_bytes())) as animation:
        assert (animation.size, animation.n_frames) == ((280, 230), 2)
