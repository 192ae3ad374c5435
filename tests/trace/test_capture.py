"""Laws: traced quantities satisfy their equations in every kind of model; gradients equal finite differences."""

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.core.cell import step, step_backward
from glasscell.trace.layer_trace import LayerTrace, TracedQuantity
from glasscell.trace.trace import Trace

KINDS = {
    "plain": {},
    "stacked": {"num_layers": 2},
    "both directions": {"bidirectional": True, "num_layers": 2},
    "summed": {"bidirectional": True, "merge": "sum"},
    "reverse": {"reverse": True},
    "peepholes": {"peepholes": True, "proj_size": 3},
    "coupled": {"coupled": "input", "zoneout": 0.2, "zoneout_cell": 0.1},
    "no forget gate": {"forget_gate": False, "peepholes": True},
    "haste": {"layer_norm": "haste", "num_layers": 2},
    "contrib": {"layer_norm": "contrib", "coupled": "forget"},
    "tflite": {"layer_norm": "tflite", "peepholes": True, "clip": 2.0},
}
I, H, T = 3, 5, 6


def model_of(kind, rng):
    lstm = gc.LSTM(I, H, dtype=np.float64, **KINDS[kind])
    lstm.parameters.vector[:] = rng.normal(size=lstm.parameters.vector.size) * 0.6
    return lstm


def traced(kind, rng, **given):
    lstm = model_of(kind, rng)
    x, y = rng.normal(size=(T, I)), rng.normal(size=(T, lstm.output_size))
    return lstm, x, y, lstm.trace(x, y, **given)


def slope(f, at, direction, step=1e-4):
    """The derivative in a direction, by central differences of fourth order."""
    near, far = (f(at + k * direction) - f(at - k * direction) for k in (step, 2 * step))
    return (8 * near - far) / (12 * step)


def test_every_symbol_of_a_standard_layer_is_that_of_the_reference_cell(rng):
    lstm, x, y, trace = traced("plain", rng)
    [layer], W, d_y = trace.layer, lstm.parameters["kernel_l0"], 2 * (trace.outputs - y) / y.size
    h, c, steps = np.zeros((H, 1)), np.zeros((H, 1)), []
    for t in range(T):
        steps.append(step(W, x[t][:, None], h, c))
        h, c = steps[-1].h, steps[-1].c
        np.testing.assert_allclose(layer.z[t], (W @ steps[-1].u)[:, 0], atol=1e-12)
        for name in ("c_prev", "i", "f", "o", "g", "c", "tanh_c", "h"):
            np.testing.assert_allclose(layer.value(name)[t], getattr(steps[-1], name)[:, 0], atol=1e-12, err_msg=name)
        np.testing.assert_allclose(np.concatenate([layer.h_prev[t], layer.x[t], [1]]), steps[-1].u[:, 0], atol=1e-12)
    dh, dc = np.zeros((H, 1)), np.zeros((H, 1))
    for t in reversed(range(T)):
        d_h = dh + d_y[t][:, None]
        back = step_backward(W, steps[t], d_h, dc)
        expected = {"d_y": d_y[t], "d_h": d_h, "d_tanh_c": d_h * steps[t].o, "d_z": back.dz, "d_x": back.dx}
        expected |= {f"d_{name}": getattr(back, f"d{name}") for name in "cifog"}
        assert {name for name in layer.names if name.startswith("d_")} == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(layer.value(name)[t], value.ravel(), atol=1e-12, err_msg=f"{name} at {t}")
        dh, dc = back.dh_prev, back.dc_prev


@loop_over("kind", KINDS)
def test_outputs_loss_and_input_gradients_are_the_models(kind, rng):
    lstm, x, y, trace = traced(kind, rng)
    outputs, _, tape = lstm.forward(x)
    np.testing.assert_array_equal(trace.outputs, outputs)
    assert trace.loss == pytest.approx(((outputs - y) ** 2).mean(), rel=1e-12)
    dx, _, _ = lstm.backward(tape, 2 * (outputs - y) / y.size)
    np.testing.assert_allclose(trace.d_x, dx, atol=1e-14)
    if not lstm.options.bidirectional:
        np.testing.assert_allclose(trace.layer[0].d_x, dx, atol=1e-14)


