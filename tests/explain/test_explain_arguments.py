"""Laws: labels are selected by number or name, and a wrong one, wrong bits or symbols are one clear error."""

import re
from functools import partial

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.explain import Intervention

BITS = [1, 0, 1]
SHAPE = "payloads must have shape (n, bits) each, a multiple of bits_per_step = 2 bits"


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(5)
    model = gc.CopyLSTM(6, task=gc.tasks.Copy(width=3), dtype=np.float64)
    model.parameters.vector[:] = rng.normal(size=model.parameters.vector.size)
    return model


@pytest.fixture(scope="module")
def results(model):
    return gc.explain.unit_differences(model, model.task), gc.explain.relay(model, model.task)


def test_a_label_is_selected_by_its_number_or_name(results):
    differences, relay = results
    for k, name in enumerate(relay.labels):
        for number in (k, k - 3):
            np.testing.assert_array_equal(differences.holders(name, 4), differences.holders(number, 4))
            assert relay.sentence(name) == relay.sentence(number)
            assert relay.handovers(name) == relay.handovers(number)
    assert len({relay.sentence(name) for name in relay.labels}) == 3
    np.testing.assert_array_equal(differences.holders(1, -3), differences.holders(1, 4))


@pytest.mark.parametrize(
    ("label", "error", "message"),
    [
        (3, ValueError, "label must be from -3 to 2, got 3"),
        (-4, ValueError, "label must be from -3 to 2, got -4"),
        ("bit 3", ValueError, "label must be one of 'bit 0', 'bit 1', 'bit 2', got 'bit 3'"),
        (1.0, TypeError, "label must be an integer, got 1.0"),
    ],
)
def test_a_label_that_does_not_exist_is_named(results, label, error, message):
    differences, relay = results
    for function in (lambda k: differences.holders(k, 0), relay.sentence, relay.handovers):
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            function(label)


def test_a_step_or_share_that_does_not_exist_is_named(results):
    differences, relay = results
    with pytest.raises(ValueError, match=r"^step must be from -7 to 6, got 99$"):
        differences.holders("bit 0", 99)
    with pytest.raises(ValueError, match=r"^smallest must be finite, got nan$"):
        relay.handovers(0, float("nan"))


@pytest.mark.parametrize("bits", ["101", "1101…", "", b"101", ["1", "0"]])
def test_text_is_no_sequence_of_bits(model, bits):
    flow = partial(gc.explain.gradient_flow, model)
    for function in (model.trace, model.copy, model.task.validate_payload, flow):
        message = f"bits must be an array of the numbers 0 and 1, got {bits!r}"
        with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
            function(bits)


def test_other_inputs_of_a_trace_that_are_no_bits_are_named(model):
    with pytest.raises(ValueError, match="bits must be 0 and 1, got 5"):
        model.trace(5)
    with pytest.raises(ValueError, match=r"^bits must have shape"):
        model.trace(1)
    with pytest.raises(ValueError, match=r"^x must be an array, got sequences of different lengths$"):
        model.trace([[1, 0], [1]])


@pytest.mark.parametrize(
    ("payloads", "error", "message"),
    [
        (5, TypeError, "payloads must be arrays of bits, (n, bits) each, got 5"),
        ("11", TypeError, "payloads must be arrays of bits, (n, bits) each, got '11'"),
        (
            [[1, 1]],
            ValueError,
            f"{SHAPE}, got (2,)",
        ),
        (
            [[[1]]],
            ValueError,
            f"{SHAPE}, got (1, 1)",
        ),
        ([[[1, 2]]], ValueError, "payloads must be 0 and 1, got 2 at index (0, 1)"),
    ],
)
def test_payloads_of_a_batch_that_are_no_bits_are_named(payloads, error, message):
    task = gc.tasks.Copy(width=4, bits_per_step=2)
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        task.make_batch(payloads)


def test_the_constant_input_of_a_rest_state_is_named_if_it_is_no_id():
    model = gc.LanguageModel(gc.data.Vocabulary("abc"), 4, 6, num_layers=1)
    with pytest.raises(TypeError, match=r"^x0 must be ids of symbols, which are integers, got dtype <U1$"):
        gc.explain.rest_state(model, "a")
    with pytest.raises(ValueError, match=r"^symbols must be from 0 to 2, got 9$"):
        gc.explain.rest_state(model, 9)


@loop_over(
    ("value", "shown"),
    [
        (0.1 + 0.2, "0.3"),
        (1.0, "1.0"),
        (1 / 3, "0.333333"),
        (np.float64(0.65 - 1e-9), "0.65"),
        (-1e-9, "-1e-09"),
        (2, "2"),
    ],
)
def test_descriptions_have_numbers_of_six_digits_and_the_object_has_the_exact_ones(value, shown):
    one = Intervention("f", scale=value)
    assert one.description() == f"f scaled by {shown}"
    assert one.scale == value
    assert repr(value) in repr(one)
    assert Intervention("c", set=np.array([value])).description() == f"c set to [{shown}]"
    assert Intervention("c", clamp=(value, None)).description() == f"c limited to ({shown}, None)"


def test_a_curve_of_factors_has_short_labels_and_exact_factors(model):
    factors = np.arange(1, 0.5, -0.05)
    result = gc.explain.ablation(model, model.task, interventions=gc.explain.scaled_gates(factors))
    assert max(map(len, result.labels)) <= len("f scaled by 0.65")
    assert [group[0].scale for group in result.interventions] == factors.tolist()
    close = gc.explain.scaled_gates([0.5, 0.5 + 1e-12])
    assert len({*gc.explain.ablation(model, model.task, interventions=close).labels}) == 2


def test_the_text_of_gradient_sources_is_short_and_has_their_largest_norm(model):
    sources = gc.explain.gradient_sources(model, BITS)
    assert repr(sources) == f"SourceSteps(7 × 7 steps: at most {sources.norms.max():.4g})"


def test_types_in_messages_have_their_article(model):
    one = Intervention("f", scale=0.5)
    with pytest.raises(TypeError, match=r"^interventions must be a sequence or a mapping, got an Intervention$"):
        gc.explain.ablation(model, model.task, interventions=one)
    with pytest.raises(TypeError, match=r"got a float$"):
        gc.explain.ablation(model, model.task, interventions=1.5)
    with pytest.raises(TypeError, match=r"got an int$"):
        gc.explain.intervene(model, 3)
    with pytest.raises(TypeError, match=r"^model must be a model of layers or a recurrent layer, got an int$"):
        gc.explain.integrated_gradients(3, BITS, output=0)
