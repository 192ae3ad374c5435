"""Property: no file costs more than 1 s + 0.1 s per MB and 12 times its size + 64 MB, runs code, or reads others.

Every file that ../shared/torture/make_bombs.py writes, and some of the same kinds that are made here, each read in a
separate process. What is not refused with one line must be a model.
"""

import json
import os
import pickle
import struct
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest

import glasscell as gc

TORTURE = Path(__file__).parents[2].parent / "shared" / "torture" / "make_bombs.py"
ENDINGS = (".pt", ".keras", ".h5", ".onnx", ".safetensors", ".npy")
MB = 2**20

# Reads each file in a separate child that has imported everything before: time and memory are of reading alone.
DRIVER = """
import importlib.util, json, os, pathlib, resource, signal, sys, time
import numpy as np, glasscell as gc
import glasscell.convert.files, glasscell.convert.torch, glasscell.trace.storage
import glasscell.models, glasscell.tensor_files
import glasscell.cli.inputs, encodings.cp437, encodings.utf_16_le, numpy.random, zipfile, fractions
for name in ("onnx", "h5py"):
    if importlib.util.find_spec(name):
        __import__(name)
if importlib.util.find_spec("onnx"):
    import glasscell.convert.onnx.importer
import glasscell.convert.keras

def status(key):
    text = open("/proc/self/status").read()
    at = text.index(key + ":") + len(key) + 1
    return int(text[at:].split()[0]) * 1024

def readers(path):
    if path.endswith(".npy"):
        return [lambda path: glasscell.cli.inputs.numbers_of("--input", path)]
    return [gc.convert.load, gc.convert.weights, gc.convert.lstms] + [gc.load] * path.endswith(".safetensors")

def measure(path):
    events, found = [], []
    folder = os.path.dirname(os.path.abspath(path))
    def hook(event, arguments):
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            where = os.path.abspath(os.fsdecode(arguments[0]))
            writes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes or not where.startswith((folder, sys.prefix, sys.base_prefix, SOURCES)):
                events.append(f"open {where}")
        elif event.startswith(("os.", "subprocess.", "socket.", "ctypes.", "shutil.", "pickle.", "marshal.")):
            if event not in ("os.listdir", "os.scandir", "os.fwalk") and not event.startswith("marshal.load"):
                events.append(f"{event} {arguments!r}"[:100])
    sys.addaudithook(hook)
    resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30,) * 2)
    signal.alarm(60)
    for read in readers(path):
        open("/proc/self/clear_refs", "w").write("5")
        before = status("VmRSS")
        events.clear()
        start = time.process_time()
        try:
            result = "loaded " + type(read(path)).__name__
        except BaseException as error:
            result = f"{type(error).__name__}: {error}"
        seconds, happened = time.process_time() - start, events[:]
        found.append({"result": result, "seconds": seconds, "bytes": status("VmHWM") - before, "events": happened})
    return found

SOURCES = str(pathlib.Path(gc.__file__).parent)
for line in sys.stdin:
    path = line.rstrip("\\n")
    out, into = os.pipe()
    child = os.fork()
    if not child:
        os.write(into, json.dumps(measure(path)).encode())
        os._exit(0)
    os.close(into)
    answer = b"".join(iter(lambda: os.read(out, 65536), b""))
    os.close(out)
    _, ended = os.waitpid(child, 0)
    print(json.dumps([path, json.loads(answer or b"[]"), ended]), flush=True)
"""


