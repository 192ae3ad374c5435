"""An intervention that no model, or this model, can have is one clear error, at the latest at the first pass."""

import re
from typing import Any

import numpy as np
import pytest
from case_loops import loop_over
from intervention_cases import B, H, I, T

import glasscell as gc
from glasscell.explain import Intervention, intervene, outputs_under


def layer(**options: Any) -> gc.LSTM:
    return gc.LSTM(I, H, dtype=np.float64, seed=1, **options)


@loop_over(
    ("arguments", "error", "message"),
    [
        ({"symbol": "y", "scale": 1}, ValueError, "symbol must be one of 'x', "),
        ({"symbol": "z_c", "scale": 1}, ValueError, "symbol must be one of 'x', "),
        ({"symbol": "f"}, ValueError, "exactly one of scale, set, clamp, add, freeze, patch, cut, got none"),
        ({"symbol": "f", "scale": 1, "add": 2}, ValueError, "exactly one of .*, got scale and add"),
        ({"symbol": "f", "cut": True}, ValueError, "cut must be True for 'W_h', and for no other symbol"),
        ({"symbol": "W_h", "scale": 0.5}, ValueError, "cut must be True for 'W_h', and for no other symbol"),
        ({"symbol": "f", "freeze": 1}, TypeError, "freeze must be True or False"),
        ({"symbol": "f", "scale": np.nan}, ValueError, "scale must be finite"),
        ({"symbol": "f", "set": "a"}, TypeError, "set must"),
        ({"symbol": "f", "set": False}, TypeError, "set must be a number or have one for each unit, got False"),
        ({"symbol": "f", "scale": [True, False]}, TypeError, "scale must be a number or have one for each unit"),
        ({"symbol": "f", "freeze": np.False_}, ValueError, "exactly one of .*, got none"),
        ({"symbol": "f", "add": np.ones((2, 2))}, ValueError, "add must be a number or have one for each unit"),
        ({"symbol": "f", "clamp": 0.5}, TypeError, r"clamp must be a pair \(low, high\), got 0.5"),
        ({"symbol": "f", "clamp": (0.5, 0.2)}, ValueError, r"clamp must have low <= high"),
        ({"symbol": "f", "clamp": (0.5, np.nan)}, ValueError, "high must be finite"),
        (
            {"symbol": "f", "clamp": (False, True)},
            TypeError,
            "low must be a number or have one for each unit, got False",
        ),
        (
            {"symbol": "f", "clamp": ([0, 0], [1, 1, 1])},
            ValueError,
            r"clamp must have limits of one shape, got \(2,\) and \(3,\)",
        ),
        ({"symbol": "f", "patch": [[0.5], [1, 2]]}, ValueError, "patch must be an array of real numbers"),
        ({"symbol": "f", "patch": np.ones(3)}, ValueError, r"patch must be a trace or have shape \(T, rows\)"),
        ({"symbol": "f", "set": 0, "layer": 1.5}, TypeError, "layer must be an integer"),
        ({"symbol": "f", "set": 0, "direction": "back"}, ValueError, "direction must be one of 'forward', 'reverse'"),
        ({"symbol": "f", "set": 0, "steps": -1}, ValueError, "steps must be 0 or more, got -1: count from the first"),
        ({"symbol": "f", "set": 0, "steps": slice(-3, None)}, ValueError, "start of steps must be at least 0, got -3"),
        ({"symbol": "f", "set": 0, "steps": slice(0, 5, -1)}, ValueError, "step of steps must be at least 1, got -1"),
        ({"symbol": "f", "set": 0, "steps": []}, TypeError, "steps must be an integer, integers, a slice or a mask"),
        ({"symbol": "f", "set": 0, "steps": 1.5}, TypeError, "steps must be an integer, integers, a slice or a mask"),
        ({"symbol": "f", "set": 0, "steps": [[0], [1, 2]]}, TypeError, "steps must be an integer, integers, a slice"),
        ({"symbol": "f", "set": 0, "steps": np.uint64(2**63)}, ValueError, r"steps must be below 2\^63, got 92233720"),
        ({"symbol": "f", "set": 0, "steps": slice(2**70, None)}, ValueError, r"start of steps must be from -2\^63"),
        ({"symbol": "f", "set": 0, "steps": np.ones((2, 2), bool)}, TypeError, "steps must be an integer, integers"),
    ],
)
def test_arguments_that_no_model_can_have(arguments, error, message):
    with pytest.raises(error, match=message):
        Intervention(**arguments)


