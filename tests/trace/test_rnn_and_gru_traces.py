"""Law: a trace of an RNN or a GRU has every quantity of its equations, and its gradients are those of backward."""

import copy
import json
import pickle
import re

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell import checkpoint
from glasscell.checkpoint import HEADER_KEY
from glasscell.core.activations import sigmoid
from glasscell.tensor_files import encode
from glasscell.trace import figures, terminal
from glasscell.trace.display import symbol_name

B, T, I, H = 3, 7, 2, 4
CELLS = {
    "tanh": (gc.RNN, {}),
    "relu": (gc.RNN, {"nonlinearity": "relu"}),
    "gru": (gc.GRU, {}),
    "gru of the paper": (gc.GRU, {"reset_after": False}),
    "no bias": (gc.GRU, {"bias": False}),
}
WITHIN = 1e-12


def layer_of(cell, rng, **options):
    kind, cell_options = CELLS[cell]
    layer = kind(I, H, **cell_options, **options, dtype=np.float64)
    layer.parameters.vector[:] = rng.normal(size=layer.parameters.vector.size)
    return layer


def check_forward(traced):
    """The equations, from the recorded inputs, previous states and weights."""
    W = traced.weights["kernel"]
    u = np.concatenate([traced.h_prev, traced.x, np.ones((T, 1))], axis=1)
    if isinstance(traced.options.config.get("nonlinearity", ""), str) and traced.options.kind == "RNN":
        np.testing.assert_allclose(traced.z, u @ W.T, atol=WITHIN)
        relu = traced.options.config.get("nonlinearity") == "relu"
        np.testing.assert_allclose(traced.h, np.maximum(traced.z, 0) if relu else np.tanh(traced.z), atol=WITHIN)
        return
    a_r, a_z, a_n = (traced.gate("a", gate) for gate in "rzn")
    np.testing.assert_allclose(a_r, u @ W[:H].T, atol=WITHIN)
    np.testing.assert_allclose(a_z, u @ W[H : 2 * H].T, atol=WITHIN)
    np.testing.assert_allclose(traced.r, sigmoid(a_r), atol=WITHIN)
    np.testing.assert_allclose(traced.z, sigmoid(a_z), atol=WITHIN)
    np.testing.assert_allclose(traced.n, np.tanh(a_n), atol=WITHIN)
    inputs = u[:, H:] @ W[2 * H :, H:].T
    if "recurrent_bias" in traced.weights:
        np.testing.assert_allclose(
            traced.q, traced.h_prev @ W[2 * H :, :H].T + traced.weights["recurrent_bias"], atol=WITHIN
        )
        np.testing.assert_allclose(a_n, inputs + traced.r * traced.q, atol=WITHIN)
    else:
        np.testing.assert_allclose(traced.q, traced.r * traced.h_prev, atol=WITHIN)
        np.testing.assert_allclose(a_n, inputs + traced.q @ W[2 * H :, :H].T, atol=WITHIN)
    np.testing.assert_allclose(traced.h, (1 - traced.z) * traced.n + traced.z * traced.h_prev, atol=WITHIN)


def check_backward(traced, kernel_gradient):
    """The chain rule from step to step, and the gradient on the weights as the sum over steps."""
    W = traced.weights["kernel"]
    steps = slice(None, None, -1) if traced.reverse else slice(None)
    d_h, d_y = traced.d_h[steps], traced.d_y[steps]
    if traced.options.kind == "RNN":
        d_rows, through = traced.d_z, (traced.d_z @ W[:, :H])[steps]
    else:
        d_rows = traced.d_a
        np.testing.assert_allclose(traced.d_n, traced.d_h * (1 - traced.z), atol=WITHIN)
        np.testing.assert_allclose(traced.d_z, traced.d_h * (traced.h_prev - traced.n), atol=WITHIN)
        np.testing.assert_allclose(traced.gate("d_a", "n"), traced.d_n * (1 - traced.n**2), atol=WITHIN)
        np.testing.assert_allclose(traced.gate("d_a", "z"), traced.d_z * traced.z * (1 - traced.z), atol=WITHIN)
        np.testing.assert_allclose(traced.gate("d_a", "r"), traced.d_r * traced.r * (1 - traced.r), atol=WITHIN)
        after = "recurrent_bias" in traced.weights
        through = traced.d_h * traced.z + traced.d_a[:, : 2 * H] @ W[: 2 * H, :H]
        if after:
            np.testing.assert_allclose(traced.d_q, traced.gate("d_a", "n") * traced.r, atol=WITHIN)
            np.testing.assert_allclose(traced.d_r, traced.gate("d_a", "n") * traced.q, atol=WITHIN)
            through = through + traced.d_q @ W[2 * H :, :H]
        else:
            np.testing.assert_allclose(traced.d_q, traced.gate("d_a", "n") @ W[2 * H :, :H], atol=WITHIN)
            np.testing.assert_allclose(traced.d_r, traced.d_q * traced.h_prev, atol=WITHIN)
            through = through + traced.d_q * traced.r
        through = through[steps]
    np.testing.assert_allclose(d_h[:-1], d_y[:-1] + through[1:], atol=WITHIN)
    np.testing.assert_allclose(d_h[-1], d_y[-1], atol=WITHIN)
    inputs = d_rows.T @ traced.x
    np.testing.assert_allclose(kernel_gradient[:, H : H + traced.x.shape[1]], inputs, atol=10 * WITHIN)
    np.testing.assert_allclose(traced.d_x, d_rows @ W[:, H:-1], atol=WITHIN)


