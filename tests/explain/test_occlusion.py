"""Laws: occlusion is the difference of outputs that are computed again, one changed input at a time."""

import numpy as np
import pytest
from case_loops import loop_over
from explained_models import B, I, T, inputs_of, model_of

from glasscell import explain

KINDS = ("layer", "stacked", "final", "numbers", "ids", "text")


def output_of(model, x, **options):
    """Output 1 of step 4, or of the sequence; for numbers, which have outputs (B, T), that of step 4."""
    y = model(x, **options)
    if y.shape == (B, T):
        return y[:, 4]
    return y[:, 4, 1] if y.ndim == 3 else y[:, 1]


def options_of(kind):
    return {"final": {"output": 1}, "numbers": {"output": 0, "step": 4}}.get(kind, {"output": 1, "step": 4})


@loop_over("window", [1, 3, T])
@loop_over("kind", KINDS)
def test_the_effect_of_a_window_is_that_of_replacing_it_by_hand(kind, window, rng):
    model, x = model_of(kind), inputs_of(kind, rng)
    replacement = inputs_of(kind, rng)
    result = explain.occlusion(model, x, baseline=replacement, window=window, **options_of(kind))
    expected = np.empty((B, T - window + 1))
    for t in range(T - window + 1):
        changed = x.copy()
        changed[:, t : t + window] = replacement[:, t : t + window]
        expected[:, t] = output_of(model, changed)
    np.testing.assert_allclose(result.outputs, expected, atol=1e-12)
    np.testing.assert_allclose(result.values, output_of(model, x)[:, None] - expected, atol=1e-12)
    np.testing.assert_allclose(result.output, output_of(model, x), atol=1e-12)
    np.testing.assert_allclose(result.baseline_output, output_of(model, replacement), atol=1e-12)
    assert np.abs(result.values).max() > 1e-3


@pytest.mark.parametrize("kind", ["layer", "stacked", "final"])
def test_the_effects_of_features_and_of_single_values(kind, rng):
    model, x = model_of(kind), inputs_of(kind, rng)
    original, options = output_of(model, x), options_of(kind)
    features = explain.occlusion(model, x, replace="feature", baseline=0.5, **options)
    values = explain.occlusion(model, x, replace="value", window=2, baseline=0.5, **options)
    assert values.values.shape == (B, T - 1, I)
    for i in range(I):
        changed = x.copy()
        changed[:, :, i] = 0.5
        np.testing.assert_allclose(features.values[:, i], original - output_of(model, changed), atol=1e-12)
        for t in range(T - 1):
            changed = x.copy()
            changed[:, t : t + 2, i] = 0.5
            np.testing.assert_allclose(values.values[:, t, i], original - output_of(model, changed), atol=1e-12)


def test_a_step_has_the_mean_effect_of_the_windows_that_contain_it(rng):
    model, x = model_of("steps"), inputs_of("steps", rng)
    for replace in ("step", "value"):
        result = explain.occlusion(model, x, output=0, step=-1, replace=replace, window=3)
        effects = result.values.sum(axis=-1) if replace == "value" else result.values
        for t in range(T):
            windows = [start for start in range(T - 2) if start <= t < start + 3]
            np.testing.assert_allclose(result.by_step[:, t], effects[:, windows].mean(axis=1), atol=1e-14)
    with pytest.raises(ValueError, match="by_step needs replace='step' or 'value', got 'feature'"):
        _ = explain.occlusion(model, x, output=0, replace="feature").by_step


@pytest.mark.parametrize("replace", ["step", "feature", "value"])
@pytest.mark.parametrize("window", [1, 2])
def test_sequences_of_a_padded_batch_and_alone(replace, window, rng):
    if replace == "feature":
        window = 1
    model, x, lengths = model_of("stacked"), inputs_of("stacked", rng), np.array([T, 3, 5, 2])
    options = {"output": 1, "step": -1, "replace": replace, "window": window}
    batch = explain.occlusion(model, x, lengths=lengths, **options)
    for b, length in enumerate(lengths):
        alone = explain.occlusion(model, x[b, :length], **options)
        n = len(alone.values)
        np.testing.assert_allclose(batch.values[b, :n], alone.values, atol=1e-12)
        if replace != "feature":
            assert not batch.values[b, length:].any()
            assert not batch.by_step[b, length:].any()
        np.testing.assert_allclose(batch.output[b], alone.output, atol=1e-12)


def test_the_completeness_error_is_the_interaction_of_the_parts(rng):
    model, x = model_of("steps"), inputs_of("steps", rng)
    for replace in ("step", "feature", "value"):
        result = explain.occlusion(model, x, output=0, step=-1, replace=replace)
        total = result.values.reshape(B, -1).sum(axis=1)
        expected = np.abs(total - (result.output - result.baseline_output))
        np.testing.assert_allclose(result.completeness_error, expected, atol=1e-14)
    assert repr(result).startswith("Occlusion(by value, 4×6×3: largest effect ")


def test_many_replacements_are_computed_in_parts(rng, monkeypatch):
    model, x = model_of("steps"), inputs_of("steps", rng)
    whole = explain.occlusion(model, x, output=0, step=-1, replace="value")
    gradients = explain.integrated_gradients(model, x, output=0, step=-1)
    monkeypatch.setattr("glasscell.explain.model_inputs.MAX_SEQUENCE_STEPS", 5 * B * T)
    parts = explain.occlusion(model, x, output=0, step=-1, replace="value")
    np.testing.assert_allclose(parts.values, whole.values, atol=1e-14)
    in_parts = explain.integrated_gradients(model, x, output=0, step=-1)
    np.testing.assert_allclose(in_parts.values, gradients.values, atol=1e-14)


@loop_over(
    ("arguments", "error", "message"),
    [
        ({"replace": "unit"}, ValueError, "replace must be one of 'step', 'feature', 'value', got 'unit'"),
        ({"window": 0}, ValueError, "window must be at least 1, got 0"),
        ({"window": T + 1}, ValueError, "window must be at most T = 6, got 7"),
        ({"window": 1.5}, TypeError, "window must be an integer"),
        ({"replace": "feature", "window": 2}, ValueError, "window must be 1 for replace='feature'"),
        ({"baseline": np.zeros(2)}, ValueError, "baseline must have shape"),
        ({"output": 2}, IndexError, "output must be from 0 to 1"),
        ({"step": 9}, IndexError, "step must be from -6 to 5, got 9"),
    ],
)
def test_wrong_arguments_raise_one_clear_error(arguments, error, message):
    with pytest.raises(error, match=message):
        explain.occlusion(model_of("steps"), np.zeros((T, I)), **({"output": 0} | arguments))
