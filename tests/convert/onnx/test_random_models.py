"""Law: random models have equal outputs in ONNX Runtime after export, and are equal when they are imported again.

Activations without bounds can multiply rounding errors from step to step, up to overflow. A model and inputs are drawn
again where float32 does not determine the outputs: where they differ from those of float64 by more than a tenth of the
tolerance. Errors count relative to max(1, |value|).
"""

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.layers import LSTM, Dropout, Embedding, FinalState, Function, Linear, Pool, Step, SwapHalves
from glasscell.models import Sequential

TOLERANCE = 2e-6  # float32
SIZES = ((3, 5), (1, 2))  # B, T
V = 9
FUNCTIONS = [
    *[("Sigmoid",), ("Tanh",), ("Relu",), ("Softsign",), ("Softplus",), ("Affine", 0.4, 0.1), ("LeakyRelu", 0.3)],
    *[("ThresholdedRelu", 0.2), ("ScaledTanh", 0.8, 0.9), ("HardSigmoid", 0.25, 0.45), ("Elu", 0.7)],
]


def one_of(rng, *choices):
    return choices[rng.integers(len(choices))]


def random_lstm(rng, inputs, *, with_lengths):
    """Draw an LSTM with options that ONNX Runtime supports."""
    options = {"num_layers": int(rng.integers(1, 4))}
    direction = rng.integers(3)
    if direction == 0:
        options |= {"bidirectional": True, "merge": one_of(rng, "concat", "concat", "sum", "average", "multiply")}
    elif direction == 1:
        alone = not with_lengths and options["num_layers"] == 1
        options |= {"reverse": True, "outputs_in": one_of(rng, "time", "processing" if alone else "time")}
    choices = {
        "bias": False,
        "peepholes": True,
        "coupled": "input",
        "clip": float(one_of(rng, 0.3, 0.5, 1.0)),
        "learn_initial_state": True,
        "dropout": 0.3 if options["num_layers"] > 1 else 0.0,
        "masked_outputs": "zero" if with_lengths else "repeat",
    }
    options |= {name: value for name, value in choices.items() if rng.random() < 0.3}
    if rng.random() < 0.5:
        for name in ("gate_activation", "candidate_activation", "output_activation"):
            options[name] = one_of(rng, *FUNCTIONS)
    return LSTM(inputs, int(rng.integers(1, 6)), **options)


def random_reduction(rng, lstm, *, with_lengths):
    """Draw a layer that reduces the outputs of an LSTM to one vector per sequence."""
    options = lstm.options
    in_time = options.merge == "concat" and options.outputs_in == "time"
    directions = "both" if options.bidirectional else "reverse" if options.reverse else "forward"
    keep = one_of(rng, "both", "both", "forward", "reverse") if directions == "both" else "both"
    merges = ("sum", "average", "multiply") if (directions, keep) == ("both", "both") else ()
    final = FinalState(directions, keep, one_of(rng, "concat", *merges))
    if with_lengths:
        return [final] if in_time else []
    others = [Step(-1), Step(0), Step(-2), Pool("mean"), Pool("max")]
    return [one_of(rng, *others, *[final] * 4)] if in_time else [one_of(rng, *others)]


def random_model(rng, *, with_lengths):
    """Draw a sequence of layers."""
    F = int(rng.integers(1, 5))
    layers = one_of(rng, [], [Embedding(V, F)], [Linear(F, F), Function("Tanh")])
    for _ in range(rng.integers(1, 3)):
        layers.append(random_lstm(rng, F, with_lengths=with_lengths))
        F = layers[-1].output_size
    if rng.random() < 0.5:
        vector = random_reduction(rng, layers[-1], with_lengths=with_lengths)
        F = F // 2 if vector and getattr(vector[0], "halves", False) else F
        layers += vector
    if rng.random() < 0.2 and F % 2 == 0:
        layers.append(SwapHalves())
    if rng.random() < 0.6:
        layers += [Dropout(0.2), Linear(F, 3, bias=bool(rng.integers(2)))]
        layers.append(Function(*one_of(rng, *FUNCTIONS, ("Softmax",), ("LogSoftmax",))))
    names = [f"layer{k}" if rng.random() < 0.5 else f"net.part{k}" for k in range(len(layers))]
    return Sequential(layers, names)


def error(values, reference):
    """Return the largest error, relative where values are large; infinite where one is not finite."""
    if not np.isfinite(values).all():
        return np.inf
    return (np.abs(values - reference) / np.maximum(1, np.abs(reference))).max(initial=0)


