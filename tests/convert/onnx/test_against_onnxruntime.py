"""Law: an LSTM node computes what onnxruntime's does, in single precision to 2e-6.

Not supported by onnxruntime 1.32 on the CPU:

- layout = 1; float64 (float16 is computed in float32 and cast back, as here)
- operator version 1, of opsets 1 to 6
- no hidden_size, which the specification derives from R
- a clip that is not positive; other than 3 activations per direction; other names than the eleven
- a direction with capitals (activations may have them); sequence_lens that are not int32

Differences:

- A sequence of length 0 has a final state of 0, also with an initial state; so has every sequence if T = 0.
  (Here they keep their initial state.)
- Without activation_alpha and activation_beta, those of Affine, ScaledTanh and ThresholdedRelu are 0. (Here they are
  the defaults of the operators, as the specification states: 1 and 0, 1 and 1, and 1.)
- With a bias, NaN before an activation becomes a large number: it is lost in the comparisons of the clip, which is
  always applied. (Here it stays NaN, as in onnxruntime without a bias.)
- Softplus is log(1 + e^z), and infinite above 88. (Here it is about z.)
- A clip may be infinite, and input_forget may be any integer. (Here 0 or 1.)
- A batch of no sequences ends the process. (Here the outputs are empty.)

In both, surplus values of activation_alpha and activation_beta are ignored, and ThresholdedRelu is 0 at the threshold,
where the text of the LSTM operator has z.
"""

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.convert.onnx.operator import INPUTS, OUTPUTS

BOUND = 2e-6
OPSETS = (7, 14, 22)
DIRECTIONS = ("forward", "reverse", "bidirectional")
PARAMETERS = {  # of each activation: whether it has an α and a β
    "Sigmoid": (False, False),
    "Tanh": (False, False),
    "Relu": (False, False),
    "Affine": (True, True),
    "LeakyRelu": (True, False),
    "ThresholdedRelu": (True, False),
    "ScaledTanh": (True, True),
    "HardSigmoid": (True, True),
    "Elu": (True, False),
    "Softsign": (False, False),
    "Softplus": (False, False),
}


@pytest.fixture(scope="module")
def run_onnxruntime(onnxruntime):
    """Run a model in onnxruntime."""

    def run_onnxruntime(model, inputs):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        feeds = {feed.name: inputs[feed.name] for feed in session.get_inputs()}
        return dict(zip(names, session.run(names, feeds), strict=True))

    return run_onnxruntime


@pytest.fixture
def run_glasscell(backend):
    """Run a model on Glasscell's operator."""

    def run_glasscell(model, inputs):
        prepared = backend.prepare(model)
        outputs = prepared.run([inputs[name] for name in prepared.inputs])
        return dict(zip(prepared.outputs, outputs, strict=True))

    return run_glasscell


def assert_close(results, references, lengths):
    """Compare outputs, relative to values above 1, except the states of sequences of length 0."""
    assert results.keys() == references.keys()
    for name, reference in references.items():
        assert results[name].dtype == reference.dtype == np.float32
        assert results[name].shape == reference.shape
        assert np.isfinite(reference).all()
        error = np.abs(results[name] - reference) / np.maximum(1, np.abs(reference))
        if name != "Y" and lengths is not None:
            error = error[:, lengths > 0]
        assert error.max(initial=0) <= BOUND


def draw_parameters(rng, activations):
    """Draw the α and β of activations."""
    alphas = [rng.uniform(0.05, 0.9) for name in activations if PARAMETERS[name][0]]
    betas = [rng.uniform(0.05, 0.9) for name in activations if PARAMETERS[name][1]]
    return {name: values for name, values in [("activation_alpha", alphas), ("activation_beta", betas)] if values}


def draw_lengths(rng, T, N, kind):
    return {"none": None, "full": np.full(N, T, np.int32), "ragged": rng.integers(0, T + 1, N).astype(np.int32)}[kind]


