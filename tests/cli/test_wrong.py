"""Property: an invalid command line is one line on standard error and status 2, before any work or output file."""

import io
import os
import re
import resource
import shlex
import stat
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import glasscell as gc
from glasscell.cli import copy, main, sizes
from glasscell.cli.command_line import COMMANDS
from glasscell.cli.console import ASCII, ascii_only
from glasscell.verify.checks import Check

HUGE = "1000000000"

IN_THE_WAY = {  # of a run in such a folder: a file, and the reason why it is not replaced
    "folder": ("gates.png", "a folder"),
    "device": ("model.safetensors", "a device"),
    "fifo": ("history.csv", "FIFO"),
    "link": ("model.safetensors", "a symbolic link"),
    "text": ("history.csv", "something other than the history.csv of a run"),
    "picture": ("gates.png", "something other than the gates.png of a run"),
}

WRONG = [  # the command, and what the line has to say
    # No command
    ("cpoy", ["'cpoy'", "copy"]),
    ("--nonsense", ["--nonsense"]),
    ("--vers", ["--vers"]),
    # copy
    ("copy extra", ["extra"]),
    ("copy --width", ["--width", "expected one argument"]),
    ("copy --width eight", ["--width", "'eight'"]),
    ("copy --width 8.5", ["--width", "'8.5'"]),
    ("copy --width 0", ["--width", "0"]),
    ("copy --width 65", ["--width", "1 to 64", "65"]),
    (f"copy --width {HUGE}", ["--width", "1 to 64"]),
    ("copy --width 8 --min-width 9", ["--min-width", "8", "9"]),
    ("copy --mode backwards", ["--mode", "'backwards'"]),
    ("copy --bits-per-step 0", ["--bits-per-step", "0"]),
    ("copy --bits-per-step 3", ["--width", "multiple of --bits-per-step = 3"]),
    ("copy --noise -1", ["--noise", "-1"]),
    ("copy --noise inf", ["--noise", "inf"]),
    ("copy --hidden-size 0", ["--hidden-size", "0"]),
    ("copy --hidden-size -5", ["--hidden-size", "-5"]),
    (f"copy --hidden-size {HUGE}", ["memory", "GB"]),
    (f"copy --hidden-size 1{'0' * 300}", ["memory", "GB"]),
    ("copy --num-layers 0", ["--num-layers", "0"]),
    (f"copy --num-layers {HUGE}", ["--num-layers", "at most 1000", HUGE]),
    (f"copy --batch-size {HUGE}000", ["memory", "GB"]),
    ("copy --batch-size 0", ["--batch-size", "0"]),
    ("copy --updates 0", ["--updates", "0"]),
    (f"copy --updates {HUGE}000", ["memory", "updates"]),
    ("copy --learning-rate -0.1", ["--learning-rate", "-0.1"]),
    ("copy --learning-rate inf", ["--learning-rate", "inf"]),
    ("copy --learning-rate nan", ["--learning-rate", "nan"]),
    ("copy --seed -1", ["--seed", "-1"]),
    ("copy --seed 1.5", ["--seed", "'1.5'"]),
    ("copy --over", ["--over; did you mean --overwrite? (see glasscell copy --help)"]),
    ("text train file --validatoin 0.1", ["did you mean --validation-fraction? (see glasscell text train --help)"]),
    ("classify file --patience 3", ["unrecognized arguments: --patience 3 (see glasscell classify --help)"]),
    ("copy x --zzzz", ["unrecognized arguments: x --zzzz (see glasscell copy --help)"]),
    ("copy --out ''", ["--out", "empty"]),
    ("copy --out file", ["file"]),
    ("copy --out file/below", ["file/below"]),
    ("copy --out link", ["link", "symbolic link"]),
    ("copy --out run", ["run", "earlier run", "--overwrite"]),
    *(
        (f"copy --out in_the_way/{name} {overwrite}", [f"in_the_way/{name}/{file}", reason])
        for name, (file, reason) in IN_THE_WAY.items()
        for overwrite in ("", "--overwrite")
    ),
    # try
    ("try", ["MODEL"]),
    ("try run", ["INPUT"]),
    ("try '' 1101", ["MODEL", "empty"]),
    ("try nowhere 1101", ["nowhere", "no model"]),
    ("try lstm 1101", ["no model at lstm", "did you mean lstm.safetensors?"]),
    ("try file 1101", ["file", "safetensors"]),
    ("try lstm.safetensors 1101", ["1101", ".csv"]),
    ("try run 1102", ["'1102'", "0 and 1"]),
    ("try run 1101 ''", ["''", "0 and 1"]),
    ("try pairs.safetensors 110", ["'110'", "multiple of 2"]),
    # inspect
    ("inspect run", ["--input"]),
    ("inspect --input 10", ["MODEL"]),
    ("inspect nowhere --input 10", ["nowhere"]),
    ("inspect lstm --input 10", ["did you mean lstm.safetensors?"]),
    ("inspect file --input 10", ["file"]),
    ("inspect run --input ''", ["0 and 1"]),
    ("inspect run --input 12", ["'12'", "0 and 1"]),
    ("inspect run --input 10 --target 10", ["--target"]),
    ("inspect run --input 10 --layer 3", ["--layer must be from", "got 3"]),
    ("inspect run --input 10 --unit 99", ["--unit must be from", "got 99"]),
    ("inspect run --input 10 --step 99", ["--step must be from", "got 99"]),
    ("inspect run --input 10 --symbols ''", ["symbol"]),
    ("inspect run --input 10 --symbols f,q", ["'q'"]),
    ("inspect run --input 10 --color maybe", ["--color", "'maybe'"]),
    ("inspect run --input 10 --html x.png", ["--html", ".html", "x.png"]),
    ("inspect run --input 10 --html ''", ["--html", "empty"]),
    ("inspect run --input 10 --png x.html", ["--png", ".png", "x.html"]),
    ("inspect run --input 10 --png nowhere/x.png", ["no folder nowhere"]),
    ("inspect run --input 10 --html old.html", ["old.html", "exists already", "--overwrite"]),
    ("inspect run --input 10 --html new.html --symbols q", ["'q'"]),
    ("inspect lstm.safetensors --input 1,2,3", ["glasscell: --input does not fit the model", "I = 2"]),
    ("inspect lstm.safetensors --input 1,2 --target 1,2", ["glasscell: --target does not fit the model"]),
    ("inspect lstm.safetensors --input '1,2; 3'", ["in step 1", "got 1"]),
    ("inspect lstm.safetensors --input nan,1", ["nan", "finite"]),
    ("inspect lstm.safetensors --input none.npy", ["none.npy does not exist"]),
    ("inspect lstm.safetensors --input 1,2 --loss squared_error", ["--loss", "--target"]),
    ("inspect lstm.safetensors --input 1,2 --loss hinge", ["--loss", "'hinge'"]),
    # verify
    ("verify nowhere.pt", ["nowhere.pt"]),
    ("verify lstm", ["did you mean lstm.safetensors?"]),
    ("verify file", ["file", "format"]),
    ("verify a b", ["b"]),
    ("verify --shape 4,12", ["--shape"]),
    ("verify run --shape 4", ["'4'", "4,12"]),
    ("verify run --shape 0,12", ["at least 1", "'0,12'"]),
    (f"verify run --shape {HUGE},{HUGE}", ["--shape", "memory"]),
    ("verify --seed -1", ["seed", "-1"]),
    ("verify --seed x", ["--seed", "'x'"]),
    ("verify --html lstm.safetensors", ["--html", ".html", "lstm.safetensors"]),
    ("verify --html nowhere/x.html", ["no folder nowhere"]),
    ("verify --html old.html", ["old.html", "exists already"]),
    ("verify run --key a", ["key is for"]),
    # convert
    ("convert", ["SOURCE"]),
    ("convert lstm.safetensors", ["TARGET"]),
    ("convert nowhere.pt x.onnx", ["nowhere.pt"]),
    ("convert file x.onnx", ["file", "format"]),
    ("convert lstm.safetensors x.txt", ["target", "x.txt"]),
    ("convert lstm.safetensors nowhere/x.pt", ["no folder nowhere"]),
    ("convert lstm.safetensors old.html", ["target", "old.html"]),
    ("convert run lstm.safetensors", ["lstm.safetensors", "exists already"]),
    ("convert lstm.safetensors x.pt --states", ["states are for .onnx"]),
    ("convert lstm.safetensors x.onnx --weights-only", ["--weights-only is for"]),
    ("convert lstm.safetensors x.pt --key a", ["key is for"]),
    ("convert peephole.safetensors x.pt", ["peepholes"]),
]


