"""Law: a damaged or hostile file loads or raises a ValueError, within the memory limit."""

import tracemalloc

import numpy as np
import pytest

I, H = 3, 4
MAX_BYTES = 40 * 2**20  # memory for reading a small file

TIME_FIRST = ("Transpose", "x", "X", {"perm": [1, 0, 2]})
STEPS = [TIME_FIRST, ("LSTM", "X W R B", "Y h c", {"hidden_size": H}), ("Squeeze", "Y 1", "z")]


def test_old_and_missing_opsets_are_errors(onnx, importer, graph):
    with pytest.raises(ValueError, match="the opset of the model must be at least 7, got 6"):
        importer.from_model(graph([("Relu", "x", "y")], opset=6))
    with pytest.raises(ValueError, match="got 0"):
        importer.from_model(onnx.ModelProto())


def test_other_file_formats_are_errors(importer, tmp_path):
    path = tmp_path / "m.onnx"
    for content in (b"", b"\x00" * 100, b"PK\x03\x04" + bytes(100), bytes(range(256)) * 10):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"m\.onnx"):
            importer.load(path)


def inconsistent_tensors(onnx):
    TensorProto = onnx.TensorProto
    yield "64 bytes", TensorProto(name="t", dims=[4, 5], data_type=1, raw_data=bytes(64))
    yield "2 values", TensorProto(name="t", dims=[4, 5], data_type=1, float_data=[1, 2])
    yield "64 bytes", TensorProto(name="t", dims=[2**62, 2**62], data_type=1, raw_data=bytes(64))
    yield "the shape", TensorProto(name="t", dims=[-1, 4], data_type=1, raw_data=bytes(64))
    yield "the shape", TensorProto(name="t", dims=[1] * 100, data_type=1, raw_data=bytes(4))
    yield "type STRING", TensorProto(name="t", dims=[1], data_type=8, string_data=[b"a"])
    yield "type number 99", TensorProto(name="t", dims=[1], data_type=99, raw_data=b"a")
    yield "another file", TensorProto(name="t", dims=[1], data_type=1, data_location=TensorProto.EXTERNAL)


def test_inconsistent_tensors_are_errors(onnx, importer, graph):
    for message, tensor in inconsistent_tensors(onnx):
        model = graph([("Add", "x t", "y")])
        model.graph.initializer.append(tensor)
        with pytest.raises(ValueError, match=f"the tensor 't' .*{message}"):
            importer.from_model(model)
        with pytest.raises(ValueError, match=rf"'the Constant' \(Constant\) .*{message}"):
            importer.from_model(graph([("Constant", "", "t", {"value": tensor}), ("Add", "x t", "y")]))


def test_external_data_is_checked(onnx, importer, graph, lstm_weights, tmp_path):
    """Only in the model's folder, within the file's size, and each byte at most once."""
    from onnx.external_data_helper import set_external_data  # noqa: PLC0415 - optional

    (tmp_path / "inner").mkdir()
    path, data, outside = tmp_path / "inner" / "m.onnx", tmp_path / "inner" / "data", tmp_path / "outside"

    def load(*, twice=False, **entries):
        model = graph([*STEPS, ("Transpose", "z", "y", {"perm": [1, 0, 2]})], lstm_weights())
        tensor = next(t for t in model.graph.initializer if t.name == "W")
        W = onnx.numpy_helper.to_array(tensor).tobytes()
        for file in (data, outside):
            file.write_bytes(W)
        set_external_data(tensor, **{"location": "data", "offset": 0, "length": len(W)} | entries)
        tensor.ClearField("raw_data")
        if twice:
            model.graph.initializer.append(onnx.TensorProto.FromString(tensor.SerializeToString()))
            model.graph.initializer[-1].name = "again"
        path.write_bytes(model.SerializeToString())
        return importer.load(path)

    assert load().layers
    (tmp_path / "inner" / "link").symlink_to(outside)
    for entries, message in (
        ({"location": "../outside"}, r"in the file '\.\./outside'; expected a file in the model's folder"),
        ({"location": str(outside)}, "expected a file in the model's folder"),
        ({"location": ".."}, "not a regular file in"),
        ({"location": ""}, "expected a file in"),
        ({"location": "link"}, "not a regular file in the model's folder"),
        ({"location": "nothing"}, "not a regular file in the model's folder"),
        ({"offset": 8}, "at byte 8 of 'data', which has"),
        ({"offset": -8}, "'-8' as a number of bytes"),
        ({"length": 2**60}, "which has"),
        ({"length": 4}, "which has"),
    ):
        with pytest.raises(ValueError, match=f"the tensor 'W' .*{message}"):
            load(**entries)
    with pytest.raises(
        ValueError, match="the tensor 'again' and the tensors before it have more bytes in 'data' than the file"
    ):
        load(twice=True)