@loop_over("trial", range(180))
def test_random_node(trial, rng, operands, model_of, run_glasscell, run_onnxruntime):
    direction, opset = DIRECTIONS[trial % 3], OPSETS[trial // 3 % 3]
    D = 2 if direction == "bidirectional" else 1
    T, N, I, H = (int(size) for size in rng.integers(1, (10, 6, 6, 9)))
    attributes = {"direction": direction, "hidden_size": H}
    unbounded = trial % 2
    if unbounded:
        attributes["activations"] = [str(name) for name in rng.choice([*PARAMETERS], 3 * D)]
        attributes |= draw_parameters(rng, attributes["activations"])
    if rng.random() < 0.4:
        attributes["clip"] = float(rng.uniform(0.1, 1.5))
    if rng.random() < 0.4:
        attributes["input_forget"] = 1
    inputs = operands(T, N, I, H, D, size=0.15 if unbounded else 0.6, dtype=np.float32)
    for name in ("B", "initial_h", "initial_c", "P"):
        if rng.random() < 0.4:
            del inputs[name]
    inputs["sequence_lens"] = lengths = draw_lengths(rng, T, N, rng.choice(["none", "full", "ragged", "ragged"]))
    outputs = [name for name in OUTPUTS if rng.random() < 0.8] or ["Y_c"]
    constants = [name for name in INPUTS if name != "X" and rng.random() < 0.5]
    model = model_of(attributes, inputs, outputs=outputs, constants=constants, opset=opset)
    assert_close(run_glasscell(model, inputs), run_onnxruntime(model, inputs), lengths)


@loop_over("activation", PARAMETERS)
@loop_over("role", range(3), ids=["f", "g", "h"])
@loop_over("explicit", [True, False], ids=["explicit", "default"])
def test_each_activation_in_each_role(
    activation, role, explicit, rng, operands, model_of, run_glasscell, run_onnxruntime
):
    """In both directions, with separate parameters; with default parameters only where the defaults agree."""
    activations = ["Sigmoid", "Tanh", "Tanh"] * 2
    activations[role] = activations[role + 3] = activation
    attributes = {"direction": "bidirectional", "hidden_size": 5, "activations": activations}
    if explicit or activation in ("Affine", "ScaledTanh", "ThresholdedRelu"):
        attributes |= draw_parameters(rng, activations)
    inputs = operands(8, 4, 3, 5, 2, size=0.15, dtype=np.float32)
    inputs["sequence_lens"] = lengths = np.array([8, 5, 0, 1], np.int32)
    model = model_of(attributes, inputs)
    assert_close(run_glasscell(model, inputs), run_onnxruntime(model, inputs), lengths)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_larger_node(direction, operands, model_of, run_glasscell, run_onnxruntime):
    inputs = operands(30, 8, 20, 64, 2 if direction == "bidirectional" else 1, size=0.15, dtype=np.float32)
    model = model_of({"direction": direction, "hidden_size": 64}, inputs, constants=("W", "R", "B"))
    assert_close(run_glasscell(model, inputs), run_onnxruntime(model, inputs), None)


def test_half_precision(operands, model_of, run_glasscell, run_onnxruntime):
    inputs = operands(dtype=np.float16)
    model = model_of({"hidden_size": 4}, inputs)
    expected = run_onnxruntime(model, inputs)
    for name, array in run_glasscell(model, inputs).items():
        assert array.dtype == np.float16
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-3)  # one rounding of float16 below 2


# Differences


@pytest.mark.parametrize("outputs", [OUTPUTS, OUTPUTS[1:]])
def test_sequence_of_length_0(outputs, operands, model_of, run_glasscell, run_onnxruntime):
    inputs = operands(dtype=np.float32) | {"sequence_lens": np.array([3, 0, 5], np.int32)}
    model = model_of({"hidden_size": 4}, inputs, outputs=outputs)
    for run, h, c in [
        (run_glasscell, inputs["initial_h"], inputs["initial_c"]),
        (run_onnxruntime, np.zeros((1, 3, 4)), np.zeros((1, 3, 4))),
    ]:
        outputs_of_run = run(model, inputs)
        np.testing.assert_array_equal(outputs_of_run["Y_h"][:, 1], h[:, 1])
        np.testing.assert_array_equal(outputs_of_run["Y_c"][:, 1], c[:, 1])


@pytest.mark.parametrize(
    ("activation", "alpha", "beta"), [("Affine", 1.0, 0.0), ("ScaledTanh", 1.0, 1.0), ("ThresholdedRelu", 1.0, None)]
)
def test_default_parameters(activation, alpha, beta, operands, model_of, run_glasscell, run_onnxruntime):
    """In onnxruntime they are 0, here those of the operators of these names."""
    inputs = operands(size=1, dtype=np.float32)
    attributes = {"hidden_size": 4, "activations": ["Sigmoid", activation, "Tanh"]}
    explicit = attributes | {"activation_alpha": [alpha]} | ({} if beta is None else {"activation_beta": [beta]})
    zero = attributes | {"activation_alpha": [0.0]} | ({} if beta is None else {"activation_beta": [0.0]})
    default, as_explicit, as_zero = (model_of(options, inputs) for options in (attributes, explicit, zero))
    assert_close(run_glasscell(default, inputs), run_onnxruntime(as_explicit, inputs), None)
    assert_close(run_glasscell(as_zero, inputs), run_onnxruntime(default, inputs), None)
