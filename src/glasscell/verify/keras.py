"""Checks against Keras: layers with the same settings and weights, and models written as files."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np

from glasscell.layers import LSTM
from glasscell.models import Sequential
from glasscell.verify.cases import ids_or_float32, max_error, with_dtype
from glasscell.verify.checks import Check, Errors, Measured, missing_dependency, run_checks, skipped
from glasscell.weight_layouts.keras import KERAS_FUNCTIONS

REFERENCE, PACKAGE = "Keras", "keras (and torch, jax or tensorflow)"
LABELS = {"values": ("outputs and final states, float32", 1e-6)}
FILES = {"values": ("outputs of the model written as .keras, float32", 1e-6)}


def library_checks(rng: np.random.Generator, count: int = 30) -> list[Check]:
    """Check random configurations of a Keras LSTM: masks, directions, merge modes, activations."""
    return _run([partial(random_layer_errors, rng)] * count, LABELS)


def model_checks(model: LSTM | Sequential, x: Any, allowed: float) -> list[Check]:
    """Check a model that is written to a file and loaded by Keras, with the bound that its conditioning justifies."""
    return _run([partial(file_errors, model, x, allowed)], FILES)


def _run(runs: list[Any], labels: dict[str, tuple[str, float]]) -> list[Check]:
    _choose_backend()
    if reason := missing_dependency(["keras.layers"], PACKAGE):
        return skipped(REFERENCE, reason, labels.values())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from Keras and its backends
            return run_checks(REFERENCE, runs, labels)
    except (ValueError, ImportError) as error:  # unsupported by Keras; or h5py is not installed
        return skipped(REFERENCE, str(error), labels.values())


def _choose_backend() -> None:
    """Set the backend of Keras to an installed one, unless the user has set it."""
    import os  # noqa: PLC0415

    if "KERAS_BACKEND" not in os.environ:
        backend = next((name for name in ("torch", "jax", "tensorflow") if not missing_dependency([name], name)), None)
        os.environ |= {"KERAS_BACKEND": backend} if backend else {}


def random_layer_errors(rng: np.random.Generator) -> Errors:
    """Compare a random Keras layer with an LSTM of its weights and settings."""
    import keras  # noqa: PLC0415 - optional

    I, H, B, T = (int(size) for size in rng.integers((1, 2, 1, 2), (6, 7, 5, 9)))
    names = list(KERAS_FUNCTIONS)
    settings = {
        "activation": str(rng.choice(names)) if rng.integers(2) else "tanh",
        "recurrent_activation": str(rng.choice(["sigmoid", "hard_sigmoid"])),
        "use_bias": bool(rng.integers(4)),
        "return_sequences": True,
    }
    merge = [None, "concat", "sum", "ave", "mul"][int(rng.integers(5))]
    if merge is None:
        settings |= {"go_backwards": bool(rng.integers(2)), "zero_output_for_mask": bool(rng.integers(2))}
        layer = keras.layers.LSTM(H, **settings, return_state=True)
    else:
        layer = keras.layers.Bidirectional(keras.layers.LSTM(H, **settings), merge_mode=merge)
    x, mask = rng.normal(size=(B, T, I)).astype(np.float32), rng.random((B, T)) < 0.7
    layer.build(x.shape)
    weights = [rng.normal(scale=0.3, size=w.shape).astype(np.float32) for w in layer.get_weights()]
    layer.set_weights(weights)
    keras_result = layer(x, mask=mask)
    config = layer.get_config() if merge is None else layer.forward_layer.get_config()
    y, final, _ = LSTM.from_keras(weights, **config, bidirectional=merge).forward(x, mask=mask)
    pairs = [(y, keras_result)] if merge else list(zip((y, final.h[0], final.c[0]), keras_result, strict=True))
    arrays = [(a, keras.ops.convert_to_numpy(b)) for a, b in pairs]
    return {"values": Measured(max(max_error(a - b, b) for a, b in arrays))}


def file_errors(model: LSTM | Sequential, x: Any, allowed: float) -> Errors:
    """Compare the outputs of a model with those of Keras, which loads it from a file."""
    from pathlib import Path  # noqa: PLC0415
    from tempfile import TemporaryDirectory  # noqa: PLC0415

    import keras  # noqa: PLC0415 - optional

    from glasscell.convert import keras as files  # noqa: PLC0415 - optional

    if isinstance(model, LSTM):
        model = with_dtype(model, np.float32)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        files.save(model, path)
        keras_model = keras.saving.load_model(path)
    x = ids_or_float32(x)
    y = model.forward(x)[0]
    return {"values": Measured(max_error(y - keras.ops.convert_to_numpy(keras_model(x)), y), allowed)}