@loop_over("kind", KINDS)
def test_gradients_are_finite_differences(kind, rng):
    """Of the loss in its inputs; and d_z is what the slope of each activation makes of the gradient on its gate."""
    lstm, x, y, trace = traced(kind, rng)

    def loss(inputs):
        return ((lstm.infer(inputs)[0] - y) ** 2).mean()

    direction = rng.normal(size=x.shape)
    np.testing.assert_allclose((trace.d_x * direction).sum(), slope(loss, x, direction), atol=1e-7)
    for layer in trace.layer:
        for gate in layer.gates:
            function = layer.options.cell_config.activation_for(gate)
            z, a = layer.gate("z", gate), layer.value(gate)
            expected = function.derivative(z, a) * layer.value(f"d_{gate}")
            if layer.options.clip is not None:
                expected = expected * (np.abs(z) < layer.options.clip)
            np.testing.assert_allclose(layer.gate("d_z", gate), expected, atol=1e-14)


@loop_over("t", range(T - 1))
@loop_over("kind", ["plain", "peepholes", "coupled", "no forget gate", "contrib", "tflite", "reverse"])
def test_the_gradient_on_h_includes_all_later_losses(kind, t, rng):
    lstm, x, y, trace = traced(kind, rng)
    [layer], order = trace.layer, -1 if lstm.options.reverse else 1
    h, c = layer.h[::order][t][None], layer.c[::order][t][None]
    later_x, later_y = (sequence[::order][t + 1 :][::order] for sequence in (x, y))

    def later(h):
        return ((lstm.infer(later_x, gc.LSTMState(h, c))[0] - later_y) ** 2).sum() / y.size

    direction = rng.normal(size=h.shape)
    through_the_next_step = (layer.d_h - layer.d_y)[::order][t] @ direction[0]
    assert through_the_next_step == pytest.approx(slope(later, h, direction), abs=1e-7)


@pytest.mark.parametrize("kind", ["plain", "stacked", "peepholes", "both directions"])
def test_gradients_on_gates_are_those_on_the_cell_times_their_partners(kind, rng):
    for layer in traced(kind, rng)[-1].layer:
        for gate, partner in (("i", layer.g), ("f", layer.c_prev), ("g", layer.i)):
            np.testing.assert_allclose(layer.value(f"d_{gate}"), layer.d_c * partner, atol=1e-14)
        np.testing.assert_allclose(layer.d_o * layer.o, layer.d_tanh_c * layer.tanh_c, atol=1e-14)


@pytest.mark.parametrize("kind", ["plain", "both directions", "peepholes", "reverse"])
def test_a_sequence_of_a_batch_equals_its_single_trace(kind, rng):
    lstm = model_of(kind, rng)
    x, y, lengths = rng.normal(size=(3, T, I)), rng.normal(size=(3, T, lstm.output_size)), [T, 2, 0]
    batch = lstm.trace(x, y, lengths=lengths)
    for b, n in enumerate(lengths):
        one, alone = batch.sequence(b), lstm.trace(x[b], d_outputs=batch.d_outputs[b], lengths=n)
        assert one.axes == alone.axes == "T"
        np.testing.assert_array_equal(one.x, x[b, :n])
        for layer, own in zip(one.layer, alone.layer, strict=True):
            for name in layer.names:
                assert len(layer.value(name)) == n
                np.testing.assert_allclose(layer.value(name), own.value(name), atol=1e-13, err_msg=f"{b} {name}")
    assert np.isnan(batch.layer[0].f[1, 2:]).all()
    with pytest.raises(ValueError, match="choose trace"):
        batch.require_single_sequence()
    with pytest.raises(IndexError, match="sequence must be from -3 to 2, got 3"):
        batch.sequence(3)


def test_a_mask_with_gaps_selects_the_valid_steps(rng):
    lstm = model_of("both directions", rng)
    x, mask = rng.normal(size=(T, I)), np.array([True, False, True, True, False, True])
    with_gaps, without = lstm.trace(x, mask=mask), lstm.trace(x[mask])
    for layer, own in zip(with_gaps.layer, without.layer, strict=True):
        np.testing.assert_allclose(layer.c, own.c, atol=1e-14)
    np.testing.assert_array_equal(with_gaps.x, x[mask])