ROWS, COLUMN, ONE = np.zeros((1, 100_000), np.float32), np.zeros((100_000, 1), np.float32), np.zeros(1, np.float32)
FAR = np.array([2**40])
BOMBS = {
    "a constant": ([("ConstantOfShape", "s", "y")], {"s": FAR}),
    "a shape of the input": ([("Shape", "x", "s"), ("ConstantOfShape", "s", "y")], {}),
    "an expansion": ([("Expand", "z s", "y")], {"s": FAR, "z": ONE}),
    "tiles": ([("Tile", "z s", "y")], {"s": FAR, "z": ONE}),
    "a range": ([("Range", "a b c", "y")], {"a": np.array(0), "b": FAR[0], "c": np.array(1)}),
    "tens of tens": ([("Concat", " ".join([f"v{k}"] * 10), f"v{k + 1}", {"axis": 0}) for k in range(9)], {"v0": ROWS}),
    "rows and columns": ([("Add", "a b", "y")], {"a": ROWS, "b": COLUMN}),
    "one place many times": ([("Gather", "a k", "y")], {"a": ROWS, "k": np.zeros(100_000, np.int64)}),
    "many copies": ([("Add", "a o", f"v{k}") for k in range(3000)], {"a": ROWS, "o": ONE}),
}


def peak_memory(run):
    """Return the peak of the memory that a function allocates."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", BOMBS)
def test_constants_larger_than_the_budget_are_errors(importer, graph, name):
    model = graph(*BOMBS[name], {"x": [2**62, 2**62, 2**62]})

    def load():
        with pytest.raises(ValueError, match="needs more memory than 3 times the file"):
            importer.from_model(model)

    assert peak_memory(load) < MAX_BYTES


def test_weights_shared_by_a_thousand_layers_are_an_error(importer, graph, lstm_weights):
    nodes = [TIME_FIRST]
    for k in range(1000):
        nodes += [("LSTM", f"{f'z{k - 1}' if k else 'X'} W R", f"Y{k}"), ("Squeeze", f"Y{k} 1", f"z{k}")]
    model = graph(nodes, lstm_weights(inputs=128, size=128), {"x": ["batch", "time", 128]}, outputs=["z999"])

    def load():
        with pytest.raises(ValueError, match="the model needs more memory than 3 times the file"):
            importer.from_model(model)

    assert peak_memory(load) < MAX_BYTES


def test_huge_input_sizes_take_no_memory(importer, graph, lstm_weights):
    huge = {"x": [2**62, 2**62, 2**62]}
    assert len(importer.from_model(graph([("Relu", "x", "y")], inputs=huge)).layers) == 1
    for node in (("Slice", "r 0 far 2", "y"), ("Split", "r", "y z", {"axis": 2})):
        with pytest.raises(ValueError, match=f"a part of an axis of size {2**62}"):
            importer.from_model(graph([("Relu", "x", "r"), node], lstm_weights(), huge))


def test_graphs_deeper_than_the_stack(importer, graph):
    """A sequence of layers, and one of Identity nodes."""
    names = ["x", *(f"v{k}" for k in range(1499)), "y"]
    for op, layers in (("Relu", 1500), ("Identity", 1)):
        nodes = [(op if k else "Relu", names[k], names[k + 1]) for k in range(1500)]
        assert len(importer.from_model(graph(nodes)).layers) == layers


@pytest.fixture
def sample(importer, graph, lstm_weights):
    """Return the content of a file with many operators."""
    nodes = [
        ("Shape", "x", "shape"),
        ("Gather", "shape 0", "batch"),
        ("Concat", "1 batch 4", "sizes", {"axis": 0}),
        ("Expand", "start sizes", "h0"),
        TIME_FIRST,
        ("LSTM", "X W R B . h0", "Y h c", {"activations": ["Sigmoid", "LeakyRelu", "Tanh"]}),
        ("Squeeze", "h 0", "s"),
        ("Gemm", "s V b", "u", {"transB": 1}),
        ("Softmax", "u", "y", {"axis": -1}),
    ]
    names = ("W", "R", "B", "V", "b", "0", "1", "4")
    tensors = lstm_weights()
    initializers = {name: tensors[name] for name in names} | {"start": np.ones((1, 1, H), np.float32)}
    model = graph(nodes, initializers)
    assert len(importer.from_model(model).layers) == 4
    return model.SerializeToString()


def test_truncated_files_are_errors(importer, sample, tmp_path):
    path = tmp_path / "m.onnx"
    for stop in range(0, len(sample) - 20, 7):  # the end, the version of the other domain, may be missing
        path.write_bytes(sample[:stop])
        with pytest.raises(ValueError, match=r"m\.onnx"):
            importer.load(path)


def test_damaged_files_load_or_are_errors(importer, sample, tmp_path, rng):
    """Flipped bits result in another model or a ValueError, within the memory limit."""
    path = tmp_path / "m.onnx"

    def load_damaged():
        for count in rng.choice([1, 1, 2, 8], 250):
            content = bytearray(sample)
            for index in rng.integers(0, len(sample), count):
                content[index] ^= 1 << int(rng.integers(8))
            path.write_bytes(content)
            try:
                importer.load(path)
            except ValueError as error:
                assert "m.onnx" in str(error)  # noqa: PT017 - not every file raises it

    assert peak_memory(load_damaged) < MAX_BYTES


def test_an_error_names_a_node_whose_output_is_no_text(onnx, importer):
    node = onnx.NodeProto.FromString(b"\x12\x01\xff")  # output, one byte that is not UTF-8
    with pytest.raises(ValueError, match=r"the node .* is invalid: 'x'"), importer.node_errors(node):
        raise KeyError("x")