@pytest.fixture(scope="module")
def measured():
    """Function that returns for each file its path, the measurements of its readers, and how their process ended."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("memory is measured as Linux does it: there is no /proc/self/clear_refs")
    environment = os.environ | {"PYTHONPATH": str(Path(gc.__file__).parents[1]), "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(DRIVER)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as driver:

        def measured(files):
            for file in files:
                driver.stdin.write(f"{file}\n")
            driver.stdin.flush()
            return [json.loads(driver.stdout.readline()) for _ in files]

        yield measured
        driver.stdin.close()
    assert driver.returncode == 0


def faults(found):
    """Return the violations of the bounds by these measurements."""
    wrong = []
    for path, read, ended in ((path, one, ended) for path, every, ended in found for one in every or [{}]):
        name, size = Path(path).name, Path(path).stat().st_size
        if ended or not read:
            wrong.append(f"{name} ends the process: {ended}")
            continue
        result = read["result"]
        if not result.startswith(("ValueError: ", "loaded ")) or "\n" in result or len(result) > 1000:
            wrong.append(f"{name} gives {result[:200]!r}")
        if read["seconds"] > 1 + 0.1 * size / MB:
            wrong.append(f"{name} takes {read['seconds']:.2f} s")
        if read["bytes"] > 12 * size + 64 * MB:
            wrong.append(f"{name}, {size / MB:.2f} MB, takes {read['bytes'] / MB:.0f} MB")
        if read["events"]:
            wrong.append(f"{name} does {read['events'][:3]}")
    return wrong


def test_every_file_of_the_corpus(measured, tmp_path):
    if not TORTURE.is_file():
        pytest.skip("../shared/torture/make_bombs.py is not there")
    pytest.importorskip("onnx")
    pytest.importorskip("h5py")
    folder = tmp_path / "in" / "corpus"
    subprocess.run([sys.executable, str(TORTURE), str(folder)], check=True, capture_output=True)
    files = sorted(path for path in folder.iterdir() if path.suffix in ENDINGS and path.is_file())
    assert len(files) > 100
    assert faults(measured(files)) == []
    made = {path.name for path in [*tmp_path.rglob("*")] if path.name.startswith(("EXECUTED", "SLIP"))}
    assert made == set()


# Of our own making


class Runs:
    def __reduce__(self):
        return os.system, ("touch EXECUTED",)


def zipped(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def liar(path):
    """Its directory says that an entry has 1000 bytes; it has 100 MB."""
    entries = {"metadata.json": "{}", "config.json": "{}" + " " * 100_000_000, "model.weights.h5": "x"}
    zipped(path, entries, zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    place = content.rfind(b"config.json") - 46
    struct.pack_into("<I", content, place + 24, 1000)
    path.write_bytes(content)


def pickled(opcodes):
    return lambda path: zipped(path, {"archive/data.pkl": b"\x80\x02" + opcodes + b".", "archive/version": "3\n"})


def tuples(n):
    """Tuples of integers whose hashes are all the same: from the last step of xxHash, as Python has it, backwards."""
    mask, P1, P2, P5 = 2**64 - 1, 11400714785074694791, 14029467366897019727, 2870177450012600261
    inverse, target = pow(P2, -1, 2**64), 12345678901234567
    keys, k = [], 0
    while len(keys) < n:
        k += 1
        mixed = (P5 + k * P2) & mask
        mixed = ((mixed << 31) | (mixed >> 33)) & mask
        lane = ((target - mixed * P1) * inverse) & mask
        lane -= 2**64 * (lane >= 2**63)
        if abs(lane) < 2**61 - 1 and lane != -1:
            keys.append((k, lane))
    assert len({hash(key) for key in keys}) == 1
    parts = (b"J" + struct.pack("<i", a) + b"\x8a\x08" + struct.pack("<q", b) + b"\x86N" for a, b in keys)
    return b"}(" + b"".join(parts) + b"u"


def safetensors(header, size=0):
    def write(path):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))

    return write


def glasscell_file(kind, config, numbers=1_000_000):
    entry = json.dumps({"format": 1, "kind": kind, "config": config})
    tensor = {"dtype": "F32", "shape": [numbers], "data_offsets": [0, 4 * numbers]}
    return safetensors({"__metadata__": {"glasscell": entry}, "w": tensor}, 4 * numbers)


def linears(n):
    layer = {"kind": "Linear", "input_size": 1000, "output_size": 1000, "bias": False}
    return glasscell_file("Sequential", {"names": [f"n{k}" for k in range(n)], "layers": [layer] * n})


def npy(header, content=b""):
    def write(path):
        text = header.encode() + b" " * (-len(header) % 64) + b"\n"
        path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content)

    return write


LSTM_OF = {"input_size": 1, "hidden_size": 1}


def ours():
    """Return what writes each file: some are long before they are written."""
    return {
        "liar.keras": liar,
        "bomb.keras": lambda path: zipped(
            path,
            {"metadata.json": "{}", "config.json": "{}", "model.weights.h5": bytes(100_000_000)},
            zipfile.ZIP_DEFLATED,
        ),
        "deep.keras": lambda path: zipped(
            path, {"metadata.json": "{}", "config.json": "[" * 900_000, "model.weights.h5": ""}
        ),
        "empties.keras": lambda path: zipped(
            path, {"metadata.json": "{}", "config.json": "[" + "{}," * 3_000_000 + "{}]", "model.weights.h5": "x"}
        ),
        "runs.pt": lambda path: zipped(
            path, {"archive/data.pkl": pickle.dumps({"w": Runs()}), "archive/version": "3\n"}
        ),
        "collisions.pt": pickled(tuples(20_000)),
        "sets.pt": pickled(b"](" + b"\x8f" * 2_000_000 + b"e"),
        "pops.pt": pickled(b"N0" * 2_000_000 + b"N"),
        "memo.pt": pickled(b"N" + b"".join(b"r" + struct.pack("<I", k) for k in range(200_000))),
        "entries.pt": lambda path: zipped(path, {f"archive/{k}": b"" for k in range(20_000)}),
        "linears.safetensors": linears(500),
        "layers.safetensors": glasscell_file("LSTM", LSTM_OF | {"num_layers": 900_000}),
        "names.safetensors": glasscell_file(
            "Sequential",
            {"names": ["a." * 500_000 + "a"], "layers": [{"kind": "Linear", "input_size": 1, "output_size": 1}]},
        ),
        "text.safetensors": glasscell_file(
            "Sequential", {"names": ["a"], "layers": [{"kind": "Linear", "input_size": "x", "output_size": 10**9}]}
        ),
        "list.safetensors": glasscell_file(
            "Sequential",
            {"names": ["a"], "layers": [{"kind": "Embedding", "vocabulary_size": [0], "embedding_size": 10**9}]},
        ),
        "groups.safetensors": glasscell_file(
            *("Sequential", {"names": ["a"]} | {"layers": [{"kind": "Conv1D", "input_size": 1, "output_size": 1}]}), 4
        ),
        "stateless.safetensors": glasscell_file(
            "Sequential", {"names": [str(k) for k in range(200_000)], "layers": [{"kind": "FinalState"}] * 200_000}
        ),
        "empties.safetensors": safetensors(b'{"__metadata__":{"glasscell":"[' + b"{}," * 2_000_000 + b'{}]"}}'),
        "tensors.safetensors": safetensors(
            {f"{k}": {"dtype": "F32", "shape": [1], "data_offsets": [4 * k, 4 * k + 4]} for k in range(60_000)}, 240_000
        ),
        "rank.safetensors": safetensors({"w": {"dtype": "F32", "shape": [1] * 100_000, "data_offsets": [0, 4]}}, 4),
        "token.npy": npy("{'descr': '<f8', 'fortran_order': False, 'shape': ("),
        "indent.npy": npy(" {'descr': '<f8'\n  x\n y: (1,)}"),
        "nested.npy": npy("(" * 3000),
        "huge.npy": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 1000000)}"),
        "large.npy": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (500000000,)}", bytes(64)),
        "objects.npy": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", pickle.dumps([Runs()])),
        "fields.npy": npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}", bytes(8)),
        "negative.npy": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}", bytes(8)),
    }


OF_ONNX = {
    "empty.onnx": lambda path: path.write_bytes(b"\x08\x08" + field(7, b"\x0a\x00" * 2_000_000) + b"\x42\x02\x10\x11"),
    "packed.onnx": lambda path: path.write_bytes(
        b"\x08\x08"
        + field(7, field(5, b"\x08" + varint(4_000_000) + b"\x10\x07" + field(7, bytes(4_000_000))))
        + b"\x42\x02\x10\x11"
    ),
    "fields.onnx": lambda path: path.write_bytes(b"\x08\x08" * 3_000_000),
    "group.onnx": lambda path: path.write_bytes(b"\x0b" + field(7, b"\x0a\x00" * 2_000_000)),
    "unknown.onnx": lambda path: path.write_bytes(b"\xfa\x7f\x00" * 2_000_000),
    "inputs.onnx": lambda path: path.write_bytes(b"\x08\x08" + field(7, b"\x5a\x00" * 300_000) + b"\x42\x02\x10\x11"),
}


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def test_files_of_our_own_making(measured, tmp_path):
    files = []
    for name, write in ours().items():
        write(tmp_path / name)
        files.append(tmp_path / name)
    assert faults(measured(files)) == []
    assert not list(tmp_path.rglob("EXECUTED*"))


def test_files_of_onnx_of_our_own_making(measured, tmp_path):
    pytest.importorskip("onnx")
    files = []
    for name, write in OF_ONNX.items():
        write(tmp_path / name)
        files.append(tmp_path / name)
    assert faults(measured(files)) == []


def test_the_law_sees_what_it_is_about(measured, tmp_path, monkeypatch):
    """A model that is fine costs next to nothing; a law that nothing breaks would say nothing."""
    gc.LSTM(3, 4).to_torch()
    gc.convert.save(gc.LSTM(3, 4), tmp_path / "fine.safetensors")
    (tmp_path / "bad.npy").symlink_to(__file__)
    found = measured([tmp_path / "fine.safetensors"])
    assert faults(found) == []
    monkeypatch.setattr(sys.modules[__name__], "MB", -(2**40))
    assert len(faults(found)) >= 1


# A file that changes while it is read

WRITER = """
import os, sys
path, contents, turn = sys.argv[1], [open(p, "rb").read() for p in sys.argv[2:]], 0
while os.getppid() != 1:
    with open(path, "r+b") as file:  # in place: what is mapped shrinks under its reader
        file.truncate(0)
        file.write(contents[turn % 2])
    turn += 1
