"""Law: an intervention that acts nowhere is an error, and a copy of a layer is not under those of the original."""

import copy
from typing import Any

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.data.batch import Batch
from glasscell.explain import Intervention, ablation, intervene, outputs_under

NONE_SELECTED = "steps must select at least one step"


@pytest.mark.parametrize("steps", [slice(5, 2), slice(4, 4), slice(0, 0), slice(None, 0), [False] * 9])
def test_no_step_is_an_error(steps: Any) -> None:
    with pytest.raises(ValueError, match=NONE_SELECTED):
        Intervention("f", scale=0.5, steps=steps)


def test_no_unit_or_limit_is_an_error() -> None:
    lstm = gc.LSTM(2, 3)
    with pytest.raises(ValueError, match=r"clamp must have at least one limit, got \(None, None\)"):
        Intervention("f", clamp=(None, None))
    for units in ([False] * 3, slice(2, 1)):
        with pytest.raises(ValueError, match="units must select at least one of the 3 rows of f"):
            intervene(lstm, Intervention("f", scale=0.5, units=units))


@loop_over("layer", [gc.LSTM, gc.GRU, gc.RNN])
@loop_over("options", [{}, {"bidirectional": True}])
def test_steps_after_the_longest_sequence_are_an_error(layer: Any, options: dict[str, Any]) -> None:
    model, x = layer(2, 3, **options), np.ones((2, 8, 2))
    for steps in (slice(8, None), slice(9, 12)):
        with pytest.raises(ValueError, match=f"{NONE_SELECTED} of a sequence, the longest of which has 8, got slice"):
            outputs_under(model, Intervention("h", scale=0.5, steps=steps), x)
    for steps in (slice(5, None), slice(6, 8)):
        with pytest.raises(ValueError, match=f"{NONE_SELECTED} of a sequence, the longest of which has 5, got"):
            outputs_under(model, Intervention("h", scale=0.5, steps=steps), x, lengths=[3, 5])
    with intervene(model, Intervention("h", scale=0.5, steps=slice(4, 20))):
        model(x, lengths=[3, 5])


@loop_over("layer", [gc.LSTM, gc.GRU, gc.RNN])
@loop_over("options", [{}, {"bidirectional": True}, {"reverse": True}])
@loop_over("steps", [6, [5, 7], [False] * 5 + [True] * 3, slice(5, 8, 2)])
def test_numbers_and_masks_of_steps_after_all_sequences_are_an_error(
    layer: Any, options: dict[str, Any], steps: Any, rng: np.random.Generator
) -> None:
    if layer is not gc.LSTM and "reverse" in options:
        options = {"bidirectional": True}
    model, x = layer(2, 3, **options), rng.normal(size=(2, 8, 2))
    idle = Intervention("h", scale=0.5, steps=steps)
    with pytest.raises(ValueError, match=f"{NONE_SELECTED} of a sequence, the longest of which has 5, got"):
        outputs_under(model, idle, x, lengths=[3, 5])
    mask = np.ones((2, 8), bool)
    mask[:, 5:] = False
    with pytest.raises(ValueError, match=NONE_SELECTED):
        outputs_under(model, idle, x, mask=mask)
    late = np.roll(mask, 3, axis=1)  # a mask is that of time
    assert outputs_under(model, idle, x, mask=late) is not None
    assert outputs_under(model, idle, x, lengths=[3, 8]) is not None  # it changes one of the sequences
    assert outputs_under(model, idle, x, lengths=[0, 0]) is not None  # there is nothing to change