@loop_over("stack", [{}, {"num_layers": 2, "bidirectional": True}], ids=["", "stack"])
@loop_over("cell", CELLS)
def test_every_quantity_satisfies_its_equation(cell, stack, rng):
    layer = layer_of(cell, rng, **stack)
    model = gc.Sequential([layer, gc.Linear(layer.output_size, 2, dtype=np.float64)], names=["cell", "head"])
    x, y = rng.normal(size=(T, I)), rng.normal(size=(T, 2))
    trace = model.trace(x, y)
    outputs, _, tape = model.forward(x)
    _, _, gradients = model.backward(tape, trace.d_outputs)
    np.testing.assert_array_equal(trace.outputs, outputs)
    assert len(trace.layer) == len(layer.directions)
    for traced, direction in zip(trace.layer, layer.directions, strict=True):
        assert traced.name == direction.suffix[1:]
        check_forward(traced)
        check_backward(traced, gradients[f"cell.kernel{direction.suffix}"])
    last = np.concatenate([traced.h for traced in trace.layer[-(2 if layer.bidirectional else 1) :]], axis=1)
    np.testing.assert_allclose(last @ trace.readout.weight.T + trace.readout.bias, outputs, atol=WITHIN)


@pytest.mark.parametrize("cell", CELLS)
def test_the_equations_of_a_step_have_its_numbers(cell, rng):
    layer = layer_of(cell, rng)
    trace = layer.trace(rng.normal(size=(T, I)), rng.normal(size=(T, H)))
    for t, k in ((0, 0), (3, 2), (-1, -1)):
        equations = trace.equations(t, k)
        assert {e.left for e in equations.forward} >= ({"z", "h"} if "gru" not in cell and cell != "no bias" else {"r"})
        for e in equations.forward + equations.backward:
            text = e.numbers.replace("−", "-").replace("·", "*").replace("²", "**2")
            for name, function in (("σ", "sigmoid"), ("tanh", "np.tanh")):
                text = text.replace(f"{name}(", f"{function}(")
            value = eval(text, {"np": np, "sigmoid": sigmoid, "max": max})  # noqa: S307 - arithmetic made here
            assert value == pytest.approx(e.value, rel=2e-2, abs=2e-3), e
            gate = re.fullmatch(r"(d_)?a_(.)", e.left)
            array = trace.layer[0].gate(f"{gate[1] or ''}a", gate[2]) if gate else trace.layer[0].value(e.left)
            assert e.value == pytest.approx(array[t, k])
        for rendered in (equations.latex, equations.html):
            assert not any(symbol in rendered for symbol in ("_prev", "d_h", "d_a", "the_rest"))
    assert not layer.trace(rng.normal(size=(T, I))).equations(1, 1).backward


@pytest.mark.parametrize("cell", CELLS)
def test_batches_padding_and_states(cell, rng):
    layer = layer_of(cell, rng, num_layers=2, bidirectional=True)
    x, y = rng.normal(size=(B, T, I)), rng.normal(size=(B, T, 2 * H))
    state = gc.RNNState(rng.normal(size=(4, B, H)))
    trace = layer.trace(x, y, lengths=[T, 3, 0], state=state)
    alone = layer.trace(x[1, :3], d_outputs=trace.d_outputs[1, :3], state=gc.RNNState(state.h[:, 1]))
    for traced, one in zip(trace.sequence(1).layer, alone.layer, strict=True):
        assert np.isnan(trace.layer[0].h[1, 3:]).all()
        for name in traced.names:
            np.testing.assert_allclose(traced.value(name), one.value(name), atol=1e-11)
    unit = alone.unit(2)
    np.testing.assert_array_equal(unit.h, alone.layer[-1].h[:, 2])
    np.testing.assert_array_equal(alone[1].layer[0].h, alone.layer[0].h[1])
    np.testing.assert_array_equal(alone[1:].layer[0].d_h, alone.layer[0].d_h[1:])


