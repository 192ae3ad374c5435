"""Against ONNX Runtime, live: models written as ONNX, run there."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np

from glasscell.layers import LSTM
from glasscell.models import Sequential
from glasscell.verify.cases import Case, case, max_error, random_lstm, with_dtype
from glasscell.verify.checks import Check, Errors, Measured, missing_dependency, run_checks, skipped
from glasscell.verify.conditioning import SAFETY

AGAINST, PACKAGE = "ONNX Runtime", "onnx onnxruntime"
LABELS = {"values": ("outputs and final states of the exported model, float32", 2e-6)}
FUNCTIONS = ("Sigmoid", "Tanh", "Relu", "LeakyRelu", "HardSigmoid", "Elu", "Softsign", "Softplus")


def library_claims(rng: np.random.Generator, count: int = 40) -> list[Check]:
    """Configurations drawn from all that the ONNX operator offers."""
    cases = [drawn(rng) for _ in range(count)]
    return _claims([partial(errors, one.lstm, one.x, one.lengths) for one in cases])


def checked(cases: list[Case]) -> list[Check]:
    """The claim about these cases of a user's LSTM."""
    return _claims([partial(errors, one.lstm, one.x, one.lengths, SAFETY * one.response.values) for one in cases])


def chain_claims(model: Sequential, x: Any, allowed: float) -> list[Check]:
    """The claim about a whole model, with the bound that its conditioning justifies."""
    return _claims([partial(errors, model, x, None, allowed)])


def _claims(runs: list[Any]) -> list[Check]:
    if why := missing_dependency(["onnx.helper", "onnxruntime"], PACKAGE):
        return skipped(AGAINST, why, LABELS.values())
    try:
        return run_checks(AGAINST, runs, LABELS)
    except ValueError as error:
        return skipped(AGAINST, str(error), LABELS.values())


def drawn(rng: np.random.Generator) -> Case:
    """A random case that the operator has too."""
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
    return case(lstm, rng, shape, ragged=bool(rng.integers(2)))


def errors(model: LSTM | Sequential, x: Any, lengths: Any, allowed: float = 0.0) -> Errors:
    """How far ONNX Runtime's numbers are from ours."""
    import onnxruntime  # noqa: PLC0415 - optional

    from glasscell.convert.onnx.exporter import to_model  # noqa: PLC0415 - optional

    model = _in_float32(model)
    given = np.asarray(x) if np.asarray(x).dtype.kind in "iu" else np.asarray(x, np.float32)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        proto = to_model(model, lengths=lengths is not None)
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    feeds = {"x": given} if lengths is None else {"x": given, "lengths": np.asarray(lengths, np.int32)}
    if isinstance(model, LSTM):
        y, final, _ = model.forward(given, lengths=lengths)
        ours = [y, *final]
    else:
        ours = [model(given, lengths=lengths)]
    theirs = session.run(None, feeds)
    return {"values": Measured(max(max_error(a - b, b) for a, b in zip(ours, theirs, strict=True)), allowed)}


def _in_float32(model: LSTM | Sequential) -> LSTM | Sequential:
    if isinstance(model, LSTM):
        return with_dtype(model, np.float32, masked_outputs="zero")  # as ONNX gives them
    if model.dtype == np.float32:
        return model
    weights = {name: array.astype(np.float32) for name, array in model.to_torch().items()}
    return Sequential.from_weights(model.config, weights)
