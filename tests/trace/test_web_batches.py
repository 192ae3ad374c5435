"""Law: the page's JavaScript equals NumPy to 1e-10 on many inputs at once, and for each kind of recurrent layer."""

from typing import Any

import numpy as np

import glasscell as gc
from glasscell.core import gru, lstm, optimizers, rnn
from glasscell.trace.html_report.payload import array, payload_of
from glasscell.trace.trace import Trace


def randomized(model: Any, rng: np.random.Generator) -> Any:
    model.parameters.vector[:] = rng.normal(0, 0.8, model.parameters.vector.shape)
    return model


def case_of_inputs(traces: list[Trace], recorded: tuple[str, ...]) -> dict[str, Any]:
    """Every sequence traced alone, as one case of runAll() of all_inputs.js."""
    first = traces[0]
    weights = None if first.weights is None else first.weights.reshape(first.T, -1)[:, 0]
    targets = None if first.targets is None else np.stack([trace.targets for trace in traces])
    values = [
        {"symbol": symbol, "layer": position // len(directions), "direction": position % len(directions)}
        | {"values": array(np.stack([trace.layer[position].value(symbol) for trace in traces]))}
        for directions in [("forward", "reverse") if first.layer[0].options.bidirectional else ("forward",)]
        for position in range(len(first.layer))
        for symbol in recorded
    ]
    return {
        "check": "inputs",
        "payload": payload_of(first),
        "inputs": {
            "x": array(np.stack([trace.layer[0].x for trace in traces])),
            "targets": array(targets),
            "weights": array(weights),
        },
        "expected": {
            "outputs": array(np.stack([trace.outputs for trace in traces])),
            "losses": None if first.loss is None else array(np.array([trace.loss for trace in traces])),
            "recorded": values,
        },
    }


def cases_of_inputs(rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    written = {}
    for mode, k, layers in (("recall", 1, 1), ("recall", 2, 2), ("echo", 1, 1)):
        task = gc.tasks.Copy(width=4, mode=mode, bits_per_step=k)
        model = randomized(gc.CopyLSTM(5, num_layers=layers, task=task, dtype=np.float64), rng)
        bits = [[n >> 3, n >> 2 & 1, n >> 1 & 1, n & 1] for n in range(16)]
        written[f"inputs copy {mode} {k}"] = case_of_inputs([model.trace(b) for b in bits], ("c", "f", "d_c", "d_h"))
    layer = randomized(gc.LSTM(2, 3, 2, bidirectional=True, learn_initial_state=True, dtype=np.float64), rng)
    xs, classes, ys = rng.normal(size=(5, 7, 2)), rng.integers(0, 6, (5, 7)), rng.normal(size=(5, 7, 6))
    traces = [layer.trace(x, y, loss="categorical_cross_entropy") for x, y in zip(xs, classes, strict=True)]
    written["inputs classes"] = case_of_inputs(traces, ("h", "d_c"))
    traces = [layer.trace(x, y, loss="squared_error") for x, y in zip(xs, ys, strict=True)]
    written["inputs numbers"] = case_of_inputs(traces, ("z", "d_z"))
    written["inputs without targets"] = case_of_inputs([layer.trace(x) for x in xs], ("tanh_c",))
    wide = randomized(gc.Sequential([gc.LSTM(1, 100, dtype=np.float64), gc.Linear(100, 1, dtype=np.float64)]), rng)
    wide.parameters.vector[:] *= 0.1
    xs = rng.normal(size=(60, 80, 1))
    written["inputs in parts"] = case_of_inputs([wide.trace(x) for x in xs], ())  # too many for one part
    for mode, k, length in (("recall", 1, 3), ("recall", 2, 4), ("echo", 1, 5)):
        task = gc.tasks.Copy(width=length, mode=mode, bits_per_step=k)
        bits = np.array([[n >> s & 1 for s in reversed(range(length))] for n in range(2**length)])
        batch = task.make_batch([bits], np.float64)
        assert batch.weights is not None
        expected = {"bits": bits, "x": batch.inputs, "targets": batch.targets, "weights": batch.weights[0]}
        written[f"copy {mode} {k}"] = {
            "check": "copy",
            "task": {"mode": mode, "bits_per_step": k},
            "length": length,
            "expected": {name: array(values) for name, values in expected.items()},
        }
    return written


def cases_of_kinds(rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """Batches through core's passes, of which one has a single sequence."""
    written = {}
    for N in (1, 5):
        T, I, H, O = 6, 3, 5, 2
        x, dh = rng.normal(size=(T, I, N)), rng.normal(size=(T, H, N))
        h0, c0 = rng.normal(size=(2, H))
        for kind, rows in (("rnn", 1), ("gru", 3), ("lstm", 4)):
            weights = {"W": rng.normal(0, 0.7, (rows * H, H + I + 1)), "recurrent_bias": rng.normal(size=H)}
            core = {"kernel": weights["W"]} | ({"recurrent_bias": weights["recurrent_bias"]} if kind == "gru" else {})
            result: Any
            if kind == "lstm":
                tape = lstm.forward(weights["W"], x, h0[:, None], c0[:, None])
                result = lstm.backward(tape, dh)
                expected = {"h": tape.h, "dW": result.dkernel, "d_x": result.dx, "d_h0": result.dh0, "d_c0": result.dc0}
            elif kind == "gru":
                d_steps = np.empty_like(dh)
                gru_tape = gru.forward(core, x, h0[:, None])
                result = gru.backward(gru_tape, dh, dh_steps=d_steps)
                expected = {"h": gru_tape.h, "r": gru_tape.r, "z": gru_tape.z, "n": gru_tape.n, "d_h": d_steps}
                expected |= {"dW": result.dweights["kernel"], "d_recurrent_bias": result.dweights["recurrent_bias"]}
                expected |= {"d_x": result.dx, "d_h0": result.dh0}
            else:
                rnn_tape = rnn.forward(core, x, h0[:, None])
                result = rnn.backward(rnn_tape, dh)
                expected = {"h": rnn_tape.h, "dW": result.dweights["kernel"], "d_x": result.dx, "d_h0": result.dh0}
            written[f"kind {kind} {N}"] = {
                "check": "kinds",
                "kind": kind,
                "sizes": [T, I, H, N],
                "weights": {name: array(values) for name, values in {**weights, "h0": h0, "c0": c0}.items()},
                "x": array(x),
                "d_y": array(dh),
                "expected": {name: array(np.ascontiguousarray(values)) for name, values in expected.items()},
            }
        h, d_y = rng.normal(size=(T, H, N)), rng.normal(size=(T, O, N))
        weight = np.einsum("ton,thn->oh", d_y, h)
        written[f"readout {N}"] = {
            "check": "readout",
            "sizes": [T, H, O, N],
            "h": array(h),
            "d_y": array(d_y),
            "expected": {"weight": array(weight), "bias": array(d_y.sum(axis=(0, 2)))},
        }
    return written


def case_of_adam(rng: np.random.Generator) -> dict[str, Any]:
    start, gradients = rng.normal(size=7), rng.normal(size=(5, 7))
    optimizer, values = optimizers.Adam(learning_rate=0.03), start.copy()
    state = optimizer.init_state(values)
    for gradient in gradients:
        optimizer.update(values, gradient, state)
    return {
        "check": "adam",
        "start": array(start),
        "gradients": [array(gradient) for gradient in gradients],
        "learningRate": 0.03,
        "expected": array(values),
    }


def test_batches_in_javascript_equal_numpy(run_web_tests: Any, rng: np.random.Generator) -> None:
    written = cases_of_inputs(rng) | cases_of_kinds(rng) | {"adam": case_of_adam(rng)}
    assert run_web_tests("batches", written) > len(written)
