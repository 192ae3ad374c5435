"""Law: every option that is a number refuses NaN, infinity and what is no number, by its name, where it is passed."""

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell import core, layers

TASK = gc.tasks.Copy(3)


def fit(**options):
    gc.fit(gc.CopyLSTM(2, task=TASK), TASK, 1, batch_size=2, **options)


# By the option, what is made with a value of it.
OPTIONS = {
    "LSTM forget_bias": lambda v: gc.LSTM(2, 2, forget_bias=v),
    "LSTM clip": lambda v: gc.LSTM(2, 2, clip=v),
    "LSTM epsilon": lambda v: gc.LSTM(2, 2, layer_norm="haste", epsilon=v),
    **{
        f"LSTM {name}": lambda v, name=name: gc.LSTM(2, 2, 2, **{name: v})
        for name in ("dropout", "input_dropout", "recurrent_dropout", "zoneout", "zoneout_cell")
    },
    "LSTM alpha": lambda v: gc.LSTM(2, 2, gate_activation=("HardSigmoid", v, 0.5)),
    "LSTM beta": lambda v: gc.LSTM(2, 2, gate_activation=("HardSigmoid", 0.2, v)),
    "LSTM memory_limit": lambda v: gc.LSTM(2, 2, memory_limit=v),
    "CopyLSTM forget_bias": lambda v: gc.CopyLSTM(2, forget_bias=v),
    **{
        f"CopyLSTM {name}": lambda v, name=name: gc.CopyLSTM(2, num_layers=2, **{name: v})
        for name in ("dropout", "input_dropout", "recurrent_dropout", "zoneout", "zoneout_cell")
    },
    "Function alpha": lambda v: layers.Function("Elu", v),
    "Function beta": lambda v: layers.Function("Affine", 1.0, v),
    "Dropout rate": layers.Dropout,
    "SpatialDropout1D rate": layers.SpatialDropout1D,
    "GaussianDropout rate": layers.GaussianDropout,
    "GaussianNoise deviation": layers.GaussianNoise,
    "Masking value": layers.Masking,
    "LayerNorm epsilon": lambda v: layers.LayerNorm(2, epsilon=v),
    "BatchNorm epsilon": lambda v: layers.BatchNorm(2, epsilon=v),
    "Rescaling scale": lambda v: layers.Rescaling(v),
    "Rescaling offset": lambda v: layers.Rescaling(1.0, v),
    "Normalization mean": lambda v: layers.Normalization(v, 1.0),
    "Normalization variance": lambda v: layers.Normalization(0.0, v),
    **{
        f"{kind.__name__} {name}": lambda v, kind=kind, name=name: kind(**{name: v})
        for kind, names in {
            gc.SGD: ("learning_rate", "momentum", "weight_decay"),
            gc.RMSProp: ("learning_rate", "decay", "epsilon", "momentum", "weight_decay"),
            gc.Adam: ("learning_rate", "beta1", "beta2", "epsilon", "weight_decay"),
            gc.AdamW: ("learning_rate", "beta1", "beta2", "epsilon", "weight_decay"),
        }.items()
        for name in names
    },
    "linear final": lambda v: gc.schedules.linear(5, final=v),
    "cosine final": lambda v: gc.schedules.cosine(5, final=v),
    "exponential factor": lambda v: gc.schedules.exponential(v),
    "fit clip_norm": lambda v: fit(clip_norm=v),
    "fit clip_value": lambda v: fit(clip_value=v),
    "fit stop_at": lambda v: fit(stop_at={"loss": v}),
    "clip_by_global_norm max_norm": lambda v: core.norms.clip_by_global_norm(np.ones(2), v),
    "clip_by_value limit": lambda v: core.norms.clip_by_value(np.ones(2), v),
    "Copy noise": lambda v: gc.tasks.Copy(3, noise=v),
    "Parity noise": lambda v: gc.tasks.Parity(noise=v),
    "error_free_length tolerance": lambda v: gc.tasks.ContinualReber().test_stream_lengths(
        lambda: None, 1, tolerance=v
    ),
    **{
        f"RowDigits {name}": lambda v, name=name: gc.tasks.RowDigits(np.zeros((9, 1, 1)), np.arange(9), **{name: v})
        for name in ("maximum", "validation_fraction", "test_fraction")
    },
}


@loop_over("value", [np.nan, np.inf, -np.inf])
@loop_over("name", OPTIONS)
def test_a_number_that_is_none_is_refused_by_name(name, value):
    option = name.split()[1]
    with pytest.raises(ValueError, match=rf"{option}\b.*{value}"):
        OPTIONS[name](value)


@loop_over("name", [name for name in OPTIONS if not name.startswith(("clip", "Copy "))])
def test_what_is_no_number_is_refused(name):
    with pytest.raises((TypeError, ValueError), match=rf"{name.split()[1]}|gate_activation"):
        OPTIONS[name]("much")


@loop_over("name", ["nesterov", "centered"])
@loop_over("value", [1, "yes", None])
def test_a_truth_that_is_none_is_refused(name, value):
    kind = {"nesterov": gc.SGD, "centered": gc.RMSProp}[name]
    with pytest.raises(TypeError, match=f"{name} must be True or False"):
        kind(**{name: value}, momentum=0.5)


@pytest.mark.parametrize("index", [1.0, "last", None, True])
def test_a_step_that_is_no_integer_is_refused(index):
    with pytest.raises(TypeError, match="index must be an integer"):
        layers.Step(index)


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
def test_a_softmax_has_no_parameters(name):
    for options in ({"alpha": 2.0}, {"beta": 1.0}):
        with pytest.raises(ValueError, match=f"must be None for {name}"):
            layers.Function(name, **options)
