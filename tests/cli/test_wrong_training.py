"""Property: a wrong option of a training is one line on standard error and status 2, before any work or file."""

import shlex
from pathlib import Path

import pytest
from training_commands import MODULES, write_data

from glasscell.cli import main

TEXT = "text train cat.txt --streams 6 --steps 10"
CLASSES = "classify rows.csv --label kind"
SERIES = "forecast s.csv --column sales --horizon 6 --window 20"

LARGE = {"large_in_calibration": 75, "large_in_test": 97}  # tables of a series, and their line with a large value
WRONG = [  # the command line, and what the message has
    ("text train", ["FILE"]),
    ("text train none.txt", ["none.txt"]),
    ("text train ''", ["a path must not be empty"]),
    ("text train .", ["regular file"]),
    ("text train empty.txt", ["empty.txt", "empty file"]),
    ("text train binary.txt", ["binary.txt"]),
    (f"{TEXT} --streams 0", ["--streams", "0"]),
    (f"{TEXT} --streams 1000", ["streams"]),
    (f"{TEXT} --steps 0", ["--steps", "0"]),
    (f"{TEXT} --steps 5000", ["steps"]),
    (f"{TEXT} --hidden-size 0", ["--hidden-size", "0"]),
    (f"{TEXT} --hidden-size 1000000000", ["memory"]),
    (f"{TEXT} --num-layers -1", ["--num-layers", "-1"]),
    (f"{TEXT} --num-layers 1001", ["--num-layers", "1000"]),
    (f"{TEXT} --embedding-size 0", ["--embedding-size", "0"]),
    (f"{TEXT} --tied --embedding-size 7", ["tied"]),
    (f"{TEXT} --epochs 0", ["--epochs", "0"]),
    (f"{TEXT} --dropout 1", ["dropout", "1"]),
    (f"{TEXT} --dropout -0.1", ["dropout", "-0.1"]),
    (f"{TEXT} --split middle", ["--split", "'middle'"]),
    (f"{TEXT} --validation-fraction 1", ["validation", "1"]),
    (f"{TEXT} --validation-fraction -1", ["validation", "-1"]),
    (f"{TEXT} --test-fraction nan", ["test", "nan"]),
    (f"{TEXT} --vocabulary-size 1", ["size must be at least 2"]),
    (f"{TEXT} --learning-rate -1", ["--learning-rate", "-1"]),
    (f"{TEXT} --learning-rate nan", ["--learning-rate", "nan"]),
    (f"{TEXT} --clip-norm 0", ["--clip-norm", "0"]),
    (f"{TEXT} --clip-norm inf", ["--clip-norm", "inf"]),
    (f"{TEXT} --schedule step", ["--schedule", "'step'"]),
    (f"{TEXT} --evaluate-every 0", ["--evaluate-every", "0"]),
    (f"{TEXT} --patience 0", ["--patience", "0"]),
    (f"{TEXT} --patience 3 --validation-fraction 0", ["--patience", "--validation-fraction 0"]),
    (f"{TEXT} --seed -1", ["seed", "-1"]),
    (f"{TEXT} --bytes --words", ["--words", "not allowed with"]),
    ("classify none.csv", ["none.csv"]),
    ("classify rows.csv", ["--label", "rows.csv"]),
    ("classify rows.csv --label size", ["--label", "'size'"]),
    ("classify cat.txt --label kind", ["cat.txt"]),
    (f"{CLASSES} --test none.csv", ["none.csv"]),
    (f"{CLASSES} --test-fraction 0", ["test-fraction", "0"]),
    (f"{CLASSES} --test-fraction 1", ["test-fraction", "1"]),
    (f"{CLASSES} --validation-fraction 1.5", ["validation-fraction", "1.5"]),
    (f"{CLASSES} --window 3", ["--window", "--per-step"]),
    (f"{CLASSES} --hidden-size 0", ["--hidden-size", "0"]),
    (f"{CLASSES} --num-layers 0", ["--num-layers", "0"]),
    (f"{CLASSES} --pooling sum", ["--pooling", "'sum'"]),
    (f"{CLASSES} --dropout 2", ["dropout", "2"]),
    (f"{CLASSES} --noise -1", ["noise", "-1"]),
    (f"{CLASSES} --updates 0", ["--updates", "0"]),
    (f"{CLASSES} --updates 1000000000000", ["memory"]),
    (f"{CLASSES} --batch-size 0", ["--batch-size", "0"]),
    (f"{CLASSES} --learning-rate 0", ["--learning-rate", "0"]),
    (f"{CLASSES} --class-weights a=1", ["--class-weights", "b"]),
    (f"{CLASSES} --class-weights a=1,b=x", ["--class-weights", "'a=1,b=x'"]),
    (f"{CLASSES} --class-weights a=1,b=-1", ["-1"]),
    (f"{CLASSES} --seed -1", ["--seed", "-1"]),
    (f"{CLASSES} --seeds 0", ["--seeds", "0"]),
    ("forecast none.csv --column sales", ["none.csv"]),
    ("forecast s.csv --column size", ["size"]),
    (f"{SERIES} --column sales sales", ["sales"]),
    (f"{SERIES} --horizon 0", ["--horizon", "0"]),
    (f"{SERIES} --season 0", ["--season", "0"]),
    (f"{SERIES} --season 500", ["--season", "500"]),
    (f"{SERIES} --differences 12,x", ["--differences", "'12,x'"]),
    (f"{SERIES} --lags 0", ["lags", "0"]),
    (f"{SERIES} --hidden-size 0", ["--hidden-size", "0"]),
    (f"{SERIES} --num-layers 0", ["--num-layers", "0"]),
    (f"{SERIES} --members 0", ["--members", "0"]),
    (f"{SERIES} --members 1000000", ["--members", "1000000"]),
    (f"{SERIES} --window 0", ["window", "0"]),
    (f"{SERIES} --window 1000", ["window", "1000"]),
    (f"{SERIES} --updates 0", ["--updates", "0"]),
    (f"{SERIES} --batch-size 0", ["--batch-size", "0"]),
    (f"{SERIES} --learning-rate -1", ["--learning-rate", "-1"]),
    (f"{SERIES} --seed -1", ["seed", "-1"]),
    (f"{SERIES} --level 1", ["--level", "1"]),
    (f"{SERIES} --test-values 3", ["3"]),
    (f"{SERIES} --calibration-values 2", ["2"]),
    (f"{SERIES} --test-values 1000", ["1000"]),
    (f"{SERIES} --origin-step 0", ["--origin-step", "0"]),
    (f"{SERIES} --ar-order 0", ["--ar-order", "0"]),
    (f"{SERIES} --known sales", ["sales"]),
    *((f"forecast {name}.csv --column sales --horizon 6 --window 20", ["float32", "1e+300"]) for name in LARGE),
    ("forecast large_in_test.csv --column sales --horizon 6 --window 20 --test-values 0", ["float32", "1e+300"]),
    ("forecast large.csv --column sales --horizon 6 --window 20", ["errors are finite in float32"]),
    ("forecast known.csv --column sales --horizon 6 --window 20 --known k", ["float32", "1e+300"]),
    ("forecast zero.csv --column sales --horizon 6 --window 20 --log", ["log needs values above 0", "0"]),
    ("classify large_rows.csv --label kind", ["large_rows.csv", "finite in float32, got 1e+39 in line 3"]),
    (f"{CLASSES} --test large_rows.csv --no-scale", ["large_rows.csv", "finite in float32, got 1e+39 in line 3"]),
    *(
        (f"{line} {options}", parts)
        for line in ("copy", TEXT, CLASSES, SERIES)
        for options, parts in (
            ("--checkpoint-every 0", ["--checkpoint-every", "0"]),
            ("--checkpoint-every 1.5", ["--checkpoint-every", "'1.5'"]),
            ("--checkpoint-every 3 --no-checkpoints", ["--no-checkpoints", "not allowed with"]),
            ("--resume nowhere", ["there is no run in nowhere"]),
            ("--out cat.txt", ["cat.txt"]),
            ("--out busy", ["busy/checkpoints must be the checkpoints of a run", "notes.txt"]),
        )
    ),
    ("runs nowhere", ["nowhere"]),
    ("runs ''", ["a path must not be empty"]),
    ("runs --all", ["--all"]),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrong")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_data()
        write_large_values()
    (folder / "empty.txt").touch()
    (folder / "binary.txt").write_bytes(b"\xff\xfe\x00\x01" * 100)
    (folder / "busy" / "checkpoints").mkdir(parents=True)
    (folder / "busy" / "checkpoints" / "notes.txt").write_text("precious")
    return folder


def write_large_values():
    """Write tables with values that are too large after the training part, or in every part."""
    header, *rows = Path("s.csv").read_text().splitlines()
    for name, line in LARGE.items():
        Path(f"{name}.csv").write_text("\n".join([header, *rows[:line], "1e300", *rows[line + 1 :]]) + "\n")
    Path("zero.csv").write_text("\n".join([header, *rows[:97], "0", *rows[98:]]) + "\n")
    Path("large.csv").write_text("\n".join([header, *(f"{row}e100" for row in rows)]) + "\n")
    known = [*range(90), 1e300, *range(15)]
    cells = [f"{row},{k}" for row, k in zip(rows + [""] * 6, known, strict=True)]
    Path("known.csv").write_text("\n".join([f"{header},k", *cells]) + "\n")
    header, first, second, *rows = Path("rows.csv").read_text().splitlines()
    second = f"{second.rpartition(',')[0]},1e39"
    Path("large_rows.csv").write_text("\n".join([header, first, second, *rows]) + "\n")


def contents(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def began(*_, **__):
    raise AssertionError("the work began")


def test_there_are_many():
    assert len({line for line, _ in WRONG}) == len(WRONG) >= 100


@pytest.mark.parametrize(("line", "parts"), WRONG, ids=[line[:60] for line, _ in WRONG])
def test_a_wrong_option(line, parts, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    for module in MODULES.values():
        monkeypatch.setattr(module, "fit", began)
    before = contents(Path())
    try:
        status = main(shlex.split(line))
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    assert status == 2, err
    [message] = err.splitlines()
    assert message.startswith("glasscell: ")
    assert message.isprintable()
    assert all(part in message for part in parts), message
    assert not out
    assert contents(Path()) == before
