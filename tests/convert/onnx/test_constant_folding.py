"""Law: constants are folded as onnx.reference, or ONNX Runtime where that is wrong, evaluates them."""

import importlib
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
from case_loops import loop_over

from glasscell.limits import MemoryBudget

OPSETS = (7, 9, 11, 13, 17, 21)
ROUNDS = 6
DTYPES = (np.float32, np.float64, np.int64, np.int32)
COMPARISONS = ("Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Equal")


@dataclass
class Case:
    """Random operands of a node: an array x, one of its axes, and more of the same shape or dtype."""

    rng: np.random.Generator
    opset: int
    dtype: type

    def __post_init__(self):
        self.shape = tuple(self.rng.integers(1, 4, self.rng.integers(1, 4)).tolist())
        self.axis = int(self.rng.integers(-len(self.shape), len(self.shape)))
        self.x = self.draw(self.dtype, self.shape)

    def draw(self, dtype, shape):
        if np.dtype(dtype).kind == "f":
            return self.rng.standard_normal(shape).astype(dtype)
        return self.rng.integers(*((0, 2) if dtype is bool else (-5, 6)), shape).astype(dtype)

    def one_of(self, values):
        return values[self.rng.integers(len(values))]

    def broadcast(self):
        """Return an array without 0 that broadcasts to x."""
        y = self.draw(self.dtype, tuple(self.one_of((size, 1)) for size in self.shape))
        return np.where(y == 0, 3, y).astype(self.dtype)

    def with_axes(self, x, axes, since):
        """Return inputs and attributes; axes are an input since that version."""
        return ([x, indices(*axes)], {}) if self.opset >= since else ([x], {"axes": axes})


def indices(*values):
    return np.array(values, np.int64)


def cast(case):
    return [case.x], {"to": case.one_of([1, 6, 7, 9, 11])}


def gather(case):
    index = case.rng.integers(-case.shape[case.axis], case.shape[case.axis], case.one_of([(), (2,), (2, 2)]))
    return [case.x, np.asarray(index)], {"axis": case.axis}


def mod(case):
    return [case.x, case.broadcast()], {"fmod": 1} if case.x.dtype.kind == "f" else {}


def reduction(case, since):
    inputs, attributes = case.with_axes(case.x, [case.axis], since) if case.rng.integers(3) else ([case.x], {})
    return inputs, attributes | {"keepdims": case.one_of([0, 1])}


def slices(case):
    start, stop, step = (int(case.rng.integers(-4, 5)) for _ in range(3))
    if case.opset < 10:
        return [case.x], {"starts": [start], "ends": [stop], "axes": [case.axis]}
    return [case.x, *map(indices, (start, stop, case.axis, step or 1))], {}


def split(case):
    x = case.draw(case.dtype, (3, 4))
    return ([x, indices(1, 3)], {"axis": 1}) if case.opset >= 13 else ([x], {"axis": 1, "split": [1, 3]})


def squeeze(case):
    return case.with_axes(case.draw(case.dtype, (1, 3, 1, 2)), case.one_of([[0], [2], [-2], [0, 2]]), 13)


def transpose(case):
    return [case.x], case.one_of([{}, {"perm": case.rng.permutation(len(case.shape)).tolist()}])


CASES = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Max", "Min", *COMPARISONS), lambda c: ([c.x, c.broadcast()], {})),
    **dict.fromkeys(("And", "Or"), lambda c: ([c.x, c.draw(bool, c.shape)], {})),
    **dict.fromkeys(("Ceil", "Floor", "Sqrt"), lambda c: ([abs(c.x)], {})),
    **dict.fromkeys(("Abs", "Identity", "Neg", "Not", "Size"), lambda c: ([c.x], {})),
    **dict.fromkeys(("ReduceMax", "ReduceMin", "ReduceProd"), lambda c: reduction(c, 18)),
    "ReduceSum": lambda c: reduction(c, 13),
    "Cast": cast,
    "CastLike": lambda c: ([c.x, c.draw(c.one_of(DTYPES), (1,))], {}),
    "Concat": lambda c: ([c.x, c.draw(c.dtype, c.shape)], {"axis": c.axis}),
    "ConstantOfShape": lambda c: ([indices(2, 3)], c.one_of([{}, {"value": c.draw(c.dtype, (1,))}])),
    "Expand": lambda c: ([c.x, indices(2, *c.shape)], {}),
    "Flatten": lambda c: ([c.x], {"axis": int(c.rng.integers(0, len(c.shape) + 1))}),
    "Gather": gather,
    "Mod": mod,
    "Range": lambda c: ([np.array(number, c.dtype) for number in (1, 7, 2)], {}),
    "Reshape": lambda c: ([c.x, indices(*((0, -1) if len(c.shape) > 1 else (-1, 1)))], {}),
    "Shape": lambda c: ([c.x], {"start": -len(c.shape), "end": len(c.shape)} if c.opset >= 15 else {}),
    "Slice": slices,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": lambda c: ([c.x, indices(*[2] * len(c.shape))], {}),
    "Transpose": transpose,
    "Unsqueeze": lambda c: c.with_axes(c.x, c.one_of([[0], [1], [0, 2]]), 13),
    "Where": lambda c: ([c.draw(bool, c.shape), c.x, c.draw(c.dtype, c.shape)], {}),
}
OPERAND_DTYPES = dict.fromkeys(("And", "Or", "Not"), bool) | dict.fromkeys(("Ceil", "Floor", "Sqrt"), np.float32)


