"""Laws: figures of explanations have the values of the results, their names, and the marks of a trace."""

import io

import numpy as np
import pytest

import glasscell as gc
from glasscell.core.norms import vector_norms

pytest.importorskip("matplotlib")

BITS = [1, 0, 1]


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(5)
    model = gc.CopyLSTM(6, task=gc.tasks.Copy(width=3), dtype=np.float64)
    model.parameters.vector[:] = rng.normal(size=model.parameters.vector.size)
    return model


def picture(ax):
    """Save the figure, so that everything is drawn."""
    ax.figure.savefig(io.BytesIO(), format="png", dpi=20)
    return ax


def image(ax):
    return ax.images[0].get_array().filled(np.nan)


def texts(ax):
    return "".join(text.get_text() for text in ax.texts)


def test_decodability_is_an_image_of_labels_by_steps(model):
    result = gc.explain.decodability(model, model.task)
    ax = picture(gc.explain.figures.decodability(result, trace=model.trace(BITS)))
    np.testing.assert_array_equal(image(ax), result.r2)
    assert ax.images[0].get_clim() == (0, 1)
    assert [label.get_text() for label in ax.get_yticklabels()] == list(result.labels)
    assert texts(ax) == "101|101"
    assert not gc.explain.figures.decodability(result).texts


def test_differences_are_those_that_are_significant(model):
    result = gc.explain.unit_differences(model, model.task)
    for label in (1, result.labels[1]):
        ax = picture(gc.explain.figures.unit_differences(result, label, trace=model.trace(BITS)))
        shown = image(ax)
        ticks = [*ax.yaxis.get_major_ticks(), *ax.yaxis.get_minor_ticks()]
        units = [int(tick.label1.get_text()) for tick in sorted(ticks, key=lambda tick: tick.get_loc())]
        assert sorted(units) == list(range(6))
        significant = result.is_significant[1].T[units]
        np.testing.assert_array_equal(shown[significant], result.difference[1].T[units][significant])
        assert np.isnan(shown[~significant]).all()
        assert significant.any()
        low, high = ax.images[0].get_clim()
        assert -low == high == np.nanmax(np.abs(shown))
    for label, error in ((3, "from -3 to 2"), ("bit 9", "bit 9")):
        with pytest.raises(ValueError, match=error):
            gc.explain.figures.unit_differences(result, label)


def test_both_kinds_of_dependency_have_one_scale(model):
    result = gc.explain.dependency(model, model.task)
    axes = [picture(gc.explain.figures.dependency(result, kind)) for kind in ("exact", "linear")]
    for ax, kind in zip(axes, ("exact", "linear"), strict=True):
        np.testing.assert_array_equal(image(ax), getattr(result, kind))
        assert [label.get_text() for label in ax.get_yticklabels()] == list(result.outputs)
        assert [label.get_text() for label in ax.get_xticklabels()] == list(result.inputs)
    assert axes[0].images[0].get_clim() == axes[1].images[0].get_clim()
    with pytest.raises(ValueError, match="kind must be"):
        gc.explain.figures.dependency(result, "both")


def test_attributions_are_bars_that_add_up(model):
    x = model.task.make_batch([np.array([BITS])], np.float64).inputs
    result = gc.explain.integrated_gradients(model, x[0], output=0, step=5)
    ax = picture(gc.explain.figures.attribution(result, trace=model.trace(BITS)))
    heights = [bar.get_height() for bar in ax.patches]
    np.testing.assert_array_equal(heights, result.by_step)
    assert sum(heights) == pytest.approx(result.output - result.baseline_output, abs=1e-3)
    assert "completeness error" in ax.get_title(loc="left")
    with pytest.raises(ValueError, match="one sequence"):
        gc.explain.figures.attribution(gc.explain.integrated_gradients(model, x, output=0, step=5))
    with pytest.raises(ValueError, match="trace must have 7 steps, got 5"):
        gc.explain.figures.attribution(result, trace=model.trace([1, 0]))


def test_the_curves_of_crossings_are_parts_of_the_whole(model):
    flow = gc.explain.gradient_flow(model, np.array(BITS))
    ax = picture(gc.explain.figures.crossings(flow, parts=2))
    curves = {line.get_label(): line.get_ydata() for line in ax.lines}
    assert list(curves) == ["dL/dc", "0 crossings of $W_h$", "1 crossing of $W_h$", "2 or more crossings of $W_h$"]
    np.testing.assert_array_equal(curves["dL/dc"], vector_norms(flow.whole_c))
    np.testing.assert_array_equal(curves["1 crossing of $W_h$"], vector_norms(flow.c[1]))
    rest = flow.whole_c - flow.c[0] - flow.c[1]
    np.testing.assert_allclose(curves["2 or more crossings of $W_h$"], vector_norms(rest), atol=1e-12)