"""


def test_a_file_that_is_rewritten_in_place_does_not_end_the_process(tmp_path):
    """With a mapped file it did, by SIGBUS."""
    rng = np.random.default_rng(0)
    contents = []
    for k in range(2):
        model = gc.LSTM(64, 128, seed=None)
        model.parameters.vector[:] = rng.normal(size=model.parameters.vector.size)
        gc.convert.save(model, tmp_path / f"{k}.safetensors")
        contents.append(model.parameters.vector.tobytes())
    path = tmp_path / "now.safetensors"
    path.write_bytes((tmp_path / "0.safetensors").read_bytes())
    reader = textwrap.dedent(
        """
        import hashlib, sys, glasscell as gc
        for _ in range(400):
            try:
                print(hashlib.sha256(gc.convert.load(sys.argv[1]).parameters.vector.tobytes()).hexdigest())
            except (ValueError, FileNotFoundError):
                print("refused")
        """
    )
    sources = [str(tmp_path / f"{k}.safetensors") for k in range(2)]
    environment = os.environ | {"PYTHONPATH": str(Path(gc.__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path), *sources]) as writer:
        try:
            command = [sys.executable, "-c", reader, str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        finally:
            writer.kill()
    assert done.returncode == 0, done.stderr[-300:]
    import hashlib  # noqa: PLC0415

    right = {hashlib.sha256(content).hexdigest() for content in contents}
    answers = done.stdout.split()
    assert len(answers) == 400
    assert set(answers) <= {*right, "refused"}