@loop_over(
    ("arguments", "error", "message"),
    [
        ({"layer": 2}, ValueError, "layer must be a number or name of l0, l1, got 2"),
        ({"layer": -3}, ValueError, "layer must be a number or name of l0, l1, got -3"),
        ({"layer": "l2"}, ValueError, "layer must be a number or name of l0, l1, got 'l2'"),
        ({"direction": "reverse"}, ValueError, "direction must be that of l0, got 'reverse'"),
        ({"units": 4}, ValueError, "units must be from -4 to 3 for f, got 4"),
        ({"units": [0, -5]}, ValueError, "units must be from -4 to 3 for f, got -5"),
        ({"units": [True, False]}, ValueError, r"units must be a mask of the 4 rows of f, got shape \(2,\)"),
        ({"units": slice(9, None)}, ValueError, "units must select at least one of the 4 rows of f"),
        ({"units": slice("a")}, TypeError, "stop of units must be an integer, got 'a'"),
        ({"units": slice(0, 4, 0)}, ValueError, "step of units must not be 0, got 0"),
        ({"units": [[0], [1, 2]]}, TypeError, "units must be an integer, integers, a slice or a mask, got"),
        ({"units": [1, 0, 1], "set": [1.0, 2.0, 3.0]}, ValueError, r"set must be a number or have shape \(2,\)"),
        ({"units": "a"}, TypeError, "units must be an integer, integers, a slice or a mask, got 'a'"),
        ({"set": [1.0, 2.0, 3.0]}, ValueError, r"set must be a number or have shape \(4,\), one for each of 4 units"),
        ({"symbol": "x", "units": 3}, ValueError, "units must be from -3 to 2 for x, got 3"),
        ({"set": None, "patch": np.ones((T, 3))}, ValueError, r"patch must have shape \(T, 4\) or \(B, T, 4\) for f"),
        ({"set": None, "patch": np.full((T, H), "a")}, TypeError, "patch must be an array of real numbers"),
        (
            {"set": None, "patch": np.ones((T, H)), "layer": None},
            ValueError,
            "patch must be a Trace for several layers",
        ),
    ],
)
def test_arguments_that_this_model_cannot_have(arguments, error, message):
    with pytest.raises(error, match=message):
        layer(num_layers=2).intervene(Intervention(**{"symbol": "f", "set": 0.0} | arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"set": 0.0, "steps": 6}, "steps must be from 0 to 5 in sequences of 6 steps, got 6"),
        ({"set": 0.0, "steps": [True] * 5}, "steps must be a mask of the 6 steps of the sequences, got one of 5"),
        ({"patch": np.ones((4, H))}, "patch must have a value at each selected step, got 4 steps for step 5"),
        ({"patch": np.ones((2, T, H))}, "patch must be of one sequence or of 3, as the inputs, got 2"),
        ({"patch": np.full((T, H), np.nan)}, "patch must be finite at each selected step"),
    ],
)
def test_steps_are_checked_by_every_pass(arguments, message):
    x = np.zeros((B, T, I))
    for options in ({}, {"bidirectional": True}, {"recompute_every": 2}):
        one = layer(**options)
        with one.intervene("f", direction="forward", **arguments):
            for run in (one, one.forward, one.trace):
                with pytest.raises(ValueError, match=re.escape(message)):
                    run(x)
        one(x)


