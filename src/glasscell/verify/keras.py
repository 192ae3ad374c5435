"""Against Keras, live: layers of the same settings and weights."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np

from glasscell.layers import LSTM
from glasscell.models import Sequential
from glasscell.verify.cases import max_error, with_dtype
from glasscell.verify.checks import Check, Errors, Measured, missing_dependency, run_checks, skipped
from glasscell.weight_layouts.keras import KERAS_FUNCTIONS

AGAINST, PACKAGE = "Keras", "keras (and torch, jax or tensorflow)"
LABELS = {"values": ("outputs and final states, float32", 1e-6)}
FILES = {"values": ("outputs of the model written as .keras, float32", 1e-6)}


def library_claims(rng: np.random.Generator, count: int = 30) -> list[Check]:
    """Configurations drawn from all that a Keras LSTM offers: masks, directions, merge modes, activations."""
    return _claims([partial(drawn_errors, rng)] * count, LABELS)


def model_claims(model: LSTM | Sequential, x: Any, allowed: float) -> list[Check]:
    """The claim about a model: written as a file, and read by Keras; with the bound that its conditioning justifies."""
    return _claims([partial(file_errors, model, x, allowed)], FILES)


def _claims(runs: list[Any], whats: dict[str, tuple[str, float]]) -> list[Check]:
    _choose_backend()
    if why := missing_dependency(["keras.layers"], PACKAGE):
        return skipped(AGAINST, why, whats.values())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras and its backends have some of their own
            return run_checks(AGAINST, runs, whats)
    except (ValueError, ImportError) as error:  # unsupported by Keras; or h5py is not installed
        return skipped(AGAINST, str(error), whats.values())


def _choose_backend() -> None:
    """One that is installed, unless the user chose."""
    import os  # noqa: PLC0415

    if "KERAS_BACKEND" not in os.environ:
        found = next((name for name in ("torch", "jax", "tensorflow") if not missing_dependency([name], name)), None)
        os.environ |= {"KERAS_BACKEND": found} if found else {}


def drawn_errors(rng: np.random.Generator) -> Errors:
    """A random Keras layer, and ours of its weights and settings."""
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
    theirs = layer(x, mask=mask)
    config = layer.get_config() if merge is None else layer.forward_layer.get_config()
    ours = LSTM.from_keras(weights, **config, bidirectional=merge)
    y, final, _ = ours.forward(x, mask=mask)
    pairs = [(y, theirs)] if merge else list(zip((y, final.h[0], final.c[0]), theirs, strict=True))
    arrays = [(a, keras.ops.convert_to_numpy(b)) for a, b in pairs]
    return {"values": Measured(max(max_error(a - b, b) for a, b in arrays))}


def file_errors(model: LSTM | Sequential, x: Any, allowed: float) -> Errors:
    """How far Keras' numbers are from ours, from a file that we wrote."""
    from pathlib import Path  # noqa: PLC0415
    from tempfile import TemporaryDirectory  # noqa: PLC0415

    import keras  # noqa: PLC0415 - optional

    from glasscell.convert import keras as files  # noqa: PLC0415 - optional

    if isinstance(model, LSTM):
        model = with_dtype(model, np.float32)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        files.save(model, path)
        theirs = keras.saving.load_model(path)
    given = np.asarray(x) if np.asarray(x).dtype.kind in "iu" else np.asarray(x, np.float32)
    ours = model.forward(given)[0]
    return {"values": Measured(max_error(ours - keras.ops.convert_to_numpy(theirs(given)), ours), allowed)}
