"""Law: `glasscell runs` lists every run with its state, and what it prints can be run."""

import json
import math
import re
import shlex
import signal
from pathlib import Path

import pytest
from training_commands import COMMANDS, calling, files_of, kill, killed, without_pictures, write_data

import glasscell as gc
from glasscell.cli import main
from glasscell.cli.run_history import last_and_best
from glasscell.cli.run_manifest import Manifest, moment
from glasscell.cli.terminal import format_seconds
from glasscell.tasks.copy import Copy

COPY = COMMANDS["copy"][:-2]
PAGE = Path(__file__).parents[2] / "docs" / "runs.md"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    without_pictures(monkeypatch)


def listed(capsys, *arguments, status=0):
    """Return the listed runs by the names of their folders."""
    capsys.readouterr()
    assert main(["runs", "--json", *arguments]) == status
    return {entry["folder"]: entry for entry in json.loads(capsys.readouterr().out)}


def interrupted_at(update, arguments, monkeypatch):
    with monkeypatch.context() as patch:
        calling("copy", lambda n: n == update and signal.raise_signal(signal.SIGTERM), patch)
        assert main(arguments) == 143


def test_runs_in_every_state(monkeypatch, capsys):
    assert main([*COPY, "--width", "4"]) == 0
    interrupted_at(30, [*COPY, "--out", "runs/b"], monkeypatch)

    def prepare(patch):
        patch.setattr("glasscell.cli.run_history.SECONDS_BETWEEN_WRITES", 0.0)
        calling("copy", lambda n: n == 28 and kill(), patch)

    assert killed([*COPY, "--out", "runs/c", "--checkpoint-every", "20"], monkeypatch, prepare) == -signal.SIGKILL

    def fail(n):
        if n == 26:
            raise FloatingPointError("loss nan")

    with monkeypatch.context() as patch:
        calling("copy", fail, patch)
        assert main([*COPY, "--out", "runs/d", "--checkpoint-every", "10"]) == 2
    during = {}
    with monkeypatch.context() as patch:
        patch.setattr("glasscell.cli.run_history.SECONDS_BETWEEN_WRITES", 0.0)
        calling("copy", lambda n: n == 40 and during.update(listed(capsys)), patch)
        assert main([*COPY, "--out", "runs/e"]) == 0
    Path("runs/f").mkdir()
    Path("runs/f/manifest.json").write_text("{}")
    Path("runs/g").mkdir()  # not a run
    found = listed(capsys)
    states = {folder.removeprefix("runs/"): (entry["state"], entry.get("updates")) for folder, entry in found.items()}
    assert states == {
        "copy": ("finished", 60),
        "b": ("interrupted", 30),
        "c": ("killed", 27),
        "d": ("failed", 26),
        "e": ("finished", 60),
        "f": ("unreadable", None),
    }
    assert (during["runs/e"]["state"], during["runs/e"]["updates"], during["runs/e"]["resume"]) == ("running", 39, None)
    assert found["runs/b"]["resume"] == "copy --resume runs/b"
    assert found["runs/c"]["resume"] == "copy --resume runs/c"
    assert found["runs/c"]["checkpoint"] == 20
    assert found["runs/copy"]["resume"] is None
    assert found["runs/d"]["message"] == "loss nan"
    assert found["runs/copy"]["command"] == "copy"
    assert found["runs/copy"]["arguments"] == [*COPY[1:], "--width", "4"]
    assert found["runs/copy"]["versions"]["glasscell"] == gc.__version__
    for entry in list(found.values())[:-1]:
        assert 0 < entry["seconds"] < 600
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", entry["started"])
    history = Path("runs/copy/history.csv")
    assert found["runs/copy"]["best"] == last_and_best(history)[1]
    text_of_runs(found, capsys)


def text_of_runs(found, capsys):
    """The text has the same runs, and command lines that go on."""
    assert main(["runs", "runs"]) == 0
    blocks = capsys.readouterr().out.split("\n\n")
    assert len(blocks) == len(found)
    for block, entry in zip(blocks, found.values(), strict=True):
        assert block.startswith(f"{entry['folder']}: {entry['state']}")
        if entry["state"] == "unreadable":
            assert "must be the manifest of a run" in block
            continue
        words = [*entry["command"].split(), *entry["arguments"]]
        assert f"\n  glasscell {shlex.join(words)}\n" in block
        assert f"numpy {entry['versions']['numpy']}" in block
        assert (f" --resume {entry['folder']}" in block) == (entry["resume"] is not None)
    assert main(shlex.split(found["runs/c"]["resume"])) == 0
    assert files_of("runs/c") == files_of("runs/e")


