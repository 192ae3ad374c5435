"""Laws: the parts of a gradient are the paths of their definition, and add up to the whole."""

from copy import copy

import numpy as np
import pytest
from case_loops import loop_over
from explained_models import B, I, T, inputs_of, model_of, with_random_weights

import glasscell as gc
from glasscell import explain
from glasscell.core import cell, variants
from glasscell.explain import crossings as crossings_module
from glasscell.explain import replayed_passes
from glasscell.trace import diagnostics

H = 4
KINDS = {
    "standard": {},
    "reverse": {"reverse": True},
    "bidirectional": {"bidirectional": True},
    "averaged directions": {"bidirectional": True, "merge": "average"},
    "multiplied directions": {"bidirectional": True, "merge": "multiply"},
    "stacked": {"num_layers": 2},
    "stacked, bidirectional": {"num_layers": 2, "bidirectional": True},
    "no bias": {"bias": False},
    "two biases": {"recurrent_bias": True},
    "learned initial state": {"learn_initial_state": True},
    "outputs in processing order": {"reverse": True, "outputs_in": "processing"},
    "peepholes and projection": {"peepholes": True, "proj_size": 3, "projection_bias": True},
    "zoneout": {"zoneout": 0.2, "zoneout_cell": 0.3},
    "coupled gates": {"coupled": "input", "clip": 0.8},
    "no forget gate": {"forget_gate": False},
    "haste": {"layer_norm": "haste"},
    "tflite": {"layer_norm": "tflite", "peepholes": True},
    "contrib": {"layer_norm": "contrib"},
}
TOLERANCE = {"rtol": 1e-12, "atol": 1e-12}


def lstm_of(kind):
    return with_random_weights(gc.LSTM(I, H, **KINDS[kind], dtype=np.float64), scale=0.7)


def test_parts_equal_those_of_the_cell_by_hand(rng):
    """One gradient for each number of crossings, through `core.cell.step_backward`, step by step."""
    lstm, x, d_outputs = lstm_of("standard"), rng.normal(size=(T, I)), rng.normal(size=(T, H))
    W, h, c, steps = lstm.parameters["kernel_l0"], np.zeros((H, 1)), np.zeros((H, 1)), []
    for row in x:
        steps.append(cell.step(W, row[:, None], h, c))
        h, c = steps[-1].h, steps[-1].c
    d_h, d_c = np.zeros((T + 1, H, 1)), np.zeros((T + 1, H, 1))  # by number of crossings
    expected_c, expected_x = np.zeros((T, T, H)), np.zeros((T, T, I))
    for t in reversed(range(T)):
        d_h[0] += d_outputs[t][:, None]
        gradients = [cell.step_backward(W, steps[t], d_h[n], d_c[n]) for n in range(T)]
        for n, gradient in enumerate(gradients):
            expected_c[n, t], expected_x[n, t] = gradient.dc[:, 0], gradient.dx[:, 0]
            d_c[n], d_h[n + 1] = gradient.dc_prev, gradient.dh_prev
        d_h[0] = 0
    for N in (0, 2, T - 1, T + 2):
        flow = explain.gradient_flow(lstm, x, d_outputs=d_outputs, crossings=N)
        assert flow.c.shape == (N + 2, T, H)
        n = min(N + 1, T)
        np.testing.assert_allclose(flow.c[:n], expected_c[:n], **TOLERANCE)
        np.testing.assert_allclose(flow.x[:n], expected_x[:n], **TOLERANCE)
        np.testing.assert_allclose(flow.c[-1], expected_c[N + 1 :].sum(axis=0), **TOLERANCE)
        np.testing.assert_allclose(flow.x[-1], expected_x[N + 1 :].sum(axis=0), **TOLERANCE)
        assert not flow.c[n:-1].any()
    assert np.abs(expected_c).max(axis=(1, 2)).min() > 0  # every part but the last has a path


@loop_over("kind", KINDS)
def test_parts_add_up_to_the_gradients_of_the_trace(kind, rng):
    lstm, x = lstm_of(kind), rng.normal(size=(T, I))
    d_outputs = rng.normal(size=(T, lstm.output_size))
    trace = lstm.trace(x, d_outputs=d_outputs)
    for k, layer in enumerate(trace.layer):
        flow = explain.gradient_flow(lstm, x, d_outputs=d_outputs, layer=k, crossings=2)
        assert flow.layer == layer.name
        np.testing.assert_allclose(flow.c.sum(axis=0), layer.d_c, **TOLERANCE)
        np.testing.assert_allclose(flow.x.sum(axis=0), layer.d_x, **TOLERANCE)
        np.testing.assert_allclose(flow.whole_c, layer.d_c, **TOLERANCE)
        np.testing.assert_allclose(flow.whole_x, layer.d_x, **TOLERANCE)
        assert flow.completeness_error < 1e-12
        assert np.linalg.norm(flow.c, axis=(1, 2)).min() > 1e-4  # no part is empty
        if lstm.options.cell_config.normalises_cell:
            assert flow.local is None
        else:
            np.testing.assert_allclose(sum(flow.local), layer.d_c, atol=1e-14)


