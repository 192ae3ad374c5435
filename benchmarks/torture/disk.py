"""Full disks, folders that disappear or become read-only, closed outputs: no earlier run and no model is lost.

``--points 20`` moments for each training command and kind of failure. As root, a small tmpfs is filled during the run;
otherwise, and for a read-only file system, the calls of the operating system fail. After each run:

- no traceback; the status is 0 or 1 with a model, or 2 with one line;
- the line that names a failure says where the model is, and it can be loaded there;
- an earlier run in the folder that was to be replaced is unchanged, or the new one is complete;
- a run that was not completed goes on, once there is space, to the files of an undisturbed one.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import glasscell as gc
from glasscell.atomic_files import OutputFile
from glasscell.cli.run_files import newest_checkpoint
from glasscell.cli.run_manifest import Manifest
from torture.bars import Bar, report
from torture.command_runs.running import (
    COMMANDS,
    Ended,
    Reference,
    arguments_of,
    files_of,
    reference,
    run,
    write_data,
)

Prepare = Callable[[], None]


def at_update(command: str, update: int, act: Callable[[], object]) -> None:
    """Let a command call a function after an update, counted over its trainings."""
    module: Any = import_module(f"glasscell.cli.{command.replace(' ', '_')}")
    fit, count = module.fit, 0

    def fit_and_act(*arguments: Any, callbacks: Any, **options: Any) -> Any:
        def call(_: object) -> None:
            nonlocal count
            count += 1
            if count == update:
                act()

        return fit(*arguments, callbacks=[call, *callbacks], **options)

    module.fit = fit_and_act


def failing_calls(first: int, folder: Path) -> None:
    """Let all calls that write below a folder fail with ENOSPC, from the call of this number on."""
    count, descriptors = 0, set[int]()
    opened, written, flushed = os.open, os.write, os.fsync

    def count_call(path: object) -> None:
        nonlocal count
        count += 1
        if count >= first:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def is_below(path: object) -> bool:
        return isinstance(path, str | Path) and folder in Path(path).absolute().parents

    def open_(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if is_below(path) and flags & (os.O_CREAT | os.O_WRONLY):
            count_call(path)
        descriptor = opened(path, flags, *arguments, **options)
        descriptors.discard(descriptor)
        if is_below(path):
            descriptors.add(descriptor)
        return descriptor

    def write(descriptor: int, content: Any) -> int:
        if descriptor in descriptors:
            count_call(folder)
        return written(descriptor, content)

    def fsync(descriptor: int) -> None:
        if descriptor in descriptors:
            count_call(folder)
        flushed(descriptor)

    os.open, os.write, os.fsync = open_, write, fsync


def read_only_calls(folder: Path) -> None:
    """Let all calls that change something below a folder fail with EROFS."""

    def failing(call: Callable[..., Any], *, opens: bool = False) -> Callable[..., Any]:
        def wrapped(path: Any, *arguments: Any, **options: Any) -> Any:
            changes = not opens or arguments[0] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR)
            if changes and isinstance(path, str | Path) and folder in Path(path).absolute().parents:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return call(path, *arguments, **options)

        return wrapped

    os.open = failing(os.open, opens=True)
    for name in ("mkdir", "rename", "replace", "unlink", "rmdir"):
        setattr(os, name, failing(getattr(os, name)))


def failing_file(name: str) -> None:
    """Let each write of a file of this name fail."""
    write = OutputFile.write

    def write_or_fail(self: OutputFile, content: bytes) -> None:
        if self.path.name == name:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self.path))
        write(self, content)

    OutputFile.write = write_or_fail  # type: ignore[method-assign]


# What must hold


def model_folder(ended: Ended, folder: Path) -> Path | None:
    """Return the folder where the command says that its model is."""
    found = re.findall(r"is kept in ([^;\n]+?)(?:; to go on|\n|$)", ended.output) or re.findall(
        r"Written to ([^:\n]+):", ended.output
    )
    return folder / found[-1] if found else None


def faults_of(ended: Ended, expected: Reference, folder: Path, out: Path, earlier: dict[str, bytes]) -> list[str]:
    """Return what is wrong after a run that was disturbed."""
    faults = []
    if "Traceback" in ended.output or ended.status not in (0, 1, 2):
        faults.append(f"status {ended.status}: {ended.output[-600:]!r}")
    kept = model_folder(ended, folder)
    if ended.status in (0, 1):
        if kept is None or not (kept / "model.safetensors").is_file():
            faults.append(f"no model in {kept}: {ended.output[-300:]!r}")
        else:
            if (kept / "model.safetensors").read_bytes() != expected.files["model.safetensors"]:
                faults.append("another model")
            gc.load(kept)
    elif "nothing is kept" not in ended.output and "cannot write" not in ended.output and newest(folder, out) is None:
        faults.append(f"last line {ended.last_line!r}")
    now = files_of(out) if out.exists() else {}
    is_replaced = now.get("model.safetensors") == expected.files["model.safetensors"]
    if earlier and not (earlier.items() <= now.items() or (is_replaced and ended.status in (0, 1))):
        faults.append("the earlier run was changed")
    return faults


def newest(folder: Path, out: Path) -> Path | None:
    """Return the folder of a run with a checkpoint that was not completed."""
    candidates = [out, *sorted(out.parent.glob(f"{out.name}-*")), *sorted(folder.glob("run*"))]
    for candidate in candidates:
        if newest_checkpoint(candidate) is not None and (candidate / "manifest.json").exists():
            return candidate
    return None


def faults_of_resume(expected: Reference, folder: Path, out: Path) -> list[str]:
    """Continue the run if it was not completed; return what is wrong then."""
    unfinished = newest(folder, out)
    if unfinished is None or Manifest.read(unfinished).state == "finished":
        return []
    ended = run([*expected.command.split(), "--resume", str(unfinished)], folder)
    wanted = without_settings(expected.files)
    found = [path for path in (out, unfinished) if path.exists() and without_settings(files_of(path)) == wanted]
    return [] if ended.status == 0 and found else [f"continued: status {ended.status}, {ended.last_line!r}"]


# Disks


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Mount a tmpfs of this size in a folder."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


def is_root() -> bool:
    """Return whether a tmpfs can be mounted."""
    return hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("mount") is not None


def fill(disk: Path, free: int) -> None:
    """Write a file that leaves this number of bytes free."""
    state = os.statvfs(disk)
    size = state.f_bavail * state.f_frsize - free
    with (disk / "filler").open("wb") as file:
        file.write(bytes(max(0, size)))


def options_of(expected: Reference, out: Path, *, overwrite: bool) -> list[str]:
    """Return the arguments of a disturbed run."""
    words = arguments_of(expected.command, "--checkpoint-every", "10")
    words[words.index("--out") + 1] = str(out)
    return [*words, "--overwrite"] if overwrite else words


def full_disk(expected: Reference, folder: Path, rng: random.Random) -> list[str]:
    """Run on a disk that becomes full: with little space from the beginning, or at a random update."""
    disk = folder / "disk"
    with small_disk(disk, 1 << 20):
        out, overwrite = disk / "run", rng.random() < 0.5
        earlier = {}
        if overwrite:
            run([*options_of(expected, out, overwrite=False), "--seed", "9"], folder)
            earlier = files_of(out)
        free = int(rng.uniform(0, 60)) * 1024
        at_once = rng.random() < 0.5
        if at_once:
            fill(disk, free)
            prepare: Prepare | None = None
        else:
            prepare = partial(at_update, expected.command, rng.randrange(1, 80), partial(fill, disk, free))
        ended = run(options_of(expected, out, overwrite=overwrite), folder, prepare)
        faults = faults_of(ended, expected, folder, out, earlier)
        (disk / "filler").unlink(missing_ok=True)
        return faults + faults_of_resume(expected, folder, out)


def read_only_folder(expected: Reference, folder: Path, rng: random.Random) -> list[str]:
    """Let all calls that change something below the folder of runs fail with EROFS, from a random update on."""
    out = folder / "runs" / "run"
    act = partial(read_only_calls, folder / "runs")
    prepare = partial(at_update, expected.command, rng.randrange(1, 80), act)
    ended = run(options_of(expected, out, overwrite=False), folder, prepare)
    return faults_of(ended, expected, folder, out, {}) + faults_of_resume(expected, folder, out)


def failing_writes(expected: Reference, folder: Path, rng: random.Random) -> list[str]:
    """Let all writes to the folder of runs fail, from a random one on."""
    out, overwrite = folder / "runs" / "run", rng.random() < 0.5
    earlier = {}
    if overwrite:
        run([*options_of(expected, out, overwrite=False), "--seed", "9"], folder)
        earlier = files_of(out)
    first = rng.randrange(1, 100)
    ended = run(options_of(expected, out, overwrite=overwrite), folder, partial(failing_calls, first, folder / "runs"))
    return faults_of(ended, expected, folder, out, earlier) + faults_of_resume(expected, folder, out)


def removed_folder(expected: Reference, folder: Path, rng: random.Random) -> list[str]:
    """Remove the folder, or put a file in its place, at a random update."""
    out = folder / "run"

    def remove() -> None:
        shutil.rmtree(out)
        if rng.random() < 0.5:
            out.write_bytes(b"a file took the name")

    prepare = partial(at_update, expected.command, rng.randrange(1, 80), remove)
    ended = run(options_of(expected, Path("run"), overwrite=False), folder, prepare)
    return faults_of(ended, expected, folder, out, {})


def closed_outputs(expected: Reference, folder: Path, rng: random.Random) -> list[str]:
    """Close standard output or standard error, break the pipe, or write to a full device."""
    out = folder / "run"
    kind, descriptor = rng.choice(["closed", "pipe", "full"]), rng.choice([1, 2])

    def prepare() -> None:
        if kind == "closed":
            os.close(descriptor)
        elif kind == "full":
            os.dup2(os.open("/dev/full", os.O_WRONLY), descriptor)
        else:
            reading, writing = os.pipe()
            os.dup2(writing, descriptor)
            os.close(reading)
        stream = None if kind == "closed" else os.fdopen(descriptor, "w", closefd=False)  # as Python begins
        setattr(sys, "stdout" if descriptor == 1 else "stderr", stream)

    ended = run(options_of(expected, Path("run"), overwrite=False), folder, prepare)
    faults = [] if ended.status in (0, 1) and "Traceback" not in ended.output else [f"{kind}: {ended}"]
    files = files_of(out) if out.exists() else {}
    return faults + ([] if without_settings(files) == without_settings(expected.files) else ["other files"])


def without_settings(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files without the options of the command line, which differ."""
    return {name: content for name, content in files.items() if name != "settings.json"}