def fit_in(folder, updates=6, **options):
    task = Copy(4)
    return gc.fit(gc.CopyLSTM(3, task=task), task, updates, checkpoint=folder, evaluate_every=2, **options)


def test_runs_of_fit_are_listed_from_their_checkpoints(capsys):
    """Finished, interrupted, failed, in progress, and damaged; with best score, duration and versions."""
    fit_in("runs/a", checkpoint_every=2)
    fit_in("runs/b", callbacks=[lambda state: state.history.updates == 4])

    def fail(state):
        if state.history.updates == 3:
            raise ValueError("\x1b[2J")

    with pytest.raises(ValueError, match="2J"):
        fit_in("runs/c", callbacks=[fail], checkpoint_every=2)
    during = {}
    fit_in("runs/d", callbacks=[lambda _: during.update(listed(capsys, "runs/d"))])
    assert main([*COPY, "--out", "runs/e"]) == 0
    found = listed(capsys)
    assert {folder: (entry["state"], entry["updates"], entry["command"]) for folder, entry in found.items()} == {
        "runs/a": ("finished", 6, None),
        "runs/b": ("interrupted", 4, None),
        "runs/c": ("failed", 2, None),
        "runs/d": ("finished", 6, None),
        "runs/e": ("finished", 60, "copy"),
    }
    assert during["runs/d"]["state"] == "running"
    assert {*found["runs/a"]} == {*found["runs/e"]}
    assert found["runs/a"]["best"]["score"] == "validation_loss"
    assert found["runs/a"]["versions"]["glasscell"] == gc.__version__
    assert found["runs/a"]["started"][:4] == found["runs/e"]["started"][:4]
    assert main(["runs"]) == 0
    text = capsys.readouterr().out
    assert "  to go on from update 4: fit(..., checkpoint='runs/b', resume=True) in Python\n" in text
    assert "\x1b" not in text
    assert fit_in("runs/b", resume=True).updates == 6
    assert listed(capsys, "runs/b")["runs/b"]["state"] == "finished"
    assert listed(capsys, "runs/b") == listed(capsys, "runs/b/checkpoints")


def test_damaged_checkpoints_of_fit_are_found(capsys):
    fit_in("runs/a")
    manifest = Path("runs/a/checkpoints/manifest.json")
    assert json.loads(manifest.read_text())["state"] == "finished"
    assert listed(capsys, "--check")["runs/a"]["damaged"] == []
    Path("runs/a/checkpoints/000000006.safetensors").write_bytes(b"")
    damaged = listed(capsys, "--check", status=1)["runs/a"]["damaged"]
    assert damaged == ["checkpoints/000000006.safetensors"]
    manifest.write_text("{}")
    assert listed(capsys)["runs/a"]["state"] == "unreadable"
    assert main(["runs", "--check"]) == 0
    assert "no manifest of checkpoints" in capsys.readouterr().out


def test_one_run_and_none(capsys):
    assert main(["runs"]) == 0
    assert capsys.readouterr().out == "No runs in runs.\n"
    assert main(["runs", "nowhere"]) == 2
    assert capsys.readouterr().err == "glasscell: there is no folder nowhere\n"
    assert main([*COPY, "--out", "mine"]) == 0
    assert [*listed(capsys, "mine")] == ["mine"]
    assert [*listed(capsys, ".")] == ["mine"]


def test_files_that_changed_are_found(capsys):
    assert main(COPY) == 0
    assert listed(capsys, "--check")["runs/copy"]["damaged"] == []
    content = bytearray(Path("runs/copy/model.safetensors").read_bytes())
    content[-1] ^= 1
    Path("runs/copy/model.safetensors").write_bytes(content)
    Path("runs/copy/history.csv").unlink()
    assert listed(capsys, "--check", status=1)["runs/copy"]["damaged"] == ["model.safetensors", "history.csv"]
    assert main(["runs", "--check"]) == 1
    assert "damaged: history.csv is missing, or is not the file that was written" in capsys.readouterr().out