@loop_over("kind", KINDS)
def test_a_part_is_multiplied_once_for_each_crossing(kind, rng):
    """With W_h times a in the backward pass alone, the part of n crossings is multiplied by aⁿ."""
    lstm, x = lstm_of(kind), rng.normal(size=(T, I))
    trace = lstm.trace(x, d_outputs=rng.normal(size=(T, lstm.output_size)))
    for layer in trace.layer:
        parts = explain.split_by_crossings(layer, T - 1)
        assert not parts.c[-1].any()
        order = slice(None, None, -1 if layer.reverse else 1)
        for factor in (0.5, -1.3):
            scaled = copy(replayed_passes.replay(layer, 1, None))
            kernel = scaled.kernel.copy()
            kernel[:, : scaled.P] *= factor
            scaled.weights = scaled.weights | {"kernel": kernel}
            steps = replayed_passes.backward_through(scaled, layer.d_y[order][..., None].copy())
            powers = factor ** np.arange(T + 1)
            np.testing.assert_allclose(np.tensordot(powers, parts.c, 1), steps.dc[order, :, 0], rtol=1e-11, atol=1e-11)
            np.testing.assert_allclose(np.tensordot(powers, parts.x, 1), steps.dx[order, :, 0], rtol=1e-11, atol=1e-11)


def test_the_tape_of_the_split_is_that_of_the_layer(rng):
    """`variants.forward` of a standard LSTM has the states of the trace."""
    lstm = lstm_of("stacked, bidirectional")
    trace = lstm.trace(rng.normal(size=(T, I)), d_outputs=np.ones((T, 2 * H)))
    for layer in trace.layer:
        tape = replayed_passes.replay(layer, 1, None)
        assert isinstance(tape, variants.Tape)
        np.testing.assert_allclose(tape.c[:: -1 if layer.reverse else 1, :, 0], layer.c, **TOLERANCE)


@pytest.mark.parametrize("kind", ["standard", "stacked, bidirectional", "zoneout"])
def test_sequences_of_a_padded_batch_and_alone(kind, rng):
    lstm, x, lengths = lstm_of(kind), rng.normal(size=(B, T, I)), np.array([T, 2, 0, 1])
    y = rng.normal(size=(B, T, lstm.output_size))
    for layer in range(lstm.num_states[1]):
        batch = explain.gradient_flow(lstm, x, y, lengths=lengths, layer=layer, crossings=1)
        assert batch.c.shape == (B, 3, T, H)
        assert batch.completeness_error < 1e-12
        assert not batch.c[lengths == 0].any()
        for b, n in enumerate(lengths):
            if not n:
                continue
            d_outputs = lstm.trace(x, y, lengths=lengths).d_outputs[b, :n]
            alone = explain.gradient_flow(lstm, x[b, :n], d_outputs=d_outputs, layer=layer, crossings=1)
            for name in ("c", "x", "whole_c", "whole_x", "norms", "shares"):
                padded, expected = getattr(batch, name)[b], getattr(alone, name)
                steps = (slice(None),) * (expected.ndim - (1 if name in ("norms", "shares") else 2))
                np.testing.assert_allclose(padded[(*steps, slice(n))], expected, atol=1e-12)
                assert not padded[(*steps, slice(n, None))].any()
            for padded, expected in zip(batch.local, alone.local, strict=True):
                np.testing.assert_allclose(padded[b, :n], expected, atol=1e-12)


def test_the_local_split_is_that_of_the_diagnostics(rng):
    lstm, x, y = lstm_of("standard"), rng.normal(size=(T, I)), rng.normal(size=(T, H))
    expected = diagnostics.gradient_paths(lstm.trace(x, y).layer[0])
    for part, reference in zip(explain.gradient_flow(lstm, x, y).local, expected, strict=True):
        np.testing.assert_array_equal(part, reference)


def test_shares_add_up_to_one_and_norms_are_those_of_the_parts(rng):
    lstm = lstm_of("standard")
    d_outputs = rng.normal(size=(T, H))
    d_outputs[-1] = 0
    flow = explain.gradient_flow(lstm, rng.normal(size=(T, I)), d_outputs=d_outputs)
    np.testing.assert_allclose(flow.shares.sum(axis=0), [1] * (T - 1) + [0], atol=1e-12)
    np.testing.assert_allclose(flow.norms, np.linalg.norm(flow.c, axis=-1))
    assert flow.labels == ("0", "1", "2", "3", "4", "more than 4")
    assert repr(flow).startswith("GradientFlow(l0, 6×4: 0, 1, 2, 3, 4, more than 4 crossings, error ")


