"""Laws: a training command that fails keeps the best model and says so, and can go on with another policy."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from training_commands import COMMANDS, MODULES, resume, without_pictures, write_data

import glasscell as gc
from glasscell.cli import main
from glasscell.cli.copy_advice import advice, plateau_of
from glasscell.cli.run_manifest import Manifest
from glasscell.training import History, Training
from glasscell.training.arguments import ON_FAILURE
from glasscell.training.diagnosis import Cause

FAILING_CALLS = {"copy": 31, "text train": 13, "classify": 8, "forecast": 7}


@pytest.fixture(autouse=True)
def _in_a_folder_with_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    without_pictures(monkeypatch)
    write_data()


def fail_at(calls, monkeypatch):
    """Let the loss of these batches be NaN, counted over all trainings."""
    compute_loss, count = Training.compute_loss, 0

    def planted(*arguments):
        nonlocal count
        count += 1
        loss, gradient = compute_loss(*arguments)
        return (math.nan if count in calls else loss), gradient

    monkeypatch.setattr(Training, "compute_loss", planted)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_best_model_is_kept(command, monkeypatch, capsys):
    number = FAILING_CALLS[command]
    fail_at(range(number, 1000), monkeypatch)
    assert main(COMMANDS[command]) == 1
    out, err = capsys.readouterr()
    last = [line for line in err.splitlines() if line.startswith("glasscell: ")][-1]
    pattern = rf"glasscell: loss nan at update {number}; check the loss function, or lower the learning rate; "
    pattern += r"the model of update (\d+) is kept in run; to go on: (.*)"
    match = re.fullmatch(pattern, last)
    assert match, last
    go_on = f"{command} --resume run --on-failure restore_best_and_halve_lr"
    assert match[2].endswith(f"glasscell {go_on}")
    assert "\nWritten to run: model.safetensors" in out  # after the results
    assert np.isfinite(gc.load("run").parameters.vector).all()
    manifest = Manifest.read(Path("run"))
    assert manifest.state == "failed"
    assert manifest.message == f"loss nan at update {number}; check the loss function, or lower the learning rate"
    assert main(["runs", "run"]) == 0
    assert go_on in capsys.readouterr().out


def test_without_a_model_and_without_checkpoints_nothing_is_kept(monkeypatch, capsys):
    fail_at([1], monkeypatch)
    assert main([*COMMANDS["copy"], "--no-checkpoints"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "glasscell: loss nan at update 1; check the loss function, or lower the learning rate; nothing is kept"
    )
    assert not Path("run").exists()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("number", [1, 4])
def test_without_a_model_history_and_first_checkpoint_are_kept(command, number, monkeypatch, capsys):
    """Before the first evaluation, divergence restores the first weights: nothing was learned."""
    with monkeypatch.context() as patch:
        fail_at([number], patch)
        patch.setattr("glasscell.training.failures.with_weights", lambda _, error: error)
        assert main([*COMMANDS[command], "--checkpoint-every", "100"]) == 1
    kept = "the first checkpoint is" if number == 1 else "history and first checkpoint are"
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"glasscell: loss nan at update {number}; check the loss function, or lower the learning rate; "
        f"no model is kept, but {kept} in run; begin again with a lower --learning-rate"
    )
    assert Manifest.read(Path("run")).state == "failed"
    assert Path("run/history.csv").exists() == (number > 1)
    assert main(["runs", "run"]) == 0
    assert f"run: failed, {number - 1} update" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        fail_at([number], patch)
        assert resume(command, "--on-failure", "skip") == 0
    assert Manifest.read(Path("run")).state == "finished"


def test_the_folder_of_a_failed_run_is_not_taken_by_the_next(capsys):
    assert main(["copy", "--learning-rate", "1e6"]) == 1
    assert main(["copy", "--steps", "1"]) == 0
    assert Manifest.read(Path("runs/copy")).state == "failed"
    assert Manifest.read(Path("runs/copy-2")).state == "finished"


def test_a_model_whose_loss_is_large_is_kept_with_its_results(capsys):
    """Its weights are no place to go on from, but they are the best that were evaluated."""
    Path("noise.txt").write_text("".join(map(str, range(1200))))
    arguments = "noise.txt --learning-rate 1e5 --hidden-size 8 --streams 6 --steps 10 --evaluate-every 2"
    assert main(["text", "train", *arguments.split(), "--out", "run"]) == 1
    out, err = capsys.readouterr()
    last = err.splitlines()[-1]
    match = re.search(r"diverges, .*; the model of update (\d+) is kept in run; to go on: ", last)
    assert match, last
    assert "the model has" not in last
    assert f"the model of update {match[1]} is kept.\nvalidation: " in out
    shown = re.search(r"validation: (\S+) nats", out)[1]
    best = Manifest.read(Path("run")).best
    assert best["update"] == int(match[1])
    assert float(shown) == pytest.approx(best["value"], rel=1e-6)  # of float32


def test_a_rate_of_a_million_is_noticed(capsys):
    assert main(["copy", "--learning-rate", "1e6", "--out", "run"]) == 1
    assert re.fullmatch(
        r"glasscell: loss \S+ at update 11: the training diverges, 10 updates are above 1000 times the first loss, .*; "
        r"no model is kept, but history and first checkpoint are in run; begin again with a lower --learning-rate",
        capsys.readouterr().err.splitlines()[-1],
    )


@pytest.mark.parametrize(("command", "updates"), [("classify", 15), ("forecast", 12)])
def test_a_later_training_of_a_run_that_fails_is_left_out(command, updates, monkeypatch, capsys):
    fail_at(range(updates + 8, 1000), monkeypatch)
    assert main(COMMANDS[command]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("glasscell: training 2: loss nan at update ")
    assert re.search(
        rf"; the model of {updates} updates is kept in run; to go on: .* {command} --resume run --on-failure restore_",
        last,
    )
    assert np.isfinite(gc.load("run").parameters.vector).all()


@pytest.mark.parametrize("command", COMMANDS)
def test_failures_can_be_skipped(command, monkeypatch, capsys):
    fail_at([FAILING_CALLS[command]], monkeypatch)
    assert main([*COMMANDS[command], "--on-failure", "skip"]) == 0
    line = f"glasscell: loss nan at update {FAILING_CALLS[command]}; the update is skipped"
    assert line in capsys.readouterr().err.splitlines()


def test_a_failed_run_goes_on_with_another_policy(monkeypatch, capsys):
    with monkeypatch.context() as patch:
        fail_at([31], patch)
        assert main([*COMMANDS["copy"], "--checkpoint-every", "10"]) == 1
    fail_at([1], monkeypatch)
    assert resume("copy", "--on-failure", "skip") == 0
    assert "loss nan at update 31; the update is skipped" in capsys.readouterr().err
    assert Manifest.read(Path("run")).state == "finished"


def test_the_policies_are_those_of_fit(capsys):
    for command in MODULES:
        with pytest.raises(SystemExit):
            main([*command.split(), "--on-failure", "ignore"])
        error = capsys.readouterr().err
        assert all(policy in error for policy in ON_FAILURE)


# The end of copy


def history_of(losses):
    rows = [{"update": 25.0 * k, "loss": 1.0} for k in range(1, len(losses) + 1)]
    return History([row | {"validation_loss": loss} for row, loss in zip(rows, losses, strict=True)])


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([0.5, 0.4, 0.3, 0.2], None),
        ([0.5, 0.3, 0.31, 0.32], (0.3, 2)),
        ([0.5, 0.3, 0.31, 0.298], (0.298, 4)),
        ([0.5, 0.3, 0.31, 0.29], None),
        ([0.5, 0.3, 0.31], None),  # too few
        ([], None),
    ],
)
def test_a_plateau_has_no_gain_in_the_last_half(losses, expected):
    assert plateau_of(history_of(losses)) == expected


@pytest.mark.parametrize(
    ("losses", "loss", "baseline", "beginning"),
    [
        ([0.7, 0.69, 0.69, 0.69], 0.69, 0.693, "The model does not use its memory"),
        ([0.7, 0.69, 5.0, 9.0], 9.0, 0.693, "The model does not use its memory"),
        (
            [0.5, 0.3, 0.31, 0.32],
            0.32,
            0.693,
            "The loss is at a plateau: no gain in the last half of the updates (best",
        ),
        ([0.5, 0.3, 0.2, 0.1], 0.1, 0.693, "The loss still falls: try more --updates."),
        ([0.5, 0.3, 0.31, 0.32], 0.32, 0.0, "The loss is at a plateau"),  # echo
        ([0.7, 0.69, 0.69, 0.69], 0.69, math.inf, "The loss is at a plateau"),  # width 1
    ],
)
def test_advice(losses, loss, baseline, beginning):
    lines = advice(history_of(losses), loss, baseline, is_exact=False)
    assert lines[0].startswith(beginning)
    assert "ry " in lines[-1]
    assert advice(history_of(losses), loss, baseline, is_exact=True) == []


def test_the_end_of_copy_names_a_memoryless_result(capsys):
    assert main(["copy", "--steps", "30", "--width", "4", "--learning-rate", "1e-6"]) == 0
    assert "\nThe model does not use its memory: its loss is about the one without memory, or above.\n" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_advice_names_only_options_of_the_command(command, monkeypatch, capsys):
    fail_at([1], monkeypatch)
    monkeypatch.setattr("glasscell.training.single_process.find_cause", lambda *_: Cause("gradient", "a cause"))
    assert main(COMMANDS[command]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    advice = "lower --learning-rate, or --clip-norm" if command == "text train" else "lower --learning-rate"
    assert line.startswith(f"glasscell: loss nan at update 1: a cause; {advice}; no model is kept")
    assert Manifest.read(Path("run")).message == f"loss nan at update 1: a cause; {advice}"
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    help_of_command = capsys.readouterr().out
    assert all(option in help_of_command for option in re.findall("--[a-z-]+", advice))
