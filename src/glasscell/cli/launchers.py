"""Find out whether a launcher such as mpiexec has started this process as one of several, without importing MPI.

Launchers set environment variables in the processes that they start. A size of 1, and variables that cannot be those of
a launcher of this process, count as none: batch scripts of Slurm have `SLURM_NTASKS`, and a program that a rank starts
inherits its variables, but not the connection to the launcher.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as in the package

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Name, number of processes, number of this one. Slurm's last: its srun may start the launchers of the others.
LAUNCHERS = (
    ("mpiexec", "PMI_SIZE", "PMI_RANK"),  # MPICH, Intel MPI, and srun --mpi=pmi2
    ("mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),  # Open MPI
    ("mpiexec", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),  # MVAPICH
    ("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
)
CONNECTION = "PMI_FD"  # descriptor of MPICH's connection to its launcher
TRAININGS = (("copy",), ("text", "train"), ("classify",), ("forecast",))
INFORMATION = {"-h", "--help", "--version"}


class Launch:
    """The processes that a launcher has started.

    Attributes
    ----------
    launcher : str
        Its name, for messages.
    size, rank : int
        Number of processes, and of this one, from 0.
    """

    def __init__(self, launcher: str, size: int, rank: int) -> None:
        self.launcher, self.size, self.rank = launcher, size, rank


def find_launch(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """Return the processes of which this is one; None if it is the only one."""
    for launcher, *names in LAUNCHERS:
        try:
            size, rank = (int(environment[name]) for name in names)
        except (KeyError, ValueError):
            continue
        if size > 1 and 0 <= rank < size and _is_connected(environment):
            return Launch(launcher, size, rank)
    return None


def _is_connected(environment: Mapping[str, str]) -> bool:
    """Return whether the launcher's connection is open, if there is one: other programs do not inherit it."""
    try:
        os.fstat(int(environment[CONNECTION]))
    except KeyError:
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return True


def is_training(arguments: Sequence[str]) -> bool:
    """Return whether a command line trains, so that several processes can run it."""
    words = tuple(word for word in arguments if not word.startswith("-"))
    return not is_information(arguments) and any(words[: len(command)] == command for command in TRAININGS)


def is_information(arguments: Sequence[str]) -> bool:
    """Return whether a command line prints help or the version."""
    return not arguments or not INFORMATION.isdisjoint(arguments)
