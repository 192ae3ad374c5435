"""Small runs of all training commands, which are interrupted, killed and continued."""

import os
import signal
from importlib import import_module
from pathlib import Path

import numpy as np

from glasscell.cli import main

COMMANDS = {
    name: [*name.split(), *line.split(), "--out", "run"]
    for name, line in {
        "copy": "--width 4 --hidden-size 3 --steps 60 --batch-size 4",
        "text train": "cat.txt --hidden-size 6 --num-layers 1 --steps 10 --streams 6 --epochs 2 --evaluate-every 9 "
        "--dropout 0.2",
        "classify": "rows.csv --label kind --hidden-size 4 --updates 15 --seeds 2 --dropout 0.2",
        "forecast": "s.csv --column sales --hidden-size 4 --updates 12 --window 20 --horizon 6 --members 2",
    }.items()
}
MODULES = {name: import_module(f"glasscell.cli.{name.replace(' ', '_')}") for name in COMMANDS}


def write_data():
    """Write the files of data to the working directory."""
    rng = np.random.default_rng(0)
    Path("cat.txt").write_text("the cat sat on the mat, and the dog sat on the log.\n" * 40)
    values = rng.normal(size=(40, 4))
    rows = [f"{'ab'[int(row.sum() > 0)]},{','.join(f'{value:.4f}' for value in row)}" for row in values]
    Path("rows.csv").write_text("kind,p,q,r,s\n" + "\n".join(rows) + "\n")
    y = 50 + 10 * np.sin(np.arange(100) * 2 * np.pi / 12) + rng.normal(size=100)
    Path("s.csv").write_text("\n".join(["sales", *(f"{value:.2f}" for value in y)]) + "\n")


def without_pictures(monkeypatch):
    """Draw nothing: Matplotlib takes a second."""
    for module in MODULES.values():
        if hasattr(module, "is_installed"):
            monkeypatch.setattr(module, "is_installed", lambda _: False)


def files_of(folder="run"):
    """Return the bytes of all files of a run but the manifest, which has times."""
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.name != "manifest.json"}


def calling(command, act, monkeypatch):
    """Call ``act(n)`` after update n of a command, counted over all of its trainings."""
    module, count = MODULES[command], 0
    fit = module.fit

    def fit_and_act(*arguments, callbacks, **options):
        def call(_):
            nonlocal count
            count += 1
            act(count)

        return fit(*arguments, callbacks=[call, *callbacks], **options)

    monkeypatch.setattr(module, "fit", fit_and_act)


def resume(command, *options):
    """Continue the run in ``run``; return the exit status."""
    return main([*command.split(), "--resume", "run", *options])


def killed(arguments, monkeypatch, prepare):
    """Run a command in a child process that kills itself; `prepare` arranges that. Return the exit status."""
    child = os.fork()
    if not child:
        try:
            prepare(monkeypatch)
            for descriptor in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
            os._exit(main(arguments))
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill():
    os.kill(os.getpid(), signal.SIGKILL)
