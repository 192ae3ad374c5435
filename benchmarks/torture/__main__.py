"""Run the proofs: ``python benchmarks/torture`` for all, ``python benchmarks/torture fuzz --count 1000`` for one."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
# Modules that are no proofs.
SUPPORT = ("__init__", "__main__", "bars", "measuring", "property_examples", "property_layers", "property_values")


def main(arguments: list[str]) -> int:
    """Run the proofs one after another; return 1 if one of them misses a bar."""
    names = [path.stem for path in sorted(FOLDER.glob("*.py")) if path.stem not in SUPPORT]
    if arguments and arguments[0] not in names:
        print(f"usage: python benchmarks/torture [PROOF [OPTIONS]]; proofs are {', '.join(names)}", file=sys.stderr)
        return 2
    selected = arguments[:1] or names
    if len(selected) > 1:
        print("| bar | figure | bound | held |\n|---|---|---|---|", flush=True)
    missed = []
    for name in selected:
        command = [sys.executable, "-m", f"torture.{name}", *arguments[1:]]
        if subprocess.run(command, cwd=FOLDER.parent, check=False).returncode:
            missed.append(name)
    if missed and len(selected) > 1:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