@pytest.mark.parametrize("cell", CELLS)
def test_files_and_copies(cell, rng, tmp_path):
    layer = layer_of(cell, rng, num_layers=2, dropout=0.3)
    model = gc.Sequential([gc.LSTM(I, I, dtype=np.float64), layer, gc.Linear(H, 2, dtype=np.float64)])
    trace = model.trace(rng.normal(size=(B, T, I)), rng.normal(size=(B, T, 2)), lengths=[T, 2, 5])
    trace.save(tmp_path / "trace.safetensors")
    unpickled = pickle.loads(pickle.dumps(trace))  # noqa: S301 - made here
    for other in (gc.load(tmp_path / "trace.safetensors"), unpickled, copy.deepcopy(trace)):
        for a, b in zip(other.layer, trace.layer, strict=True):
            assert (type(a), a.name, {*a.names}) == (type(b), b.name, {*b.names})
            assert a.options == b.options
            for name in a.names:
                np.testing.assert_array_equal(a.value(name), b.value(name))


def test_a_changed_file_raises_an_error(tmp_path, rng):
    path = tmp_path / "trace.safetensors"
    gc.GRU(I, H).trace(rng.normal(size=(T, I))).save(path)
    header, arrays = checkpoint.read_with_header(path)
    changes = [
        {"kind": "LSTMP"},
        {"hidden_size": H + 1},
        {"hidden_size": -1},
        {"num_layers": 10**9},
        {"bidirectional": True},
        {"reset_after": False},
        {"reset_after": 1},
        {"zoneout": 0.5},
    ]
    for change in changes:
        other = json.loads(json.dumps(header))
        del other["checksum"]
        other["layers"][0]["options"] |= change
        path.write_bytes(encode(HEADER_KEY, other, arrays))
        with pytest.raises(ValueError, match="is not a trace that Glasscell saved"):
            gc.load(path)


@pytest.mark.parametrize("cell", CELLS)
def test_views_support_it_or_raise_one_error(cell, rng, tmp_path):
    pytest.importorskip("matplotlib").use("Agg")
    layer = layer_of(cell, rng)
    trace = layer.trace(rng.normal(size=(T, I)), rng.normal(size=(T, H)))
    text = terminal.render(trace, color=False, width=120)
    assert "h: hidden state" in text
    assert "|dL/dh|" in text
    if CELLS[cell][0] is gc.GRU:
        assert "z: update gate" in text
        assert "a_r" in terminal.render(trace, symbols=["a_r", "d_z"], width=120)
        names = trace.layer[0].symbol_names
        assert symbol_name("d_a_r", names) == "gradient on the pre-activation of the reset gate"
    trace.plot().savefig(tmp_path / "plot.png")
    figures.gradient_flow(trace)
    kind = type(layer).__name__
    with pytest.raises(ValueError, match=rf"a report needs LSTMs, got {kind}Trace"):
        trace.report(tmp_path / "report.html")
    assert trace._repr_html_() is None
    for view in (figures.half_lives, figures.cell_traces, figures.gradient_decay):
        with pytest.raises(ValueError, match=rf"symbol must be one of .* of an? {kind}, got"):
            view(trace)
    with pytest.raises(ValueError, match="d_h needs a target"):
        _ = layer.trace(rng.normal(size=(T, I))).layer[0].d_h


def test_the_saturation_of_a_gru_has_its_gates_and_an_rnn_has_none(rng):
    pytest.importorskip("matplotlib")
    x = rng.normal(size=(5, 3))
    ax = figures.saturation(gc.GRU(3, 4, seed=0).trace(x))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["reset gate $r$", "update gate $z$"]
    with pytest.raises(ValueError, match="layer must have gates"):
        figures.saturation(gc.RNN(3, 4, seed=0).trace(x))


def test_a_recorder_has_the_symbols_of_a_gru(rng, tmp_path):
    x = rng.normal(size=(5, 3))
    recorder = gc.TraceRecorder(x, np.zeros((5, 4)), symbols=["z", "h"])
    gru = gc.GRU(3, 4, seed=0)
    recorder.capture_frame(gru)
    (frame,) = recorder.frames
    trace = gru.trace(x, np.zeros((5, 4)))
    np.testing.assert_array_equal(frame.values["z"], trace.layer[0].z)
    np.testing.assert_allclose(frame.norms["h"], np.linalg.norm(trace.layer[0].d_h, axis=1), rtol=1e-6)
    recorder.report(tmp_path / "film.html")
    assert '"name":"update gate"' in (tmp_path / "film.html").read_text("utf-8")


@pytest.mark.parametrize("kind", [gc.RNN, gc.GRU, gc.LSTM])
def test_a_recorder_follows_the_training_of_a_single_layer(kind, rng):
    x, y = rng.normal(size=(6, 5, 3)), np.zeros((6, 5, 4))
    recorder, layer = gc.TraceRecorder(x[0], y[0], every=2, symbols=["h"]), kind(3, 4)
    gc.fit(layer, (x, y), updates=4, loss="squared_error", callbacks=[recorder])
    assert [frame.update for frame in recorder.frames] == [1, 2, 4]
    np.testing.assert_array_equal(recorder.frames[-1].values["h"], layer.trace(x[0]).layer[0].h)
