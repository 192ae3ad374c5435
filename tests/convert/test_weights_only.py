"""Property: a file of weights omits nothing silently: it is an error, or requested and reported."""

import dataclasses
import re

import numpy as np
import pytest
from case_loops import loop_over

import glasscell as gc
from glasscell.cli import main
from glasscell.convert.weights_only import TRAINING_ONLY, architecture_of, not_held
from glasscell.layers import (
    BatchNorm,
    Conv1D,
    Dropout,
    Embedding,
    FinalState,
    Function,
    LayerNorm,
    Linear,
    Masking,
    Pool,
    RepeatVector,
    Squeeze,
    Step,
    SwapHalves,
    Unsqueeze,
)
from glasscell.layers.registry import STATELESS, layer_class
from glasscell.recurrent.config import LSTMConfig

LOST = "layer 'final' (FinalState), layer 'a_relu' (Relu), layer 'b_soft' (Softmax)"


def drawn(model, rng):
    model.parameters.vector[:] = rng.normal(scale=0.5, size=model.parameters.vector.size)
    return model


def classifier(rng):
    head = [Linear(5, 4), Function("Relu"), Dropout(0.5), Linear(4, 2), Function("Softmax")]
    names = ["lstm", "final", "a", "a_relu", "drop", "b", "b_soft"]
    return drawn(gc.Sequential([gc.LSTM(3, 5), FinalState(), *head], names), rng)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".weights.h5"])
