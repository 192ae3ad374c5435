"""Law: progress is a bar on a terminal and a few lines elsewhere, and ends with the last update."""

import io
import re
import sys
from itertools import chain, repeat

import pytest

import glasscell as gc
from glasscell.training.progress import duration, progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def rows(updates, interval=10):
    """Rows of a history, with an evaluation every `interval` updates."""
    for update in range(1, updates + 1):
        row = {"update": update, "loss": 1 / update, "gradient_norm": 2.0, "learning_rate": 0.1}
        yield row | (
            {"validation_loss": 0.5 + 1 / update, "validation_sequence_accuracy": 0.25}
            if update % interval == 0
            else {}
        )


def log_lines(expected, updates, capsys):
    with progress_bar(expected) as report:
        for row in rows(updates):
            report(row)
    out, err = capsys.readouterr()
    assert not out
    return err.splitlines()


def logged_updates(lines):
    return [int(re.match(r"update +(\d+) of", line)[1]) for line in lines]


@pytest.mark.parametrize("count", [1, 7, 60, 1000, 3001])
def test_lines_are_few_and_end_with_the_last_update(count, capsys):
    updates = logged_updates(log_lines(count, count, capsys))
    assert 1 <= len(updates) <= 60
    assert updates[-1] == count
    assert updates == sorted(set(updates))


def test_there_are_30_lines_at_equal_distances_and_one_for_the_last_update(capsys):
    """Where each update is evaluated."""
    with progress_bar(3000) as report:
        for row in rows(3000, interval=1):
            report(row)
    assert logged_updates(capsys.readouterr().err.splitlines()) == [*range(1, 3000, 100), 3000]


def test_an_early_end_shows_the_last_update(capsys):
    assert logged_updates(log_lines(3000, 457, capsys))[-1] == 457


def test_lines_have_the_scores_of_the_last_evaluation(capsys):
    line = log_lines(3000, 457, capsys)[-1]
    assert f"loss {0.5 + 1 / 450:.4f}" in line
    assert "sequence_accuracy 0.25" in line
    assert "of 3000" in line


def test_lines_have_rate_and_time_left(monkeypatch, capsys):
    """Ten updates per second: the rate is that since the line before."""
    times = []
    monkeypatch.setattr("glasscell.training.progress.time.monotonic", lambda: len(times) / 10)
    with progress_bar(7200) as report:
        for row in rows(720, interval=10):
            times.append(row)
            report(row)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == (
        "update   10 of 7200   batch loss 0.1000   loss 0.6000   sequence_accuracy 0.2500   10 updates/s   11:59 left"
    )
    assert lines[1].startswith("update  250 of 7200   ")
    assert lines[1].endswith("   10 updates/s   11:35 left")


@pytest.mark.parametrize(("rate", "text"), [(0.25, "0.25"), (9.375, "9.38"), (2500, "2,500")])
def test_rates_have_three_digits_and_whole_numbers_from_1000_on(rate, text, monkeypatch, capsys):
    times = chain([0.0], repeat(1 / rate))
    monkeypatch.setattr("glasscell.training.progress.time.monotonic", lambda: next(times))
    assert log_lines(1, 1, capsys)[0].endswith(f"   {text} updates/s   0:00 left")


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (61, "1:01"), (3600, "1:00:00"), (360_001, "100:00:01")])
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("updates", "expected"), [(300, [*range(20, 301, 20)]), (None, [*range(150, 301, 150)])])
def test_without_evaluations_there_are_lines_of_the_batch_loss(updates, expected, monkeypatch, capsys):
    """Of ten updates per second: every two seconds, or 15 if the number of updates is unknown."""
    times = []
    monkeypatch.setattr("glasscell.training.progress.time.monotonic", lambda: len(times) / 10)
    with progress_bar(updates) as report:
        for row in rows(300, interval=1000):
            times.append(row)
            report(row)
    lines = capsys.readouterr().err.splitlines()
    assert [int(line.split()[1]) for line in lines] == expected
    assert "   batch loss 0.0033   10 updates/s" in lines[-1]


def test_of_a_number_of_updates_that_is_unknown_no_time_is_left(capsys):
    with progress_bar(None) as report:
        for row in rows(20):
            report(row)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("   ")[0] for line in lines] == ["update 10", "update 20"]
    assert all(line.endswith(" updates/s") for line in lines)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_training_that_goes_on_counts_its_own_updates(terminal, monkeypatch):
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(1000) as report:
        for row in [*rows(1000)][900:]:
            report(row)
    last = stream.getvalue().split("\r")[-1] if terminal else stream.getvalue().splitlines()[-1]
    assert "1000/1000" in last if terminal else "update 1000 of 1000" in last


def test_no_update_shows_nothing(capsys):
    assert log_lines(100, 0, capsys) == []


@pytest.mark.parametrize("progress", [False, True])
def test_progress_is_shown_on_request(progress, capsys):
    task = gc.tasks.Copy(2)
    gc.fit(gc.CopyLSTM(2, task=task), task, 2, progress=progress)
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("update 2 of 2   batch loss ") if progress else not err


def test_a_bar_on_a_terminal(monkeypatch):
    pytest.importorskip("tqdm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar(60) as report:
        for row in rows(60):
            report(row)
    last = terminal.getvalue().split("\r")[-1]
    assert "60/60" in last
    assert f"loss {0.5 + 1 / 60:.4f}" in last
    assert "sequence_accuracy 0.25" in last


def test_lines_on_a_terminal_without_tqdm(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setitem(sys.modules, "tqdm", None)  # as if not installed
    with progress_bar(60) as report:
        for row in rows(60):
            report(row)
    assert logged_updates(terminal.getvalue().splitlines())[-1] == 60
