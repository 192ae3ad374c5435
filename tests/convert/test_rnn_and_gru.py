"""Property: PyTorch files with an nn.RNN or an nn.GRU have the same outputs, read and written."""

import numpy as np
import pytest

import glasscell as gc
from glasscell.layers import FinalState

T, I, H = 6, 3, 4
KINDS = {"tanh": ("RNN", {}), "relu": ("RNN", {"nonlinearity": "relu"}), "gru": ("GRU", {})}


def item(name):
    """Return a module with the name rnn, for an architecture."""
    return "rnn" if name == "gru" else f"rnn:{name}"


def model_of(torch, name, **options):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            kind, cell_options = KINDS[name]
            self.rnn = getattr(torch.nn, kind)(I, H, batch_first=True, **cell_options, **options)
            self.head = torch.nn.Linear(H * (2 if self.rnn.bidirectional else 1), 2)

        def forward(self, x):
            h = self.rnn(x)[1]
            D = 2 if self.rnn.bidirectional else 1
            return self.head(h[-D:].transpose(0, 1).flatten(1))

    return Model()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}], ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_a_model_of_pytorch_computes_the_same(name, options, suffix, torch, rng, tmp_path):
    torch_model, path = model_of(torch, name, **options), tmp_path / f"m{suffix}"
    if suffix == ".pt":
        torch.save(torch_model.state_dict(), path)
    else:
        pytest.importorskip("safetensors.torch").save_file(torch_model.state_dict(), path)
    glasscell_model = gc.convert.load(path, architecture=f"{item(name)},final,head")
    x = rng.normal(size=(5, T, I)).astype(np.float32)
    expected = torch_model(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(glasscell_model(x), expected, rtol=0, atol=2e-6)
    assert glasscell_model.layers[1] == FinalState("both" if options.get("bidirectional") else "forward")
    with pytest.raises(ValueError, match="layer 'final'"):
        gc.convert.save(glasscell_model, tmp_path / "back.pt")
    gc.convert.save(glasscell_model, tmp_path / "back.pt", weights_only=True)
    torch_model.load_state_dict(torch.load(tmp_path / "back.pt", weights_only=True))
    np.testing.assert_allclose(torch_model(torch.tensor(x)).detach().numpy(), expected, rtol=0, atol=1e-6)
    gc.convert.save(glasscell_model, tmp_path / "ours.safetensors")
    np.testing.assert_array_equal(gc.load(tmp_path / "ours.safetensors")(x), glasscell_model(x))
    np.testing.assert_array_equal(gc.convert.load(tmp_path / "ours.safetensors")(x), glasscell_model(x))


@pytest.mark.parametrize("cell", [False, True], ids=["layer", "cell"])
def test_one_layer_alone(cell, torch, rng, tmp_path):
    path, x = tmp_path / "m.pt", rng.normal(size=(T, I)).astype(np.float32)
    torch_model = torch.nn.GRUCell(I, H) if cell else torch.nn.GRU(I, H)
    torch.save(torch_model.state_dict(), path)
    glasscell_model = gc.convert.load(path)
    assert [type(layer) for layer in glasscell_model.layers] == [gc.GRU]
    if not cell:
        np.testing.assert_allclose(
            glasscell_model(x), torch_model(torch.tensor(x))[0].detach().numpy(), rtol=0, atol=1e-6
        )
        gc.convert.save(glasscell_model.layers[0], tmp_path / "back.pt")
        torch_model.load_state_dict({name[4:]: value for name, value in torch.load(tmp_path / "back.pt").items()})
        np.testing.assert_allclose(
            glasscell_model(x), torch_model(torch.tensor(x))[0].detach().numpy(), rtol=0, atol=1e-6
        )
    glasscell_model.layers[0].save(tmp_path / "gru.safetensors")
    for model in (gc.load(tmp_path / "gru.safetensors"), gc.convert.load(tmp_path / "gru.safetensors")):
        np.testing.assert_array_equal(model(x), glasscell_model(x))


def test_the_nonlinearity_of_an_rnn_is_never_guessed(torch, tmp_path):
    path = tmp_path / "m.pt"
    torch.save(torch.nn.RNN(I, H).state_dict(), path)
    with pytest.raises(ValueError, match="do not hold: state it, architecture='rnn:tanh' or 'rnn:relu'"):
        gc.convert.load(path)
    assert list(gc.convert.weights(path).other) == ["rnn"]
    for nonlinearity in ("tanh", "relu"):
        model = gc.convert.load(path, architecture=f"rnn:{nonlinearity}")
        assert model.layers[0].nonlinearity == nonlinearity
        with pytest.raises(ValueError, match="RNN: nonlinearity"):
            gc.convert.save(model, tmp_path / "back.pt")
    torch.save(torch.nn.GRU(I, H).state_dict(), path)
    with pytest.raises(ValueError, match=r"the kind of 'gru' must be GRU, got 'gru:tanh'"):
        gc.convert.load(path, architecture="gru:tanh")
    torch.save({"a.weight": torch.ones(2, 2), "a.bias": torch.ones(2, 2)}, path)
    with pytest.raises(ValueError, match="'a:relu' must be an RNN, and is not"):
        gc.convert.load(path, architecture="a:relu")


def test_what_other_formats_lack_is_refused_by_name(tmp_path):
    chain = gc.Sequential([gc.GRU(I, H), gc.Linear(H, 2)], names=["encoder", "head"])
    paper = gc.Sequential([gc.GRU(I, H, reset_after=False)], names=["encoder"])
    with pytest.raises(ValueError, match=r"the layer 'encoder': PyTorch's nn.GRU has no reset_after=False"):
        gc.convert.save(paper, tmp_path / "m.pt", weights_only=True)
    pytest.importorskip("onnx")
    with pytest.raises(ValueError, match=r"'encoder'.*GRU"):
        gc.convert.save(chain, tmp_path / "m.onnx")
    chain.save(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="must contain an LSTM"):
        gc.convert.lstms(tmp_path / "m.safetensors")