def failing_files(expected: Reference, folder: Path, rng: random.Random) -> list[str]:
    """Let the writes of one file of a run fail."""
    name = rng.choice(sorted(expected.files))
    ended = run(options_of(expected, Path("run"), overwrite=False), folder, partial(failing_file, name))
    if name == "model.safetensors":
        held = ended.status == 2 and "Traceback" not in ended.output
        return [] if held else [f"{name}: {ended}"]
    faults = faults_of(ended, expected, folder, folder / "run", {})
    return faults if ended.status == 1 and f"{name} could not be written" in ended.output else [f"{name}: {ended}"]


KINDS: dict[str, Callable[[Reference, Path, random.Random], list[str]]] = {
    "full disk (tmpfs)": full_disk,
    "read-only file system": read_only_folder,
    "failing writes": failing_writes,
    "removed folder": removed_folder,
    "closed output, broken pipe, full device": closed_outputs,
    "a file that cannot be written": failing_files,
}


def main() -> int:
    """Run the trials; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=20, help="moments for each command and kind (default: 20)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, missed = random.Random(options.seed), 0  # noqa: S311 - moments
    kinds = KINDS if is_root() else {name: kind for name, kind in KINDS.items() if kind is not full_disk}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["TMPDIR"] = str(folder / "trial")
        expected = [
            reference(command, folder / command.replace(" ", "-"), "--checkpoint-every", "10") for command in COMMANDS
        ]
        for kind, trial in kinds.items():
            held = count = 0
            for _ in range(options.points):
                for undisturbed in expected:
                    shutil.rmtree(folder / "trial", ignore_errors=True)
                    (folder / "trial").mkdir()
                    write_data(folder / "trial")
                    faults = trial(undisturbed, folder / "trial", rng)
                    held, count = held + (not faults), count + 1
                    for fault in faults:
                        print(f"{kind}, {undisturbed.command}: {fault}", file=sys.stderr)
            missed |= report([Bar(f"{count} × {kind}", f"{held} kept the model", f"{count}", held == count)])
    return missed


if __name__ == "__main__":
    sys.exit(main())
