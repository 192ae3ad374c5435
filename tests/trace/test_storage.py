"""Law: every view can display a trace loaded from a file; all other files raise an error of one line.

Files are changed in what they say, and their checksums put right: names, shapes, dtypes, values, options, descriptions.
GLASSCELL_MUTANTS=5000 tries as many instead of some hundreds, and draws a figure of every one that loads.
"""

import copy
import json
import os
import struct
import warnings

import numpy as np
import pytest
from case_loops import loop_over
from safetensors.numpy import save

import glasscell as gc
from glasscell.checkpoint import HEADER_KEY
from glasscell.layers import FinalState
from glasscell.tensor_files import encode
from glasscell.tensor_files import read as read_tensors
from glasscell.trace import diagnostics, figures, terminal
from glasscell.trace.trace import Trace

MUTANTS = int(os.environ.get("GLASSCELL_MUTANTS", "330"))
EVERY = 1 if MUTANTS > 1000 else 25  # one figure per this number of loaded files
I, H, T, B = 3, 4, 5, 2

# What views say themselves of a trace that is fine, and that has nothing of the kind.
MESSAGES = (
    *("needs a target", "needs at least one step", "trace must be of one sequence", "has no weights in this LSTM"),
    *("needs all units and steps of one sequence", "must have all steps and units", "must have at least one step"),
    *("normalizes the cell", "must have a time axis", "needs the trace of a batch", "does not support an LSTM"),
)


def randomized(model, rng):
    model.parameters.vector[:] = rng.normal(size=model.parameters.vector.size) * 0.5
    return model


def lstm(rng, **options):
    return randomized(gc.LSTM(I, H, engine="numpy", **options), rng)


def sequence(rng, **options):
    model = lstm(rng, **options)
    return model.trace(rng.normal(size=(T, I)), rng.normal(size=(T, model.output_size)))


def batch(rng):
    x, y = rng.normal(size=(B, T, I)), rng.normal(size=(B, T, H))
    return lstm(rng).trace(x, y, lengths=[T, 3], step_names=list("abcde"))


def classes(rng):
    layers = [gc.Embedding(6, I), gc.LSTM(I, H, engine="numpy"), gc.LSTM(H, H, engine="numpy"), gc.Linear(H, 6)]
    model = randomized(gc.Sequential(layers), rng)
    names = list("uvwxyz")
    return model.trace(
        rng.integers(6, size=T), rng.integers(6, size=T), loss="categorical_cross_entropy", output_names=names
    )


def timeless(rng):
    layers = [gc.LSTM(I, H, engine="numpy"), FinalState(), gc.Linear(H, 2)]
    return randomized(gc.Sequential(layers), rng).trace(rng.normal(size=(T, I)), [0.5, 1.0])


def copied(rng):
    return randomized(gc.CopyLSTM(H), rng).trace([1, 0, 1])


TRACES = {
    "one": sequence,
    "without a target": lambda rng: lstm(rng).trace(rng.normal(size=(T, I))),
    "both directions": lambda rng: sequence(rng, bidirectional=True, num_layers=2),
    "variant": lambda rng: sequence(rng, peepholes=True, proj_size=2, coupled="input", bias=False),
    "normalised": lambda rng: sequence(rng, layer_norm="contrib", reverse=True),
    "batch": batch,
    "classes": classes,
    "timeless": timeless,
    "copy": copied,
    "a step": lambda rng: sequence(rng)[2],
    "a step of a batch": lambda rng: batch(rng)[1],
    "some steps": lambda rng: sequence(rng)[1:4],
}


@pytest.fixture(params=TRACES)
def saved(request, tmp_path, rng):
    """The header and the arrays of a saved trace."""
    file = tmp_path / "trace.safetensors"
    TRACES[request.param](rng).save(file)
    found = read_tensors(str(file))
    header = json.loads(found.metadata[HEADER_KEY])
    del header["checksum"]
    return header, found.tensors


def written(path, header, arrays):
    path.write_bytes(encode(HEADER_KEY, header, {name: np.ascontiguousarray(array) for name, array in arrays.items()}))
    return path


# Changes


def drop_array(header, arrays, rng):
    del arrays[str(rng.choice([*arrays]))]


