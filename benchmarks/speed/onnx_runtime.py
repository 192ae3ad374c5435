"""ONNX Runtime's contenders: exported models."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from glasscell.layers import LSTM
from glasscell.verify.checks import missing_dependency
from speed import threads
from speed.contenders import Contender
from speed.workload import Workload

NAME = "ONNX Runtime"


def unavailable_reason() -> str:
    """Return why ONNX Runtime cannot be used, or ""."""
    return missing_dependency(["onnx.helper", "onnxruntime"], "onnx onnxruntime")


def session(workload: Workload, count: int, *, states: bool = False) -> Any:
    """Return a session of the workload's LSTM with `count` threads."""
    import onnxruntime

    from glasscell.convert.onnx.exporter import to_model

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = count, 1, 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        proto = to_model(LSTM.from_torch(workload.lstm_weights()), states=states)
        return onnxruntime.InferenceSession(proto.SerializeToString(), options)


def forward(workload: Workload) -> Iterator[Contender]:
    """Yield inference of whole sequences with each number of threads."""
    for count in threads.counts():
        run = partial(session(workload, count).run, None, {"x": workload.x})
        yield Contender(NAME, threads.describe(count), run, {"outputs": run()[0]})


def streaming(workload: Workload, steps: int) -> Iterator[Contender]:
    """Yield one step of one stream with one thread: one step has no work to divide."""
    runner = session(workload, 1, states=True)
    zeros = np.zeros((1, 1, workload.shape.H), np.float32)
    feeds = {"x": workload.x[:1, :1].copy(), "h_0": zeros, "c_0": zeros}

    def push() -> Any:
        y, feeds["h_0"], feeds["c_0"] = runner.run(("y", "h_n", "c_n"), feeds)
        return y

    answer = {"outputs": np.array([push().ravel() for _ in range(steps)])}
    yield Contender(NAME, "1 thread", push, answer)
