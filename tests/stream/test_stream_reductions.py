"""Property: after t pushes the output of a stream equals that of the model for the first t steps."""

import copy
import pickle

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.core.activations import EXTRA_ACTIVATIONS
from glasscell.layers import (
    AveragePooling1D,
    BatchNorm,
    Conv1D,
    Dropout,
    FinalState,
    Flatten,
    Function,
    GaussianDropout,
    GaussianNoise,
    LayerNorm,
    Masking,
    MaxPooling1D,
    Normalization,
    Pool,
    RepeatVector,
    Rescaling,
    SpatialDropout1D,
    Step,
)
from glasscell.stream import StreamState

CLOSE = {np.dtype(np.float32): 3e-6, np.dtype(np.float64): 1e-13}
I, H = 3, 5


def layer_lists(dtype):
    precision = {"dtype": dtype}

    def lstm(inputs=I, **options):
        return gc.LSTM(inputs, H, **options, **precision)

    def head():
        return gc.Linear(H, 2, **precision)

    return {
        "final state": [lstm(num_layers=2), FinalState(), head()],
        "last step": [lstm(peepholes=True), Step(-1), head(), Function("Softmax")],
        "mean": [lstm(), Pool("mean"), head()],
        "maximum": [lstm(), Pool("max"), Dropout(0.5), LayerNorm(H, **precision), head()],
        "no LSTM": [gc.Linear(I, 4, **precision), Pool("mean")],
        "the maximum of inputs": [Rescaling((1.0, -2.0, 0.5), (0, 1, 2)), Pool("max")],
        "normalised": [
            *(Normalization((1.0, 0.0, -1.0), (0.5, 2.0, 1.0)), lstm(), LayerNorm(H, epsilon=1e-3, **precision)),
            *(
                BatchNorm(H, **precision),
                FinalState(),
                BatchNorm(H, gain=False, **precision),
                Rescaling(0.3, -1),
                head(),
            ),
        ],
        "inverse": [Normalization(0.3, 2.0, invert=True), lstm(), BatchNorm(H, shift=False, **precision), Pool("mean")],
        "noise": [SpatialDropout1D(0.3), GaussianNoise(0.2), lstm(), GaussianDropout(0.3), FinalState(), head()],
        "causal": [Conv1D(I, 4, 3, padding="causal", dilation=2, **precision), Function("Gelu"), lstm(4)],
        "as many zeros before": [
            Conv1D(I, 6, 3, padding=(2, 0), groups=3, bias=False, **precision),
            lstm(6),
            FinalState(),
        ],
        "of one step": [Conv1D(I, 4, 1, padding="same", **precision), MaxPooling1D(1), AveragePooling1D(1), lstm(4)],
        "valid": [Conv1D(I, 4, 3, **precision), lstm(4), FinalState(), head()],
        "classifier": [
            *(Conv1D(I, 4, 3, **precision), Function("Relu"), MaxPooling1D(2), lstm(4), lstm(H, layer_norm="haste")),
            *(FinalState(), head(), Function("Softmax")),
        ],
        "strides": [
            *(Conv1D(I, 4, 3, stride=2, padding="causal", **precision), AveragePooling1D(3, 2)),
            *(Conv1D(4, 4, 2, dilation=2, groups=2, **precision), Pool("mean"), gc.Linear(4, 2, **precision)),
        ],
        "padded in part": [Conv1D(I, 4, 4, stride=3, padding=(2, 0), **precision), lstm(4), Pool("max"), head()],
        "pooled inputs": [MaxPooling1D(2, 1), AveragePooling1D(2, 3), lstm(), FinalState()],
        **{name: [lstm(), Function(name), FinalState(), Function(name), head()] for name in EXTRA_ACTIVATIONS},
    }


def model_of(layers, rng):
    model = gc.Sequential(layers)
    model.parameters.vector[:] = rng.normal(scale=0.5, size=model.parameters.vector.size)
    for layer in layers:
        for statistic in getattr(layer, "statistics", {}).values():
            statistic[:] = rng.uniform(0.3, 2, statistic.shape)
    return model


def last_output(model, x, t):
    """Return the last output for t steps; None if no step is left."""
    try:
        y = model(x[..., :t, :])
    except ValueError as error:
        if "no step -1" in str(error) or "without a step" in str(error):
            return None
        raise
    reduces = any(layer.gives == "vector" for layer in model.layers if hasattr(layer, "gives"))
    return y if reduces else y[..., -1, :]