def retype(header, arrays, rng):
    name = str(rng.choice([*arrays]))
    with np.errstate(all="ignore"):
        arrays[name] = arrays[name].astype(rng.choice(["f2", "f4", "f8", "i4", "i8", "u1", "?"]))


def reshape(header, arrays, rng):
    name = str(rng.choice([*arrays]))
    array = arrays[name]
    changes = [
        array.T,
        array.ravel(),
        array[None],
        array[..., None],
        array[:0],
        array[:1],
        array[1:],
        array.reshape(-1, 1),
    ]
    arrays[name] = changes[rng.integers(len(changes))] if array.ndim else array[None]


def poison(header, arrays, rng):
    name = str(rng.choice([*arrays]))
    array = arrays[name].copy()
    values = [np.nan, np.inf, -np.inf, 1e30, -1e30, 0, -1, 7, 2.5, 1e-40]
    if array.size:
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            array.flat[rng.integers(array.size)] = np.float64(rng.choice(values)).astype(array.dtype)
    arrays[name] = array


def fill(header, arrays, rng):
    name = str(rng.choice([*arrays]))
    arrays[name] = np.full_like(arrays[name], rng.choice([0, 1, 3, 100]))


def rename(header, arrays, rng):
    name, other = (
        str(rng.choice([*arrays])),
        str(rng.choice(["x", "outputs", "layer.0.f", "weights.0.kernel", "layer.9.f", "q"])),
    )
    arrays[other] = arrays.pop(name)


def exchange(header, arrays, rng):
    a, b = (str(name) for name in rng.choice([*arrays], 2))
    arrays[a], arrays[b] = arrays[b], arrays[a]


def cut_all(header, arrays, rng):
    """One step, feature or sequence fewer wherever there are as many."""
    size = int(rng.choice([I, H, T, B, 1]))
    for name, array in arrays.items():
        for axis in range(array.ndim):
            if array.shape[axis] == size and rng.random() < 0.9:
                arrays[name] = arrays[name].take(range(size - 1), axis)


JUNK = [
    *(None, True, False, 0, 1, -1, 3, 1.5, 1e300, "", "T", "BT", "x", "\x1b[2J", [], {}, [1, 2], ["a", "b"], {"a": 1}),
    *(
        list("abcde"),
        list("abc"),
        [["a"]],
        [{}] * 5,
        "squared_error",
        "binary_cross_entropy",
        "categorical_cross_entropy",
    ),
    *("recall", "echo", "101", "l0", "l0_reverse", "Sigmoid", "input", "haste", 2**40, [None] * 5),
]


