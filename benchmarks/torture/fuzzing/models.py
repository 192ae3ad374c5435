"""Files of models, traces and states for mutation: those of this library, PyTorch, Keras and ONNX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import glasscell as gc
from glasscell.data import Vocabulary
from glasscell.layers import BatchNorm, Conv1D, FinalState, Function, LayerNorm, Masking, Pool, Rescaling

I, H, T = 2, 3, 4
TEXT = "the cat sat on the mat, and the dog sat on the log.\n"


def randomized(model: Any, seed: int = 1) -> Any:
    """Return a model whose weights are random numbers."""
    vector = model.parameters.vector
    vector[:] = np.random.default_rng(seed).normal(scale=0.5, size=vector.size)
    return model


def chain() -> Any:
    """Return a model of many kinds of layers."""
    layers = [
        gc.Linear(I, H),
        Masking(),
        gc.LSTM(H, H, masked_outputs="repeat"),
        LayerNorm(H),
        FinalState(),
        gc.Linear(H, 2),
    ]
    return randomized(gc.Sequential(layers, ["first", "mask", "encoder", "norm", "last", "head"]))


def stages() -> Any:
    """Return another one."""
    layers = [
        Rescaling(2.0),
        Conv1D(I, H, 2, padding="causal"),
        gc.LSTM(H, H),
        BatchNorm(H),
        Pool("max"),
        gc.Linear(H, 2),
    ]
    return randomized(gc.Sequential([*layers, Function("Gelu")]))


def embedded() -> Any:
    """Return a model of ids."""
    return randomized(
        gc.Sequential([gc.Embedding(5, I), gc.LSTM(I, H), gc.LSTM(H, H), gc.Linear(H, 5), Function("Softmax")])
    )


def lstm(**options: Any) -> Any:
    """Return an LSTM."""
    return randomized(gc.LSTM(I, H, **options))


def forecaster(**options: Any) -> Any:
    """Return a trained forecaster."""
    model = gc.Forecaster(2, H, lags=(2,), **options)
    values = np.sin(np.arange(40.0)) + 3
    gc.fit(model, model.training_data(values, window=12, held_out=8), updates=1)
    model.calibrate(values, 8)
    return model


def ensemble() -> Any:
    """Return two trained forecasters."""
    from glasscell.models.forecaster_ensemble import ForecasterEnsemble

    model = ForecasterEnsemble([forecaster(seed=seed) for seed in (0, 1)])
    model.calibrate(np.sin(np.arange(40.0)) + 3, 8)
    return model


OURS: dict[str, Callable[[], Any]] = {
    "LSTM": lambda: lstm(peepholes=True, num_layers=2),
    "LSTM, options": lambda: lstm(bidirectional=True, proj_size=2, coupled=None),
    "GRU": lambda: randomized(gc.GRU(I, H)),
    "RNN": lambda: randomized(gc.RNN(I, H)),
    "Linear": lambda: randomized(gc.Linear(I, H)),
    "Embedding": lambda: randomized(gc.Embedding(3, I)),
    "chain": chain,
    "stages": stages,
    "embedded": embedded,
    "copy": lambda: randomized(gc.CopyLSTM(H)),
    "language": lambda: randomized(gc.LanguageModel(Vocabulary.from_text(TEXT), 3, H, 1)),
    "words": lambda: randomized(gc.LanguageModel(Vocabulary.from_text(TEXT, "words"), 3, H, 1, tied=False)),
    "classifier": lambda: randomized(gc.SequenceClassifier(I, ["a", "b", "c"], H)),
    "regressor": lambda: randomized(gc.SequenceRegressor(I, 2, H, pooling="mean")),
    "forecaster": forecaster,
    "ensemble": ensemble,
}


def traces() -> list[Any]:
    """Return traces of every kind."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(T, I)), rng.normal(size=(T, H))
    return [
        lstm(engine="numpy").trace(x, y),
        lstm(engine="numpy", peepholes=True, coupled="input").trace(x, input_names=["a", "b"]),
        lstm(engine="numpy", num_layers=2).trace(
            rng.normal(size=(2, T, I)), rng.normal(size=(2, T, H)), lengths=[T, 3]
        ),
        embedded().trace([0, 1, 2, 3], [1, 2, 3, 4], loss="categorical_cross_entropy", output_names=list("abcde")),
        randomized(gc.CopyLSTM(H)).trace([1, 0, 1]),
        randomized(gc.GRU(I, H)).trace(x, y),
    ]


def content_of(write: Callable[[Path], object], path: Path) -> bytes:
    """Return the bytes that a function writes to a file."""
    write(path)
    content = path.read_bytes()
    path.unlink()
    return content


def stream_model() -> Any:
    """Return the model of the saved stream."""
    return lstm(num_layers=2)


def write_stream(path: Path) -> None:
    """Save the state of a stream."""
    stream = stream_model().stream()
    stream.push(np.ones(I))
    stream.save(path)


CONVERTIBLE: dict[str, Callable[[], Any]] = {
    "LSTM": lambda: lstm(num_layers=2, bidirectional=True),
    "chain": lambda: randomized(gc.Sequential([gc.LSTM(I, H), FinalState(), gc.Linear(H, 2), Function("Softmax")])),
    "embedded": embedded,
    "GRU": lambda: randomized(gc.Sequential([gc.GRU(I, H), gc.Linear(H, 2)])),
}


def folded_graph() -> bytes:
    """Return an ONNX file whose graph computes with shapes and constants."""
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(3)
    operands = {"W": (1, 4 * H, I), "R": (1, 4 * H, H), "B": (1, 8 * H), "V": (2, H), "b": (2,)}
    tensors: dict[str, Any] = {name: rng.normal(size=shape).astype("f4") for name, shape in operands.items()}
    tensors |= {"start": np.ones((1, 1, H), "f4"), "0": np.array([0]), "1": np.array([1]), "H": np.array([H])}
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "0"], ["batch"]),
        helper.make_node("Concat", ["1", "batch", "H"], ["sizes"], axis=0),
        helper.make_node("Expand", ["start", "sizes"], ["h0"]),
        helper.make_node("Transpose", ["x"], ["X"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["X", "W", "R", "B", "", "h0"], ["Y", "h", "c"], hidden_size=H),
        helper.make_node("Squeeze", ["h", "0"], ["s"]),
        helper.make_node("Gemm", ["s", "V", "b"], ["u"], transB=1),
        helper.make_node("Softmax", ["u"], ["y"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, ["batch", "time", I])],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