def test_slices_steps_and_units(rng):
    _, x, _, trace = traced("stacked", rng)
    layer = trace.layer[1]
    np.testing.assert_array_equal(trace[2].layer[1].f, layer.f[2])
    np.testing.assert_array_equal(trace[-1].outputs, trace.outputs[-1])
    np.testing.assert_array_equal(trace[1:4].layer[1].d_z, layer.d_z[1:4])
    np.testing.assert_array_equal(trace[1:4].x, x[1:4])
    unit = trace.unit(3)
    np.testing.assert_array_equal(unit.c, layer.c[:, 3])
    np.testing.assert_array_equal(unit.d_c[2:], layer.d_c[2:, 3])
    np.testing.assert_array_equal(unit.z, layer.z[:, [3, 3 + H, 3 + 2 * H, 3 + 3 * H]])
    np.testing.assert_array_equal(trace.unit(-1, layer=0)[2].g, trace.layer[0].g[2, -1])
    with pytest.raises(ValueError, match="got one step"):
        trace[2].require_single_sequence()
    with pytest.raises(ValueError, match="must have a time axis"):
        trace[2][0]


@loop_over(
    ("do", "error", "message"),
    [
        (lambda t: t[T], IndexError, "step must be from -6 to 5, got 6"),
        (lambda t: t[-T - 1], IndexError, "got -7"),
        (lambda t: t["f"], TypeError, "step must be an integer"),
        (lambda t: t.unit(H), IndexError, "unit must be from -5 to 4, got 5"),
        (lambda t: t.unit(0, layer=1), IndexError, "layer must be from -1 to 0, got 1"),
        (lambda t: t.layer[0].value("q"), ValueError, "symbol must be one of x, h_prev"),
        (lambda t: t.sequence(0), ValueError, "needs the trace of a batch"),
        (lambda t: t.layer[0].gate("z", "c"), ValueError, "i, f, o, g"),
    ],
)
def test_invalid_indices_raise_an_error(do, error, message, rng):
    trace = traced("plain", rng)[-1]
    with pytest.raises(error, match=message):
        do(trace)


def test_gradients_need_a_target(rng):
    trace = model_of("plain", rng).trace(rng.normal(size=(T, I)))
    assert (trace.has_gradients, trace.layer[0].has_gradients, trace.loss) == (False, False, None)
    with pytest.raises(ValueError, match="needs a target"):
        trace.layer[0].d_f  # noqa: B018
    coupled = traced("coupled", rng)[-1]
    for layer in (coupled.layer[0], traced("no forget gate", rng)[-1].layer[0]):
        with pytest.raises(ValueError, match="d_f does not exist: the gate f has no weights in this LSTM"):
            layer.d_f  # noqa: B018


@loop_over(
    ("given", "error", "message"),
    [
        ({"y": np.zeros((T, H + 1))}, ValueError, r"y must have shape \(6, 5\) .* got \(6, 6\)"),
        ({"y": np.full((T, H), np.nan)}, ValueError, "y must be finite"),
        ({"y": np.zeros((T, H)), "d_outputs": np.zeros((T, H))}, ValueError, "must not both be passed"),
        ({"weights": np.ones(T)}, ValueError, "weights must be passed with y"),
        ({"y": np.zeros((T, H)), "weights": np.ones((2, 2))}, ValueError, "weights must broadcast to"),
        ({"y": np.zeros((T, H)), "loss": "hinge"}, ValueError, "loss must be one of 'squared_error', .* got 'hinge'"),
        ({"y": np.zeros(T), "loss": "categorical_cross_entropy"}, TypeError, "class numbers"),
        ({"d_outputs": np.zeros((T, 2))}, ValueError, "d_outputs must have shape"),
        ({"tittle": "x"}, TypeError, "metadata of trace.. must be one of title, input_names"),
    ],
)
def test_invalid_arguments_raise_an_error(given, error, message, rng):
    lstm = model_of("plain", rng)
    with pytest.raises(error, match=message):
        lstm.trace(rng.normal(size=(T, I)), **given)