def places(value, at=()):
    """Every place in what JSON holds."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*at, key))


def put_junk(header, arrays, rng):
    """Somewhere in the header something else, or nothing, or something more."""
    every = [place for place in places(header) if place]
    *before, last = every[rng.integers(len(every))]
    holder = header
    for key in before:
        holder = holder[key]
    kind = rng.integers(4)
    if kind == 0:
        del holder[last]
    elif kind == 1 and isinstance(holder, dict):
        names = [
            "more",
            "copy",
            "input_names",
            "output_names",
            "step_names",
            "loss",
            "timeless",
            "chain",
            "bidirectional",
            "clip",
        ]
        holder[str(rng.choice(names))] = JUNK[rng.integers(len(JUNK))]
    elif kind == 2 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[last]))
    else:
        holder[last] = JUNK[rng.integers(len(JUNK))]


def describe(header, arrays, rng):
    """Another description."""
    keys = ["title", "input_names", "output_names", "step_names", "copy", "chain", "loss", "timeless"]
    header["about"][str(rng.choice(keys))] = JUNK[rng.integers(len(JUNK))]


def option(header, arrays, rng):
    options = [
        *[("bidirectional", True), ("reverse", True), ("peepholes", True), ("proj_size", 3), ("coupled", "forget")],
        *[("num_layers", 2), ("hidden_size", 3), ("input_size", 4), ("layer_norm", "tflite"), ("bias", False)],
        *[("merge", "sum"), ("clip", 1.0), ("zoneout", 0.5), ("gate_activation", ["Relu", None, None])],
        *[("output_activation", ["Affine", 2.0, 1.0]), ("learn_initial_state", True)],
    ]
    layer = header["layers"][rng.integers(len(header["layers"]))]
    name, value = options[rng.integers(len(options))]
    layer["options"][name] = value


CHANGES = (drop_array, retype, reshape, poison, fill, rename, exchange, cut_all, put_junk, put_junk, describe, option)


# Views


def show(trace, *, draw):
    repr(trace)
    trace.to_dict()
    yield lambda: [trace[0], trace[-1:], trace[1:]]
    yield lambda: trace.unit(0)
    yield lambda: terminal.render(trace, color=False)
    yield lambda: terminal.render(trace, color=True, width=60)
    for layer in trace.layer:
        yield lambda layer=layer: repr(layer)
        yield lambda layer=layer: diagnostics.saturation(layer.f)
        yield lambda layer=layer: diagnostics.half_life(layer.f)
        yield lambda layer=layer: diagnostics.events(layer)
        yield lambda layer=layer: diagnostics.gradient_paths(layer)
        yield lambda layer=layer: diagnostics.gradient_norms(layer)
        yield lambda layer=layer: diagnostics.spectral_radii(layer)
        yield lambda layer=layer: diagnostics.gradient_decay(layer)
    for k in range(len(trace.layer)):
        yield lambda k=k: trace.equations(0, 0, k).text
        yield lambda k=k: trace.equations(0, 0, k).latex
        yield lambda k=k: trace.equations(0, 0, k).html
    yield trace._repr_html_
    if draw:
        yield lambda: trace.plot()
        yield lambda: figures.cell_traces(trace)
        yield lambda: figures.gradient_flow(trace)
        yield lambda: figures.heat_map(trace, "d_f")


def check_views(trace, *, draw):
    """Every view displays the trace, or raises an expected error."""
    sequences = [trace.sequence(b) for b in range(len(trace.x))] if trace.axes == "BT" else []
    for one in [trace, *sequences]:
        for view in show(one, draw=draw):
            try:
                view()
            except (ValueError, IndexError) as error:
                if not any(text in str(error) for text in (*MESSAGES, " must be from ")):
                    raise


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_loaded_trace_can_be_shown(saved, tmp_path, rng):
    header, arrays = saved
    file, loaded, refused = tmp_path / "mutant.safetensors", 0, 0
    check_views(Trace.load(written(file, header, arrays)), draw=True)
    for k in range(max(1, MUTANTS // len(TRACES))):
        changed, of_arrays = copy.deepcopy(header), dict(arrays)
        change = CHANGES[k % len(CHANGES)]
        change(changed, of_arrays, rng)
        if not of_arrays:
            continue
        written(file, changed, of_arrays)
        try:
            trace = Trace.load(file)
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017 - it need not be raised
            assert str(file) in str(error)  # noqa: PT017
            continue
        loaded += 1
        try:
            check_views(trace, draw=loaded % EVERY == 0)
            trace.save(tmp_path / "again.safetensors")
        except Exception as error:
            raise AssertionError(f"{change.__name__}: {json.dumps(changed)[:1500]}") from error
    assert refused > loaded
    assert loaded or MUTANTS < 1000


COPY = {"mode": "recall", "bits_per_step": 1, "bits": "10"}


def remove_layers(arrays):
    for name in [name for name in arrays if name.startswith(("layer.", "weights."))]:
        del arrays[name]


@loop_over(
    ("change", "message"),
    [
        (lambda h, a: a.update({"layer.0.f": a["layer.0.f"][:, :-1]}), "f must have the shape"),
        (
            lambda h, a: a.update({"layer.0.f": a["layer.0.f"].astype("f8")}),
            "float32 or float64, the dtype of the outputs",
        ),
        (lambda h, a: a.update({"layer.0.c": a["layer.0.c"] * np.nan}), "must be finite"),
        (lambda h, a: a.pop("layer.0.d_z"), "d_z must have the shape"),
        (lambda h, a: a.pop("outputs"), "'outputs'"),
        (lambda h, a: a.update({"layer.7.f": a["layer.0.f"]}), "arrays must belong to a layer, got layer.7"),
        (lambda h, a: h["layers"][0]["options"].update(hidden_size=H + 1), "must have the shape"),
        (lambda h, a: h["layers"][0]["options"].update(wings=2), "no option 'wings'"),
        (lambda h, a: h["layers"][0].update(reverse=True), "are not those of its LSTM"),
        (lambda h, a: h["layers"][0].update(more=1), "layer 0 must have valid entries"),
        (lambda h, a: h["about"].update(step_names=["a"]), "step_names must have 5 names, got 1"),
        (lambda h, a: h["about"].update(more=1), "about must have known entries, got more"),
        (lambda h, a: h["about"].update(loss="hinge"), "loss"),
        (lambda h, a: h["about"].update(copy={"mode": "recall"}), "copy must have a mode"),
        (
            lambda h, a: h["about"].update(copy=COPY | {"bits": "2"}),
            "bits of the copy task must be 0 and 1, 1 per step",
        ),
        (lambda h, a: h["about"].update(copy=COPY), "arrays must have the shapes of the copy task"),
        (lambda h, a: h["about"].update(timeless=True, chain=True), "outputs must have the shape"),
        (lambda h, a: a.update(x=a["x"][:-1]), "x must be numbers of shape"),
        (lambda h, a: h["layers"][0].update(axes="BTR"), "axes of layer 'l0' must be 'TR', got 'BTR'"),
        (lambda h, a: (h.update(layers=[]), remove_layers(a)), "layer must have at least one entry, got none"),
        (lambda h, a: h.update(axes="TB"), "axes must be"),
        (lambda h, a: h.update(loss="0"), "loss and d_outputs must exist"),
        (lambda h, a: h.update(more=1), "header with more"),
    ],
)
def test_an_inconsistency_is_named(change, message, tmp_path, rng):
    sequence(rng).save(tmp_path / "a.safetensors")
    found = read_tensors(str(tmp_path / "a.safetensors"))
    header, arrays = json.loads(found.metadata[HEADER_KEY]), found.tensors
    del header["checksum"]
    change(header, arrays)
    with pytest.raises(ValueError, match=message):
        Trace.load(written(tmp_path / "b.safetensors", header, arrays))


def marked_as_chain(layers, targets, tmp_path, rng):
    """Return the path of a trace whose description says that each layer has the outputs of the one before."""
    randomized(gc.Sequential(layers), rng).trace(rng.normal(size=(T, I)), targets).save(tmp_path / "a.safetensors")
    found = read_tensors(str(tmp_path / "a.safetensors"))
    header = json.loads(found.metadata[HEADER_KEY])
    del header["checksum"]
    header["about"]["chain"] = True
    return written(tmp_path / "b.safetensors", header, found.tensors)


def test_layers_that_are_no_chain_are_named(tmp_path, rng):
    layers = [gc.LSTM(I, H, engine="numpy"), gc.Linear(H, 2), gc.LSTM(2, H, engine="numpy")]
    path = marked_as_chain(layers, rng.normal(size=(T, H)), tmp_path, rng)
    with pytest.raises(ValueError, match=r"input_size of layer .* must be 4, got 2"):
        Trace.load(path)
    path = marked_as_chain([gc.LSTM(I, H, engine="numpy"), FinalState()], rng.normal(size=H), tmp_path, rng)
    with pytest.raises(ValueError, match="outputs must be those of the last layer"):
        Trace.load(path)


def test_an_inconsistent_trace_is_not_written(tmp_path, rng):
    trace = sequence(rng)
    trace.outputs[0, 0] = np.nan
    with pytest.raises(ValueError, match="outputs must be finite"):
        trace.save(tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


def test_nan_and_infinity_are_not_json(tmp_path, rng):
    """Python writes and reads them, but they are not JSON."""
    sequence(rng).save(tmp_path / "a.safetensors")
    found = read_tensors(str(tmp_path / "a.safetensors"))
    header = json.loads(found.metadata[HEADER_KEY]) | {"loss": float("nan")}
    del header["checksum"]
    (tmp_path / "b.safetensors").write_bytes(save(found.tensors, {HEADER_KEY: json.dumps(header)}))
    with pytest.raises(ValueError, match="header that cannot be read"):
        Trace.load(tmp_path / "b.safetensors")
    content = (tmp_path / "b.safetensors").read_bytes()
    assert struct.unpack("<Q", content[:8])[0] < len(content)
