"""Implement ``glasscell sweep``: a training command over settings and seeds, several runs at a time."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glasscell.atomic_files import write_atomically
from glasscell.cli.continuation import check_inputs
from glasscell.cli.interrupts import Interrupted
from glasscell.cli.outputs import error_reason, picture
from glasscell.cli.parser import Parser
from glasscell.cli.run_files import Kinds
from glasscell.cli.run_manifest import Manifest, checksum
from glasscell.cli.sweep_folder import (
    CSV_FILE,
    MODEL,
    PICTURE_FILE,
    TABLE_FILE,
    SweepFolder,
    kinds_of,
    model_files,
)
from glasscell.cli.sweep_options import SCORES, TRAININGS, Plan, add_options, default_folder, plan_of, words_of
from glasscell.cli.terminal import counted, program_name
from glasscell.core.packages import is_installed
from glasscell.escaping import escape
from glasscell.sweeps.row_file import ROWS_FILE
from glasscell.validation import non_negative_integer, positive_integer

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from matplotlib.figure import Figure

    from glasscell.sweeps.result import SweepResult


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "sweep",
        help="train with several settings and seeds",
        description="Run a training command for each combination of the values of its options, and for several seeds.",
    )
    parts = parser.add_subparsers(metavar="command", prog="glasscell sweep", required=True, parser_class=Parser)
    for name, training in TRAININGS.items():
        part = parts.add_parser(
            name,
            help=f"glasscell {training} with several settings and seeds",
            description=f"Run glasscell {training} for each combination of the values of its options and each seed, "
            "and print median and quartiles over the seeds. Options of the training can have several values, such as "
            "--hidden-size 16 32. Rows are written as runs end; a sweep that is interrupted or killed goes on.",
        )
        part.add_options = partial(_add_options, name)


def _add_options(name: str, parser: Parser) -> None:
    add_options(name, parser)
    parser.set_defaults(run=run, training=name, actions=tuple(parser._actions))  # noqa: SLF001 - argparse has no list


def run(options: argparse.Namespace) -> int:
    """Check all settings, run them, and print and write the table."""
    positive_integer("--seeds", options.seeds)
    non_negative_integer("--seed", options.seed)
    processes = _cores() if options.processes is None else positive_integer("--processes", options.processes)
    if options.retry_failed and options.resume is None:
        raise ValueError("--retry-failed needs --resume")
    plan = plan_of(options)
    number = _check_settings(options.training, plan)
    models = _models(options, plan)
    with _folder(options, kinds_of([*models.values()])) as folder:
        folder.manifest.arguments = options.arguments  # with further seeds and values
        folder.begin()
        before = getattr(options, "extensions", ())
        extended = f" Until now it had {', '.join(before)}." if before else ""
        print(f"Sweep of glasscell {TRAININGS[options.training]}: {counted(number, 'run')}.{extended}", flush=True)
        result = _sweep(options, plan, models, folder, processes)
        folder.manifest.updates = len(result)
        failures = _write_tables(options, result, folder.folder)
        print(result.table(_scores(options, result)))
        for row in result.failures:
            print(escape(f"failed: {_described(row)}"), file=sys.stderr)
        folder.finish()
        for failure in failures:
            print(f"glasscell: {failure}; the rows are kept in {folder.display_path}", file=sys.stderr)
        names = [name for name in folder.kinds if name != "manifest.json" and (folder.folder / name).exists()]
        names = [name for name in names if name not in models.values()] + [f"{len(models)} models"] * bool(models)
        print(f"Written to {folder.display_path}: {', '.join(names)}")
        if result.failures:
            words = ["sweep", options.training, "--resume", str(folder.display_path), "--retry-failed"]
            print(f"Repeat the runs that failed: {program_name()} {shlex.join(words)}")
    return int(bool(failures or result.failures))


def _models(options: argparse.Namespace, plan: Plan) -> dict[str, str]:
    """Return the names of the models that are kept, by the key of the run."""
    folder = None if options.resume is None else Path(options.resume)
    return model_files(plan.grid, plan.seeds, folder) if options.keep_models else {}


def kinds_of_options(options: argparse.Namespace) -> Kinds:
    """Return the names of all files of a sweep with these options, with predicates of their first bytes."""
    return kinds_of([*_models(options, plan_of(options)).values()])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_settings(name: str, plan: Plan) -> int:
    """Raise the errors of all settings before the work; return the number of runs."""
    from glasscell.cli.sweep_runs import check_command  # noqa: PLC0415 - imports the code for training
    from glasscell.sweeps.grid import Grid, check_number  # noqa: PLC0415

    grid = Grid("", tuple(plan.seeds), {option: tuple(chosen) for option, chosen in plan.grid.items()})
    check_number(grid.number)
    for setting in grid.settings:
        check_command(name, [*words_of(setting, plan.names), f"--seed={plan.seeds[0]}", *plan.arguments])
    return grid.number


def _folder(options: argparse.Namespace, kinds: Kinds) -> SweepFolder:
    """Reserve the folder, or that of the sweep that goes on."""
    data = [*_as_list(getattr(options, "files", None)), *_as_list(getattr(options, "train", None))]
    data += [*_as_list(getattr(options, "file", None)), *_as_list(getattr(options, "test", None))]
    checksums = {str(path): checksum(Path(path)) for path in data if Path(path).is_file()}
    is_resumed = options.resume is not None
    if is_resumed:
        manifest = Manifest.read(Path(options.resume))
        check_inputs(manifest, checksums)
    else:
        manifest = Manifest(options.command, options.arguments, inputs=checksums)
    requested = options.resume or options.out
    if options.overwrite:  # of a sweep with other models, which are removed with it
        earlier = Path(requested or default_folder(options.training))
        kinds = {**kinds, **kinds_of([path.name for path in earlier.glob("model-*") if MODEL.fullmatch(path.name)])}
    return SweepFolder(
        None if requested is None else Path(requested),
        Path(default_folder(options.training)),
        kinds,
        manifest,
        overwrite=options.overwrite,
        resume=is_resumed,
    )


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def _sweep(
    options: argparse.Namespace, plan: Plan, models: dict[str, str], folder: SweepFolder, processes: int
) -> SweepResult:
    """Run what is left of the sweep on processes; they are ended after an error or an interrupt."""
    from glasscell.cli.run_processes import run_processes  # noqa: PLC0415
    from glasscell.cli.sweep_runs import CommandRun  # noqa: PLC0415
    from glasscell.sweeps.errors import SweepError, SweepInterrupted  # noqa: PLC0415
    from glasscell.sweeps.running import sweep  # noqa: PLC0415

    files = {key: folder.folder / name for key, name in models.items()}
    work = folder.make_work_folder()
    command = CommandRun(options.training, plan.arguments, files, work)
    try:
        with run_processes(processes) as executor, _printed_warnings():
            return sweep(
                command,
                seeds=plan.seeds,
                executor=executor,
                file=folder.folder / ROWS_FILE,
                resume=True,
                retry_failed=options.retry_failed,
                progress=True,
                **plan.grid,
            )
    except SweepInterrupted as error:
        raise Interrupted(_kept(error.result, folder, options.training)) from None
    except SweepError as error:
        raise ValueError(f"{str(error).partition(';')[0]}; {_kept(error.result, folder, options.training)}") from None
    finally:
        folder.manifest.updates = folder.rows
        folder.remove_work_folder()


def _kept(result: SweepResult, folder: SweepFolder, name: str) -> str:
    """Return what is kept, and how the sweep goes on."""
    if not result.rows:
        return "nothing is kept"
    words = shlex.join(["sweep", name, "--resume", str(folder.display_path)])
    total = len(result.settings) * len(result.seeds)
    kept = f"{len(result)} of {counted(total, 'row')} are kept in {folder.display_path}"
    return f"{kept}; to go on: {program_name()} {words}"


@contextmanager
def _printed_warnings() -> Iterator[None]:
    """Print warnings about the file of rows as lines of the command."""
    from glasscell.sweeps.row_file import SweepWarning  # noqa: PLC0415

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"glasscell: {escape(str(message))}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", SweepWarning)
        warnings.showwarning = show
        yield


def _scores(options: argparse.Namespace, result: SweepResult) -> list[str]:
    """Return the scores of the table: those that were chosen, or those of the command; as far as rows have them."""
    return [score for score in options.score or SCORES[options.training] if score in result.scores]


def _described(row: Any) -> str:
    setting = [f"--{name.replace('_', '-')} {value}" for name, value in row["setting"].items()]
    return f"{', '.join([*setting, 'seed ' + str(row['seed'])])}: {row['error']}"


def _figure(result: SweepResult, score: str) -> Figure:
    figure: Any = result.plot(score).figure
    return figure  # type: ignore[no-any-return]


def _write_tables(options: argparse.Namespace, result: SweepResult, folder: Path) -> list[str]:
    """Write tables and plot, each if possible; return what could not be written, and why."""
    scores, failures = _scores(options, result), list[str]()
    contents: dict[str, Callable[[], bytes]] = {
        TABLE_FILE: lambda: result.table(scores, format="markdown").encode(),
        CSV_FILE: lambda: result.table(format="csv").encode(),
    }
    if scores and is_installed("matplotlib"):
        contents[PICTURE_FILE] = lambda: picture(lambda: _figure(result, scores[0]), ".png", dpi=120)
    for name, make in contents.items():
        try:
            write_atomically(folder / name, make())
        except Exception as error:  # noqa: BLE001 - whatever it is, the rows are kept
            options.interrupts.check()
            failures.append(f"{name} could not be written: {error_reason(error)}")
    return failures