@pytest.mark.parametrize(
    ("layer", "gate"), [(gc.LSTM, "f"), (gc.LSTM, "z_g"), (gc.LSTM, "x"), (gc.GRU, "r"), (gc.RNN, "z")]
)
def test_a_freeze_of_the_first_step_alone_is_an_error(layer: Any, gate: str, rng: np.random.Generator) -> None:
    model, x = layer(2, 3), rng.normal(size=(2, 4, 2))
    message = f"freeze of {gate} must have steps that are not the first one to be processed, which has none before it"
    for steps in (0, [0], slice(0, 1), [True, False, False, False]):
        first = Intervention(gate, freeze=True, steps=steps)
        with pytest.raises(ValueError, match=message):
            outputs_under(model, first, x)
        with intervene(model, first), pytest.raises(ValueError, match=message):
            model.stream().push(x[0, 0])
    for steps in (None, slice(None), [0, 1], slice(0, None, 3)):
        assert outputs_under(model, Intervention(gate, freeze=True, steps=steps), x) is not None
    for steps in (None, slice(0, None)):  # all steps, of sequences of one
        assert outputs_under(model, Intervention(gate, freeze=True, steps=steps), x[:, :1]) is not None
    state = Intervention("h", freeze=True, steps=0)  # the initial state is held
    before, after = (y[0] if isinstance(y, tuple) else y for y in (model(x), outputs_under(model, state, x)))
    assert not np.array_equal(before, after)
    both = layer(2, 3, bidirectional=True)
    first = Intervention(gate, freeze=True, steps=0)
    assert outputs_under(both, first, x) is not None  # the other direction has a step before
    with pytest.raises(ValueError, match=message):
        outputs_under(both, first, x, lengths=[1, 1])
    with pytest.raises(ValueError, match=message):
        outputs_under(both, Intervention(gate, freeze=True, steps=0, direction="forward"), x)
    ends = Intervention(gate, freeze=True, steps=[1, 3], direction="reverse")
    with pytest.raises(ValueError, match=message):
        outputs_under(both, ends, x, lengths=[2, 4][:1] * 2)


def test_a_batch_of_several_may_have_none_of_the_steps(rng: np.random.Generator) -> None:
    model, x, y = gc.LSTM(2, 3, seed=0), rng.normal(size=(3, 8, 2)), rng.normal(size=(3, 8, 3))
    weights = np.ones((3, 8))
    batches = [
        Batch(x[n : n + 1], y[n : n + 1], weights[n : n + 1], np.array([length])) for n, length in enumerate([3, 8, 2])
    ]

    def metric(outputs: Any, batch: Batch) -> float:
        return float(np.square(outputs[0][0] if isinstance(outputs, tuple) else outputs).mean())

    late = Intervention("h", scale=0.0, steps=slice(6, None))
    result = ablation(model, batches, metric, interventions=[late])
    assert result.values[0] != result.baseline
    with pytest.raises(ValueError, match="the longest of which has 8"):
        ablation(model, batches, metric, interventions=[Intervention("h", scale=0.0, steps=slice(8, None))])
    for steps in (7, [6, 7], slice(7, 8)):
        assert ablation(model, batches, metric, interventions=[Intervention("h", set=0.0, steps=steps)]).values.size
    with pytest.raises(ValueError, match="freeze of f must have steps that are not the first one to be processed"):
        ablation(model, batches, metric, interventions=[Intervention("f", freeze=True, steps=0)])


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}, {"peepholes": True}])
def test_a_copy_is_not_under_the_interventions_of_a_block(
    copied: Any, options: dict[str, Any], rng: np.random.Generator
) -> None:
    for layer in (gc.LSTM,) if "peepholes" in options else (gc.LSTM, gc.GRU, gc.RNN):
        original, x = layer(2, 3, seed=0, **options), rng.normal(size=(2, 5, 2))
        before = original(x)[0] if isinstance(original(x), tuple) else original(x)
        first = lambda y: y[0] if isinstance(y, tuple) else y  # noqa: E731
        with intervene(original, Intervention("h", set=0.3, layer=None)):
            other = copied(original)
            assert np.array_equal(first(other(x)), before)
            assert not np.array_equal(first(original(x)), before)
            with intervene(other, Intervention("h", set=0.7, layer=None)):
                changed = first(original(x))
        assert np.array_equal(first(other(x)), before)
        assert np.array_equal(first(original(x)), before)
        assert not np.array_equal(changed, before)
        with intervene(original, Intervention("h", set=0.3, layer=None)):
            assert np.array_equal(first(other(x)), before)
        assert (other.parameters is original.parameters) == (copied is copy.copy)