@pytest.fixture(scope="module")
def folding(onnx):
    return importlib.import_module("glasscell.convert.onnx.importer.constant_folding")


@pytest.fixture(scope="module")
def evaluate(onnx):
    """Run a node with onnx.reference."""
    reference = importlib.import_module("onnx.reference")

    def evaluate(node, inputs, opset):
        values = [
            [onnx.helper.make_empty_tensor_value_info(name) for name in names] for names in (node.input, node.output)
        ]
        graph = onnx.helper.make_graph([node], "node", *values)
        evaluator = reference.ReferenceEvaluator(graph, opsets={"": opset})
        return evaluator.run(None, dict(zip(node.input, inputs, strict=True)))

    return evaluate


def test_every_folded_operator_is_compared(folding):
    assert CASES.keys() | {"Constant"} == folding.FOLDED


@loop_over("op", CASES)
def test_results_are_those_of_onnx_reference(op, onnx, folding, evaluate, rng):
    for opset in (version for version in OPSETS if onnx.defs.has(op, max_inclusive_version=version)):
        for _ in range(ROUNDS):
            case = Case(rng, opset, OPERAND_DTYPES.get(op, DTYPES[rng.integers(4)]))
            inputs, attributes = CASES[op](case)
            if isinstance(attributes.get("value"), np.ndarray):
                attributes["value"] = onnx.numpy_helper.from_array(attributes["value"])
            outputs = ["a", "b"] if op == "Split" else ["a"]
            node = onnx.helper.make_node(op, [f"i{k}" for k in range(len(inputs))], outputs, **attributes)
            stored = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
            results = folding.fold(node, inputs, stored, MemoryBudget(0))
            for result, reference in zip(results, evaluate(node, inputs, opset), strict=True):
                assert (result.dtype, result.shape) == (reference.dtype, reference.shape), (opset, attributes)
                np.testing.assert_array_equal(result, reference)


@pytest.mark.parametrize("axes", [[2, 0], [0, 2], [-1, 0]])
@pytest.mark.parametrize("opset", [11, 13])
def test_axes_in_any_order_are_those_of_onnxruntime(axes, opset, onnx, onnxruntime, folding, rng):
    """onnx.reference inserts and removes the axes of versions before 13 one after the other."""
    helper = onnx.helper
    x = rng.standard_normal((1, 3, 1)).astype(np.float32)
    for op in ("Squeeze", "Unsqueeze"):
        inputs = {"x": x} | ({"axes": indices(*axes)} if opset >= 13 else {})
        node = helper.make_node(op, [*inputs], ["y"], **({} if opset >= 13 else {"axes": axes}))
        types = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in inputs.items()
        ]
        graph = helper.make_graph([node], "node", types, [helper.make_empty_tensor_value_info("y")])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        [expected] = session.run(None, inputs)
        [result] = folding.fold(node, [*inputs.values()], {} if opset >= 13 else {"axes": axes}, MemoryBudget(0))
        assert result.shape == expected.shape
        np.testing.assert_array_equal(result, expected)


def test_gathering_from_a_transposed_array_does_not_copy_it(onnx, folding):
    """A file of many Gather nodes would otherwise cost its size times their number."""
    array = np.zeros((1000, 1000), np.float32).T
    node = onnx.helper.make_node("Gather", ["x", "k"], ["y"])
    tracemalloc.start()
    try:
        folding.fold(node, [array, indices(0, 1)], {}, MemoryBudget(0))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < array.nbytes / 10
