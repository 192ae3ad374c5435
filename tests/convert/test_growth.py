"""Property: doubling any content of a file at most multiplies the work and memory to read it by 2.3.

Work is counted, not timed: the bytecodes that run, and the calls into C. Memory is what tracemalloc sees at its most.
"""

import contextlib
import gc as gc_module
import json
import struct
import sys
import tracemalloc
import zipfile
from itertools import pairwise

import numpy as np
import pytest
from safetensors.numpy import save

import glasscell as gc
from glasscell import checkpoint
from glasscell.checkpoint import Checkpoint
from glasscell.convert import torch
from glasscell.layers import Function
from glasscell.trace.trace import Trace

FIRST, DOUBLINGS, MOST = 16, 4, 2.3
GROUND = 100_000  # bytes of memory that do not count: what is imported, cached or compiled once


@pytest.fixture(scope="module", autouse=True)
def _collections_pass_over_older_objects():
    """Keep the objects of other tests out of the collections here, which would take half a second each."""
    gc_module.collect()
    gc_module.freeze()
    yield
    gc_module.unfreeze()


def work(run):
    """Bytecodes and calls into C."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    def profile(_frame, event, _argument):
        nonlocal count
        count += event == "c_call"

    before = sys.gettrace()
    sys.settrace(trace)
    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(None)
        sys.settrace(before)
    return count


def memory(run):
    """Return the most bytes that it held at once, with no garbage of earlier runs and none collected meanwhile."""
    gc_module.collect()
    gc_module.disable()  # when it runs depends on what ran before
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        gc_module.enable()


def arrays(n, prefix="w"):
    return {f"{prefix}{k}": np.full(2, k, np.float32) for k in range(n)}


def safetensors(metadata=None, tensors=None):
    return lambda path: path.write_bytes(save(tensors or arrays(1), metadata))


def described(kind, config, tensors):
    return lambda path: checkpoint.save(Checkpoint(kind, config, tensors), path)


def stack(n):
    """Return an LSTM of n / 4 layers, each of ten thousand bytecodes of work."""
    return gc.LSTM(1, 1, num_layers=n // 4, seed=None, engine="numpy")


def chain(n):
    return gc.Sequential([gc.Linear(1, 1) for _ in range(n // 2)], [f"layer{k}" for k in range(n // 2)])


def functions(n):
    return gc.Sequential([gc.LSTM(1, 1), *(Function("Relu") for _ in range(n))])


def dotted(n):
    """Return a name with many components."""
    name = ".".join(["a"] * n)
    config = {"names": [name], "layers": [{"kind": "Linear", "input_size": 1, "output_size": 1, "bias": False}]}
    return described("Sequential", config, {f"{name}.weight": np.ones((1, 1), np.float32)})


def pickled(content):
    return lambda path: torch.write(content, path)


def legacy(content):
    return lambda path: torch.write(content, path, legacy=True)


def crowded(n):
    """Return an archive with empty entries."""

    def write(path):
        torch.write(arrays(1), path)
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in (entries | {f"archive/x{k}": b"" for k in range(n)}).items():
                archive.writestr(zipfile.ZipInfo(name), content)

    return write


def trace_of(steps):
    return lambda path: gc.LSTM(1, 1, engine="numpy").trace(np.ones((steps, 1)), np.ones((steps, 1))).save(path)


def trace_of_layers(layers):
    return lambda path: stack(layers).trace(np.ones((2, 1)), np.ones((2, 1))).save(path)


READERS = {  # by what there are many of: writes a file with n of them; what reads it
    "safetensors: tensors": (lambda n: safetensors(tensors=arrays(n)), checkpoint.read),
    "safetensors: metadata": (lambda n: safetensors({f"key{k}": "x" for k in range(n)}), checkpoint.read),
    "safetensors: axes": (lambda n: safetensors(tensors={"w": np.ones((1,) * (n // 16), np.float32)}), checkpoint.read),
    "safetensors: weights alone": (lambda n: safetensors(tensors=stack(n).to_torch()), gc.convert.load),
    "LSTM: layers": (lambda n: lambda path: gc.convert.save(stack(n), path), gc.convert.load),
    "Sequential: layers": (lambda n: chain(n).save, gc.Sequential.load),
    "Sequential: layers without weights": (lambda n: functions(n).save, gc.Sequential.load),
    "Sequential: parts of a name": (dotted, gc.Sequential.load),
    "configuration: entries": (
        lambda n: described("Other", {f"key{k}": [k, {}] for k in range(n)}, arrays(1)),
        checkpoint.load,
    ),
    "trace: steps": (trace_of, Trace.load),
    "trace: layers": (trace_of_layers, Trace.load),
    "pt: tensors": (lambda n: pickled(arrays(n)), torch.read),
    "pt: tensors of a stream": (lambda n: legacy(arrays(n)), torch.read),
    "pt: keys": (lambda n: pickled({"w": np.ones(1), "d": {k: str(k) for k in range(n)}}), torch.read),
    "pt: items": (lambda n: pickled({"w": np.ones(1), "l": [float(k) for k in range(n)]}), torch.read),
    "pt: containers": (lambda n: pickled({"w": np.ones(1), "l": [{"a": []} for _ in range(n)]}), torch.read),
    "pt: tuples": (lambda n: pickled({"w": np.ones(1), "l": [(k, k) for k in range(n)]}), torch.read),
    "pt: entries": (crowded, torch.read),
    "pt: layers": (lambda n: pickled(stack(n).to_torch()), gc.convert.load),
    "pt: modules": (lambda n: pickled(chain(n).to_torch()), gc.convert.weights),
}


def grows(write_some, read, tmp_path, suffix=".safetensors"):
    """Assert the law. What is refused must be refused for its size, which is a bound, too."""
    works, memories = [], []
    for k in range(DOUBLINGS + 2):  # the first one loads modules and fills caches
        file = tmp_path / f"{k}{suffix}"
        write_some(FIRST << max(k - 1, 0))(file)
        works.append(work(lambda file=file: read(file)))
        memories.append(max(memory(lambda file=file: read(file)), GROUND))
    for amounts in (works[1:], memories[1:]):
        ratios = [after / before for before, after in pairwise(amounts)]
        assert max(ratios) <= MOST, (works, memories)


@pytest.mark.parametrize("name", READERS)
def test_reading_grows_as_what_is_read(name, tmp_path):
    grows(*READERS[name], tmp_path, ".pt" if name.startswith("pt") else ".safetensors")


# Keras, written with h5py


def with_h5py(change):
    def write(path):
        import h5py  # noqa: PLC0415 - optional

        gc.convert.save(chain(2), path, weights_only=True)
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
        with h5py.File(path, "r+") as file:
            change(file)

    return write


def links(n):
    """Many entries that are one group with as many attributes."""

    def change(file):
        group = file.create_group("more")
        target = file.create_group("target")
        for k in range(n):
            target.attrs[f"a{k}"] = 1
            group[f"link{k}"] = target

    return with_h5py(change)


def datasets(n):
    """Entries that are one dataset."""

    def change(file):
        group = file.create_group("optimizer")
        first = group.create_dataset("first", data=np.ones(2))
        for k in range(n):
            group[f"link{k}"] = first

    return with_h5py(change)


def keras_config(n):
    """Return a configuration with many unknown settings."""

    def write(path):
        gc.convert.save(chain(2), path)
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        config = json.loads(entries["config.json"])
        config["more"] = [{"a": k} for k in range(n)]
        entries["config.json"] = json.dumps(config).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in entries.items():
                archive.writestr(name, content)

    return write


def read_or_refuse(path):
    with contextlib.suppress(ValueError):
        gc.convert.load(path)


KERAS = {
    "keras: layers": (lambda n: lambda path: gc.convert.save(chain(n), path), gc.convert.load, ".keras"),
    "h5: layers": (lambda n: lambda path: gc.convert.save(chain(n), path), gc.convert.load, ".h5"),
    "keras: settings": (keras_config, gc.convert.load, ".keras"),
    "h5: links and attributes": (links, read_or_refuse, ".weights.h5"),
    "h5: datasets": (datasets, read_or_refuse, ".weights.h5"),
}


@pytest.mark.parametrize("name", KERAS)
def test_reading_keras_grows_as_what_is_read(name, tmp_path):
    pytest.importorskip("h5py")
    write_some, read, suffix = KERAS[name]
    grows(write_some, read, tmp_path, suffix)


# ONNX


def onnx_file(build):
    def write(path):
        import onnx  # noqa: PLC0415 - optional
        from onnx import helper  # noqa: PLC0415

        nodes, tensors, inputs, options = build(helper)
        given = [helper.make_tensor_value_info(name, 1, ["b", "t", 1]) for name in ["x", *inputs]]
        last = [helper.make_tensor_value_info(nodes[-1].output[0], 1, None)]
        graph = helper.make_graph(nodes, "g", given, last, tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        for key, value in options.items():
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value
        onnx.save(model, path)

    return write


def relus(helper, n):
    return [helper.make_node("Relu", ["x" if not k else f"y{k - 1}"], [f"y{k}"]) for k in range(n)]


def matmuls(helper, n):
    return [helper.make_node("MatMul", ["x" if not k else f"y{k - 1}", "W"], [f"y{k}"]) for k in range(n)]


def tensors(helper, n):
    return [helper.make_tensor(f"t{k}", 1, [1, 1], [1.0]) for k in range(n)]


ONNX = {
    "nodes": lambda n: lambda h: (relus(h, n), [], [], {}),
    "layers": lambda n: lambda h: (matmuls(h, n), [h.make_tensor("W", 1, [1, 1], [2.0])], [], {}),
    "tensors": lambda n: lambda h: (relus(h, 1), tensors(h, n), [], {}),
    "inputs": lambda n: lambda h: (relus(h, 1), [], [f"i{k}" for k in range(n)], {}),
    "properties": lambda n: lambda h: (relus(h, 1), [], [], {f"k{k}": "v" for k in range(n)}),
    "attributes": lambda n: (
        lambda h: ([h.make_node("Relu", ["x"], ["y"], **{f"a{k}": k for k in range(n)})], [], [], {})
    ),
    "constants": lambda n: (
        lambda h: (
            [*(h.make_node("Neg", [f"t{k}"], [f"n{k}"]) for k in range(n)), *relus(h, 1)],
            *(tensors(h, n), [], {}),
        )
    ),
}


@pytest.mark.parametrize("name", ONNX)
def test_reading_onnx_grows_as_what_is_read(name, tmp_path):
    pytest.importorskip("onnx")
    build = ONNX[name]
    grows(lambda n: onnx_file(lambda helper: build(n)(helper)), read_or_refuse, tmp_path, ".onnx")


def test_what_is_doubled_grows(tmp_path):
    """The law sees a reader that compares everything with everything."""

    def quadratic(path):
        names = list(checkpoint.read(path)[1])
        return [other for name in names for other in names if other > name]

    with pytest.raises(AssertionError):
        grows(READERS["safetensors: tensors"][0], quadratic, tmp_path)


def test_a_header_of_many_empty_objects_is_refused_at_once(tmp_path):
    text = b'{"__metadata__":{"glasscell":"' + b"[" + b"{}," * 600_000 + b'{}]"}}'
    (tmp_path / "a").write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(ValueError, match="needs more memory"):
        checkpoint.read(tmp_path / "a")
