"""The ids of text files for several processes of MPI: encoded once per machine, in a file that all of its ranks map."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from glasscell.data.text.files import StrPath, TextFiles
from glasscell.data.text.id_storage import StoredIds
from glasscell.data.text.vocabulary import Unit, Vocabulary

T = TypeVar("T")


def shared_text(
    files: Any, vocabulary: Vocabulary | Unit, size: int | None, *, normalize: bool, folder: StrPath | None, comm: Any
) -> tuple[StoredIds, Vocabulary]:
    """Return ids and vocabulary of text files; all ranks of `comm` call it.

    Rank 0 makes the vocabulary. On each machine one rank encodes the files, into a temporary file without a name; the
    other ranks of the machine open it too. No rank has more of the text in memory than it reads at a time.

    Parameters
    ----------
    files, vocabulary, size, normalize, folder
        As in :meth:`glasscell.data.TextData.from_files`. Machines that do not have `folder` use that of the system.
    comm : communicator of mpi4py

    Raises
    ------
    OSError, ValueError
        As for one process, on the ranks that read the files; on the others ChildProcessError.
    ValueError
        If the machines have different texts.
    """
    rank, leader = comm.Get_rank(), machine_leader(comm)

    def open_files() -> tuple[TextFiles, Vocabulary | None] | None:
        if rank != leader:
            return None
        unit = vocabulary.unit if isinstance(vocabulary, Vocabulary) else vocabulary
        source = TextFiles(files, unit, normalize=normalize)
        if isinstance(vocabulary, Vocabulary):
            return source, vocabulary
        return source, source.vocabulary(size) if rank == 0 else None

    found = _together(comm, open_files)
    symbols: Vocabulary = comm.bcast(found[1] if rank == 0 and found is not None else None, root=0)
    source = None if found is None else found[0]
    if rank != 0 and not Path(folder or "").is_dir():
        folder = None
    file = _open_together(comm, leader, folder)

    try:
        ids = _together(comm, lambda: None if source is None else source.encode(symbols, target=file))
    except BaseException:
        file.close()
        raise
    if ids is None:
        ids = StoredIds(file, symbols.id_dtype)
    if len(set(comm.allgather(leader))) > 1:
        _check_same(comm.allgather(None if source is None else ids.checksum()))
    return ids, symbols


def machine_leader(comm: Any) -> int:
    """Return the first rank on this rank's machine."""
    rank = comm.Get_rank()
    if not hasattr(comm, "Split_type"):
        nodes = comm.allgather(platform.node())
        return int(nodes.index(nodes[rank]))
    from mpi4py import MPI  # noqa: PLC0415 - only with several processes

    machine = comm.Split_type(MPI.COMM_TYPE_SHARED)
    leader: int = machine.bcast(rank, root=0)
    machine.Free()
    return leader


def _open_together(comm: Any, leader: int, folder: StrPath | None) -> IO[bytes]:
    """Return a temporary file that all ranks of a machine have opened, and whose name is removed."""
    rank = comm.Get_rank()
    name: str | None = None

    def make() -> IO[bytes] | None:
        nonlocal name
        if rank != leader:
            return None
        descriptor, name = tempfile.mkstemp(prefix="glasscell-", dir=folder)
        return os.fdopen(descriptor, "w+b")

    try:
        file = _together(comm, make)
        path = comm.allgather(name)[leader]
        return _together(comm, lambda: Path(path).open("rb") if file is None else file)
    finally:
        if name is not None:
            with suppress(OSError):
                Path(name).unlink()


def _check_same(checksums: list[int | None]) -> None:
    """Raise ValueError unless the machines have the same text."""
    found = [(rank, checksum) for rank, checksum in enumerate(checksums) if checksum is not None]
    for rank, checksum in found:
        if checksum != found[0][1]:
            raise ValueError(f"files must have the same text on all machines, got another one on that of rank {rank}")


def _together(comm: Any, function: Callable[[], T]) -> T:
    """Call a function without messages on this rank; if it fails on any, raise an error on all."""
    failure: BaseException | None = None
    try:
        result = function()
    except BaseException as error:  # noqa: BLE001 - raised by all ranks
        failure = error
    texts = comm.allgather("" if failure is None else f"{type(failure).__name__}: {failure}")
    if failure is not None:
        raise failure
    for rank, text in enumerate(texts):
        if text:
            raise ChildProcessError(f"rank {rank} failed: {text}")
    return result