def is_determined(model, x, states, lengths):
    """Whether float64 has the same outputs and final states, so that float32 has enough digits for every step."""
    weights = {name: array.astype(np.float64) for name, array in model.to_torch().items()}
    precise = Sequential.from_weights(model.config, weights)
    with np.errstate(all="ignore"):
        try:
            results, references = (
                (y, *(array for final in finals for array in final))
                for y, finals, _ in (each.forward(x, states, lengths=lengths) for each in (model, precise))
            )
        except ValueError:  # inputs of a layer that are not finite
            return False
    return all(error(*pair) <= TOLERANCE / 10 for pair in zip(results, references, strict=True))


def draw_case(rng, randomize, draw_inputs, draw_states=None, *, with_lengths):
    """Draw a model, and inputs, initial states and lengths of two sizes for it."""
    for _ in range(20):
        model = randomize(random_model(rng, with_lengths=with_lengths))
        lstms = [layer for layer in model.layers if isinstance(layer, LSTM)]
        batches = []
        for B, T in SIZES:
            x = draw_inputs(model, B, T)
            states = [draw_states(lstm, B) for lstm in lstms] if draw_states else None
            batches.append((x, states, rng.integers(1, T + 1, B) if with_lengths else None))
        if all(is_determined(model, *batch) for batch in batches):
            return model, batches
    raise AssertionError("of 20 random models none is determined in float32")


def exportable_config(model):
    """Return a model's configuration as far as a graph represents it: no masking, and a final state as a step."""
    config = model.config
    for k, (lstm, final, swap) in enumerate(zip(model.layers, model.layers[1:], model.layers[2:], strict=False)):
        if isinstance(final, FinalState) and isinstance(swap, SwapHalves) and lstm.output_size == 2:
            config["names"][k + 2] = ""  # to swap two features is to swap two directions: nodes of one name
    for entry, layer in zip(config["layers"], model.layers, strict=True):
        entry.pop("masked_outputs", None)
        if layer in (FinalState("forward"), FinalState("reverse")):
            entry |= {"kind": "Step", "index": -1 if layer.directions == "forward" else 0}
            entry.pop("directions")
            entry.pop("keep")
            entry.pop("merge")
    return config


@loop_over("with_lengths", [False, True])
@loop_over("trial", range(35))
def test_random_models_are_equal_in_onnxruntime_and_reimported(
    exporter, importer, run, rng, trial, with_lengths, randomize, draw_inputs
):
    model, batches = draw_case(rng, randomize, draw_inputs, with_lengths=with_lengths)
    exported_model = exporter.to_model(model, lengths=with_lengths)
    reimported = importer.from_model(exported_model)
    for x, _, lengths in batches:
        outputs = model(x, lengths=lengths)
        [runtime_outputs] = run(exported_model, x, lengths)
        assert (runtime_outputs.dtype, runtime_outputs.shape) == (outputs.dtype, outputs.shape)
        assert error(runtime_outputs, outputs) <= TOLERANCE
        np.testing.assert_array_equal(reimported(x, lengths=lengths), outputs)
    assert exportable_config(reimported) == exportable_config(model)
    assert reimported.parameters.shapes == model.parameters.shapes
    np.testing.assert_array_equal(reimported.parameters.vector, model.parameters.vector)


@loop_over("with_lengths", [False, True])
@loop_over("trial", range(20))
def test_random_models_with_initial_states(
    exporter, importer, run, rng, trial, with_lengths, randomize, draw_inputs, draw_states
):
    model, batches = draw_case(rng, randomize, draw_inputs, draw_states, with_lengths=with_lengths)
    lstms = {name: layer for name, layer in zip(model.names, model.layers, strict=True) if isinstance(layer, LSTM)}
    if any(lstm.options.learn_initial_state for lstm in lstms.values()):
        with pytest.raises(ValueError, match="has learned initial states, which states=True replaces by inputs"):
            exporter.to_model(model, lengths=with_lengths, states=True)
        return
    exported_model = exporter.to_model(model, lengths=with_lengths, states=True)
    reimported = importer.from_model(exported_model)
    assert exportable_config(reimported) == exportable_config(model)
    np.testing.assert_array_equal(reimported.parameters.vector, model.parameters.vector)
    for x, states, lengths in batches:
        y, finals, _ = model.forward(x, states, lengths=lengths)
        np.testing.assert_array_equal(reimported.forward(x, states, lengths=lengths)[0], y)
        named = {f"{name}.h_0": h for name, (h, _) in zip(lstms, states, strict=True)}
        named |= {f"{name}.c_0": c for name, (_, c) in zip(lstms, states, strict=True)}
        runtime_outputs = run(exported_model, x, lengths, **named)
        for output, runtime_output in zip(
            (y, *(array for final in finals for array in final)), runtime_outputs, strict=True
        ):
            assert runtime_output.shape == output.shape
            assert error(runtime_output, output) <= TOLERANCE