@pytest.mark.parametrize("shape", [(), (H,), (T, 1), (2, 1, 1), (2, T, H)])
def test_weights_of_any_shape_are_sliced_like_targets(shape, rng):
    weights, y = rng.random(shape), rng.normal(size=(2, T, H))
    trace = model_of("plain", rng).trace(rng.normal(size=(2, T, I)), y, weights=weights)
    every = np.broadcast_to(weights, y.shape)
    np.testing.assert_array_equal(trace.sequence(1).weights, every[1])
    np.testing.assert_array_equal(trace[1:].sequence(0)[0].weights, every[0, 1])


def test_a_slice_is_not_a_copy_task():
    trace = gc.CopyLSTM(4).trace([1, 0])
    assert "copy" in trace.about
    assert "copy" not in trace[1:].about


def test_a_trace_is_read_only_and_independent_of_later_passes(rng):
    lstm, x, _, trace = traced("plain", rng)
    before = trace.layer[0].c.copy()
    with pytest.raises(ValueError, match="read-only"):
        trace.layer[0].c[:] = 0
    lstm.forward(x + 1)
    lstm.parameters.vector[:] = 0
    np.testing.assert_array_equal(trace.layer[0].c, before)
    np.testing.assert_allclose(trace.layer[0].z[0], trace.layer[0].weights["kernel"] @ [*[0] * H, *x[0], 1], atol=1e-12)


def test_the_copy_model_defines_its_targets():
    model, bits = gc.CopyLSTM(16, dtype=np.float64, seed=3), [1, 0, 1, 1]
    batch, trace = model.task.make_batch([[bits]], np.float64), model.trace([1, 0, 1, 1])
    np.testing.assert_array_equal(trace.x, batch.inputs[0])
    assert trace.loss == pytest.approx(model.evaluate(batch)["loss"], rel=1e-12)
    assert trace.about["copy"] == {"mode": "recall", "bits_per_step": 1, "bits": "1011"}
    same = model.trace(batch.inputs[0], batch.targets[0], weights=batch.weights[0])
    np.testing.assert_allclose(same.layer[0].d_z, trace.layer[0].d_z, atol=1e-15)
    with pytest.raises(ValueError, match="x is bits: the task makes the targets"):
        model.trace(bits, y=bits)
    with pytest.raises(ValueError, match="0 and 1"):
        model.trace([0, 1, 2])


def test_a_stack_of_layers(rng):
    f8 = np.float64
    layers = [gc.Embedding(7, 3, dtype=f8), gc.LSTM(3, 4, dtype=f8), gc.LSTM(4, 5, dtype=f8)]
    model = gc.Sequential([*layers, gc.Linear(5, 7, dtype=np.float64)], ["e", "a", "b", "head"])
    x, y = rng.integers(7, size=T), rng.integers(7, size=T)
    trace = model.trace(x, y, loss="categorical_cross_entropy", step_names=list("abcdef"))
    assert [layer.name for layer in trace.layer] == ["a l0", "b l0"]
    assert trace.d_x is None
    np.testing.assert_array_equal(trace.layer[1].x, trace.layer[0].h)
    np.testing.assert_allclose(trace.layer[0].d_y, trace.layer[1].d_x, atol=1e-15)
    np.testing.assert_allclose(
        trace.outputs, trace.layer[1].h @ trace.readout.weight.T + trace.readout.bias, atol=1e-14
    )
    assert trace[1:3].about["step_names"] == ["b", "c"]
    with pytest.raises(ValueError, match="no LSTM in this model"):
        gc.Sequential([gc.Linear(3, 2)]).trace(np.zeros((4, 3)))


def test_outputs_without_a_time_axis_are_unchanged(rng):
    layers = gc.layers
    model = gc.Sequential([gc.LSTM(I, H, dtype=np.float64), layers.FinalState(), gc.Linear(H, 2, dtype=np.float64)])
    trace = model.trace(rng.normal(size=(T, I)), [0.5, 1.0])
    assert trace.outputs.shape == trace[2:4].outputs.shape == trace[2].targets.shape == (2,)
    assert (np.abs(trace.layer[0].d_y[:-1]) == 0).all()
    batch = model.trace(rng.normal(size=(3, T, I)), rng.normal(size=(3, 2)), lengths=[2, T, 4])
    assert batch.sequence(0).outputs.shape == (2,)


