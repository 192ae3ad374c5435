"""Coverage-guided fuzzing of three readers with atheris, in a separate environment: ``make fuzz-coverage``.

    build/atheris/bin/python benchmarks/coverage_guided/fuzz.py safetensors --minutes 10

Atheris instruments the modules of the reader, and keeps inputs that reach new branches. A reader may return or raise a
ValueError; any other exception, a timeout of 10 s and more than 2 GB end the run, print the input and exit with another
status than 0. The inputs are kept in ``build/atheris/corpus``. Prints one line of a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "build" / "atheris"
READERS = {
    "safetensors": ["glasscell.tensor_files", "glasscell.limits", "glasscell.checkpoint"],
    "pickle": ["glasscell.convert.torch", "glasscell.limits"],
    "onnx": ["glasscell.convert.onnx.importer", "glasscell.limits"],
}


def seeds(reader: str) -> list[bytes]:
    """Return valid inputs."""
    import numpy as np

    import glasscell as gc
    from glasscell import convert

    lstm = gc.LSTM(2, 3, seed=1)
    chain = gc.Sequential([gc.LSTM(2, 3, seed=1), gc.Linear(3, 2, seed=2)])
    contents = []
    with tempfile.TemporaryDirectory() as folder:
        for k, model in enumerate((lstm, chain)):
            suffix = {"safetensors": ".safetensors", "pickle": ".pt", "onnx": ".onnx"}[reader]
            path = Path(folder) / f"{k}{suffix}"
            if reader == "pickle":
                convert.torch.write(model.to_torch() | {"list": [1, 2.5, None, "x", (3,)]}, path, legacy=True)
            else:
                convert.save(model, path)
            contents.append(path.read_bytes())
    if reader == "safetensors":
        from safetensors.numpy import save

        contents.append(save({"a": np.zeros((2, 3), "f4"), "b": np.arange(3)}, {"key": "value"}))
    return contents


def read(reader: str, path: str, content: bytes) -> None:
    """Read one input; a ValueError is a refusal."""
    with open(path, "wb") as file:  # noqa: PTH123 - quick
        file.write(content)
    try:
        if reader == "safetensors":
            from glasscell import checkpoint

            checkpoint.read_with_header(path)
        elif reader == "pickle":
            from glasscell.convert import torch

            torch.read(path)
        else:
            from glasscell.convert import onnx

            onnx.load(path)
    except ValueError as error:
        if type(error) is not ValueError or "\n" in str(error):
            raise


def fuzz(reader: str, minutes: float) -> None:
    """Fuzz in this process, which atheris ends."""
    import atheris

    with atheris.instrument_imports(include=READERS[reader], enable_loader_override=False):
        for module in READERS[reader]:
            __import__(module)
        __import__({"onnx": "glasscell.convert.onnx.importer.graph"}.get(reader, "glasscell.convert.torch.files"))
    corpus = FOLDER / "corpus" / reader
    corpus.mkdir(parents=True, exist_ok=True)
    for k, content in enumerate(seeds(reader)):
        (corpus / f"seed{k}").write_bytes(content)
    path = str(Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)) / f"input.{reader}")  # noqa: S108

    def test_one_input(data: bytes) -> None:
        read(reader, path.replace(".pickle", ".pt"), data)

    options = [f"-max_total_time={int(60 * minutes)}", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], str(corpus), *options, f"-artifact_prefix={FOLDER}/", "-max_len=16384"], test_one_input)
    atheris.Fuzz()


def main() -> int:
    """Fuzz in a child process, and report; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        fuzz(options.reader, options.minutes)
        return 0
    command: list[Any] = [sys.executable, __file__, options.reader, "--minutes", str(options.minutes), "--child"]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    stats = {line.split(":")[0]: line.split()[-1] for line in done.stderr.splitlines() if line.startswith("stat::")}
    runs = int(stats.get("stat", 0) or 0) if "stat" in stats else 0
    for line in done.stderr.splitlines():
        if "number_of_executed_units" in line:
            runs = int(line.split()[-1])
    held = done.returncode == 0
    if not held:
        print(done.stdout[-4000:], done.stderr[-4000:], file=sys.stderr)
    title = f"coverage-guided fuzzing, {options.reader}"
    figure = f"{runs:,} inputs in {options.minutes:g} min, {'0 faults' if held else 'a fault: see stderr'}"
    print(f"| {title} | {figure} | 0 faults in 10 min | {'yes' if held and options.minutes >= 10 else 'NO'} |")
    return int(not held)


if __name__ == "__main__":
    sys.exit(main())
