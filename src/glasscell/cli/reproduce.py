"""Implement ``glasscell reproduce``: run experiments of papers again, and compare the figures."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glasscell import __version__
from glasscell.atomic_files import write_atomically
from glasscell.cli.interrupts import Interrupted
from glasscell.cli.outputs import path_argument
from glasscell.cli.terminal import counted
from glasscell.escaping import escape
from glasscell.validation import positive_integer

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from glasscell.papers import Experiment, Reproduction
    from glasscell.sweeps import SweepResult

DEFAULT_FOLDER = Path("runs/papers")


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "reproduce",
        help="run experiments of classic papers again",
        description="Run experiments of classic papers again, over several seeds, and print the figures next to those "
        "of the papers, with all differences of the set-up. Exit status 1: a criterion is missed, or a training fails.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments, such as adding-100")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="list all experiments")
    what.add_argument("--all", action="store_true", help="run all experiments whose data are there")
    parser.add_argument("--quick", action="store_true", help="fewer seeds and smaller sizes, which decide no criterion")
    parser.add_argument("--seeds", type=int, metavar="N", help="number of seeds (default: that of the experiment)")
    parser.add_argument("--data", type=path_argument, metavar="FOLDER", help="folder with the data that --list names")
    parser.add_argument(
        "--out", type=path_argument, default=DEFAULT_FOLDER, metavar="FOLDER", help=f"default {DEFAULT_FOLDER}"
    )
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="trainings at a time (default 1)")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--overwrite", action="store_true", help="replace earlier results")
    again.add_argument("--continue", dest="resume", action="store_true", help="keep earlier rows, and add the others")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the experiments, one after the other."""
    from glasscell.papers.registry import EXPERIMENTS, find  # noqa: PLC0415 - not for other commands

    if options.list:
        if options.names:
            raise ValueError("NAME must be left out with --list")
        print("\n".join(f"{name:<32} {_needs(experiment)}" for name, experiment in EXPERIMENTS.items()))
        return 0
    if bool(options.names) == options.all:
        raise ValueError("reproduce must have names of experiments or --all, and not both; --list prints the names")
    experiments = list(EXPERIMENTS.values()) if options.all else [find(name) for name in options.names]
    for option in ("seeds", "processes"):
        if getattr(options, option) is not None:
            positive_integer(f"--{option}", getattr(options, option))
    if options.data is not None and not options.data.is_dir():
        raise FileNotFoundError(f"--data: there is no folder {options.data}")
    _check_folder(options.out)
    for name in options.names:
        if options.names.count(name) > 1:
            raise ValueError(f"NAME must be different experiments, got {name} twice")
    files = {experiment.name: _files(experiment, options) for experiment in experiments}
    experiments = [experiment for experiment in experiments if _has_data(experiment, options)]
    for experiment in experiments:
        _check_rows(experiment, options, files[experiment.name]["jsonl"])
    options.out.mkdir(parents=True, exist_ok=True)
    results = [_reproduce(experiment, options, files[experiment.name]) for experiment in experiments]
    if len(results) > 1:
        _print_table(results)
    return int(any(result.met is False or result.failures for result in results))


def _needs(experiment: Experiment) -> str:
    needs = f" (needs {', '.join(experiment.files)})" if experiment.files else ""
    return escape(f"{counted(experiment.seeds, 'seed'):<9} {experiment.paper}{needs}")


def _files(experiment: Experiment, options: argparse.Namespace) -> dict[str, Path]:
    """Return the output files, after a check that none is replaced by mistake."""
    stem = experiment.name + ("-quick" if options.quick else "")
    files = {ending: options.out / f"{stem}.{ending}" for ending in ("jsonl", "json", "md")}
    existing = [path for path in files.values() if path.exists()]
    if existing and not (options.overwrite or options.resume):
        raise FileExistsError(f"--out: {existing[0]} exists already; --overwrite replaces it, --continue adds to it")
    return files