def test_an_ablation_is_a_curve_of_factors_or_dots_with_names(model):
    explain, task = gc.explain, model.task
    result = explain.ablation(model, task, interventions=explain.scaled_gates([0.5, 1.0, 0.75]), which="all")
    ax = picture(explain.figures.ablation(result))
    line, curve = ax.lines
    assert list(line.get_ydata()) == [result.baseline] * 2
    np.testing.assert_array_equal(curve.get_xdata(), [1.0, 0.75, 0.5])
    np.testing.assert_array_equal(curve.get_ydata(), result.values[[1, 2, 0]])
    assert ax.get_ylabel() == "bit accuracy"
    units = explain.unit_interventions(model, symbols=("f",))
    result = explain.ablation(model, task, "loss", interventions=units, which="all")
    ax = picture(explain.figures.ablation(result))
    order = np.argsort(result.values, kind="stable")
    assert list(order) != sorted(order)
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), result.values[order])
    assert [label.get_text() for label in ax.get_xticklabels()] == [str(unit) for unit in order]
    assert ax.get_xlabel() == "unit of $f$, by loss"
    several = explain.unit_interventions(model, symbols=("f", "c"))
    result = explain.ablation(model, task, interventions=several, which="all")
    ax = picture(explain.figures.ablation(result))
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), result.values)
    assert [label.get_text() for label in ax.get_xticklabels()] == list(result.labels)
    mixed = [explain.Intervention("f", scale=0.5), explain.Intervention("f", scale=0.5, units=[1])]
    assert explain.figures.ablation(explain.ablation(model, task, interventions=mixed)).get_xlabel() == "intervention"


def test_units_set_to_their_means_are_sorted_and_those_at_other_steps_are_not(model):
    explain, task = gc.explain, model.task
    means = explain.unit_interventions(model, task, symbols=("c",), value="mean")
    assert len({one.set for one in means}) == len(means)
    result = explain.ablation(model, task, interventions=means)
    ax = picture(explain.figures.ablation(result))
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), np.sort(result.values))
    at_steps = [explain.Intervention("c", set=0.0, units=unit, steps=unit) for unit in range(3)]
    ax = explain.figures.ablation(explain.ablation(model, task, interventions=at_steps))
    assert ax.get_xlabel() == "intervention"


def test_a_relay_is_an_image_of_units_by_steps_sorted_by_their_largest_share(model):
    result = gc.explain.relay(model, model.task)
    for label in (2, "bit 2"):
        ax = picture(gc.explain.figures.relay(result, label, trace=model.trace(BITS)))
        ticks = [*ax.yaxis.get_major_ticks(), *ax.yaxis.get_minor_ticks()]
        units = [int(tick.label1.get_text()) for tick in sorted(ticks, key=lambda tick: tick.get_loc())]
        assert sorted(units) == list(range(6))
        np.testing.assert_array_equal(image(ax), result.carried[2].T[units])
        peaks = result.carried[2].argmax(axis=0)[units]
        assert (np.diff(peaks) >= 0).all()
        low, high = ax.images[0].get_clim()
        assert -low == high == np.abs(result.carried[2]).max()
        assert texts(ax) == "101|101"
        assert ax.get_title(loc="left").startswith("bit 2")
    with pytest.raises(ValueError, match="label must be from -3 to 2, got 3"):
        gc.explain.figures.relay(result, 3)


def test_the_symbols_of_a_text_are_marked_on_its_attributions():
    text = "the cat sat on the mat"
    model = gc.LanguageModel(gc.data.Vocabulary.from_text(text), 4, 6, num_layers=1, dtype=np.float64, seed=3)
    log_probability = gc.explain.LogProbability()
    result = gc.explain.integrated_gradients(model, text, output=log_probability, step=-2)
    ax = picture(gc.explain.figures.attribution(result, trace=model.trace(text)))
    assert texts(ax) == text.replace(" ", "␣")
    assert len(ax.patches) == len(text)
    ids = model.vocabulary.encode(text)
    for trace in (model.trace(ids[:-1]), model.trace(text[:-1])):  # without next symbols, and of too short a text
        with pytest.raises(ValueError, match=f"trace must have {len(text)} steps"):
            gc.explain.figures.attribution(result, trace=trace)


def test_all_figures_are_listed():
    figures = gc.explain.figures
    own = {name for name, value in vars(figures).items() if getattr(value, "__module__", "") == figures.__name__}
    assert set(figures.__all__) == {name for name in own if not name.startswith("_")}