@loop_over("kind", KINDS)
def test_sources_add_up_and_are_flows_of_single_outputs(kind, rng):
    if kind == "multiplied directions":  # the gradient of a direction is that of the outputs times the other's values
        return
    lstm, x = lstm_of(kind), rng.normal(size=(T, I))
    d_outputs = rng.normal(size=(T, lstm.output_size))
    trace = lstm.trace(x, d_outputs=d_outputs)
    layer = trace.layer[-1]
    parts, whole = crossings_module.source_parts(layer)
    np.testing.assert_allclose(parts.sum(axis=0), layer.d_c, **TOLERANCE)
    np.testing.assert_allclose(whole, layer.d_c, **TOLERANCE)
    result = explain.gradient_sources(trace)
    np.testing.assert_allclose(result.norms, np.linalg.norm(parts, axis=-1))
    np.testing.assert_allclose(result.shares.sum(axis=0), 1, atol=1e-12)
    later = np.tril(np.ones((T, T)), -1) if layer.reverse else np.triu(np.ones((T, T)), 1)
    assert not result.norms[later > 0].any()  # [s, t]: a step that is processed after s
    for s in (0, 3):
        at = T - 1 - s if lstm.options.outputs_in == "processing" else s
        single = np.zeros_like(d_outputs)
        single[at] = d_outputs[at]
        np.testing.assert_allclose(parts[s], lstm.trace(x, d_outputs=single).layer[-1].d_c, **TOLERANCE)


def test_sources_of_many_steps_are_computed_in_parts(rng, monkeypatch):
    trace = lstm_of("standard").trace(rng.normal(size=(T, I)), d_outputs=rng.normal(size=(T, H)))
    whole = explain.gradient_sources(trace)
    monkeypatch.setattr(crossings_module, "MAX_TAPE_VALUES", 2 * T * 12 * H)
    np.testing.assert_allclose(explain.gradient_sources(trace).norms, whole.norms, **TOLERANCE)


@pytest.mark.parametrize("kind", ["steps", "final", "mean", "text", "classifier"])
def test_models_of_every_kind_and_their_traces(kind, rng):
    model, x = model_of(kind), inputs_of(kind, rng)
    targets = {"text": (x, {}), "classifier": (["up", "flat", "up", "down"], {})}
    outputs = model(x).shape
    y, options = targets.get(kind, (None, {"d_outputs": rng.normal(size=outputs)}))
    flow = explain.gradient_flow(model, x, y, **options)
    assert flow.completeness_error < 1e-12
    d_c = model.trace(x, y, **options).layer[-1].d_c
    np.testing.assert_allclose(flow.whole_c, d_c, **TOLERANCE)
    np.testing.assert_array_equal(explain.gradient_flow(model.trace(x, y, **options)).c, flow.c)


def test_bits_of_a_copy_model_in_float32():
    model = gc.CopyLSTM(6, task=gc.tasks.Copy(3))
    flow = explain.gradient_flow(model, [1, 0, 1])
    assert flow.completeness_error < 1e-12
    np.testing.assert_allclose(flow.whole_c, model.trace([1, 0, 1]).layer[0].d_c, rtol=1e-4, atol=1e-7)


@loop_over(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "the gradient needs a target: pass y or d_outputs"),
        ({"d_outputs": np.ones((T, H)), "crossings": -1}, ValueError, "crossings must be at least 0, got -1"),
        ({"d_outputs": np.ones((T, H)), "layer": 1}, IndexError, "layer must be from -1 to 0, got 1"),
        ({"d_outputs": np.ones((T, 2))}, ValueError, "d_outputs must have shape"),
        ({"d_outputs": np.ones((T, H)), "x": np.full((T, I), np.nan)}, ValueError, "x must be finite"),
        ({"d_outputs": np.ones((0, H)), "x": np.ones((0, I))}, ValueError, "x must have at least one step"),
        ({"y": np.ones((T, 3))}, ValueError, r"y must have shape \(6, 4\)"),
        ({"x": None}, TypeError, "x must be passed with a model"),
    ],
)
def test_wrong_arguments_raise_one_clear_error(arguments, error, message):
    with pytest.raises(error, match=message):
        explain.gradient_flow(lstm_of("standard"), **({"x": np.ones((T, I))} | arguments))


