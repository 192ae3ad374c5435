"""Laws of ``glasscell text``: it says what it does, keeps the best model whatever happens, and starts quickly."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import glasscell
import glasscell as gc
from glasscell.cli import main, text_train
from glasscell.data import TextData

TEXT = "the cat sat on the mat, and the dog sat on the log.\n" * 60
FEW = ["--hidden-size", "12", "--num-layers", "1", "--steps", "10", "--streams", "6", "--epochs", "2"]
ROOT = str(Path(glasscell.__file__).parents[1])


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cat.txt").write_text(TEXT)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run, trained for long enough to know the text."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "cat.txt").write_text(TEXT)
    options = ["--hidden-size", "24", "--num-layers", "1", "--steps", "10", "--streams", "6", "--epochs", "12"]
    options += ["--learning-rate", ".02", "--out", str(folder / "run")]
    assert main(["text", "train", str(folder / "cat.txt"), *options]) == 0
    return str(folder / "run")


def error_of(arguments, capsys):
    """Return the single line on standard error of a command that ends with status 2."""
    capsys.readouterr()
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("glasscell: ")


def process(*arguments, **options):
    environment = os.environ | {"PYTHONPATH": ROOT, "PYTHONIOENCODING": "utf-8"}
    return subprocess.Popen([sys.executable, "-W", "error", "-m", "glasscell", *arguments], env=environment, **options)


# Train


def test_a_run_prints_the_split_and_keeps_the_best_model(capsys):
    assert main(["text", "train", "cat.txt", *FEW, "--test-fraction", "0.1"]) == 0
    out, err = capsys.readouterr()
    data = TextData(TEXT, steps=10, streams=6, test=0.1)
    assert data.description in out
    assert sorted(path.name for path in Path("runs/text").iterdir()) == [
        "history.csv",
        "manifest.json",
        "model.safetensors",
    ]
    model = gc.load("runs/text")
    assert model.vocabulary == data.vocabulary
    with Path("runs/text/history.csv").open() as file:
        rows = list(csv.DictReader(file))
    scores = {int(row["update"]): float(row["validation_loss"]) for row in rows if row["validation_loss"]}
    best = min(scores, key=scores.get)
    assert f"the model of update {best} is kept" in out
    assert f"validation: {scores[best]:.4f} nats per character" in out
    assert re.search(r"^test: \d\.\d{4} nats per character, \d\.\d{4} bits, perplexity \d", out, re.MULTILINE)
    assert f"validation {scores[best]:.4f}   best so far" in err
    assert len(err.splitlines()) == 2


@pytest.mark.parametrize(
    "options", [["--bytes"], ["--words", "--vocabulary-size", "8"], ["--tied"], ["--validation-fraction", "0"]]
)
def test_units_ties_and_a_training_without_validation(options, capsys):
    Path("more.txt").write_text("the end. " * 50)
    assert main(["text", "train", "cat.txt", "more.txt", *FEW, *options, "--split", "tail"]) == 0
    model = gc.load("runs/text")
    unit = {"--bytes": "bytes", "--words": "words"}.get(options[0], "characters")
    assert model.vocabulary.unit == unit
    assert model.tied == (options[0] == "--tied")
    assert ("best so far" in capsys.readouterr().err) == (options[0] != "--validation-fraction")
    assert len(model.vocabulary) == {"--bytes": 256, "--words": 8}.get(options[0], len(set(TEXT)))


def test_a_diverging_training_keeps_the_best_model(capsys, monkeypatch):
    fit = text_train.fit

    def diverging(model, data, callbacks, **options):
        def spoil(state):
            if state.history.updates == 60:
                model.parameters.vector[:] = np.inf

        return fit(model, data, callbacks=[*callbacks, spoil], **options)

    monkeypatch.setattr(text_train, "fit", diverging)
    assert main(["text", "train", "cat.txt", *FEW]) == 1
    assert "the model of update 47 is kept in runs/text" in capsys.readouterr().err
    assert np.isfinite(gc.load("runs/text").parameters.vector).all()


def test_an_interrupt_keeps_the_best_model(capsys, monkeypatch):
    fit = text_train.fit

    def interrupted(model, data, callbacks, **options):
        def press(state):
            if state.history.updates == 60:
                signal.raise_signal(signal.SIGINT)

        return fit(model, data, callbacks=[press, *callbacks], **options)

    monkeypatch.setattr(text_train, "fit", interrupted)
    assert main(["text", "train", "cat.txt", *FEW]) == 130
    err = capsys.readouterr().err
    assert "interrupted; the model of update 47 is kept in runs/text" in err
    with Path("runs/text/history.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 60


def test_an_interrupt_before_the_first_validation_keeps_the_last_weights(capsys, monkeypatch):
    fit = text_train.fit

    def interrupted(model, data, callbacks, **options):
        return fit(model, data, callbacks=[lambda _: signal.raise_signal(signal.SIGINT), *callbacks], **options)

    monkeypatch.setattr(text_train, "fit", interrupted)
    assert main(["text", "train", "cat.txt", *FEW]) == 130
    assert "the model of update 1 is kept in runs/text" in capsys.readouterr().err
    assert gc.load("runs/text").parameters.vector.any()


def test_a_killed_training_has_written_its_best_model():
    run = process("text", "train", "cat.txt", *FEW, "--epochs", "100000", stderr=subprocess.PIPE)
    try:
        while b"best so far" not in run.stderr.readline():
            pass
    finally:
        run.kill()
        run.communicate()
    assert gc.load("runs/text").hidden_size == 12


def test_a_model_that_cannot_be_written_does_not_end_the_training(capsys, monkeypatch):
    save, calls = gc.LanguageModel.save, []

    def failing(model, path):
        calls.append(path)
        if len(calls) == 2:  # the first validation
            raise OSError(28, "No space left on device", str(path))
        save(model, path)

    monkeypatch.setattr(gc.LanguageModel, "save", failing)
    assert main(["text", "train", "cat.txt", *FEW]) == 0
    assert gc.load("runs/text").parameters.vector.any()
    assert "the model of update 47 could not be written: [Errno 28] No space left on device" in capsys.readouterr().err


def test_an_earlier_run_is_kept_unless_it_is_overwritten(capsys):
    assert main(["text", "train", "cat.txt", *FEW, "--out", "run"]) == 0
    before = Path("run/model.safetensors").read_bytes()
    line = error_of(["text", "train", "cat.txt", *FEW, "--out", "run"], capsys)
    assert line.startswith("run contains an earlier run (model.safetensors, history.csv): choose another --out")
    assert Path("run/model.safetensors").read_bytes() == before
    assert main(["text", "train", "cat.txt", *FEW, "--out", "run", "--overwrite", "--seed", "5"]) == 0
    assert Path("run/model.safetensors").read_bytes() != before


def test_a_folder_that_cannot_be_written_is_named_before_the_text_is_read(capsys, monkeypatch):
    monkeypatch.setattr(TextData, "from_files", lambda *_, **__: pytest.fail("the text was read"))
    Path("file").write_text("")
    line = error_of(["text", "train", "cat.txt", "--out", "file/run"], capsys)
    assert line.startswith("cannot write to the folder file/run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.txt"], "there is no file missing.txt"),
        (["empty.txt"], "empty.txt must have at least one character, got an empty file"),
        (["latin.txt"], "latin.txt must be UTF-8, got the byte 0xe9 at offset 3"),
        (["short.txt"], "text must have at least 5,001 characters, 50 streams of 2 windows of 50 characters, got 5"),
        (["cat.txt", "--epochs", "0"], "--epochs must be at least 1, got 0"),
        (["cat.txt", "--hidden-size", "-1"], "--hidden-size must be at least 1, got -1"),
        (["cat.txt", "--hidden-size", "10000000"], "this training needs at least"),
        (["cat.txt", "--validation-fraction", "1"], "validation and test must be below 1 together, got 1.0 and 0.0"),
        (
            ["cat.txt", *FEW, "--patience", "2", "--validation-fraction", "0"],
            "--patience needs a validation part, got --validation-fraction 0",
        ),
        (["cat.txt", *FEW, "--learning-rate", "-1"], "--learning-rate must be finite and above 0, got -1.0"),
        (["cat.txt", *FEW, "--tied", "--embedding-size", "3"], "embedding_size must be hidden_size for tied=True"),
        (["cat.txt", "--bytes", "--vocabulary-size", "9"], "size must be None for bytes, which are 256, got 9"),
        (["cat.txt", "--bytes", "--words"], "argument --words: not allowed with argument --bytes"),
        ([""], "argument FILE: a path must not be empty"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(arguments, message, capsys):
    Path("empty.txt").write_text("")
    Path("latin.txt").write_bytes("abcé".encode("latin-1"))
    Path("short.txt").write_text("short")
    before = sorted(Path().rglob("*"))
    if message.startswith("argument"):
        with pytest.raises(SystemExit) as ended:
            main(["text", "train", *arguments])
        assert ended.value.code == 2
        line = capsys.readouterr().err.removeprefix("glasscell: ")
    else:
        line = error_of(["text", "train", *arguments], capsys)
    assert line.startswith(message)
    assert sorted(Path().rglob("*")) == before


# Sample


def test_a_prompt_of_bytes_has_the_bytes_of_the_command_line(tmp_path, capsys):
    model = gc.LanguageModel(gc.data.Vocabulary((), "bytes"), 4, 8, 1)
    model.parameters.vector[:] = np.random.default_rng(0).normal(size=model.parameters.vector.size)
    model.save(tmp_path / "bytes.safetensors")
    arguments = ["text", "sample", str(tmp_path / "bytes.safetensors"), "--length", "20", "--seed", "0"]
    assert main([*arguments, "--prompt", os.fsdecode(b"a\xff")]) == 0
    expected = "".join(model.sample(b"a\xff", 20, seed=0))
    assert capsys.readouterr().out.endswith(f"{expected}\n")
    assert expected != "".join(model.sample(os.fsdecode(b"a\xff"), 20, seed=0))


def test_a_sample_is_the_prompt_and_its_continuation(trained, capsys):
    assert main(["text", "sample", trained, "--prompt", "the cat", "--length", "60", "--seed", "3"]) == 0
    expected = "".join(gc.load(trained).sample("the cat", 60, seed=3))
    assert capsys.readouterr().out == f"the cat{expected}\n"
    assert main(["text", "sample", trained, "--prompt", "the c", "--length", "8", "--temperature", "0"]) == 0
    assert capsys.readouterr().out == "the cat sat o\n"
    samples = set()
    for _ in range(2):
        main(["text", "sample", trained, "--temperature", "5"])
        samples.add(capsys.readouterr().out)
    assert len(samples) == 2


def test_characters_are_written_as_they_are_drawn(trained):
    """Of a sample that takes hours the first characters arrive at once; it ends with its pipe."""
    run = process("text", "sample", trained, "--length", "1000000000", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert len(run.stdout.read(10)) == 10
    run.stdout.close()
    assert run.wait(timeout=60) == 0
    assert run.stderr.read() == b""
    run.stderr.close()


def test_an_interrupt_ends_a_sample_in_one_line(trained):
    with Path("out").open("wb") as out:
        run = process("text", "sample", trained, "--length", "1000000000", stdout=out, stderr=subprocess.PIPE)
    while not Path("out").stat().st_size:
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    assert run.wait(timeout=60) == 130
    assert run.stderr.read().decode().strip() == "glasscell: interrupted"
    run.stderr.close()


def test_terminals_get_no_control_characters(trained, monkeypatch, capsys):
    monkeypatch.setattr(gc.LanguageModel, "sample", lambda *_, **__: iter(["a", "\x1b", "\n", "\t", "\u202e", "é"]))
    monkeypatch.setattr("glasscell.cli.console.Console.isatty", lambda _: True)
    main(["text", "sample", trained])
    assert capsys.readouterr().out == "a\\x1b\n\t\\u202eé\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "the ☃"], "prompt must consist of characters of the vocabulary, got '☃' (U+2603) at position 4"),
        (["--temperature", "-1"], "temperature must be finite and at least 0, got -1.0"),
        (["--top-k", "1000"], "top_k must be at most the"),
        (["--length", "0"], "length must be at least 1, got 0"),
        (["--seed", "-1"], "--seed must be at least 0, got -1"),
    ],
)
def test_a_mistake_in_sampling_is_one_line(arguments, message, trained, capsys):
    assert error_of(["text", "sample", trained, *arguments], capsys).startswith(message)


def test_models_of_other_kinds_are_named(capsys, tmp_path):
    gc.CopyLSTM(4).save(tmp_path / "copy.safetensors")
    line = error_of(["text", "sample", "copy.safetensors"], capsys)
    assert line == "copy.safetensors holds a 'CopyLSTM'; expected a 'LanguageModel'"
    assert error_of(["text", "score", "missing", "cat.txt"], capsys) == "there is no model at missing"


def test_sampling_imports_little():
    """Neither training nor other commands, nor modules that take milliseconds to load."""
    gc.LanguageModel(gc.data.Vocabulary("ab"), 4, 4).save("model.safetensors")
    program = "from glasscell.cli import main; main(['text', 'sample', 'model.safetensors', '--length', '2'])"
    program += "; import sys; print(*sys.modules)"
    environment = os.environ | {"PYTHONPATH": ROOT}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True, env=environment)
    modules = set(done.stdout.split())
    assert "glasscell.models.language_model" in modules
    heavy = {"numpy.random", "pathlib", "shutil", "numba", "safetensors", "tqdm", "matplotlib", "glasscell.training"}
    heavy |= {"glasscell.convert", "glasscell.trace", "glasscell.tasks", "glasscell.cli.copy", "glasscell.cli.outputs"}
    assert not heavy & modules


def test_inspect_shows_the_model_on_a_text(trained, capsys):
    assert main(["inspect", trained, "--input", "the cat", "--html", "page.html", "--equations"]) == 0
    assert "reads “the cat”" in Path("page.html").read_text(encoding="utf-8")
    line = error_of(["inspect", trained, "--input", "the ☃"], capsys)
    assert line.startswith("--input: text must consist of characters of the vocabulary, got '☃' (U+2603)")
    line = error_of(["inspect", trained, "--input", "the", "--vocabulary", "abc"], capsys)
    assert line == "--vocabulary must be left out for a language model, whose input determines the target"


# Score


def test_a_score_is_that_of_the_model(trained, capsys):
    assert main(["text", "score", trained, "cat.txt", "--passages", "2", "--width", "12"]) == 0
    out = capsys.readouterr().out
    score = gc.load(trained).score(TEXT, passages=2, width=12)
    assert f"{score.symbols:,} characters predicted, of {len(TEXT):,}" in out
    assert re.search(rf"nats per character +{score.nats:.4f}\nbits per character +{score.bits:.4f}\n", out)
    assert re.search(rf"perplexity +{score.perplexity:.4g}\n", out)
    for passage in score.passages:
        assert re.search(
            rf"{passage.nats:.3f} +{passage.start:,}   {re.escape(passage.text.replace(chr(10), '↵'))}", out
        )


def test_several_files_and_parallel_parts(trained, capsys):
    assert main(["text", "score", trained, "cat.txt", "cat.txt", "--streams", "3", "--passages", "0"]) == 0
    out = capsys.readouterr().out
    assert f"{2 * len(TEXT) - 3:,} characters predicted" in out
    assert "surprising" not in out


def test_line_ends_are_read_as_in_training(capsys):
    Path("crlf.txt").write_bytes(TEXT.replace("\n", "\r\n").encode())
    for name, options in (("normalized", []), ("kept", ["--keep-line-ends"])):
        assert main(["text", "train", "crlf.txt", *FEW, "--epochs", "1", "--out", name, *options]) == 0
        assert ("\r" in gc.load(name).vocabulary) == bool(options)
        assert main(["text", "score", name, "crlf.txt"]) == 0
    out = capsys.readouterr().out
    assert f"of {len(TEXT):,}\n" in out
    assert f"of {len(TEXT) + TEXT.count(chr(10)):,}\n" in out


def test_a_character_of_a_scored_file_that_the_model_does_not_know_is_named(trained, capsys):
    Path("snow.txt").write_text("the ☃")
    expected = "snow.txt must consist of characters of the vocabulary, got '☃' (U+2603) at position 4"
    hint = "a model trained with --bytes, or with a smaller --vocabulary-size, accepts others"
    assert error_of(["text", "score", trained, "snow.txt"], capsys) == f"{expected}; {hint}"


def test_text_needs_one_of_its_commands(capsys):
    with pytest.raises(SystemExit):
        main(["text"])
    assert "the following arguments are required: command (see glasscell text --help)" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["text", "--help"])
    out = capsys.readouterr().out
    assert all(name in out for name in ("train", "sample", "score"))
