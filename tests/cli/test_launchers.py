"""Laws: several processes are found by the variables of their launcher alone, and only trainings run in them."""

import os

import pytest

from glasscell.cli import launchers
from glasscell.cli.launchers import find_launch


def found(**environment):
    launch = find_launch(environment)
    return launch and (launch.launcher, launch.size, launch.rank)


@pytest.mark.parametrize(
    ("environment", "launcher"),
    [
        ({"PMI_SIZE": "4", "PMI_RANK": "3"}, "mpiexec"),
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}, "mpirun"),
        ({"MV2_COMM_WORLD_SIZE": "4", "MV2_COMM_WORLD_RANK": "3"}, "mpiexec"),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}, "srun"),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "PMI_SIZE": "4", "PMI_RANK": "3"}, "mpiexec"),
    ],
)
def test_launchers(environment, launcher):
    assert found(**environment) == (launcher, 4, 3)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"PMI_SIZE": "1", "PMI_RANK": "0"},
        {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"},  # of a batch script
        {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"},
        {"PMI_SIZE": "4"},
        {"PMI_SIZE": "4", "PMI_RANK": "4"},
        {"PMI_SIZE": "four", "PMI_RANK": "0"},
    ],
)
def test_one_process(environment):
    assert found(**environment) is None


def test_a_program_that_a_rank_starts_has_one_process():
    reading, writing = os.pipe()
    variables = {"PMI_SIZE": "2", "PMI_RANK": "1", "PMI_FD": str(reading)}
    assert found(**variables) == ("mpiexec", 2, 1)
    os.close(reading)
    os.close(writing)
    assert found(**variables) is None


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("copy --width 4", "training"),
        ("text train a.txt", "training"),
        ("classify --label x a.csv", "training"),
        ("forecast a.csv --column y", "training"),
        ("text sample run", ""),
        ("predict run", ""),
        ("sweep copy", ""),
        ("runs", ""),
        ("", "information"),
        ("--version", "information"),
        ("copy --help", "information"),
    ],
)
def test_kinds_of_commands(line, kind):
    words = line.split()
    assert launchers.is_training(words) == (kind == "training")
    assert launchers.is_information(words) == (kind == "information")
