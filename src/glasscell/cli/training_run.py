"""Steps that training commands share: write the model before anything optional, and state what is kept."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glasscell.atomic_files import write_atomically
from glasscell.checkpoint import MODEL_FILE
from glasscell.cli.interrupts import Interrupted, Interrupts
from glasscell.cli.outputs import error_reason
from glasscell.cli.run_folder import RunFolder


@contextmanager
def stating_what_is_kept(folder: RunFolder) -> Iterator[None]:
    """Add to an interrupt and to a training that diverges whether the model is kept."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(
            f"the model is kept in {folder.display_path}" if folder.published else "nothing is kept"
        ) from None
    except FloatingPointError as error:
        raise FloatingPointError(f"{error}; nothing is kept") from None


def reserve_space(folder: RunFolder, model: Any) -> None:
    """Write the untrained model to the temporary folder: an error before the work if there is no space."""
    with folder.naming():
        model.save(folder.stage / MODEL_FILE)


def save_run(
    folder: RunFolder, model: Any, others: Mapping[str, Callable[[Path], object]], *, replace: bool
) -> list[str]:
    """Write the model, and the other files of a run if possible, and publish the folder.

    Parameters
    ----------
    folder : RunFolder
    model : model
    others : mapping of str to callable
        Names of the other files, with functions that write one of a path.
    replace : bool
        Whether an earlier run may be replaced.

    Returns
    -------
    list of str
        What could not be written, and why.
    """
    failures = []
    with folder.naming():
        (folder.stage / MODEL_FILE).unlink()  # the untrained model: its space is needed
        model.save(folder.stage / MODEL_FILE)
    for name, write in others.items():
        try:
            write(folder.stage / name)
        except Exception as error:  # noqa: BLE001 - whatever it is, the model is kept
            (folder.stage / name).unlink(missing_ok=True)
            failures.append(f"{name} could not be written: {error_reason(error)}")
    folder.publish(replace=replace)
    return failures


def write_results(folder: Path, contents: Mapping[str, Callable[[], bytes]]) -> list[str]:
    """Write files to a folder that is published; return what could not be written, and why."""
    failures = []
    for name, make in contents.items():
        try:
            write_atomically(folder / name, make(), (Path(name).suffix,))
        except Exception as error:  # noqa: BLE001 - whatever it is, the model is kept
            failures.append(f"{name} could not be written: {error_reason(error)}")
    return failures


def written_files(folder: Path, names: Mapping[str, object]) -> str:
    """Return a line that lists the files of a run."""
    return f"Written to {folder}: {', '.join(name for name in names if (folder / name).exists())}"


def end_run(folder: RunFolder, failures: list[str], interrupts: Interrupts, updates: int) -> int:
    """Print the failures, and return the exit status; raise Interrupted after a training that was interrupted."""
    for failure in failures:
        print(f"glasscell: {failure}; the model is kept in {folder.display_path}", file=sys.stderr)
    if interrupts.finish:
        raise Interrupted(f"the model of {updates} updates is kept in {folder.display_path}")
    return int(bool(failures))