def words_of(line):
    """Split a command line as a shell does."""
    return shlex.split(line)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Create a folder with models, existing files, and files that are not models."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "run").mkdir()
    gc.CopyLSTM(3, task=gc.tasks.Copy(4)).save(folder / "run" / "model.safetensors")
    gc.CopyLSTM(3, task=gc.tasks.Copy(4, bits_per_step=2)).save(folder / "pairs.safetensors")
    gc.convert.save(gc.LSTM(2, 3), folder / "lstm.safetensors")
    gc.convert.save(gc.LSTM(2, 3, peepholes=True), folder / "peephole.safetensors")
    (folder / "file").write_bytes(b"no model")
    (folder / "old.html").write_bytes(b"<p>precious")
    (folder / "link").symlink_to("run")
    place = {name: folder / "in_the_way" / name / file for name, (file, _) in IN_THE_WAY.items()}
    for path in place.values():
        path.parent.mkdir(parents=True)
    place["folder"].mkdir()
    try:
        os.mknod(place["device"], stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:  # for root only
        os.mkfifo(place["device"])
    os.mkfifo(place["fifo"])
    place["link"].symlink_to(folder / "lstm.safetensors")
    place["text"].write_text("year,population\n1900,3\n")
    place["picture"].write_bytes(b"precious")
    return folder


def contents(folder):
    return {path: (path.lstat().st_mode, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}


def test_there_are_many():
    assert len({line for line, _ in WRONG}) == len(WRONG) >= 60


@pytest.mark.parametrize(("line", "parts"), WRONG, ids=[line[:60] for line, _ in WRONG])
def test_a_wrong_command_line(line, parts, folder, capsys, monkeypatch):
    def began(*_, **__):
        raise AssertionError("the work began")

    monkeypatch.chdir(folder)
    monkeypatch.setattr(copy, "fit", began)
    monkeypatch.setattr("glasscell.verify.iter_checks", began)
    before = contents(folder)
    try:
        status = main(words_of(line))
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    assert status == 2
    assert not out
    [said] = err.splitlines()
    assert said.startswith("glasscell: ")
    assert all(part in said for part in parts), said
    assert said.isprintable()
    assert contents(folder) == before


def test_sizes_that_fit_are_not_refused(monkeypatch):
    """Far below the limits, and just below the memory that there is."""
    assert sizes.available_memory() > 1e8
    need = sizes.training_bytes(2, 64, 2, 33, 64)
    monkeypatch.setattr(sizes, "available_memory", lambda: need)
    sizes.check_memory("this", need)
    with pytest.raises(ValueError, match=r"^this needs at least .* of memory, and .* are available$"):
        sizes.check_memory("this", need + 1)
    monkeypatch.setattr(sizes, "available_memory", lambda: None)
    sizes.check_memory("this", 10**30)
    sizes.check_layers("num_layers", 1000)


def test_the_estimate_is_a_lower_bound():
    """Of what training allocates: the arrays of its tape, and the weights with their copies."""
    model = gc.CopyLSTM(32, task=gc.tasks.Copy(8), num_layers=2)
    batch = model.task.batch(16, np.random.default_rng(0), model.dtype)
    tracemalloc.start()
    result = model.loss_and_gradients(batch)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    estimate = sizes.training_bytes(model.task.input_size, 32, 2, batch.inputs.shape[1], 16)
    assert result.gradients.vector.nbytes == model.parameters.vector.nbytes
    copies = (sizes.WEIGHT_COPIES - 1) * model.parameters.vector.nbytes
    assert 0.3 * (peak + copies) < estimate < peak + copies


def test_a_limit_of_the_process_counts(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (12345678, -1))
    assert sizes.available_memory() == 12345678


# Help, version


def test_a_bare_glasscell_prints_its_help(capsys):
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert not err
    assert out.startswith("usage: glasscell")
    for command in ("copy", r"predict \(try\)", "inspect", "verify", "convert"):
        assert re.search(rf"^    {command}\b|^    {command}$", out, re.MULTILINE)
    assert "Exit status" in out


def test_the_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"glasscell {gc.__version__}\n"


WITH_COMMANDS = ("text", "sweep")  # they have commands themselves
SWEEPS = [f"sweep {name}" for name in ("copy", "text", "classify", "forecast")]


@pytest.mark.parametrize("command", [*COMMANDS, "text train", "text sample", "text score", *SWEEPS])
def test_every_command_has_help_whose_choices_are_words(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*command.split(), "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert ("--ascii" in out) == (command not in WITH_COMMANDS)
    choices = [choice.strip() for part in re.findall(r"\{([^}]*)\}", out) for choice in part.split(",")]
    assert all(re.fullmatch(r"[a-z0-9]+([._-][a-z0-9]+)*", choice) for choice in choices), choices


# Characters


SHOWN = {
    "copy": ["copy", "--width", "4", "--hidden-size", "3", "--steps", "2", "--out", "new", "--overwrite"],
    "inspect, equations": ["inspect", "run", "--input", "10", "--equations", "--unit", "1"],
    "inspect, gradients": ["inspect", "run", "--input", "10", "--symbols", "c,d_c,z_f", "--color", "always"],
    "try": ["predict", "run", "1010", "0"],
    "convert": ["convert", "lstm.safetensors", "copy.safetensors", "--overwrite"],
    "verify": ["verify", "run"],
    "refused": ["predict", "ünreadable·−1", "1"],
}


@pytest.fixture
def quick(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(copy, "is_installed", lambda _: False)  # Matplotlib takes a second
    checks = [
        Check("PyTorch", "σ → −1 ± ½", 3, -1.5e-7, 1e-6),
        Check("Keras", "·", 0, None, 1.0, "cannot be loaded: é"),
    ]
    monkeypatch.setattr("glasscell.verify.iter_checks", lambda *_: iter(checks))


def run(arguments, capsys):
    status = main(arguments)
    return status, *capsys.readouterr()


def numbers(text):
    return re.findall(r"-?\d+(?:\.\d+)?(?:e[-+]\d+)?", text.replace("−", "-"))


@pytest.mark.parametrize("name", SHOWN)
def test_ascii_is_ascii_and_loses_no_number(name, quick, capsys):
    plain = run(SHOWN[name], capsys)
    in_ascii = run([*SHOWN[name], "--ascii"], capsys)
    assert plain[0] == in_ascii[0]
    assert in_ascii[1].isascii()
    assert in_ascii[2].isascii()
    assert "\x1b" not in in_ascii[1]
    if name == "inspect, equations":
        assert not plain[1].isascii()
        assert "−" in plain[1]
        assert numbers(in_ascii[1].replace("^2", "²")) == numbers(plain[1])
        assert "sigmoid(" in in_ascii[1]
        assert "?" not in in_ascii[1]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437"])
def test_signs_of_numbers_are_there_in_every_encoding(encoding, quick, monkeypatch, capsysbinary):
    def shown(encoding):
        written = io.BytesIO()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
            assert main(SHOWN["inspect, equations"]) == 0
            return written.getvalue().decode(encoding)

    signed = numbers(shown("utf-8"))
    assert any(number.startswith("-") for number in signed)
    assert numbers(shown(encoding).replace("^2", "²")) == signed
    assert "?" not in shown(encoding)


def test_every_character_of_the_package_that_commands_may_print_has_a_spelling():
    """Strings of the modules that print; what is not in the table would be an escape."""
    assert all(text.isascii() and text.isprintable() for text in ASCII.values())
    root = Path(gc.__file__).parent
    texts = "".join(path.read_text() for path in [*(root / "cli").glob("*.py"), root / "trace" / "equations.py"])
    drawn = set("▁▂▃▄▅▆▇█▀")  # only where the encoding has them
    assert {c for c in texts if not c.isascii()} - drawn <= ASCII.keys()
    assert ascii_only("é") == "\\xe9"


def test_a_name_with_control_characters_is_one_line(quick, capsys):
    status, out, err = run(["predict", "no\nsuch\x1b[31mmodel", "1"], capsys)
    assert (status, out) == (2, "")
    assert err == "glasscell: there is no model at no\\nsuch\\x1b[31mmodel\n"


def test_the_error_for_a_missing_model_names_the_file_with_the_suffix(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for read in (gc.load, gc.LSTM.load):
        with pytest.raises(FileNotFoundError, match=r"no model at lstm; did you mean lstm\.safetensors\?$"):
            read("lstm")
        with pytest.raises(FileNotFoundError, match=r"no model at nowhere$"):
            read("nowhere")