def test_what_a_file_of_weights_cannot_hold_is_refused_by_name(suffix, rng, tmp_path):
    pytest.importorskip("h5py" if suffix.endswith("h5") else "numpy")
    model, path = classifier(rng), tmp_path / f"m{suffix}"
    with pytest.raises(ValueError, match=re.escape(f"without {LOST}; weights_only=True")) as caught:
        gc.convert.save(model, path)
    assert str(path) in str(caught.value)
    assert not path.exists()
    gc.convert.save(model, path, weights_only=True)
    assert path.exists()


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_the_computation_that_is_named_reads_it_back(suffix, rng, tmp_path, capsys):
    model, source, target = classifier(rng), tmp_path / "m.safetensors", tmp_path / f"m{suffix}"
    model.save(source)
    assert main(["convert", str(source), str(target)]) == 2
    assert f"without {LOST}; --weights-only writes" in capsys.readouterr().err
    assert not target.exists()
    assert main(["convert", str(source), str(target), "--weights-only"]) == 0
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{target} contains only weights, without {LOST}, the order of the layers")
    chain = line.partition("--architecture ")[2].partition(" ")[0]
    assert chain == "lstm,final,a,relu,b,softmax"
    x = rng.normal(size=(2, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(gc.convert.load(target, architecture=chain)(x), model(x))
    assert main(["convert", str(target), str(tmp_path / "again.safetensors"), "--architecture", chain]) == 0
    np.testing.assert_array_equal(gc.convert.load(tmp_path / "again.safetensors")(x), model(x))


def test_a_file_that_says_all_needs_no_word(rng, tmp_path, capsys):
    gc.convert.save(drawn(gc.LSTM(3, 4), rng), tmp_path / "m.safetensors")
    for name in ("n.pt", "n.safetensors"):
        assert main(["convert", str(tmp_path / "m.safetensors"), str(tmp_path / name)]) == 0
        assert capsys.readouterr().err == ""
    gc.CopyLSTM(hidden_size=4).save(tmp_path / "c.safetensors")
    assert main(["convert", str(tmp_path / "c.safetensors"), str(tmp_path / "c.pt")]) == 0
    assert "without the order of the layers; read it with --architecture lstm,readout" in capsys.readouterr().err


def test_weights_only_is_for_files_of_weights(rng, tmp_path):
    for name in ("m.safetensors", "m.onnx", "m.keras", "m.h5"):
        with pytest.raises(ValueError, match=r"weights_only is for .*\.pt.*\.weights\.h5"):
            gc.convert.save(classifier(rng), tmp_path / name, weights_only=True)
    assert not list(tmp_path.iterdir())


SETTINGS = {
    "gate": {"gate_activation": ("HardSigmoid", 1 / 6, 0.5)},
    "candidate": {"candidate_activation": "Relu", "output_activation": "Relu"},
    "reverse": {"outputs_in": "processing", "reverse": True},
    "merge": {"bidirectional": True, "merge": "sum"},
}


@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)
def test_settings_of_keras_that_its_weights_do_not_show(options, rng, tmp_path):
    pytest.importorskip("h5py")
    lstm = drawn(gc.LSTM(3, 4, **options), rng)
    with pytest.raises(ValueError, match=list(options)[-1]):
        gc.convert.keras.save(lstm, tmp_path / "m.weights.h5")
    with pytest.raises(ValueError, match=r"nn\.LSTM does not support"):
        gc.convert.save(lstm, tmp_path / "m.pt", weights_only=True)


def test_every_option_is_held_or_reported():
    """An option that is new is reported for Keras until it is listed."""
    held = {name for name, option in LSTMConfig.declared.items() if option.training_only}
    held |= {"input_size", "hidden_size", "num_layers", "bidirectional", "bias", "masked_outputs"}

    class Options:
        declared = LSTMConfig.declared

        @staticmethod
        def non_default():
            return dict.fromkeys(LSTMConfig.declared, 0)

    lstm = gc.LSTM(2, 3)
    lstm.options = Options()
    [reported] = not_held(lstm, keras=True)
    assert (
        set(reported.removeprefix("layer 'lstm' (LSTM: ").removesuffix(")").split(", "))
        == set(LSTMConfig.declared) - held
    )


def test_every_layer_is_held_or_reported():
    """A layer without weights that is new is reported until it is listed among those of training alone."""
    for kind in map(layer_class, STATELESS):
        values = {"rate": 0.5, "deviation": 0.5, "name": "Relu", "times": 3, "mean": 0.0, "variance": 1.0}
        fields = [field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING]
        layer = kind(**{name: values.get(name, 1) for name in fields})
        before = [] if layer.takes != "vector" else [Step(-1)]
        if isinstance(layer, Unsqueeze):  # which is first
            model = gc.Sequential([layer, gc.LSTM(1, 4)], ["layer", "lstm"])
        else:
            lstm = gc.LSTM(3, 1 if isinstance(layer, Squeeze) else 4)
            model = gc.Sequential([lstm, *before, layer], ["lstm", *(["last"] if before else []), "layer"])
        assert any("'layer'" in entry for entry in not_held(model)) is (not isinstance(layer, TRAINING_ONLY)), kind


WITH_WEIGHTS = [
    (Embedding(9, 3), None),
    (Embedding(9, 3, mask_zero=True), "mask_zero"),
    (Linear(4, 3), None),
    (Linear(4, 3, bias=False), None),
    (LayerNorm(3), "epsilon"),
    (BatchNorm(3), "epsilon"),
    (Conv1D(2, 3, 2), "stride"),
]


@pytest.mark.parametrize(("layer", "setting"), WITH_WEIGHTS, ids=lambda item: type(item).__name__)
def test_settings_of_layers_with_weights(layer, setting):
    model = gc.Sequential([layer, gc.LSTM(3, 4)], ["first", "lstm"])
    for keras in (False, True):
        lost = not_held(model, keras=keras)
        assert bool(lost) is (setting is not None)
        assert setting is None or setting in lost[0]


ARCHITECTURES = [
    ([gc.LSTM(3, 4), Step(-1), Linear(4, 2)], "0,last,2"),
    ([gc.LSTM(3, 4), Step(0)], "0,first"),
    ([gc.LSTM(3, 4), Step(-3), Function("LeakyRelu", 0.2)], "0,step:-3,leakyrelu:0.2"),
    ([gc.LSTM(3, 4, bidirectional=True), FinalState("both"), Linear(8, 2, bias=False)], "0,final,2:linear"),
    ([gc.LSTM(3, 4, bidirectional=True), FinalState("both", merge="sum")], "0,final:sum"),
    ([gc.LSTM(3, 4, bidirectional=True), FinalState("both", keep="reverse")], "0,final:reverse"),
    ([Embedding(5, 3), gc.LSTM(3, 4), Pool("max"), RepeatVector(3), gc.LSTM(4, 2)], "0:embedding,1,max,repeat:3,4"),
    ([gc.LSTM(3, 4), Function("HardSigmoid", 0.25, 0.5), Pool("mean")], "0,hardsigmoid:0.25:0.5,mean"),
    ([gc.LSTM(3, 4), SwapHalves()], None),
    ([Masking(), gc.LSTM(3, 4)], None),
]


@loop_over(("layers", "text"), ARCHITECTURES, ids=[str(item[1]) for item in ARCHITECTURES])
def test_a_computation_is_stated_as_it_is_read(layers, text, rng, tmp_path):
    model = drawn(gc.Sequential(layers), rng)
    assert architecture_of(model) == text
    if text is not None:
        gc.convert.save(model, tmp_path / "m.pt", weights_only=True)
        again = gc.convert.load(tmp_path / "m.pt", architecture=text)
        assert [repr(layer) for layer in again.layers] == [repr(layer) for layer in model.layers]
        np.testing.assert_array_equal(again.parameters.vector, model.parameters.vector)


def test_a_layer_called_like_an_operation(rng, tmp_path):
    model = drawn(gc.Sequential([gc.LSTM(3, 4), Step(-1), Linear(4, 2)], ["max", "select", "last"]), rng)
    assert architecture_of(model) == "module:max,operation:last,module:last"
    gc.convert.save(model, tmp_path / "m.pt", weights_only=True)
    again = gc.convert.load(tmp_path / "m.pt", architecture=architecture_of(model))
    np.testing.assert_array_equal(again.parameters.vector, model.parameters.vector)