@pytest.mark.parametrize("change", [{"seconds": 10**400}, {"continued": 10**400}, {"best": {"value": 10**400}}])
def test_a_manifest_of_huge_integers_is_unreadable(change, capsys):
    Path("runs/a").mkdir(parents=True)
    manifest = Manifest("copy", [], state="interrupted")
    vars(manifest).update(change)
    manifest.write(Path("runs/a"))
    assert main(["runs"]) == 0
    assert "manifest.json must have the entries of a manifest, got others" in capsys.readouterr().out
    assert main(["copy", "--resume", "runs/a"]) == 2
    assert "manifest.json must have the entries of a manifest, got others" in capsys.readouterr().err


def test_a_hostile_manifest_is_printed_as_text(capsys):
    """Terminal escapes, and names of files outside the folder."""
    Path("runs/a").mkdir(parents=True)
    manifest = Manifest("copy", ["\x1b[2J"], folder="/", best={"score": "\x1b]0;", "value": 1.0, "update": "\n"})
    manifest.files, manifest.state, manifest.started = {"../../secret": {"bytes": 0, "crc32": 0}}, "finished", 1e300
    manifest.write(Path("runs/a"))
    Path("secret").touch()
    assert main(["runs", "--check"]) == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "at an unknown time" in out
    assert "damaged: ../../secret is missing" in out


def test_last_and_best_of_a_history(tmp_path):
    file = tmp_path / "history.csv"
    assert last_and_best(file) == (0, {})
    file.write_text("update,loss\n1,0.5\n2,0.25\n")
    assert last_and_best(file) == (2, {"score": "loss", "value": 0.25, "update": 2})
    file.write_text("update,loss,validation_loss\n1,0.5,\n2,0.25,0.5\n3,0.2,0.75\n4,0.1")
    assert last_and_best(file) == (3, {"score": "validation_loss", "value": 0.5, "update": 2})
    file.write_bytes(b"\xff\x00\nsomething")
    assert last_and_best(file) == (0, {})


def test_durations():
    assert [format_seconds(s) for s in (0.04, 59.94, 200, 7500)] == ["0.0 s", "59.9 s", "3 min 20 s", "2 h 5 min"]
    assert moment(0) == "1970-01-01T00:00:00+00:00"


def test_the_commands_of_the_page_run(monkeypatch, capsys):
    """The blocks of docs/runs.md one after the other: Ctrl-C comes where the page says so."""
    write_data()
    for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        for line, output in re.findall(r"^\$ glasscell (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            interrupts = "^C" in output
            with monkeypatch.context() as patch:
                if interrupts:
                    calling("copy", lambda n: n == 1480 and signal.raise_signal(signal.SIGINT), patch)
                assert main(shlex.split(line)) == (130 if interrupts else 0)
            text = "".join(capsys.readouterr())
            for shown in filter(None, output.splitlines()):
                if "…" not in shown and "^C" not in shown:
                    assert shown in text.replace("python -m glasscell", "glasscell"), shown


def test_numbers_that_are_not_finite_are_no_json_of_their_own(capsys):
    """JSON has no NaN and no infinite numbers: manifests have objects instead, and the list has null."""

    def refuse(name):
        raise AssertionError(name)

    assert main([*COPY, "--out", "run"]) == 0
    manifest = Manifest.read(Path("run"))
    manifest.best["value"], manifest.seconds = math.nan, math.inf
    manifest.write(Path("run"))
    json.loads(Path("run/manifest.json").read_text(), parse_constant=refuse)
    assert repr(Manifest.read(Path("run"))) == repr(manifest)
    capsys.readouterr()
    assert main(["runs", "--json", "run"]) == 0
    (entry,) = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert (entry["best"]["value"], entry["seconds"]) == (None, None)
    manifest.state = "running"
    manifest.write(Path("run"))
    rows = Path("run/history.csv").read_text().splitlines()
    Path("run/history.csv").write_text("\n".join([rows[0], re.sub(",[^,]*", ",inf", rows[1], count=1)]) + "\n")
    assert main(["runs", "--json", "run"]) == 0
    (entry,) = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert entry["best"] == {"score": "loss", "value": None, "update": 1}
