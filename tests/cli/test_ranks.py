"""Laws: a training command of n ranks is that of one process, to rounding; rank 0 alone reads, prints and writes.

Ranks are threads here; tests/training/parallel/test_commands.py starts processes.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from fake_ranks import run_ranks
from safetensors.numpy import load_file
from training_commands import COMMANDS, MODULES, files_of, without_pictures, write_data

from glasscell.cli import main, ranks
from glasscell.cli.command_line import run
from glasscell.cli.interrupts import Interrupts
from glasscell.cli.ranks import Ranks, serve
from glasscell.cli.terminal import program_name

# Dropout draws other numbers on each rank.
LINES = {name: [*line, "--dropout", "0"] if "--dropout" in line else line for name, line in COMMANDS.items()}
MODEL = "model.safetensors"


@pytest.fixture(autouse=True)
def _in_a_folder_with_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    without_pictures(monkeypatch)
    write_data()


def run_on(size, line):
    """Run a command line on ranks that are threads; return the exit status of each."""

    def process(comm):
        if comm.Get_rank():
            return serve(comm)
        first, interrupts = Ranks(comm), Interrupts(process=False)
        try:
            status = run(line, interrupts, ranks=first)
        except SystemExit as error:
            status = error.code
        first.end(status)
        return status

    return run_ranks(size, process)


def interrupting(command, update, monkeypatch):
    """Let the command end as after Ctrl-C, after this update."""
    module = MODULES[command]
    train, stops = module.TrainingRun.train, [True]

    def train_and_stop(self, *arguments, callbacks=(), **options):
        def stop(state):
            if stops and state.history.updates == update:
                stops.clear()
                self.interrupts.finish = True

        return train(self, *arguments, callbacks=[*callbacks, stop], **options)

    monkeypatch.setattr(module.TrainingRun, "train", train_and_stop)


@pytest.mark.parametrize("command", LINES)
def test_ranks_train_the_model_of_one_process(command, capfd):
    assert main([*LINES[command], "--out", "alone"]) == 0
    alone = capfd.readouterr()
    assert run_on(3, LINES[command]) == [0, 0, 0]
    together = capfd.readouterr()
    expected, weights = load_file(f"alone/{MODEL}"), load_file(f"run/{MODEL}")
    for name in expected:
        np.testing.assert_allclose(weights[name], expected[name], rtol=0, atol=2e-3)
    assert files_of("alone").keys() == files_of("run").keys()
    assert together.out.count("Written to") == 1
    assert len(together.out.splitlines()) == len(alone.out.splitlines())
    assert json.loads(Path("run/manifest.json").read_text())["process"]["ranks"] == 3


@pytest.mark.parametrize("command", ["text train", "classify"])
def test_a_run_goes_on_with_as_many_ranks_with_the_same_bits(command, monkeypatch, capfd):
    run_on(2, [*COMMANDS[command], "--out", "whole"])
    interrupting(command, 7, monkeypatch)
    assert run_on(2, COMMANDS[command]) == [130, 130]
    assert f"to go on: mpiexec -n 2 {program_name()} {command} --resume run" in capfd.readouterr().err
    assert main(["runs", "run"]) == 0
    assert f"to go on from update 7: mpiexec -n 2 {program_name()} {command} --resume run" in capfd.readouterr().out
    assert run_on(2, [*command.split(), "--resume", "run"]) == [0, 0]
    assert files_of("whole").keys() == files_of("run").keys()
    for name, content in files_of("whole").items():
        if name != "settings.json":  # has the name of the folder
            assert files_of("run")[name] == content, name


def test_another_number_of_ranks_must_be_allowed(monkeypatch, capfd):
    interrupting("text train", 7, monkeypatch)
    assert run_on(2, COMMANDS["text train"]) == [130, 130]
    before = files_of()
    for size in (1, 3):
        resume = ["text", "train", "--resume", "run"]
        assert (run_on(size, resume) if size > 1 else [main(resume)]) == [2] * size
        error = capfd.readouterr().err
        assert f"run must go on with 2 processes (mpiexec -n 2), as until now, got {size}: --change-ranks" in error
        assert files_of() == before
    assert run_on(3, ["text", "train", "--resume", "run", "--change-ranks"]) == [0, 0, 0]
    assert json.loads(Path("run/manifest.json").read_text())["process"]["ranks"] == 3


def test_one_process_goes_on_with_the_run_of_ranks(monkeypatch):
    interrupting("copy", 7, monkeypatch)
    run_on(2, LINES["copy"])
    assert main(["copy", "--resume", "run", "--change-ranks"]) == 0
    assert main([*LINES["copy"], "--out", "alone"]) == 0
    expected, weights = load_file(f"alone/{MODEL}"), load_file(f"run/{MODEL}")
    for name in expected:
        np.testing.assert_allclose(weights[name], expected[name], rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("copy --width 99", "--width must be from 1 to 64, got 99"),
        ("copy --wdth 9", "unrecognized arguments: --wdth 9; did you mean --width? (see glasscell copy --help)"),
        ("copy --batch-size 2", "--batch-size must be at least the number of processes, 3, got 2"),
        ("text train cat.txt --streams 2 --steps 5", "--streams must be at least the number of processes, 3, got 2"),
        ("copy --change-ranks", "--change-ranks must be used with --resume"),
        ("text train none.txt", "there is no file none.txt"),
        ("text train cat.txt", "text must have at least 5,001 characters"),
        ("forecast s.csv --column rain", "rain"),
    ],
)
def test_a_mistake_is_one_message_and_ends_all_ranks(line, message, capfd):
    assert run_on(3, line.split()) == [2, 2, 2]
    output = capfd.readouterr()
    assert output.err.count("\n") == 1
    assert message in output.err
    assert not output.out
    assert not Path("runs").exists()


@pytest.mark.parametrize("error", [MemoryError("all is used"), SystemExit("all is used"), OSError("all is used")])
def test_a_failure_of_another_rank_is_one_message(error, monkeypatch, capfd):
    fit = ranks.fit_of_rank

    def raise_error(*_):
        raise error

    def fail(model, *arguments, comm, **options):
        if comm.Get_rank() == 1:
            model.train_backward = raise_error
        return fit(model, *arguments, comm=comm, **options)

    monkeypatch.setattr(ranks, "fit_of_rank", fail)
    assert run_on(3, LINES["copy"]) == [1, 1, 1]
    printed = capfd.readouterr().err
    assert printed.count(f"glasscell: rank 1 failed: {type(error).__name__}: all is used; ") == 1
    assert "Traceback" not in printed


def test_ranks_of_another_version_are_refused(monkeypatch, capfd):
    serve_with = ranks.load_request

    def of_another_version(version, *arguments):
        return serve_with(f"{version}.other", *arguments)

    monkeypatch.setattr(ranks, "load_request", of_another_version)
    assert run_on(2, LINES["copy"]) == [1, 1]
    assert "rank 1 failed: RuntimeError: it has version" in capfd.readouterr().err
