"""ONNX Runtime in the races: it runs the models that we write."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from glasscell.bench import threads
from glasscell.bench.entrants import Entrant
from glasscell.bench.work import Work
from glasscell.layers import LSTM
from glasscell.verify.checks import missing_dependency

SIDE = "ONNX Runtime"


def why_not() -> str:
    """Why ONNX Runtime cannot race, or nothing if it can."""
    return missing_dependency(["onnx.helper", "onnxruntime"], "onnx onnxruntime")


def session(work: Work, count: int, *, states: bool = False) -> Any:
    """The LSTM of the work as a session of so many threads."""
    import onnxruntime  # noqa: PLC0415 - optional

    from glasscell.convert.onnx.exporter import to_model  # noqa: PLC0415 - optional

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = count, 1, 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        proto = to_model(LSTM.from_torch(work.of_lstm()), states=states)
        return onnxruntime.InferenceSession(proto.SerializeToString(), options)


def forward(work: Work) -> Iterator[Entrant]:
    """Whole sequences, at every number of threads."""
    for count in threads.counts():
        run = partial(session(work, count).run, None, {"x": work.x})
        yield Entrant(SIDE, threads.in_words(count), run, {"outputs": run()[0]})


def streaming(work: Work, steps: int) -> Iterator[Entrant]:
    """One step of one stream, with one thread: there is nothing to share."""
    runner = session(work, 1, states=True)
    zeros = np.zeros((1, 1, work.shape.H), np.float32)
    feeds = {"x": work.x[:1, :1].copy(), "h_0": zeros, "c_0": zeros}

    def push() -> Any:
        y, feeds["h_0"], feeds["c_0"] = runner.run(("y", "h_n", "c_n"), feeds)
        return y

    answer = {"outputs": np.array([push().ravel() for _ in range(steps)])}
    yield Entrant(SIDE, "1 thread", push, answer)