def assert_streams(model, x):
    single, together = model.stream(), model.stream(len(x))
    compared = 0
    for t in range(1, x.shape[1] + 1):
        for stream, inputs, step in ((single, x[0], x[0, t - 1]), (together, x, x[:, t - 1])):
            y, expected = stream.push(step), last_output(model, inputs, t)
            if expected is not None:
                compared += 1
                np.testing.assert_allclose(
                    y, expected, rtol=0, atol=CLOSE[model.dtype] * max(1, np.abs(expected).max())
                )
    assert compared >= x.shape[1]


@loop_over("dtype", [np.float32, np.float64])
@loop_over("name", layer_lists(np.float32))
def test_after_every_push(name, dtype, rng):
    model = model_of(layer_lists(dtype)[name], rng)
    assert_streams(model, rng.normal(size=(3, 30, I)).astype(dtype))


@loop_over("reduction", [FinalState(), Step(-1), Pool("mean"), Pool("max")])
@loop_over("options", [{}, {"masked_outputs": "repeat"}])
def test_masked_steps_are_skipped(reduction, options, rng):
    precision = {"dtype": np.float64}
    model = model_of([Masking(0.5), gc.LSTM(I, H, **options, **precision), LayerNorm(H, **precision), reduction], rng)
    x = rng.normal(size=(4, 20, I))
    x[rng.random((4, 20)) < 0.4] = 0.5
    x[0, 0] = 0.5
    x[1, :1] = 0.0
    assert_streams(model, x)


def test_masked_ids_are_skipped(rng):
    precision = {"dtype": np.float64}
    model = model_of([gc.Embedding(4, I, mask_zero=True, **precision), gc.LSTM(I, H, **precision), Pool("mean")], rng)
    stream, x = model.stream(), rng.integers(0, 4, 20)
    x[0] = 2
    for t, symbol in enumerate(x, 1):
        np.testing.assert_allclose(stream.push(symbol), model(x[:t]), rtol=0, atol=1e-14)


def test_masks_that_are_ignored(rng):
    """As in Keras: a convolution processes masked steps, and later layers receive no mask."""
    precision = {"dtype": np.float64}

    def layers(**options):
        return [
            Masking(),
            Conv1D(I, 4, 2, **options, **precision),
            MaxPooling1D(2),
            gc.LSTM(4, H, **precision),
            FinalState(),
        ]

    x = rng.normal(size=(3, 15, I)) * (rng.random((3, 15, 1)) < 0.6)
    assert_streams(model_of(layers(ignore_mask=True), rng), x)
    with pytest.raises(
        ValueError, match=r"'1' cannot be streamed: Conv1D\(.* does not support masked steps.*ignore_mask=True"
    ):
        gc.Sequential(layers()).stream()


def test_outputs_are_0_before_the_first_valid_step(rng):
    for reduction in (FinalState(), Pool("mean"), Pool("max")):
        stream = gc.Sequential([Masking(), Rescaling(1.0, 3.0), gc.LSTM(I, H), reduction]).stream()
        assert not stream.push(np.zeros(I)).any()
        assert stream.push(np.ones(I)).any()


def test_a_mean_does_not_drift(rng):
    """An uncompensated float32 sum has a relative error of 1e-4 after 20,000 steps."""
    stream = gc.Sequential([Rescaling((1.0, 1.0, 1.0)), Pool("mean")]).stream()
    x = (rng.normal(size=(20_000, I)) + 1000).astype(np.float32)
    for step in x:
        y = stream.push(step)
    np.testing.assert_allclose(y, x.mean(axis=0, dtype=np.float64), rtol=2e-7)


STATEFUL = {  # layers whose state is not in the states of LSTMs
    "mean": lambda: [gc.LSTM(I, H), Pool("mean")],
    "max": lambda: [gc.LSTM(I, H), Pool("max")],
    "masked": lambda: [Masking(), gc.LSTM(I, H), FinalState()],
    "windows": lambda: [Conv1D(I, 4, 3, dilation=2), MaxPooling1D(2), gc.LSTM(4, H), FinalState()],
    "no LSTM": lambda: [Conv1D(I, 4, 3, stride=2), Pool("mean")],
}


def pushed(stream, x):
    return np.array([stream.push(step).copy() for step in x])


