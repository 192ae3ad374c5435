"""Law: a training command that is interrupted or killed goes on, and ends with the bits of an uninterrupted run."""

import csv
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from training_commands import COMMANDS, calling, files_of, kill, killed, resume, without_pictures, write_data

import glasscell as gc
from glasscell.atomic_files import OutputFile, temporary_name
from glasscell.cli import main
from glasscell.cli.run_files import newest_checkpoint
from glasscell.cli.run_history import HistoryFile
from glasscell.cli.run_manifest import MANIFEST_FILE, Manifest

COPY = COMMANDS["copy"]
each_command = pytest.mark.parametrize("command", COMMANDS)


@pytest.fixture(autouse=True)
def _in_a_folder_with_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    without_pictures(monkeypatch)
    write_data()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Files of an uninterrupted run of each command."""
    files = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("uninterrupted"))
        without_pictures(patch)
        write_data()
        for command, arguments in COMMANDS.items():
            assert main(arguments) == 0
            files[command] = files_of()
            shutil.rmtree("run")
    return files


def newest_of(folder=Path("run")):
    """Return the number of updates of the newest checkpoint of each training of a run."""
    trainings = sorted(folder.glob("training-*"))
    return [newest_checkpoint(training) for training in (folder, *trainings)]


# Signals

MOMENTS = [  # the signal, and the update after which it is sent, over all trainings
    ("copy", signal.SIGINT, 1, [1]),
    ("copy", signal.SIGTERM, 37, [37]),
    ("text train", signal.SIGHUP, 1, [1]),
    ("text train", signal.SIGINT, 25, [25]),
    ("classify", signal.SIGTERM, 7, [7]),
    ("classify", signal.SIGHUP, 15 + 4, [15, 4]),
    ("forecast", signal.SIGINT, 11, [11]),
    ("forecast", signal.SIGTERM, 12 + 5, [12, 5]),
]


@pytest.mark.parametrize(("command", "number", "update", "checkpoints"), MOMENTS)
def test_a_signal_keeps_a_checkpoint_of_the_update(
    command, number, update, checkpoints, uninterrupted, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        calling(command, lambda n: n == update and signal.raise_signal(number), patch)
        assert main(COMMANDS[command]) == 128 + number
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("glasscell: interrupted; the model of ")
    assert " is kept in run; to go on: " in last
    assert last.endswith(f"glasscell {command} --resume run")
    assert newest_of() == checkpoints
    assert Manifest.read(Path("run")).state == "interrupted"
    gc.load("run")
    assert resume(command) == 0
    assert f"after update {checkpoints[-1]}" in capsys.readouterr().out
    assert files_of() == uninterrupted[command]
    assert Manifest.read(Path("run")).state == "finished"


def test_a_run_is_interrupted_twice(uninterrupted, monkeypatch):
    for update in (20, 15):
        with monkeypatch.context() as patch:
            calling("copy", lambda n, at=update: n == at and signal.raise_signal(signal.SIGINT), patch)
            assert (main(COPY) if update == 20 else resume("copy")) == 130
    assert newest_of() == [35]
    assert resume("copy") == 0
    assert files_of() == uninterrupted["copy"]


def test_an_interrupt_after_the_training_keeps_the_model_and_says_how_to_go_on(uninterrupted, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr("glasscell.cli.copy.print_samples", lambda *_: signal.raise_signal(signal.SIGTERM))
        assert main(COPY) == 143
    kept = "glasscell: interrupted; the model of 60 updates is kept in run; to go on: "
    assert capsys.readouterr().err.splitlines()[-1].startswith(kept)
    assert resume("copy") == 0
    assert files_of() == uninterrupted["copy"]


def pressed(*_):
    signal.raise_signal(signal.SIGINT)


def test_an_interrupt_while_the_manifest_is_written_is_stated_in_it(uninterrupted, monkeypatch):
    end = Manifest.end

    def interrupted(self, *arguments, **options):
        end(self, *arguments, **options)
        monkeypatch.setattr(Manifest, "end", end)
        raise KeyboardInterrupt

    monkeypatch.setattr(Manifest, "end", interrupted)
    assert main(COPY) == 130
    assert Manifest.read(Path("run")).state == "interrupted"
    assert resume("copy") == 0
    assert files_of() == uninterrupted["copy"]


def test_a_run_that_is_continued_can_be_interrupted_before_its_first_update(uninterrupted, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        calling("copy", lambda n: n == 20 and signal.raise_signal(signal.SIGINT), patch)
        assert main(COPY) == 130
    with monkeypatch.context() as patch:
        patch.setattr("glasscell.cli.training_run.TrainingRun.reserve_space", pressed)
        assert resume("copy") == 130
    assert "the checkpoint of update 20 is kept in run; to go on:" in capsys.readouterr().err
    assert resume("copy") == 0
    assert files_of() == uninterrupted["copy"]


# Kills

KILLS = [("copy", 40), ("text train", 30), ("classify", 15 + 6), ("forecast", 12 + 3)]


@pytest.mark.parametrize(("command", "update"), KILLS)
def test_a_killed_run_goes_on(command, update, uninterrupted, monkeypatch, capsys):
    def prepare(patch):
        calling(command, lambda n: n == update and kill(), patch)

    assert killed([*COMMANDS[command], "--checkpoint-every", "4"], monkeypatch, prepare) == -signal.SIGKILL
    assert Manifest.read(Path("run")).state == "running"
    Path("run", temporary_name()).touch()
    Path("run", temporary_name(".safetensors")).touch()
    assert resume(command) == 0
    files = files_of()
    if "settings.json" in files:
        files["settings.json"] = uninterrupted[command]["settings.json"]
    assert files == uninterrupted[command]


@pytest.mark.parametrize("call", range(1, 60, 4))
def test_a_run_that_is_killed_at_a_system_call_goes_on_or_begins_again(call, uninterrupted, monkeypatch):
    """Before a call that opens, flushes, renames or removes a file; the run leaves no other file."""

    def prepare(patch):
        count = 0

        def dying(function):
            def wrapped(*arguments, **options):
                nonlocal count
                count += 1
                if count == call:
                    kill()
                return function(*arguments, **options)

            return wrapped

        for name in ("open", "fsync", "rename", "replace", "unlink", "write"):
            patch.setattr(os, name, dying(getattr(os, name)))

    assert killed([*COPY, "--checkpoint-every", "20"], monkeypatch, prepare) in (-signal.SIGKILL, 0)
    run = Path("run")
    if newest_checkpoint(run) is not None or (
        (run / MANIFEST_FILE).exists() and Manifest.read(run).state == "finished"
    ):
        assert resume("copy") == 0
    else:
        assert main(COPY) == 0
    assert files_of() == uninterrupted["copy"]


def test_the_history_of_a_killed_run_has_whole_lines_and_is_cut_at_the_checkpoint(uninterrupted, monkeypatch):
    def prepare(patch):
        patch.setattr("glasscell.cli.run_history.SECONDS_BETWEEN_WRITES", 0.0)
        calling("copy", lambda n: n == 53 and kill(), patch)

    assert killed([*COPY, "--checkpoint-every", "20"], monkeypatch, prepare) == -signal.SIGKILL
    whole, written = uninterrupted["copy"]["history.csv"].splitlines(), Path("run/history.csv").read_bytes()
    assert written.splitlines() == whole[:53]  # the header, and 52 updates
    assert written.endswith(b"\n")
    rows = []

    def read(n):
        if n == 5:
            with Path("run/history.csv").open(newline="") as file:
                rows.extend(csv.DictReader(file))

    monkeypatch.setattr("glasscell.cli.run_history.SECONDS_BETWEEN_WRITES", 0.0)
    calling("copy", read, monkeypatch)
    assert resume("copy") == 0
    assert [int(row["update"]) for row in rows] == list(range(1, 45))
    assert files_of() == uninterrupted["copy"]


def test_an_earlier_run_is_kept_until_the_new_one_is_complete(uninterrupted, monkeypatch, capsys):
    assert main([*COPY, "--seed", "3"]) == 0
    earlier = files_of()

    def prepare(patch):
        calling("copy", lambda n: n == 30 and kill(), patch)

    assert killed([*COPY, "--overwrite", "--checkpoint-every", "10"], monkeypatch, prepare) == -signal.SIGKILL
    assert files_of() == earlier
    assert main(["copy", "--resume", "run-2"]) == 0
    assert "Written to run: model.safetensors, history.csv" in capsys.readouterr().out
    assert files_of() == uninterrupted["copy"]
    assert not Path("run-2").exists()


# What is refused


@pytest.fixture
def interrupted_copy(monkeypatch):
    with monkeypatch.context() as patch:
        calling("copy", lambda n: n == 20 and signal.raise_signal(signal.SIGINT), patch)
        assert main(COPY) == 130


def refused(arguments, capsys):
    """Return the only line of a command that ends with status 2 and changes nothing."""
    before = {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}
    capsys.readouterr()
    try:
        status = main(arguments)
    except SystemExit as error:
        status = error.code
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")} == before
    (line,) = err.splitlines()
    return line.removeprefix("glasscell: ")


CONTRADICTIONS = {
    "--width 5": "--width must be 4, as in run, got 5",
    "--updates 61": "--updates must be 60, as in run, got 61",
    "--updates=61": "--updates must be 60, as in run, got 61",
    "--steps 61": "--steps must be 60, as in run, got 61",
    "--steps=61": "--steps must be 60, as in run, got 61",
    "--mode echo": "--mode must be recall, as in run, got echo",
    "--seed 1": "--seed must be 0, as in run, got 1",
    "--learning-rate 0.1": "--learning-rate must be 0.03, as in run, got 0.1",
    "--min-width 3": "--min-width must be its default, as in run, got 3",
    "--out other": "--out must be run, as in run, got other",
    "--overwrite": "--overwrite must be not set, as in run, got set",
    "--no-checkpoints": "--no-checkpoints must be not set, as in run, got set",
    "--checkpoint-every 3": "--checkpoint-every must be its default, as in run, got 3",
    "extra": "unrecognized arguments: extra (see glasscell copy --help)",
    "--wdith 5": "unrecognized arguments: --wdith 5; did you mean --width? (see glasscell copy --help)",
}


@pytest.mark.parametrize("options", CONTRADICTIONS)
@pytest.mark.usefixtures("interrupted_copy")
def test_an_option_that_contradicts_the_run_is_refused(options, capsys):
    assert refused(["copy", "--resume", "run", *options.split()], capsys) == CONTRADICTIONS[options]


@pytest.mark.usefixtures("interrupted_copy")
def test_options_that_are_those_of_the_run_are_accepted(uninterrupted, capsys):
    options = ["--width", "4", "--steps", "60", "--out", "./run", "--seed", "0", "--ascii"]
    assert resume("copy", *options) == 0
    assert capsys.readouterr().out.isascii()
    assert files_of() == uninterrupted["copy"]


@pytest.mark.usefixtures("interrupted_copy")
def test_folders_that_cannot_be_continued(capsys, tmp_path):
    assert refused(["copy", "--resume", "nowhere"], capsys) == "there is no run in nowhere: it has no manifest.json"
    other = "--resume must be the folder of a run of this command, got run: try glasscell copy --resume run"
    assert refused(["forecast", "--resume", "run"], capsys) == other
    Path("link").symlink_to("run")
    message = refused(["copy", "--resume", "link"], capsys)
    assert message == "--resume must be a folder, got link, which is a symbolic link"
    Path("something").mkdir()
    Path("something/manifest.json").write_text('{"name": "web app"}')
    message = refused(["copy", "--resume", "something"], capsys)
    assert message == "something/manifest.json must be the manifest of a run, got another or a damaged file"
    for change in ({"glasscell_run": 2}, {"state": "happy"}, {"arguments": [1]}, {"best": 1}, {"more": 1}):
        content = json.loads(Path("run/manifest.json").read_text()) | change
        Path("something/manifest.json").write_text(json.dumps(content))
        message = refused(["copy", "--resume", "something"], capsys)
        assert message.startswith("something/manifest.json must ")
    assert refused(COPY, capsys) == (
        "run contains an unfinished run: --resume run continues it, --overwrite replaces it"
    )


def test_a_run_without_checkpoints_begins_again(uninterrupted, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        calling("copy", lambda n: n == 20 and signal.raise_signal(signal.SIGINT), patch)
        assert main([*COPY, "--no-checkpoints"]) == 130
    assert capsys.readouterr().err.splitlines()[-1].endswith("the model of 20 updates is kept in run")
    assert not Path("run/checkpoints").exists()
    assert refused(["copy", "--resume", "run"], capsys) == "run has no checkpoint from which the run can go on"


def test_a_finished_run_is_not_continued(capsys):
    assert main(COPY) == 0
    before = files_of()
    capsys.readouterr()
    assert resume("copy") == 0
    assert capsys.readouterr().out == "run is finished: nothing is left to do\n"
    assert files_of() == before


def test_data_that_changed_are_refused(monkeypatch, capsys):
    with monkeypatch.context() as patch:
        calling("text train", lambda n: n == 12 and signal.raise_signal(signal.SIGINT), patch)
        assert main(COMMANDS["text train"]) == 130
    with Path("cat.txt").open("a") as file:
        file.write("and more")
    message = refused(["text", "train", "--resume", "run"], capsys)
    assert message == "cat.txt must be the file with which the run began, got a changed one"
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")  # the paths of the run are relative to the other working directory
    assert refused(["text", "train", "--resume", "../run"], capsys) == message


def test_a_run_goes_on_in_another_working_directory(uninterrupted, monkeypatch):
    with monkeypatch.context() as patch:
        calling("text train", lambda n: n == 12 and signal.raise_signal(signal.SIGINT), patch)
        assert main(COMMANDS["text train"]) == 130
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert main(["text", "train", "--resume", "../run"]) == 0
    assert files_of("../run") == uninterrupted["text train"]


def test_two_runs_in_one_folder_are_refused(monkeypatch, capsys):
    messages = []

    def begin_others(n):
        if n == 30:
            for arguments in (COPY, [*COPY, "--overwrite"], ["copy", "--resume", "run"]):
                assert main(arguments) == 2
                messages.append(capsys.readouterr().err.splitlines()[-1])
            assert main(["copy", *COPY[1:-2], "--out", "other"]) == 0

    with monkeypatch.context() as patch:
        calling("copy", begin_others, patch)
        assert main(COPY) == 0
    assert len(messages) == 3
    for message in messages:
        assert "run must be used by one run at a time, and one is in progress (process " in message
    assert files_of() == files_of("other")


# Folders that disappear, full disks


def remove():
    shutil.rmtree("run")


def replace_by_a_file():
    shutil.rmtree("run")
    Path("run").write_bytes(b"a file took the name")


@pytest.mark.parametrize(("act", "folder"), [(remove, "run"), (replace_by_a_file, "run-2")])
@each_command
def test_a_folder_that_disappears_costs_nothing(act, folder, command, uninterrupted, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        calling(command, lambda n: n == 5 and act(), patch)
        assert main(COMMANDS[command]) == 0
    err = capsys.readouterr().err
    assert "glasscell: run: the folder was removed or replaced; the model of " in err
    assert f" is kept in {folder}\n" in err
    assert files_of(folder) == uninterrupted[command]
    assert Manifest.read(Path(folder)).state == "finished"


@each_command
def test_a_folder_that_becomes_read_only_warns_and_saves_elsewhere(command, uninterrupted, monkeypatch, capsys):
    """As after ``mount -o remount,ro``: every write below the folder fails."""
    opened, folder = os.open, Path("run").resolve()

    def read_only(path, flags, *arguments, **options):
        if flags & (os.O_CREAT | os.O_WRONLY) and folder in Path(path).resolve().parents:
            raise OSError(30, "Read-only file system", str(path))
        return opened(path, flags, *arguments, **options)

    calling(command, lambda n: n == 3 and monkeypatch.setattr(os, "open", read_only), monkeypatch)
    status = main([*COMMANDS[command], "--checkpoint-every", "5"])
    monkeypatch.setattr(os, "open", opened)
    assert status == 0
    err = capsys.readouterr().err
    assert "glasscell: the checkpoint of update 5 could not be written to run: " in err
    assert "Read-only file system; the model of " in err
    assert "is kept in run-2\n" in err
    files = files_of("run-2")
    if "settings.json" in files:
        files["settings.json"] = uninterrupted[command]["settings.json"]
    assert files == uninterrupted[command]


FILES = [
    *(
        ("copy", "history.csv"),
        ("text train", "history.csv"),
        ("classify", "settings.json"),
        ("classify", "scores.json"),
    ),
    *(("forecast", name) for name in ("settings.json", "evaluation.csv", "forecast.csv")),
]


@pytest.mark.parametrize(("command", "name"), FILES)
def test_a_file_that_cannot_be_written_is_named(command, name, uninterrupted, monkeypatch, capsys):
    write = OutputFile.write

    def write_or_fail(self, *content):
        if self.path.name == name:
            raise OSError(5, "Input/output error", str(self.path))
        write(self, *content)

    monkeypatch.setattr(OutputFile, "write", write_or_fail)
    assert main(COMMANDS[command]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"glasscell: {name} could not be written: ")
    assert line.endswith("; the model is kept in run")
    assert files_of() == {file: content for file, content in uninterrupted[command].items() if file != name}


def test_a_disk_that_is_full_at_the_first_checkpoint_leaves_nothing(monkeypatch, capsys):
    write = OutputFile.write

    def write_or_fail(self, *content):
        if self.path.parent.name == "checkpoints":
            raise OSError(28, "No space left on device; nothing was written", str(self.path))
        write(self, *content)

    monkeypatch.setattr(OutputFile, "write", write_or_fail)
    assert main(COPY) == 2
    assert capsys.readouterr().err.endswith(": No space left on device; nothing is kept\n")
    assert not Path("run").exists()


def test_an_error_of_the_history_during_the_run_costs_nothing(uninterrupted, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("glasscell.cli.run_history.SECONDS_BETWEEN_WRITES", 0.0)
    monkeypatch.setattr(HistoryFile, "_append", full)
    assert main(COPY) == 0
    assert files_of() == uninterrupted["copy"]


def test_a_training_that_diverges_keeps_the_best_model(monkeypatch, capsys):
    fit = gc.fit

    def diverging(model, *arguments, callbacks, **options):
        def spoil(state):
            if state.history.updates == 40:
                model.parameters.vector[:] = float("nan")

        return fit(model, *arguments, callbacks=[*callbacks, spoil], **options)

    monkeypatch.setattr("glasscell.cli.copy.fit", diverging)
    assert main(COPY) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "; the model of update 25 is kept in run; to go on: " in line
    manifest = Manifest.read(Path("run"))
    assert (manifest.state, manifest.best["update"], manifest.updates) == ("failed", 25, 40)
    assert manifest.message
    gc.load("run")
