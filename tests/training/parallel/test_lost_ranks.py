"""Laws: if rank 0 ends without a word, another process prints how the training goes on; otherwise it is silent."""

import os

import pytest
from fake_ranks import run_ranks

from glasscell.training.parallel import lost_ranks
from glasscell.training.parallel.ranks import Ranks

PLACES = [("a", 11), ("a", 12)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    for name in ("000000007.safetensors", "000000040.safetensors", "lock", "manifest.json", ".tmp-1.safetensors"):
        (tmp_path / "checkpoints" / name).touch()
    return tmp_path


def message_after(end, places, folder, capfd):
    process = lost_ranks._start(places, folder)
    end(process)
    process.wait()
    return capfd.readouterr().err


def lose(process):
    process.stdin.close()


def test_a_lost_rank_is_reported_with_the_newest_checkpoint(folder, capfd):
    assert message_after(lose, PLACES, folder, capfd) == (
        "\nglasscell: a rank was lost, and all 2 ranks have ended (ranks 0 to 1: processes 11, 12); the checkpoint of "
        f"update 40 is kept in {folder}; to go on: the same program with 2 ranks, and resume=True in fit\n"
    )


def test_without_checkpoints(tmp_path, capfd):
    for place in (None, tmp_path):
        assert message_after(lose, PLACES, place, capfd).endswith("processes 11, 12); there is no checkpoint\n")


def test_ranks_of_several_machines_are_named(folder, capfd):
    assert "processes 11 on a, 12 on b); " in message_after(lose, [("a", 11), ("b", 12)], folder, capfd)


def test_a_command_has_its_own_instructions(folder, capfd):
    process = lost_ranks._start(PLACES, folder, ("update {update} of {kind}", "none"))
    lose(process)
    process.wait()
    assert capfd.readouterr().err.endswith("; update 40 of {kind}\n")


def test_a_training_that_ends_prints_nothing(folder, capfd):
    assert message_after(lost_ranks._dismiss, PLACES, folder, capfd) == ""


def test_the_process_may_be_gone(folder, capfd):
    def kill_and_dismiss(process):
        process.kill()
        process.wait()
        lost_ranks._dismiss(process)

    assert message_after(kill_and_dismiss, PLACES, folder, capfd) == ""


def test_rank_0_alone_starts_it_once_the_ranks_are_processes(monkeypatch):
    started = []
    monkeypatch.setattr(lost_ranks, "_start", lambda places, checkpoint, _: started.append((places, checkpoint)))

    def enter(comm):
        with lost_ranks.reported_losses(Ranks(comm), "run"):
            pass

    run_ranks(2, enter)
    assert started == []  # threads have one process
    numbers = iter(range(100, 102))
    monkeypatch.setattr(os, "getpid", lambda: next(numbers))
    run_ranks(2, enter)
    expected = [([100, 101], "run")]
    assert [(sorted(number for _, number in places), checkpoint) for places, checkpoint in started] == expected


def test_a_training_of_a_command_that_reports_losses_does_not_report_them_again(monkeypatch):
    started = []
    monkeypatch.setattr(lost_ranks, "_start", lambda *_: started.append(None))
    report = lost_ranks.LossReport(PLACES, None, ("with", "without"))
    numbers = iter(range(100, 102))
    monkeypatch.setattr(os, "getpid", lambda: next(numbers))

    def enter(comm):
        with lost_ranks.reported_losses(Ranks(comm), "run"):
            pass

    run_ranks(2, enter)
    report.dismiss()
    assert len(started) == 1
    assert not lost_ranks.LossReport.is_active
