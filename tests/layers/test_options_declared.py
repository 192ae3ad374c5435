"""Law: each option of an LSTM is declared once, and whatever is not declared to support it refuses it."""

from typing import get_args

import numpy as np
import pytest
from case_loops import loop_over
from layer_examples import lstm_options

from glasscell import LSTM, Sequential, convert
from glasscell.layers import Linear, LSTMConfig
from glasscell.recurrent.config import ALL_CONSUMERS, Consumer, option
from glasscell.trace import diagnostics
from glasscell.trace.html_report.payload import payload_of
from glasscell.validation import probability
from glasscell.weight_layouts.pytorch import check_supported

SIZES = {"input_size": 3, "hidden_size": 4}
TRAINING_ONLY = ("dropout", "input_dropout", "recurrent_dropout")
OTHERS = {name: options for name, options in lstm_options(proj_size=2).items() if name not in SIZES}


def lstm(**options):
    """An LSTM whose parameters, biases and initial states too, are random."""
    made = LSTM(**{**SIZES, **options}, dtype=np.float64)
    made.parameters.vector[:] = np.random.default_rng(3).normal(size=made.parameters.vector.size)
    return made


@pytest.fixture
def with_new_option(monkeypatch):
    """A function that gives LSTMs an option `leak`, supported as it says."""

    def add(*supported, **more):
        class Options(LSTMConfig):
            leak: float = option(probability, 0.0, supported=supported, **more)

        monkeypatch.setattr("glasscell.layers.lstm.LSTMConfig", Options)

    return add


def test_every_option_has_a_case():
    assert {*OTHERS, *SIZES} == set(LSTMConfig.field_names())
    assert set(ALL_CONSUMERS) == set(get_args(Consumer))


def test_a_new_option_is_refused_by_the_engines(with_new_option):
    with_new_option()
    assert lstm(leak=0.0).options.is_standard
    with pytest.raises(ValueError, match=r"leak must be 0\.0: no engine computes it, got 0\.25"):
        lstm(leak=0.25)


def test_an_option_of_the_general_engine_is_refused_by_all_other_consumers(with_new_option, tmp_path):
    with_new_option("general")
    new = lstm(leak=0.25)
    assert not new.options.is_standard
    with pytest.raises(ValueError, match=r"layer 'lstm' cannot be streamed: .* leak=0\.25"):
        new.stream()
    with pytest.raises(ValueError, match=r"nn\.LSTM does not support leak=0\.25"):
        new.to_torch()
    with pytest.raises(ValueError, match=r"nn\.LSTM does not support leak"):
        check_supported(new.options)
    with pytest.raises(ValueError, match=r"Keras LSTM does not support leak=0\.25"):
        new.to_keras()
    pytest.importorskip("onnx")
    model = Sequential([new, Linear(4, 2, dtype=np.float64)])
    for ending in ("onnx", "pt", "keras"):
        with pytest.raises(ValueError, match="leak"):
            convert.save(model, tmp_path / f"m.{ending}")
    trace = new.trace(np.random.default_rng(0).normal(size=(5, 3)), d_outputs=np.ones((5, 4)))
    assert not payload_of(trace)["live"]
    with pytest.raises(ValueError, match=r"does not support an LSTM with leak=0\.25"):
        trace.equations(2, 0)
    with pytest.raises(ValueError, match=r"does not support an LSTM with leak=0\.25"):
        diagnostics.gradient_decay(trace.layer[0])


def test_a_new_option_belongs_to_a_saved_state_unless_it_is_for_training(with_new_option, tmp_path):
    for training_only in (False, True):
        with_new_option(*ALL_CONSUMERS, training_only=training_only)
        lstm(leak=0.25).stream().save(tmp_path / "state.safetensors")
        other = lstm(leak=0.5).stream()
        if training_only:
            other.load(tmp_path / "state.safetensors")
        else:
            with pytest.raises(ValueError, match=r"leak of layer 'lstm' is 0\.25 there, 0\.5 here"):
                other.load(tmp_path / "state.safetensors")


@loop_over("name", OTHERS)
def test_a_step_is_the_standard_one_where_the_standard_engine_supports_every_option(name):
    plain = lstm(**OTHERS[name]).options.is_standard
    supported = all("standard" in LSTMConfig.declared[option].supported for option in OTHERS[name])
    assert plain == supported


@pytest.mark.parametrize("name", TRAINING_ONLY)
def test_training_options_do_not_change_inference(name, rng):
    assert LSTMConfig.declared[name].training_only
    noisy = lstm(**OTHERS[name])
    quiet = lstm(**{**OTHERS[name], name: 0.0})
    x = rng.normal(size=(2, 5, 3))
    np.testing.assert_array_equal(noisy.infer(x)[0], quiet.infer(x)[0])
    assert [key for key, declared in LSTMConfig.declared.items() if declared.training_only] == list(TRAINING_ONLY)


def test_the_report_of_outputs_in_processing_order_is_static(rng):
    """It would show them in the order of time."""
    x = rng.normal(size=(5, 3))
    assert payload_of(lstm(reverse=True).trace(x))["live"]
    assert not payload_of(lstm(reverse=True, outputs_in="processing").trace(x))["live"]


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("ending", ["onnx", "pt", "keras"])
def test_a_saved_lstm_computes_the_same_or_is_refused(name, ending, rng, tmp_path):
    """For each option: a file that lacks it would compute other outputs, so it is refused."""
    pytest.importorskip("onnx")
    original, x = lstm(**OTHERS[name]), rng.normal(size=(2, 5, 3))
    supported = {"onnx": "onnx", "pt": "torch", "keras": "keras"}[ending]
    unsupported = set(original.options.unsupported(supported)) - {"num_layers"}  # Keras takes a layer for each
    not_as_such = {"reverse", "candidate_activation", "output_activation"}
    if unsupported or (ending == "keras" and name in not_as_such):
        with pytest.raises(ValueError, match=r"lstm|LSTM|Keras"):
            convert.save(original, tmp_path / f"m.{ending}")
        return
    convert.save(original, tmp_path / f"m.{ending}")
    if ending == "pt" and name == "learn_initial_state":
        return  # it keeps its own names there, which only from_torch(learn_initial_state=True) takes
    again = convert.load(tmp_path / f"m.{ending}")
    y = again.infer(x)[0] if isinstance(again, LSTM) else again(x)
    np.testing.assert_allclose(y, original.infer(x)[0], rtol=1e-12, atol=1e-12)