def test_models_without_gates_on_the_tape_raise_an_error(rng):
    lstm = gc.LSTM(I, H, recompute_every=2)
    with pytest.raises(ValueError, match="gates are not kept with recompute_every"):
        lstm.trace(rng.normal(size=(T, I)))


@loop_over("kind", KINDS)
def test_a_saved_trace_is_loaded_unchanged(kind, rng, tmp_path):
    trace = traced(kind, rng, title="a <b>", input_names=["a", "b", "c"])[-1]
    trace.save(tmp_path / "trace.safetensors")
    back = Trace.load(tmp_path / "trace.safetensors")
    assert (back.about, back.loss, back.axes) == (trace.about, trace.loss, trace.axes)
    for layer, own in zip(back.layer, trace.layer, strict=True):
        assert (layer.name, layer.options, layer.reverse, {*layer.names}) == (
            *(own.name, own.options, own.reverse),
            {*own.names},
        )
        for name in own.names:
            np.testing.assert_array_equal(layer.value(name), own.value(name))
    assert back.equations(2, 1).text == trace.equations(2, 1).text
    np.testing.assert_array_equal(back[1:3].outputs, trace.outputs[1:3])


def test_files_that_are_not_traces_raise_an_error(tmp_path):
    gc.CopyLSTM(4).save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="is not a trace that Glasscell saved"):
        Trace.load(tmp_path / "model.safetensors")
    (tmp_path / "broken").write_bytes(b"no")
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        Trace.load(tmp_path / "broken")


def test_to_dict_has_everything_and_shares_nothing(rng):
    trace = traced("stacked", rng)[-1]
    everything = trace.to_dict()
    assert {"x", "outputs", "targets", "d_outputs", "d_x", "loss", "layers", "about"} == everything.keys()
    np.testing.assert_array_equal(everything["layers"][1]["d_f"], trace.layer[1].d_f)
    everything["layers"][1]["f"][:] = 9
    assert (trace.layer[1].f != 9).all()


def test_every_symbol_has_its_equation():
    symbols = {name: symbol for name, symbol in vars(LayerTrace).items() if isinstance(symbol, TracedQuantity)}
    assert len(symbols) == 21
    assert all(symbol.__doc__ and "(T, " in symbol.__doc__ for symbol in symbols.values())


def test_the_repr_is_short(rng):
    trace = traced("both directions", rng, title="a model")[-1]
    assert repr(trace) == f"Trace(a model: l0 6×5, l0_reverse 6×5, l1 6×5, l1_reverse 6×5, loss {trace.loss:.4g})"
    assert repr(trace.layer[0]).startswith("LayerTrace('l0', 6×5: x, h_prev, c_prev, z, i")


def test_steps_of_a_sequence_keep_their_names(rng):
    lstm, names = model_of("plain", rng), list("abcdef")
    batch = lstm.trace(rng.normal(size=(2, T, I)), lengths=[4, T], step_names=names)
    assert batch.sequence(0).about["step_names"] == names[:4]
    mask = np.array([True, False, True, True, False, True])
    assert lstm.trace(rng.normal(size=(T, I)), mask=mask, step_names=names).about["step_names"] == list("acdf")


@pytest.mark.parametrize(("key", "size"), [("input_names", I), ("output_names", H), ("step_names", T)])
def test_the_number_of_names_is_checked(key, size, rng):
    with pytest.raises(ValueError, match=f"{key} must have {size} names, got 2"):
        model_of("plain", rng).trace(rng.normal(size=(T, I)), **{key: ["a", "b"]})


def test_a_mask_of_a_single_sequence_may_be_a_list(rng):
    model, x = gc.LSTM(3, 4, seed=0), rng.normal(size=(T, 3))
    mask = [True, False, True, True, False, True]
    trace, expected = (model.trace(x, np.zeros((T, 4)), mask=m) for m in (mask, np.array(mask)))
    assert trace.T == 4
    np.testing.assert_array_equal(trace.layer[0].d_c, expected.layer[0].d_c)