def test_layers_without_a_cell_and_other_objects_raise_one_clear_error():
    with pytest.raises(ValueError, match="model must be of LSTMs, whose cells have a gradient; layer l0 has no cell"):
        explain.gradient_flow(gc.GRU(I, H), np.ones((T, I)), np.ones((T, H)))
    with pytest.raises(TypeError, match="model must be a model with trace, or a Trace, got a list"):
        explain.gradient_flow([], np.ones((T, I)), np.ones((T, H)))
    trace = lstm_of("standard").trace(np.ones((B, T, I)), np.ones((B, T, H)))
    with pytest.raises(TypeError, match="x, y and options must be left out for a trace"):
        explain.gradient_flow(trace, np.ones((T, I)))
    with pytest.raises(ValueError, match="trace must be of one sequence, got a batch"):
        explain.gradient_sources(trace)
    with pytest.raises(ValueError, match="x must have at least one step"):
        explain.gradient_flow(trace.sequence(0)[2])


PATCH = np.linspace(-1, 1, T * H).reshape(T, H)
UNDER = {
    "scaled": [explain.Intervention("f", scale=0.5)],
    "cut": [explain.Intervention("W_h", cut=True)],
    "a unit cut": [explain.Intervention("W_h", cut=True, units=[1], steps=[2, 3])],
    "several": [
        explain.Intervention("x", scale=0.7),
        explain.Intervention("z_g", clamp=(-0.4, 0.5)),
        explain.Intervention("i", freeze=True, units=[0, 2]),
        explain.Intervention("c", add=0.3, steps=[1, 4]),
        explain.Intervention("h", freeze=True, units=[1], steps=[3]),
        explain.Intervention("o", set=0.4, steps=slice(2, 4)),
    ],
    "patched": [
        explain.Intervention("c", patch=PATCH, units=[0], steps=[2], layer="l0"),
        explain.Intervention("c", patch=-PATCH, units=[0], steps=[2], layer="l0_reverse"),
    ],
}


@loop_over("name", UNDER)
@loop_over("options", [{}, {"lengths": [T, T - 2]}], ids=["all", "lengths"])
@loop_over("reverse", [False, True])
def test_parts_under_interventions_add_up_to_the_gradient_of_the_trace(name, options, reverse):
    rng = np.random.default_rng(4)
    lstm = gc.LSTM(I, H, bidirectional=True, dtype=np.float64)
    lstm.parameters.vector[:] = rng.normal(0, 0.7, lstm.parameters.vector.shape)
    x, y = rng.normal(size=(2, T, I)), rng.normal(size=(2, T, 2 * H))
    with explain.intervene(lstm, *UNDER[name]):
        trace = lstm.trace(x, y, **options)
        flow = explain.gradient_flow(lstm, x, y, layer=int(reverse), crossings=2, **options)
    layer = trace.layer[int(reverse)]
    np.testing.assert_allclose(flow.whole_c, np.nan_to_num(layer.value("d_c")), rtol=0, atol=1e-13)
    np.testing.assert_allclose(flow.c.sum(axis=1), flow.whole_c, rtol=0, atol=1e-13)
    np.testing.assert_allclose(flow.x.sum(axis=1), flow.whole_x, rtol=0, atol=1e-13)
    if name == "cut":
        assert not flow.c[:, 1:].any()
    else:
        assert np.abs(flow.c[:, 1:]).max() > 1e-3


def test_the_part_along_the_cells_has_the_forget_gates_that_acted():
    rng = np.random.default_rng(5)
    lstm = gc.LSTM(I, H, dtype=np.float64)
    x, y = rng.normal(size=(T, I)), rng.normal(size=(T, H))
    with explain.intervene(lstm, explain.Intervention("f", scale=0.5), explain.Intervention("o", add=0.2, steps=[1])):
        layer = lstm.trace(x, y).layer[0]
        flow = explain.gradient_flow(lstm, x, y)
        sources = explain.gradient_sources(lstm, x, y)
    expected, running = np.zeros((T, H)), np.zeros(H)
    for t in reversed(range(T)):
        running = running + layer.d_y[t] * layer.o[t] * (1 - np.tanh(layer.c[t]) ** 2)
        expected[t] = running
        running = running * layer.f[t]
    np.testing.assert_allclose(flow.c[0], expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(sources.shares.sum(axis=0), 1, rtol=0, atol=1e-12)


def test_a_trace_under_an_intervention_raises_one_clear_error():
    lstm = lstm_of("standard")
    with explain.intervene(lstm, explain.Intervention("f", scale=0.5)):
        trace = lstm.trace(np.ones((T, I)), np.ones((T, H)))
    for call in (explain.gradient_flow, explain.gradient_sources):
        with pytest.raises(ValueError, match="gradient flow of a trace must be of a layer without interventions"):
            call(trace)
    with pytest.raises(ValueError, match="gradient flow of a trace must be of a layer without interventions"):
        explain.split_by_crossings(trace.layer[0])