@loop_over("batch", [None, 2])
@loop_over("name", STATEFUL)
def test_state_copy_file_and_reload_keep_all_state(name, batch, rng, tmp_path):
    """Continue from a state, a copy and a file, and after reload_weights(); reset() clears everything."""
    model = model_of(STATEFUL[name](), rng)
    x = rng.normal(size=(21, I) if batch is None else (21, batch, I))
    x[[4, 11]] = 0
    stream = model.stream(batch)
    first = pushed(stream, x[:9])
    state, fork = stream.state, stream.copy()
    assert isinstance(state, StreamState)
    stream.save(tmp_path / "state.safetensors")
    expected = pushed(stream, x[9:])
    loaded, restored, unpickled = model.stream(batch), model.stream(batch), model.stream(batch)
    for other in (loaded, restored, unpickled):
        pushed(other, x[:2])
    loaded.load(tmp_path / "state.safetensors")
    restored.state = state
    unpickled.state = pickle.loads(pickle.dumps(copy.deepcopy(state)))  # noqa: S301 - the test's bytes
    fork.reload_weights()
    for other in (loaded, restored, unpickled, fork):
        np.testing.assert_array_equal(pushed(other, x[9:]), expected)
    stream.reset()
    np.testing.assert_array_equal(pushed(stream, x[:9]), first)


def test_a_state_from_forward_starts_other_layers_at_0(rng):
    """Compare with forward, which does the same with this state."""
    precision = {"dtype": np.float64}
    layers = [Conv1D(I, 4, 3, padding="causal", **precision), gc.LSTM(4, H, **precision), Pool("mean")]
    model, x = model_of(layers, rng), rng.normal(size=(12, I))
    stream = model.stream()
    pushed(stream, x[:5])
    _, stream.state, _ = model.forward(x[:5])
    _, states, _ = model.forward(x[:5])
    np.testing.assert_allclose(pushed(stream, x[5:])[-1], model.forward(x[5:], states)[0], rtol=0, atol=1e-14)


def test_an_invalid_state_raises_and_changes_nothing(rng):
    stream = model_of(STATEFUL["mean"](), rng).stream()
    pushed(stream, rng.normal(size=(4, I)))
    state, twin = stream.state, stream.copy()
    for bad in (
        StreamState(state, state.remembered[:1]),
        StreamState(state, [state.remembered[0][:2], state.remembered[1]]),
        StreamState(state, [array * np.nan for array in state.remembered]),
    ):
        with pytest.raises(ValueError, match=r"state\.remembered"):
            stream.state = bad
    x = rng.normal(size=(3, I))
    np.testing.assert_array_equal(pushed(stream, x), pushed(twin, x))


def test_layers_that_need_later_steps_are_named():
    prefix = r"'w' cannot be streamed: "
    for layer, reason in (
        (Conv1D(I, 4, 3, padding="same"), "pads after the last step"),
        (Conv1D(I, 4, 3, padding=(2, 1)), "pads after the last step"),
        (Conv1D(I, 4, 3, padding="same", stride=2), "pads after the last step"),
        (Conv1D(I, 4, 3, padding=(3, 0)), "outputs several steps before the first input"),
    ):
        with pytest.raises(ValueError, match=prefix + r"Conv1D\(.*" + reason):
            gc.Sequential([layer, gc.LSTM(4, H), FinalState()], ["w", "lstm", "end"]).stream()
    with pytest.raises(ValueError, match=prefix + r"MaxPooling1D\(.*pads before the first step"):
        gc.Sequential([MaxPooling1D(2, 1, (1, 0)), gc.LSTM(I, H)], ["w", "lstm"]).stream()
    for layer in (MaxPooling1D(2), Conv1D(I, I, 2), Conv1D(I, I, 2, padding="causal", stride=2)):
        with pytest.raises(ValueError, match=prefix + ".*outputs fewer steps than it reads, and no later layer"):
            gc.Sequential([layer, gc.LSTM(I, H)], ["w", "lstm"]).stream()
    with pytest.raises(ValueError, match=prefix + r"Flatten\(.*joins all steps"):
        gc.Sequential([gc.LSTM(I, H), Flatten()], ["lstm", "w"]).stream()
    with pytest.raises(ValueError, match=prefix + r"RepeatVector\(.*several steps for one"):
        gc.Sequential([gc.LSTM(I, H), FinalState(), RepeatVector(2)], ["lstm", "end", "w"]).stream()
    batch_norm = BatchNorm(I)
    batch_norm.statistics["running_mean"][0] = np.nan
    with pytest.raises(ValueError, match=prefix + "running_mean has NaN"):
        gc.Sequential([batch_norm], ["w"]).stream()
