"""Checks against ONNX Runtime, which runs models written as ONNX."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np

from glasscell.layers import LSTM
from glasscell.models import Sequential
from glasscell.verify.cases import Case, draw_case, ids_or_float32, max_error, random_lstm, with_dtype
from glasscell.verify.checks import Check, Errors, Measured, missing_dependency, run_checks, skipped
from glasscell.verify.conditioning import SAFETY

REFERENCE, PACKAGE = "ONNX Runtime", "onnx onnxruntime"
LABELS = {"values": ("outputs and final states of the exported model, float32", 2e-6)}
FUNCTIONS = ("Sigmoid", "Tanh", "Relu", "LeakyRelu", "HardSigmoid", "Elu", "Softsign", "Softplus")


def library_checks(rng: np.random.Generator, count: int = 40) -> list[Check]:
    """Check random configurations of the ONNX operator LSTM."""
    cases = [random_case(rng) for _ in range(count)]
    return _run([partial(errors, case.lstm, case.x, case.lengths) for case in cases])


def model_checks(cases: list[Case]) -> list[Check]:
    """Check an LSTM."""
    return _run([partial(errors, case.lstm, case.x, case.lengths, SAFETY * case.response.values) for case in cases])


def sequential_checks(model: Sequential, x: Any, allowed: float) -> list[Check]:
    """Check a model, with the bound that its conditioning justifies."""
    return _run([partial(errors, model, x, None, allowed)])


def _run(runs: list[Any]) -> list[Check]:
    if reason := missing_dependency(["onnx.helper", "onnxruntime"], PACKAGE):
        return skipped(REFERENCE, reason, LABELS.values())
    try:
        return run_checks(REFERENCE, runs, LABELS)
    except ValueError as error:
        return skipped(REFERENCE, str(error), LABELS.values())


def random_case(rng: np.random.Generator) -> Case:
    """Return a random case that the operator supports."""
    direction = int(rng.integers(3))
    gate, other = rng.choice(["Sigmoid", "HardSigmoid"]), [str(name) for name in rng.choice(FUNCTIONS, 2)]
    lstm = random_lstm(
        rng,
        scale=0.3,
        num_layers=int(rng.integers(1, 3)),
        bidirectional=direction == 2,
        reverse=direction == 1,
        bias=bool(rng.integers(4)),
        peepholes=bool(rng.integers(2)),
        coupled=[None, None, "input"][int(rng.integers(3))],
        clip=[None, 0.8][int(rng.integers(2))],
        gate_activation=str(gate),
        candidate_activation=other[0] if rng.integers(2) else "Tanh",
        output_activation=other[1] if rng.integers(2) else "Tanh",
    )
    shape = int(rng.integers(1, 5)), int(rng.integers(1, 9))
    return draw_case(lstm, rng, shape, variable_lengths=bool(rng.integers(2)))


def errors(model: LSTM | Sequential, x: Any, lengths: Any, allowed: float = 0.0) -> Errors:
    """Compare the outputs of a model with those of ONNX Runtime."""
    import onnxruntime  # noqa: PLC0415 - optional

    from glasscell.convert.onnx.exporter import to_model  # noqa: PLC0415 - optional

    model = _in_float32(model)
    x = ids_or_float32(x)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        proto = to_model(model, lengths=lengths is not None)
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    feeds = {"x": x} if lengths is None else {"x": x, "lengths": np.asarray(lengths, np.int32)}
    if isinstance(model, LSTM):
        y, final, _ = model.forward(x, lengths=lengths)
        values = [y, *final]
    else:
        values = [model(x, lengths=lengths)]
    reference = session.run(None, feeds)
    return {"values": Measured(max(max_error(a - b, b) for a, b in zip(values, reference, strict=True)), allowed)}


def _in_float32(model: LSTM | Sequential) -> LSTM | Sequential:
    if isinstance(model, LSTM):
        return with_dtype(model, np.float32, masked_outputs="zero")  # as in ONNX
    if model.dtype == np.float32:
        return model
    weights = {name: array.astype(np.float32) for name, array in model.to_torch().items()}
    return Sequential.from_weights(model.config, weights)