def _has_data(experiment: Experiment, options: argparse.Namespace) -> bool:
    """Return whether the data of an experiment are there; without --all they must be."""
    missing = experiment.missing_files(options.data)
    needs = f"needs --data FOLDER with {', '.join(missing)}"
    if missing and not options.all:
        raise FileNotFoundError(f"{experiment.name} {needs}")
    if missing:
        print(f"{experiment.name}: skipped, {needs}")
    return not missing


def _check_rows(experiment: Experiment, options: argparse.Namespace, file: Path) -> None:
    """Raise ValueError if there would be too many runs, or if rows that are kept are not among them."""
    from glasscell.papers.reproduction import grid_of  # noqa: PLC0415
    from glasscell.sweeps.row_file import parse  # noqa: PLC0415

    grid = grid_of(experiment.name, seeds=options.seeds, quick=options.quick, data=options.data)
    present = parse(file.read_bytes(), file).grid if options.resume and file.is_file() else None
    if present is None:
        return
    if len(grid.seeds) < len(present.seeds):
        raise ValueError(f"--seeds must be at least {len(present.seeds)}, as in {file}, got {len(grid.seeds)}")
    if difference := grid.difference(present):
        raise ValueError(f"--out: {file} has other rows: {difference}; pass the same --data, or another --out")


def _check_folder(folder: Path) -> None:
    """Raise NotADirectoryError if a folder cannot be made, since it or its parent is a file."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(f"--out must be a folder, got {folder}: {path} is a file")


def _reproduce(experiment: Experiment, options: argparse.Namespace, files: Mapping[str, Path]) -> Reproduction:
    """Run one experiment, print its section, and write its files."""
    from glasscell.papers.page import section, table  # noqa: PLC0415
    from glasscell.papers.reproduction import Reproduction, run_rows  # noqa: PLC0415
    from glasscell.sweeps import SweepError, SweepInterrupted  # noqa: PLC0415

    seeds = options.seeds or (experiment.quick_seeds if options.quick else experiment.seeds)
    print(f"{experiment.name}: {escape(experiment.paper)}, {counted(seeds, 'seed')}", flush=True)
    if options.overwrite:
        files["jsonl"].unlink(missing_ok=True)
    with _executor(options.processes) as executor:
        try:
            rows = run_rows(
                experiment.name,
                seeds=seeds,
                quick=options.quick,
                data=options.data,
                file=files["jsonl"],
                resume=options.resume,
                executor=executor,
                progress=True,
            )
        except SweepInterrupted as error:
            raise Interrupted(_kept(error.result, files["jsonl"])) from None
        except SweepError as error:
            raise ValueError(f"{str(error).partition(';')[0]}; {_kept(error.result, files['jsonl'])}") from None
    result = Reproduction.of(experiment, rows, quick=options.quick, version=__version__)
    text = section(result)
    write_atomically(files["json"], result.json().encode(errors="backslashreplace"))  # an error may have surrogates
    write_atomically(files["md"], f"{text}\n{table([result])}".encode(errors="backslashreplace"))
    print(f"\n{escape_lines(text)}\nwritten: {escape(str(files['json']))} and {escape(files['md'].name)}\n", flush=True)
    return result


def _executor(processes: int) -> AbstractContextManager[Any]:
    """Return None for one process: trainings then run in this one."""
    if processes == 1:
        return nullcontext()
    from glasscell.cli.run_processes import run_processes  # noqa: PLC0415 - only with --processes

    return run_processes(processes)


def _kept(result: SweepResult, file: Path) -> str:
    """Return what is kept, and how the experiment goes on."""
    kept = f"{counted(len(result.rows), 'row')} in {file}; to go on: the same command with --continue"
    return kept if result.rows else "nothing is kept"


def escape_lines(text: str) -> str:
    """Escape control characters except line ends."""
    return "\n".join(map(escape, text.split("\n")))


def _print_table(results: list[Reproduction]) -> None:
    from glasscell.papers.page import table  # noqa: PLC0415

    print(escape_lines(table(results)))
