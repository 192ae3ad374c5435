"""Laws: a payload equals the trace, bit for bit; values that do not fit are omitted with a note."""

import json
from base64 import b64decode

import numpy as np
import pytest

import glasscell as gc
from glasscell.trace.diagnostics import gradient_paths
from glasscell.trace.html_report import payload as payloads
from glasscell.trace.html_report.payload import payload_of


def read(array):
    dtype = {"float32": "<f4", "float64": "<f8"}[array["type"]]
    return np.frombuffer(b64decode(array["data"]), dtype).reshape(array["shape"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_live_page_gets_weights_inputs_and_targets(dtype):
    model = gc.CopyLSTM(8, num_layers=2, dtype=dtype)
    trace = model.trace([1, 0, 1])
    payload = json.loads(json.dumps(payload_of(trace)))
    assert (payload["live"], payload["static"], payload["outputs"], payload["notes"]) == (True, None, None, [])
    assert payload["copy"] == {"mode": "recall", "bits_per_step": 1, "bits": "101"}
    for k, layer in enumerate(payload["layers"]):
        [direction] = layer["directions"]
        np.testing.assert_array_equal(read(direction["kernel"]), model.lstm.parameters[f"kernel_l{k}"])
        np.testing.assert_array_equal(read(direction["h0"]), np.zeros(8))
        assert (direction["name"], layer["hidden_size"], layer["input_size"]) == (f"l{k}", 8, 8 if k else 2)
    for name, expected in (("x", trace.x), ("targets", trace.targets), ("weights", trace.weights[:, 0])):
        np.testing.assert_array_equal(read(payload[name]), expected)
    assert payload["input_names"] == ["bit", "delimiter"]
    assert payload["unit_measures"].keys() == {"l0", "l1"}


def test_a_bidirectional_layer_has_two_directions(rng):
    lstm = gc.LSTM(3, 4, 2, bidirectional=True, merge="sum", learn_initial_state=True)
    lstm.parameters.vector[:] = rng.normal(size=lstm.parameters.vector.size)
    payload = payload_of(lstm.trace(rng.normal(size=(5, 3)), d_outputs=np.ones((5, 4))))
    assert [[direction["name"] for direction in layer["directions"]] for layer in payload["layers"]] == [
        ["l0", "l0_reverse"],
        ["l1", "l1_reverse"],
    ]
    assert {layer["merge"] for layer in payload["layers"]} == {"sum"}
    for suffix, direction in (
        ("_l1", payload["layers"][1]["directions"][0]),
        ("_l0_reverse", payload["layers"][0]["directions"][1]),
    ):
        np.testing.assert_array_equal(read(direction["h0"]), lstm.parameters[f"initial_h{suffix}"])
        np.testing.assert_array_equal(read(direction["c0"]), lstm.parameters[f"initial_c{suffix}"])
    assert (payload["loss"], payload["readout"], payload["targets"]) == (None, None, None)
    np.testing.assert_array_equal(read(payload["d_outputs"]), np.ones((5, 4)))


def test_a_variant_has_a_static_page(rng):
    lstm = gc.LSTM(3, 4, peepholes=True, proj_size=2, dtype=np.float64)
    trace = lstm.trace(rng.normal(size=(5, 3)), rng.normal(size=(5, 2)))
    payload = json.loads(json.dumps(payload_of(trace)))
    assert payload["live"] is False
    assert "does not recompute them: the model is not a stack of standard LSTMs" in payload["notes"][0]
    direction = payload["static"]["directions"]["l0"]
    np.testing.assert_array_equal(read(payload["static"]["steps"]), np.arange(5))
    for name in ("i", "f", "o", "g", "c_prev", "c", "tanh_c", "h", "z", "d_c", "d_h", "d_z"):
        np.testing.assert_array_equal(
            read(direction[name]), trace.layer[0].value(name).astype(np.float32), err_msg=name
        )
    for name, part in gradient_paths(trace.layer[0])._asdict().items():
        np.testing.assert_array_equal(read(direction[name]), part.astype(np.float32), err_msg=name)
    np.testing.assert_allclose(read(direction["d_x_norm"]), np.linalg.norm(trace.layer[0].d_x, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(read(payload["outputs"]), trace.outputs.astype(np.float32))


def test_units_without_gradient_paths_have_no_parts(rng):
    trace = gc.LSTM(3, 4, layer_norm="haste").trace(rng.normal(size=(5, 3)), rng.normal(size=(5, 4)))
    direction = payload_of(trace)["static"]["directions"]["l0"]
    assert "d_c" in direction
    assert "d_x_norm" in direction
    assert "cell" not in direction


def test_a_slice_is_live_unless_other_steps_affect_it(rng):
    for options in ({}, {"bidirectional": True}):
        lstm = gc.LSTM(3, 4, **options)
        x, d_outputs = rng.normal(size=(6, 3)), rng.normal(size=(6, lstm.output_size))
        trace = lstm.trace(x, d_outputs=d_outputs)
        assert payload_of(trace)["live"]
        assert payload_of(trace[2:])["live"] != bool(options)  # what runs back begins at the end
        for some in (trace[1:4], trace[::2]):
            assert "part of a longer sequence" in payload_of(some)["notes"][0]
        assert payload_of(lstm.trace(x)[1:4])["live"]  # each direction starts from the state that it had


def test_a_slice_has_the_gradient_parts_of_the_whole_sequence(rng):
    trace = gc.LSTM(3, 4, proj_size=2).trace(rng.normal(size=(6, 3)), rng.normal(size=(6, 2)))
    whole, some = (payload_of(each)["static"]["directions"]["l0"] for each in (trace, trace[1:4]))
    for name in ("output", "cell", "recurrent"):
        np.testing.assert_array_equal(read(some[name]), read(whole[name])[1:4])


def test_a_sequence_of_a_batch_has_a_note_on_its_loss(rng):
    lstm = gc.LSTM(3, 4, dtype=np.float64)
    batch = lstm.trace(rng.normal(size=(5, 6, 3)), rng.normal(size=(5, 6, 4)))
    payload = payload_of(batch.sequence(1))
    assert payload["share"] == pytest.approx(1 / 5)
    assert "contribution of these steps to the loss of a batch" in payload["notes"][0]
    alone = payload_of(lstm.trace(batch.x[1], batch.targets[1]))
    assert (alone["share"], alone["notes"]) == (1, [])


def test_a_large_trace_is_reduced_with_notes(rng, monkeypatch):
    monkeypatch.setattr(payloads, "MAX_BYTES", 30_000)
    lstm = gc.LSTM(2, 40, dtype=np.float64)
    trace = lstm.trace(rng.normal(size=(90, 2)), rng.normal(size=(90, 40)), step_names=[f"s{t}" for t in range(90)])
    payload = payload_of(trace)
    steps, direction = read(payload["static"]["steps"]).astype(int), payload["static"]["directions"]["l0"]
    units = read(direction["units"]).astype(int)
    assert len(json.dumps(payload["static"])) < 40_000
    assert "weights and inputs are too large" in payload["notes"][0]
    assert f"One of {steps[1]} steps is shown" in payload["notes"][1]
    assert f"The {len(units)} of 40 units with the largest" in payload["notes"][2]
    np.testing.assert_array_equal(read(direction["c"]), trace.layer[0].c[np.ix_(steps, units)].astype(np.float32))
    rows = np.concatenate([units + 40 * k for k in range(4)])
    np.testing.assert_array_equal(read(direction["d_z"]), trace.layer[0].d_z[np.ix_(steps, rows)].astype(np.float32))
    np.testing.assert_array_equal(read(payload["x"]), trace.x[steps].astype(np.float32))
    np.testing.assert_array_equal(read(payload["targets"]), trace.targets[steps].astype(np.float32))
    assert payload["step_names"] == [f"s{t}" for t in steps]
    quietest = set(range(40)) - set(units)
    change = trace.layer[0].c.std(axis=0)
    assert max(change[k] for k in quietest) <= min(change[k] for k in units)


def test_unsupported_traces_raise_an_error(rng):
    lstm = gc.LSTM(3, 4)
    with pytest.raises(ValueError, match="without steps"):
        payload_of(lstm.trace(np.zeros((0, 3))))
    with pytest.raises(ValueError, match="choose trace"):
        payload_of(lstm.trace(np.zeros((2, 5, 3))))
    with pytest.raises(ValueError, match="input_names must have 3 names, got 2"):
        payload_of(lstm.trace(np.zeros((5, 3)), input_names=["a", "b"]))