def test_numbers_that_are_too_large_for_float32_are_refused():
    single, x = gc.LSTM(I, H), np.zeros((B, T, I), np.float32)
    with pytest.raises(ValueError, match="set must be finite"):
        single.intervene("c", set=1e300)
    patch = np.full((T, H), 1e300)
    with single.intervene("c", patch=patch), pytest.raises(ValueError, match="patch must be finite"):
        single(x)
    with single.intervene("c", clamp=(-1e300, 1e300)):
        np.testing.assert_allclose(single(x), outputs_under(single, [], x), rtol=1e-5)


def test_steps_that_are_not_selected_need_no_patch():
    one, x = layer(), np.random.default_rng(0).normal(size=(B, T, I))
    patch = np.full((B, T, H), np.nan)
    patch[:, 2] = 0.5
    with one.intervene("f", patch=patch, steps=2):
        assert (one.trace(x).layer[0].f[:, 2] == 0.5).all()
        one(x, lengths=[3, 6, 0])
    with one.intervene("f", patch=patch[:, :3], steps=slice(2, 3)):
        one(x)


def test_slices_may_reach_beyond_the_end_and_empty_passes_run():
    one, x = layer(), np.random.default_rng(0).normal(size=(B, T, I))
    last = outputs_under(one, Intervention("f", set=0.0, steps=T - 1), x)
    with one.intervene("f", set=0.0, steps=slice(T - 1, 99)):
        np.testing.assert_allclose(one(x), last, rtol=1e-12)
    assert not np.allclose(last, one(x))
    with (
        one.intervene("f", set=0.0, steps=slice(T, None)),
        pytest.raises(ValueError, match=f"the longest of which has {T}, got slice"),
    ):
        one(x)
    with one.intervene("f", freeze=True):
        assert one(x[:, :0]).shape == (B, 0, H)
        assert one.forward(x[:0])[0].shape == (0, T, H)


def test_models_and_calls_that_cannot_be_under_interventions():
    one = Intervention("f", set=0.0)
    with pytest.raises(TypeError, match="model must be a model or a recurrent layer, got a list"):
        intervene([], one)
    with pytest.raises(TypeError, match="model must be a model or a recurrent layer, got the class LSTM"):
        intervene(gc.LSTM, one)
    with pytest.raises(TypeError, match="interventions must be Intervention objects, got a NoneType"):
        outputs_under(layer(), None, np.zeros((T, I)))
    with pytest.raises(ValueError, match="model must have a recurrent layer that can be traced, got none"):
        gc.Sequential([gc.Linear(I, H)]).intervene(one)
    with pytest.raises(TypeError, match="interventions must be Intervention objects, got a str"):
        intervene(layer(), "f")
    for arguments, options in (
        ((), {}),
        ((one,), {"scale": 1}),
        (("f", "g"), {"scale": 1}),
        ((one, "g"), {"scale": 1}),
    ):
        with pytest.raises(TypeError, match="interventions must be"):
            layer().intervene(*arguments, **options)
    model = gc.Sequential([gc.LSTM(I, H), gc.LSTM(H, H)], names=["a", "b"])
    with pytest.raises(ValueError, match="patch must be a trace with the layer 'l0', got one with a l0, b l0"):
        layer().intervene("f", patch=model.trace(np.zeros((T, I))))
    trace = layer().trace(np.zeros((T, I)))
    with pytest.raises(ValueError, match="patch must have all steps and units, got a trace of one step or unit"):
        layer().intervene("f", patch=trace.layer[0].unit(1))


def test_the_text_of_an_intervention_is_short():
    one = Intervention("f", clamp=(0.1, None), units=list(range(100)), steps=np.arange(50), layer=None)
    assert len(repr(one)) < 200
    assert repr(one).endswith("steps=array of shape (50,))")
    assert Intervention("W_h", cut=True, units=[3]).description() == "W_h cut in units [3]"
    assert Intervention("f", set=0, units=3, steps=slice(2, 9, 3)).description() == (
        "f set to 0 in unit 3 at steps from 2 to before 9 in steps of 3"
    )
    assert Intervention("c", freeze=True, steps=4).description() == "c held at its previous value at step 4"
    assert repr(Intervention("f", scale=0.9)) == "Intervention('f', scale=0.9)"
