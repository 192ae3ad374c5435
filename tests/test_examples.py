"""Law: every example runs as it is printed, is short, and does what its comments claim."""

import re
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import glasscell as gc

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))

pytestmark = pytest.mark.skipif(not EXAMPLES, reason="examples are not part of an installed package")


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run an example with these arguments in an empty folder; return its names and what it prints."""

    def run(name, *arguments, **replacements):
        path = FOLDER / f"{name}.py"
        source = path.read_text("utf-8")
        for old, new in replacements.items():  # shorter trainings where the length does not matter
            assert re.search(rf"\b{old}=\d+", source)
            source = re.sub(rf"\b{old}=\d+", f"{old}={new}", source)
        path = tmp_path / path.name
        path.write_text(source, "utf-8")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        return runpy.run_path(str(path), run_name="__main__"), capsys.readouterr().out

    return run


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short_and_name_their_command(path):
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) < 60
    assert lines[2].startswith(f"    python examples/{path.name}")
    assert lines[0].startswith('"""')


def test_every_example_is_run_here():
    tests = Path(__file__).read_text("utf-8")
    assert {path.stem for path in EXAMPLES} == set(re.findall(r'run\("(\w+)"', tests))


def test_text(run):
    names, printed = run("text")
    losses = names["history"]["loss"]
    assert losses[-1] < 0.2 * losses[0]
    likely, unlikely = (names["model"].score(text).perplexity for text in ("the cow sees a.", "eht woc sees a."))
    assert likely < unlikely
    assert len(names["sample"]) == 200
    assert "the " in names["sample"]
    assert names["sample"] in printed
    assert names["loaded"].score("the hen ").nats == names["model"].score("the hen ").nats


def test_text_of_a_file(run, tmp_path):
    (tmp_path / "book.txt").write_text("one two three four five six seven\n" * 100, "utf-8")
    names, _ = run("text", "book.txt", epochs=2)
    assert set(names["data"].vocabulary.names) >= set("onetwhrfuivsx")


def test_labels(run):
    names, printed = run("labels")
    assert names["correct"] >= 0.9
    assert names["history"]["loss"][-1] < 0.2 * names["history"]["loss"][0]
    assert f"{names['correct']:.1%} of 50 sequences" in printed


def test_labels_of_a_file(run, tmp_path, rng):
    rows = [f"{'up' if k % 2 else 'down'},{','.join(map(str, (k % 2) * 2.0 + rng.normal(size=6)))}" for k in range(24)]
    (tmp_path / "rows.csv").write_text("\n".join(["state,a,b,c,d,e,f", *rows]), "utf-8")
    names, _ = run("labels", "rows.csv", "state", updates=5)
    assert names["model"].classes == ["down", "up"]
    assert len(names["x"]) == 18
    assert len(names["x_test"]) == 6


def test_series(run):
    names, printed = run("series")
    assert names["error"] < names["error_of_last_year"]
    assert 6 <= names["inside"].sum() <= 12
    assert np.isfinite(names["forecast"].values).all()
    assert "inside the interval" in printed


def test_series_of_a_file(run, tmp_path, rng):
    values = 10 + np.sin(np.arange(160) * np.pi / 6) + 0.1 * rng.normal(size=160)
    (tmp_path / "series.csv").write_text("\n".join(["sales", *map(str, values)]), "utf-8")
    names, _ = run("series", "series.csv", "sales", updates=3)
    np.testing.assert_allclose(names["y"], values)


def test_own_task(run):
    names, _ = run("own_task")
    history, task = names["history"], names["task"]
    assert history["validation_sequence_accuracy"][-1] == 1
    bits, targets = task.batch(7, 9, np.random.default_rng(0), "float64")[:2]
    np.testing.assert_array_equal(np.bitwise_xor.accumulate(bits.astype(int), axis=1), targets)
    assert names["odd"][:, 0].tolist() == [True, True, False, True, True, True, False]


def test_own_loop(run):
    names, _ = run("own_loop")
    assert names["losses"][-1] < 0.05 * names["losses"][0]
    # The same updates as those of fit, with the same batches in the same order.
    model = gc.Sequential([gc.LSTM(1, 24), gc.Linear(24, 1)], seed=0)
    rng, x, y = np.random.default_rng(0), names["x"], names["y"]
    batches = [[(x[r], y[r]) for r in np.array_split(rng.permutation(len(x)), 10)] for _ in range(20)]
    data = [batch for epoch in batches for batch in epoch]
    gc.fit(model, data, epochs=1, loss="squared_error", optimizer=gc.Adam(0.01), clip_norm=1.0)
    np.testing.assert_allclose(model.parameters.vector, names["weights"], rtol=1e-4, atol=1e-5)


def test_own_loop_with_a_file(run, tmp_path, rng):
    x = rng.normal(size=(20, 5, 3))
    np.savez(tmp_path / "data.npz", x=x, y=x[..., :2])
    names, _ = run("own_loop", "data.npz")
    assert names["model"](x[0]).shape == (5, 2)
    assert names["losses"][-1] < names["losses"][0]


def check_fine_tuning(names, head):
    """Assert that the first fit changed the head alone, the second all weights, and that both improved the model."""
    before, after, model = names["before"], names["after"], names["model"]
    assert [name for name in after if (after[name] != before[name]).any()] == [f"{head}.weight", f"{head}.bias"]
    assert all((model.parameters[name] != after[name]).any() for name in after if "reverse" not in name)
    first, second = names["head_only"], names["all_weights"]
    assert first["loss"][-8:].mean() < first["loss"][:8].mean()
    assert second["loss"][-8:].mean() < first["loss"][-8:].mean()
    assert second["validation_accuracy"][-1] > max(0.8, first["validation_accuracy"][-1])
    np.testing.assert_array_equal(
        after[f"{names['body_name']}.kernel_l0"], names["lstm_of_source"].parameters["kernel_l0"]
    )


def test_finetune_pytorch(run, torch):
    names, printed = run("finetune_pytorch")
    check_fine_tuning(names | {"body_name": "lstm", "lstm_of_source": names["lstm"]}, "head")
    assert "['head.weight', 'head.bias']" in printed
    x = names["x"][:5]
    with torch.no_grad():
        h = names["tuned"]["lstm"](torch.tensor(x))[1][0][-1]
        theirs = names["tuned"]["head"](h).numpy()
    np.testing.assert_allclose(names["model"](x), theirs, atol=1e-4)


def test_finetune_pytorch_of_a_file(run, torch, tmp_path):
    module = torch.nn.ModuleDict({"lstm": torch.nn.LSTM(4, 16, batch_first=True), "head": torch.nn.Linear(16, 5)})
    torch.save(module.state_dict(), tmp_path / "model.pt")
    names, _ = run("finetune_pytorch", "model.pt", epochs=1)
    assert names["model"](names["x"]).shape == (300, 3)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in Keras
@pytest.mark.skipif(find_spec("h5py") is None, reason="h5py is not installed: pip install h5py")
def test_finetune_keras(run, keras):
    names, printed = run("finetune_keras")
    source = {"body_name": "encoder", "lstm_of_source": names["pretrained"].layers[0]}
    check_fine_tuning(names | source, "new_head")
    assert "encoder" in printed
    difference = np.abs(np.asarray(names["tuned"](names["x"][:5]).detach()) - names["model"](names["x"][:5])).max()
    assert difference < 1e-4
