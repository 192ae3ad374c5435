"""A message for the user when a rank is lost: killed, or ended together with its machine.

The launcher then ends all other ranks at once, so none of them can print it. Rank 0 therefore starts a small process at
the beginning of a training, in a separate session, that waits for the end of rank 0. If rank 0 ends before it has
dismissed that process, the process prints how the training goes on, to the same standard error.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from glasscell.training.parallel.ranks import Ranks

UPDATE = "{update}"  # in a message: the update of the newest checkpoint

# The program of the process: it gets its message as one line of JSON, and then one byte if it is dismissed.
PROGRAM = r"""
import json, os, select, sys
parent = os.getppid()
message, other, folder = json.loads(sys.stdin.buffer.raw.readline())
while not select.select([0], [], [], 1)[0] and os.getppid() == parent:
    pass
if select.select([0], [], [], 0)[0] and os.read(0, 1):
    sys.exit()
try:
    names = [name.partition(".")[0] for name in os.listdir(folder) if name.endswith(".safetensors")]
except (OSError, TypeError):
    names = []
updates = [int(name) for name in names if name.isdigit()]
text = message.replace("{update}", str(max(updates))) if updates else other
sys.stderr.write("\n" + text + "\n")
"""


Place = tuple[str, int]  # machine and process of a rank


class LossReport:
    """A process that prints a message if this one ends without dismissing it.

    Parameters
    ----------
    places : list of (str, int)
        Machine and process of each rank.
    checkpoint : path, optional
        Folder of the run.
    instructions : (str, str), optional
        How it goes on: with a checkpoint, whose update replaces {update}, and without one. Default: how a program that
        calls :func:`glasscell.fit` goes on.
    """

    is_active: ClassVar = False  # whether there is one

    def __init__(self, places: list[Place], checkpoint: Any, instructions: tuple[str, str] | None = None) -> None:
        LossReport.is_active = True
        self._process = _start(places, checkpoint, instructions)

    def dismiss(self) -> None:
        """End the process without a message."""
        LossReport.is_active = False
        process, self._process = self._process, None
        if process is not None:
            _dismiss(process)


@contextmanager
def reported_losses(ranks: Ranks, checkpoint: Any) -> Iterator[None]:
    """Report it if a rank is lost during the block, unless it is reported anyway; all ranks call it.

    Parameters
    ----------
    ranks : Ranks
    checkpoint : path, optional
        Folder of the run.
    """
    report = None
    try:
        places = ranks.gather(this_place())
        are_processes = len(set(places)) == ranks.size  # and not the threads of a test
        if ranks.is_first and are_processes and not LossReport.is_active:
            report = LossReport(places, checkpoint)
    except BaseException as error:
        ranks.abort(error)  # the others would wait for ever
        raise
    try:
        yield
    finally:
        if report is not None:
            report.dismiss()


def this_place() -> Place:
    """Return the machine and the number of this process."""
    return platform.node(), os.getpid()


def _start(
    places: list[Place], checkpoint: Any, instructions: tuple[str, str] | None = None
) -> subprocess.Popen[bytes] | None:
    """Start the process; None if that is impossible: the training does not need it."""
    if not sys.executable or os.name != "posix":
        return None
    size = len(places)
    folder = None if checkpoint is None else Path(checkpoint)
    with_checkpoint, without = instructions or (
        f"the checkpoint of update {UPDATE} is kept in {folder}; to go on: the same program with {size} ranks, and "
        "resume=True in fit",
        "there is no checkpoint",
    )
    named = {node for node, _ in places}
    processes = ", ".join(str(number) if len(named) == 1 else f"{number} on {node}" for node, number in places)
    lost = (
        f"glasscell: a rank was lost, and all {size} ranks have ended (ranks 0 to {size - 1}: processes {processes}); "
    )
    content = [
        lost + with_checkpoint,
        lost + without,
        None if folder is None else str(folder.absolute() / "checkpoints"),
    ]
    command = [sys.executable, "-I", "-S", "-c", PROGRAM]
    with suppress(OSError):
        process = subprocess.Popen(  # noqa: S603 - a program of this module
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True, bufsize=0
        )
        assert process.stdin is not None  # noqa: S101 - for mypy
        process.stdin.write(json.dumps(content).encode() + b"\n")
        return process
    return None


def _dismiss(process: subprocess.Popen[bytes]) -> None:
    """End the process without a message."""
    assert process.stdin is not None  # noqa: S101 - for mypy
    with suppress(OSError):  # it was killed
        process.stdin.write(b".")
    with suppress(OSError):
        process.stdin.close()
    process.wait()
