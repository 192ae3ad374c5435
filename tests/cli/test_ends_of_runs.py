"""Laws: how a training command ends is what happened, also in the last moments; and its run can go on."""

import json
import re
import signal
from pathlib import Path

import pytest
from training_commands import COMMANDS, MODULES, calling, kill, killed, resume, without_pictures, write_data

from glasscell.cli import main
from glasscell.cli.run_manifest import Manifest
from glasscell.cli.terminal import counted


@pytest.fixture(autouse=True)
def _in_a_folder_with_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    without_pictures(monkeypatch)
    write_data()


def raise_import_error(*_, **__):
    """Press Ctrl-C in an import that makes another error of it."""
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise ImportError("initialization failed") from None


def lose(*_, **__):
    """Press Ctrl-C in code that drops the exception, as a destructor does."""
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        return b""


@pytest.mark.parametrize("act", [raise_import_error, lose])
@pytest.mark.parametrize(("command", "name"), [("copy", "print_samples"), ("copy", "draw"), ("classify", "to_json")])
def test_a_signal_is_not_lost_in_optional_results(command, name, act, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(MODULES[command], name, act)
        assert main(COMMANDS[command]) == 130
    out, err = capsys.readouterr()
    assert err.splitlines()[-1].startswith("glasscell: interrupted; the model of ")
    assert "could not be" not in err
    assert "Written to" not in out
    assert Manifest.read(Path("run")).state == "interrupted"
    assert resume(command) == 0
    assert Manifest.read(Path("run")).state == "finished"


def test_a_signal_after_the_last_file_is_not_lost(monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(MODULES["text train"], "program_name", lambda: str(lose()))
        assert main(COMMANDS["text train"]) == 130
    assert re.match(
        "glasscell: interrupted; the model of update .* is kept in run$", capsys.readouterr().err.split("\n")[-2]
    )
    assert Manifest.read(Path("run")).state == "finished"


def listed(capsys):
    """Return what `glasscell runs` says of the run, as text and as JSON."""
    capsys.readouterr()
    assert main(["runs", "run"]) == 0
    text = capsys.readouterr().out
    assert main(["runs", "--json", "run"]) == 0
    return text, json.loads(capsys.readouterr().out)[0]


@pytest.mark.parametrize(("every", "update", "said"), [(100, 0, "from its beginning"), (20, 40, "after update 40")])
def test_a_killed_run_is_listed_with_its_checkpoint_and_goes_on(every, update, said, monkeypatch, capsys):
    """Also with the first checkpoint alone, and with a history that is behind the newest one."""

    def prepare(patch):
        calling("copy", lambda n: n == 45 and kill(), patch)
        patch.setattr("glasscell.cli.run_history.SECONDS_BETWEEN_WRITES", 1000.0)

    arguments = [*COMMANDS["copy"], "--checkpoint-every", str(every)]
    assert killed(arguments, monkeypatch, prepare) == -signal.SIGKILL
    text, entry = listed(capsys)
    assert f"run: killed, {counted(max(update, 1), 'update')} in" in text
    assert f"  to go on from update {update}: " in text
    assert entry["checkpoint"] == update
    assert entry["resume"] == "copy --resume run"
    assert resume("copy") == 0
    assert f"Continuing run {said}.\n" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_one_update_is_in_the_singular(command, monkeypatch, capsys):
    calling(command, lambda n: n == 1 and signal.raise_signal(signal.SIGTERM), monkeypatch)
    assert main(COMMANDS[command]) == 143
    text = "".join(capsys.readouterr()) + listed(capsys)[0]
    assert "1 update" in text
    assert not re.search(r"(?<![.\d])1 updates(?!/s)", text)


def test_the_default_of_checkpoint_every_is_the_same_in_help_and_page(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(SystemExit):
        main(["copy", "--help"])
    rule = (
        r"at evaluations, but so rarely that (?:they|checkpoints) take about 1 % of the time; a short run may have only"
    )
    page = (Path(__file__).parents[2] / "docs" / "runs.md").read_text(encoding="utf-8")
    assert re.search(rule, capsys.readouterr().out)
    assert re.search(rule, page)
