"""Law: progress is a bar on a terminal and a few plain lines elsewhere, and its last word is the last update."""

import io
import re
import sys

import pytest

from glasscell.training.progress import no_progress, progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def rows(updates, every=10):
    """What a training records, with an evaluation now and then."""
    for update in range(1, updates + 1):
        row = {"update": update, "loss": 1 / update, "gradient_norm": 2.0, "learning_rate": 0.1}
        yield row | (
            {"validation_loss": 0.5 + 1 / update, "validation_sequence_accuracy": 0.25} if update % every == 0 else {}
        )


def lines_of(steps, updates, capsys):
    with progress_bar(steps) as show:
        for row in rows(updates):
            show(row)
    out, err = capsys.readouterr()
    assert not out
    return err.splitlines()


def updates_of(lines):
    return [int(re.match(r"update +(\d+) of", line)[1]) for line in lines]


@pytest.mark.parametrize("steps", [1, 7, 60, 1000, 3001])
def test_plain_lines_are_few_and_end_with_the_last_update(steps, capsys):
    updates = updates_of(lines_of(steps, steps, capsys))
    assert 1 <= len(updates) <= 60
    assert updates[-1] == steps
    assert updates == sorted(set(updates))


def test_training_that_ends_early_says_where(capsys):
    assert updates_of(lines_of(3000, 457, capsys))[-1] == 457


def test_plain_lines_have_the_scores_of_the_last_evaluation(capsys):
    line = lines_of(3000, 457, capsys)[-1]
    assert f"loss {0.5 + 1 / 450:.4f}" in line
    assert "sequence_accuracy 0.25" in line
    assert "of 3000" in line


def test_nothing_trained_is_nothing_shown(capsys):
    assert lines_of(100, 0, capsys) == []


def test_silence(capsys):
    with no_progress() as show:
        for row in rows(30):
            show(row)
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(monkeypatch):
    pytest.importorskip("tqdm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar(60) as show:
        for row in rows(60):
            show(row)
    last = terminal.getvalue().split("\r")[-1]
    assert "60/60" in last
    assert f"loss {0.5 + 1 / 60:.4f}" in last
    assert "sequence_accuracy 0.25" in last


def test_plain_lines_on_a_terminal_without_tqdm(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setitem(sys.modules, "tqdm", None)  # as if it were not installed
    with progress_bar(60) as show:
        for row in rows(60):
            show(row)
    assert updates_of(terminal.getvalue().splitlines())[-1] == 60
